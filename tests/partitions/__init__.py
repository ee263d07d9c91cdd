"""Partitions: real servers on hosts of their own, on a network that breaks, under work whose history is checked."""
