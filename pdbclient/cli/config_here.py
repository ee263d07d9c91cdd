"""What a configuration meets on this machine when the daemon starts: ports, logging, where this user may write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pdbclient.config import ClientConfig, SyncConfig
from pdbclient.config.model import problem_of
from pdbclient.config.ports import PRIVILEGE, PRIVILEGED
from pdbclient.config.sync_config import SYSTEM_STATE
from pdbclient.errors import ConfigError, Problem

__all__ = ["logging_problems", "port_warnings", "unwritable"]

_LEAST_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_ADVICE = "look as the user that the service runs as (runuser -u USER), and make it that user's (chown)"


def unwritable(config: ClientConfig | SyncConfig) -> Iterator[Problem]:
    """Where the journal or the state cannot be kept by the user who runs this: files are read as that user, too."""
    if isinstance(config, SyncConfig):
        yield from _state(config)
    elif config.journal is not None and "://" not in config.journal:
        path = Path(os.path.realpath(config.journal))
        side, lock = (path.with_name(f"{path.name}{end}") for end in ("-journal", ".lock"))
        if (why := _fault(path.parent, (path, side, lock))) is not None:
            yield problem_of(config, "journal", why)
        elif os.geteuid() != 0 and _owner(path) not in (None, os.geteuid()):
            # Root looks at the journals of others; the gateway has its own only.
            yield problem_of(config, "journal", f"{path} does not belong to {_user()}: {_ADVICE}")


def logging_problems(config: ClientConfig | SyncConfig) -> Sequence[Problem]:
    """What is wrong with a logging configuration as it stands there: to try it would open its files."""
    if isinstance(config, ClientConfig) or config.logging_config is None:
        return ()
    from pdbclient.observe.logs import read_configuration

    try:
        read_configuration(config.logging_config)
    except ConfigError as error:
        return error.problems
    return ()


def port_warnings(config: ClientConfig | SyncConfig) -> Iterator[Problem]:
    """Ports for which the service needs a privilege that it has not as it is shipped."""
    ports: dict[str, int | None]
    if isinstance(config, SyncConfig):
        ports = {"status_port": config.status_port}
    else:
        url, local = config.gateway_url, config.gateway_local_url
        ports = {
            "gateway_url": None if url is None else url.port,
            "gateway_local_url": None if local is None else local.port,
            "gateway_status_port": config.gateway_status_port,
        }
    least = _least_port()
    for setting, port in ports.items():
        if port is not None and port < least:
            why = f"port {port} is below {least}, and the service may not listen there as it is shipped"
            yield problem_of(config, setting, f"{why}: {PRIVILEGE}")


def _state(config: SyncConfig) -> Iterator[Problem]:
    # It takes a while to load.
    from pdbclient.sync.state.store import state_path

    path = state_path(config.state_dir, config.local)
    there = config.state_dir
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    # The unit makes its own where its user may not (and from then on the default is that, for everybody).
    default = config.origins.get("state_dir") == "default" and there != config.state_dir
    if default or (config.state_dir.is_relative_to(SYSTEM_STATE) and not os.path.lexists(SYSTEM_STATE)):
        return
    side, lock = path.with_name(f"{path.name}-journal"), path.with_suffix(".lock")
    if (why := _fault(there, (path, side, lock))) is not None:
        yield problem_of(config, "state_dir", why)


def _fault(directory: Path, files: Sequence[Path]) -> str | None:
    """What of these this user may not write."""
    if not os.path.isdir(directory) and os.path.lexists(directory):
        return f"{directory} is no directory: name another one"
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return f"{_user()} may not write in {directory}: {_ADVICE}"
    for each in files:
        if os.path.lexists(each) and not os.access(each, os.R_OK | os.W_OK, effective_ids=True):
            return f"{_user()} may not read and write {each}: {_ADVICE}"
    return None


def _user() -> str:
    return f"the user with id {os.geteuid()}"


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _least_port() -> int:
    try:
        return int(_LEAST_PORT.read_text())
    except (OSError, ValueError):
        return PRIVILEGED
