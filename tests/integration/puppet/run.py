"""One run of the `puppet` command, and what it said."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Run", "failovers", "puppet"]

_FAILOVER = re.compile(r"(?:Error connecting to|Request to) \S+ on (\d+) at route .*Failing over to the next")
_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Run:
    """The exit code, standard output and error together, and how long it took."""

    status: int
    output: str
    seconds: float

    @property
    def failovers(self) -> list[int]:
        """The ports of the servers that the stock terminus gave up on, in order."""
        return failovers(self.output)

    def require(self, *status: int) -> Run:
        """This run, which must have ended so."""
        assert self.status in status, f"exit code {self.status}:\n{self.output}"
        return self


def failovers(log: str) -> list[int]:
    """The ports of the servers that the stock terminus gave up on, in order."""
    return [int(port) for port in _FAILOVER.findall(log)]


def puppet(arguments: Sequence[str | Path], root: Path, environment: Mapping[str, str] = os.environ) -> Run:
    """Run it to its end, with `root` for a home; after three minutes it is killed, with all it started.

    `environment` has the PATH on which it is found; of the rest nothing but the time zone is passed on.
    """
    kept = {name: environment[name] for name in ("PATH", "TZ") if name in environment}
    began = time.monotonic()
    with subprocess.Popen(
        [shutil.which("puppet", path=kept.get("PATH")) or "puppet", *map(str, arguments)],
        cwd=root,
        env={"LANG": "C.UTF-8", "HOME": str(root), **kept},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Run(process.returncode, output, time.monotonic() - began)
