"""What `make dist` needs of this checkout; nothing of it is installed."""
