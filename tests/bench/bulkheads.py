"""What one server's trouble costs the requests that another one answers.

A client has two servers: a fake one that is in trouble, and a real PuppetDB. For each kind of trouble, queries are
held there, as many as it has places for, until the client has met it; then 50 threads ask 200 queries more, which the
real one must answer all. Beside it, in turns, the same load by a client of the real one alone.

    python -m tests.bench.bulkheads [--quick] [--lab DIR]

Ends with one JSON line. Exit 1 when a query failed, or the p99 (median of the rounds) is more than 1.5 times that
without the trouble.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pdbclient import AllEndpointsFailed, Client, PdbError
from pdbclient.config import ClientConfig, Endpoint, load_config
from pdbclient.http.sender import PLACES
from pdbclient.lab import Lab
from tests.bench.load.place import running_lab
from tests.faults.fake import Answer, Fake, Request, healthy
from tests.faults.proxy import BlackHole, Proxy

THREADS, QUERIES = 50, 200
LIMIT = 1.5
SETTLED = 6.0
"""Seconds after which the client has met the trouble: a dead server is known after four."""
NAME = "server-in-trouble.invalid"


class Trouble:
    """A server in trouble, until `over` is set: its address, and what is behind it."""

    def __init__(self, lab: Lab, stack: ExitStack, kind: str) -> None:
        self.over = threading.Event()
        stack.callback(self.over.set)
        server = stack.enter_context(Fake(lab.client_tls, getattr(self, f"_{kind}", healthy)))
        port = server.port
        if kind == "hang":
            proxy = stack.enter_context(Proxy(port))
            port, proxy.fault = proxy.port, BlackHole()
        elif kind == "refuse":
            proxy = stack.enter_context(Proxy(port))
            port = proxy.port
            proxy.refuse()
        self.endpoint = Endpoint(NAME if kind == "slow_dns" else "localhost", port)
        self.held = PLACES if kind in ("hang", "drip", "full_pool") else 1

    def _full_pool(self, request: Request) -> Answer:
        self.over.wait(120)
        return healthy(request)

    def _drip(self, request: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[1"
            while not self.over.wait(0.5):
                yield b",1"

        return Answer(pieces(), close=True)


@contextmanager
def slow_names() -> Iterator[None]:
    """A look-up of `NAME` takes for ever."""
    real, over = socket.getaddrinfo, threading.Event()

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:
        if host == NAME:
            over.wait(300)
        return real(host, *rest, **options)

    socket.getaddrinfo = look_up
    try:
        yield
    finally:
        socket.getaddrinfo = real
        over.set()


def load(client: Client) -> tuple[float, int]:
    """The p99 in seconds of the queries, and how many failed."""

    def ask(_: int) -> float | None:
        began = time.monotonic()
        try:
            client.query(["=", "certname", "none.example"], path="nodes")
        except PdbError as error:
            print(error, file=sys.stderr)
            return None
        return time.monotonic() - began

    with ThreadPoolExecutor(THREADS) as pool:
        taken = list(pool.map(ask, range(QUERIES)))
    good = sorted(seconds for seconds in taken if seconds is not None)
    return (good[int(0.99 * len(good)) - 1] if good else float("inf")), QUERIES - len(good)


def measured(lab: Lab, config: ClientConfig, kind: str, rounds: int) -> Mapping[str, Any]:
    other = replace(config.server_urls[0], order=1)
    with ExitStack() as stack:
        trouble = Trouble(lab, stack, kind)
        alone = stack.enter_context(Client(replace(config, server_urls=(replace(other, order=0),))))
        beside = stack.enter_context(Client(replace(config, server_urls=(trouble.endpoint, other))))
        holders = stack.enter_context(ThreadPoolExecutor(trouble.held))
        stack.callback(trouble.over.set)
        for _ in range(trouble.held):
            holders.submit(_held, beside)
        time.sleep(SETTLED)
        load(alone), load(beside)
        with_it, without, failed = [], [], 0
        for _ in range(rounds):
            p99, errors = load(beside)
            with_it.append(p99)
            failed += errors
            without.append(load(alone)[0])
    p99, base = statistics.median(with_it), statistics.median(without)
    return {
        "p99_ms": round(p99 * 1000, 1),
        "without_ms": round(base * 1000, 1),
        "ratio": round(p99 / base, 2),
        "failed": failed,
    }


def _held(client: Client) -> None:
    try:
        client.query("nodes {}", timeout=120)
    except AllEndpointsFailed as error:
        print(error, file=sys.stderr)


KINDS = ("hang", "drip", "refuse", "slow_dns", "full_pool")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--lab", type=Path, help="a lab that is up, instead of one of its own")
    args = parser.parse_args()
    results: dict[str, Mapping[str, Any]] = {}
    with running_lab(args.lab) as lab, slow_names():
        config = load_config(lab.puppetdb_conf)
        for kind in KINDS:
            results[kind] = measured(lab, config, kind, 5 if args.quick else 15)
            print(kind, results[kind], file=sys.stderr)
    missed = [kind for kind, figures in results.items() if figures["failed"] or figures["ratio"] > LIMIT]
    print(json.dumps({"bench": "bulkheads", **results, "missed": missed, "ok": not missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
