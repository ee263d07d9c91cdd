"""The checkers of logs: tracebacks, brakes, and what was transferred twice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.partitions.checkers import Evidence, Kind, Violation
from tests.partitions.checkers.logs import brakes, deliveries, ended, tracebacks, transferred_twice, transfers
from tests.partitions.history import Event

from .made_up import SINCE, evidence, nemesis

TRACE = """2027-01-15T08:00:01.000Z ERROR   pdbclient: it broke
Traceback (most recent call last):
  File "one.py", line 1, in one
    two()
  File "two.py", line 2, in two
    raise ValueError("broken")
ValueError: broken
2027-01-15T08:00:02.000Z INFO    pdbclient: it goes on
"""
UUID = "8d0f4c52-6a0e-4d0b-9d6f-4b1f6f2f7a10"


def stamp(at: float) -> str:
    return datetime.fromtimestamp(SINCE / 1000 + at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_line(at: float, **fields: Any) -> str:
    return json.dumps({"timestamp": stamp(at), "level": "DEBUG", "logger": "sync", **fields})


def pulled(at: float, report: str = "a" * 40, said: str = "finished in 7 ms") -> str:
    return f"{stamp(at)} DEBUG   sync: report {report} of a: {said}"


def delivered(at: float, server: str = "db1", uuid: str = UUID) -> str:
    what = f"delivered: 'store report' of a at {stamp(at)} ({uuid}) to https://{server}:8081"
    return f"{stamp(at)} DEBUG   pdbclient.journal: {what}"


def told(*lines: str, service: str = "db1 reconciler", **services: str) -> dict[str, str]:
    return {service: "\n".join(lines) + "\n", **services}


def logged(logs: dict[str, str], *events: Event | tuple[Event, ...]) -> Evidence:
    return evidence(events, logs=logs)


def whats(found: Iterable[Violation]) -> list[str]:
    return [each.what for each in found]


def test_a_traceback_is_told_with_its_place_and_its_last_frames() -> None:
    (found,) = tracebacks(logged({"puppet1 gateway": "first\n" + TRACE}))
    assert (found.kind, found.what, found.where) == (Kind.TRACEBACK, "ValueError: broken", "puppet1 gateway, line 3")
    assert found.evidence == ('File "one.py", line 1, in one', 'File "two.py", line 2, in two')


def test_a_traceback_in_a_line_of_json_is_one_too() -> None:
    line = json_line(1, message="it broke", exception=TRACE.partition("\n")[2].rpartition("2027")[0].strip())
    (found,) = tracebacks(logged(told(line)))
    assert found.what.startswith("ValueError: broken")


def test_every_traceback_counts_and_an_error_without_one_does_not() -> None:
    assert len(list(tracebacks(logged({"a": TRACE * 3, "b": TRACE})))) == 4
    assert list(tracebacks(logged({"a": "2027-01-15T08:00:01.000Z ERROR pdbclient: Trace back later\n"}))) == []


def test_a_daemon_that_ends_by_itself_is_told_with_its_last_words() -> None:
    failures = {"db1 reconciler": [1, -11]}
    found = list(ended(evidence([], logs={"db1 reconciler": "one\ntwo\n"}, failures=failures)))
    assert [(each.kind, each.what) for each in found] == [(Kind.ENDED, "exit code 1"), (Kind.ENDED, "exit code -11")]
    assert found[0].evidence == ("one", "two")


def test_a_brake_that_nothing_explains_is_wrong() -> None:
    line = json_line(50, message="nodes: failed: safety brake: the remote reports no nodes at all")
    (found,) = brakes(logged(told(json_line(40), line)))
    assert (found.kind, found.where) == (Kind.BRAKE, "db1 reconciler, line 2")
    assert found.at == pytest.approx(50)
    text = f"{stamp(50)} ERROR   sync: nodes from db2: failed: safety brake: 9 of 10"
    assert len(list(brakes(logged(told(text))))) == 1


@pytest.mark.parametrize(
    ("what", "number"),
    [
        (nemesis("emptied", "db2", 40, 45), 0),
        (nemesis("restored", "db1", 40, 45), 0),
        (nemesis("emptied", "db2", 60, 65), 1),
        (nemesis("kill", "db2 puppetdb", 40, 45), 1),
    ],
    ids=str,
)
def test_a_server_that_was_emptied_or_put_back_before_explains_it(what: tuple[Event, ...], number: int) -> None:
    line = json_line(50, message="nodes: failed: safety brake: 9 of 10")
    assert len(list(brakes(logged(told(line), what)))) == number


def test_a_report_that_one_reconciler_pulls_twice_is_wrong() -> None:
    (found,) = transferred_twice(logged(told(pulled(10), pulled(30))))
    assert (found.kind, found.where) == (Kind.TRANSFERRED_TWICE, "db1 reconciler")
    assert found.at == pytest.approx(30)
    assert found.evidence[0].startswith("db1 reconciler, line 1: ")


def test_that_each_pulls_it_once_or_tries_again_what_failed_is_not() -> None:
    other = {"db2 reconciler": pulled(20)}
    lines = told(pulled(10), pulled(11, "b" * 40), pulled(30, said="failed: no"), pulled(31, said="start"), **other)
    lines["db1 reconciler"] += f"{stamp(32)} INFO    sync: reports from https://db2:8081: finished in 70 ms"
    evidence_ = logged(lines)
    assert list(transferred_twice(evidence_)) == []
    assert len(transfers(evidence_)) == 3


def test_a_server_that_lost_it_in_between_is_given_it_again() -> None:
    lines = told(pulled(10), pulled(30))
    assert list(transferred_twice(logged(lines, nemesis("emptied", "db1", 15, 20)))) == []
    assert len(list(transferred_twice(logged(lines, nemesis("emptied", "db2", 15, 20))))) == 1
    assert len(list(transferred_twice(logged(lines, nemesis("emptied", "db1", 35, 40))))) == 1


def test_a_command_that_is_delivered_twice_to_one_server_is_wrong_whichever_gateways_do_it() -> None:
    one, other = {"puppet1 gateway": delivered(100)}, {"puppet2 gateway": delivered(130)}
    assert whats(transferred_twice(logged(one | other))) == [f"command {UUID} to https://db1:8081"]
    assert list(transferred_twice(logged(one | {"puppet2 gateway": delivered(130, "db2")}))) == []
    assert list(transferred_twice(logged(one | {"puppet2 gateway": delivered(130, uuid=UUID[::-1])}))) == []
    assert len(deliveries(logged(one | other))) == 2


@pytest.mark.parametrize(
    ("what", "number"),
    [
        (nemesis("kill", "puppet1 gateway", 99, 101), 0),
        (nemesis("reset", "journal", 101, 101), 0),
        (nemesis("stop", "journal postgres", 110, 120), 0),
        (nemesis("power_cut", "puppet1", 110, 120), 0),
        (nemesis("emptied", "db1", 110, 120), 0),
        (nemesis("kill", "db1 puppetdb", 110, 120), 1),
        (nemesis("cut", "db1", 110, 120), 1),
        (nemesis("kill", "puppet1 gateway", 140, 150), 1),
        (nemesis("kill", "puppet1 gateway", 10, 20), 1),
        (nemesis("emptied", "db2", 110, 120), 1),
    ],
    ids=str,
)
def test_a_gateway_that_could_not_note_the_first_one_may_repeat_it(what: tuple[Event, ...], number: int) -> None:
    lines = {"puppet1 gateway": delivered(100) + "\n" + delivered(130)}
    assert len(list(transferred_twice(logged(lines, what)))) == number


def test_a_clock_that_jumps_is_no_other_time() -> None:
    jump = nemesis("clock", "db1 reconciler -3h", 20, 40)
    lines = told(pulled(10), pulled(30 - 3 * 3600, "b" * 40), pulled(50, "c" * 40))
    assert [round(line.at or 0) for line in transfers(logged(lines, jump))] == [10, 30, 50]
    brake = f"{stamp(30 + 3 * 3600)} ERROR   sync: nodes: failed: safety brake: 9 of 10"
    forth = nemesis("clock", "db1 reconciler +3h", 20, 40)
    assert len(list(brakes(logged(told(brake), forth, nemesis("emptied", "db2", 35, 36))))) == 1


def test_a_line_of_a_process_that_was_killed_is_left_out() -> None:
    lines = told(pulled(10), pulled(30)[:50], pulled(31, "b" * 40))
    assert len(transfers(logged(lines))) == 2
