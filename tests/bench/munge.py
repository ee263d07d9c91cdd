"""Whether the catalog munge is linear: the time per resource at 1,000 and at 10,000 resources.

Each catalog has 2.5 edges for each resource: one of containment, one and a half from relationships, by title, by
alias and with a trailing slash, so that every kind of look-up takes part. A round munges the large catalog once and
the small one ten times, in turns, so that a noisy machine disturbs both alike; figures are medians, and what is
judged is their ratio.

    python -m tests.bench.munge [--quick]

Ends with one JSON line. Exit 1 when the ratio is over its limit of 1.5.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from typing import Any

from pdbclient.terminus.catalog import catalog_payload

LIMIT = 1.5
SMALL, LARGE = 1_000, 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="7 rounds instead of 31")
    rounds = 7 if parser.parse_args().quick else 31
    documents = {size: document(size) for size in (SMALL, LARGE)}
    edges = {size: edge_count(found) for size, found in documents.items()}
    assert edges == {SMALL: 2_500, LARGE: 25_000}, edges
    taken: dict[int, list[float]] = {SMALL: [], LARGE: []}
    for turn in range(rounds):
        for size in (SMALL, LARGE) if turn % 2 else (LARGE, SMALL):
            taken[size].append(1e6 * munge(documents[size], LARGE // size) / LARGE)
    medians = {size: statistics.median(found) for size, found in taken.items()}
    ratio = medians[LARGE] / medians[SMALL]
    figures = {f"us_per_resource_{size}": round(median, 2) for size, median in medians.items()}
    ok = ratio <= LIMIT
    print(
        json.dumps(
            {"bench": "munge", "rounds": rounds, "edges": edges[LARGE], **figures, "ratio": round(ratio, 3), "ok": ok}
        )
    )
    return 0 if ok else 1


def munge(catalog: dict[str, Any], times: int) -> float:
    """Seconds to make `times` payloads of the catalog."""
    gc.collect()
    start = time.perf_counter()
    for _ in range(times):
        payload(catalog)
    return time.perf_counter() - start


def payload(catalog: dict[str, Any]) -> dict[str, Any]:
    return catalog_payload(catalog, producer="primary.example", environment="production")


def edge_count(catalog: dict[str, Any]) -> int:
    return len(payload(catalog)["edges"])


def document(size: int) -> dict[str, Any]:
    """A catalog of `size` resources, as Puppet prints it, of a size and shape that real ones have."""
    resources = [resource(at, size - 2) for at in range(size - 2)]
    main = [{"type": "Stage", "title": "main", "tags": ["stage"], "exported": False, "parameters": {"name": "main"}}]
    main += [{"type": "Class", "title": "main", "tags": ["class"], "exported": False, "parameters": {"name": "main"}}]
    contained = [{"source": "Class[main]", "target": f"{r['type']}[{r['title']}]"} for r in resources]
    return {
        "name": "node1.example",
        "version": 1700000000,
        "environment": "production",
        "catalog_uuid": "99999999-2222-4333-8444-555555555555",
        "resources": [*main, *resources],
        "edges": [{"source": "Stage[main]", "target": "Class[main]"}, *contained],
    }


def resource(at: int, count: int) -> dict[str, Any]:
    """One of `count` resources, every second one a directory. All require the one before, half notify the next."""
    parameters: dict[str, Any] = {"require": reference((at - 1) % count), "tag": ["web", "base", f"n{at % 7}"]}
    if at < count // 2 + 4:
        parameters["notify"] = [reference((at + 1) % count)]
    common = {"tags": ["class", "web", "base"], "file": "/etc/site.pp", "line": at, "exported": False}
    if at % 2:
        parameters |= {"path": f"/srv/{at}", "ensure": "directory", "mode": "0755", "owner": "root"}
        return {"type": "File", "title": f"/srv/{at}/", **common, "kind": "compilable_type", "parameters": parameters}
    parameters |= {"name": f"name {at}", "message": {"text": "x" * 40, "numbers": [1, 2, 3], "secret": secret()}}
    return {"type": "Notify", "title": f"n{at}", **common, "kind": "compilable_type", "parameters": parameters}


def secret() -> dict[str, str]:
    return {"__ptype": "Sensitive", "__pvalue": "hidden"}


def reference(at: int) -> str:
    """By title, by namevar or with slashes that the title does not have."""
    if at % 2:
        return f"File[/srv/{at}{'/' * (at % 3)}]"
    return f"Notify[n{at}]" if at % 4 else f"Notify[name {at}]"


if __name__ == "__main__":
    sys.exit(main())
