"""The output of a monitoring plugin: state word, text, performance data in the form that Nagios reads."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from pdbclient.observe.page.check import Limits, State, checked, unanswered
from pdbclient.observe.page.document import Certificate, Circuit, Document, JournalFigures, Server

from .documents import NOW, PRIMARY, REPLICA, WHY, ago, gateway, reconciler

# 'label'=value[unit];[warning];[critical];[minimum], as the guidelines for plugins say; a range may end with a colon.
RANGE = r"(?:\d+(?:\.\d+)?:?)?"
ITEM = re.compile(rf"'([^'=]+)'=(-?\d+(?:\.\d+)?)(s|c|B)?;({RANGE});({RANGE});(0?)")


def output(
    document: Document, limits: Limits | None = None
) -> tuple[State, str, dict[str, tuple[str, ...]], list[str]]:
    """State, the text of the first line, performance data by label (value, unit, warning, critical), more lines."""
    state, text = checked(document, limits or Limits())
    first, *more = text.splitlines()
    said, _, data = first.partition(" | ")
    word = f"PDBCLIENT {document.program.name.upper()} {state.name} - "
    assert said.startswith(word)
    items = ITEM.findall(data)
    assert " ".join(f"'{i[0]}'={i[1]}{i[2]};{i[3]};{i[4]};{i[5]}" for i in items) == data, "nothing but items"
    assert not any("|" in line for line in (said, *more))
    return state, said.removeprefix(word), {item[0]: item[1:5] for item in items}, more


def test_a_healthy_gateway_is_ok_and_gives_its_figures() -> None:
    state, text, data, more = output(gateway())
    assert (state, text, more) == (State.OK, "all 2 servers healthy", [])
    assert data["healthy_servers"] == ("2", "", "2:", "1:")
    assert data["command_answered"] == ("7", "c", "", "")
    assert data["command_p95"] == ("0.1", "s", "", "")
    assert data["oldest_pending"] == ("0", "s", "600", "3600")
    assert data["certificate_days"] == ("400", "", "30:", "0:")
    assert data["failovers_of_a_day"] == ("0", "", "", "")


def test_an_unhealthy_server_is_a_warning_that_says_which_and_why() -> None:
    state, text, data, _ = output(gateway(failed_over=True))
    assert state is State.WARNING
    assert PRIMARY in text
    assert WHY in text
    assert data["healthy_servers"][0] == "1"
    assert data["failovers_of_a_day"][0] == "2"


def test_no_server_is_critical_and_the_rest_is_on_further_lines() -> None:
    down = tuple(Circuit(operation, "open", ago(minutes=5), WHY) for operation in ("command", "query"))
    state, text, _, more = output(gateway(servers=(Server(PRIMARY, down), Server(REPLICA, down)), journal=None))
    assert state is State.CRITICAL
    assert text.startswith("4 things to look at: No PuppetDB takes commands.")
    assert len(more) == 3


@pytest.mark.parametrize(("oldest", "state"), [(599.0, State.OK), (700.0, State.WARNING), (3700.0, State.CRITICAL)])
def test_a_command_that_is_pending_for_long_is_a_warning_and_then_critical(oldest: float, state: State) -> None:
    journal = JournalFigures("/j", answers=True, pending={"any": 3}, oldest=oldest)
    found, _, data, _ = output(gateway(journal=journal))
    assert found is state
    assert data["pending"][0] == "3"


def test_the_limits_are_the_callers() -> None:
    journal = JournalFigures("/j", answers=True, pending={"any": 3}, oldest=700.0)
    state, _, data, _ = output(gateway(journal=journal), Limits(pending=650))
    assert state is State.CRITICAL
    assert data["oldest_pending"][3] == "650"


@pytest.mark.parametrize(("days", "state"), [(31, State.OK), (29, State.WARNING), (-1, State.CRITICAL)])
def test_a_certificate_that_ends_is_a_warning_and_then_critical(days: int, state: State) -> None:
    certificate = Certificate("ssl_cert", "/ssl/cert.pem", "CN=puppet", NOW + timedelta(days=days))
    found, _, data, _ = output(gateway(certificates=(certificate,)))
    assert found is state
    assert float(data["certificate_days"][0]) == days


def test_a_reconciler_says_when_it_last_passed_and_is_critical_when_that_is_long_ago() -> None:
    state, text, data, _ = output(reconciler())
    assert (state, text) == (State.OK, "last pass 70 s ago")
    assert data["lag db2.example.com:8081"] == ("70", "s", "360", "3600")
    assert output(reconciler(lag_seconds=400.0))[0] is State.WARNING
    assert output(reconciler(lag_seconds=4000.0))[0] is State.CRITICAL
    assert output(reconciler(quarantined=2))[0] is State.WARNING


NEVER: dict[str, object] = {"ok": False, "last_success": None, "lag_seconds": None, "last_pass": None, "entities": {}}
REFUSED = {"last_failure": ago(minutes=2), "last_error": "not sent: connection refused"}


@pytest.mark.parametrize(
    ("failed", "text"),
    [
        (REFUSED, f"No pass against {REPLICA} has succeeded since the daemon began, "),
        ({}, f"There was no pass against {REPLICA} yet."),
    ],
)
def test_a_reconciler_that_never_passed_is_critical_once_it_has_run_for_so_long(
    failed: dict[str, object], text: str
) -> None:
    document = reconciler(**NEVER, **failed)
    state, said, _, more = output(document)
    assert state is State.CRITICAL
    assert sum(text in line for line in (said, *more)) == 1, "once"
    begun = replace(document, program=replace(document.program, started=ago(minutes=59)))
    assert output(begun)[0] is State.WARNING
    assert output(begun, Limits(lag=1800))[0] is State.CRITICAL


def test_one_remote_that_never_passed_is_critical_beside_one_that_does() -> None:
    document = replace(reconciler(), remotes=(*reconciler().remotes, *reconciler(**NEVER, **REFUSED).remotes))
    assert output(document)[0] is State.CRITICAL


def test_a_journal_that_was_never_counted_is_a_warning_when_it_should_have_been() -> None:
    document = gateway(journal=JournalFigures("/j", answers=True, counted=False))
    state, text, data, _ = output(document)
    assert (state, "not counted yet" in text, "pending" in data) == (State.WARNING, True, False)
    begun = replace(document, program=replace(document.program, started=ago(minutes=9)))
    assert output(begun)[0] is State.OK


def test_what_a_server_says_cannot_pass_for_performance_data_or_a_line_of_its_own() -> None:
    why = "server error: HTTP 500: a | 'fake'=1\nPDBCLIENT GATEWAY OK"
    down = tuple(Circuit(operation, "open", ago(minutes=5), why) for operation in ("command", "query"))
    _, text, data, more = output(replace(gateway(), servers=(Server(PRIMARY, down), gateway().servers[1])))
    assert "a / 'fake'=1 PDBCLIENT GATEWAY OK" in text
    assert "fake" not in data
    assert more == []


def test_a_daemon_that_does_not_answer_has_its_line_too() -> None:
    assert unanswered("sync", State.CRITICAL, "no daemon\nlistens") == "PDBCLIENT SYNC CRITICAL - no daemon listens"
