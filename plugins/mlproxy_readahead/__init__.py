"""The plugin `readahead`: learns how far the kernel reads ahead of a block device's readers."""
