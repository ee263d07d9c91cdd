"""Three real PuppetDBs that pull from each other in a mesh, a ring and a star: each record comes to each server once.

The long form has four servers and more records.
"""

from __future__ import annotations

import random
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from pdbclient.lab import Lab, LabOptions
from pdbclient.lab.layout import node_names
from pdbclient.sync import Entity, Outcome, reconcile
from tests.soak import LONG, rounds

from .conftest import ready, running_lab
from .sync.history import ALIVE, History
from .sync.log import Log
from .sync.truth import held
from .test_sync import ReconciledPair, sync_running
from .test_sync_operators import until

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(rounds(300, 3600))]

NAMES = node_names(rounds(3, 4))
LAST = NAMES[-1]
BATCHES = rounds(2, 20)
BATCH = 30
NODES = 60
DEAD = rounds(2, 6)
SEED = 20261126
BROADCAST = 0.3
"""How many commands go to all servers."""

Sources = Mapping[str, Sequence[str]]
"""Which servers each one pulls from."""

MESH: Sources = {name: [other for other in NAMES if other != name] for name in NAMES}
# Each pulls from the one whose turn comes after its own: so news need the most rounds.
RING: Sources = {name: [NAMES[(number + 1) % len(NAMES)]] for number, name in enumerate(NAMES)}
# The leaves' turns are before the centre's.
STAR: Sources = {**{leaf: [LAST] for leaf in NAMES[:-1]}, LAST: NAMES[:-1]}
SHAPES = {"ring": (RING, len(NAMES) - 1)} | ({"star": (STAR, 2)} if LONG else {})
"""With how many rounds each server has everything."""


class TopologySite(ReconciledPair):
    """All servers of the lab, holding different things."""

    def scatter(self, number: int, names: Sequence[str] = NAMES) -> None:
        """Random commands, those for one node to the server that is its home, some of them to all of `names`.

        So there are at most two versions of a record at a time, that of the home and that of all the others, and each
        server lacks each record once or not at all. One node is deactivated at one server; before the first commands,
        number 0, all get to know it and those whose turn comes later.
        """
        if number == 0:
            for dead in range(DEAD):
                for name in NAMES:
                    self.simple_facts(name, f"dead{dead}.example.com", self.ago(hours=3), number=dead)
        history, dice = History(SEED + number, NODES, ALIVE), random.Random(number)
        for _ in range(BATCHES):
            for command in history.batch(BATCH):
                home = names[zlib.crc32(command.certname.encode()) % len(names)]
                for name in names if dice.random() < BROADCAST else [home]:
                    self.session[name].submit(command)
            self.settle_all(names)
        self.deactivate(names[0], f"dead{number}.example.com", self.ago(hours=1))
        self.settle_all(names)

    def settle_all(self, names: Sequence[str]) -> None:
        for name in names:
            self.lab.settle(name)

    def round(self, sources: Sources) -> Counter[str]:
        """One pass of each server against each of its sources, in turn; how much each got."""
        got = Counter(dict.fromkeys(sources, 0))
        for name, remotes in sources.items():
            config = self.config(name)
            urls = [self.lab.node(remote).url for remote in remotes]
            chosen = [remote for remote in config.remotes if remote.endpoint.url in urls]
            for result in reconcile(config, chosen):
                away = result.outcome is Outcome.UNREACHABLE and result.remote == self.lab.node(LAST).url
                assert result.ok or (away and self.lab.pid(LAST) is None), result
                got[name] += sum(part.transferred for part in result.entities.values())
        return got

    def lacking(self, names: Sequence[str] = NAMES) -> Counter[str]:
        """How many records each of these servers does not have, or not the newest that one of them has, by SQL."""
        sides = {name: held(self.lab, name) for name in names}
        counts = Counter(dict.fromkeys(names, 0))
        for entity in Entity:
            for key in set().union(*(side[entity] for side in sides.values())):
                found = {name: side[entity].get(key) for name, side in sides.items()}
                newest = max((each for each in found.values() if each), key=lambda each: (each.millis, each.content))
                for name, record in found.items():
                    # Of these a server keeps what came first at a time: nothing can be done about a tie.
                    first = entity in (Entity.EXPIRATION, Entity.INPUTS)
                    tied = first and record is not None and record.millis == newest.millis
                    counts[name] += record != newest and not tied
        return counts


@pytest.fixture(scope="module")
def net(lab_directory: Path) -> Iterator[Lab]:
    with running_lab(lab_directory, "net", len(NAMES), LabOptions(heap="512m")) as lab:
        yield lab


@pytest.fixture
def servers(net: Lab, tmp_path: Path) -> Iterator[TopologySite]:
    made = TopologySite(ready(net), tmp_path)
    yield made
    for session in made.session.values():
        session.close()
    assert [made.lab.discarded(name) for name in NAMES] == [()] * len(NAMES)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_record_comes_once_to_each_server_that_lacks_it(
    servers: TopologySite, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, turns = SHAPES[shape]
    servers.scatter(0)
    lacked = servers.lacking()
    assert all(lacked.values()), lacked
    got: Counter[str] = Counter()
    began = time.monotonic()
    for _ in range(turns):
        assert +servers.lacking(), "it needed fewer rounds than it is said to"
        got += servers.round(sources)
    with capsys.disabled():
        print(f"\n{turns} rounds, {time.monotonic() - began:.1f} s, lacked {dict(lacked)}, got {dict(got)}", end=" ")
    assert not +servers.lacking()
    assert got == lacked
    assert not +servers.round(sources)


def test_in_a_mesh_one_round_is_enough_and_with_one_server_down_the_others_go_on_and_it_catches_up(
    servers: TopologySite,
) -> None:
    up = NAMES[:-1]
    servers.scatter(0)
    lacked = servers.lacking()
    assert all(lacked.values()), lacked
    assert servers.round(MESH) == lacked
    assert not +servers.lacking()
    assert not +servers.round(MESH)
    servers.lab.fault(LAST, "kill")
    for number in range(1, DEAD):
        servers.scatter(number, up)
        lacked = servers.lacking(up)
        assert all(lacked.values()), lacked
        assert servers.round({name: MESH[name] for name in up}) == lacked
        assert not +servers.lacking(up)
        assert not +servers.round({name: MESH[name] for name in up})
    servers.lab.fault(LAST, "start")
    lacked = servers.lacking()
    assert list(+lacked) == [LAST]
    assert servers.round(MESH) == lacked
    assert not +servers.lacking()
    assert not +servers.round(MESH)


def test_daemons_beside_all_servers_at_the_same_time_bring_each_record_once_too(
    servers: TopologySite, tmp_path: Path
) -> None:
    servers.scatter(0)
    lacked = servers.lacking()
    logs = {name: Log(tmp_path, name) for name in NAMES}

    def passes() -> dict[str, int]:
        return {name: len(log.finished("sync")) for name, log in logs.items()}

    with ExitStack() as running:
        daemons = []
        for name, log in logs.items():
            conf = servers.conf[name]
            conf.write_text(conf.read_text().replace("5m", "1s"))
            daemons.append(running.enter_context(sync_running(servers, name, "--log-config", str(log.config))))

        def equal() -> bool:
            for daemon in daemons:
                assert daemon.poll() is None, (daemon.returncode, daemon.stderr and daemon.stderr.read())
            return not +servers.lacking()

        until(equal, within=rounds(60, 600))
        before = passes()
        until(lambda: all(number >= before[name] + 2 * len(MESH[name]) for name, number in passes().items()))
    got = {name: sum(event["transferred"] for event in log.finished("entity")) for name, log in logs.items()}
    assert got == lacked
    assert not +servers.lacking()
