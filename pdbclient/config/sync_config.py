"""The reconciler's configuration on disk -> `SyncConfig`: the guide's HOCON, or the `[sync]` ini form."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from pdbclient.config import settings
from pdbclient.config.document import Document, Entry
from pdbclient.config.ini import PUPPETDB
from pdbclient.config.model import Endpoint, SyncConfig
from pdbclient.config.ports import LOOPBACK, same_host
from pdbclient.config.puppet_conf import find_confdir, layout_of
from pdbclient.config.reading import read_document
from pdbclient.config.remotes import judge_remotes
from pdbclient.config.tls import find_tls
from pdbclient.config.values import resolve_path
from pdbclient.config.verdict import Verdict, in_file_order, judge, misnamed_sections, unknown
from pdbclient.errors import ConfigError, Problem

__all__ = ["load_sync_config"]

_JUDGED = {"remotes", "state_dir", "logging_config"}
_PLAIN = [each.name for each in fields(SyncConfig) if each.name in settings.SYNC and each.name not in _JUDGED]
"""Settings whose values are fields of the same name."""

# PuppetDB's user, as whom the reconciler usually runs, may not read Puppet's own key.
_SECTION = "the section sync, as the example sync-primary.conf does"

SYSTEM_STATE = Path("/var/lib/pdbclient-sync")  # The systemd unit makes it.


def load_sync_config(path: Path | str, *, check_files: bool = True) -> SyncConfig:
    """Read and check a sync configuration.

    It may be a file of PuppetDB's own conf.d: sections other than `sync` are ignored.

    `check_files` false leaves out whether certificates, keys and the logging configuration are there.
    Raises `ConfigError` with every problem, in file order.
    """
    document = read_document(Path(path), PUPPETDB)
    section = document.sections.get("sync")
    if section is None:
        raise ConfigError(_no_section(document))
    section, twice = _with_underscores(section)
    verdict = judge((section,), settings.SYNC)
    verdict.problems += [*document.problems, *twice, *unknown(section, settings.SYNC, settings.FOREIGN)]
    local, local_origin = _local(verdict, document)
    remotes = judge_remotes(verdict, document, local)
    tls = find_tls(verdict, document, section=_SECTION, check_files=check_files)
    logging_config = _logging_config(verdict, document, check_files)
    warnings = [*document.warnings, *_status_port(verdict, document, local)]
    problems = [*verdict.problems, *tls.problems]
    if problems:
        raise ConfigError(in_file_order(problems, document.file))
    value = verdict.values
    return SyncConfig(
        local=local,
        remotes=remotes,
        tls=tls.files,
        state_dir=_state_dir(verdict, document),
        timeouts=settings.timeouts(value),
        **{name: value[name] for name in _PLAIN},
        logging_config=logging_config,
        origins={**_origins(verdict), "local_url": local_origin, **tls.origins},
        warnings=in_file_order(warnings, document.file),
    )


def _no_section(document: Document) -> tuple[Problem, ...]:
    problems = [*document.problems, *misnamed_sections(document, ("sync",))]
    if not problems:
        problems = [Problem(document.file, None, "sync", "there is no sync section in this file")]
    return in_file_order(problems, document.file)


def _with_underscores(section: Mapping[str, Entry]) -> tuple[dict[str, Entry], list[Problem]]:
    # Puppet Enterprise writes entity-time-limit, and server_url: both spellings hold for every setting.
    entries: dict[str, Entry] = {}
    problems = []
    for entry in section.values():
        name = entry.name.replace("-", "_")
        if name in entries:
            problems.append(entry.problem(f"set twice, also as {entries[name].origin}"))
        entries[name] = replace(entry, name=name)
    return entries, problems


def _local(verdict: Verdict, document: Document) -> tuple[Endpoint, str]:
    if verdict.values["local_url"] is not None:
        return verdict.values["local_url"], verdict.entries["local_url"].origin
    if "local_url" in verdict.broken:
        return Endpoint("localhost", settings.PUPPETDB_PORT), verdict.entries["local_url"].origin
    layout = layout_of(find_confdir(document.directory))
    verdict.problems.extend(layout.problems)
    return Endpoint(layout.certname.value, settings.PUPPETDB_PORT), layout.certname.origin


def _state_dir(verdict: Verdict, document: Document) -> Path:
    if verdict.values["state_dir"] is not None:
        return resolve_path(verdict.values["state_dir"], document.directory)
    # The same for the daemon, whose directory it is, and for root, who asks how it is.
    if os.geteuid() == 0 or SYSTEM_STATE.is_dir():
        return SYSTEM_STATE
    return Path.home() / ".local/state/pdbclient"


def _logging_config(verdict: Verdict, document: Document, check_files: bool) -> Path | None:
    if verdict.values["logging_config"] is None:
        return None
    path = resolve_path(verdict.values["logging_config"], document.directory)
    if check_files and not os.path.isfile(path):
        verdict.refuse("logging_config", f"{path} does not exist, or is no file", document)
    return path


def _status_port(verdict: Verdict, document: Document, local: Endpoint) -> Iterator[Problem]:
    """A status port where the local PuppetDB listens: refused, or a warning where that may be another machine."""
    if "local_url" in verdict.broken or verdict.values["status_port"] != local.port:
        return
    why = f"is the port of the local PuppetDB, {local} (local_url)"
    if same_host(local.host, LOOPBACK):
        verdict.refuse("status_port", f"{why}: take another one, like 8088", document)
    else:
        why = f"{why}: where that is this machine, take another one, like 8088"
        yield verdict.entries["status_port"].problem(why)


def _origins(verdict: Verdict) -> dict[str, str]:
    # Whatever form the file has, the reader of a SyncConfig asks for its remotes.
    origins = verdict.origins()
    servers, _ = origins.pop("server_urls"), origins.pop("intervals")
    if "server_urls" in verdict.entries:
        origins["remotes"] = servers
    return origins
