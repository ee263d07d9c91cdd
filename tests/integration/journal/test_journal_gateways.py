"""Several gateways on one journal in PostgreSQL: killed, frozen, and cut off from it, while nodes go on running.

`make soak` runs the long form: half an hour, and 5,000 reads.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.model import DECIDING
from pdbclient.lab.ports import free_port
from pdbclient.wire import Command, timestamp
from tests.faults.conftest import Site, pki, site  # noqa: F401
from tests.faults.gateway import GatewayProcess, Told, ask, eventually, gateway_config, write_config
from tests.faults.journal_place import QUICK, windows
from tests.faults.puppetdb import PuppetDb
from tests.soak import rounds

from .server import DatabaseServer

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(rounds(300, 5400))]

GATEWAYS = 3
WRITERS = 6
RATE = 20
SECONDS = rounds(30, 1800)
READS = rounds(10, 5000)
LIMITS = Timeouts(attempt=10.0, connect=2.0, read=3.0, operation=8.0)
EXPORTED = quote(json.dumps(["and", ["=", "type", "File"], ["=", "exported", True]]))
PATCHES = QUICK | {"pdbclient.journal.work.audit.LOSS_EVERY": 5.0}
KINDS = ("replace facts", "replace catalog", "store report")


class SharedPlace:
    """Gateways, and the two PuppetDBs behind them, which proxies can take away."""

    def __init__(self, behind: Site, url: str, directory: Path, stack: ExitStack) -> None:
        self.site, self.url, self._directory, self._stack = behind, url, directory, stack
        self.puppetdbs = [PuppetDb(), PuppetDb()]
        for fake, puppetdb in zip((behind.primary, behind.replica), self.puppetdbs, strict=True):
            fake.reply = fake.otherwise = puppetdb
        self.proxies = [behind.proxy, behind.proxy_to(behind.replica)]
        self.gateways: list[GatewayProcess] = []
        self.rate = RATE
        self._started = 0

    def start(self, number: int) -> None:
        """Start a gateway, or one in the place of one that was killed."""
        config = gateway_config(
            self.site.config(*(proxy.port for proxy in self.proxies), timeouts=LIMITS), self.site.pki.server
        )
        port = self.gateways[number].port if number < len(self.gateways) else free_port()
        config = replace(config, gateway_url=Endpoint("localhost", port), gateway_health_interval=1.0)
        path = write_config(self._directory / f"puppetdb{number}.conf", config)
        with path.open("a") as file:
            file.write(f"journal = {self.url}\njournal_rate = {self.rate}\njournal_heal = heal\n")
        self._started += 1
        process = GatewayProcess(path, port, self._directory / f"log{self._started}", patches=PATCHES)
        self._stack.enter_context(process)
        self.gateways[number : number + 1] = [process]

    def up(self, number: int = GATEWAYS) -> None:
        for each in range(number):
            self.start(each)
        for gateway in self.gateways:
            gateway.up()

    def submit(self, gateway: GatewayProcess, command: Command, patience: float = 10.0) -> Told:
        target = f"/pdb/cmd/v1?{urlencode(command.params())}"
        lines = {"Content-Type": "application/json"}
        return ask(gateway.port, self.site.pki.client, target, "POST", command.body, lines, patience)

    def exported(self, gateway: GatewayProcess) -> Told:
        return ask(gateway.port, self.site.pki.client, f"/pdb/query/v4/resources?query={EXPORTED}", timeout=10.0)

    def puppetdb_at(self, port: int) -> PuppetDb:
        ports = [proxy.port for proxy in self.proxies]
        return self.puppetdbs[ports.index(port)]

    def pending(self) -> int:
        with Journal.open(self.url) as journal:
            return journal.run(entries.counts).entries.get(EntryState.PENDING, 0)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self._directory.glob("log*")))


@pytest.fixture
def running(site: Site, place: str, tmp_path: Path) -> Iterator[SharedPlace]:  # noqa: F811
    with ExitStack() as stack:
        yield SharedPlace(site, place, tmp_path, stack)


@dataclass(frozen=True)
class Acknowledged:
    """A command, when its client had its answer (monotonic seconds), and the port of the server that had taken it."""

    command: Command
    at: float
    by: int | None


class Seen:
    """The newest catalog of each node that any reader was shown; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, str] = {}

    def so_far(self) -> dict[str, str]:
        with self._lock:
            return dict(self._newest)

    def note(self, shown: Mapping[str, str]) -> None:
        with self._lock:
            for certname, stamp in shown.items():
                self._newest[certname] = max(stamp, self._newest.get(certname, ""))


class Nodes(threading.Thread):
    """Nodes that run one after the other, each through gateways that happen to answer, and read what is exported."""

    def __init__(self, place: SharedPlace, number: int, over: threading.Event, seen: Seen) -> None:
        super().__init__(name=f"nodes-{number}")
        self.acknowledged: list[Acknowledged] = []
        self.reads = self.stale = 0
        self.backwards: list[str] = []
        self._seen = seen
        self.broken: BaseException | None = None
        self._place, self._number, self._over = place, number, over
        self._random = random.Random(number)
        self._last = 0

    def run(self) -> None:
        try:
            run = 0
            while not self._over.is_set():
                certname = f"node{self._number}-{run % 5}.example"
                for name in KINDS:
                    self._send(self._command(name, certname))
                run += 1
                self._over.wait(self._random.uniform(0.0, rounds(0, 4)))
        except BaseException as error:  # noqa: BLE001 - the test judges it
            self.broken = error

    def _command(self, name: str, certname: str) -> Command:
        self._last = max(self._last + 1, int(time.time() * 1000))
        stamp = timestamp.from_millis(self._last)
        body = json.dumps({"certname": certname, "producer_timestamp": stamp, "what": name}).encode()
        return Command.ready(name, 9, certname, stamp, body)

    def _send(self, command: Command) -> None:
        while (told := self._told(lambda gateway: self._place.submit(gateway, command))) is None:
            if self._over.is_set():
                return
        by = None if told.headers["X-Pdbclient-Journalled"] == "true" else told.server
        self.acknowledged.append(Acknowledged(command, time.monotonic(), by))
        if command.name == "replace catalog":
            if by is not None:
                # Its own queue is the server's affair.
                assert eventually(lambda: self._place.puppetdb_at(by).shows(command), 10)
            self._read(command, by)

    def _read(self, catalog: Command, by: int | None) -> None:
        """Somebody asks for exported resources, through any gateway."""
        while (asked := self._asked()) is None:
            if self._over.is_set():
                return
        before, told = asked
        self.reads += 1
        shown = {row["certname"]: row["title"] for row in told.json}
        if told.headers["X-Pdbclient-Stale"] == "true":
            self.stale += 1
            return
        self._seen.note(shown)
        back = {name: (stamp, shown.get(name)) for name, stamp in before.items() if shown.get(name, "") < stamp}
        if back:
            self.backwards.append(f"at {told.server}, not as others saw it before: {back}")
        if shown.get(catalog.certname, "") >= catalog.producer_timestamp:
            return
        after = time.monotonic() - self.acknowledged[-1].at
        was = f"{shown.get(catalog.certname)} at {told.server} after {after:.3f} s"
        self.backwards.append(f"{catalog.certname} of {catalog.producer_timestamp}, taken by {by}, was {was}")

    def _asked(self) -> tuple[dict[str, str], Told] | None:
        """What all had seen before, and the answer."""
        before = self._seen.so_far()
        told = self._told(self._place.exported)
        return None if told is None else (before, told)

    def _told(self, what: object) -> Told | None:
        """What a gateway says, when that is a 200."""
        try:
            told: Told = what(self._random.choice(self._place.gateways))  # type: ignore[operator]
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            return None
        if told.status == 200:
            return told
        time.sleep(0.2)
        return None


def trouble(place: SharedPlace, server: DatabaseServer, seconds: float) -> None:
    """One of them after the other, until the time is over: each ends before the next one begins."""
    end, chance, step = time.monotonic() + seconds, random.Random(1), 0
    while time.monotonic() < end:
        number = chance.randrange(GATEWAYS)
        match step % 5:
            case 0:
                place.proxies[0].refuse()
                time.sleep(3)
                place.proxies[0].accept()
            case 1:
                place.gateways[number].signal(signal.SIGKILL)
                place.gateways[number].ended()
                place.start(number)
            case 2:
                place.gateways[number].signal(signal.SIGSTOP)
                time.sleep(rounds(4, 90))
                place.gateways[number].signal(signal.SIGCONT)
            case 3:
                server.postgres.stop()
                server.postgres.start()
            case 4:
                for proxy in place.proxies:
                    proxy.refuse()
                time.sleep(3)
                for proxy in place.proxies:
                    proxy.accept()
        step += 1
        time.sleep(2)


def test_killed_frozen_and_cut_off_they_lose_nothing_and_never_go_back(
    running: SharedPlace, server: DatabaseServer
) -> None:
    running.up()
    over = threading.Event()
    seen = Seen()
    nodes = [Nodes(running, number, over, seen) for number in range(WRITERS)]
    for each in nodes:
        each.start()
    try:
        trouble(running, server, SECONDS)
        reached = eventually(lambda: sum(each.reads for each in nodes) >= READS, SECONDS)
    finally:
        over.set()
        for each in nodes:
            each.join()
    assert [each.broken for each in nodes if each.broken] == []
    backwards = [line for each in nodes for line in each.backwards]
    reads, stale = sum(each.reads for each in nodes), sum(each.stale for each in nodes)
    acknowledged = [one for each in nodes for one in each.acknowledged]
    # A gateway that was killed has its commands until its lease is over.
    assert eventually(lambda: lost(running, acknowledged) == [], 150), lost(running, acknowledged)[:5]
    twice = repeated(running)
    print(
        f"{len(acknowledged)} acknowledged, {sum(one.by is None for one in acknowledged)} by the journal alone;"
        f" {reads} reads, {stale} marked stale, {len(backwards)} went back; {twice} deliveries made twice"
    )
    assert backwards == [], running.logs()
    assert reached
    require_rate(running, acknowledged)
    assert "Traceback" not in running.logs()


def lost(place: SharedPlace, acknowledged: Sequence[Acknowledged]) -> list[Command]:
    """What no server has of what was acknowledged."""
    return [one.command for one in acknowledged if not any(each.shows(one.command) for each in place.puppetdbs)]


def repeated(place: SharedPlace) -> int:
    """How many commands came to one server more than once; always as the same bytes, which it keeps once."""
    twice = 0
    for puppetdb in place.puppetdbs:
        came = Counter(arrival.command for arrival in puppetdb.arrivals)
        keys = {(command.name, command.certname, command.producer_timestamp) for command in came}
        assert len(keys) == len(came), "one command came with two bodies"
        twice += sum(count - 1 for count in came.values())
    return twice


def require_rate(place: SharedPlace, acknowledged: Sequence[Acknowledged]) -> None:
    """What came to a server after its client had its answer was delivered: never more than all may together.

    But for what decides about exported resources, which a server gets at once when somebody asks.
    """
    done = {one.command: one.at for one in acknowledged if one.command.name not in DECIDING}
    for puppetdb in place.puppetdbs:
        times = [each.at for each in puppetdb.arrivals if each.at > done.get(each.command, float("inf"))]
        if not times:
            continue
        most = max((count - RATE * (1 + seconds) for count, seconds in windows(times[-3000:])), default=0.0)
        # What each of them had taken of the rate before, and what was under way in one that was frozen.
        assert most <= GATEWAYS * (max(RATE // 10, 1) + 8), f"{most:.1f} more than the rate"


def test_three_gateways_heal_a_server_once(running: SharedPlace) -> None:
    """J17: 100 entries were healed with 291 commands."""
    running.up()
    sent = [
        Command.ready("replace facts", 5, f"node{n}.example", timestamp.from_millis(int(time.time() * 1000)), b"{}")
        for n in range(100)
    ]
    for number, command in enumerate(sent):
        assert running.submit(running.gateways[number % GATEWAYS], command, 60.0).status == 200
    primary = running.puppetdbs[0]
    with Journal.open(running.url) as journal:
        confirmed = "SELECT count(*) FROM copies WHERE state = 'confirmed'"
        assert eventually(lambda: journal.run(lambda tx: tx.rows(confirmed))[0][0] == len(sent), 60)
    before = len(primary.arrivals)
    primary.forget()
    assert eventually(lambda: all(map(primary.shows, sent)), 90)
    assert eventually(lambda: "recovered: looked at 100 entries" in running.logs(), 60)
    assert len(primary.arrivals) - before == len(sent)


def test_all_together_deliver_at_one_rate(running: SharedPlace) -> None:
    """J17: four with `journal_rate = 5` sent 18.8 a second to one server."""
    # So low that a busy machine is no reason to keep to it.
    rate = running.rate = 4
    running.up()
    for proxy in running.proxies:
        proxy.refuse()
    sent = [
        Command.ready("store report", 8, f"node{n}.example", timestamp.from_millis(1_800_000_000_000 + n), b"%d" % n)
        for n in range(8 * rate)
    ]
    for number, command in enumerate(sent):
        told = running.submit(running.gateways[number % GATEWAYS], command, 60.0)
        assert (told.status, told.headers["X-Pdbclient-Journalled"]) == (200, "true")
    for proxy in running.proxies:
        proxy.accept()
    assert eventually(lambda: running.pending() == 0, 60)
    times = sorted(arrival.at for each in running.puppetdbs for arrival in each.arrivals)
    assert len(times) == len(sent), "nothing twice"
    most = max(
        count - rate * (1 + seconds)
        for count, seconds in windows([each.at for each in running.puppetdbs[0].arrivals])
    )
    assert most <= GATEWAYS + 2, "each has taken one of it, at most"
    assert times[-1] - times[0] < 4 * len(sent) / rate, "nor much slower"
