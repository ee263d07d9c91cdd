"""The short form: a random schedule with a fixed seed for each arrangement, on real servers, with no violation.

`make test` runs both at once, in under four minutes. `make soak` has the long form, with the schedules that were
kept; and `make partitions SEED=... MINUTES=...` draws others, for as long as one likes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import LONG, rounds

from .__main__ import Options, directory_for, run
from .model import Arrangement

MINUTES = 20.0 if LONG else 1.5
SEEDS = (18, 19, 23)[: rounds(1, 3)]

pytestmark = [pytest.mark.partitions, pytest.mark.soak, pytest.mark.timeout(60.0 * MINUTES + 900.0)]

KEPT = sorted(Path(__file__).parent.glob("kept/*.json"))
"""Schedules that once ended with a violation, each as short as it got, and such as need every safety."""
CASES = {f"{each}-{seed}": Options(seed, MINUTES, each) for each in Arrangement for seed in SEEDS}
if LONG:
    CASES |= {path.stem: Options.of(path) for path in KEPT}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_schedule_violates_nothing(options: Options) -> None:
    with directory_for(None) as directory:
        result = run(options, directory)
    print(result.line)
    assert result.violations == (), "\n".join(map(str, result.violations))
    # That much was looked at: none of the checks is about nothing.
    counts = result.line["counts"]
    assert sum(counts["nemeses"].values()) >= 1
    assert counts["reads_exported"] > 20 * options.minutes
    assert sum(counts["commands"].values()) > 20 * options.minutes
    assert all(sum(records.values()) > 0 for records in counts["records"].values())
