"""Log-structured stores: placement by predicted lifetime, and victim policy."""
