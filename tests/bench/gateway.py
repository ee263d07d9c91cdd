"""What the gateway adds to an answer's time, how much it takes, and whether it grows.

Latency: one client asks the same real PuppetDB directly and through a gateway, in turns; each for a catalog plain and
gzip, and for the collector's query; on a kept connection, and on a new one each time, with the TLS session resumed.

Throughput: 16 clients, as processes of their own. One PuppetDB cannot take several times what it takes, so behind the
gateway stands nginx, which reads every command and accepts it (`ceiling`: what the same clients reach without the
gateway). PuppetDB accepts while it processes, as always; it is frozen while the gateway has its turn, so that its
backlog takes no time from the gateway. Clients, gateway, and what is behind it share one machine's cores.

Growth: the gateway's memory and descriptors at rest, between slices of all these kinds of load.

    python -m tests.bench.gateway [--quick] [--only PART] [--lab DIR]

A lab that is given must be for this alone: it gets some thousands of commands. Ends with one JSON line. Exit 1 when a
figure is missed: 5 times PuppetDB's throughput on kept connections, 2 times on new ones, no failure, no growth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from tests.bench.load.clients import run_load
from tests.bench.load.connection import Connection, Target, client_context
from tests.bench.load.gateway import RunningGateway, running_gateway
from tests.bench.load.meters import Holding, holding
from tests.bench.load.place import running_lab, workplace
from tests.bench.load.traffic import CATALOGS, LoadRequest, export_query, node_request
from tests.bench.load.turns import in_turns, percentiles
from tests.bench.load.upstream import Upstream, fast_upstream

CLIENTS = 16
NODES = 8  # of each client
LIMITS = {"kept": 5.0, "new": 2.0, "new_full": 2.0}
PARTS = ("latency", "throughput", "growth")
SPARE = 1.2  # how much more than the figure the clients must reach without the gateway
MEMORY_GROWTH = 1.05
DESCRIPTOR_GROWTH = 8  # connections to the upstream come and go

Work = Sequence[Sequence[LoadRequest]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything: turns, seconds."""

    turns: int
    warm_up: float
    rounds: int
    slice: float
    soak: float
    soak_slice: float


FULL = Sizes(turns=1000, warm_up=15, rounds=5, slice=5, soak=600, soak_slice=10)
QUICK = Sizes(turns=60, warm_up=8, rounds=3, slice=1.5, soak=30, soak_slice=0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few minutes instead of half an hour")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument("--lab", type=Path, help="a lab that is up, instead of one of its own")
    args = parser.parse_args()
    sizes = QUICK if args.quick else FULL
    with workplace() as home, running_lab(args.lab) as lab:
        bench = GatewayBench(lab, sizes)
        bench.warm_up()
        results: dict[str, Any] = {}
        missed: list[str] = []
        if args.only in (None, "latency"):
            with running_gateway(home / "gateway", [lab.nodes[0].url], lab.client_tls) as gateway:
                results["latency_ms"] = bench.latency(gateway)
        with (
            fast_upstream(home / "nginx", lab.certificate(lab.nodes[0].name)) as upstream,
            running_gateway(home / "fast-gateway", [upstream.url], lab.client_tls) as gateway,
        ):
            missed += [f"upstream {what}" for what in bench.differences(upstream)]
            if args.only in (None, "throughput"):
                results["throughput"] = cases = bench.throughput(gateway, upstream)
                missed += [f"{case} {what}" for case, figures in cases.items() for what in missed_by(case, figures)]
            if args.only in (None, "growth"):
                results["growth"] = growth = bench.growth(gateway)
                missed += grown(growth)
    print(json.dumps({"bench": "gateway", "clients": CLIENTS, **results, "missed": missed, "ok": not missed}))
    return 1 if missed else 0


class GatewayBench:
    """The measurements on one lab."""

    def __init__(self, lab: Lab, sizes: Sizes) -> None:
        self.lab, self.sizes = lab, sizes
        self.node = lab.nodes[0]
        samples = Samples(lab.puppetdb_jar)
        self.work: dict[str, Work] = {
            kind: [
                [node_request(samples, kind, f"node-{client}-{n}.example.com") for n in range(NODES)]
                for client in range(CLIENTS)
            ]
            for kind in CATALOGS
        }
        self.query = export_query("collector.example.com")

    def target(self, port: int, mode: str) -> Target:
        """`mode`: one of `LIMITS`."""
        return Target(port, self.lab.client_tls, kept=mode == "kept", resumed=mode != "new_full")

    def warm_up(self) -> None:
        """A PuppetDB whose JVM has met these commands before; what they export is there to be collected."""
        for kind in CATALOGS:
            run_load(self.target(self.node.https_port, "kept"), self.work[kind], self.sizes.warm_up, {})
        self.lab.settle(self.node.name, 300)

    def latency(self, gateway: RunningGateway) -> dict[str, Any]:
        """Direct and through the gateway in turns; `added` is the median of the pairs' differences."""
        cases: dict[str, Sequence[LoadRequest]] = {kind: self.work[kind][0] for kind in CATALOGS}
        cases["query"] = [self.query]
        return {
            f"{kind}_{mode}": self._compared(gateway, mode, requests)
            for kind, requests in cases.items()
            for mode in ("kept", "new")
        }

    def _connection(self, target: Target) -> Connection:
        return Connection(target, client_context(target.tls))

    def _compared(self, gateway: RunningGateway, mode: str, requests: Sequence[LoadRequest]) -> dict[str, float]:
        sides = {
            "direct": self._connection(self.target(self.node.https_port, mode)),
            "gateway": self._connection(self.target(gateway.port, mode)),
        }
        taken = in_turns(sides, requests, self.sizes.turns, mode, lambda: self.lab.settle(self.node.name))
        figures = percentiles(taken)
        pairs = zip(taken["direct"], taken["gateway"], strict=True)
        figures["added_p50"] = statistics.median(through - direct for direct, through in pairs)
        figures["added_p99"] = figures["gateway_p99"] - figures["direct_p99"]
        rounded = {name: round(value, 2) for name, value in figures.items()}
        print("latency", mode, f"{len(requests[0].body)} bytes", rounded, file=sys.stderr, flush=True)
        return rounded

    def differences(self, upstream: Upstream) -> list[str]:
        """What a client of PuppetDB sees, and one of `upstream` does not."""
        request = self.work["catalog"][0][0]
        real, fast = (
            self._connection(self.target(port, "kept")).ask(request.head, request.body)
            for port in (self.node.https_port, upstream.port)
        )
        found = [f"lacks the header {name}" for name in sorted(real.headers.keys() - fast.headers.keys())]
        if (real.status, real.headers["content-type"]) != (fast.status, fast.headers["content-type"]):
            found.append(f"answers {fast.status} {fast.headers['content-type']}")
        shapes = [{k: len(v) for k, v in json.loads(answer.body).items()} for answer in (real, fast)]
        if shapes[0] != shapes[1]:
            found.append(f"answers {fast.body!r} for {real.body!r}")
        return found

    def throughput(self, gateway: RunningGateway, upstream: Upstream) -> dict[str, Any]:
        """Commands accepted per second: PuppetDB, the gateway, and the clients' ceiling, slice by slice."""
        return {
            f"{kind}_{mode}": self._accepted(gateway, upstream, kind, mode) for mode in LIMITS for kind in CATALOGS
        }

    def _accepted(self, gateway: RunningGateway, upstream: Upstream, kind: str, mode: str) -> dict[str, Any]:
        pids = [self.lab.pid(self.node.name, server) for server in ("puppetdb", "postgres")]
        sides: dict[str, tuple[int, Mapping[str, Sequence[int]]]] = {
            "puppetdb": (self.node.https_port, {"server": [pid for pid in pids if pid is not None]}),
            "gateway": (gateway.port, {"server": [gateway.pid], "behind": [upstream.pid]}),
            "ceiling": (upstream.port, {"server": [upstream.pid]}),
        }
        rates: dict[str, list[float]] = {side: [] for side in sides}
        figures: dict[str, Any] = {"failures": []}
        for _ in range(self.sizes.rounds):
            for side, (port, servers) in sides.items():
                with self._frozen(side != "puppetdb"):
                    load = run_load(self.target(port, mode), self.work[kind], self.sizes.slice, servers)
                rates[side].append(load.per_second)
                figures["failures"] += load.failures[:3]
                figures[side] = load.figures()
        for side, taken in rates.items():
            figures[side]["per_second"] = round(statistics.median(taken), 1)
        for name, side in (("ratio", "gateway"), ("ceiling_ratio", "ceiling")):
            ratios = (rate / base for rate, base in zip(rates[side], rates["puppetdb"], strict=True))
            figures[name] = round(statistics.median(ratios), 2)
        print(kind, mode, figures, file=sys.stderr, flush=True)
        return figures

    @contextmanager
    def _frozen(self, frozen: bool) -> Iterator[None]:
        if frozen:
            self.lab.fault(self.node.name, "freeze")
        try:
            yield
        finally:
            if frozen:
                self.lab.fault(self.node.name, "thaw")

    def growth(self, gateway: RunningGateway) -> dict[str, Any]:
        """What the gateway holds at rest, after the first cycle of loads and at the end."""
        queries: Work = [[self.query]] * CLIENTS
        cycle = [
            ("kept", self.work["catalog"]),
            ("new", self.work["catalog_gzip"]),
            ("kept", queries),
            ("new", queries),
        ]
        seen: list[Holding] = []
        requests = 0
        failures: list[str] = []
        with self._frozen(True):
            end = time.monotonic() + self.sizes.soak + len(cycle) * self.sizes.soak_slice
            while time.monotonic() < end:
                for mode, work in cycle:
                    load = run_load(self.target(gateway.port, mode), work, self.sizes.soak_slice, {})
                    requests += load.requests
                    failures += load.failures[:3]
                time.sleep(1)
                seen.append(holding(gateway.pid))
        settled = seen[1:]
        quarter = max(1, len(settled) // 4)
        figures = {
            "seconds": self.sizes.soak,
            "requests": requests,
            "failures": failures,
            "memory_mb": [one.memory_mb for one in settled],
            "descriptors": [one.descriptors for one in settled],
            "memory_ratio": round(
                statistics.median(one.memory_mb for one in settled[-quarter:])
                / statistics.median(one.memory_mb for one in settled[:quarter]),
                3,
            ),
            "descriptors_more": max(one.descriptors for one in settled[-quarter:])
            - max(one.descriptors for one in settled[:quarter]),
        }
        print("growth", figures, file=sys.stderr, flush=True)
        return figures


def missed_by(case: str, figures: Mapping[str, Any]) -> list[str]:
    """What a case of throughput misses."""
    limit = next(limit for mode, limit in LIMITS.items() if case.endswith(f"_{mode}"))
    missed = []
    if figures["ratio"] < limit:
        missed.append(f"ratio {figures['ratio']} < {limit}")
    if figures["ceiling_ratio"] < limit * SPARE:
        missed.append(f"the clients alone reach no more than {figures['ceiling_ratio']}")
    if figures["failures"]:
        missed.append("failures")
    return missed


def grown(figures: Mapping[str, Any]) -> list[str]:
    """What the gateway has more of than it should."""
    missed = []
    if figures["memory_ratio"] > MEMORY_GROWTH:
        missed.append(f"memory grew {figures['memory_ratio']} times")
    if figures["descriptors_more"] > DESCRIPTOR_GROWTH:
        missed.append(f"{figures['descriptors_more']} more descriptors")
    if figures["failures"]:
        missed.append("growth failures")
    return missed


if __name__ == "__main__":
    sys.exit(main())
