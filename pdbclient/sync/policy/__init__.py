"""What is right: pure, over what was found and what is remembered."""
