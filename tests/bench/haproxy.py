"""The gateway, with its journal, beside haproxy and beside PuppetDB itself, on one real pair.

Latency: one client asks PuppetDB directly, through haproxy and through the gateway, in turns: a catalog of 185 KB and
the collector's query, on a kept connection, and on a new one each time. PuppetDB has processed one before the next is
sent, as where servers keep up. Then (`busy`) catalogs come faster than that, so that all work on the same cores and
the same disk at once: the journal's syncs wait for those of PuppetDB's own PostgreSQL there, as they do at no site
where the two run on machines of their own. That is told, and judged by a gateway without a journal.

Errors: the primary is killed, frozen, without PostgreSQL, or ends its answers in the middle, while clients send facts
and the collector's query through haproxy and through the gateway, both at once. An error is any answer but a whole
200.

    python -m tests.bench.haproxy [--quick] [--only PART] [--lab DIR]

Ends with one JSON line. Exit 1 when, through the gateway, a request failed, or the p50 on a kept connection is more
than 1.25 times haproxy's and more than 5 ms above it (with its journal, but for `busy`).
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pdbclient.lab import Lab
from pdbclient.lab.faults import Action
from pdbclient.lab.samples import Samples
from tests.bench.load.clients import run_load
from tests.bench.load.connection import BadAnswer, Connection, Target, client_context
from tests.bench.load.gateway import running_gateway
from tests.bench.load.haproxy import running_haproxy
from tests.bench.load.place import running_lab, workplace
from tests.bench.load.traffic import LoadRequest, export_query, node_request
from tests.bench.load.turns import in_turns, percentiles
from tests.faults.proxy import Proxy, Truncate

NODES = 32
CLIENTS = 4  # of each side
RATIO, ABOVE_MS = 1.25, 5.0
BEFORE, DURING, AFTER = 3.0, 15.0, 20.0
"""Seconds of a fault: all well, the fault, and until everything is known to be well again."""
HALF = 12_000
"""Bytes of answers after which the primary's connection ends: after the handshake, in the middle of a query's."""
PAUSE = 0.1
PRIMARY = "primary"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 turns instead of 300")
    parser.add_argument("--only", choices=("latency", "errors"), help="this part alone")
    parser.add_argument("--lab", type=Path, help="a lab of two nodes that is up, for this alone")
    args = parser.parse_args()
    with workplace() as home, running_lab(args.lab, 2) as lab:
        bench = HaproxyBench(lab)
        bench.warm_up(8 if args.quick else 15)
        ports = [node.https_port for node in lab.nodes[:2]]
        latency: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        if args.only != "errors":
            with bench.sides(home / "latency", *ports) as sides:
                latency = bench.latency(sides | {"direct": ports[0]}, 60 if args.quick else 300)
        if args.only != "latency":
            with Proxy(ports[0]) as proxy, bench.sides(home / "errors", proxy.port, ports[1]) as sides:
                errors = {name: bench.errors(name, sides, *fault) for name, fault in bench.faults(proxy).items()}
    missed = [case for case, figures in latency.items() if too_slow(case, figures)]
    missed += [f"errors: {name}" for name, figures in errors.items() if figures["gateway"]["errors"]]
    print(
        json.dumps({"bench": "haproxy", "latency_ms": latency, "errors": errors, "missed": missed, "ok": not missed})
    )
    return 1 if missed else 0


def too_slow(case: str, figures: Mapping[str, float]) -> bool:
    """Whether the gateway's p50 is beyond what is allowed beside haproxy's."""
    ours, theirs = figures["no_journal_p50" if case.startswith("busy") else "gateway_p50"], figures["haproxy_p50"]
    return case.endswith("_kept") and ours > max(RATIO * theirs, theirs + ABOVE_MS)


class HaproxyBench:
    """The measurements on one pair."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.samples = Samples(lab.puppetdb_jar)
        self.catalogs = [node_request(self.samples, "catalog", f"node-{n}.example.com") for n in range(NODES)]
        self.query = export_query("collector.example.com")

    def warm_up(self, seconds: float) -> None:
        """JVMs that have met these commands before; both servers have the same to be collected."""
        for node in self.lab.nodes[:2]:
            run_load(Target(node.https_port, self.lab.client_tls), [self.catalogs], seconds, {})
            self.lab.settle(node.name, 300)

    @contextmanager
    def sides(self, home: Path, primary: int, replica: int) -> Iterator[dict[str, int]]:
        """haproxy and two gateways in front of both, with a journal and without: their ports."""
        home.mkdir()
        upstreams = [f"https://localhost:{port}" for port in (primary, replica)]
        with (
            running_haproxy(home / "haproxy", primary, replica, self.lab.client_tls) as haproxy,
            running_gateway(home / "gateway", upstreams, self.lab.client_tls, journal=True) as gateway,
            running_gateway(home / "plain", upstreams, self.lab.client_tls) as plain,
        ):
            yield {"haproxy": haproxy, "gateway": gateway.port, "no_journal": plain.port}

    def latency(self, sides: Mapping[str, int], turns: int) -> dict[str, Any]:
        """p50 and p99 in ms of each side, by case."""
        context = client_context(self.lab.client_tls)
        cases = {}
        # All of a list are sent before PuppetDB is waited for.
        for kind, requests in (
            ("catalog", self.catalogs[:1]),
            ("query", [self.query]),
            ("busy_catalog", self.catalogs),
        ):
            for mode in ("kept", "new"):
                targets = {
                    side: Connection(Target(port, self.lab.client_tls, kept=mode == "kept"), context)
                    for side, port in sides.items()
                }
                taken = in_turns(targets, requests, turns, mode, lambda: self.lab.settle(PRIMARY))
                case = f"{kind}_{mode}"
                cases[case] = {name: round(value, 2) for name, value in percentiles(taken).items()}
                print("latency", case, cases[case], file=sys.stderr, flush=True)
        return cases

    def faults(self, proxy: Proxy) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        """How each begins and ends."""

        def lab(action: Action) -> Callable[[], None]:
            def do() -> None:
                self.lab.fault(PRIMARY, action)

            return do

        def halves(fault: Truncate | None) -> Callable[[], None]:
            return lambda: setattr(proxy, "fault", fault)

        return {
            "killed": (lab("kill"), lab("start")),
            "frozen": (lab("freeze"), lab("thaw")),
            "without PostgreSQL": (lab("stop-postgres"), lab("start-postgres")),
            "half answers": (halves(Truncate(HALF)), halves(None)),
        }

    def errors(
        self, name: str, sides: Mapping[str, int], begin: Callable[[], None], end: Callable[[], None]
    ) -> dict[str, Any]:
        """Requests, errors and the slowest answer in seconds of each side, before, in and after the fault."""
        ports = {side: sides[side] for side in ("haproxy", "gateway")}
        clients = [Client(self, port, number) for port in ports.values() for number in range(CLIENTS)]
        with ThreadPoolExecutor(len(clients)) as pool:
            over = threading.Event()
            running = [pool.submit(client.run, over) for client in clients]
            try:
                time.sleep(BEFORE)
                begin()
                try:
                    time.sleep(DURING)
                finally:
                    end()
                time.sleep(AFTER)
            finally:
                over.set()
            for each in running:
                each.result()
        figures = {
            side: {
                "requests": sum(client.requests for client in clients if client.port == port),
                "errors": sum(len(client.errors) for client in clients if client.port == port),
                "slowest_s": round(max(client.slowest for client in clients if client.port == port), 2),
                "first": [error for client in clients if client.port == port for error in client.errors][:2],
            }
            for side, port in ports.items()
        }
        print("errors", name, figures, file=sys.stderr, flush=True)
        return figures


class Client:
    """Facts of a node of its own and the collector's query, in turn, on a kept connection."""

    def __init__(self, bench: HaproxyBench, port: int, number: int) -> None:
        self.port = port
        self.requests, self.slowest = 0, 0.0
        self.errors: list[str] = []
        self._bench, self._certname = bench, f"client-{port}-{number}.example.com"
        tls = bench.lab.client_tls
        self._connection = Connection(Target(port, tls), client_context(tls))

    def run(self, over: threading.Event) -> None:
        """Until `over`."""
        while not over.wait(PAUSE):
            self._ask(node_request(self._bench.samples, "facts", self._certname))
            self._ask(self._bench.query)
        self._connection.close()

    def _ask(self, request: LoadRequest) -> None:
        began = time.monotonic()
        self.requests += 1
        try:
            answer = self._connection.ask(request.head, request.body)
            json.loads(answer.body)
            if answer.status != 200:
                self.errors.append(f"{answer.status} {answer.body[:200]!r}")
        except (BadAnswer, OSError, ValueError) as error:
            self.errors.append(str(error))
        self.slowest = max(self.slowest, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
