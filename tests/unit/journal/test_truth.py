"""What the crash test judges by: that it would see a loss, a duplicate and what nobody sent."""

from __future__ import annotations

from collections import Counter

import pytest

from ...integration.journal_load import Identity
from ...integration.journal_truth import HeldByServer, Verdict, judge

REPORT = Identity("store report", "a", "2026-01-01T00:00:02.000Z", "run")
FACTS = Identity("replace facts", "a", "2026-01-01T00:00:03.000Z")
OFF = Identity("deactivate node", "a", "2026-01-01T00:00:04.000Z")
ALL = {REPORT, FACTS, OFF}
EARLIER, LATER = "2026-01-01T00:00:01.000Z", "2026-01-01T00:00:05.000Z"


def holding(*reports: Identity, facts: str = "", off: str = "", active: str = "") -> HeldByServer:
    newest = {("replace facts", "a"): facts, ("deactivate node", "a"): off}
    return HeldByServer(Counter(reports), {key: at for key, at in newest.items() if at}, {"a": active})


WHOLE = holding(REPORT, facts=FACTS.stamp, off=OFF.stamp, active=FACTS.stamp)


def test_all_of_it_on_either_server_is_enough() -> None:
    assert judge(ALL, ALL, [WHOLE, holding()]) == Verdict((), (), ())
    halves = [holding(REPORT), holding(facts=FACTS.stamp, off=OFF.stamp)]
    assert judge(ALL, ALL, halves) == Verdict((), (), ())


@pytest.mark.parametrize(
    ("server", "lost"),
    [
        (holding(facts=FACTS.stamp, off=OFF.stamp), REPORT),
        (holding(REPORT, off=OFF.stamp), FACTS),
        (holding(REPORT, facts=EARLIER, off=OFF.stamp), FACTS),
        (holding(REPORT, facts=FACTS.stamp, active=FACTS.stamp), OFF),
        (holding(REPORT, facts=FACTS.stamp, off=EARLIER, active=FACTS.stamp), OFF),
    ],
)
def test_what_is_on_no_server_is_lost(server: HeldByServer, lost: Identity) -> None:
    assert judge(ALL, ALL, [server, holding()]).lost == (lost,)


def test_what_was_not_acknowledged_may_be_there_or_not() -> None:
    assert judge(ALL, (), [holding(), holding()]) == Verdict((), (), ())
    assert judge(ALL, (), [WHOLE, holding()]) == Verdict((), (), ())


def test_something_newer_takes_the_place_of_facts_and_of_a_deactivation() -> None:
    newer = Identity("replace facts", "a", LATER)
    server = holding(REPORT, facts=LATER, active=LATER)
    assert judge({*ALL, newer}, ALL, [server]) == Verdict((), (), ())


def test_a_report_twice_on_one_server_is_a_duplicate_and_once_on_both_is_none() -> None:
    assert judge(ALL, (), [holding(REPORT, REPORT)]).duplicated == (REPORT,)
    assert judge(ALL, (), [holding(REPORT), holding(REPORT)]).duplicated == ()


def test_what_nobody_sent_is_told() -> None:
    assert judge({FACTS, OFF}, (), [WHOLE]).phantoms == (REPORT,)
