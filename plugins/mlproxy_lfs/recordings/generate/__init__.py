"""The load drivers, and the command that records them all."""
