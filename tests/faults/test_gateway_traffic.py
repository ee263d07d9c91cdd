"""What the gateway counts of real requests: how each ended, where and after what; failovers; a reload keeps it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pdbclient.config.model import ClientConfig
from pdbclient.gateway.upstream import HELD
from pdbclient.http.session import Session
from pdbclient.journal.work.service import Service
from pdbclient.observe.traffic import JOURNAL, Ending, Kind, TrafficSnapshot

from .conftest import Site
from .fake import Answer, Request, answer, chunked, healthy
from .gateway import FACTS_URL, GatewayThread, ask, connected, eventually, gateway_config, submit

NODES = "/pdb/query/v4/nodes"
EXPORTED = f"/pdb/query/v4/resources?query={quote(json.dumps(['=', 'exported', True]))}"
JSON = {"Content-Type": "application/json"}
DOWN = answer(b"maintenance", 503, Retry_After="60")
Start = Callable[..., GatewayThread]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(**changes: Any) -> GatewayThread:
            return stack.enter_context(GatewayThread(config(site, **changes)))

        yield run


def config(site: Site, **changes: Any) -> ClientConfig:
    return gateway_config(site.config(), site.pki.server, **changes)


def urls(gateway: GatewayThread) -> tuple[str, str]:
    primary, replica = (server.url for server in gateway.config.server_urls)
    return primary, replica


def counted(gateway: GatewayThread) -> TrafficSnapshot:
    """What is counted once nothing is under way any more: a request ends a moment after its answer."""
    assert eventually(lambda: not sum(gateway.traffic.snapshot().in_flight.values()))
    return gateway.traffic.snapshot()


def test_each_request_counts_once_with_its_kind_its_server_and_its_ending(site: Site, start: Start) -> None:
    gateway = start()
    primary, _ = urls(gateway)
    assert submit(gateway.port, site.pki.client).status == 200
    for target in (NODES, NODES, EXPORTED):
        assert ask(gateway.port, site.pki.client, target).status == 200
    posted = json.dumps({"query": ["=", "exported", True]}).encode()
    assert ask(gateway.port, site.pki.client, "/pdb/query/v4/resources", "POST", posted, JSON).status == 200
    assert (
        ask(gateway.port, site.pki.client, FACTS_URL, "POST", b"{}", JSON | {"Content-Encoding": "br"}).status >= 400
    )
    assert ask(gateway.port, site.pki.client, "/pdb/admin/v1/summary-stats").status == 404
    snapshot = counted(gateway)
    assert snapshot.requests == {
        (Kind.COMMAND, primary, Ending.ANSWERED): 1,
        (Kind.QUERY, primary, Ending.ANSWERED): 2,
        (Kind.EXPORTED, primary, Ending.ANSWERED): 2,
        (Kind.COMMAND, "", Ending.REFUSED): 1,
        (Kind.QUERY, "", Ending.REFUSED): 1,
    }
    assert snapshot.latencies[Kind.QUERY].number == 3
    assert 0 < snapshot.latencies[Kind.QUERY].seconds < 20
    assert snapshot.failed_attempts == snapshot.switches == {}


def test_a_failover_counts_with_what_was_met_and_the_circuit_says_it_too(site: Site, start: Start) -> None:
    gateway = start()
    primary, replica = urls(gateway)
    site.primary.reply = DOWN
    for _ in range(3):
        assert ask(gateway.port, site.pki.client, NODES).status == 200
    snapshot = counted(gateway)
    assert snapshot.requests == {(Kind.QUERY, replica, Ending.ANSWERED): 3}
    assert snapshot.failed_attempts == {(primary, Kind.QUERY, "busy"): 1}, "it is left out after the first"
    (failover,) = snapshot.failovers
    assert (failover.kind, failover.source, failover.target) == (Kind.QUERY, primary, replica)
    assert "503" in failover.why
    circuits = {(each.server, each.operation): each for each in snapshot.circuits}
    assert not circuits[primary, "query"].healthy
    assert "busy" in circuits[primary, "query"].why
    assert circuits[replica, "query"].healthy


@pytest.mark.parametrize(
    ("replies", "target", "status", "server", "ending"),
    [
        ((answer({"error": "bad"}, 400),) * 2, NODES, 400, "primary", Ending.REJECTED),
        ((answer(b"oops", 500),) * 2, NODES, 500, "primary", Ending.SERVER_ERROR),
        ((DOWN, DOWN), NODES, 503, "", Ending.UNAVAILABLE),
        ((DOWN, DOWN), FACTS_URL, 503, "", Ending.UNAVAILABLE),
    ],
)
def test_what_nobody_did_is_told_from_what_a_server_rejected(
    site: Site, start: Start, replies: tuple[Answer, Answer], target: str, status: int, server: str, ending: Ending
) -> None:
    gateway = start()
    site.primary.reply, site.replica.reply = replies
    if target == FACTS_URL:
        assert submit(gateway.port, site.pki.client).status == status
    else:
        assert ask(gateway.port, site.pki.client, target).status == status
    ((_, at, found),) = counted(gateway).requests
    assert found is ending
    assert at in (urls(gateway) if server else ("",))
    assert counted(gateway).failovers == ()


def test_an_answer_that_breaks_off_and_a_client_that_leaves_are_no_answers(site: Site, start: Start) -> None:
    gateway = start()
    primary, _ = urls(gateway)
    row = b'{"certname": "node.example"}, '
    site.primary.reply = chunked([b"[" + row * (2 * HELD // len(row))], end=False)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(gateway.port, site.pki.client, NODES)
    assert counted(gateway).requests == {(Kind.QUERY, primary, Ending.CUT_OFF): 1}

    release = threading.Event()

    def slow(request: Request) -> Answer:
        release.wait(10)
        return healthy(request)

    site.primary.reply = slow
    try:
        with connected(gateway.port, site.pki.client) as connection:
            connection.sendall(f"GET {NODES} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert eventually(lambda: gateway.traffic.snapshot().in_flight[Kind.QUERY] == 1)
            oldest = gateway.traffic.snapshot().oldest
            assert oldest is not None
        left = (Kind.QUERY, "", Ending.CLIENT_LEFT)
        assert eventually(lambda: gateway.traffic.snapshot().requests.get(left) == 1)
    finally:
        release.set()


def test_posted_queries_about_exported_resources_take_no_place_from_others(
    site: Site, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, answer = threading.Event(), Service.answer

    def slow(self: Service, session: Session, within: float, ask: Any) -> Any:
        over.wait(10)
        return answer(self, session, within, ask)

    monkeypatch.setattr(Service, "answer", slow)
    gateway = start(journal=str(tmp_path / "journal"), gateway_concurrency=1)
    posted = json.dumps({"query": ["=", "exported", True]}).encode()
    with ThreadPoolExecutor(3) as pool:
        try:
            asked = [
                pool.submit(ask, gateway.port, site.pki.client, "/pdb/query/v4/resources", "POST", posted, JSON)
                for _ in range(3)
            ]
            assert eventually(lambda: gateway.traffic.snapshot().in_flight[Kind.EXPORTED] == 3)
            assert ask(gateway.port, site.pki.client, NODES).status == 200
        finally:
            over.set()
        assert {each.result().status for each in asked} == {200}
    assert gateway.places_taken == 0


def test_who_may_not_come_in_is_refused_and_the_metrics_are_no_query(site: Site, start: Start) -> None:
    gateway = start(gateway_allow=("another",))
    assert ask(gateway.port, site.pki.client, NODES).status == 403
    assert counted(gateway).requests == {(Kind.QUERY, "", Ending.REFUSED): 1}
    gateway = start()
    told = ask(gateway.port, site.pki.client, "/pdbclient/v1/metrics")
    assert b"pdbclient_gateway_requests_in_flight" in told.body
    assert counted(gateway).requests == {(Kind.OWN, "", Ending.ANSWERED): 1}


def test_a_reload_keeps_what_was_counted_and_begins_anew_with_other_servers(site: Site, start: Start) -> None:
    gateway = start()
    primary, replica = urls(gateway)
    site.primary.reply = DOWN
    assert ask(gateway.port, site.pki.client, NODES).status == 200
    before = gateway.config
    gateway.reload(config(site, gateway_url=before.gateway_url, gateway_concurrency=8))
    assert ask(gateway.port, site.pki.client, NODES).status == 200
    snapshot = counted(gateway)
    assert snapshot.requests == {(Kind.QUERY, replica, Ending.ANSWERED): 2}
    unhealthy = [(each.server, each.operation) for each in snapshot.circuits if not each.healthy]
    assert unhealthy == [(primary, "query")]
    assert len(snapshot.failovers) == 1
    only = site.config(site.replica.port)
    gateway.reload(gateway_config(only, site.pki.server, gateway_url=before.gateway_url))
    assert ask(gateway.port, site.pki.client, NODES).status == 200
    snapshot = counted(gateway)
    assert {(each.server, each.healthy) for each in snapshot.circuits} == {(replica, True)}
    assert snapshot.requests == {(Kind.QUERY, replica, Ending.ANSWERED): 3}
    assert len(snapshot.failovers) == 1


def test_commands_that_only_the_journal_took_count_as_that_and_are_a_failover(
    site: Site, start: Start, tmp_path: Path
) -> None:
    gateway = start(journal=str(tmp_path / "journal"))
    primary, _ = urls(gateway)
    site.primary.reply = site.replica.reply = DOWN
    for number in range(2):
        assert submit(gateway.port, site.pki.client, f"node{number}").status == 200
    snapshot = counted(gateway)
    assert snapshot.requests == {(Kind.COMMAND, "", Ending.JOURNALLED): 2}
    assert [(each.source, each.target) for each in snapshot.failovers] == [(primary, JOURNAL)]

    def metrics_now() -> str:
        return ask(gateway.port, site.pki.client, "/pdbclient/v1/metrics").body.decode()

    # What is in the journal is told as it was last counted.
    assert eventually(lambda: 'pdbclient_journal_entries{state="pending"} 2.0' in metrics_now(), 60)
    metrics = metrics_now()
    assert f'pdbclient_gateway_failovers_total{{from="{primary}",kind="command",to="journal"}} 1.0' in metrics
    assert "pdbclient_journal_only_total 2.0" in metrics
    assert 'pdbclient_journal_entries{state="parked"} 0.0' in metrics
