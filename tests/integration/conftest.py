"""The real PuppetDB pair for the integration tests, and which releases of PuppetDB it is made of."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.presence import queue_depth
from pdbclient.http.session import Session
from pdbclient.lab import Lab, LabOptions
from tests import matrix, puppetdbs
from tests.matrix import MATRIX, Pair


@pytest.fixture(scope="session")
def lab_directory() -> Iterator[Path]:
    """A directory that the servers' account can reach: pytest's own temporary directories are closed to it."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests that use a `lab` the pairs that they are to meet, where these are not only the own one."""
    if "lab" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("every_server")
    if mark is not None:
        pairs = matrix.share(*mark.args, **mark.kwargs)
    elif MATRIX:
        pairs = matrix.alike()
    else:
        return
    # The own pair is the one without a parameter, so that all tests, marked or not, share one.
    labs = [None if pair == matrix.OWN_PAIR else pair for pair in pairs]
    metafunc.parametrize("lab", labs, ids=map(str, pairs), indirect=True)


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, lab_directory: Path) -> Iterator[Lab]:
    """A pair that runs until a test needs another one; `matrix.Pair` as the parameter, else this machine's own."""
    pair: Pair | None = getattr(request, "param", None)
    name, options = ("pair", None) if pair is None else (f"pair-{pair.primary}-{pair.replica}", pair.options())
    with running_lab(lab_directory, name, options=options) as running:
        assert [node.version for node in running.status()] == list((pair or matrix.OWN_PAIR).held)
        yield running


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
    own = puppetdbs.jar(puppetdbs.OWN)
    if own != puppetdbs.INSTALLED and (options is None or options.puppetdb_jar in (None, puppetdbs.INSTALLED)):
        options = replace(options or LabOptions(), puppetdb_jar=own)
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
