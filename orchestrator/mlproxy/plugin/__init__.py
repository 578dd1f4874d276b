"""Plugins: guarded discovery through entry points, and quarantine."""
