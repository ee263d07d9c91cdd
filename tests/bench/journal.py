"""What the journal costs: durable appends beside bare SQLite, and whether a million entries make it slower.

Appends: 16 threads put 50 KB commands in, beside 16 threads that insert the same bytes into a table of one column,
each on a connection of its own, with the same pragmas; both sides take turns within one run. The ratio of their rates
is judged, for commands that are stored as they are (gzip, as the gateway gets them); for those that the journal
compresses it is told. Told, too: bare SQLite from one thread, which waits for no other one's lock.

Growth: appends, claims with their settlement, and pruning, in the same batches at 10,000 and at a million entries, of
which a tenth is owed still. An entry whose settlement lets older ones go counts with each of these.

Latency: what a submission to a real PuppetDB takes through a client with a journal and one without, in turns, from
one thread and from 16; what the journal adds at p50 and p99 is told.

    python -m tests.bench.journal [--quick] [--dir DIR] [--lab DIR]

Figures: what the gateway's metrics wait for the counts, beside appends, at the most entries: p50 and p99.

Ends with one JSON line. Exit 1 when appends reach less than 0.7 of bare SQLite's, an operation takes more than 1.5
times as long at the end as at the beginning, or the counts take more than 20 ms at p99. DIR is where the files are
made: on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pdbclient import Client, load_config
from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries, entries, upkeep
from pdbclient.journal.model import ANY, Copy, CopyState
from pdbclient.journal.store.database import Transaction
from pdbclient.journal.store.packing import Packed, pack
from pdbclient.journal.work.figures import Figures
from pdbclient.lab import Lab
from pdbclient.wire.command import Command
from tests.bench.load.place import running_lab

THREADS = 16
SIZE = 50_000
LEAST_RATIO = 0.7
MOST_GROWTH = 1.5
MOST_FIGURES = 20.0
ROUNDS = 6
LATENCY_ROUNDS = 8
BATCH = 100
REPEATS = 60
FIGURES = 300
FEW = 10_000
CHUNK = 2000
SERVER = "https://puppetdb.example:8081"
NAMES = ("replace facts", "replace catalog", "store report")

Put = Callable[[Command], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="1 s a side and round, 100,000 entries instead of 1,000,000"
    )
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="where the files are made")
    parser.add_argument("--lab", type=Path, help="a lab that is up, instead of one of its own")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pdbclient-bench-", dir=args.dir) as name:
        directory = Path(name)
        appends = {
            "as_is": compare(directory / "as-is", 1.0 if args.quick else 4.0, zipped=True),
            "compressed": compare(directory / "compressed", 1.0 if args.quick else 4.0, zipped=False),
        }
        growth = grow(directory, 100_000 if args.quick else 1_000_000)
        with running_lab(args.lab) as lab:
            added = latency(lab, directory, 160 if args.quick else 1600)
    missed = [] if appends["as_is"]["ratio"] >= LEAST_RATIO else ["appends"]
    missed += ["figures"] if growth["figures_ms"]["p99"] > MOST_FIGURES else []
    missed += [f"{name} grows" for name, figures in growth["operations"].items() if figures["ratio"] > MOST_GROWTH]
    report = {
        "bench": "journal",
        "appends": appends,
        "growth": growth,
        "latency": added,
        "missed": missed,
        "ok": not missed,
    }
    print(json.dumps(report))
    return 1 if missed else 0


# --- appends beside bare SQLite ----------------------------------------------------------------------------------


def compare(directory: Path, seconds: float, *, zipped: bool) -> dict[str, Any]:
    """Rates of both sides, a second, and their ratio; medians of the rounds."""
    directory.mkdir()
    rates: dict[str, list[float]] = {"bare": [], "bare_one_thread": [], "journal": []}
    commands = samples(zipped)
    with Journal.open(str(directory / "journal.db")) as journal, Bare(directory / "bare.db") as bare_puts:
        sides: dict[str, list[Put]] = {
            "bare": bare_puts.puts,
            "bare_one_thread": bare_puts.puts[:1],
            "journal": [lambda command: journal.append(command, [ANY]).result()] * THREADS,
        }
        for turn in range(ROUNDS):
            for side in sides if turn % 2 else reversed(sides):
                rates[side].append(rate(sides[side], commands, seconds))
    medians = {side: round(statistics.median(taken), 1) for side, taken in rates.items()}
    figures = {
        **{f"{side}_per_s": median for side, median in medians.items()},
        "ratio": round(medians["journal"] / medians["bare"], 2),
        "stored_bytes": size_of(commands, zipped),
    }
    print(f"appends, {'as they are' if zipped else 'compressed by the journal'}: {figures}", file=sys.stderr)
    return figures


def samples(zipped: bool) -> list[Command]:
    """Commands of 50 KB as they are sent: gzip of facts, or plain JSON that compresses as facts do."""
    chance = random.Random(4)
    made = []
    for number in range(32):
        facts = {f"fact_{n}": chance.choice(["true", f"{chance.random()}", "/usr/lib/ruby"]) for n in range(6000)}
        body = json.dumps({"certname": f"node{number}", "values": facts}).encode()
        body = chance.randbytes(SIZE) if zipped else body[:SIZE]
        encoding, length = ("gzip", 7 * SIZE) if zipped else ("identity", SIZE)
        made.append(Command.ready(NAMES[number % 3], 5, f"node{number}", stamp(number), body, encoding, length))
    return made


def size_of(commands: list[Command], zipped: bool) -> int:
    return SIZE if zipped else round(statistics.mean(len(pack(command).body) for command in commands))


class Bare:
    """A table of bodies, and a function that appends to it for each thread, durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._connections = [self._connected(path) for _ in range(THREADS)]
        self._connections[0].execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, body BLOB)")
        self.puts: list[Put] = [self._put(connection) for connection in self._connections]

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def _connected(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        # Those of the journal.
        for pragma in ("page_size = 4096", "journal_mode = PERSIST", "journal_size_limit = 16777216"):
            connection.execute(f"PRAGMA {pragma}")
        for pragma in ("synchronous = FULL", "cache_size = -16384"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _put(self, connection: sqlite3.Connection) -> Put:
        def put(command: Command) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO entries (body) VALUES (?)", (command.body,))
            connection.execute("COMMIT")

        return put


def rate(puts: list[Put], commands: list[Command], seconds: float) -> float:
    """Commands a second that threads with these functions put in."""
    done = [0] * len(puts)
    start, over = threading.Barrier(len(puts) + 1), threading.Event()

    def work(number: int) -> None:
        start.wait()
        while not over.is_set():
            puts[number](commands[(number + done[number]) % len(commands)])
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(puts))]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    over.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


# --- latency -----------------------------------------------------------------------------------------------------


def latency(lab: Lab, directory: Path, turns: int) -> dict[str, Any]:
    """Milliseconds of a submission of 50 KB, without and with a journal, and what that adds; by number of threads."""
    config = load_config(lab.puppetdb_conf)
    found = {}
    with (
        Client(replace(config, journal=None)) as without,
        Client(replace(config, journal=str(directory / "latency.db"))) as with_journal,
    ):
        sides = {"without": without, "with": with_journal}
        for threads in (1, THREADS):
            times: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(LATENCY_ROUNDS):
                for side in sides if turn % 2 else reversed(sides):
                    times[side] += submitted(sides[side], threads, turns // LATENCY_ROUNDS)
            figures = {f"{side}_{name}": value for side in sides for name, value in percentiles(times[side]).items()}
            for name in ("p50", "p99"):
                figures[f"added_{name}"] = round(figures[f"with_{name}"] - figures[f"without_{name}"], 2)
            found[f"{threads}_threads"] = figures
            print(f"latency in ms, {threads} threads: {figures}", file=sys.stderr)
    return found


def submitted(client: Client, threads: int, commands: int) -> list[float]:
    """Submit so many facts of nodes of their own; the seconds that each took."""

    def submit(command: Command) -> float:
        began = time.perf_counter()
        client.submit(command)
        return time.perf_counter() - began

    ready = [facts(f"latency-{number}") for number in range(commands)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(submit, ready))


def facts(certname: str) -> Command:
    """Facts that take about 50 KB when they are compressed."""
    chance = random.Random(certname)
    values = {f"fact_{n}": f"{chance.random()}" for n in range(3800)}
    payload = {"certname": certname, "environment": "production", "producer": None, "values": values}
    return Command.create("replace facts", payload, now=datetime.now(UTC)).gzipped()


def percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50": round(1000 * cuts[49], 2), "p99": round(1000 * cuts[98], 2)}


# --- growth ------------------------------------------------------------------------------------------------------


def grow(directory: Path, most: int) -> dict[str, Any]:
    """Milliseconds for one entry, beside 10,000 and beside `most` others, and their ratios. Both take turns."""
    operations: dict[str, dict[str, float]] = {}
    sizes = {FEW: directory / "few.db", most: directory / "most.db"}
    with ExitStack() as stack:
        times: dict[int, dict[str, list[float]]] = {}
        sides = []
        for rows, path in sizes.items():
            journal = stack.enter_context(Journal.open(str(path), lease=0.0))
            numbers = iter(range(1 << 40))
            began = time.perf_counter()
            fill(journal, numbers, rows)
            print(f"{rows} entries in {time.perf_counter() - began:.0f} s, {path_mb(path)} MB", file=sys.stderr)
            sides.append((journal, numbers, times.setdefault(rows, {})))
        for turn in range(REPEATS):
            for journal, numbers, taken in sides if turn % 2 else reversed(sides):
                measure(journal, numbers, taken)
        counted = figures(*sides[-1][:2])
    for name in times[FEW]:
        medians = {rows: round(1000 * statistics.median(times[rows][name]), 4) for rows in sizes}
        operations[name] = {f"ms_at_{rows}": median for rows, median in medians.items()}
        operations[name]["ratio"] = round(medians[most] / medians[FEW], 2)
        print(f"{name}, for each entry: {operations[name]}", file=sys.stderr)
    return {"entries": most, "file_mb": path_mb(sizes[most]), "operations": operations, "figures_ms": counted}


def figures(journal: Journal, numbers: Iterator[int]) -> dict[str, float]:
    """What whoever reads the metrics waits for the counts, while others append."""
    over = threading.Event()

    def append() -> None:
        while not over.is_set():
            journal.append(small(next(numbers)), [ANY]).result()

    writer = threading.Thread(target=append)
    writer.start()
    try:
        counts, times = Figures(journal), []
        for _ in range(FIGURES):
            time.sleep(0.05)
            began = time.perf_counter()
            assert counts.counts() is not None
            times.append(time.perf_counter() - began)
    finally:
        over.set()
        writer.join()
    return percentiles(times)


def path_mb(path: Path) -> int:
    return path.stat().st_size >> 20


def fill(journal: Journal, numbers: Iterator[int], rows: int) -> None:
    """As a site does, but in few commits: most is delivered, every tenth is owed to some server still."""
    for at in range(0, rows, CHUNK):
        packed = [pack(small(next(numbers))) for _ in range(min(CHUNK, rows - at))]
        # Not `run`, which waits no longer than somebody would for a command of theirs: this is thousands.
        journal.start(put_in, packed, journal.clock(), journal.writer).result()


def put_in(tx: Transaction, packed: Sequence[Packed], now: float, writer: str) -> None:
    ids = [entries.append(tx, each, (ANY,), now, now, "", writer).id for each in packed]
    for entry in ids[: len(ids) - len(ids) // 10]:
        deliveries.ack(tx, entry, [Copy(SERVER, CopyState.ACCEPTED, None, now)])


def small(number: int) -> Command:
    # Five thousand nodes, in no order, each with facts, a catalog and a report.
    node = number // 3 * 2_654_435_761 % 5000
    body = b'{"certname":"node%d.example"}' % node
    return Command.ready(NAMES[number % 3], 5, f"node{node}.example", stamp(number), body)


def stamp(number: int) -> str:
    return f"2026-{1 + number // 2_419_200 % 12:02}-{1 + number // 86_400 % 28:02}T" + (
        f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
    )


def measure(journal: Journal, numbers: Iterator[int], taken: dict[str, list[float]]) -> None:
    """Seconds for one entry of a batch, each batch in one commit, as under load."""
    began = time.perf_counter()
    wait_for([journal.append(small(next(numbers)), [ANY]) for _ in range(BATCH)])
    taken.setdefault("append", []).append((time.perf_counter() - began) / BATCH)
    before = held(journal)
    began = time.perf_counter()
    deliver(journal)
    took = time.perf_counter() - began
    taken.setdefault("claim_and_settle", []).append(took / (BATCH + before - held(journal)))
    began = time.perf_counter()
    pruned = journal.run(upkeep.prune, journal.clock() + 1, 0, BATCH, journal.writer, [SERVER])
    taken.setdefault("prune", []).append((time.perf_counter() - began) / BATCH)
    assert pruned == BATCH


def held(journal: Journal) -> int:
    return int(journal.run(lambda tx: tx.rows("SELECT count(*) FROM entries"))[0][0])


def wait_for(futures: list[Any]) -> None:
    for future in futures:
        future.result()


def deliver(journal: Journal) -> None:
    now = journal.clock()
    claims = journal.run(deliveries.claim, ANY, BATCH, now, now + 60, journal.owner)
    assert len(claims) == BATCH
    wait_for([journal.start(deliveries.ack, c.entry, [Copy(SERVER, CopyState.ACCEPTED, None, now)]) for c in claims])
    # As the audit does, when the server shows them.
    journal.confirm(SERVER, dict.fromkeys((claim.entry for claim in claims), True))


if __name__ == "__main__":
    sys.exit(main())
