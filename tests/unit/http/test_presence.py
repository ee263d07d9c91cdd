"""What a server shows: what is asked for, in which batches, and what is made of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import IncompleteResponse
from pdbclient.http import presence
from pdbclient.http.session import Document, Session

STAMP = "2026-01-01T00:00:00.000Z"


class RowsServer:
    """Notes what it is asked, and answers with `rows`."""

    def __init__(self, *rows: Any) -> None:
        self.endpoint = Endpoint("a", 8081)
        self.rows = rows
        self.asked: list[tuple[str, Any, dict[str, Any]]] = []

    def records(self, path: str, *, query: Any, **options: Any) -> Iterator[Any]:
        self.asked.append((path, query, options))
        yield from self.rows

    @property
    def session(self) -> Session:
        return cast(Session, self)


@pytest.mark.parametrize(
    ("name", "path", "field"),
    [
        ("replace catalog", "/catalogs", "producer_timestamp"),
        ("replace facts", "/factsets", "producer_timestamp"),
        ("replace catalog inputs", "/catalog-inputs", "producer_timestamp"),
        ("deactivate node", "/nodes", "deactivated"),
    ],
)
def test_the_newest_of_each_kind_is_asked_where_it_shows_in_any_state_of_the_node(
    name: str, path: str, field: str
) -> None:
    asked = RowsServer({"certname": "n", field: "2026-01-01T01:00:00.0009+01:00"})
    assert list(presence.newest(asked.session, name, ["n", "m", "n"])) == [("n", STAMP)]
    condition = [
        "and",
        ["in", "certname", ["array", ["n", "m"]]],
        ["=", "node_state", "any"],
        ["null?", field, False],
    ]
    assert asked.asked == [(path, ["extract", ["certname", field], condition], {"within": None})]


def test_expiration_is_shown_only_when_asked_for() -> None:
    asked = RowsServer({"certname": "n", "expires_facts_updated": STAMP})
    assert list(presence.newest(asked.session, "configure expiration", ["n"])) == [("n", STAMP)]
    ((path, query, options),) = asked.asked
    assert path == "/nodes"
    assert query[0] == "and", "no extract: from 8.5.0 on, a server answers 500 to that"
    assert options["params"] == {"include_facts_expiration": True}


def test_no_query_asks_about_more_than_500_nodes() -> None:
    asked = RowsServer()
    names = [f"n{number}" for number in range(1001)]
    assert list(presence.newest(asked.session, "replace facts", names)) == []
    batches = [query[2][1][2][1] for _, query, _ in asked.asked]
    assert [len(batch) for batch in batches] == [500, 500, 1]
    assert [name for batch in batches for name in batch] == names


def test_nobody_is_asked_about_nothing() -> None:
    asked = RowsServer()
    assert list(presence.newest(asked.session, "replace facts", [])) == []
    assert list(presence.newest_reports(asked.session, [], STAMP)) == []
    assert list(presence.reports(asked.session, [])) == []
    assert asked.asked == []


def test_certnames_that_no_server_can_have_are_not_asked_for() -> None:
    asked = RowsServer()
    list(presence.newest(asked.session, "replace facts", ["a\0b", "\ud800", "ü &%"]))
    list(presence.reports(asked.session, [("a\0b", STAMP)]))
    assert [query[2][1] for _, query, _ in asked.asked] == [["in", "certname", ["array", ["ü &%"]]]]


def test_reports_are_asked_for_between_two_ends_and_of_every_type() -> None:
    asked = RowsServer({"certname": "n", "producer_timestamp": STAMP})
    wanted = [("n", "2026-01-01T00:00:05.000Z"), ("m", STAMP)]
    assert set(presence.reports(asked.session, wanted)) == {("n", STAMP)}
    condition = [
        "and",
        ["in", "certname", ["array", ["m", "n"]]],
        ["=", "node_state", "any"],
        ["=", "type", "any"],
        [">=", "producer_timestamp", STAMP],
        ["<", "producer_timestamp", "2026-01-01T00:00:05.001Z"],
    ]
    assert asked.asked == [("/reports", ["extract", ["certname", "producer_timestamp"], condition], {"within": None})]


def test_reports_that_lie_far_apart_are_asked_for_apart() -> None:
    asked = RowsServer()
    hours = [f"2026-01-01T{hour:02}:{minute:02}:00.000Z" for hour in range(5) for minute in (0, 1)]
    list(presence.reports(asked.session, [("n", stamp) for stamp in reversed(hours)]))
    bounds = [(query[2][4][2][:16], query[2][5][2][:16]) for _, query, _ in asked.asked]
    # Two hours are one query: a report a minute after the hour is just outside of it.
    assert bounds[0] == ("2026-01-01T00:00", "2026-01-01T01:00")
    assert bounds[-1][1] == "2026-01-01T04:01"
    assert len(bounds) == 4


def test_no_query_asks_for_more_than_500_reports() -> None:
    asked = RowsServer()
    list(presence.reports(asked.session, [(f"n{number}", STAMP) for number in range(1001)]))
    assert [len(query[2][1][2][1]) for _, query, _ in asked.asked] == [500, 500, 1]


def test_the_newest_report_of_a_node_is_asked_for_with_one_row_each() -> None:
    asked = RowsServer({"certname": "n", "max": STAMP})
    assert list(presence.newest_reports(asked.session, ["n"], "2025-12-31T00:00:00.000Z")) == [("n", STAMP)]
    ((path, query, _),) = asked.asked
    assert path == "/reports"
    assert query[1] == ["certname", ["function", "max", "producer_timestamp"]]
    assert [">", "producer_timestamp", "2025-12-31T00:00:00.000Z"] in query[2]
    assert query[3] == ["group_by", "certname"]


def test_the_time_is_for_all_batches_together() -> None:
    asked = RowsServer()
    list(presence.newest(asked.session, "replace facts", [f"n{number}" for number in range(600)], within=5.0))
    first, second = (options["within"] for _, _, options in asked.asked)
    assert 4 < second <= first <= 5
    asked.asked.clear()
    list(presence.newest(asked.session, "replace facts", ["n"], within=0.0))
    assert asked.asked[0][2]["within"] > 0


@pytest.mark.parametrize(
    "row",
    [
        "no row",
        None,
        {},
        {"certname": "n"},
        {"certname": "n", "producer_timestamp": None},
        {"certname": "n", "producer_timestamp": "yesterday"},
        {"certname": ["n"], "producer_timestamp": STAMP},
    ],
)
def test_rows_that_are_none_of_puppetdbs_are_a_broken_answer(row: Any) -> None:
    asked = RowsServer({"certname": "m", "producer_timestamp": STAMP}, row)
    found = presence.newest(asked.session, "replace facts", ["n"])
    assert next(found) == ("m", STAMP), "what came before is told"
    with pytest.raises(IncompleteResponse, match="none of PuppetDB's"):
        next(found)


@pytest.mark.parametrize(
    ("document", "depth"),
    [
        ({"state": "running", "status": {"queue_depth": 7}}, 7),
        ({"state": "running", "status": {"queue_depth": None}}, 0),
        ({"state": "starting"}, 0),
        ([], 0),
    ],
)
def test_the_depth_of_a_queue_is_0_until_it_is_known(
    document: Any, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RowsServer()
    monkeypatch.setattr(asked, "document", lambda path, within: Document(document, {}), raising=False)
    assert presence.queue_depth(asked.session) == depth
