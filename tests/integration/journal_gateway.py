"""A `pdbclient gateway` process with a journal, in front of a real pair, that may be killed and started again."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pdbclient.config import ClientConfig, load_config
from pdbclient.journal import Counts, Journal
from pdbclient.journal.ledger import entries
from pdbclient.lab import Lab

from ..faults.gateway import GatewayProcess, gateway_config, write_config

__all__ = ["JournalGateway"]

START = 60.0


class JournalGateway:
    """The gateway of `lab`, its files in `directory`. Leaving the context ends it, whatever its state.

    `settings` go to its `[pdbclient]` beside the journal; `complaints` counts its lines at level ERROR, by their
    beginning.
    """

    def __init__(self, lab: Lab, directory: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.journal = directory / "journal"
        self.config: ClientConfig = gateway_config(
            load_config(lab.puppetdb_conf), lab.client_tls, gateway_health_interval=2.0
        )
        assert self.config.gateway_url is not None
        self.port = self.config.gateway_url.port
        self.complaints: Counter[str] = Counter()
        self._path = write_config(directory / "puppetdb.conf", self.config)
        with self._path.open("a") as file:
            for name, value in {"journal": self.journal, **(settings or {})}.items():
                file.write(f"{name} = {value}\n")
        self._log = directory / "log"
        self._process: GatewayProcess | None = None

    def __enter__(self) -> Self:
        self.launch()
        self.wait_until_up()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.__exit__()

    def launch(self) -> None:
        """Start it, and do not wait until it serves."""
        self._process = GatewayProcess(self._path, self.port, self._log, verbose=True).__enter__()

    def wait_until_up(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        self._process.said("listening at", seconds=START)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL, -signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended well."""
        self._end(signal.SIGTERM, 0)

    def counts(self) -> Counts:
        """What is in its journal, whether it runs or not."""
        with Journal.open(str(self.journal), beside=True) as journal:
            return journal.run(entries.counts)

    def wait_until_nothing_is_pending(self, seconds: float) -> float:
        """How long that took."""
        began = time.monotonic()
        while pending := self.counts().pending:
            assert time.monotonic() - began < seconds, f"still pending: {pending}\n{self._log.read_text()[-3000:]}"
            time.sleep(0.5)
        return time.monotonic() - began

    def delivered(self) -> list[str]:
        """The uuids of what its delivery brought to a server, in that order, by its log."""
        return re.findall(r"DEBUG +pdbclient\.journal: delivered: .+ \((\S+)\) to https://", self._log.read_text())

    def warned(self) -> list[tuple[str, str]]:
        """What it has logged at level WARNING and ERROR: level and message."""
        return re.findall(r"^\S+ (WARNING|ERROR) +pdbclient\S*: (.*)$", self._log.read_text(), flags=re.MULTILINE)

    def _end(self, number: signal.Signals, code: int) -> None:
        assert self._process is not None
        self._process.signal(number)
        assert self._process.ended(60) == code, self._process.text[-3000:]
        text = self._process.text
        assert "Traceback" not in text, text[-5000:]
        for line in text.splitlines():
            if " ERROR " in line:
                self.complaints[line.partition(" ERROR ")[2][:60]] += 1
