"""The store's tests as they run on SQLite; `tests/integration/journal` has the same on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .store import Store


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Where a new journal is to be made."""
    return str(tmp_path / "journal.db")


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    made = Store(place)
    try:
        yield made
    finally:
        made.journal.close()
