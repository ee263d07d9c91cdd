"""The local server under another name, or two servers of one database, are no pair; two servers alike are."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import IncompleteResponse, SyncError
from pdbclient.http.outcome import Operation, error_for_status
from pdbclient.sync import Mode, Outcome, PassResult, plan, reconcile
from pdbclient.sync.policy.identity import Process, one_process
from pdbclient.sync.run.diff import diff

from .conftest import SyncPair
from .fake import FakePuppetDB, facts, report


def run_agents(
    site: SyncPair, *servers: FakePuppetDB, nodes: int = 5, what: tuple[str, ...] = ("facts", "reports")
) -> None:
    for number in range(nodes):
        site.time.elapsed += 0.25
        for server in servers:
            if "facts" in what:
                server.apply("replace facts", facts(f"n{number}", site.ago(1), site.time.elapsed))
            if "reports" in what:
                server.apply("store report", report(f"n{number}", site.ago(1), "r"))


def share_database(site: SyncPair) -> None:
    """A and B are two processes that write into one database."""
    for name in ("nodes", "tables", "received", "more_catalogs"):
        setattr(site.a, name, getattr(site.b, name))


def test_the_local_server_under_another_name_is_refused_even_when_it_is_empty(site: SyncPair) -> None:
    site.a = copy(site.b)
    site.a.endpoint = Endpoint("alias.example.com", 8081)
    for _ in range(2):
        result = site.pull(site.b)
        assert result.outcome is Outcome.REFUSED
        assert "is the local server https://b.example.com:8081 itself under another name" in result.errors[0]
        run_agents(site, site.b)
    assert not site.b.submitted
    for ask in (plan, diff):
        with pytest.raises(SyncError, match=r"alias.*under another name"):
            ask(site.config(site.b), site.a.endpoint, connect=site.connect, clock=site.clock)


@pytest.mark.parametrize("what", [("facts", "reports"), ("facts",), ("reports",)])
def test_two_servers_of_one_database_are_refused(site: SyncPair, what: tuple[str, ...]) -> None:
    share_database(site)
    site.time.elapsed += 5
    run_agents(site, site.a, what=what)
    result = site.pull(site.b)
    assert result.outcome is Outcome.REFUSED
    assert "have one database" in result.errors[0]


def test_they_are_also_while_reports_come_in_between_the_questions(site: SyncPair) -> None:
    share_database(site)
    site.time.elapsed += 5
    run_agents(site, site.a, nodes=70)
    numbers = itertools.count(100)

    def comes_in(path: str, query: Any) -> Exception | None:
        if path == "/reports":
            site.b.apply("store report", report(f"n{next(numbers)}", site.ago(0), "r"))
        return None

    site.a.broken = site.b.broken = comes_in
    assert "have one database" in site.pull(site.b).errors[0]


def fine(result: PassResult) -> bool:
    return result.ok and result.outcome is Outcome.DONE


def test_two_empty_servers_are_two(site: SyncPair) -> None:
    assert fine(site.pull(site.b))


def test_two_empty_servers_that_began_in_the_same_millisecond_are_two(site: SyncPair) -> None:
    site.a.began = site.b.began
    assert fine(site.pull(site.b))


@pytest.mark.parametrize(
    ("there", "here", "one"),
    [
        ([5, 5], [5, 5], True),
        ([5, 7], [6, 8], True),
        ([7, 5], [6, 5], True),
        ([5, 6], [7, 8], False),
        ([5, 5], [6, 6], False),
        ([5], [5], False),
        ([], [], False),
    ],
)
def test_one_process_stays_within_its_own_span(there: list[int], here: list[int], one: bool) -> None:
    """By the memory of its classes, which grows, and shrinks when some are unloaded."""
    looks = [[Process(1, used) for used in side] for side in (there, here)]
    assert one_process(*looks) is one
    assert not one_process(looks[0], [Process(2, used) for used in here])


def test_two_servers_that_pull_from_each_other_are_two_for_good(site: SyncPair) -> None:
    for _ in range(5):
        run_agents(site, site.a)
        assert all(fine(site.pull(side)) for side in (site.b, site.a))
        site.time.elapsed += 60
    assert site.a.tables == site.b.tables


def test_two_servers_that_got_everything_at_once_are_two(site: SyncPair) -> None:
    run_agents(site, site.a, site.b, nodes=70)
    assert fine(site.pull(site.b))


@pytest.mark.parametrize("what", [("facts", "reports"), ("facts",), ("reports",)])
def test_two_of_the_same_milliseconds_are_not_yet_one(site: SyncPair, what: tuple[str, ...]) -> None:
    site.time.elapsed += 5
    run_agents(site, site.a, site.b, nodes=2, what=what)
    site.a.received.update(site.b.received)
    assert fine(site.pull(site.b))


@pytest.mark.parametrize("what", [("facts", "reports"), ("facts",), ("reports",)])
def test_a_server_made_of_a_copy_of_the_other_s_database_is_another_server(
    site: SyncPair, what: tuple[str, ...]
) -> None:
    run_agents(site, site.a, nodes=70, what=what)
    site.time.elapsed += 60
    site.b.restore(site.a.backup())
    site.b.began = site.b.millis
    assert fine(site.pull(site.b))
    site.time.elapsed += 60
    run_agents(site, site.a, what=what)
    assert fine(site.pull(site.b))
    assert fine(site.pull(site.a))


@pytest.mark.parametrize("what", [("facts", "reports"), ("facts",), ("reports",)])
def test_a_server_that_got_a_copy_while_it_ran_is_another_one_by_a_restart(
    site: SyncPair, what: tuple[str, ...]
) -> None:
    site.time.elapsed += 60
    run_agents(site, site.a, nodes=5, what=what)
    site.b.restore(site.a.backup())
    assert "while it ran looks like that, too: restart it" in site.pull(site.b).errors[0]
    site.time.elapsed += 5
    site.b.began = site.b.millis
    assert fine(site.pull(site.b))


@pytest.mark.parametrize("only", ["a", "b"])
def test_a_server_that_does_not_tell_when_it_began_is_believed(site: SyncPair, only: str) -> None:
    share_database(site)
    site.time.elapsed += 5
    run_agents(site, site.a)
    getattr(site, only).began = None
    assert fine(site.pull(site.b))
    getattr(site, only).document = _refusing(getattr(site, only).document)
    assert fine(site.pull(site.b))


def _refusing(document: Any) -> Any:
    def refusing(path: str, **options: Any) -> Any:
        if "level=debug" in path:
            raise error_for_status("https://a", 403, {}, b"Forbidden", Operation.QUERY) or AssertionError
        return document(path, **options)

    return refusing


def test_a_server_that_cannot_answer_about_its_reports_fails_in_nothing_else(
    site: SyncPair, caplog: pytest.LogCaptureFixture
) -> None:
    run_agents(site, site.a)
    site.a.broken = lambda path, query: IncompleteResponse("a", "cut") if path == "/reports" else None
    result = site.pull(site.b)
    assert result.outcome is Outcome.DONE
    assert [str(entity) for entity, part in result.entities.items() if part.error] == ["reports"]
    assert (
        "whether https://a.example.com:8081 and https://b.example.com:8081 are one server cannot be told"
        in caplog.text
    )


@pytest.mark.parametrize(("path", "column"), [("/reports", "receive_time"), ("/factsets", "timestamp")])
def test_a_record_that_cannot_be_used_says_nothing_about_it(site: SyncPair, path: str, column: str) -> None:
    """Passes crashed on it."""
    share_database(site)
    site.time.elapsed += 5
    run_agents(site, site.a, what=("reports",) if path == "/reports" else ("facts",))
    rows = site.a.rows

    def odd(where: str, *, query: Any = None, **options: Any) -> Iterator[bytes]:
        for row in rows(where, query=query, **options):
            found = json.loads(row)
            yield json.dumps({**found, column: "then"}).encode() if where == path and column in found else row
            column_seen.append(where)

    column_seen: list[str] = []
    site.a.rows = odd  # type: ignore[method-assign, assignment]
    result = site.pull(site.b)
    assert column_seen
    assert result.outcome is not Outcome.CRASHED


def test_it_costs_one_query_to_each_server(site: SyncPair) -> None:
    run_agents(site, site.a)
    assert fine(site.pull(site.b))
    for server in (site.a, site.b):
        server.queries.clear()
    reconcile(site.config(site.b), mode=Mode(), connect=site.connect, clock=site.clock)
    for server in (site.a, site.b):
        assert [query for _, query in server.queries if "receive_time" in query[1] and len(query[1]) == 2] == [
            ["extract", ["hash", "receive_time"], ["and", ["=", "type", "any"], ["=", "node_state", "any"]]]
        ]
        assert not [query for _, query in server.queries if "timestamp" in query[1]]
