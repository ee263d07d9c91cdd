"""What a reconciler does over a long way: its remote is behind a link of 150 ms (round trip) and 10 Mbit/s.

Two PuppetDBs of the lab. Each figure comes with the bytes that passed, the requests to the remote, and the share of
the link that was used while it lasted.

Converged: a pass that finds both sides equal, filled by SQL, beside the same pass without the link.

Changed: 100 nodes have new facts and a new catalog at the remote, and there are 200 new reports. The pass that brings
them, beside the time that the PuppetDB here takes for as many of the same kind posted by a bare loop from disk.

Seeding: an empty server is filled from the other, beside the same without the link.

Fetching: what seeding gets over the link, when a server here takes all at once; and over a link of the same rate
without its round trip. The quotient of their times is judged: the link is to be the limit (or the server there, which
shares this machine's cores), and not the round trip.

    python -m tests.bench.far [--quick] [--only fetching] [--lab DIR]

Ends with one JSON line. Exit 1 when fetching is less than 0.8 times as fast as without the round trip. `--lab` is a
lab of two nodes, which is emptied.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pdbclient.config.model import Endpoint, Remote
from pdbclient.http.session import Session
from pdbclient.sync import EntityResult, Mode, PassResult, Reconciler
from pdbclient.sync.inventory.capabilities import PassServer
from pdbclient.sync.inventory.interfaces import Clock, Server
from pdbclient.sync.inventory.kinds import CATALOGS, FACTS
from pdbclient.sync.policy.classify import Nodes
from pdbclient.sync.run.context import Context, enter
from pdbclient.sync.run.events import SyncLog
from pdbclient.sync.run.pull import pull
from pdbclient.sync.run.records import plan_kind
from pdbclient.sync.run.seed import seed
from pdbclient.sync.state.store import State
from tests.bench.load.far import FarAway, far_away
from tests.bench.load.place import running_lab, workplace
from tests.bench.sync import CHANGED_NODES, HERE, REPORTS_EACH, THERE, SyncBench, quiet, site_commands, tell, timed

ROUND_TRIP, RATE = 0.15, 10_000_000 / 8
LEAST = 0.8
AGAIN = 4
"""How often the same records are fetched: to begin with, new connections take some round trips."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer nodes")
    parser.add_argument("--only", choices=["fetching"], help="this part alone")
    parser.add_argument("--lab", type=Path, help="a lab of two nodes that is up, instead of one of its own")
    args = parser.parse_args()
    nodes, seeded = (2_000, 150) if args.quick else (10_000, 300)
    with running_lab(args.lab, 2) as lab, workplace() as home:
        url = urlsplit(lab.node(THERE).url)
        port = cast(int, url.port)
        with far_away(port, ROUND_TRIP, RATE) as link, far_away(port, 0.0, RATE) as no_way:
            far = Far(SyncBench(lab, home), link, no_way)
            report = far.fetched(seeded) if args.only else far.run(nodes, seeded)
    missed = [f"fetching {name}" for name, each in report["fetching"].items() if each["ratio"] < LEAST]
    print(json.dumps({"bench": "far", **report, "missed": missed, "ok": not missed}))
    return 1 if missed else 0


class Requests:
    """A session that counts what it is asked."""

    def __init__(self, session: Session, counted: list[str]) -> None:
        self._session, self._counted = session, counted

    def rows(self, path: str, **options: Any) -> Iterator[bytes]:
        self._counted.append(path)
        return self._session.rows(path, **options)

    def document(self, path: str, **options: Any) -> Any:
        self._counted.append(path)
        return self._session.document(path, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class TakesAtOnce:
    """A local server of which nothing is slow: what it is sent is gone."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.taken = 0

    def submit(self, *_: object, **__: object) -> str:
        self.taken += 1
        return ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class Far:
    """The local server's reconciler, with its remote near by and far away."""

    def __init__(self, bench: SyncBench, link: FarAway, no_way: FarAway) -> None:
        self.bench = bench
        self.links = {"far": link, "no_way": no_way}
        self.requests: list[str] = []
        self.go("far")

    def go(self, way: str) -> None:
        """Over this one of the links from now on."""
        self.link = self.links[way]
        self.remote = Endpoint("localhost", self.link.port)
        self.config = replace(self.bench.config, remotes=(Remote(self.remote, 60.0),))

    def run(self, nodes: int, seeded: int) -> dict[str, Any]:
        self.bench.empty()
        self.bench.grow(nodes, 80)
        report = {"converged": self.converged(), "changed": self.changed()}
        return report | self.fetched(seeded) | self.seeding(seeded)

    def connect(self, endpoint: Endpoint) -> Server:
        session = Session(endpoint, self.config.tls, self.config.timeouts)
        return cast(Server, Requests(session, self.requests) if endpoint == self.remote else session)

    def measured(self, work: Callable[[], object]) -> dict[str, Any]:
        self.requests.clear()
        before = self.link.passed()
        seconds, _ = timed(work)
        after = self.link.passed()
        to, back = after[0] - before[0], after[1] - before[1]
        return {
            "seconds": round(seconds, 2),
            "requests": len(self.requests),
            "bytes_to": to,
            "bytes_back": back,
            "share": round(back / seconds / self.link.rate, 3),
        }

    def far_pass(self, mode: Mode | None = None) -> PassResult:
        with Reconciler(self.config, mode, connect=self.connect) as reconciler:
            result = reconciler.run_once(self.remote)
        assert result.ok, result
        return result

    def converged(self) -> dict[str, Any]:
        first = self.measured(lambda: quiet(self.far_pass(Mode(audit=True))))
        found = self.measured(lambda: quiet(self.far_pass())) | {"audit": first}
        self.bench._pass(Mode(audit=True))
        found["near_seconds"] = round(timed(self.bench._pass)[0], 2)
        tell(f"converged: {found}")
        return found

    def changed(self) -> dict[str, Any]:
        bench = self.bench
        there, here = bench._changes(0), bench._changes(1)
        bench._ingest(THERE, there)
        bench.lab.sql(THERE, "analyze", superuser=True)
        results: list[PassResult] = []
        found = self.measured(lambda: results.append(self.far_pass()))
        moved = sum(part.transferred for part in results[0].entities.values())
        assert moved == (2 + REPORTS_EACH) * CHANGED_NODES, results
        found["ingest_s"] = round(bench._ingest(HERE, here), 2)
        tell(f"changed: {found}")
        return found

    def fetched(self, nodes: int) -> dict[str, Any]:
        bench = self.bench
        bench.empty()
        bench._ingest(THERE, bench._stored(site_commands(bench.samples, 1, nodes, REPORTS_EACH)))
        return {"fetching": {str(kind.entity): self.fetching(kind) for kind in (FACTS, CATALOGS)}}

    def seeding(self, nodes: int) -> dict[str, Any]:
        """Of what `fetched` has left there."""
        bench, commands = self.bench, (2 + REPORTS_EACH) * nodes

        def far_seed() -> None:
            for result in seed(self.config, self.remote, Mode(seed=True), connect=self.connect):
                assert result.ok, result
                break

        found = self.measured(far_seed) | {"commands": commands}
        bench.lab.empty(HERE)
        bench._fresh_state()
        found["near_seconds"] = round(bench._seed(commands), 2)
        tell(f"seeding: {found}")
        return {"seeding": found}

    def fetching(self, kind: Any) -> dict[str, Any]:
        """Records over the link, and over one without the round trip."""
        found = {}
        for way in ("no_way", "far"):
            self.go(way)
            found[way] = self.over_the_link(kind)
        figures = {**found["far"], "without_round_trip": found["no_way"]["seconds"]}
        figures["ratio"] = round(figures["without_round_trip"] / figures["seconds"], 2)
        tell(f"fetching {kind.entity}: {figures}")
        return figures

    def over_the_link(self, kind: Any) -> dict[str, Any]:
        """Records, without anybody who stores them."""
        here = TakesAtOnce(Session(self.config.local, self.config.tls, self.config.timeouts))
        clock = Clock()
        with (
            closing(State(self.bench.home / f"fetching-{kind.entity}.sqlite")) as state,
            closing(PassServer(self.connect(self.remote))) as there,
            closing(PassServer(cast(Server, here))) as local,
        ):
            log = SyncLog(self.remote.url)
            context: Context = enter(self.config, Mode(seed=True), there, local, state, clock, log, lambda *_: None)
            plan = plan_kind(context, kind, Nodes({}, {}), context.budget())

            def fetch() -> None:
                for _ in range(AGAIN):
                    pull(context, kind, plan, EntityResult(), context.budget())

            found = self.measured(fetch)
        assert here.taken == AGAIN * len(plan.pull), f"{here.taken} of {len(plan.pull)}"
        return found | {"records": here.taken}


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    tell(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
