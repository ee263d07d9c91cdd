"""What a gateway's journal that freezes costs: PostgreSQL is stopped by SIGSTOP while clients go on.

Seven clients of one gateway, in front of a PuppetDB that is a fake: two ask plain queries, three ask about exported
resources, one reads the metrics, one submits reports; first with the journal well, then with it frozen, for as long.
Judged are the times of plain queries and metrics at the 99th percentile, frozen by healthy; that queries about
exported resources end within their budget, that commands are refused at once after the first ones, and how long
SIGTERM takes then.

    python -m tests.bench.stalled [--quick]

Ends with one JSON line. Exit 1 when plain queries take more than 1.5 times as long at p99, exported ones more than
their budget and half a second, commands more than 100 ms at p50 once it is known, or SIGTERM more than 30 s.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pdbclient.lab.certificates import CertificateAuthority
from tests.faults.conftest import Pki, Site
from tests.faults.gateway import ask
from tests.faults.journal_place import Place, command, reports
from tests.faults.test_journal_stalled import ADDRESSES
from tests.integration.journal.server import frozen, running

CLIENTS = {"plain": 2, "exported": 3, "metrics": 1, "command": 1}
BUDGET = 2.0
KNOWN = 9.0
"""Seconds after which the first commands have found out."""
PAUSE = 0.1
MOST = 1.5
MOST_SIGTERM = 30.0


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """One answer: `at` seconds after the beginning, in `took` seconds, with this status."""

    at: float
    took: float
    status: int


def load(place: Place, seconds: float) -> dict[str, list[TimedAnswer]]:
    """What each kind of client is told meanwhile."""
    told: dict[str, list[TimedAnswer]] = {kind: [] for kind in CLIENTS}
    began = time.monotonic()

    def repeat(kind: str) -> None:
        number = 100
        while (start := time.monotonic()) < began + seconds:
            if kind == "command":
                number += 1
                status = place.submit(command("store report", number), patience=60).status
            else:
                status = ask(place.gateway.port, place.site.pki.client, ADDRESSES[kind], timeout=60).status
            told[kind].append(TimedAnswer(start - began, time.monotonic() - start, status))
            time.sleep(PAUSE)

    threads = [threading.Thread(target=repeat, args=(kind,)) for kind, many in CLIENTS.items() for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def p99(told: Sequence[TimedAnswer]) -> float:
    took = sorted(each.took for each in told)
    return took[min(int(len(took) * 0.99), len(took) - 1)]


def show(name: str, told: dict[str, list[TimedAnswer]]) -> None:
    for kind, some in told.items():
        statuses = {status: sum(each.status == status for each in some) for status in {each.status for each in some}}
        took = [each.took for each in some]
        print(
            f"{name:8} {kind:9} {len(some):5} answers: p50 {statistics.median(took) * 1000:7.1f} ms, "
            f"p99 {p99(some) * 1000:7.1f} ms, longest {max(took) * 1000:7.1f} ms; {statuses}",
            flush=True,
        )


def measured(directory: Path, stack: ExitStack, seconds: float) -> dict[str, float]:
    server = stack.enter_context(running(directory))
    authority = CertificateAuthority(directory / "own", "ca")
    authority.create()
    pki = Pki(authority, authority, authority.issue("server"), replace(authority.issue("client"), crl=None))
    (directory / "gateway").mkdir()
    place = Place(Site(pki, stack), directory / "gateway", stack)
    place.journal = server.database()
    process = place.run(stale_exported_budget=BUDGET)
    for each in reports(3):
        place.submit(each)
    # Once for nothing: what is made at the first use is made.
    load(place, 2.0)
    healthy = load(place, seconds)
    show("healthy", healthy)
    with frozen(server):
        stalled = load(place, seconds)
        show("frozen", stalled)
        process.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.process.wait(100)
        sigterm = time.monotonic() - began
    late = [each for each in stalled["command"] if each.at >= KNOWN]
    assert {each.status for each in late} == {503}, "commands are refused while nothing can be put on disk"
    assert {each.status for each in stalled["plain"] + stalled["metrics"]} == {200}
    return {
        "plain_p99_healthy_ms": p99(healthy["plain"]) * 1000,
        "plain_p99_frozen_ms": p99(stalled["plain"]) * 1000,
        "metrics_p99_frozen_ms": p99(stalled["metrics"]) * 1000,
        "exported_longest_s": max(each.took for each in stalled["exported"]),
        "command_p50_once_known_ms": statistics.median(each.took for each in late) * 1000,
        "sigterm_s": sigterm,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 s of each, not 120 s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name, ExitStack() as stack:
        Path(name).chmod(0o755)
        figures = measured(Path(name), stack, 20.0 if args.quick else 120.0)
    ok = (
        figures["plain_p99_frozen_ms"] <= MOST * figures["plain_p99_healthy_ms"]
        and figures["exported_longest_s"] <= BUDGET + 0.5
        and figures["command_p50_once_known_ms"] <= 100
        and figures["sigterm_s"] <= MOST_SIGTERM
    )
    print(json.dumps({"bench": "stalled", **{k: round(v, 2) for k, v in figures.items()}, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
