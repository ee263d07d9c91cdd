from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint, Remote, SyncConfig, TlsFiles
from pdbclient.sync import Mode, PassResult, reconcile
from pdbclient.sync.inventory.interfaces import Clock, Server

from ...versions import OPENVOXDB_8_15, PUPPETDB_7_12, PUPPETDB_8_4, PUPPETDB_8_8, Release
from .fake import FakePuppetDB

PAIRS = (
    (PUPPETDB_7_12, PUPPETDB_7_12),
    (PUPPETDB_7_12, PUPPETDB_8_8),
    (PUPPETDB_8_8, PUPPETDB_8_4),
    (PUPPETDB_8_4, OPENVOXDB_8_15),
    (OPENVOXDB_8_15, PUPPETDB_7_12),
    (OPENVOXDB_8_15, PUPPETDB_8_8),
)
"""Each release as each side, and the newest beside the oldest. Tests that are marked `releases` meet all."""

MEMORY = Path("/dev/shm")
NOW = 1_790_000_000.0
"""The fake wall clock's beginning, in seconds: far from any real time, and not on the hour."""


class FakeTime(threading.Event):
    """Time that passes only by waiting; `clock` reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self.clock = Clock(wall=lambda: NOW + self.elapsed, monotonic=lambda: self.elapsed, stop=self)

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "a wait without a limit"
        if not self.is_set():
            self.elapsed += timeout
        return self.is_set()


class SyncPair:
    """Two fake PuppetDBs, each with a reconciler that pulls from the other."""

    def __init__(self, directory: Path, a: Release = PUPPETDB_7_12, b: Release = PUPPETDB_7_12) -> None:
        self.time = FakeTime()
        self.clock = self.time.clock
        self.a = FakePuppetDB("a", self.clock.wall, a)
        self.b = FakePuppetDB("b", self.clock.wall, b)
        self.directory = directory
        self.options: dict[str, float] = {}

    def connect(self, endpoint: Endpoint) -> Server:
        return self.a if endpoint == self.a.endpoint else self.b

    def config(self, local: FakePuppetDB) -> SyncConfig:
        remote = self.b if local is self.a else self.a
        nowhere = self.directory / "nowhere"
        return SyncConfig(
            local=local.endpoint,
            remotes=(Remote(remote.endpoint, 60.0),),
            tls=TlsFiles(nowhere, nowhere, nowhere),
            state_dir=self.directory / "state",
            **self.options,  # type: ignore[arg-type]
        )

    def pull(self, local: FakePuppetDB, mode: Mode | None = None) -> PassResult:
        """One pass that brings the other side's records to `local`."""
        return reconcile(self.config(local), mode=mode, connect=self.connect, clock=self.clock)[0]

    def ago(self, seconds: float) -> int:
        """A producer timestamp (ms) of so long ago."""
        return int((self.clock.wall() - seconds) * 1000)


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is such a file system: each pass writes its state durably."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def site(quick_path: Path, request: pytest.FixtureRequest) -> SyncPair:
    return SyncPair(quick_path, *getattr(request, "param", ()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames and metafunc.definition.get_closest_marker("releases"):
        names = [f"{a}--{b}" for a, b in PAIRS]
        metafunc.parametrize("site", PAIRS, indirect=True, ids=names)
