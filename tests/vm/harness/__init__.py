"""Boots real kernels under QEMU and runs the cases in `tests/vm/cases` on them."""
