"""Benches: `mlproxy bench gc` and `mlproxy bench core`."""
