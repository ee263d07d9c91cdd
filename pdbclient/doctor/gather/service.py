"""What a service's user sees: its configuration, the files and directories that this names, the servers behind it.

Runs in a process of that user (see `pdbclient.doctor.gather.as_user`), and changes nothing.
"""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pdbclient.config import ClientConfig, Endpoint, SyncConfig, load_config, load_sync_config, without_password
from pdbclient.config.model import TlsFiles
from pdbclient.config.puppetdb_conf import read_puppetdb
from pdbclient.config.reading import is_there
from pdbclient.doctor.configured import configured_faults
from pdbclient.doctor.gather.servers import ask_servers
from pdbclient.doctor.model import (
    DiskFacts,
    FileFacts,
    JournalFacts,
    PassFacts,
    PeerFacts,
    Role,
    ServerFacts,
    ServiceFacts,
)
from pdbclient.errors import ConfigError, JournalError, SyncError
from pdbclient.http.tls_check import certificate_certname
from pdbclient.journal import EntryState, Journal
from pdbclient.journal.ledger import entries
from pdbclient.journal.store.lock_owner import lock_owner
from pdbclient.sync.state.status import RemoteStatus, read_status

__all__ = ["account_name", "look"]

GRACE = 1800.0
"""Seconds for which a server may lack what another one has, where no interval of a reconciler is known."""
SETTLING = 600.0
"""Seconds that a pass may take, and what it submits to be stored."""
JOURNAL_PATIENCE = 5.0


def look(role: Role, config: Path) -> ServiceFacts:
    """The facts of this role, as the user sees them that this process runs as."""
    if role is Role.SERVER:
        return _look_at_gateway(config)
    return _look_at_reconciler(config)


def account_name() -> str:
    """The user that this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _look_at_gateway(path: Path) -> ServiceFacts:
    try:
        config = load_config(path)
    except ConfigError as error:
        return _unread(Role.SERVER, path, error)
    faults = configured_faults(config, datetime.now(UTC))
    certname = certificate_certname(config.tls.cert)
    endpoints = (*config.server_urls, *config.submit_only_server_urls)
    servers, peers = _asked(endpoints, config.tls, certname, GRACE)
    return ServiceFacts(
        role=Role.SERVER,
        config=str(path),
        looked_as=account_name(),
        errors=faults.errors,
        warnings=(*config.warnings, *faults.warnings),
        certname=certname,
        gateway_url=None if config.gateway_url is None else config.gateway_url.url,
        files=tuple(_secrets(config)),
        disks=() if config.journal is None or "://" in config.journal else (_journal_disk(Path(config.journal)),),
        servers=servers,
        peers=peers,
        journal=None if config.journal is None else _journal(config.journal, config.journal_max_bytes),
    )


def _look_at_reconciler(path: Path) -> ServiceFacts:
    try:
        config = load_sync_config(path)
    except ConfigError as error:
        return _unread(Role.PUPPETDB, path, error)
    faults = configured_faults(config, datetime.now(UTC))
    certname = certificate_certname(config.tls.cert)
    endpoints = (config.local, *(remote.endpoint for remote in config.remotes))
    grace = 2 * max(remote.interval for remote in config.remotes) + SETTLING
    servers, peers = _asked(endpoints, config.tls, certname, grace)
    passes, state_error = _passes(config)
    return ServiceFacts(
        role=Role.PUPPETDB,
        config=str(path),
        looked_as=account_name(),
        errors=faults.errors,
        warnings=(*config.warnings, *faults.warnings),
        certname=certname,
        report_ttl=config.report_ttl,
        node_purge_ttl=config.node_purge_ttl,
        max_clock_skew=config.max_clock_skew,
        files=tuple(_secrets(config)),
        disks=(_disk(config.state_dir, "the reconciler's state"), *_puppetdb_disk(config)),
        servers=servers,
        peers=peers,
        passes=passes,
        state_error=state_error,
    )


def _unread(role: Role, path: Path, error: ConfigError) -> ServiceFacts:
    return ServiceFacts(role, str(path), account_name(), unread=True, errors=error.problems)


def _asked(
    endpoints: tuple[Endpoint, ...], tls: TlsFiles, certname: str | None, grace: float
) -> tuple[tuple[ServerFacts, ...], tuple[PeerFacts, ...]]:
    try:
        return ask_servers(endpoints, tls, certname, dict.fromkeys(endpoints, grace))
    except ConfigError:
        # It is among the errors of the configuration.
        return (), ()


def _secrets(config: ClientConfig | SyncConfig) -> Iterator[FileFacts]:
    if config.tls.key is not None:
        yield _secret(config.tls.key, "a private key")
    journal = config.journal if isinstance(config, ClientConfig) else None
    if journal is not None and without_password(journal) != journal:
        file = config.origins["journal"].rpartition(":")[0]
        yield _secret(Path(file), "the password of the journal's database")


def _secret(path: Path, what: str) -> FileFacts:
    try:
        open_to_all = bool(path.stat().st_mode & stat.S_IROTH) and _reached_by_all(path)
    except OSError:
        open_to_all = False
    return FileFacts(str(path), what, open_to_all)


def _reached_by_all(path: Path) -> bool:
    """Whether no directory on the way keeps other accounts out."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.absolute().parents)


def _journal_disk(path: Path) -> DiskFacts:
    return _disk(path.parent, "the journal")


def _puppetdb_disk(config: SyncConfig) -> Iterator[DiskFacts]:
    """Where PuppetDB of this host keeps its queue, if its configuration can be read and says so."""
    entry = (read_puppetdb(config.local) or {}).get("global", {}).get("vardir")
    if entry is not None and isinstance(entry.value, str) and os.path.isdir(entry.value):
        yield replace(_room(Path(entry.value), Path(entry.value), "PuppetDB's queue"), ours=False)


def _disk(directory: Path, purpose: str) -> DiskFacts:
    there = directory
    # Of what is behind a closed door nothing is seen: pathlib would raise.
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    if os.access(there, os.W_OK | os.X_OK):
        return _room(directory, there, purpose)
    if is_there(directory):
        return DiskFacts(str(directory), purpose, error="this user may not write there")
    return DiskFacts(str(directory), purpose, error=f"does not exist, and this user may not make it in {there}")


def _room(directory: Path, there: Path, purpose: str) -> DiskFacts:
    room = os.statvfs(there)
    inodes = room.f_favail if room.f_files else None
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    return DiskFacts(str(directory), purpose, free, size, inodes, real=os.path.realpath(directory))


def _journal(location: str, max_bytes: int) -> JournalFacts:
    place = without_password(location)
    if "://" not in location and not is_there(Path(location)):
        # The gateway makes it when it starts.
        return JournalFacts(place, missing=True, max_bytes=max_bytes)
    try:
        with Journal.open(location, beside=True, patience=JOURNAL_PATIENCE) as journal:
            counts = journal.run(entries.counts)
            now = journal.clock()
    except JournalError as error:
        return JournalFacts(place, error=without_password(str(error)), max_bytes=max_bytes)
    return JournalFacts(
        place,
        held_by=None if "://" in location else lock_owner(Path(location)),
        pending=dict(counts.pending),
        oldest_pending=None if counts.oldest_pending is None else max(now - counts.oldest_pending, 0.0),
        parked=counts.entries.get(EntryState.PARKED, 0),
        bytes=counts.bytes,
        max_bytes=max_bytes,
    )


def _passes(config: SyncConfig) -> tuple[tuple[PassFacts, ...], str | None]:
    try:
        found = {each.remote: each for each in read_status(config, time.time())}
    except SyncError as error:
        return (), str(error)
    return tuple(_pass(found[r.endpoint.url], r.interval) for r in config.remotes), None


def _pass(status: RemoteStatus, interval: float) -> PassFacts:
    return PassFacts(
        remote=status.remote,
        interval=interval,
        ran=status.ran,
        lag=status.lag,
        error=status.last_error,
        quarantined=sum(status.quarantined.values()),
    )
