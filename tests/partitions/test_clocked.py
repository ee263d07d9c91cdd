"""A program whose clock can be set sleeps as long as it says, and no shorter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ..integration.sync.clock import SettableClock
from .clocked import with_clock_words

ROOT = Path(__file__).parents[2]


def test_it_sleeps_and_its_clock_is_what_it_was_set_to(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import sys, time\nbegan = time.monotonic()\ntime.sleep(0.2)\n"
        "print(0.2 <= time.monotonic() - began < 5, round(time.time()), *sys.argv[1:])\n"
    )
    clock = SettableClock(tmp_path)
    clock.set(3 * 3600)
    environment = {**os.environ, **clock.environment, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    words = with_clock_words([sys.executable, "-m", "sleeper", "one", "two"])
    done = subprocess.run(
        words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    slept, now, *arguments = done.stdout.split()
    assert (slept, arguments) == ("True", ["one", "two"])
    assert int(now) - time.time() > 3 * 3600 - 120
