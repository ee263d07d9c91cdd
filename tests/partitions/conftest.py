"""Worlds for the tests, each in a directory that the servers' account can enter and that is gone with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .probes import left_of
from .world import Arrangement, World


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """For worlds."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture(scope="module")
def only_world(place: Path) -> Iterator[World]:
    """One with a journal in a file of each gateway."""
    with World.up(place / "files", Arrangement.FILES) as world:
        yield world
    assert left_of(world) == []


@pytest.fixture
def world(only_world: World) -> Iterator[World]:
    """The same, healed before and after."""
    only_world.heal(90)
    yield only_world
    only_world.heal(90)
