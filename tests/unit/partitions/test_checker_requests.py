"""The checkers of requests: what failed without need, and what failed too late."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pdbclient.wire.timestamp import from_millis
from tests.partitions.checkers import Evidence, Kind, Violation
from tests.partitions.checkers.requests import commands_failed, late, queries_failed, runs_failed
from tests.partitions.history import TIMEOUT, Applied, Event

from . import made_up as site
from .made_up import evidence, nemesis, probes, read, submitted

FAILED: dict[str, Any] = {"status": 503, "error": "503: no", "by": None}
WELL: list[Event] = [*probes(0, 100, "journal"), *probes(0, 100, "db1"), *probes(0, 100, "db2", ok=False)]


def kinds(found: Iterable[Violation]) -> list[Kind]:
    return [each.kind for each in found]


def shared(*events: Event | tuple[Event, ...], **fields: Any) -> Evidence:
    return evidence([*WELL, *events], **fields)


def test_a_command_that_fails_while_its_gateway_is_up_and_the_journal_answers_is_wrong() -> None:
    (found,) = commands_failed(shared(submitted(50, **FAILED), nemesis("cut", "db1", 45, 55)))
    assert (found.kind, found.where, found.at) == (Kind.COMMAND_FAILED, "puppet1", 50)
    assert found.evidence == ("https://puppet1:8085: 503: no after 0.10 s", "meanwhile: cut db1")


@pytest.mark.parametrize(
    "excuse",
    [
        nemesis("kill", "puppet1 gateway", 45, 49),
        nemesis("stop", "puppet1 gateway", 50, 55),
        nemesis("cut", "puppet1", 45, 55),
        nemesis("cut", "journal", 45, 47),
        nemesis("one_way", "journal puppet1", 45, 55),
        nemesis("halves", "puppet1 db1", 45, 55),
        nemesis("reset", "journal", 49, 49),
        nemesis("stop", "journal postgres", 45, 55),
        tuple(probes(49, 49, "journal", ok=False)),
    ],
    ids=str,
)
def test_it_is_not_while_the_gateway_is_down_or_its_journal_out_of_reach(excuse: tuple[Event, ...]) -> None:
    assert list(commands_failed(shared(submitted(50, **FAILED), excuse))) == []


@pytest.mark.parametrize(
    "none",
    [
        nemesis("kill", "puppet2 gateway", 45, 55),
        nemesis("cut", "puppet2", 45, 55),
        nemesis("kill", "puppet1 gateway", 10, 20),
        nemesis("cut", "journal", 10, 20),
        nemesis("halves", "puppet1 journal", 45, 55),
        nemesis("delay", "journal", 45, 55),
        nemesis("clock", "puppet1 gateway", 45, 55),
        nemesis("revoke", "puppet1", 45, 55),
        tuple(probes(49, 49, "journal", host="puppet2", ok=False)),
    ],
    ids=str,
)
def test_what_happens_elsewhere_or_happened_long_ago_is_no_excuse(none: tuple[Event, ...]) -> None:
    assert kinds(commands_failed(shared(submitted(50, **FAILED), none))) == [Kind.COMMAND_FAILED]


def test_a_gateway_that_was_killed_is_up_when_its_log_says_that_it_listens() -> None:
    killed, failed = nemesis("kill", "puppet1 gateway", 10, 20), submitted(50, **FAILED)
    for at, number in ((5.0, 0), (30.0, 1), (50.5, 0)):
        moment = from_millis(site.SINCE + int(at * 1000))
        logs = {"puppet1 gateway": f"{moment} INFO    pdbclient.gateway: listening at 10.0.0.1 port 8085"}
        assert len(list(commands_failed(shared(failed, killed, logs=logs)))) == number, at


def test_what_puppet_sent_past_its_gateway_is_no_affair_of_the_gateways() -> None:
    past = submitted(50, url=site.DATABASES["db1"], **FAILED)
    assert list(commands_failed(shared(past))) == []


def test_a_journal_in_a_file_is_out_of_reach_in_a_power_cut_alone() -> None:
    alone: list[Event] = [submitted(50, **FAILED)]
    for nemesis_, found in (
        (nemesis("cut", "puppet1", 45, 55), [Kind.COMMAND_FAILED]),
        (nemesis("power_cut", "puppet1", 47, 48), []),
        (nemesis("power_cut", "puppet2", 47, 48), [Kind.COMMAND_FAILED]),
    ):
        assert kinds(commands_failed(evidence([*alone, nemesis_], shared=False))) == found, nemesis_


def test_without_gateways_a_command_fails_when_no_server_took_it() -> None:
    one = submitted(50, 1, url=site.DATABASES["db1"], **FAILED)
    other = submitted(51, 1, url=site.DATABASES["db2"])
    given_up = [submitted(60, 2, url=url, **FAILED) for url in site.DATABASES.values()]
    found = list(commands_failed(shared(one, other, *given_up, fronts={})))
    assert [each.what for each in found] == ["catalog 2 of a"]


def test_a_query_that_fails_while_one_server_answers_probes_is_wrong() -> None:
    for kind in ("exported", "node"):
        (found,) = queries_failed(shared(read(50, kind=kind, **FAILED), nemesis("cut", "db2", 45, 55)))
        assert (found.kind, found.what) == (Kind.QUERY_FAILED, f"query ({kind})")
        assert found.evidence[-1] == "puppet1 reached db1 all the time, by its probes"
    assert kinds(queries_failed(shared(read(50, **FAILED), fronts={}))) == [Kind.QUERY_FAILED]
    assert list(queries_failed(shared(read(50, final=False, **FAILED), fronts={}))) == [], "the next one was asked"
    assert kinds(queries_failed(shared(read(50, final=False, **FAILED)))) == [Kind.QUERY_FAILED]


@pytest.mark.parametrize(
    "excuse",
    [
        nemesis("cut", "db1", 45, 55),
        nemesis("cut", "puppet1", 45, 55),
        nemesis("one_way", "db1 puppet1", 50, 50),
        nemesis("stop", "db1 postgres", 45, 55),
        nemesis("emptied", "db1", 45, 55),
        nemesis("kill", "puppet1 gateway", 45, 55),
        nemesis("revoke", "puppet1", 45, 55),
        tuple(probes(48, 48, ok=False)),
    ],
    ids=str,
)
def test_it_is_not_when_its_gateway_could_reach_none(excuse: tuple[Event, ...]) -> None:
    assert list(queries_failed(shared(read(50, **FAILED), excuse))) == []


@pytest.mark.parametrize(
    "none",
    [
        nemesis("cut", "db1", 30, 40),
        nemesis("cut", "puppet2", 45, 55),
        nemesis("delay", "puppet1", 45, 55),
        nemesis("halves", "puppet1 db1", 45, 55),
        nemesis("one_way", "db1 db2", 45, 55),
        nemesis("stop", "db1 reconciler", 45, 55),
        nemesis("clock", "db1 reconciler +3h", 45, 55),
        tuple(probes(20, 20, ok=False)),
    ],
    ids=str,
)
def test_a_server_that_was_away_before_that_is_no_excuse(none: tuple[Event, ...]) -> None:
    assert kinds(queries_failed(shared(read(50, **FAILED), none))) == [Kind.QUERY_FAILED]


def test_a_run_of_puppet_that_fails_while_everything_is_there_is_wrong() -> None:
    failed = Applied(50, 4.0, "puppet1", "real", 1, "Error: no")
    (found,) = runs_failed(shared(failed, nemesis("cut", "db2", 45, 55)))
    assert (found.kind, found.what) == (Kind.RUN_FAILED, "puppet apply after 4.0 s")
    assert list(runs_failed(shared(Applied(50, 4.0, "puppet1", "real", 2)))) == []
    for excuse in (
        nemesis("kill", "puppet1 gateway", 53, 55),
        nemesis("cut", "journal", 53, 55),
        nemesis("cut", "db1", 53, 55),
    ):
        assert list(runs_failed(shared(failed, excuse))) == [], excuse


def test_what_fails_fails_in_time() -> None:
    slow: dict[str, Any] = {"status": None, "error": "OSError: reset", "by": None, "took": 11.5}
    assert kinds(late(shared(submitted(50, **slow), read(50, **slow)))) == [Kind.LATE, Kind.LATE]
    in_time = slow | {"took": 10.4}
    assert list(late(shared(submitted(50, **in_time), read(50, **in_time)))) == []
    # Slow, and yet an answer.
    assert list(late(shared(submitted(50, took=30.0)))) == []


def test_a_gateway_that_is_up_answers_before_puppet_gives_it_up() -> None:
    given_up: dict[str, Any] = {"status": None, "error": TIMEOUT, "by": None, "took": 10.0}
    assert kinds(late(shared(submitted(50, **given_up)))) == [Kind.LATE]
    assert list(late(shared(submitted(50, **given_up), nemesis("stop", "puppet1 gateway", 45, 55)))) == []
    assert list(late(shared(submitted(50, url=site.DATABASES["db1"], **given_up)))) == []
    assert list(late(shared(submitted(50, **given_up), fronts={}))) == []
