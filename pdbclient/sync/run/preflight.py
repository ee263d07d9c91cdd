"""Whether a pass may start: both servers well, alike and in time. A refusal is a `SyncError` with its
reason.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial

from pdbclient.config.model import SyncConfig
from pdbclient.errors import PdbError, SyncError
from pdbclient.http.status import STATUS_PATH, Status, read_status
from pdbclient.sync.inventory.identity import newest_factsets, newest_reports, process
from pdbclient.sync.inventory.interfaces import Answer, Clock, Server
from pdbclient.sync.inventory.rows import both_sides
from pdbclient.sync.policy.clocks import clock_skew
from pdbclient.sync.policy.identity import may_be_one, one_database, one_process
from pdbclient.sync.policy.versions import hash_class
from pdbclient.sync.run.blame import ends_all
from pdbclient.wire.summary import from_millis

__all__ = [
    "VERSION_PATH",
    "Checked",
    "ask_epoch",
    "clock_range",
    "epoch",
    "pass_gate",
    "queue_depth",
    "refuse_one",
    "server_version",
]

_logger = logging.getLogger(__name__)

VERSION_PATH = "/pdb/meta/v1/version"
WITHIN = 15.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What the gate learned about one server.

    `epoch` is where in time, by the server's clock, our monotonic clock began: least and greatest, in seconds
    since 1970. It holds through any jump of this machine's own clock.
    """

    version: str
    depth: int
    epoch: tuple[float, float] | None


def pass_gate(local: Server, remote: Server, config: SyncConfig, clock: Clock) -> tuple[Checked, Checked]:
    """Let a pass through, with what is known now of the remote and the local server, or raise `SyncError`
    (refused), `TransportError` or `ServerError` (not reachable).
    """
    if local.endpoint == remote.endpoint:
        raise SyncError(f"{remote.endpoint} is the local server itself: there is nothing to reconcile")
    there, here = both_sides(remote, local, lambda server: _check(server, clock))
    if hash_class(there.version) != hash_class(here.version):
        raise SyncError(
            f"{remote.endpoint} is version {there.version}, {local.endpoint} is {here.version}: they "
            f"hash the same records differently, so everything would look changed. Upgrade the older one"
        )
    skew = clock_skew(there.epoch, here.epoch)
    if skew > config.max_clock_skew:
        raise SyncError(
            f"the clocks of {remote.endpoint} and {local.endpoint} are at least {skew:.0f} s apart, "
            f"more than {config.max_clock_skew:.0f} s: the wrong clock would choose which is newer. Check NTP"
        )
    if here.depth > config.max_queue_depth:
        raise SyncError(
            f"{local.endpoint} has {here.depth} commands in its queue, the limit is "
            f"{config.max_queue_depth}: it has enough to do"
        )
    return there, here


def refuse_one(local: Server, remote: Server) -> None:
    """Raise `SyncError` where both are one server under two names, or two servers of one database.

    They agree in everything: what such a pass would say is no lie, and worth nothing. It costs a query to each, more
    only where what these show is alike.
    """
    try:
        there, here = both_sides(remote, local, partial(newest_reports, within=WITHIN))
        if not there and not here:
            there, here = both_sides(remote, local, partial(newest_factsets, within=WITHIN))
        if not may_be_one(there, here):
            return
        looks = [both_sides(remote, local, partial(process, within=WITHIN)) for _ in range(2)]
    except PdbError as error:
        if ends_all(error):
            raise
        _logger.warning("whether %s and %s are one server cannot be told: %s", remote.endpoint, local.endpoint, error)
        return
    looks_there, looks_here = ([look for look in side if look is not None] for side in zip(*looks, strict=True))
    if not looks_there or not looks_here:
        return
    began_there, began_here = looks_there[-1].began, looks_here[-1].began
    if one_process(looks_there, looks_here):
        raise SyncError(
            f"{remote.endpoint} is the local server {local.endpoint} itself under another name: both say that they "
            f"began at {from_millis(began_here)}. There is nothing to reconcile; the remote is to be another server"
        )
    if one_database(there, here, max(began_there, began_here)):
        raise SyncError(
            f"{remote.endpoint} and {local.endpoint} have one database: what they received last they received at the "
            f"same times, since both began. There is nothing to reconcile, and no second copy of anything. (A server "
            f"whose database was replaced by a copy of the other one while it ran looks like that, too: restart it)"
        )


def queue_depth(server: Server) -> int:
    """How many commands wait in the server's queue."""
    return _depth(server, read_status(server.document(STATUS_PATH, within=WITHIN).value))


def server_version(server: Server) -> str:
    """The server's version. Raises `SyncError` when it does not tell one."""
    meta = server.document(VERSION_PATH, within=WITHIN).value
    version = meta.get("version") if isinstance(meta, dict) else None
    if not isinstance(version, str):
        raise SyncError(f"{server.endpoint} does not tell its version")
    return version


def ask_epoch(server: Server, clock: Clock) -> float | None:
    """When our monotonic clock began by the server's clock (s since 1970); None where it does not tell the time."""
    _, found = _status(server, clock)
    return epoch(found, clock)


def epoch(found: tuple[float, float] | None, clock: Clock) -> float | None:
    """Of a range of `Checked.epoch`, what our own clocks say, or what comes next to that."""
    if found is None:
        return None
    least, greatest = found
    return min(max(clock.wall() - clock.monotonic(), least), greatest)


def _status(server: Server, clock: Clock) -> tuple[Status, tuple[float, float] | None]:
    """What the server says of itself, and `Checked.epoch`."""
    began = clock.monotonic()
    answer = server.document(STATUS_PATH, within=WITHIN)
    return read_status(answer.value), clock_range(answer, began, clock.monotonic())


def _check(server: Server, clock: Clock) -> Checked:
    status, found = _status(server, clock)
    if status.state is None:
        raise SyncError(f"{server.endpoint}: that is no PuppetDB: what it says of itself has no state")
    if not status.running or status.maintenance is not False:
        mode = ", in maintenance mode" if status.maintenance else ""
        raise SyncError(f"{server.endpoint} is not running: state {status.state!r}{mode}")
    return Checked(server_version(server), _depth(server, status), found)


def _depth(server: Server, status: Status) -> int:
    depth = status.queue_depth
    # PuppetDB reports null until its queue is loaded.
    if depth is None:
        return 0
    if not isinstance(depth, int):
        raise SyncError(f"{server.endpoint}: queue_depth is {depth!r}, not a number")
    return depth


def clock_range(answer: Answer, began: float, ended: float) -> tuple[float, float] | None:
    """`Checked.epoch`, from a Date header set between two moments of the monotonic clock."""
    try:
        date = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return None
    return date - ended, date + 1 - began
