"""Processes whose wall clock a test sets, by libfaketime; their monotonic clocks stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pdbclient.lab import Lab
from pdbclient.lab.options import find_programs

__all__ = ["SettableClock", "with_clock"]


class SettableClock:
    """What `environment` is given to has this clock, right until it is `set`. `directory` is for the file that the
    library reads the time from, and processes of other accounts have to reach it.
    """

    def __init__(self, directory: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        assert found, "libfaketime is not installed: tests/install-packages"
        self._library = found[0]
        self._file = directory / "clock"
        self.set(0)

    def set(self, seconds: int) -> None:
        """Put the clock so far from the true time; it goes on from there."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.chmod(0o644)
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a process that has this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # The file is read each time, not once in ten seconds.
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Else the waits of a JVM return at once, and it spins.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "NO_FAKE_STAT": "1",
        }


@contextmanager
def with_clock(lab: Lab, name: str, clock: SettableClock, directory: Path) -> Iterator[None]:
    """Inside, that PuppetDB has this clock; its database has the true one. It is restarted before and after."""
    java = directory / "java-with-clock"
    variables = " ".join(f"{key}='{value}'" for key, value in clock.environment.items())
    java.write_text(f'#!/bin/sh\nexec env {variables} {find_programs(lab.options).java} "$@"\n')
    java.chmod(0o755)
    options = lab.options
    try:
        lab.fault(name, "kill")
        Lab.up(lab.directory, options=replace(options, java=java))
        yield
    finally:
        lab.fault(name, "kill")
        Lab.up(lab.directory, options=options)
