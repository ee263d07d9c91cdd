"""What the reconciler remembers between passes, in one SQLite file per configuration.

All of it is an optimisation or a courtesy: without the file the next pass lists more and tries rejected
records again. So a file that cannot be trusted is refused with that advice, never repaired or replaced
silently.

Times of ours (`now`, `round_began`, `retry_at`) are wall seconds since 1970. A clock that is set back must not
make anything wait for the time that it lost: what is noted for later than `now` allows counts as due.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pdbclient.config.model import Endpoint
from pdbclient.sync.policy.model import ASKED_TO_STOP, TRIES, Difference, Entity, Outcome, PassResult, Version
from pdbclient.sync.policy.report_hours import ReportMemory
from pdbclient.sync.state.compared import Compared
from pdbclient.sync.state.local import LocalNotes
from pdbclient.sync.state.opened import kept
from pdbclient.sync.state.rows import read_memory, read_result, write_memory

__all__ = ["EntityRecord", "PassRecord", "Refused", "ServerRecord", "State", "state_path"]

RETRY_FIRST = 60.0
RETRY_FACTOR = 5.0

_UNEQUAL = "stored, but with another hash"


def state_path(state_dir: Path, local: Endpoint) -> Path:
    """The state file of the reconciler beside `local`."""
    return state_dir / f"sync-{local.host.replace(':', '_')}-{local.port}.sqlite"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that the local server did not take, or that the operator `dropped`. `retry_at` is in wall seconds."""

    version: Version
    tries: int
    retry_at: float
    reason: str
    dropped: bool = False

    def verdict(self, now: float) -> Difference | None:
        """Whether to leave the record alone at `now`."""
        if self.dropped:
            return Difference.DROPPED
        if self.tries >= TRIES:
            return Difference.QUARANTINED
        # Before the failure itself: the clock was set back, and the wait would be that much longer.
        failed_at = self.retry_at - _wait(self.tries)
        return Difference.WAITING if failed_at <= now < self.retry_at else None


@dataclass(frozen=True, slots=True)
class PassRecord:
    """The passes against one remote; times in wall seconds.

    `last_error` is why the latest one failed, None if it did not. `failed_after_working`: whether one failed after
    another had worked, at any time. `result` is the latest one as `PassResult.as_json` has it.
    """

    last_success: float | None
    last_failure: float | None
    last_error: str | None
    worked: bool
    failed_after_working: bool
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """One entity's part in the passes against one remote: when it was last done to its end (wall seconds), and why
    it was not in the latest pass that came to it, None if it was.
    """

    last_success: float | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What a server was found to be: its version, and the parameters of a query that it answers, by name."""

    version: str
    answers: frozenset[str]


class State(Compared, LocalNotes):
    """What is remembered. Every method that writes is one durable transaction, but for `keeps`."""

    # --- records that are left alone

    def refused(self, remote: str, entity: Entity) -> dict[str, Refused]:
        """Records that the local server did not take, and those dropped, by key."""
        return {key: each for _, _, key, each in self._refused("WHERE remote = ? AND entity = ?", remote, entity)}

    def refusals(self) -> list[tuple[str, Entity, str, Refused]]:
        """As `refused`, of all remotes and entities: remote, entity, key, what is known."""
        return list(self._refused(""))

    @kept
    def remember_refused(
        self, remote: str, entity: Entity, versions: Mapping[str, tuple[Version, str]], now: float
    ) -> None:
        """Count one more failure (version, reason) per key; another version of a record starts again at one. One that
        an operator dropped meanwhile stays dropped.
        """
        with self._transaction():
            before = self.refused(remote, entity)
            for key, (version, reason) in versions.items():
                old = before.get(key)
                if old is not None and old.version != version:
                    old = None
                if old is not None and old.dropped:
                    continue
                tries = 1 if old is None else old.tries + 1
                self._refuse(remote, entity, key, Refused(version, tries, now + _wait(tries), reason))

    @kept
    def forget_refused(self, remote: str, entity: Entity, keys: Collection[str]) -> None:
        """These were taken after all."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM refused WHERE remote = ? AND entity = ? AND key = ?",
                [(remote, entity, key) for key in keys],
            )

    def left_alone(self, remote: str, entity: Entity) -> dict[str, Version]:
        """The versions that are left alone, whatever for, by key."""
        refused = {key: each.version for key, each in self.refused(remote, entity).items()}
        return self.unequal(remote, entity) | refused

    @kept
    def forget_left_alone(self, remote: str, entity: Entity, keys: Collection[str]) -> None:
        """These do not differ any more, or the remote has another version: nothing is left alone."""
        with self._transaction():
            for table in ("refused", "unequal"):
                self._db.executemany(
                    f"DELETE FROM {table} WHERE remote = ? AND entity = ? AND key = ?",
                    [(remote, entity, key) for key in keys],
                )

    def retry(self, remote: str, entity: Entity, key: str) -> None:
        """Forget everything against a record, so that the next pass tries it again."""
        with self._transaction():
            known = self._left_alone(remote, entity, key)
            for table in ("refused", "unequal"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE remote = ? AND entity = ? AND key = ?", (remote, entity, key)
                )
            if known is not None and entity is Entity.REPORTS:
                # Its hour was as complete as could be; now it is not.
                for scope, text in self._rows("reports"):
                    if scope.partition(" ")[0] == remote:
                        asked = write_memory(read_memory(self._path, text).ask(known.version.millis))
                        self._db.execute("INSERT OR REPLACE INTO reports VALUES (?, ?)", (scope, asked))

    def drop(self, remote: str, entity: Entity, key: str) -> None:
        """Leave a record alone until the remote has another version of it. Nothing, if none is left alone."""
        with self._transaction():
            known = self._left_alone(remote, entity, key)
            if known is not None:
                self._refuse(remote, entity, key, known, dropped=True)
                self._db.execute(
                    "DELETE FROM unequal WHERE remote = ? AND entity = ? AND key = ?", (remote, entity, key)
                )

    # --- reports

    def reports(self, scope: str) -> ReportMemory:
        """What is remembered of the reports of a remote, in one selection of them."""
        found = self._rows("reports", "WHERE scope = ?", scope)
        return read_memory(self._path, found[0][1]) if found else ReportMemory()

    @kept
    def remember_reports(self, scope: str, change: Callable[[ReportMemory], ReportMemory]) -> None:
        """Have `change` make what is to be remembered of what is."""
        with self._transaction():
            before = self.reports(scope)
            if (after := change(before)) != before:
                text = write_memory(after)
                self._db.execute("INSERT OR REPLACE INTO reports VALUES (?, ?)", (scope, text))

    @kept
    def forget_other_scopes(self, remote: str, scope: str) -> None:
        """Of the selections of the remote's reports, only the whole and `scope` are remembered."""
        own = f"{remote} "
        with self._transaction():
            for table, column in (("reports", "scope"), ("listed", "remote")):
                self._db.execute(
                    f"DELETE FROM {table} WHERE substr({column}, 1, ?) = ? AND {column} <> ?", (len(own), own, scope)
                )

    # --- passes

    def seen(self, remote: str, entity: Entity) -> int:
        """How many records of `entity` the remote last reported, 0 if it was never asked."""
        found = self._rows("seen", "WHERE remote = ? AND entity = ?", remote, entity)
        return int(found[0][1]) if found else 0

    @kept
    def remember_seen(self, remote: str, entity: Entity, records: int) -> None:
        """Note how many records of `entity` the remote reports."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (remote, entity, records))

    def remotes(self) -> list[str]:
        """The remotes (URLs) that a pass was ever made against."""
        return [remote for remote, *_ in self._rows("pass", "ORDER BY remote")]

    def remember_pass(self, result: PassResult, now: float, whole: bool = True) -> None:
        """Note a pass that ended at `now`. It failed when it has errors.

        One that was told to stop neither failed nor succeeded: of it there is the result, and what became of the
        entities that it had come to before. Nor did one of a part of what is configured (not `whole`), of which there
        is the result only.
        Raises `SyncError` when the disk does not take it.
        """
        stopped, error = result.outcome is Outcome.STOPPED or not whole, "; ".join(result.errors) or None
        ok = not stopped and error is None
        failed = not stopped and error is not None
        with self._on_disk(), self._transaction():
            self._db.execute(
                "INSERT INTO pass VALUES (:remote, :success, :failure, :error, :ok, 0, :result) "
                "ON CONFLICT DO UPDATE SET last_success = coalesce(:success, last_success), "
                "last_failure = coalesce(:failure, last_failure), last_error = iif(:stopped, last_error, :error), "
                "failed_after_working = failed_after_working OR (:failed AND worked), worked = worked OR :ok, "
                "result = :result",
                {
                    "remote": result.remote,
                    "success": now if ok else None,
                    "failure": now if failed else None,
                    "error": error if failed else None,
                    "stopped": stopped,
                    "ok": ok,
                    "failed": failed,
                    "result": json.dumps(result.as_json()),
                },
            )
            for entity, part in result.entities.items() if whole else ():
                if stopped and part.error == ASKED_TO_STOP:
                    # As before: it neither failed nor was done.
                    continue
                self._db.execute(
                    "INSERT INTO entity_pass VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "last_success = coalesce(excluded.last_success, last_success), last_error = excluded.last_error",
                    (result.remote, entity, None if part.error else now, part.error),
                )

    def last_pass(self, remote: str) -> PassRecord | None:
        """What is known of the passes against the remote, None if there was none."""
        found = self._rows("pass", "WHERE remote = ?", remote)
        if not found:
            return None
        _, success, failure, error, worked, failed, result = found[0]
        return PassRecord(success, failure, error, bool(worked), bool(failed), read_result(self._path, result))

    def entities(self, remote: str) -> dict[Entity, EntityRecord]:
        """How the passes against the remote go, by entity; those that no pass came to are not in it."""
        rows = self._rows("entity_pass", "WHERE remote = ?", remote)
        return {entity: EntityRecord(success, error) for entity, success, error in rows}

    def server(self, url: str) -> ServerRecord | None:
        """What is known of a server, None if it was never asked."""
        found = self._rows("server", "WHERE url = ?", url)
        return ServerRecord(found[0][1], frozenset(found[0][2].split())) if found else None

    @kept
    def remember_server(self, url: str, server: ServerRecord) -> None:
        """Note what a server was found to be."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO server VALUES (?, ?, ?)",
                (url, server.version, " ".join(sorted(server.answers))),
            )

    # --- inside

    def _refused(self, where: str, *values: str) -> Iterator[tuple[str, Entity, str, Refused]]:
        for remote, entity, key, *rest in self._rows("refused", where, *values):
            millis, text, uuid, tries, retry_at, reason, dropped = rest
            yield remote, entity, key, Refused(Version(millis, text, uuid), tries, retry_at, reason, bool(dropped))

    def _left_alone(self, remote: str, entity: Entity, key: str) -> Refused | None:
        known = self.refused(remote, entity).get(key)
        if known is None and (version := self.unequal(remote, entity).get(key)) is not None:
            known = Refused(version, 0, 0.0, _UNEQUAL)
        return known

    def _refuse(self, remote: str, entity: Entity, key: str, known: Refused, *, dropped: bool = False) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (remote, entity, key, *known.version, known.tries, known.retry_at, known.reason, dropped),
        )


def _wait(tries: int) -> float:
    """Seconds until a record is tried again after its `tries`th failure."""
    return RETRY_FIRST * RETRY_FACTOR ** (min(tries, TRIES) - 1)
