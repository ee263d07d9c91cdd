"""Tests that `make matrix` runs on more versions of Puppet and PuppetDB than every run does."""

from __future__ import annotations

import os

__all__ = ["MATRIX"]

MATRIX = bool(os.environ.get("PDBCLIENT_MATRIX"))
"""Whether this is the matrix: the environment variable PDBCLIENT_MATRIX is set."""
