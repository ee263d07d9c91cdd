"""A server that a test starts as its child, and that ends with the tests, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pdbclient.lab.process import tail

__all__ = ["Server"]


class Server:
    """The process of one command line; standard output and error are appended to `log`."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        kept = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        with log.open("ab") as output:
            # setpriv: the kernel ends the server when we are killed and can stop nothing any more.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                cwd=log.parent,
                env={"LANG": "C.UTF-8", "HOME": str(log.parent), **kept, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for it; fails with the last lines of the log when the process ends or `seconds` are over."""
        deadline = time.monotonic() + seconds
        while not ready():
            status = self._process.poll()
            assert status is None, f"it ended with {status} while it started; {tail(self.log, 40)}"
            assert time.monotonic() < deadline, f"it is not ready after {seconds:g} s; {tail(self.log, 40)}"
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        self._process.send_signal(number)

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, SIGKILL after `seconds`; the exit code, negative when a signal ended it."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        return self._process.wait()
