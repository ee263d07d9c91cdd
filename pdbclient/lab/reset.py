"""Emptying a running PuppetDB in a fraction of a second, where a new one would need half a minute."""

from __future__ import annotations

import time
from pathlib import Path

from pdbclient.errors import LabError
from pdbclient.lab.servers import Servers

__all__ = ["discarded", "empty", "settle"]

# PuppetDB 7 and 8 look ids of environments, producers, statuses and the like up in the database for every
# command (scf/storage.clj keeps none in memory), so these tables may be emptied too. TRUNCATE reaches the
# day partitions of reports and resource_events through their parents and leaves them in place. What remains
# is the schema's own.
_KEPT_TABLES = ("schema_migrations", "value_types")
_TABLES = f"""
select string_agg(format('%I', c.relname), ', ') from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname not in {_KEPT_TABLES}
and not exists (select from pg_inherits i where i.inhrelid = c.oid)
"""
_LOCK_SECONDS = 5
_POLL_SECONDS = 0.02
# A command that failed on an SQL error waits an hour for its next try (command.clj): a queue file that
# nobody has touched for this long is one of those, or one that an older server forgot.
_STUCK_SECONDS = 5.0


def _queue(servers: Servers) -> set[str]:
    """The names of the commands that PuppetDB has accepted and not finished: one file each."""
    directory = servers.node.vardir / "stockpile" / "cmd" / "q"
    return {entry.name for entry in directory.iterdir()} if directory.exists() else set()


def _require_awake(servers: Servers) -> None:
    process = servers.puppetdb.process
    if process.pid is None or process.frozen:
        raise LabError(f"{servers.node.name}: PuppetDB is {'down' if process.pid is None else 'frozen'}")


def settle(servers: Servers, seconds: float) -> None:
    """Wait until the queue on disk is empty: the depth that the server reports may stay above 0 for ever.

    Raises `LabError` when that takes more than `seconds`, or the server cannot work because it is down or
    frozen.
    """
    deadline = time.monotonic() + seconds
    while queue := _queue(servers):
        _require_awake(servers)
        if time.monotonic() > deadline:
            some = ", ".join(sorted(queue)[:3])
            raise LabError(
                f"{servers.node.name}: {len(queue)} commands still queued after {seconds:g} s, such as {some}"
            )
        time.sleep(_POLL_SECONDS)


def discarded(servers: Servers) -> tuple[Path, ...]:
    """Everything in the dead letter office, oldest name first: the commands, and beside each the reason."""
    directory = servers.node.vardir / "stockpile" / "discard"
    return tuple(sorted(directory.iterdir())) if directory.exists() else ()


def _drain(servers: Servers, seconds: float) -> None:
    """Let the queue run empty; delete what does not move any more: it must not come back later."""
    deadline = time.monotonic() + seconds
    queue, since = _queue(servers), time.monotonic()
    while queue:
        now = time.monotonic()
        if now > deadline or now - since > _STUCK_SECONDS:
            for name in queue:
                (servers.node.vardir / "stockpile" / "cmd" / "q" / name).unlink(missing_ok=True)
            return
        time.sleep(_POLL_SECONDS)
        seen = _queue(servers)
        if seen != queue:
            queue, since = seen, now


def empty(servers: Servers, seconds: float) -> None:
    """Empty the queue, every data table and the dead letter office of a running PuppetDB.

    Metrics (counters of the JVM) and the day partitions of reports stay. Raises `LabError`.
    """
    _require_awake(servers)
    _drain(servers, seconds)
    postgres = servers.postgres
    tables = postgres.sql(_TABLES)[0][0]
    if not tables:
        raise LabError(f"{servers.node.name}: PuppetDB has not made its tables yet")
    postgres.sql(f"set lock_timeout = '{_LOCK_SECONDS}s'; truncate {tables}")
    for file in discarded(servers):
        file.unlink(missing_ok=True)
