"""The gateway beside a Puppet, as its systemd unit starts it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import requests

from pdbclient.config import load_config
from pdbclient.lab.process import tail

from .process import Server

__all__ = ["Gateway"]

_START_SECONDS = 30.0
_STATUS = "/status/v1/simple"


class Gateway:
    """`pdbclient gateway --config FILE`, from `start` (or entering it) until `stop` (or leaving it)."""

    def __init__(self, config: Path, log: Path, command: Sequence[str | Path] = ()) -> None:
        self._command = command or (sys.executable, "-m", "pdbclient", "gateway", "--config", config)
        self._config = config
        self.log = log
        self._process: Server | None = None

    def start(self, environment: dict[str, str] | None = None) -> Gateway:
        """Start it and wait until it answers."""
        self._process = Server(self._command, self.log, environment)
        self._process.wait_until(self.answers, _START_SECONDS)
        return self

    def answers(self) -> bool:
        """Whether a client with its own certificate gets an answer of it."""
        config = load_config(self._config)
        assert config.gateway_url is not None
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(config.tls.ca)
            session.cert = (str(config.tls.cert), str(config.tls.key))
            try:
                return session.get(config.gateway_url.url + _STATUS, timeout=10).ok
            except requests.RequestException:
                return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.signal(number)

    @property
    def pid(self) -> int:
        """The process id of the one that was started last."""
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.running()

    def reload(self) -> None:
        """What the unit's ExecReload does."""
        self.signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM; the exit code. What it logged is printed: pytest shows it beside a failure."""
        assert self._process is not None
        status = self._process.stop(seconds=30)
        print(tail(self.log, 60))
        return status

    def __enter__(self) -> Gateway:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
