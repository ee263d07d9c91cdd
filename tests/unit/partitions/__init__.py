"""The record of tests/partitions: that its checkers find what they look for, and nothing else."""
