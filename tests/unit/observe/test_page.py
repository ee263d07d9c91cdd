"""The status page without a browser: what it says, and that nothing in it comes alive."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from pdbclient.errors import SafetyBrake
from pdbclient.observe.page.document import (
    Certificate,
    Circuit,
    Document,
    EntityPass,
    Failover,
    Outage,
    Server,
    decode,
    encode,
)
from pdbclient.observe.page.findings import Level, findings, worst
from pdbclient.observe.page.html import HEADERS, REFRESH, error_page, page
from pdbclient.observe.page.timeline import timelines
from pdbclient.observe.page.view import MOST_EVENTS, Cell, tables
from pdbclient.observe.page.words import clock, days_left, latency, listing, size, span

from .documents import NOW, PRIMARY, REPLICA, WHY, ago, gateway, reconciler

HOSTILE = "<script>alert(1)</script>\"'&<img src=//evil.example/x onerror=a()>\u202e\x1b[2J\n\udc80"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def told(document: Document) -> list[tuple[Level, str]]:
    return [(each.level, each.text) for each in findings(document)]


def rows(document: Document, title: str) -> list[list[str]]:
    (table,) = [each for each in tables(document) if each.title.startswith(title)]
    return [[cell.text for cell in row] for row in table.rows]


# --- what needs attention


def test_a_gateway_and_a_reconciler_that_are_well_need_no_attention() -> None:
    assert told(gateway()) == []
    assert told(reconciler()) == []
    assert worst(()) is Level.OK


def test_an_unhealthy_server_is_told_with_since_when_why_and_who_is_asked_instead() -> None:
    text = f"{PRIMARY} is unhealthy since 19:38:25 UTC, for 95 s: {WHY}. Commands and queries go to {REPLICA}."
    assert told(gateway(failed_over=True)) == [(Level.WARNING, text)]


def test_a_server_that_is_only_not_asked_for_queries_is_told_so() -> None:
    circuits = (Circuit("command", "closed", ago(days=1)), Circuit("query", "half-open", ago(hours=3), WHY))
    document = gateway()
    document = replace(document, servers=(Server(PRIMARY, circuits), document.servers[1]))
    text = f"{PRIMARY} is not asked for queries since 16:40:00 UTC, for 3 h: {WHY}. Queries go to {REPLICA}."
    assert told(document) == [(Level.WARNING, text)]
    assert rows(document, "Servers")[0][2:4] == ["healthy", "half-open"]


@pytest.mark.parametrize(
    ("answers", "end"), [(True, "takes commands: they wait in the journal."), (False, "takes commands.")]
)
def test_no_server_at_all_is_critical(answers: bool, end: str) -> None:
    document = gateway(failed_over=True)
    assert document.journal is not None
    journal = replace(document.journal, answers=answers)
    out = replace(document.servers[0], url=REPLICA)
    levels = told(replace(document, servers=(document.servers[0], out), journal=journal))
    assert (Level.CRITICAL, f"No PuppetDB {end}") in levels
    assert (Level.CRITICAL, "No PuppetDB answers queries.") in levels
    assert any("does not answer" in text for level, text in levels if level is Level.CRITICAL) is not answers


def test_what_a_server_may_lack_is_a_finding() -> None:
    first, second = gateway().servers
    ((level, text),) = told(gateway(servers=(replace(first, missing=3), second)))
    assert (level, "may lack 3 newer commands" in text) == (Level.WARNING, True)


def test_the_journal_needs_attention_when_something_is_parked_or_waits_for_long() -> None:
    journal = gateway().journal
    assert journal is not None
    waiting = {"any": 3}
    assert told(gateway(journal=replace(journal, pending=waiting, oldest=599.0))) == []
    ((level, text),) = told(gateway(journal=replace(journal, pending=waiting, oldest=700.0)))
    assert (level, text) == (Level.WARNING, "3 deliveries pending, the oldest for 12 min.")
    ((level, text),) = told(gateway(journal=replace(journal, parked=1)))
    assert (level, "`pdbclient journal list --state parked`" in text) == (Level.WARNING, True)


def test_a_pass_that_failed_is_told_with_its_error_and_one_that_a_brake_stopped_is_critical() -> None:
    failed = {"ok": False, "last_failure": NOW, "last_error": "the remote cannot be reached"}
    assert told(reconciler(**failed)) == [
        (Level.WARNING, f"The last pass against {REPLICA} failed: the remote cannot be reached")
    ]
    brake = str(SafetyBrake("60 of 100 active nodes would be deactivated"))
    braked = failed | {"last_error": f"nodes: {brake}", "entities": {"nodes": EntityPass(None, brake)}}
    assert told(reconciler(**braked)) == [
        (
            Level.CRITICAL,
            f"The last pass against {REPLICA} failed: nodes: safety brake: 60 of 100 active nodes would be "
            "deactivated",
        )
    ]
    assert rows(reconciler(**braked), "Passes")[0][1] == "safety brake"


def test_a_pass_that_left_out_what_fails_does_not_hide_it() -> None:
    """`pdbclient sync once --entity facts` succeeds, and is the latest pass then."""
    brake = str(SafetyBrake("60 of 100 active nodes would be deactivated"))
    parts = {
        "facts": EntityPass(NOW),
        "nodes": EntityPass(None, brake),
        "reports": EntityPass(ago(days=1), "refused"),
    }
    which = f"The last pass against {REPLICA} that came to"
    assert told(reconciler(entities=parts)) == [
        (Level.CRITICAL, f"{which} nodes failed: {brake}"),
        (Level.WARNING, f"{which} reports failed: refused"),
    ]


@pytest.mark.parametrize(("lag", "number"), [(360.0, 0), (361.0, 1)])
def test_a_lag_of_more_than_three_intervals_is_told(lag: float, number: int) -> None:
    assert len(told(reconciler(lag_seconds=lag))) == number


def test_no_pass_at_all_is_told_once_there_should_have_been_one() -> None:
    document = reconciler(last_success=None, lag_seconds=None, last_pass=None, entities={})
    assert [text for _, text in told(document)] == [f"There was no pass against {REPLICA} yet."]
    (passes,) = (table for table in tables(document) if table.title == "Passes")
    assert passes.rows[0][2] == Cell("-", Level.WARNING), "none is late, too"
    begun = replace(document, program=replace(document.program, started=ago(seconds=10)))
    assert told(begun) == []
    assert rows(begun, "Passes")[0][1:3] == ["none yet", "-"]


def test_that_no_pass_ever_succeeded_is_told_beside_why_the_last_one_did_not() -> None:
    never: dict[str, object] = {"last_success": None, "lag_seconds": None, "entities": {}}
    document = reconciler(ok=False, last_failure=NOW, last_error="refused", **never)
    assert [text for _, text in told(document)] == [
        f"The last pass against {REPLICA} failed: refused",
        f"No pass against {REPLICA} has succeeded since the daemon began, 2 d ago.",
    ]


def test_records_that_did_not_get_here_are_told() -> None:
    ((level, text),) = told(reconciler(failed=2, quarantined=1))
    assert (level, "2 failed and 1 quarantined" in text) == (Level.WARNING, True)


@pytest.mark.parametrize(
    ("setting", "days", "level"),
    [
        ("ssl_cert", 31, Level.OK),
        ("ssl_cert", 29, Level.WARNING),
        ("ssl_cert", 0, Level.CRITICAL),
        ("ssl_crl", 2, Level.OK),
        ("ssl_crl", 0.5, Level.WARNING),
        ("ssl_crl", -1, Level.CRITICAL),
    ],
)
def test_a_certificate_is_told_thirty_days_before_its_end(setting: str, days: float, level: Level) -> None:
    certificate = Certificate(setting, "/f.pem", "CN=x", NOW + timedelta(days=days))
    assert worst(findings(gateway(certificates=(certificate,)))) is level


def test_a_certificate_that_cannot_be_read_is_told() -> None:
    certificate = Certificate("ssl_cert", "/f.pem", error="cannot be read: Permission denied")
    assert told(gateway(certificates=(certificate,))) == [
        (Level.WARNING, "ssl_cert /f.pem: cannot be read: Permission denied")
    ]


# --- tables and timeline


def test_failovers_and_outages_are_listed_together_the_newest_first() -> None:
    document = gateway(
        failovers=(Failover(ago(hours=2), "query", PRIMARY, "journal", WHY),),
        outages=(
            Outage(PRIMARY, ago(hours=2, seconds=1), ago(hours=1), WHY),
            Outage(REPLICA, ago(minutes=1), None, ""),
        ),
    )
    first, second, third = rows(document, "Failovers")
    assert first == ["19:39:00", "db2.example.com:8081 unhealthy, for 60 s now", "-"]
    assert second == ["17:40:00", "queries go to journal, no longer to db1.example.com:8081", WHY]
    assert third == ["17:39:59", "db1.example.com:8081 unhealthy, for 60 min, until 18:40:00", WHY]


def test_of_many_failovers_the_newest_are_listed_and_the_others_counted() -> None:
    many = tuple(Failover(ago(minutes=n), "query", PRIMARY, REPLICA, WHY) for n in range(MOST_EVENTS + 3, 0, -1))
    (table,) = [each for each in tables(gateway(failovers=many)) if each.timeline]
    assert (len(table.rows), table.note) == (MOST_EVENTS, "And 3 earlier ones.")


def test_the_timeline_has_each_outage_and_failover_at_its_place_in_the_day() -> None:
    document = gateway(
        failovers=(Failover(ago(hours=12), "command", PRIMARY, "journal", WHY),),
        outages=(
            Outage(PRIMARY, ago(hours=12), ago(hours=6), WHY),
            Outage("https://gone:8081", ago(hours=30), None, WHY),
        ),
    )
    _, line = timelines(replace(document, program=replace(document.program, started=ago(hours=18))))
    assert [lane.name for lane in line.lanes] == [PRIMARY, REPLICA, "https://gone:8081", "journal"]
    assert line.known == pytest.approx(0.25)
    ((bar,), (), (gone,), ()) = [lane.bars for lane in line.lanes]
    assert [bar.left, bar.right] == pytest.approx([0.5, 0.75])
    assert (gone.left, gone.right) == (0.0, 1.0)
    (move,) = line.moves
    assert [move.at, move.source, move.target] == pytest.approx([0.5, 0, 3])
    assert [label for _, label in line.ticks] == ["20:00", "00:00", "04:00", "08:00", "12:00", "16:00"]


def test_the_last_hour_is_drawn_too_when_something_was_in_it() -> None:
    old = Outage(PRIMARY, ago(hours=3), ago(minutes=61), WHY)
    assert [each.title for each in timelines(gateway(outages=(old,)))] == ["Last day"]
    hour, day = timelines(gateway(outages=(old, Outage(PRIMARY, ago(minutes=90), ago(minutes=30), WHY))))
    assert (hour.title, [len(lane.bars) for lane in hour.lanes]) == ("Last hour", [1, 0])
    assert [hour.lanes[0].bars[0].left, hour.lanes[0].bars[0].right] == pytest.approx([0.0, 0.5])
    assert [label for _, label in hour.ticks] == ["18:50", "19:00", "19:10", "19:20", "19:30", "19:40"]
    assert [len(lane.bars) for lane in day.lanes] == [2, 0]
    (moved, _) = timelines(gateway(failovers=(Failover(ago(minutes=6), "query", PRIMARY, REPLICA, WHY),)))
    assert [move.at for move in moved.moves] == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (9000, "2.5 h"),
        (86400 * 12, "12 d"),
    ],
)
def test_a_span_of_time_in_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_numbers_and_times_in_words() -> None:
    assert [latency(each) for each in (None, 0.0214, 0.9, 1.5)] == ["-", "21 ms", "900 ms", "1.5 s"]
    assert [size(each) for each in (12, 2048, 3 * 2**20, 5 * 2**30)] == ["12 B", "2.0 KiB", "3.0 MiB", "5.0 GiB"]
    assert [listing(each) for each in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert (clock(ago(hours=1), NOW), clock(ago(days=1), NOW)) == ("18:40:00", "2026-01-30 19:40")
    assert days_left(ago(days=2), NOW) == "expired on 2026-01-29 19:40 UTC, 2 d ago"


# --- the page


def hostile(document: Document) -> Document:
    """It, with the worst in every text."""

    def worse(value: Any) -> Any:
        if isinstance(value, str):
            return HOSTILE
        if isinstance(value, tuple):
            return tuple(map(worse, value))
        if isinstance(value, dict):
            return {HOSTILE if isinstance(name, str) else name: worse(each) for name, each in value.items()}
        if hasattr(value, "__dataclass_fields__"):
            return replace(value, **{name: worse(getattr(value, name)) for name in value.__dataclass_fields__})
        return value

    circuits = tuple(replace(each, why=HOSTILE) for each in document.servers[0].circuits) if document.servers else ()
    spoiled: Document = worse(document)
    if spoiled.servers:
        spoiled = replace(spoiled, servers=(replace(spoiled.servers[0], circuits=circuits), *spoiled.servers[1:]))
    return spoiled


@pytest.mark.parametrize(
    "document", [gateway(failed_over=True), reconciler(ok=False, last_error="x", last_failure=NOW)]
)
def test_whatever_a_text_has_in_it_nothing_comes_alive(document: Document) -> None:
    calm, spoiled = Tags(page(document)), Tags(page(hostile(document)))
    assert {tag for tag, _ in spoiled.tags} <= {tag for tag, _ in calm.tags} | {"code"}
    names = {name for _, attributes in spoiled.tags for name in attributes}
    assert names <= {name for _, attributes in calm.tags for name in attributes}
    assert "alert(1)" in spoiled.text
    for unseen in ("\u202e", "\x1b"):
        assert unseen not in spoiled.text
    assert r"\u202e\x1b[2J\n\udc80" in spoiled.text


def test_the_page_asks_for_nothing_and_runs_nothing_and_loads_itself_anew() -> None:
    tags = Tags(page(gateway(failed_over=True))).tags
    assert not {"script", "img", "iframe", "object", "form"} & {tag for tag, _ in tags}
    references = [
        each for _, attributes in tags for name in ("src", "href", "action") if (each := attributes.get(name))
    ]
    assert references == ["data:,", "/status", "/metrics"]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on") or name == "style"]
    assert ("meta", {"http-equiv": "refresh", "content": str(REFRESH)}) in tags
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_the_page_has_the_words_of_all_tables() -> None:
    for document in (gateway(failed_over=True), gateway(certificates=()), reconciler()):
        text = Tags(page(document)).text
        for table in tables(document):
            assert table.title in text
            for row in table.rows:
                assert all(cell.text in text for cell in row)
        for each in findings(document):
            assert each.text in text


def test_a_page_that_cannot_be_made_says_why_and_tries_again() -> None:
    page = Tags(error_page("No status", f"why {HOSTILE}"))
    assert "why <script>" in page.text
    assert "script" not in {tag for tag, _ in page.tags}
    assert any(attributes.get("http-equiv") == "refresh" for _, attributes in page.tags)


@pytest.mark.parametrize("document", [gateway(failed_over=True), reconciler()])
def test_the_document_survives_json(document: Document) -> None:
    text = encode(document)
    assert re.search(rb'"at": "2026-01-31T19:40:00.000Z"', text)
    assert decode(text) == document


def test_a_name_that_is_no_utf_8_does_not_break_the_document() -> None:
    document = hostile(gateway())
    assert decode(encode(document)).program.host == HOSTILE.replace("\udc80", "?")


def test_what_a_newer_daemon_tells_beside_is_left_out_and_what_is_no_document_is_refused() -> None:
    newer = encode(gateway()).replace(b'{"program"', b'{"new": 1, "program"', 1)
    assert decode(newer) == gateway()
    for other in (b"[]", b"{}", b"<html>", b'{"program": {}, "at": "now"}'):
        with pytest.raises(ValueError, match=r"."):
            decode(other)
