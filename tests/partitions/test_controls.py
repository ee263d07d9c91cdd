"""The same work and faults without the gateway, and with one safety turned off: the checkers find what is wrong then.

Each takes three minutes: all of them in the long form, one in the short one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak import LONG

from .__main__ import Options, directory_for, run
from .checkers import Kind
from .model import Front
from .safeties import Safety

pytestmark = [pytest.mark.partitions, pytest.mark.soak, pytest.mark.timeout(900)]

EVERY = Options.of(Path(__file__).parent / "kept" / "every-safety.json")
POWER = Options.of(Path(__file__).parent / "kept" / "power-cut.json")
SITE = {Kind.BACKWARDS, Kind.COMMAND_FAILED, Kind.LOST, Kind.UNEQUAL}
# What a disk makes of a journal that it was not told to sync is a matter of chance.
DAMAGE = [{kind} for kind in (Kind.LOST, Kind.MISSING, Kind.COMMAND_FAILED, Kind.UNSETTLED, Kind.ENDED)]
CONTROLS = {
    "stock": (replace(EVERY, front=Front.STOCK), [SITE]),
    "haproxy": (replace(EVERY, front=Front.HAPROXY), [SITE]),
    "freshness": (replace(EVERY, off=frozenset({Safety.FRESHNESS})), [{Kind.BACKWARDS}]),
    "verification": (replace(EVERY, off=frozenset({Safety.VERIFICATION})), [{Kind.LOST}]),
    "journal-sync": (replace(POWER, off=frozenset({Safety.JOURNAL_SYNC})), DAMAGE),
}


@pytest.mark.parametrize("name", CONTROLS if LONG else ["stock"])
def test_what_is_wrong_without_it_is_found(name: str) -> None:
    options, expected = CONTROLS[name]
    with directory_for(None) as directory:
        result = run(options, directory)
    print(result.line)
    kinds = {violation.kind for violation in result.violations}
    assert any(each <= kinds for each in expected), kinds
