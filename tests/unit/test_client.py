"""The client over fake servers: what a caller gets, and what is logged."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pdbclient.client import Client, Found, QueryResult, Rows, ServerStatus, Submission
from pdbclient.errors import (
    AllEndpointsFailed,
    IncompleteResponse,
    InvalidCommand,
    NotFound,
    Rejected,
)
from pdbclient.http.outcome import Kind, Operation
from pdbclient.http.session import Selection, Session
from pdbclient.http.staleness import Freshness
from pdbclient.wire import Command, InvalidQuery, parse_collector

from .http.fake import Rig, command, selection

FACTS = {"certname": "web1", "environment": "production", "values": {"os": "Debian"}, "producer": None}


def client_of(rig: Rig) -> Client:
    return Client(rig.config, failover=rig.failover)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    with client_of(rig) as client:
        yield client


def kinds(result: Submission | QueryResult | Rows | Found) -> list[Kind]:
    return [attempt.outcome.kind for attempt in result.attempts]


# -- commands


def test_a_submission_says_who_took_it(client: Client, rig: Rig) -> None:
    done = client.submit(command())
    assert (done.endpoint, done.uuid, done.failed_over, done.error) == (rig.endpoint["a"], "uuid-a", False, None)
    assert done.command == command()
    assert dict(done.uuids) == {rig.endpoint["a"]: "uuid-a"}
    assert isinstance(done.uuids, Mapping)
    with pytest.raises(TypeError):
        done.uuids[rig.endpoint["b"]] = "x"  # type: ignore[index]


def test_a_submission_that_failed_over_says_so(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append("timeout")
    first = client.submit(command())
    assert (first.endpoint, first.failed_over, kinds(first)) == (
        rig.endpoint["b"],
        True,
        [Kind.TIMEOUT, Kind.ACCEPTED],
    )
    again = client.submit(command())
    assert (again.failed_over, kinds(again)) == (True, [Kind.SKIPPED, Kind.ACCEPTED])


def test_a_payload_is_checked_stamped_and_encoded_once(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append("reset")
    done = client.submit_payload("replace facts", FACTS, producer_timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    assert done.command.producer_timestamp == "2026-01-02T00:00:00.000Z"
    assert rig.session["a"].commands == rig.session["b"].commands == [done.command]
    assert json.loads(done.command.body)["values"] == {"os": "Debian"}


def test_a_payload_of_bytes_is_sent_as_it_is(client: Client) -> None:
    body = json.dumps(FACTS | {"producer_timestamp": "2026-01-02T00:00:00Z", "values": {"x": 1.0}}, indent=3).encode()
    assert client.submit_payload("replace facts", body).command.body == body


def test_a_bad_payload_is_never_sent(client: Client, rig: Rig) -> None:
    with pytest.raises(InvalidCommand, match=r"\$\.values"):
        client.submit_payload("replace facts", FACTS | {"values": 5})
    assert rig.asked == []


def test_a_command_without_a_stamp_gets_the_present_time(client: Client) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    stamp = datetime.fromisoformat(client.submit_payload("replace facts", FACTS).command.producer_timestamp)
    assert before <= stamp <= datetime.now(UTC)


@pytest.mark.parametrize(("length", "encoding"), [(15, "identity"), (16, "gzip"), (17, "gzip")])
def test_bodies_from_gzip_min_bytes_on_are_compressed(length: int, encoding: str) -> None:
    rig = Rig(gzip_min_bytes=16)
    body = b"x" * length
    client = client_of(rig)
    done = client.submit(command(body=body))
    (sent,) = rig.session["a"].commands
    assert (sent.encoding, sent.length) == (encoding, length)
    assert (gzip.decompress(sent.body) if encoding == "gzip" else sent.body) == body
    assert done.command.body == body, "the caller's own command comes back"


def test_every_server_gets_the_same_compressed_bytes() -> None:
    rig = Rig(gzip_min_bytes=0)
    rig.session["a"].replies.append("500")
    client_of(rig).submit(command(body=b"y" * 1000))
    assert rig.session["a"].commands[0].body is rig.session["b"].commands[0].body


def test_what_encoding_lost_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.submit_payload("replace facts", FACTS | {"values": {"bad": "nul\0"}})
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pdbclient", "WARNING")
    assert record.getMessage().startswith("Lossy encoding of a 'replace facts' command for host 'web1'")


def test_percent_signs_in_a_warning_are_no_format(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    client.submit(Command("replace facts", 5, "a%sb", "2026-01-01T00:00:00.000Z", b"{}", warnings=("100 %s %d",)))
    assert caplog.messages == ["100 %s %d"]


def test_when_every_server_is_down_the_caller_knows(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append("refused")
    rig.session["b"].replies.append("refused")
    with pytest.raises(AllEndpointsFailed, match="'replace facts' for 'node1'"):
        client.submit(command())


def test_soft_write_failure_logs_and_returns_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(soft_write_failure=True)
    rig.session["a"].replies.append("refused")
    rig.session["b"].replies.append("500")
    caplog.set_level(logging.ERROR)
    done = client_of(rig).submit(command())
    assert (done.endpoint, done.uuid, dict(done.uuids)) == (None, None, {})
    assert done.failed_over
    assert kinds(done) == [Kind.NOT_SENT, Kind.SERVER_ERROR]
    assert isinstance(done.error, AllEndpointsFailed)
    (record,) = caplog.records
    assert "the command is lost" in record.getMessage()
    assert "https://a:8081: not sent" in record.getMessage()


def test_soft_write_failure_does_not_hide_a_bad_command() -> None:
    rig = Rig(soft_write_failure=True)
    rig.session["a"].replies.append("400")
    with pytest.raises(Rejected):
        client_of(rig).submit(command())


# -- queries


def test_a_result_is_a_sequence_that_knows_its_server(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection({"n": 1}, {"n": 2}, X_Records="7"))
    result = client.query("nodes {}", include_total=True)
    assert list(result) == [{"n": 1}, {"n": 2}] == list(result.rows)
    assert (len(result), result[-1], result[:1], {"n": 2} in result) == (2, {"n": 2}, ({"n": 1},), True)
    assert (result.total, result.endpoint, result.failed_over) == (7, rig.endpoint["a"], False)
    assert result.freshness == Freshness()
    assert kinds(result) == [Kind.ACCEPTED]


def test_an_empty_result_is_a_result(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection())
    result = client.query("nodes {}")
    assert (len(result), result.total, list(result)) == (0, None, [])


def test_a_total_that_is_no_number_is_a_broken_answer(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection(1, X_Records="many"))
    rig.session["b"].replies.append(selection(1, X_Records="1"))
    result = client.query("nodes {}", include_total=True)
    assert (result.total, kinds(result)) == (1, [Kind.INCOMPLETE, Kind.ACCEPTED])


def test_a_broken_answer_goes_to_the_next_server(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection(1, 2, then=IncompleteResponse("https://a:8081", "broke off", 2)))
    rig.session["b"].replies.append(selection(1, 2, 3))
    result = client.query("nodes {}")
    assert (list(result), result.failed_over, kinds(result)) == ([1, 2, 3], True, [Kind.INCOMPLETE, Kind.ACCEPTED])


def asked_with(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Catches what a query asks the first server for."""
    seen = SimpleNamespace()

    def select(path: str, **options: Any) -> Selection:
        seen.__dict__.update(options, path=path)
        return Selection({}, iter(()))

    monkeypatch.setattr(rig.session["a"], "select", select)
    return seen


def test_paging_and_further_parameters_reach_the_server(
    client: Client, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asked_with(rig, monkeypatch)
    order = [{"field": "certname", "order": "desc"}]
    client.query(["=", "certname", "a"], path="/nodes/", limit=0, offset=5, order_by=order, include_total=True, x=1)
    assert seen.path == "/nodes"
    assert seen.query == ["=", "certname", "a"]
    assert seen.params == {"limit": 0, "offset": 5, "order_by": order, "include_total": True, "x": 1}
    client.query("nodes {}")
    assert (seen.path, seen.params, seen.within) == ("", {}, 294)
    client.query(path="nodes", timeout=99)
    assert (seen.path, seen.query, seen.within) == ("/nodes", None, 93)


def test_an_exported_resources_query_goes_to_resources(
    client: Client, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asked_with(rig, monkeypatch)
    client.exported_resources("sshkey", parse_collector("tag == 'x'"), for_certname="web1")
    assert seen.path == "/resources"
    assert ["=", "type", "Sshkey"] in seen.query
    assert "web1" in str(seen.query)


@pytest.mark.parametrize("query", [None, "", "  ", [], [1], {"a": 1}])
def test_a_query_that_is_none_is_never_sent(client: Client, rig: Rig, query: Any) -> None:
    with pytest.raises(InvalidQuery):
        client.query(query)
    with pytest.raises(InvalidQuery):
        client.stream(query)
    assert rig.asked == []


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf"), object(), b"bytes", "nul\0", "\\\0"])
def test_a_query_that_json_cannot_hold_is_never_sent_and_blames_no_server(value: Any) -> None:
    """The real session writes the query; no connection is made, so no server is needed."""
    rig = Rig()
    real = object.__new__(Session)
    real._url = "https://a:8081"
    rig.session["a"].select = lambda path, **options: real.select(path, **options)  # type: ignore[method-assign]
    for ask in (client_of(rig).query, client_of(rig).stream):
        with pytest.raises(InvalidQuery, match=r"cannot be written as JSON|U\+0000"):
            ask(["=", "certname", value])
        with pytest.raises(InvalidQuery, match=r"cannot be written as JSON|U\+0000"):
            ask("nodes {}", extra=value)
    assert rig.session["b"].within == []
    assert rig.registry.usable(rig.endpoint["a"], Operation.QUERY)


# -- one thing


def test_a_thing_is_found_where_it_is(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append("refused")
    rig.session["b"].replies.append(lambda: {"certname": "web1"})
    found = client.get("/nodes/web1")
    assert (found.value, found.endpoint, found.failed_over) == ({"certname": "web1"}, rig.endpoint["b"], True)
    assert kinds(found) == [Kind.NOT_SENT, Kind.ACCEPTED]


def test_not_found_tells_who_could_not_be_asked(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append("refused")
    rig.session["b"].replies.append("404 json")
    with pytest.raises(NotFound) as caught:
        client.get("nodes/web1")
    assert [attempt.outcome.kind for attempt in caught.value.attempts] == [Kind.NOT_SENT, Kind.NOT_FOUND]
    assert caught.value.endpoint == "https://b:8081"


def test_the_path_of_a_thing_is_used_as_it_is(client: Client, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []

    def document(path: str, *, within: float) -> SimpleNamespace:
        paths.append(path)
        return SimpleNamespace(value=1)

    monkeypatch.setattr(rig.session["a"], "document", document)
    client.get("/factsets/a%2Fb/")
    assert paths == ["/pdb/query/v4/factsets/a%2Fb"]


# -- the servers


def test_status_asks_every_server(rig: Rig) -> None:
    rig = Rig("ab", "s")
    rig.session["b"].status = "refused"
    with client_of(rig) as client:
        a, b, s = client.status()
    assert a == ServerStatus(rig.endpoint["a"], "running", "8.9.0", None, None)
    assert (b.endpoint, b.state, b.version) == (rig.endpoint["b"], "unreachable", None)
    assert b.error is not None
    assert "Connection refused" in b.error
    assert s.endpoint == rig.endpoint["s"]


@pytest.mark.parametrize(
    ("status", "state", "depth"),
    [
        ({"state": "running", "status": {"queue_depth": 7}}, "running", 7),
        ({"state": "starting", "status": None}, "starting", None),
        ({"state": "running", "status": "?"}, "running", None),
        ({}, "unknown", None),
        ([], "unknown", None),
        (None, "unknown", None),
    ],
)
def test_any_json_may_come_for_a_status(
    client: Client, rig: Rig, monkeypatch: pytest.MonkeyPatch, status: Any, state: str, depth: int | None
) -> None:
    def document(path: str, *, within: float) -> SimpleNamespace:
        return SimpleNamespace(value=status)

    monkeypatch.setattr(rig.session["a"], "document", document)
    first = client.status()[0]
    assert (first.state, first.queue_depth, first.version, first.error) == (state, depth, None, None)


def test_a_client_says_who_would_be_asked_and_what_it_remembers(client: Client, rig: Rig) -> None:
    a, b = rig.endpoint["a"], rig.endpoint["b"]
    assert client.next_in_line(Operation.COMMAND) == (a, b)
    rig.session["a"].replies.append("refused")
    client.submit(command())
    assert client.next_in_line(Operation.COMMAND) == client.next_in_line(Operation.QUERY) == (b,)
    assert not client.health()[a, Operation.COMMAND].usable
    rig.session["a"].replies.append("refused")
    rig.session["b"].replies.append("refused")
    with pytest.raises(AllEndpointsFailed):
        client.query("nodes {}")
    assert client.next_in_line(Operation.COMMAND) == (a, b), "when all are out, all in order"


def test_a_client_is_a_context_manager_that_closes_its_sessions() -> None:
    rig = Rig()
    with client_of(rig) as client:
        assert client.config is rig.config
    assert all(session.closed for session in rig.session.values())


def test_an_error_inside_the_context_comes_out_of_it() -> None:
    rig = Rig()
    with pytest.raises(KeyError), client_of(rig):
        raise KeyError
    assert rig.session["a"].closed


# -- what a caller gives


NO_TIMEOUTS = [float("inf"), float("-inf"), float("nan"), 0, 0.0, -1, 1e9, 10**400, True, "5"]


@pytest.mark.parametrize("timeout", NO_TIMEOUTS, ids=lambda each: f"{each!r:.20}")
def test_what_is_no_time_is_no_timeout(client: Client, timeout: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.query("nodes {}", timeout=timeout),
        lambda: client.stream("nodes {}", timeout=timeout),
        lambda: client.get("nodes/a", timeout=timeout),
        lambda: client.exported_resources("File", for_certname="a", timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
            call()


@pytest.mark.parametrize("timeout", [0.001, 1, 86400])
def test_a_time_up_to_a_day_is_a_timeout(client: Client, timeout: float) -> None:
    assert client.query("nodes {}", timeout=timeout).failed_over is False


@pytest.mark.parametrize("path", ["nodes/\ud800", "\udfff", "nodes/a?x=\ud800"])
def test_an_address_that_is_no_text_is_no_query(client: Client, path: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.get(path),
        lambda: client.query(["=", "a", "b"], path=path),
        lambda: client.stream(path=path),
    ]
    for call in calls:
        with pytest.raises(InvalidQuery, match="address"):
            call()
