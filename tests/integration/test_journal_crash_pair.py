"""Killed at any moment, the gateway and the PuppetDBs behind it: what was acknowledged with a 200 is never lost."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import upkeep
from pdbclient.lab import Lab

from ..soak import rounds
from .journal_gateway import JournalGateway
from .journal_load import Ledger, Load, Traffic
from .journal_truth import Verdict, held, judge, process_all

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(rounds(600, 7200))]

ROUNDS = rounds(2, 300)
NODES = 50
LONGEST_LIFE = 5.0
EARLY = 0.15
"""How many of the kills meet a gateway that is just starting."""
FAST = 100
"""Commands a second that it may deliver: enough to be done with a backlog before the next kill, often."""


class Killer:
    """Kills by chance, and starts again: the gateway at once, a PuppetDB in the background."""

    def __init__(self, lab: Lab, gateway: JournalGateway, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self._lab, self._gateway = lab, gateway
        self._random = random.Random(seed)
        self._pool = ThreadPoolExecutor(len(lab.nodes))
        self._starting: dict[str, Future[str]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the servers that were killed are back."""
        try:
            yield
            for starting in self._starting.values():
                starting.result()
        finally:
            self._pool.shutdown()

    def round(self, number: int) -> None:
        """One kill; every third time a PuppetDB dies too, one after the other, a moment before or after."""
        name = self._lab.nodes[number // 3 % 2].name if number % 3 == 2 else None
        if name is not None:
            # Every other time the other one may still be starting: then there is none.
            both = self._random.random() < 0.5
            for server, starting in self._starting.items():
                if both or server == name:
                    starting.result()
        if self._random.random() < EARLY:
            time.sleep(self._random.uniform(0, 1))
        else:
            self._gateway.wait_until_up()
            time.sleep(self._random.uniform(0, LONGEST_LIFE))
        before = self._random.random() < 0.5
        if name is not None and before:
            self._kill(name)
        self._gateway.kill()
        self.kills["gateway"] += 1
        if name is not None and not before:
            self._kill(name)
        self._gateway.launch()

    def _kill(self, name: str) -> None:
        self._lab.fault(name, "kill")
        self.kills[name] += 1
        self._starting[name] = self._pool.submit(self._lab.fault, name, "start")


def test_every_acknowledged_command_survives_kills_at_any_moment(pair: Lab, tmp_path: Path) -> None:
    """Of the gateway, a third of the time of a PuppetDB too. PDBCLIENT_SEED repeats the choices, not the timing.

    Without it, the short form makes the same choices each time.
    """
    seed = int(os.environ.get("PDBCLIENT_SEED") or rounds(1, random.randrange(10**6)))
    print(f"\nseed {seed}, {ROUNDS} rounds")
    ledger = Ledger()
    traffic = Traffic(pair.puppetdb_jar, NODES, seed)
    with JournalGateway(pair, tmp_path, {"journal_rate": FAST}) as gateway:
        killer = Killer(pair, gateway, seed)
        load = Load(gateway.port, pair.client_tls, traffic, ledger, threads=6, rate=10.0, seed=seed)
        began = time.monotonic()
        with killer.running(), load:
            for number in range(ROUNDS):
                killer.round(number)
                if number % 10 == 9:
                    told = sum(ledger.by_name().values())
                    print(f"{time.monotonic() - began:6.0f} s  {dict(killer.kills)}, {told} acknowledged", flush=True)
            gateway.wait_until_up()
        waited = gateway.wait_until_nothing_is_pending(600)
        gateway.stop()
    verdict = asked(pair, gateway, ledger)
    print(
        f"{time.monotonic() - began:.0f} s, of which {waited:.0f} s until nothing was pending\n"
        f"kills: {dict(killer.kills)}\n"
        f"acknowledged: {ledger.by_name()}, of which {ledger.journal_only} by the journal only\n"
        f"answers: {dict(ledger.answers)}\n"
        f"errors in the gateway's log: {dict(gateway.complaints)}\n"
        f"lost: {len(verdict.lost)}, duplicated: {len(verdict.duplicated)}, never sent: {len(verdict.phantoms)}",
        flush=True,
    )
    assert killer.kills["gateway"] == ROUNDS
    assert killer.kills.total() == ROUNDS + ROUNDS // 3
    assert len(ledger.acknowledged) > 10 * ROUNDS
    assert verdict == Verdict((), (), ())
    require_sound(gateway)


def asked(lab: Lab, gateway: JournalGateway, ledger: Ledger) -> Verdict:
    """What both servers show, once they have processed all that they accepted."""
    for node in lab.nodes:
        left = process_all(lab, node.name)
        print(f"{node.name} is left with {len(left)} superseded commands in its queue")
        assert lab.discarded(node.name) == ()
    servers = [held(gateway.config, server) for server in gateway.config.server_urls]
    return judge(ledger.sent, ledger.acknowledged, servers)


def require_sound(gateway: JournalGateway) -> None:
    """The journal's own account of it: whole, and nothing left, nothing parked."""
    with Journal.open(str(gateway.journal)) as journal:
        assert journal.run(upkeep.structure) == []
        assert journal.run(upkeep.verify, 0, 10**9).damaged == {}
    states = gateway.counts().entries
    assert set(states) == {EntryState.DELIVERED}, states
