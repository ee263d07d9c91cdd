"""How large a journal becomes: nodes that run every 30 minutes, for two weeks of a clock that this program drives.

Each run is facts, a catalog and a report, taken at once by a server in memory that shows them, as the audit finds;
the journal's own audit, compaction and retention are at work, with the clock in their hands. Judged are the bytes of
all but reports, after each day: flat from the second on. At the end the server is emptied, and recovered from the
journal: it must have all again that is not older than the journal keeps, to the last record.

    python -m tests.bench.retention [--quick] [--nodes N] [--days N] [--dir DIR]

Ends with one JSON line. Exit 1 when the bytes of anything but reports grow by more than a twentieth after the second
day, or something is missing after the recovery.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries, exported_sql, holdings, upkeep
from pdbclient.journal.model import ANY, Copy, CopyState
from pdbclient.journal.work.audit import SETTLING, Audit
from pdbclient.journal.work.recovery import recover
from pdbclient.wire.command import Command
from tests.unit.journal.server import REPORT, FakeServer

START = 1_800_000_000.0
RUN_EVERY = 1800
DAY = 86_400
SIZES = {"replace facts": 600, "replace catalog": 900, REPORT: 300}
URL = "https://puppetdb.example:8081"
MAX_AGE, MAX_BYTES = 14.0 * DAY, 10 * 2**30
GROWTH = 1.05


def text(at: float) -> str:
    """A producer timestamp."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class Indexed(FakeServer):
    """As `FakeServer`, for many more reports: they are found by node and time."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.by_node: dict[str, list[str]] = {}

    def forget(self) -> None:
        super().forget()
        self.by_node.clear()

    def apply(self, command: Command) -> None:
        if command.name == REPORT:
            stamps = self.by_node.setdefault(command.certname, [])
            at = bisect_left(stamps, command.producer_timestamp)
            if stamps[at : at + 1] != [command.producer_timestamp]:
                stamps.insert(at, command.producer_timestamp)
        else:
            super().apply(command)

    def submit(self, command: Command, *, within: float | None = None) -> str:
        self.apply(command)
        return "uuid"

    def records(
        self, path: str, *, query: Any, params: Mapping[str, Any] | None = None, within: float | None = None
    ) -> Iterator[Any]:
        if path != "/reports":
            yield from super().records(path, query=query, params=params, within=within)
            self.queries.clear()
            return
        _, (_, _, (_, certnames)), *conditions = query[2]
        begin, end = (value for op, column, value in conditions if column == "producer_timestamp")
        for certname in certnames:
            stamps = self.by_node.get(certname, [])
            for stamp in stamps[bisect_left(stamps, begin) : bisect_left(stamps, end)]:
                yield {"certname": certname, "producer_timestamp": stamp}


class RetentionSite:
    """A journal in a file, the server, and the time, which stands still but for `later`."""

    def __init__(self, path: Path, nodes: int) -> None:
        self.path, self.nodes, self.now = path, nodes, START
        self.server = Indexed(URL)
        # However slow the machine is, it is not the figure.
        self.journal = Journal.open(str(path), patience=None)
        self.journal.clock = lambda: self.now
        self.journal.run(exported_sql.enrol, [URL])
        self.audit = Audit(self.journal, self.server.session, heal=False, rate=50)

    def runs(self) -> None:
        """Every node runs once, within half an hour."""
        left = []
        for node in range(self.nodes):
            for name, size in SIZES.items():
                made = Command.ready(
                    name, 5, f"node{node}.example", text(self.now), os.urandom(size), "gzip", 2 * size
                )
                left.append((self.journal.append(made, (ANY,)), made))
                self.server.apply(made)
            self.now += RUN_EVERY / self.nodes
            if len(left) > 500:
                self.taken(left)
                left.clear()
        self.taken(left)
        self.now += SETTLING + 1
        while self.journal.run(holdings.unconfirmed, URL, 0, self.now, 1):
            self.audit.round()

    def taken(self, some: list[Any]) -> None:
        copies = [Copy(URL, CopyState.ACCEPTED, "uuid", self.now)]
        futures = [self.journal.start(deliveries.ack, future.result().id, copies) for future, _ in some]
        for future in futures:
            future.result()

    def prune(self) -> None:
        while self.journal.run(upkeep.prune, self.now - MAX_AGE, MAX_BYTES, 500, self.journal.writer, [URL]):
            pass

    def sizes(self) -> tuple[int, int, int]:
        """Entries and bytes of all but reports, and reports."""
        sql = "SELECT name = 'store report', count(*), sum(size) FROM entries GROUP BY 1 ORDER BY 1"
        (_, others, size), (_, reports, _) = self.journal.run(lambda tx: tx.rows(sql))
        return others, size, reports


def measured(site: RetentionSite, days: int) -> list[int]:
    """Bytes of all but reports, after each day."""
    sizes = []
    for day in range(1, days + 1):
        began = time.monotonic()
        for _ in range(DAY // RUN_EVERY):
            site.runs()
        site.prune()
        others, size, reports = site.sizes()
        file = site.path.stat().st_size
        print(
            f"day {day}: {others} catalogs and facts of {size / 1e6:.2f} MB, {reports} reports; the file has "
            f"{file / 1e6:.1f} MB ({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        sizes.append(size)
    return sizes


def rebuilt(site: RetentionSite) -> tuple[int, int]:
    """What an emptied server has again after a recovery, and what it lacks."""
    newest = dict(site.server.newest)
    # What is older than the journal keeps went by its age.
    kept = text(site.now - MAX_AGE)
    reports = {node: {stamp for stamp in some if stamp >= kept} for node, some in site.server.by_node.items()}
    site.server.forget()
    # The pace of a recovery goes by the clock, which stood still until now.
    began, then = time.monotonic(), site.now
    site.journal.clock = lambda: then + time.monotonic() - began
    result = recover(site.journal, site.server.session, rate=1e6)
    print(f"recovery: {result.replayed} replayed, {result.verified} seen there, {result.missing} missing", flush=True)
    missing = sum(site.server.newest.get(key) != stamp for key, stamp in newest.items())
    missing += sum(len(stamps - set(site.server.by_node.get(node, []))) for node, stamps in reports.items())
    return result.verified, missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 nodes, 4 days")
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--dir", type=Path)
    args = parser.parse_args()
    nodes, days = (50, 4) if args.quick else (args.nodes, args.days)
    with tempfile.TemporaryDirectory(dir=args.dir) as directory:
        site = RetentionSite(Path(directory) / "journal.db", nodes)
        try:
            sizes = measured(site, days)
            had, missing = rebuilt(site)
        finally:
            site.journal.close()
    growth = max(sizes[1:]) / sizes[1]
    ok = growth <= GROWTH and not missing
    print(
        json.dumps(
            {
                "bench": "retention",
                "nodes": nodes,
                "days": days,
                "megabytes_without_reports": [round(size / 1e6, 2) for size in sizes],
                "growth_after_second_day": round(growth, 3),
                "recovered": had,
                "missing": missing,
                "ok": ok,
            }
        )
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
