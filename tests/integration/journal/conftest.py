"""PostgreSQL for the store's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.journal.store import Store

from .server import DatabaseServer, running


@pytest.fixture(scope="session")
def server() -> Iterator[DatabaseServer]:
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running(directory) as started:
            yield started


@pytest.fixture
def place(server: DatabaseServer) -> Iterator[str]:
    """Where a new journal is to be made."""
    url = server.database()
    yield url
    server.drop(url)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    made = Store(place)
    try:
        yield made
    finally:
        made.journal.close()
