"""Passes for ever, and what tells how they go."""
