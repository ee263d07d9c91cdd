"""The real PuppetDB pair for the integration tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.session import Session
from pdbclient.http.shown import queue_depth
from pdbclient.lab import Lab, LabOptions


@pytest.fixture(scope="session")
def lab_directory() -> Iterator[Path]:
    """A directory that the servers' account can reach: pytest's own temporary directories are closed to it."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture(scope="session")
def lab(lab_directory: Path) -> Iterator[Lab]:
    """A pair that runs for the whole session."""
    with running_lab(lab_directory, "pair") as pair:
        yield pair


@contextmanager
def running_lab(
    directory: Path, name: str, nodes: int | None = None, options: LabOptions | None = None
) -> Iterator[Lab]:
    """A lab below `directory` that is removed at the end, however that comes.

    With PDBCLIENT_LAB_DIR naming a lab (`pdbclient lab up --dir DIR`), that one is used as the pair (and DIR-NAME as
    others), started where parts of it are down, emptied by the tests, and left running: half a minute saved at every
    run while developing.
    """
    reused = os.environ.get("PDBCLIENT_LAB_DIR")
    if reused:
        yield Lab.up(Path(reused if name == "pair" else f"{reused}-{name}"), nodes, options=options)
        return
    # A failed `up` stops what it had started, and the directory goes with its own fixture.
    lab = Lab.up(directory / name, nodes, options=options)
    try:
        yield lab
    finally:
        lab.down(purge=True)


@pytest.fixture
def pair(lab: Lab) -> Lab:
    """The pair as every test may expect it."""
    return ready(lab)


def ready(lab: Lab) -> Lab:
    """All nodes running, thawed and empty."""
    for node in lab.nodes:
        lab.fault(node.name, "start-postgres")
        lab.fault(node.name, "start")
    for node in lab.nodes:
        lab.empty(node.name)
    return lab


@pytest.fixture
def idle(pair: Lab) -> Lab:
    """`pair`, whose servers also say that their queues are empty: one that got stuck is counted until a restart."""
    for node in pair.nodes:
        with closing(Session(Endpoint("localhost", node.https_port), pair.client_tls, Timeouts())) as session:
            if queue_depth(session) == 0:
                continue
        pair.fault(node.name, "kill")
        pair.fault(node.name, "start")
    return pair
