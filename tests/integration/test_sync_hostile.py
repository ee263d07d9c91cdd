"""A hostile history on a real pair: random commands split over both servers, one of which is killed, frozen, or put
back to what it was some time ago; in the end both hold the same, by SQL on their databases.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdbclient.sync import Entity, Mode, PassResult, Skip, plan, reconcile
from pdbclient.wire.command import Command
from tests.soak import rounds

from .sync.history import History
from .sync.truth import Difference, differences, held
from .test_sync import PRIMARY, REPLICA, Site, site

__all__ = ["site"]

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(rounds(420, 7200))]

BATCHES = rounds(8, 90)
BATCH = 30
NODES = 60
QUIET = 8
"""Rounds of passes after which nothing may move any more."""
OTHER = {PRIMARY: REPLICA, REPLICA: PRIMARY}
SEED = 20261126


class Hostile:
    """The pair under this history. `counts` says what happened."""

    def __init__(self, site: Site, directory: Path, seed: int) -> None:
        self.site, self.lab = site, site.lab
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._history = History(seed, NODES)
        self._directory = directory

    def run(self, batches: int) -> None:
        """One batch after the other; in every nine a server is saved, killed, frozen and put back: each in turn."""
        events: dict[int, Callable[[str], object]] = {
            1: self._save,
            2: self._killed,
            5: self._frozen,
            7: self._restored,
        }
        for number in range(batches):
            if (event := events.get(number % 9)) is not None:
                event((PRIMARY, REPLICA)[number // 9 % 2])
            else:
                self._submit((PRIMARY, REPLICA))
            for name in (PRIMARY, REPLICA):
                self._pull(name)

    def quiet(self) -> list[int]:
        """Passes that trust nothing, until none moves anything; how much each round moved."""
        moved = []
        for _ in range(QUIET):
            results = [self._pull(name, Mode(audit=True)) for name in (PRIMARY, REPLICA)]
            assert all(result.ok for result in results), results
            moved.append(sum(each.transferred for result in results for each in result.entities.values()))
            if not moved[-1]:
                break
        return moved

    def _submit(self, names: tuple[str, ...]) -> None:
        """A batch: most commands to one of these servers, some to all of them."""
        for command in self._history.batch(BATCH):
            chosen = names if self._random.random() < 0.2 else (self._random.choice(names),)
            for name in chosen:
                self._send(name, command)
        for name in names:
            self.lab.settle(name)

    def _send(self, name: str, command: Command) -> None:
        self.site.session[name].submit(command)
        self.counts[command.name] += 1

    def _pull(self, name: str, mode: Mode | None = None) -> PassResult:
        (result,) = reconcile(self.site.config(name), mode=mode)
        self.counts[f"pass {result.outcome}"] += 1
        self.counts["transferred"] += sum(each.transferred for each in result.entities.values())
        return result

    def _killed(self, name: str) -> None:
        self.counts["kill"] += 1
        with self._away(name, "kill", "start"):
            pass

    def _frozen(self, name: str) -> None:
        self.counts["freeze"] += 1
        with self._away(name, "freeze", "thaw"):
            pass

    @contextmanager
    def _away(self, name: str, leave: str, back: str) -> Iterator[None]:
        """Meanwhile the other server gets a batch, and each makes a pass that cannot succeed."""
        self.lab.fault(name, leave)
        try:
            self._submit((OTHER[name],))
            result = self._pull(OTHER[name])
            assert not result.ok, result
            yield
        finally:
            self.lab.fault(name, back)

    def _save(self, name: str) -> None:
        with self._offline(name) as data:
            if self._copy(name).exists():
                shutil.rmtree(self._copy(name))
            subprocess.run(["cp", "-a", data, self._copy(name)], check=True)

    def _restored(self, name: str) -> None:
        self.counts["restore"] += 1
        self._submit((PRIMARY, REPLICA))
        with self._offline(name) as data:
            shutil.rmtree(data)
            subprocess.run(["cp", "-a", self._copy(name), data], check=True)

    def _copy(self, name: str) -> Path:
        return self._directory / f"{name}.postgres"

    @contextmanager
    def _offline(self, name: str) -> Iterator[Path]:
        """The data directory of a server's database, while nobody is at it."""
        self.lab.settle(name)
        self.lab.fault(name, "kill")
        self.lab.fault(name, "stop-postgres")
        try:
            yield self.lab.node(name).postgres_data
        finally:
            self.lab.fault(name, "start-postgres")
            self.lab.fault(name, "start")


@pytest.fixture
def hostile(site: Site, lab_directory: Path) -> Hostile:
    directory = lab_directory / "hostile"
    directory.mkdir()
    return Hostile(site, directory, SEED)


def skipped(site: Site) -> Mapping[tuple[Entity, str], set[Skip]]:
    """What passes leave alone, either way, with the reasons; nothing is left that they would do."""
    reasons: dict[tuple[Entity, str], set[Skip]] = {}
    for name in (PRIMARY, REPLICA):
        config = site.config(name)
        for part in plan(config, config.remotes[0].endpoint, mode=Mode(audit=True)):
            assert not part.pull, (name, part)
            for key, why in part.skipped:
                reasons.setdefault((part.entity, key), set()).add(why)
    return reasons


def excuse(difference: Difference, dead: Mapping[str, frozenset[str]]) -> Skip | None:
    """The reason that the databases themselves give for a difference; None: there is none.

    `dead` are the nodes that are deactivated on either side (`here`, `there`).
    """
    here, there = difference.here, difference.there
    if difference.entity is Entity.NODES:
        # Known on one side only, and deactivated there: nobody creates a node to deactivate it.
        return Skip.UNKNOWN_HERE if here is None or there is None else None
    if difference.tied and difference.entity in (Entity.EXPIRATION, Entity.INPUTS):
        return Skip.TIE
    from_here = there is None or (here is not None and (here.millis, here.content) > (there.millis, there.content))
    return Skip.SOURCE_INACTIVE if difference.certname in dead["here" if from_here else "there"] else None


def test_after_a_hostile_history_both_databases_hold_the_same(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    hostile.run(BATCHES)
    moved = hostile.quiet()
    assert moved[-1] == 0, moved
    site = hostile.site
    reasons = skipped(site)
    sides = {"here": held(site.lab, PRIMARY), "there": held(site.lab, REPLICA)}
    dead = {side: frozenset(records[Entity.NODES]) for side, records in sides.items()}
    listed: Counter[str] = Counter()
    for difference in differences(site.lab, PRIMARY, REPLICA):
        why = excuse(difference, dead)
        assert why is not None, difference
        assert why in reasons.get((difference.entity, difference.key), set()), (difference, why)
        listed[f"{difference.entity}: {why}"] += 1
    with capsys.disabled():
        counted = {str(entity): len(records) for entity, records in sides["here"].items()}
        print(f"\n{time.monotonic() - began:.0f} s: {dict(hostile.counts)}; quiet after {moved}")
        print(f"on the primary {counted}; differences that are listed: {dict(listed)}")
    for entity in (Entity.FACTS, Entity.CATALOGS, Entity.REPORTS, Entity.INPUTS, Entity.EXPIRATION, Entity.NODES):
        assert sides["here"][entity], f"no {entity}: the history is too tame to show anything"
    for name in (PRIMARY, REPLICA):
        assert site.lab.discarded(name) == ()
