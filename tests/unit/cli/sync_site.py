"""A sync configuration whose servers are in memory, for the commands of `pdbclient sync`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pdbclient.config import SyncConfig, load_sync_config
from pdbclient.config.model import Endpoint, TlsFiles
from pdbclient.sync.inventory.interfaces import Server
from tests.unit.sync.fake import FakePuppetDB

LOCAL, REMOTE, OTHER = (
    "https://here.example.com:8081",
    "https://there.example.com:8081",
    "https://more.example.com:8081",
)


class SyncSite:
    """`here` is the local server, `there` and `more` are remotes: `more` only in what `configured` is told."""

    def __init__(self, directory: Path, tls: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.there, self.more = (FakePuppetDB(name, time.time) for name in ("here", "there", "more"))
        self._directory, self._tls = directory, tls
        self.conf = self.configured()

        def session(endpoint: Endpoint, tls: object, timeouts: object) -> Server:
            return next(each for each in (self.here, self.there, self.more) if each.endpoint == endpoint)

        for module in ("diff", "reconciler", "seed"):
            monkeypatch.setattr(f"pdbclient.sync.run.{module}.Session", session)

    def configured(self, *remotes: str, more: str = "") -> Path:
        """The configuration, with these remotes (default: one) and further lines."""
        each = ", ".join(f'{{server_url: "{url}", interval: 5m}}' for url in remotes or (REMOTE,))
        tls = {"ssl_ca_cert": self._tls.ca, "ssl_cert": self._tls.cert, "ssl_key": self._tls.key}
        path = self._directory / "sync.conf"
        path.write_text(
            f'sync: {{\n  local_url: "{LOCAL}"\n  remotes: [{each}]\n  state_dir: "{self._directory}/state"\n'
            + "".join(f'  {name}: "{file}"\n' for name, file in tls.items())
            + f"{more}}}\n"
        )
        return path

    @property
    def config(self) -> SyncConfig:
        """What the file says."""
        return load_sync_config(self.conf)

    def ago(self, seconds: float) -> int:
        """A producer timestamp (ms) of so long ago."""
        return int((time.time() - seconds) * 1000)
