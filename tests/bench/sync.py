"""What a pass of the reconciler costs on a real pair of PuppetDBs, beside the least that it could cost.

The pair's databases are filled by SQL (`load.rows`): the sizes grow from 1,000 nodes to 100,000.

Converged: a pass that finds both sides equal, beside listings of all that both sides have (reports by the hour), each
side's one after the other, both sides at once, the answers only read. They take turns within one run; the ratios of
their medians and of their bytes are judged from 10,000 nodes on, and the peak memory of a process that does nothing
else.

Planned: one node of a hundred has new facts and a new catalog at the remote, put there by SQL. What it costs this
process to find out which, in seconds of CPU.

Changed: 100 nodes have new facts and a new catalog at the remote, and there are 200 new reports. A pass that brings
them here, beside the time that the PuppetDB here takes for as many of the same kind posted by a bare loop from disk;
the pass may take that and what a converged one may.

Seeding: an empty server is filled from the other, beside the same commands posted to it by a bare loop from disk,
until all of them are stored; the ratio of the rates is judged.

    python -m tests.bench.sync [--quick] [--lab DIR] [--only PART]

The remote's servers have half of the cores, as if on a machine of their own; the others and the reconciler share the
rest.
Ends with one JSON line. Exit 1 when a converged pass takes more than 0.4 times the listings (0.35 with 100,000
nodes), more than a twentieth of their bytes, or 100 MB; when it takes 0.5 s of CPU or more to find one node of a
hundred that changed among 100,000; when a pass with changes takes more than 1.1 times the ingestion, or seeding
reaches less than 0.9 of the bare rate. `--lab` is a lab of two nodes, which is emptied.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pdbclient.config import SyncConfig, load_sync_config
from pdbclient.config.model import Endpoint
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.sync import Entity, Mode, PassResult, Reconciler, plan
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.inventory.kinds import PER_NODE
from pdbclient.sync.policy.report_hours import HOUR, oldest_kept
from pdbclient.sync.run.seed import seed
from pdbclient.wire import query
from pdbclient.wire.command import Command
from pdbclient.wire.summary import from_millis
from tests.bench.load.bare import BarePuppetDB, Query, Stored, store
from tests.bench.load.place import apart, running_lab, workplace
from tests.bench.load.rows import Population, certname

HERE, THERE = "primary", "replica"
JUDGED = 10_000
MOST_RATIO = {10_000: 0.4, 100_000: 0.35}
MOST_BYTES = 0.05
MOST_MEMORY_MB = 100
MOST_CPU = 0.5
MOST_CHANGED = 1.1
LEAST_RATE = 0.9
CHANGED_NODES = 100
REPORTS_EACH = 2
SETTLE = 900.0
PARTS = ("converged", "changed", "seeding")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done: `sizes` are numbers of nodes with the reports that each has."""

    sizes: tuple[tuple[int, int], ...]
    rounds: int
    changes: int
    seeded_nodes: int
    seedings: int


FULL = Scale(((1_000, 80), (10_000, 80), (100_000, 16)), 10, 5, 400, 3)
QUICK = Scale(((1_000, 80), (10_000, 80)), 8, 1, 100, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="no 100,000 nodes, fewer rounds, a shorter seeding")
    parser.add_argument("--lab", type=Path, help="a lab of two nodes that is up, instead of one of its own")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts")
    args = parser.parse_args()
    parts, scale = args.only or PARTS, QUICK if args.quick else FULL
    report: dict[str, Any] = {"bench": "sync"}
    missed: list[str] = []
    with running_lab(args.lab, 2) as lab, workplace() as home, apart(lab, THERE):
        bench = SyncBench(lab, home)
        bench.empty()
        if "converged" in parts or "changed" in parts:
            table = report["converged"] = []
            for nodes, reports in scale.sizes:
                if nodes > JUDGED and "converged" not in parts:
                    break
                bench.grow(nodes, reports)
                if "converged" in parts:
                    table.append(bench.converged(nodes, scale.rounds) | {"cpu_s": bench.planned(nodes)})
                    missed += _missed(table[-1])
                if nodes == JUDGED and "changed" in parts:
                    report["changed"] = bench.changed(scale.changes)
                    missed += [] if report["changed"]["ratio"] <= MOST_CHANGED else ["changed"]
            if table:
                tell_table(table)
        if "seeding" in parts:
            report["seeding"] = bench.seeding(scale.seeded_nodes, scale.seedings)
            missed += [] if report["seeding"]["ratio"] >= LEAST_RATE else ["seeding"]
    print(json.dumps({**report, "missed": missed, "ok": not missed}))
    return 1 if missed else 0


def _missed(row: dict[str, Any]) -> list[str]:
    nodes = row["nodes"]
    if nodes not in MOST_RATIO:
        return []
    return [
        *([f"converged pass at {nodes:,}"] if row["ratio"] > MOST_RATIO[nodes] else []),
        *([f"bytes at {nodes:,}"] if row["bytes_ratio"] > MOST_BYTES else []),
        *([f"memory at {nodes:,}"] if row["memory_mb"] > MOST_MEMORY_MB else []),
        *([f"CPU at {nodes:,}"] if nodes == 100_000 and row["cpu_s"] >= MOST_CPU else []),
    ]


class Counting:
    """A session that adds up how many bytes of rows it was given."""

    def __init__(self, session: Session, size: list[int]) -> None:
        self._session, self._size = session, size

    def rows(self, *args: Any, **options: Any) -> Iterator[bytes]:
        for row in self._session.rows(*args, **options):
            self._size.append(len(row) + 1)
            yield row

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class SyncBench:
    """The pair: the local server, HERE, pulls from THERE."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self.home = lab, home
        self.samples = Samples(lab.puppetdb_jar)
        self.config = replace(load_sync_config(lab.sync_conf(HERE)), state_dir=home / "state")
        self.bare = {name: BarePuppetDB(lab.node(name).url, lab.client_tls) for name in (HERE, THERE)}
        self._loaded = 0
        self._reports = 0
        self._files = 0

    def empty(self) -> None:
        """Both servers, and what the reconciler remembers of them."""
        for name in (HERE, THERE):
            self.lab.empty(name)
        self._fresh_state()
        self._loaded = self._reports = 0

    # --- converged ---------------------------------------------------------------------------------------------

    def grow(self, nodes: int, reports: int) -> None:
        """Load both servers up to so many nodes, the new ones with `reports` each."""
        began = time.monotonic()
        load = partial(Population(reports, datetime.now(UTC)).load, self.lab, first=self._loaded + 1, last=nodes)
        both(lambda name: load(name=name))
        self._reports += (nodes - self._loaded) * reports
        self._loaded = nodes
        for name in (HERE, THERE):
            ((found,),) = self.lab.sql(name, "select count(*) from reports")
            assert int(found) >= self._reports, f"{name} has {found} reports, not {self._reports}"
        tell(f"{nodes:,} nodes, {self._reports:,} reports loaded in {time.monotonic() - began:.0f} s")

    def converged(self, nodes: int, rounds: int) -> dict[str, Any]:
        """A row of the table."""
        # An audit: what SQL put behind its cursor, an ordinary pass would compare by and by, a few hours each time.
        first_s, first = timed(lambda: self._pass(Mode(audit=True)))
        quiet(first)
        bare_s: list[float] = []
        pass_s: list[float] = []
        for turn in range(rounds + 1):
            sides: list[Callable[[], None]] = [lambda: bare_s.append(timed(self._fetch)[0])]
            sides.append(lambda: pass_s.append(self._quiet_pass()))
            for side in sides if turn % 2 else reversed(sides):
                side()
        # The first turn warms the queries up.
        bare, passed = statistics.median(bare_s[1:]), statistics.median(pass_s[1:])
        row = {
            "nodes": nodes,
            "reports": self._reports,
            "bare_s": round(bare, 3),
            "pass_s": round(passed, 3),
            "ratio": round(passed / bare, 2),
            "bare_bytes": self._fetch(),
            "pass_bytes": self._pass_bytes(),
            "memory_mb": self._memory(Mode()),
            "first_pass_s": round(first_s, 1),
            "audit_memory_mb": self._memory(Mode(audit=True)),
        }
        row["bytes_ratio"] = round(row["pass_bytes"] / row["bare_bytes"], 4)
        tell(f"converged: {row}; bare {spread(bare_s)}, pass {spread(pass_s)}")
        return row

    def _quiet_pass(self) -> float:
        seconds, result = timed(self._pass)
        quiet(result)
        return seconds

    def _pass(self, mode: Mode | None = None) -> PassResult:
        with Reconciler(self.config, mode) as reconciler:
            return reconciler.run_once(self.config.remotes[0].endpoint)

    def planned(self, nodes: int) -> float:
        """Seconds of CPU to see what one changed node of a hundred needs."""
        changed = max(nodes // 100, 1)
        for table in ("factsets", "catalogs"):
            self.lab.sql(
                THERE,
                f"update {table} set producer_timestamp = now(), hash = substring(sha256(hash) from 1 for 20)"
                f" where certname in (select certname from {table} order by producer_timestamp limit {changed})",
            )
        began = time.process_time()
        plans = {each.entity: each for each in plan(self.config, self.config.remotes[0].endpoint)}
        taken = time.process_time() - began
        found = [len(plans[entity].pull) for entity in (Entity.FACTS, Entity.CATALOGS)]
        assert found == [changed, changed], found
        for table in ("factsets", "catalogs"):
            rows = self.lab.sql(
                THERE,
                f"select certname, encode(hash, 'hex'), producer_timestamp from {table}"
                f" order by producer_timestamp desc limit {changed}",
            )
            values = ", ".join(f"('{name}', decode('{text}', 'hex'), timestamptz '{at}')" for name, text, at in rows)
            self.lab.sql(
                HERE,
                f"update {table} t set hash = v.hash, producer_timestamp = v.at"
                f" from (values {values}) v (certname, hash, at) where t.certname = v.certname",
            )
        self._quiet_pass()
        tell(f"{nodes:,} nodes, {changed:,} changed: {taken:.2f} s of CPU to see it")
        return round(taken, 2)

    def _fetch(self) -> int:
        """List all that both sides have; how many bytes came."""
        now = time.time()
        sizes: list[int] = []
        both(lambda name: sizes.append(self.bare[name].fetch(summaries(now, self.config, received=name == THERE))))
        return sum(sizes)

    def _pass_bytes(self) -> int:
        """How many bytes of rows a pass gets."""
        sizes: list[int] = []

        def connect(endpoint: Endpoint) -> Server:
            counted = Counting(Session(endpoint, self.config.tls, self.config.timeouts), sizes)
            return cast(Server, counted)

        with Reconciler(self.config, connect=connect) as reconciler:
            quiet(reconciler.run_once(self.config.remotes[0].endpoint))
        return sum(sizes)

    def _memory(self, mode: Mode) -> float:
        """The peak (MB) of a process that makes one pass."""
        code = (
            "import sys; from dataclasses import replace; from pathlib import Path\n"
            "from pdbclient.config import load_sync_config\n"
            "from pdbclient.sync import Mode, reconcile\n"
            "config = replace(load_sync_config(Path(sys.argv[1])), state_dir=Path(sys.argv[2]))\n"
            f"(result,) = reconcile(config, mode={mode.audit and 'Mode(audit=True)'})\n"
            "assert result.ok, result\n"
            "print(Path('/proc/self/status').read_text())"
        )
        command = [sys.executable, "-c", code, str(self.lab.sync_conf(HERE)), str(self.config.state_dir)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peak = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("VmHWM:"))
        return round(peak / 1024, 1)

    # --- changed -----------------------------------------------------------------------------------------------

    def changed(self, rounds: int) -> dict[str, Any]:
        """Passes with changes beside bare ingestion: pairs of them, of which the median ratio is judged."""
        pass_s: list[float] = []
        ingest_s: list[float] = []
        for turn in range(rounds + 1):
            there, here = (self._changes(2 * turn), self._changes(2 * turn + 1))
            self._ingest(THERE, there)
            # PostgreSQL does it by itself, but within minutes: it knows of no packages at first.
            self.lab.sql(THERE, "analyze", superuser=True)
            seconds, result = timed(self._pass)
            moved = {str(entity): part.transferred for entity, part in result.entities.items() if part.transferred}
            wanted = {"facts": CHANGED_NODES, "catalogs": CHANGED_NODES, "reports": REPORTS_EACH * CHANGED_NODES}
            assert result.ok, result
            assert moved == wanted, result
            pass_s.append(seconds)
            ingest_s.append(self._ingest(HERE, here))
            self._ingest(THERE, here)
            self._quiet_pass()
        ratios = [passed / ingest for passed, ingest in zip(pass_s[1:], ingest_s[1:], strict=True)]
        figures = {
            "pass_s": round(statistics.median(pass_s[1:]), 2),
            "ingest_s": round(statistics.median(ingest_s[1:]), 2),
            "ratio": round(statistics.median(ratios), 2),
        }
        tell(f"changed: {figures}; ingest {spread(ingest_s)}, pass {spread(pass_s)}")
        return figures

    def _changes(self, number: int) -> list[Stored]:
        """Of other nodes for each number."""
        first = number * CHANGED_NODES + 1
        return self._stored(site_commands(self.samples, first, CHANGED_NODES, REPORTS_EACH))

    # --- seeding -----------------------------------------------------------------------------------------------

    def seeding(self, nodes: int, rounds: int) -> dict[str, Any]:
        """Rates, in commands a second, of a seeding and of a bare loop with the same commands."""
        self.empty()
        commands = self._stored(site_commands(self.samples, 1, nodes, REPORTS_EACH))
        self._ingest(THERE, commands)
        bare_s: list[float] = []
        seed_s: list[float] = []
        for turn in range(rounds):
            sides: list[Callable[[], None]] = [
                lambda: bare_s.append(self._ingest(HERE, commands)),
                lambda: seed_s.append(self._seed(len(commands))),
            ]
            for side in sides if turn % 2 else reversed(sides):
                self.lab.empty(HERE)
                self._fresh_state()
                side()
                stored = self.lab.sql(
                    HERE,
                    "select (select count(*) from factsets) + (select count(*) from catalogs)"
                    " + (select count(*) from reports)",
                )
                assert stored == [(str(len(commands)),)], f"{stored} of {len(commands)} stored"
        bare, seeded = (len(commands) / statistics.median(taken) for taken in (bare_s, seed_s))
        figures = {
            "commands": len(commands),
            "bare_per_s": round(bare, 1),
            "seed_per_s": round(seeded, 1),
            "ratio": round(seeded / bare, 2),
        }
        tell(f"seeding: {figures}; bare {spread(bare_s)}, seed {spread(seed_s)}")
        return figures

    def _seed(self, expected: int) -> float:
        """Seconds until all is here and was seen to be here."""
        began = time.monotonic()
        for result in seed(self.config, self.config.remotes[0].endpoint, Mode(seed=True)):
            assert result.ok, result
            assert sum(part.transferred for part in result.entities.values()) == expected, result
            break
        return time.monotonic() - began

    def _ingest(self, name: str, commands: list[Stored]) -> float:
        """Seconds until a server has worked off these commands, from a bare loop."""
        began = time.monotonic()
        self.bare[name].post(commands, self.config.concurrency)
        self.lab.settle(name, SETTLE)
        return time.monotonic() - began

    def _stored(self, commands: Iterator[Command]) -> list[Stored]:
        self._files += 1
        return store(commands, self.home / f"commands{self._files}")

    def _fresh_state(self) -> None:
        for file in self.config.state_dir.glob("*"):
            file.unlink()


def site_commands(samples: Samples, first: int, nodes: int, reports: int) -> Iterator[Command]:
    """Facts, catalog and reports of so many nodes, all of them of the last minutes."""
    now = datetime.now(UTC)
    for number in range(first, first + nodes):
        name = certname(number)
        made: list[tuple[str, dict[str, Any]]] = [
            ("replace facts", samples.facts(name, number, now)),
            ("replace catalog", samples.catalog(name, number, now)),
        ]
        times = (now - timedelta(minutes=age, seconds=number % 60) for age in range(reports))
        made += [("store report", samples.report(name, number, when)) for when in times]
        for command, payload in made:
            yield Command.create(command, payload, now=now)


def summaries(now: float, config: SyncConfig, *, received: bool) -> list[Query]:
    """The questions about one side that a pass cannot do without."""
    oldest = oldest_kept(now, config.report_ttl)
    asked: list[Query] = [("/nodes", query.nodes_summary("any"), {})]
    for kind in PER_NODE:
        assert kind.listing is not None
        asked.append((kind.path, kind.listing, dict(kind.params)))
    asked.append(("/reports", query.report_hour_buckets(from_millis(oldest), None), {}))
    if received:
        since, produced = int((now - 600) * 1000), int(now * 1000) // HOUR * HOUR - HOUR
        asked.append(("/reports", query.reports_received(from_millis(since), from_millis(produced)), {}))
    return asked


def quiet(result: PassResult) -> None:
    """Make sure that a pass was about everything, and found nothing to do."""
    assert result.ok, result
    assert result.entities.keys() == set(Entity), result
    assert not any(part.transferred or part.failed for part in result.entities.values()), result


def both(work: Callable[[str], object]) -> None:
    """For both servers, at once."""
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, name) for name in (THERE, HERE)]:
            done.result()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what came out."""
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result


def spread(seconds: list[float]) -> str:
    """All of them."""
    return " ".join(f"{each:.2f}" for each in seconds)


def tell_table(rows: list[dict[str, Any]]) -> None:
    """The cost by size, for people."""
    columns = (
        "nodes",
        "reports",
        "listings, s",
        "pass, s",
        "ratio",
        "bytes",
        "MB",
        "first pass, s",
        "CPU for 1 %, s",
    )
    tell(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in rows:
        tell(
            f"| {row['nodes']:,} | {row['reports']:,} | {row['bare_s']:.2f} | {row['pass_s']:.2f} "
            f"| {row['ratio']:.2f} | {row['bytes_ratio']:.1%} | {row['memory_mb']:.0f} | {row['first_pass_s']:.1f} "
            f"| {row['cpu_s']:.2f} |"
        )


def tell(text: str) -> None:
    """To people."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
