"""What each server has, asked for."""
