"""What is remembered between passes, and what it says."""
