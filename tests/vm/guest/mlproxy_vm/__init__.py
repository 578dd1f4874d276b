"""What runs in the guest: pytest, with results that survive a crash, and help for cases."""
