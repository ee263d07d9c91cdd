"""Power cuts under load: what a gateway acknowledged with a 200 is never lost, and its journal opens every time.

Several clients submit without a pause, each command of a node of its own. At a change of the disk that a seed picks,
the power goes; the gateway is killed, the disk is back as the cut left it, and the next gateway starts on it.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import pytest

from pdbclient.errors import PdbError
from pdbclient.journal import Journal
from pdbclient.wire import Command

from ..soak import LONG, rounds
from .conftest import Site
from .fake import Answer, Request, healthy
from .gateway import GatewayProcess, client_context, eventually
from .journal import require_sound
from .journal_place import Place, as_sent, command
from .powercut import Power, mounted

CUTS = rounds(12, 1000)
TOLD_EVERY = 50
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(600 + 20 * CUTS),
    # Python's own: where a gateway is killed between the connection and its handshake, ssl leaves the socket open.
    pytest.mark.filterwarnings("ignore:.*unclosed <ssl.SSLSocket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*<ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]

CLIENTS = 4
NAMES = ("store report", "replace facts", "replace catalog")
EARLY = 0.15
"""How many of the cuts meet a gateway that is just starting, and undoing what the cut before left."""
FIRST, LAST = 20, 1000
"""Changes of the disk (writes, syncs, names) before a cut. To take a command and to note its delivery are some 40."""
FRESH = 10
"""Cuts that one journal sees."""
STARTING = 120.0
"""Seconds for a gateway to start."""
CONTROL = 20
"""Cuts among which one loses something when nothing is synced."""
DELIVERED = 300.0
"""Seconds until all is delivered: what a gateway was at work on that could not note it waits for its lease's end."""
LATEST = 10.0
"""Seconds after which the power is cut whatever was changed."""
CARELESS = """
import sqlite3

class Careless(sqlite3.Connection):
    def execute(self, sql, *values):
        return super().execute(sql.replace("synchronous = FULL", "synchronous = OFF"), *values)

def careless(*values, connect=sqlite3.connect, **options):
    return connect(*values, **options, factory=Careless)

sqlite3.connect = careless
"""
"""Nothing is synced by SQLite."""


@pytest.fixture
def power(tmp_path: Path) -> Iterator[Power]:
    with mounted(tmp_path / "disk") as made:
        yield made


@pytest.fixture
def place(site: Site, power: Power, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        made = Place(site, tmp_path, stack)
        made.journal = power.path / "journal"
        yield made


class Arrivals:
    """A PuppetDB that keeps account of what it is sent, by the number of each command."""

    def __init__(self) -> None:
        self.contents: dict[int, set[Command]] = {}
        self.deliveries = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        if request.is_command:
            sent = as_sent(request)
            with self._lock:
                self.contents.setdefault(number_of(sent), set()).add(sent)
                self.deliveries += 1
        return healthy(request)


def number_of(sent: Command) -> int:
    return int(json.loads(sent.body)["number"])


class PowercutLoad:
    """Clients of the gateway, until the block is left. `acknowledged` are the commands that a 200 was told of."""

    def __init__(self, place: Place, numbers: Iterator[int]) -> None:
        self.acknowledged: list[Command] = []
        self.answers: Counter[int] = Counter()
        self._port, self._tls = place.gateway.port, client_context(place.site.pki.client)
        self._numbers = numbers
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._submit_all) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def _submit_all(self) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPSConnection("localhost", self._port, context=self._tls, timeout=10)
            with closing(connection):
                try:
                    while not self._over.is_set():
                        self._submit(connection, next(self._numbers))
                except (OSError, http.client.HTTPException):
                    # Killed, or not there yet: nothing was acknowledged.
                    self._over.wait(0.05)

    def _submit(self, connection: http.client.HTTPSConnection, number: int) -> None:
        made = command(NAMES[number % len(NAMES)], number, f"node{number}.example")
        connection.request(
            "POST", f"/pdb/cmd/v1?{urlencode(made.params())}", made.body, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        answer.read()
        self.answers[answer.status] += 1
        if answer.status == 200:
            self.acknowledged.append(made)
        else:
            self._over.wait(0.02)


@dataclass
class Tally:
    """What came of it."""

    cuts: int = 0
    acknowledged: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    unopened: list[str] = field(default_factory=list)


class Cutter:
    """Cuts the power of a gateway again and again, and looks what is left."""

    def __init__(self, place: Place, power: Power) -> None:
        self.tally = Tally()
        self.arrivals = Arrivals()
        self._place, self._power = place, power
        self._numbers = itertools.count()
        self._owed: dict[int, Command] = {}
        self._process: GatewayProcess
        place.site.primary.reply = self.arrivals

    def cut_all(self, seeds: Iterable[int]) -> Tally:
        """One cut for each; after each one, all that was acknowledged is looked for."""
        for at, seed in enumerate(seeds):
            if at % FRESH == 0:
                self._anew()
            self._cut(seed)
            before = len(self.tally.lost)
            self._look(seed)
            if len(self.tally.lost) > before:
                # At once: the long form may be broken off.
                print(*self.tally.lost[before:], *self.tally.unopened, sep="\n", flush=True)
            if self.tally.cuts % TOLD_EVERY == 0:
                told, lost = self.tally.acknowledged, len(self.tally.lost)
                print(f"{self.tally.cuts} cuts: {told} acknowledged, {lost} lost", flush=True)
        kill(self._process)
        return self.tally

    def _anew(self) -> None:
        """A gateway without a past."""
        if self.tally.cuts:
            kill(self._process)
        self._power.wipe()
        self._start()

    def _start(self) -> None:
        self._process = self._place.start()
        self._process.said("listening at", seconds=STARTING)

    def _cut(self, seed: int) -> None:
        chance = random.Random(seed)
        self._place.away(chance.random() < 0.5)
        if chance.random() < EARLY:
            kill(self._process)
            self._power.cut(seed, chance.randint(1, FIRST))
            self._process = self._place.start()
        else:
            self._power.cut(seed, chance.randint(FIRST, LAST))
        with PowercutLoad(self._place, self._numbers) as load:
            if not self._power.is_off(LATEST):
                self._power.cut(seed)
            # Sometimes somebody is answered yet.
            time.sleep(chance.choice((0.0, 0.05)))
            kill(self._process)
        self._power.on()
        self._owed |= {number_of(each): each for each in load.acknowledged}
        self.tally.cuts += 1
        self.tally.acknowledged += len(load.acknowledged)
        self.tally.answers += load.answers

    def _look(self, seed: int) -> None:
        """Start a gateway on what is left: in the end, it has delivered what was acknowledged."""
        self._place.away(False)
        try:
            self._start()
            with Journal.open(str(self._place.journal), beside=True, patience=None) as journal:
                require_sound(journal, {})
            delivered = eventually(
                lambda: self._owed.keys() <= self.arrivals.contents.keys() or self._place.nothing_pending(), DELIVERED
            )
            assert delivered, f"{self._place.states()} after {DELIVERED:.0f} s"
            opened = True
        except (AssertionError, PdbError):
            self.tally.unopened.append(f"seed {seed}: {traceback.format_exc()}")
            opened = False
        for number, sent in self._owed.items():
            if sent not in self.arrivals.contents.get(number, ()):
                self.tally.lost.append(f"seed {seed}: {sent.name} {number}")
        self._owed.clear()
        if not opened:
            self._anew()


def kill(process: GatewayProcess) -> None:
    process.signal(signal.SIGKILL)
    process.ended()


def test_nothing_acknowledged_is_lost_by_a_power_cut_and_the_journal_opens_every_time(
    place: Place, power: Power
) -> None:
    first = random.randrange(1 << 32) if LONG else 0
    cutter = Cutter(place, power)
    tally = cutter.cut_all(range(first, first + CUTS))
    contents = cutter.arrivals.contents
    duplicated = [number for number, found in contents.items() if len(found) > 1]
    print(
        f"\n{tally.cuts} power cuts (seeds from {first}): {tally.acknowledged} acknowledged, {len(tally.lost)} lost, "
        f"{len(duplicated)} duplicated, {cutter.arrivals.deliveries - len(contents)} delivered again, "
        f"{len(tally.unopened)} journals not opened; answers: {dict(tally.answers)}",
        flush=True,
    )
    assert (tally.lost, duplicated, tally.unopened) == ([], [], [])
    assert tally.cuts == CUTS
    assert tally.acknowledged > 3 * CUTS


def test_a_journal_that_is_not_synced_loses_what_was_acknowledged_or_does_not_open(
    place: Place, power: Power
) -> None:
    """The control: these tests would tell."""
    place.first = CARELESS
    cutter = Cutter(place, power)
    for seed in range(CONTROL):
        tally = cutter.cut_all([seed])
        if tally.lost:
            break
    print(
        f"\n{tally.cuts} power cuts without syncs: {tally.acknowledged} acknowledged, {len(tally.lost)} lost, "
        f"{len(tally.unopened)} journals not opened",
        *tally.unopened,
        sep="\n",
    )
    assert tally.lost
