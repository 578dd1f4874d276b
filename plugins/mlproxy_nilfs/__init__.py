"""Which segments of a NILFS2 file system are cleaned: a cleaner that learns."""
