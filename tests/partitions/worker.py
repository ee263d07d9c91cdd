"""What the Puppet of one host does, in a process of its own: nodes that run, and compilers that collect.

    python -m tests.partitions.worker ORDERS

ORDERS is a file with `Orders` as JSON. It ends, with the requests that are under way, when its standard input ends;
exit 1 when something of it broke.
"""

from __future__ import annotations

import itertools
import json
import random
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psycopg

from pdbclient.config.model import TlsFiles
from pdbclient.gateway.header_names import JOURNALLED, SERVER, STALE
from pdbclient.lab.samples import Samples
from tests.faults.gateway import client_context

from . import documents
from .apply import Puppet
from .documents import Document, Node
from .history import TIMEOUT, Probed, Read, Recorder, Submitted
from .terminus import Attempt, StockAnswer, StockRequest, attempt, attempts, within

__all__ = ["Orders", "Worker"]

SOME = StockRequest("GET", "/pdb/query/v4/environments")
"""A query that costs a PuppetDB little, and that it cannot answer without its database."""
PROBE_SECONDS = 2.0
PROBE_PAUSE = 1.5
AWAY_AT_MOST = 0.25
"""Of its nodes: more deactivated at once would be what the reconciler's brakes are for."""
DEACTIVATE = 0.15


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker on `host` does. `urls`: the `server_urls` of its Puppet, each with `seconds` for an attempt.

    `nodes` are spoken for by `writers` threads, which send a command every `pause` seconds; `readers` threads ask
    every `read_pause` seconds. `puppetdbs`: by name, the URLs that are probed past everything, and `journal` if it
    is a URL. `ca`, `cert`, `key`, `jar`, `history`: paths; `puppet` too: a directory for real runs of `puppet apply`,
    every `puppet_pause` seconds.
    """

    host: str
    urls: Sequence[str]
    seconds: float
    nodes: Sequence[str]
    puppetdbs: Mapping[str, str]
    ca: str
    cert: str
    key: str
    jar: str
    history: str
    seed: int
    journal: str | None = None
    writers: int = 2
    pause: float = 1.5
    readers: int = 1
    read_pause: float = 0.7
    puppet: str | None = None
    puppet_pause: float = 25.0

    def save(self, path: Path) -> None:
        """As the file that a worker is told."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Orders:
        """What `save` wrote."""
        return cls(**json.loads(path.read_text()))


class Certificate:
    """The certificate of a host, which may be renewed at any time. Thread-safe."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._loaded: tuple[list[int], ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """With what the files are now; with what they were while one of them is replaced and the other is not."""
        files = self._files
        assert files.cert is not None
        assert files.key is not None
        with self._lock:
            times = [path.stat().st_mtime_ns for path in (files.ca, files.cert, files.key)]
            if self._loaded is None or self._loaded[0] != times:
                try:
                    self._loaded = times, client_context(files)
                except ssl.SSLError:
                    if self._loaded is None:
                        raise
            return self._loaded[1]


class Worker:
    """The threads; `end` lets them end, and `failed` is what broke in them."""

    def __init__(self, orders: Orders, recorder: Recorder) -> None:
        self._orders, self._recorder = orders, recorder
        self._tls = Certificate(TlsFiles(Path(orders.ca), Path(orders.cert), Path(orders.key)))
        self._over = threading.Event()
        self.failed: list[str] = []
        samples = Samples(Path(orders.jar))
        nodes = [Node(samples, name, index) for index, name in enumerate(orders.nodes)]
        jobs: list[Callable[[], None]] = [
            partial(self._write, nodes[number :: orders.writers], number) for number in range(orders.writers)
        ]
        jobs += [partial(self._collect, number) for number in range(orders.readers)]
        jobs.append(self._look)
        jobs += [partial(self._probe, name, partial(self._ask, url)) for name, url in orders.puppetdbs.items()]
        if orders.journal is not None and "://" in orders.journal:
            jobs.append(partial(self._probe, "journal", self._connect))
        if orders.puppet is not None:
            jobs.append(partial(self._apply, Path(orders.puppet)))
        self._threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Begin nothing more, and wait until what is under way has ended."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:  # noqa: BLE001 - told at the end, and the run fails
            self.failed.append(traceback.format_exc())
            print(self.failed[-1], file=sys.stderr, flush=True)

    def _write(self, nodes: Sequence[Node], number: int) -> None:
        chance = random.Random(f"{self._orders.seed} {self._orders.host} writer {number}")
        away: set[str] = set()
        while not self._over.is_set():
            node = chance.choice(nodes)
            may_go = node.certname not in away and len(away) < len(nodes) * AWAY_AT_MOST
            if may_go and chance.random() < DEACTIVATE:
                self._submit(node, node.deactivation(), chance)
                away.add(node.certname)
                continue
            for document in node.run():
                done = self._submit(node, document, chance)
                if self._over.is_set() or (document.kind == "facts" and not done):
                    break
                if document.kind == "catalog":
                    away.discard(node.certname)
                    if not done:
                        # The termini send no inputs then; the report of the failed run goes out with the next one.
                        break

    def _submit(self, node: Node, document: Document, chance: random.Random) -> bool:
        """Whether Puppet was told that it is done."""
        command = document.command
        done = False
        for made in attempts(
            self._orders.urls, documents.submission(command), self._tls.context(), self._orders.seconds
        ):
            done = self._note_submitted(made, node.certname, document)
        self._over.wait(chance.uniform(0.5, 1.5) * self._orders.pause)
        return done

    def _note_submitted(self, made: Attempt, certname: str, document: Document) -> bool:
        answer, error, journalled, by = made.answer, made.error, False, None
        if answer is not None:
            journalled = answer.headers.get(JOURNALLED.lower()) == "true"
            if answer.status == 200:
                by = None if journalled else _answered_by(answer, made.url)
                error = _no_uuid(answer)
            else:
                error = _refusal(answer)
        event = Submitted(
            at=made.at,
            took=made.took,
            host=self._orders.host,
            kind=document.kind,
            certname=certname,
            stamp=document.command.producer_timestamp,
            number=document.number,
            url=made.url,
            run=document.run,
            status=None if answer is None else answer.status,
            by=by,
            journalled=journalled,
            error=error,
        )
        self._recorder.note(event)
        return event.acknowledged

    def _collect(self, number: int) -> None:
        chance = random.Random(f"{self._orders.seed} {self._orders.host} reader {number}")
        request = documents.asked_for_exported(f"collector.{self._orders.host}.example")
        while not self._over.wait(chance.uniform(0.5, 1.5) * self._orders.read_pause):
            self._read("exported", request)

    def _look(self) -> None:
        chance = random.Random(f"{self._orders.seed} {self._orders.host} look")
        while not self._over.wait(chance.uniform(0.5, 1.5) * self._orders.read_pause * 2):
            self._read("node", documents.asked_for_node(chance.choice(self._orders.nodes)))

    def _read(self, kind: str, request: StockRequest) -> None:
        for made in attempts(self._orders.urls, request, self._tls.context(), self._orders.seconds):
            answer, error = made.answer, made.error
            seen: dict[str, int] = {}
            if answer is not None and answer.status != 200:
                error = _refusal(answer)
            elif answer is not None:
                try:
                    seen = _seen(kind, answer)
                except ValueError as wrong:
                    error = f"{type(wrong).__name__}: {wrong}"
            event = Read(
                at=made.at,
                took=made.took,
                host=self._orders.host,
                kind=kind,
                url=made.url,
                status=None if answer is None else answer.status,
                stale=answer is not None and answer.headers.get(STALE.lower()) == "true",
                by=None if answer is None or error else _answered_by(answer, made.url),
                seen=seen,
                error=error,
                final=not made.goes_on or made.url == self._orders.urls[-1],
            )
            self._recorder.note(event)

    def _probe(self, target: str, ask: Callable[[], Attempt]) -> None:
        while not self._over.wait(PROBE_PAUSE):
            made = ask()
            ok = made.answer is not None and made.answer.status == 200
            status = None if made.answer is None or ok else str(made.answer.status)
            self._recorder.note(Probed(made.at, made.took, self._orders.host, target, ok, made.error or status))

    def _apply(self, root: Path) -> None:
        orders = self._orders
        root.mkdir(exist_ok=True)
        tls = {"ca": Path(orders.ca), "cert": Path(orders.cert), "key": Path(orders.key)}
        puppet = Puppet(root, Path(orders.cert).stem, tuple(orders.urls), orders.seconds, tls)
        for number in itertools.count(1):
            if self._over.wait(orders.puppet_pause):
                return
            self._recorder.note(puppet.apply(orders.host, number))

    def _ask(self, url: str) -> Attempt:
        return attempt(url, SOME, self._tls.context(), PROBE_SECONDS)

    def _connect(self) -> Attempt:
        """A connection to the journal's database, and a question there, in the form of a request."""
        url = self._orders.journal
        assert url is not None
        return timed("journal", PROBE_SECONDS, lambda: _select(url))


def timed(url: str, seconds: float, what: Callable[[], None]) -> Attempt:
    """An attempt at something that is not HTTP: an answer of 200 when it does not raise."""
    at = time.monotonic()
    try:
        within(seconds, what)
    except TimeoutError:
        return Attempt(url, at, time.monotonic() - at, error=TIMEOUT)
    except (OSError, psycopg.Error) as error:
        return Attempt(url, at, time.monotonic() - at, error=f"{type(error).__name__}: {error}")
    return Attempt(url, at, time.monotonic() - at, StockAnswer(200, {}, b""))


def _select(url: str) -> None:
    # The thread that is left alone ends by itself: so does a connection whose other side is gone.
    with psycopg.connect(url, connect_timeout=2, tcp_user_timeout=2000, keepalives_idle=2) as connection:
        connection.execute("select 1")


def _answered_by(answer: StockAnswer, url: str) -> str | None:
    """The PuppetDB, as a gateway names it; without a gateway whoever was asked."""
    return answer.headers.get(SERVER.lower(), url)


def _refusal(answer: StockAnswer) -> str:
    return f"{answer.status}: {answer.body[:300].decode(errors='replace')}"


def _seen(kind: str, answer: StockAnswer) -> dict[str, int]:
    """The counters in an answer about exported resources; any other one has to be JSON. Raises `ValueError`."""
    if kind == "exported":
        return documents.counters(answer)
    json.loads(answer.body)
    return {}


def _no_uuid(answer: StockAnswer) -> str | None:
    """Why the answer is none of a PuppetDB that took a command."""
    try:
        return None if json.loads(answer.body)["uuid"] else "no uuid"
    except (ValueError, TypeError, KeyError):
        return f"no answer to a command: {answer.body[:200]!r}"


def main(argv: Sequence[str]) -> int:
    """Do what the orders say until the standard input ends."""
    orders = Orders.load(Path(argv[0]))
    with ExitStack() as stack:
        worker = Worker(orders, stack.enter_context(Recorder(Path(orders.history))))
        worker.start()
        print("started", flush=True)
        sys.stdin.read()
        worker.end()
    return 1 if worker.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
