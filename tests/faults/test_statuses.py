"""What an HTTP status does: whose fault it is, who is asked next, and when the server is asked again."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pdbclient import AllEndpointsFailed, Client, NotFound, Rejected
from pdbclient.config.model import Timeouts
from pdbclient.http.breaker import Health
from pdbclient.http.outcome import Kind, Operation

from .conftest import Site, catalog, deactivation
from .fake import Answer, Request, answer, healthy

HTML_404 = answer(b"<html><body><h2>Error 404 Not Found</h2></body></html>", 404, Content_Type="text/html")


def primary_health(client: Client, operation: Operation = Operation.COMMAND) -> Health:
    return client.health()[client.config.server_urls[0], operation]


@pytest.mark.parametrize("status", [400, 406, 409, 411, 413, 415, 422, 431])
def test_a_command_called_bad_is_reported_and_not_failed_over(site: Site, status: int) -> None:
    site.primary.reply = answer({"error": "the payload has no certname"}, status)
    client = site.client()
    with pytest.raises(Rejected, match="the payload has no certname") as rejected:
        client.submit(deactivation())
    assert rejected.value.status == status
    assert [attempt.outcome.kind for attempt in rejected.value.attempts] == [Kind.REJECTED]
    assert site.replica.commands == []
    assert all(health == Health() for health in client.health().values())
    site.primary.reply = healthy
    assert client.submit(deactivation(1)).endpoint == client.config.server_urls[0]


@pytest.mark.parametrize("status", [500, 503, 404, 400])
def test_an_error_is_not_waited_for_to_explain_itself(site: Site, status: int, took: Callable[[], float]) -> None:
    """The replica was asked after nearly all the time of a query."""
    over = threading.Event()

    def stalled(request: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nContent-Length: 100\r\n\r\n{" % status
            over.wait(20)

        return Answer(pieces(), close=True) if request.is_query else healthy(request)

    site.primary.reply = stalled
    client = site.client(timeouts=Timeouts(query=15.0))
    took()
    try:
        if status in (500, 503):
            assert client.query("nodes {}").attempts[0].outcome.status == status
        else:
            with pytest.raises((NotFound, Rejected)) as told:
                client.query("nodes {}")
            assert told.value.status == status
            assert dict(told.value.headers)["Content-Type"].startswith("text/plain")
            assert b"did not come" in told.value.body or status == 404
        assert took() < 2.5
    finally:
        over.set()


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_long_error_comes_whole(site: Site, size: int) -> None:
    said = {"error": "x" * size}
    site.primary.reply = answer(said, 400)
    with pytest.raises(Rejected) as told:
        site.client().query("nodes {}")
    assert json.loads(told.value.body) == said
    assert told.value.headers["Content-Type"] == "application/json"


def test_an_error_that_is_too_long_is_not_cut_and_called_json(site: Site) -> None:
    site.primary.reply = answer({"error": "x" * 5_000_000}, 400)
    with pytest.raises(Rejected) as told:
        site.client().query("nodes {}")
    assert b"is too long" in told.value.body
    assert len(told.value.body) < 500
    assert told.value.headers["Content-Type"].startswith("text/plain")


def test_one_oversized_command_does_not_stop_the_others(site: Site) -> None:
    site.primary.reply = lambda r: answer(b"too large", 413) if len(r.body) > 10_000 else healthy(r)
    client = site.client()
    for n in range(10):
        with pytest.raises(Rejected):
            client.submit(catalog(100_000))
        assert client.submit(deactivation(n)).endpoint == client.config.server_urls[0]
    assert site.replica.commands == []


def test_a_413_that_comes_before_the_body_was_read_is_still_a_413(site: Site) -> None:
    site.primary.early = answer(b"Command rejected due to size", 413)
    client = site.client(site.primary.port, site.replica.port, gzip_min_bytes=10**9)
    with pytest.raises(Rejected) as rejected:
        client.submit(catalog(5_000_000))
    assert rejected.value.status == 413
    assert all(health == Health() for health in client.health().values())


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_does_not_allow_us_is_left_alone_for_a_minute(site: Site, status: int) -> None:
    site.primary.reply = answer(b"permission denied", status)
    client = site.client()
    done = client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.FORBIDDEN, Kind.ACCEPTED]
    assert primary_health(client).retry_at - time.monotonic() == pytest.approx(60, abs=2)


@pytest.mark.parametrize("status", [500, 502, 504, 507, 501, 408])
def test_a_server_error_goes_to_the_next_server_and_three_of_them_open_the_circuit(site: Site, status: int) -> None:
    site.primary.reply = answer(b"boom", status)
    client = site.client()
    for n in range(3):
        assert primary_health(client).usable
        assert client.submit(deactivation(n)).endpoint == client.config.server_urls[1]
    assert not primary_health(client).usable


BASE = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (None, 5),
        ("5", 5),
        ("0", 1),
        ("86400", 60),
        ("9" * 400, 60),
        ("-3", 5),
        ("1.5", 5),
        ("soon", 5),
        ("٣", 5),
        (format_datetime(BASE + timedelta(seconds=20), usegmt=True), 20),
        (format_datetime(BASE + timedelta(days=2), usegmt=True), 60),
        (format_datetime(BASE - timedelta(days=2), usegmt=True), 1),
        ("Sat, 99 Feb 2026 00:00:00 GMT", 5),
    ],
)
def test_retry_after_is_kept_within_a_second_and_a_minute(
    site: Site, status: int, retry_after: str | None, seconds: float
) -> None:
    headers = {"Date": format_datetime(BASE, usegmt=True)}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    site.primary.reply = answer(b"PuppetDB is currently down. Try again later.", status, **headers)
    client = site.client()
    done = client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.BUSY, Kind.ACCEPTED]
    assert "currently down" in done.attempts[0].outcome.detail
    assert primary_health(client).retry_at - time.monotonic() == pytest.approx(seconds, abs=0.8)


def test_puppetdbs_own_redirect_of_an_unknown_address_shuts_no_server_out(site: Site) -> None:
    site.primary.reply = answer(b"", 302, Location="https://localhost/pdb/query/v4/nodes/a%20b/dashboard/index.html")
    client = site.client()
    with pytest.raises(Rejected, match="no such address"):
        client.get("nodes/a%20b")
    assert site.replica.queries == []
    assert all(health == Health() for health in client.health().values())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(site: Site, status: int) -> None:
    elsewhere = site.server()
    site.primary.reply = answer(b"", status, Location=f"https://localhost:{elsewhere.port}/pdb/cmd/v1")
    client = site.client()
    done = client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.MISROUTED, Kind.ACCEPTED]
    client.query("nodes {}")
    assert elsewhere.connections == 0


def test_a_404_of_puppetdb_is_an_answer(site: Site) -> None:
    site.primary.reply = answer({"error": "No information is known about node x"}, 404)
    client = site.client()
    with pytest.raises(NotFound, match="No information is known") as missing:
        client.get("nodes/x")
    assert [attempt.outcome.kind for attempt in missing.value.attempts] == [Kind.NOT_FOUND]
    assert site.replica.queries == []
    assert primary_health(client, Operation.QUERY).usable


def test_a_404_of_the_second_server_tells_that_the_first_one_failed(site: Site) -> None:
    site.proxy.refuse()
    site.replica.reply = answer({"error": "No information is known about node x"}, 404)
    client = site.client()
    with pytest.raises(NotFound) as missing:
        client.get("nodes/x")
    assert [attempt.outcome.kind for attempt in missing.value.attempts] == [Kind.NOT_SENT, Kind.NOT_FOUND]
    with pytest.raises(NotFound) as missing:
        client.get("nodes/x")
    assert [attempt.outcome.kind for attempt in missing.value.attempts] == [Kind.SKIPPED, Kind.NOT_FOUND]


UNKNOWN_ADDRESS = answer(b"Not Found", 404, Content_Type="text/html;charset=utf-8")
"""What a PuppetDB from 8.5.0 on, and every OpenVoxDB, says to an address that it does not have."""


@pytest.mark.parametrize("reply", [HTML_404, answer(b"", 404), answer(b"Not Found", 404)])
def test_a_404_of_something_else_goes_to_the_next_server(site: Site, reply: Answer) -> None:
    site.primary.reply = site.primary.otherwise = reply
    client = site.client()
    assert list(client.query("nodes {}")) == []
    assert len(site.replica.queries) == 1
    assert not primary_health(client, Operation.QUERY).usable
    assert primary_health(client, Operation.COMMAND) == Health(), "no answer to a query keeps commands away"


@pytest.mark.parametrize(
    "status", [answer({"state": "starting"}), answer(b"down", 503), answer([]), answer(b"{", 200), answer(b"no", 403)]
)
def test_a_404_of_a_puppetdb_that_does_not_run_goes_to_the_next_server(site: Site, status: Answer) -> None:
    site.primary.reply, site.primary.otherwise = UNKNOWN_ADDRESS, status
    client = site.client()
    assert list(client.query("nodes {}")) == []
    assert len(site.replica.queries) == 1
    assert primary_health(client, Operation.COMMAND) == Health()


def test_an_address_that_a_running_puppetdb_does_not_have_shuts_no_server_out(site: Site) -> None:
    site.primary.reply = lambda r: UNKNOWN_ADDRESS if r.is_query else healthy(r)
    client = site.client()
    for _ in range(4):
        with pytest.raises(NotFound, match="no such address") as missing:
            client.get("nope")
        assert (missing.value.status, missing.value.body) == (404, b"Not Found")
        assert [attempt.outcome.kind for attempt in missing.value.attempts] == [Kind.NOT_FOUND]
    assert site.replica.queries == []
    assert all(health == Health() for health in client.health().values())
    assert client.submit(deactivation()).endpoint == client.config.server_urls[0]


def test_a_running_puppetdb_that_redirects_a_query_elsewhere_is_not_shut_out(site: Site) -> None:
    site.primary.reply = answer(b"", 301, Location="/somewhere")
    client = site.client()
    with pytest.raises(Rejected, match="no such address"):
        client.get("nope")
    assert all(health == Health() for health in client.health().values())


def test_a_server_that_says_404_and_then_nothing_of_its_status_is_left_for_the_next_one(site: Site) -> None:
    over = threading.Event()

    def silent(_: Request) -> Answer:
        over.wait(20)
        return answer({"state": "running"})

    site.primary.reply, site.primary.otherwise = UNKNOWN_ADDRESS, silent
    try:
        assert list(site.client().query("nodes {}")) == []
    finally:
        over.set()
    assert len(site.replica.queries) == 1


@pytest.mark.parametrize("status", [301, 302, 401, 403, 404, 405, 408, 429, 500, 502, 503, 504, 599])
def test_no_answer_to_a_query_keeps_commands_away(site: Site, status: int) -> None:
    told = answer(b"no", status, Retry_After="60", Location="/x")
    site.primary.reply = lambda r: told if r.is_query else healthy(r)
    site.primary.otherwise = told
    client = site.client()
    for _ in range(4):
        with contextlib.suppress(Rejected):
            client.query("nodes {}")
    assert primary_health(client, Operation.COMMAND) == Health()
    assert client.submit(deactivation()).endpoint == client.config.server_urls[0]


def test_a_404_to_a_command_is_never_final(site: Site) -> None:
    site.primary.reply = answer({"error": "x"}, 404)
    done = site.client().submit(deactivation())
    assert [attempt.outcome.kind for attempt in done.attempts] == [Kind.MISROUTED, Kind.ACCEPTED]


def test_a_rejected_command_of_a_broadcast_does_not_count_as_taken(site: Site) -> None:
    site.replica.reply = answer({"error": "no"}, 400)
    client = site.client(command_broadcast=True, min_successful_submissions=2)
    with pytest.raises(Rejected) as rejected:
        client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in rejected.value.attempts] == [Kind.ACCEPTED, Kind.REJECTED]


def test_too_few_takers_of_a_broadcast_are_an_error_that_names_them(site: Site) -> None:
    site.proxy.refuse()
    client = site.client(command_broadcast=True, min_successful_submissions=2)
    with pytest.raises(AllEndpointsFailed, match="1 of the 2 servers") as failed:
        client.submit(deactivation())
    assert [attempt.outcome.kind for attempt in failed.value.attempts] == [Kind.NOT_SENT, Kind.ACCEPTED]


def test_soft_write_failure_swallows_an_outage_and_says_so(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.proxy.refuse()
    client = site.client(site.proxy.port, soft_write_failure=True)
    done = client.submit(deactivation())
    assert (done.uuid, dict(done.uuids)) == (None, {})
    assert isinstance(done.error, AllEndpointsFailed)
    assert [record.levelname for record in caplog.records if record.name == "pdbclient"] == ["ERROR"]
    with pytest.raises(AllEndpointsFailed):
        client.query("nodes {}")


def test_soft_write_failure_does_not_swallow_a_rejection(site: Site) -> None:
    site.primary.reply = answer({"error": "no"}, 400)
    with pytest.raises(Rejected):
        site.client(soft_write_failure=True).submit(deactivation())


def test_the_total_of_a_page_is_given(site: Site) -> None:
    site.primary.reply = answer([1, 2], X_Records="40")
    result = site.client().query("nodes {}", limit=2, include_total=True)
    assert (result.total, len(result)) == (40, 2)


def of_a_puppet_server(request: Request) -> Answer:
    """What the real one says (tests/integration/test_doctor_pair.py)."""
    if request.target.startswith("/status/"):
        said = "No status information found for service puppetdb-status"
        return answer({"kind": "service-not-found", "msg": said}, 404)
    return answer(b"Error: Invalid URL - Puppet expects requests that conform to the /puppet API", 404)


def test_a_puppet_server_is_called_no_puppetdb(site: Site) -> None:
    site.primary.reply = site.primary.otherwise = of_a_puppet_server
    client = site.client(site.primary.port)
    with pytest.raises(AllEndpointsFailed, match=r"misrouted HTTP 404: that is no PuppetDB"):
        client.submit(deactivation())
    (asked,) = client.status()
    assert "that is no PuppetDB (a Puppet Server?): No status information found" in str(asked.error)
    with pytest.raises(AllEndpointsFailed, match=r"that is no PuppetDB \(a Puppet Server\?\)"):
        site.client(site.primary.port).query(["=", "certname", "a"], path="nodes")


def test_what_has_no_state_is_called_no_puppetdb(site: Site) -> None:
    client = site.client(site.primary.port)
    session = client._failover.session(client.config.server_urls[0])
    site.primary.reply = site.primary.otherwise = answer({"hello": "world"})
    assert "that is no PuppetDB" in session.ask().detail
