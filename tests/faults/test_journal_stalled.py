"""A gateway whose journal is frozen, kept by somebody else, or gone: queries go on, and commands are told at once."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.journal.server import DatabaseServer, frozen, running

from .conftest import Site
from .fake import Answer, Request, healthy
from .gateway import GatewayProcess, Told, ask, eventually
from .journal_place import Place, command, holding, reports

BUDGET = 2.0
EXPORTED = json.dumps(["and", ["=", "type", "Notify"], ["=", "exported", True]])
ADDRESSES = {
    "plain": "/pdb/query/v4/nodes",
    "exported": f"/pdb/query/v4/resources?query={quote(EXPORTED)}",
    "metrics": "/pdbclient/v1/metrics",
}
CLIENTS = {"plain": (2, 10), "exported": (6, 3), "metrics": (1, 5), "command": (2, 5)}
"""How many of each kind, and how often each of them asks. More ask for exported resources than there are threads."""
PATIENCE = 60.0
"""Seconds for all of that together. Without limits of its own, each waits as long as the journal is away."""


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running(directory) as started:
            yield started


@pytest.fixture
def place(site: Site, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(site, tmp_path, stack)


class MixedLoad:
    """Clients of all kinds at once: what each was told."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.told: dict[str, list[Told]] = {kind: [] for kind in CLIENTS}
        threads = [
            threading.Thread(target=self._repeat, args=(kind, times))
            for kind, (clients, times) in CLIENTS.items()
            for _ in range(clients)
        ]
        end = time.monotonic() + PATIENCE
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))
        self.all_told = {kind: len(told) for kind, told in self.told.items()} == {
            kind: clients * times for kind, (clients, times) in CLIENTS.items()
        }

    def _repeat(self, kind: str, times: int) -> None:
        gateway, tls = self._place.gateway.port, self._place.site.pki.client
        for number in range(times):
            if kind == "command":
                told = self._place.submit(command("store report", 100 + number), patience=2 * PATIENCE)
            else:
                told = ask(gateway, tls, ADDRESSES[kind], timeout=2 * PATIENCE)
            self.told[kind].append(told)

    def unlike(self, status: int, *kinds: str) -> list[tuple[str, int, bytes]]:
        """What was told otherwise."""
        told = [(kind, each) for kind in kinds for each in self.told[kind]]
        return [(kind, each.status, each.body) for kind, each in told if each.status != status]


@pytest.mark.parametrize("what", ["PostgreSQL stopped", "SQLite kept"])
def test_with_a_stalled_journal_queries_go_on_commands_are_told_and_the_gateway_ends(
    what: str, place: Place, request: pytest.FixtureRequest
) -> None:
    """J2: queries of all kinds hung, each command of a run took 12 s, and SIGTERM was not done in 70 s."""
    stall: Callable[[], AbstractContextManager[object]]
    if what == "SQLite kept":
        process = place.run(stale_exported_budget=BUDGET, gateway_concurrency=4)
        stall = lambda: holding(place.journal)  # noqa: E731
    else:
        server = request.getfixturevalue("server")
        place.journal = server.database()
        process = place.run(stale_exported_budget=BUDGET, gateway_concurrency=4)
        stall = lambda: frozen(server)  # noqa: E731
    assert {place.submit(each).status for each in reports(3)} == {200}
    assert ask(process.port, place.site.pki.client, ADDRESSES["exported"]).headers["X-Pdbclient-Stale"] == "false"
    assert "pdbclient_journal_up 1.0" in metrics(place)
    with stall():
        load = MixedLoad(place)
        assert load.all_told, load.told
        assert load.unlike(200, "plain", "metrics", "exported") == []
        assert {told.headers["X-Pdbclient-Stale"] for told in load.told["exported"]} == {"true"}
        assert load.unlike(503, "command") == []
        assert "pdbclient_journal_up 0.0" in metrics(place)
        assert "pdbclient_journal_entries" in metrics(place), "as they last were"
    assert eventually(lambda: "pdbclient_journal_up 1.0" in metrics(place), 20)
    assert place.submit(command("store report", 10_000)).status == 200
    assert eventually(place.nothing_pending, 20)
    with stall():
        threads = [threading.Thread(target=tried, args=(place, number)) for number in range(20_000, 20_004)]
        for thread in threads:
            thread.start()
        # Two seconds into the stall, which nobody has noticed yet.
        time.sleep(2)
        ended_within(process, 30)
        for thread in threads:
            thread.join()
    assert "Traceback" not in process.text


def test_with_a_stalled_journal_exported_resources_are_refused_where_the_site_says_so(
    place: Place, server: DatabaseServer
) -> None:
    place.journal = server.database()
    process = place.run(stale_exported_budget=BUDGET, stale_exported="fail")
    with frozen(server):
        began = time.monotonic()
        told = ask(process.port, place.site.pki.client, ADDRESSES["exported"])
        assert time.monotonic() - began < BUDGET + 4
    assert told.status == 409
    assert "the journal did not answer within 2.0 s" in told.json["error"]


def test_what_a_gateway_that_ends_could_not_note_is_told(place: Place, server: DatabaseServer) -> None:
    """A command is sent while the journal freezes: that the server took it cannot be noted."""
    place.journal = server.database()
    sent, go = threading.Event(), threading.Event()

    def waits(request: Request) -> Answer:
        if request.is_command:
            sent.set()
            go.wait(20)
        return healthy(request)

    place.site.primary.reply = waits
    process = place.run()
    thread = threading.Thread(target=tried, args=(place, 1))
    thread.start()
    assert sent.wait(10)
    with frozen(server):
        go.set()
        thread.join()
        ended_within(process, 30)
    assert "the journal could not note 1 deliveries, which will be repeated" in process.text


def tried(place: Place, number: int) -> None:
    place.submit(command("store report", number), patience=60)


def metrics(place: Place) -> str:
    return ask(place.gateway.port, place.site.pki.client, ADDRESSES["metrics"]).body.decode()


def ended_within(process: GatewayProcess, seconds: float) -> None:
    process.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.process.wait(seconds) == 0
    print(f"SIGTERM done in {time.monotonic() - began:.1f} s")
