"""What `Client.submit` costs beside bare requests that post the same bytes, on a real PuppetDB.

Like against like: both plain, or both gzip (each compresses the body itself). The two sides take turns within one
run, so that a noisy machine disturbs both alike; figures are medians, and what is judged are their ratios.

    python -m tests.bench.submit [--quick] [--lab DIR]

Ends with one JSON line. Exit 1 when a ratio is over its limit: 1.25 with a ready body, 2 from a dict.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from pdbclient import Client, Command, load_config
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from tests.bench.load.place import running_lab

LIMITS = {"ready": 1.25, "dict": 2.0}
SIZE = 185_000
GZIP_LEVEL = 1  # what Command.gzipped takes
WARM_UP = 20

Post = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 submissions a side and case instead of 300")
    parser.add_argument("--lab", type=Path, help="a lab that is up, instead of one of its own")
    args = parser.parse_args()
    rounds = 60 if args.quick else 300
    with running_lab(args.lab) as lab:
        results = {
            f"{source}{'_gzip' if zipped else ''}": compare(lab, rounds, source, zipped)
            for zipped in (False, True)
            for source in LIMITS
        }
    missed = [
        f"{case} {measure}"
        for case, figures in results.items()
        for measure in ("cpu_ratio", "wall_ratio")
        if figures[measure] > LIMITS[case.removesuffix("_gzip")]
    ]
    for case, figures in results.items():
        print(case, figures, file=sys.stderr)
    print(json.dumps({"bench": "submit", "rounds": rounds, **results, "missed": missed, "ok": not missed}))
    return 1 if missed else 0


def compare(lab: Lab, rounds: int, source: str, zipped: bool) -> dict[str, Any]:
    """Medians in ms and their ratios for one case; `source` is what `Client` gets: a ready body or a dict."""
    config = load_config(lab.puppetdb_conf)
    config = replace(config, gzip_min_bytes=1 if zipped else sys.maxsize)
    samples: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
    with Client(config) as client, requests.Session() as session:
        session.trust_env = False
        session.verify = str(config.tls.ca)
        session.cert = (str(config.tls.cert), str(config.tls.key))
        url = f"{config.server_urls[0].url}/pdb/cmd/v1"
        for turn in range(WARM_UP + rounds):
            pair: list[tuple[str, Post]] = [
                ("bare", bare(session, url, catalog(lab, f"bare-{turn:04}"), zipped)),
                ("ours", ours(client, catalog(lab, f"ours-{turn:04}"), source)),
            ]
            for side, post in pair if turn % 2 else reversed(pair):
                measured = timed(post)
                if turn >= WARM_UP:
                    samples[side].append(measured)
            if turn % 20 == 0:
                lab.settle(lab.nodes[0].name)
    figures: dict[str, Any] = {}
    for at, measure in enumerate(("cpu", "wall")):
        medians = {side: 1000 * statistics.median(sample[at] for sample in taken) for side, taken in samples.items()}
        figures |= {f"{measure}_ms_{side}": round(median, 3) for side, median in medians.items()}
        figures[f"{measure}_ratio"] = round(medians["ours"] / medians["bare"], 3)
    return figures


def bare(session: requests.Session, url: str, payload: dict[str, Any], zipped: bool) -> Post:
    """Bare requests with the bytes and parameters that `Client` would send."""
    command = Command.create("replace catalog", payload, now=datetime.now(UTC))
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/json; charset=utf-8",
        "X-Uncompressed-Length": str(command.length),
    }
    if zipped:
        headers["Content-Encoding"] = "gzip"

    def post() -> None:
        body = gzip.compress(command.body, GZIP_LEVEL, mtime=0) if zipped else command.body
        response = session.post(url, params=command.params(), data=body, headers=headers, timeout=(3, 10))
        response.raise_for_status()
        assert response.json()["uuid"]

    return post


def ours(client: Client, payload: dict[str, Any], source: str) -> Post:
    """The same through `Client`: from a command made before, or from the dict with checks and encoding."""
    if source == "dict":
        return lambda: client.submit_payload("replace catalog", payload)
    command = Command.create("replace catalog", payload, now=datetime.now(UTC))
    return lambda: client.submit(command)


def catalog(lab: Lab, certname: str) -> dict[str, Any]:
    """A sample catalog of PuppetDB's jar, cut to about `SIZE` bytes of JSON."""
    payload = Samples(lab.puppetdb_jar).catalog(certname, 0, datetime.now(UTC))
    while len(json.dumps(payload, separators=(",", ":"))) > SIZE:
        payload["edges"] = payload["edges"][:-20]
    return payload


def timed(post: Post) -> tuple[float, float]:
    """CPU seconds of this process and wall seconds that `post` takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    post()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    sys.exit(main())
