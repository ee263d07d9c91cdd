"""Odd names, values, queries and certificates through the whole client, on a real PuppetDB pair."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from pdbclient import AllEndpointsFailed, Rejected
from pdbclient.errors import InvalidCommand, ServerError
from pdbclient.http.outcome import Kind
from pdbclient.lab import Lab
from pdbclient.wire import InvalidQuery, configure_expiration, deactivate_node

from .client_site import PRIMARY, REPLICA, ClientSite, ago, facts

pytestmark = pytest.mark.integration


@pytest.fixture
def site(pair: Lab) -> Iterator[ClientSite]:
    with ExitStack() as stack:
        yield ClientSite(pair, stack)


NAMES = [
    "a%b",
    "a%41",
    "a%2Fb",
    "a/b",
    "a b",
    " a ",
    "a+b",
    "a&b=c",
    "a?b#c",
    "a;b",
    "a'b\"c",
    "a\\b",
    "..",
    "ä.example",
    "日本語",
    "\U0001f600",
    "UPPER.Example",
    "x" * 300,
]


@pytest.mark.every_server
def test_any_certname_goes_through_the_whole_client(site: ClientSite) -> None:
    client = site.client(command_broadcast=True)
    for name in NAMES:
        client.submit_payload("replace facts", facts(name))
    site.settle()
    for node in (PRIMARY, REPLICA):
        assert site.lab.discarded(node) == ()
    assert {row["certname"] for row in client.query("nodes[certname] {}")} == set(NAMES)
    for name in NAMES:
        (row,) = client.query(["=", "certname", name], path="nodes")
        assert row["certname"] == name
        if name != "..":
            assert client.get(f"nodes/{quote(name, safe='')}").value == row
        client.submit(configure_expiration(name, False, now=ago()))
        client.submit(deactivate_node(name, now=ago()))
    site.settle()
    assert list(client.query("nodes {}")) == []


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (2**70, 2**70),
        (-(2**70), -(2**70)),
        (0.1, 0.1),
        ("é \U0001f600", "é \U0001f600"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        (b"\xff", "\ufffd"),
        ({"k": ["\ud800"]}, {"k": ["\ufffd"]}),
    ],
)
def test_a_value_arrives_as_it_is_or_as_is_said(
    site: ClientSite, caplog: pytest.LogCaptureFixture, value: object, stored: object
) -> None:
    client = site.client()
    with caplog.at_level(logging.WARNING, "pdbclient"):
        done = client.submit_payload("replace facts", facts("a", value))
    assert bool(done.command.warnings) == (value != stored)
    assert ("Lossy encoding" in caplog.text) == (value != stored)
    site.settle()
    (row,) = client.query("facts[value] { name = 'value' }")
    assert row["value"] == stored


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"k\x00": 1}, object()])
def test_a_value_that_cannot_be_held_is_refused_before_anything_is_sent(site: ClientSite, value: object) -> None:
    client = site.behind_proxy()
    with pytest.raises(InvalidCommand, match=r"\$\.values\.value"):
        client.submit_payload("replace facts", facts("a", value))
    assert site.proxy.connections == 0


@pytest.mark.parametrize("certname", ["a\x00b", "a\ud800b", "", None, 7])
def test_a_certname_that_cannot_be_stored_is_refused_before_anything_is_sent(site: ClientSite, certname: Any) -> None:
    client = site.behind_proxy()
    with pytest.raises(InvalidCommand):
        client.submit_payload("replace facts", facts(certname))
    assert site.proxy.connections == 0


@pytest.mark.parametrize(
    "query",
    [
        'nodes { certname = "a\x00b" }',
        ["=", "certname", "a\x00"],
        ["=", "certname", "\ud800"],
        ["=", "certname", math.nan],
        ["=", "certname", math.inf],
        ["=", "certname", b"a"],
        "",
        [],
    ],
)
def test_a_query_that_cannot_be_sent_is_refused_before_anything_is_sent(site: ClientSite, query: Any) -> None:
    client = site.behind_proxy()
    with pytest.raises(InvalidQuery):
        client.query(query, path="nodes")
    assert site.proxy.connections == 0


@pytest.mark.parametrize("query", ["nodes {", ["=", "nonsense", "a"], [">", "facts_timestamp", 2**70]])
def test_a_query_that_the_server_does_not_understand_is_rejected_and_asked_once(site: ClientSite, query: Any) -> None:
    client = site.client()
    with pytest.raises(Rejected) as rejected:
        client.query(query, path="nodes" if isinstance(query, list) else "")
    assert rejected.value.status == 400
    assert len(rejected.value.attempts) == 1
    assert all(health.usable for health in client.health().values())


def test_a_query_that_every_server_chokes_on_does_not_keep_commands_from_them(site: ClientSite) -> None:
    client = site.client()
    for _ in range(4):
        # A number where PostgreSQL has text: a 500 of every server.
        with pytest.raises(ServerError, match="operator does not exist") as told:
            client.query(["=", "certname", 2**70], path="nodes")
        assert [attempt.outcome.status for attempt in told.value.attempts] == [500, 500]
    assert client.submit_payload("replace facts", facts("a")).endpoint == site.primary


def test_a_number_beyond_every_column_is_no_match(site: ClientSite) -> None:
    client = site.client()
    client.submit_payload("replace facts", facts("a", 2**70))
    site.settle()
    assert len(client.query(["=", ["fact", "value"], 2**70], path="nodes")) == 1
    assert len(client.query(["=", ["fact", "value"], 2**71], path="nodes")) == 0


# -- what the fake servers of the fault tests take for granted


@pytest.mark.every_server
def test_a_real_server_answers_as_the_fakes_do(idle: Lab, site: ClientSite) -> None:
    status = site.stock("GET", "/status/v1/services/puppetdb-status").json()
    assert (status["state"], status["status"]["queue_depth"]) == ("running", 0)
    taken = site.stock(
        "POST",
        "/pdb/cmd/v1?command=deactivate_node&version=3&certname=a",
        json={"certname": "a", "producer_timestamp": "2026-01-31T12:00:00.000Z"},
    )
    assert (taken.status_code, list(taken.json())) == (200, ["uuid"])
    assert list(site.stock("GET", "/pdb/meta/v1/version").json()) == ["version"]
    assert site.stock("POST", "/pdb/query/v4", json={"query": "nodes { certname = 'x' }"}).content == b"[]"
    missing = site.stock("GET", "/pdb/query/v4/nodes/x")
    assert (missing.status_code, list(missing.json())) == (404, ["error"])
    nothing = site.stock("GET", "/nonsense/x")
    assert (nothing.status_code, nothing.headers["Content-Type"].partition(";")[0]) == (404, "text/html")
    assert nothing.content.lstrip().startswith(b"<")
    bad = site.stock("POST", "/pdb/cmd/v1?command=nonsense&version=1&certname=a", json={})
    assert (bad.status_code, list(bad.json())) == (400, ["error"])
    total = site.stock("POST", "/pdb/query/v4/nodes", json={"include_total": True, "limit": 1})
    assert total.headers["X-Records"].isdecimal()


def test_a_real_answer_of_some_size_comes_in_chunks_and_gzip_without_a_length(site: ClientSite) -> None:
    client = site.client()
    client.submit_payload("replace catalog", site.samples.catalog("a", 0, ago(1)))
    site.settle()
    answer = site.stock("POST", "/pdb/query/v4/resources", json={}, stream=True)
    with answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in answer.headers
        rows = answer.json()
    assert isinstance(rows, list)
    assert set(rows[0]) >= {"certname", "type", "title", "exported", "parameters", "tags"}


def test_a_certificate_of_a_foreign_ca_is_refused_by_name(site: ClientSite) -> None:
    stranger = replace(site.lab.issue("stranger", ca="foreign"), ca=site.lab.client_tls.ca, crl=None)
    with pytest.raises(AllEndpointsFailed) as failed:
        site.client(tls=stranger).submit_payload("replace facts", facts("a"))
    for attempt in failed.value.attempts:
        assert attempt.outcome.kind is Kind.TLS
        assert str(stranger.cert) in attempt.outcome.detail


def test_an_expired_certificate_of_ours_is_refused_by_name(site: ClientSite) -> None:
    old = replace(site.lab.issue("old-client", days=-1), crl=None)
    with pytest.raises(AllEndpointsFailed) as failed:
        site.client(tls=old).query("nodes {}")
    assert {attempt.outcome.kind for attempt in failed.value.attempts} == {Kind.TLS}


def test_another_ca_than_the_servers_is_named(site: ClientSite) -> None:
    foreign = site.lab.issue("stranger", ca="foreign")
    with pytest.raises(AllEndpointsFailed, match="not accepted") as failed:
        site.client(tls=replace(site.lab.client_tls, ca=foreign.ca, crl=None)).query("nodes {}")
    assert str(foreign.ca) in str(failed.value)
