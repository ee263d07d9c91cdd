"""How the passes go, from the state file alone: beside a running daemon, and without one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pdbclient.config.model import SyncConfig
from pdbclient.sync.policy.model import Difference, Entity, Mode
from pdbclient.sync.state.store import EntityRecord, ServerRecord, State, state_path
from pdbclient.wire.timestamp import utc_text

__all__ = ["RemoteStatus", "read_status"]

STEP = 60.0
"""Seconds by which a clock may be corrected, and what it said before is still taken for true."""
_COUNTS = ("transferred", "failed", "unequal", "tied", "held", "unusable")
"""What is shown of the last pass, as `EntityResult` names it."""


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """What is known of one remote at `now`. Times are in seconds since 1970.

    `last_error` is why the latest pass failed, None if it did not. `last_pass` is that pass as
    `PassResult.as_json` has it, empty when there was none. `cursor_age` is how far (s) the newest report seen lies
    back. `entities` is how each one's part goes, `servers` what the two servers are and answer, by URL.
    """

    remote: str
    now: float
    last_success: float | None
    last_failure: float | None
    last_error: str | None
    worked: bool
    failed_after_working: bool
    last_pass: Mapping[str, Any]
    quarantined: Mapping[Entity, int]
    waiting: Mapping[Entity, int]
    cursor_age: float | None
    entities: Mapping[Entity, EntityRecord] = field(default_factory=dict)
    servers: Mapping[str, ServerRecord] = field(default_factory=dict)

    @property
    def ran(self) -> bool:
        """Whether there was a pass at all."""
        return self.last_success is not None or self.last_failure is not None

    @property
    def succeeded(self) -> bool:
        """Whether the latest pass did. One in which only some records failed did: those are `lacking`."""
        return self.ran and self.last_error is None

    @property
    def lacking(self) -> bool:
        """Whether some records did not get here: they failed in the latest pass, or wait, or are quarantined."""
        return bool(self.total("failed") or any(self.waiting.values()) or any(self.quarantined.values()))

    @property
    def lag(self) -> float | None:
        """Seconds since a pass last succeeded. None if none ever did, or that cannot be told: the clock was set back
        since.
        """
        if self.last_success is None or self.last_success > self.now + STEP:
            return None
        return max(self.now - self.last_success, 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds that the latest pass took."""
        return float(self.last_pass.get("elapsed_ms", 0)) / 1000

    @property
    def transfer_mean(self) -> float | None:
        """Seconds that a record took in the latest pass, None when there was none to transfer."""
        records = sum(self.of(entity, "transferred") + self.of(entity, "failed") for entity in Entity)
        return sum(self.of(entity, "transfer_seconds") for entity in Entity) / records if records else None

    def of(self, entity: Entity, name: str) -> float:
        """What the latest pass has under `name` for `entity` (`EntityResult`), 0 if it has not."""
        return float(self.last_pass.get("entities", {}).get(entity, {}).get(name, 0))

    def total(self, name: str) -> int:
        """As `of`, of all entities together."""
        return int(sum(self.of(entity, name) for entity in Entity))

    def as_json(self) -> dict[str, Any]:
        """The document that `pdbclient sync status --json` and the status port give."""
        return {
            "remote": self.remote,
            "ok": self.succeeded,
            "last_success": _moment(self.last_success),
            "last_failure": _moment(self.last_failure),
            "last_error": self.last_error,
            "lag_seconds": self.lag,
            "has_worked_once": self.worked,
            "has_failed_after_working": self.failed_after_working,
            **{name: self.total(name) for name in _COUNTS},
            "quarantined": sum(self.quarantined.values()),
            "waiting": sum(self.waiting.values()),
            "cursor_age_seconds": self.cursor_age,
            "entities": {
                str(entity): {"last_success": _moment(each.last_success), "error": each.last_error}
                for entity, each in self.entities.items()
            },
            "servers": {
                url: {"version": each.version, "answers": sorted(each.answers)} for url, each in self.servers.items()
            },
            "last_pass": dict(self.last_pass) or None,
        }


def read_status(config: SyncConfig, now: float) -> list[RemoteStatus]:
    """The status of each remote that is configured, as of `now` (s since 1970), from the state file: of what the
    configuration selects.

    Raises `SyncError` when that file is there and cannot be read.
    """
    path = state_path(config.state_dir, config.local)
    with closing(State(path, read_only=True)) as state:
        return [_status(state, config, remote.endpoint.url, now) for remote in config.remotes]


def _status(state: State, config: SyncConfig, remote: str, now: float) -> RemoteStatus:
    record = state.last_pass(remote)
    # What passes by this configuration do not come to is not judged by any of them again.
    selection = Mode.configured(config).selection
    cursor = state.reports(selection.scope(remote)).cursor
    refused: dict[Difference, Counter[Entity]] = defaultdict(Counter)
    for name, entity, key, each in state.refusals():
        if name == remote and selection.covers(entity, key, each.version.millis, now):
            # One that may be tried again by now still waits for the pass that does it.
            refused[each.verdict(now) or Difference.WAITING][entity] += 1
    return RemoteStatus(
        remote=remote,
        now=now,
        last_success=record.last_success if record else None,
        last_failure=record.last_failure if record else None,
        last_error=record.last_error if record else None,
        worked=record.worked if record else False,
        failed_after_working=record.failed_after_working if record else False,
        last_pass=record.result if record else {},
        quarantined=refused[Difference.QUARANTINED],
        waiting=refused[Difference.WAITING],
        cursor_age=None if cursor is None else max(now - cursor / 1000, 0.0),
        entities={entity: each for entity, each in state.entities(remote).items() if entity in selection.entities},
        servers={url: known for url in (config.local.url, remote) if (known := state.server(url)) is not None},
    )


def _moment(at: float | None) -> str | None:
    return None if at is None else utc_text(datetime.fromtimestamp(at, UTC))
