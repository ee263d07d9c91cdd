"""What the status port of the reconciler shows, from its state file, and has it do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import msgspec

from pdbclient.config.model import Endpoint, SyncConfig
from pdbclient.config.settings import PUPPETDB_PORT
from pdbclient.config.urls import parse_server_url
from pdbclient.http.tls_dates import earliest, expiries
from pdbclient.observe.exposition import exposition
from pdbclient.observe.page.document import Certificate, Document, Program, Remote
from pdbclient.sync.inventory.interfaces import Clock
from pdbclient.sync.service.metrics import Counted, SyncMetrics
from pdbclient.sync.state.status import read_status

__all__ = ["Shown"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of one configuration, by a daemon that began at `started` (s since 1970).

    Its state file is opened anew for each look: each thread needs its own. `wake` has a pass made.
    """

    config: SyncConfig
    clock: Clock
    counted: Counted
    wake: Callable[[Endpoint], None]
    started: float

    def document(self) -> Document:
        """The status document. Raises `SyncError` when the state file cannot be read."""
        now = self.clock.wall()
        intervals = {each.endpoint.url: each.interval for each in self.config.remotes}
        remotes = [
            msgspec.convert({**each.as_json(), "interval_seconds": intervals[each.remote]}, Remote)
            for each in read_status(self.config, now)
        ]
        return Document(
            Program("sync", socket.gethostname(), version("pdbclient"), datetime.fromtimestamp(self.started, UTC)),
            datetime.fromtimestamp(now, UTC),
            remotes=tuple(remotes),
            certificates=tuple(
                Certificate(each.setting, str(each.path), each.name, each.ends, each.error)
                for each in expiries(self.config.tls)
            ),
        )

    def metrics(self) -> bytes:
        """The text form of Prometheus. Raises `SyncError` as `document` does."""
        passes = SyncMetrics(read_status(self.config, self.clock.wall()), earliest(self.config.tls))
        return exposition(passes, self.counted)

    def trigger(self, query: Mapping[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Have a pass made against the `remote` of the query, or all; the answer tells against which that will be."""
        remote = query["remote"][-1] if query.get("remote") else None
        chosen = [each.endpoint for each in self.config.remotes]
        if remote is not None:
            try:
                wanted = parse_server_url(remote, default_port=PUPPETDB_PORT)
            except ValueError:
                chosen = []
            else:
                chosen = [endpoint for endpoint in chosen if endpoint == wanted]
        for endpoint in chosen:
            self.wake(endpoint)
        if not chosen:
            return 404, {"error": f"{remote} is not one of the remotes"}
        return 202, {"triggered": [endpoint.url for endpoint in chosen]}
