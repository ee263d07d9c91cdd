"""Streamed answers: rows as they come, and an error instead of a short answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pdbclient.client import Client
from pdbclient.errors import DeadlineExceeded, IncompleteResponse
from pdbclient.http.outcome import Kind, Operation
from pdbclient.http.session import Selection

from .http.fake import Rig, selection


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    with Client(rig.config, failover=rig.failover) as client:
        yield client


def test_a_stream_gives_its_rows_once(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection(1, 2, 3))
    with client.stream("nodes {}") as rows:
        assert (rows.endpoint, rows.failed_over, rows.freshness.stale) == (rig.endpoint["a"], False, False)
        assert list(rows) == [1, 2, 3]
        assert list(rows) == []
    assert rig.session["a"].within == [594], "a stream may take its time"


def test_an_empty_stream_is_an_answer(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection())
    assert list(client.stream("nodes {}")) == []


def test_a_server_that_fails_before_its_first_row_is_passed_over(client: Client, rig: Rig) -> None:
    rig.session["a"].replies.append(selection(then=IncompleteResponse("https://a:8081", "broke off")))
    rig.session["b"].replies.append(selection(1))
    rows = client.stream("nodes {}")
    assert (list(rows), rows.endpoint, [a.outcome.kind for a in rows.attempts]) == (
        [1],
        rig.endpoint["b"],
        [Kind.INCOMPLETE, Kind.ACCEPTED],
    )


@pytest.mark.parametrize("error", [IncompleteResponse("https://a", "x", 1), DeadlineExceeded("https://a", "x")])
def test_a_break_after_the_first_row_is_an_error_and_counts(client: Client, rig: Rig, error: Exception) -> None:
    for _ in range(3):
        rig.session["a"].replies.append(selection(1, then=error))
        rows = client.stream("nodes {}")
        assert rows.endpoint == rig.endpoint["a"]
        assert next(rows) == 1
        with pytest.raises(type(error)):
            next(rows)
        assert list(rows) == [], "a broken iteration is over"
    assert rig.session["b"].within == [], "rows were handed out: nobody else can go on"
    assert not rig.registry.usable(rig.endpoint["a"], Operation.QUERY)
    assert client.stream("nodes {}").endpoint == rig.endpoint["b"]


def test_a_stream_that_comes_to_its_end_makes_up_for_those_that_broke(client: Client, rig: Rig) -> None:
    broken = selection(1, then=IncompleteResponse("https://a", "x", 1))
    for _ in range(2):
        rig.session["a"].replies.extend([broken, broken, selection(1)])
        for _ in range(2):
            with pytest.raises(IncompleteResponse):
                list(client.stream("nodes {}"))
        assert list(client.stream("nodes {}")) == [1]
    assert rig.registry.health()[rig.endpoint["a"], Operation.QUERY].soft == ()


def test_a_stream_that_is_left_early_lets_go_of_its_answer(client: Client, rig: Rig) -> None:
    closed = []

    def elements() -> Iterator[tuple[Any, str]]:
        try:
            for n in range(1000):
                yield n, str(n)
        finally:
            closed.append(True)

    for begun in (False, True):
        rig.session["a"].replies.append(lambda: Selection({}, elements()))
        with client.stream("nodes {}") as rows:
            if begun:
                assert next(rows) == 0
        del rows
        assert closed.pop()
    assert rig.registry.usable(rig.endpoint["a"], Operation.QUERY), "that is no fault of the server"


def test_rows_may_be_closed_twice(client: Client) -> None:
    rows = client.stream("nodes {}")
    rows.close()
    rows.close()
    assert list(rows) == []
