"""A daemon whose wall clock can be set, and that waits less: `python -m tests.partitions.clocked MODULE ARGUMENT...`.

libfaketime 0.9.10 makes `time.sleep` an error (EINVAL, from Python 3.11 on) when it leaves monotonic clocks alone.
Every other way to wait is well with it, so here it waits by one of those.

A gateway looks after minutes whether servers have lost something, and sends it again. Here reconcilers pull every
ten seconds, not every five minutes: what it does in minutes is as many times sooner.
"""

from __future__ import annotations

import importlib
import runpy
import select
import sys
import time
from collections.abc import Sequence
from typing import SupportsIndex

__all__ = ["with_clock_words"]

SOONER = {
    "pdbclient.journal.work.audit.LOSS_EVERY": 6.0,
    "pdbclient.journal.work.audit.LATE": 20.0,
    "pdbclient.journal.work.audit.AGAIN_FIRST": 20.0,
}
"""Of 180, 600 and 600 s."""


def with_clock_words(words: Sequence[str]) -> list[str]:
    """The command `python -m MODULE ...`, as one whose clock can be set."""
    python, option, *rest = words
    assert (python, option) == (sys.executable, "-m")
    return [python, option, __name__, *rest]


def _sleep(seconds: float | SupportsIndex, /) -> None:
    # A negative time is a ValueError there, too.
    select.select([], [], [], float(seconds))


def _hurry() -> None:
    for place, seconds in SOONER.items():
        module, _, name = place.rpartition(".")
        constants = importlib.import_module(module)
        # One that is not there any more must not be "changed".
        assert getattr(constants, name) > seconds
        setattr(constants, name, seconds)


if __name__ == "__main__":
    time.sleep = _sleep
    if "gateway" in sys.argv:
        _hurry()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
