"""What holds for every unit test."""

from __future__ import annotations

import itertools
import os

import pytest

from pdbclient.sync.run import server_lock

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _locks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests beside this one have servers of the same names, which nobody has to look up."""
    monkeypatch.setattr(server_lock, "SPACE", f"test {os.getpid()} {next(_numbers)}")
    monkeypatch.setattr(server_lock, "_addresses", lambda server: [])
