"""The client on a real PuppetDB pair: what it submits is stored, what it asks is answered as the stock query is."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from pdbclient import AllEndpointsFailed, NotFound, Rejected
from pdbclient.config import Endpoint
from pdbclient.http.outcome import Kind, Operation
from pdbclient.lab import Lab
from pdbclient.wire import Command, deactivate_node, parse_collector

from .client_site import PRIMARY, REPLICA, ClientSite, Json, ago, facts

pytestmark = pytest.mark.integration


@pytest.fixture
def site(pair: Lab) -> Iterator[ClientSite]:
    with ExitStack() as stack:
        yield ClientSite(pair, stack)


# -- commands


@pytest.mark.every_server
def test_each_of_the_six_commands_is_taken_by_the_primary_alone_and_stored(site: ClientSite) -> None:
    stamp = ago(5)
    catalog = site.samples.catalog("a.example", 1, stamp)
    payloads: dict[str, Json] = {
        "replace facts": site.samples.facts("a.example", 1, stamp),
        "replace catalog": catalog,
        "store report": site.samples.report("a.example", 1, stamp, transaction_uuid=catalog["transaction_uuid"]),
        "replace catalog inputs": {
            "certname": "a.example",
            "catalog_uuid": catalog["catalog_uuid"],
            "inputs": [["hiera", "profile::web"]],
        },
        "configure expiration": {"certname": "a.example", "expire": {"facts": False}},
        "deactivate node": {"certname": "b.example"},
    }
    client = site.client()
    for name, payload in payloads.items():
        done = client.submit_payload(name, payload)
        assert (done.endpoint, done.failed_over, len(done.attempts)) == (site.primary, False, 1)
        assert done.uuid
    site.settle()
    assert site.lab.discarded(PRIMARY) == ()
    rows = {entity: client.query(f"{entity} {{ certname = 'a.example' }}") for entity in ("factsets", "catalogs")}
    assert [row["producer_timestamp"] for row in rows["factsets"]] == [
        payloads["replace facts"]["producer_timestamp"]
    ]
    assert [len(row["resources"]["data"]) for row in rows["catalogs"]] == [len(catalog["resources"])]
    assert client.query("reports[transaction_uuid] { certname = 'a.example' }")[0] == {
        "transaction_uuid": catalog["transaction_uuid"]
    }
    (inputs,) = client.query(["=", "certname", "a.example"], path="catalog-inputs")
    assert inputs["inputs"] == [["hiera", "profile::web"]]
    (node,) = client.query(["=", "certname", "a.example"], path="nodes", include_facts_expiration=True)
    assert node["expires_facts"] is False
    (gone,) = client.query(["and", ["=", "certname", "b.example"], ["=", "node_state", "any"]], path="nodes")
    assert gone["deactivated"] is not None
    assert site.count(REPLICA) == 0


@pytest.mark.parametrize("gzip_min_bytes", [1, 10**9], ids=["gzip", "plain"])
def test_a_large_command_is_stored_whole_compressed_or_not(site: ClientSite, gzip_min_bytes: int) -> None:
    client = site.client(gzip_min_bytes=gzip_min_bytes)
    client.submit_payload("replace catalog", site.samples.catalog("a", 0, ago(1)))
    site.settle()
    assert client.query("resources[count()] { }")[0]["count"] > 100


def test_a_body_that_is_json_already_is_stored_without_a_changed_number(site: ClientSite) -> None:
    body = json.dumps(facts("a", {"big": 2**70, "tiny": 1e-7})).encode()
    client = site.client()
    client.submit_payload("replace facts", body)
    site.settle()
    (row,) = client.query("facts[value] { name = 'value' }")
    assert row["value"] == {"big": 2**70, "tiny": 1e-7}


def test_a_broadcast_reaches_both_servers(site: ClientSite) -> None:
    client = site.client(command_broadcast=True, min_successful_submissions=2)
    done = client.submit_payload("replace facts", facts("a"))
    assert set(done.uuids) == {site.primary, site.replica}
    assert not done.failed_over
    site.settle()
    for name in (PRIMARY, REPLICA):
        stamp = "to_char(producer_timestamp at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        assert site.lab.sql(name, f"select {stamp} from factsets") == [(done.command.producer_timestamp,)]


def test_a_broadcast_below_its_minimum_is_an_error_though_one_server_has_it(site: ClientSite) -> None:
    site.proxy.refuse()
    client = site.behind_proxy(command_broadcast=True, min_successful_submissions=2)
    with pytest.raises(AllEndpointsFailed, match="1 of the 2") as failed:
        client.submit_payload("replace facts", facts("a"))
    assert [attempt.outcome.kind for attempt in failed.value.attempts] == [Kind.NOT_SENT, Kind.ACCEPTED]
    site.settle()
    assert (site.count(PRIMARY), site.count(REPLICA)) == (0, 1)
    done = site.behind_proxy(command_broadcast=True).submit_payload("replace facts", facts("b"))
    assert (set(done.uuids), done.failed_over) == ({site.replica}, True)


def test_an_outage_is_swallowed_and_logged_with_soft_write_failure_a_rejection_is_not(
    site: ClientSite, caplog: pytest.LogCaptureFixture
) -> None:
    site.proxy.refuse()
    endpoint = Endpoint("localhost", site.proxy.port)
    client = site.client(server_urls=(endpoint,), soft_write_failure=True)
    with caplog.at_level(logging.ERROR, "pdbclient"):
        done = client.submit_payload("replace facts", facts("a"))
    assert done.uuid is None
    assert done.error is not None
    assert "the command is lost" in caplog.text
    retired = Command.ready("replace facts", 1, "a", "2026-01-31T12:00:00.000Z", b"{}")
    with pytest.raises(Rejected, match="retired") as rejected:
        site.client(soft_write_failure=True).submit(retired)
    assert [attempt.outcome.kind for attempt in rejected.value.attempts] == [Kind.REJECTED]


def test_a_submit_only_server_is_the_last_resort_for_commands_and_never_asked(site: ClientSite) -> None:
    main = Endpoint("localhost", site.proxy.port)
    last = replace(site.replica, order=1, submit_only=True)
    client = site.client(server_urls=(main,), submit_only_server_urls=(last,))
    client.submit_payload("replace facts", facts("a"))
    site.proxy.refuse()
    done = client.submit_payload("replace facts", facts("b"))
    assert (done.endpoint, done.failed_over) == (last, True)
    for _ in range(3):
        with pytest.raises(AllEndpointsFailed) as failed:
            client.query("nodes {}")
        assert {attempt.endpoint for attempt in failed.value.attempts} == {main}
    site.settle()
    assert (site.count(PRIMARY), site.count(REPLICA)) == (1, 1)


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.1)


def test_reads_stay_where_they_failed_over_to_only_if_they_are_sticky(site: ClientSite) -> None:
    sticky, loose = site.behind_proxy(sticky_read_failover=True), site.behind_proxy()
    primary = Endpoint("localhost", site.proxy.port)
    site.proxy.refuse()
    for client in (sticky, loose):
        assert client.query("nodes {}").endpoint == site.replica
    site.proxy.accept()
    for client in (sticky, loose):
        until(lambda client=client: client.health()[primary, Operation.QUERY].usable)  # type: ignore[misc]
    assert sticky.query("nodes {}").endpoint == site.replica
    assert loose.query("nodes {}").endpoint == primary


def test_a_failed_over_write_does_not_move_sticky_reads(site: ClientSite) -> None:
    client = site.behind_proxy(sticky_read_failover=True)
    primary = Endpoint("localhost", site.proxy.port)
    client.query("nodes {}")
    site.proxy.refuse()
    client.submit(deactivate_node("a", now=ago()))
    site.proxy.accept()
    until(lambda: client.health()[primary, Operation.QUERY].usable)
    assert client.query("nodes {}").endpoint == primary


# -- queries


@pytest.mark.every_server
def test_pql_and_ast_give_the_same_rows_with_paging_order_and_total(site: ClientSite) -> None:
    client = site.client()
    for n in range(25):
        client.submit_payload("replace facts", facts(f"node{n:02}", n))
    site.settle()
    order = [{"field": "certname", "order": "desc"}]
    names = [f"node{n:02}" for n in range(24, -1, -1)]
    whole = client.query(["extract", "certname"], path="nodes", order_by=order)
    assert [row["certname"] for row in whole] == names
    assert (whole.total, whole.endpoint, whole.failed_over, len(whole.attempts)) == (None, site.primary, False, 1)
    assert list(client.query("nodes[certname] { order by certname desc }")) == list(whole)
    assert list(client.query(["from", "nodes", ["extract", "certname"]], order_by=order)) == list(whole)
    pages: list[Any] = []
    for offset in range(0, 25, 10):
        page = client.query(
            ["extract", "certname"], path="nodes", order_by=order, limit=10, offset=offset, include_total=True
        )
        assert page.total == 25
        pages += page
    assert pages == list(whole)
    assert client.query(path="nodes", order_by=order, limit=1)[0]["certname"] == "node24"
    with client.stream("nodes[certname] { order by certname desc }") as rows:
        assert list(rows) == list(whole)
    assert rows.endpoint == site.primary


@pytest.mark.every_server
def test_something_asked_for_by_its_address_is_given_or_not_found(site: ClientSite) -> None:
    client = site.client()
    client.submit_payload("replace facts", facts("a.example"))
    site.settle()
    assert client.get("nodes/a.example").value["certname"] == "a.example"
    for path in ("nodes/b.example", "factsets/b.example", "catalogs/a.example"):
        with pytest.raises(NotFound, match="No information is known") as missing:
            client.get(path)
        assert [attempt.outcome.kind for attempt in missing.value.attempts] == [Kind.NOT_FOUND]
        assert missing.value.endpoint == site.primary.url


@pytest.mark.parametrize(
    ("text", "stock"),
    [
        (None, None),
        ("tag == 'Known_Hosts'", ["=", "tag", "known_hosts"]),
        ("title != 'node2'", ["not", ["=", "title", "node2"]]),
        (
            "type == 'ssh-ed25519' and tag == 'sshkey'",
            ["and", ["=", ["parameter", "type"], "ssh-ed25519"], ["=", "tag", "sshkey"]],
        ),
        ("title == 'node1' or title == 'node3'", ["or", ["=", "title", "node1"], ["=", "title", "node3"]]),
        ("tag == 'nowhere'", ["=", "tag", "nowhere"]),
    ],
)
def test_exported_resources_are_those_of_the_stock_query(
    site: ClientSite, text: str | None, stock: list[Any] | None
) -> None:
    client = site.client()
    for n in range(4):
        client.submit_payload("replace catalog", site.samples.catalog(f"node{n}", n, ago(n)))
    site.settle()
    query = ["and", ["=", "type", "Sshkey"], ["=", "exported", True], ["not", ["=", "certname", "node0"]]]
    told = site.stock(
        "GET", f"/pdb/query/v4/resources?query={quote(json.dumps([*query, stock] if stock else query))}"
    )
    found = client.exported_resources("sshkey", text and parse_collector(text), for_certname="node0")

    def by_title(row: Json) -> str:
        return str(row["title"])

    assert sorted(found, key=by_title) == sorted(told.json(), key=by_title)
    assert bool(found) == (text != "tag == 'nowhere'")
    assert not found.freshness.stale


@pytest.mark.every_server
def test_the_status_of_both_servers_is_given(idle: Lab, site: ClientSite) -> None:
    site.proxy.refuse()
    first, second = site.behind_proxy().status()
    assert (first.state, first.version) == ("unreachable", None)
    assert "refused" in str(first.error)
    assert (second.state, second.queue_depth, second.error) == ("running", 0, None)
    assert second.version
