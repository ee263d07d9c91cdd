"""Several clients at once, each a process of its own, so that they share no interpreter lock."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from tests.bench.load.connection import BadAnswer, Connection, Target, client_context
from tests.bench.load.meters import cpu_seconds
from tests.bench.load.traffic import LoadRequest

__all__ = ["Measured", "run_load"]

_START_LIMIT = 60.0
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Measured:
    """What all clients saw together, and CPU milliseconds per request of the clients and of each server."""

    requests: int
    failures: tuple[str, ...]
    per_second: float
    p50_ms: float
    p99_ms: float
    handshakes: int
    resumptions: int
    cpu_ms: Mapping[str, float]

    def figures(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {
            "per_second": self.per_second,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "requests": self.requests,
            "failures": len(self.failures),
            "resumed": round(self.resumptions / max(1, self.handshakes), 2),
            "cpu_ms": dict(self.cpu_ms),
        }


@dataclass(frozen=True, slots=True)
class _Share:
    """What one client reports."""

    seconds: list[float]
    failures: list[str]
    elapsed: float
    handshakes: int
    resumptions: int
    cpu: float


def run_load(
    target: Target, work: Sequence[Sequence[LoadRequest]], seconds: float, servers: Mapping[str, Sequence[int]]
) -> Measured:
    """One client per element of `work` sends its requests in turn for `seconds`, after half a second not counted.

    `servers`: name -> pids whose CPU time is counted, with that of their children.
    """
    clients = []
    ready = _FORK.Barrier(len(work) + 1, timeout=_START_LIMIT)
    for requests in work:
        ours, theirs = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_client, args=(target, requests, seconds, ready, theirs), daemon=True)
        process.start()
        theirs.close()
        clients.append((process, ours))
    try:
        ready.wait()
        before = {name: sum(map(cpu_seconds, pids)) for name, pids in servers.items()}
        shares: list[_Share] = [pipe.recv() for _, pipe in clients]
        after = {name: sum(map(cpu_seconds, pids)) for name, pids in servers.items()}
    finally:
        for process, pipe in clients:
            process.join(5)
            process.kill()
            pipe.close()
    return _sum_up(shares, {name: after[name] - before[name] for name in servers})


def _client(target: Target, requests: Sequence[LoadRequest], seconds: float, ready: Any, report: Pipe) -> None:
    connection = Connection(target, client_context(target.tls))
    taken: list[float] = []
    failures: list[str] = []
    turn, name = 0, f"{os.getpid()}-{time.time_ns() // 1_000_000}"

    def send_until(end: float) -> None:
        nonlocal turn
        while time.perf_counter() < end:
            request = requests[turn % len(requests)].renamed(f"{name}-{turn}.example.com")
            turn += 1
            try:
                answer = connection.ask(request.head, request.body)
            except (BadAnswer, OSError) as error:
                failures.append(str(error))
                time.sleep(0.05)
                continue
            if answer.status == 200:
                taken.append(answer.seconds)
            else:
                failures.append(f"{answer.status} {answer.body[:200]!r}")

    send_until(time.perf_counter() + 0.5)
    ready.wait()
    taken.clear()
    failures.clear()
    connection.handshakes = connection.resumptions = 0
    cpu, start = time.process_time(), time.perf_counter()
    send_until(start + seconds)
    elapsed = time.perf_counter() - start
    cpu = time.process_time() - cpu
    report.send(_Share(taken, failures, elapsed, connection.handshakes, connection.resumptions, cpu))
    connection.close()
    report.close()
    os._exit(0)  # what the parent would do at its end is not ours to do


def _sum_up(shares: Sequence[_Share], spent: Mapping[str, float]) -> Measured:
    taken = sorted(seconds for share in shares for seconds in share.seconds)
    count = len(taken)
    cpu = {"clients": sum(share.cpu for share in shares), **spent}
    percentiles = statistics.quantiles(taken, n=100) if count > 1 else [0.0] * 99
    return Measured(
        requests=count,
        failures=tuple(failure for share in shares for failure in share.failures),
        per_second=round(sum(len(share.seconds) / share.elapsed for share in shares), 1),
        p50_ms=round(1000 * percentiles[49], 2),
        p99_ms=round(1000 * percentiles[98], 2),
        handshakes=sum(share.handshakes for share in shares),
        resumptions=sum(share.resumptions for share in shares),
        cpu_ms={name: round(1000 * seconds / max(1, count), 3) for name, seconds in cpu.items()},
    )
