"""What a configuration that can be read comes to on this machine, without a network: certificates, journal, names.

Errors are what its first use, or everybody who is to use it, will meet; `pdbclient config check` exits 2 for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pdbclient.config import ClientConfig, SyncConfig, load_config
from pdbclient.config.model import problem_of
from pdbclient.config.puppetdb_conf import read_puppetdb, ttl_differences
from pdbclient.errors import ConfigError, Problem
from pdbclient.gateway.client_auth import allowed_certnames
from pdbclient.http.tls import client_context
from pdbclient.http.tls_check import TlsFaults, certificate_names, tls_faults
from pdbclient.journal.place import place_fault
from pdbclient.puppet_setup import GATEWAY_PORT

__all__ = ["configured_faults", "faults_of"]


def faults_of(puppetdb_conf: Path, now: datetime) -> TlsFaults:
    """What `pdbclient config check` says of this file: with errors, nobody but stock Puppet can use it."""
    try:
        config = load_config(puppetdb_conf)
    except ConfigError as error:
        return TlsFaults(tuple(error.problems))
    faults = configured_faults(config, now)
    return TlsFaults(faults.errors, (*config.warnings, *faults.warnings))


def configured_faults(config: ClientConfig | SyncConfig, now: datetime) -> TlsFaults:
    """What is wrong, and what will be, with `config` on this machine at `now`, a time with a zone.

    Each certificate, key and list is loaded as its first use does.
    """
    gateway = config.gateway_url if isinstance(config, ClientConfig) else None
    serves = gateway is not None and config.tls.cert is not None
    errors: list[Problem] = []
    warnings: list[Problem] = []
    try:
        client_context(config.tls)
        if serves and isinstance(config, ClientConfig):
            allowed_certnames(config)
    except ConfigError as error:
        errors += error.problems
    else:
        faults = tls_faults(config.tls, now, gateway.host if serves and gateway is not None else None)
        errors += faults.errors
        warnings += faults.warnings
    if isinstance(config, ClientConfig):
        errors += _journal(config)
        errors += _unnamed_gateway(config)
    elif (puppetdb := read_puppetdb(config.local)) is not None:
        warnings += ttl_differences(config, puppetdb)
    return TlsFaults(tuple(errors), tuple(warnings))


def _journal(config: ClientConfig) -> Iterator[Problem]:
    if config.journal is not None and (why := place_fault(config.journal)) is not None:
        yield problem_of(config, "journal", why)


def _unnamed_gateway(config: ClientConfig) -> Iterator[Problem]:
    """A gateway of this host in server_urls that nobody calls one: pdbclient would ask it like a PuppetDB."""
    if config.gateway_url is not None or config.tls.cert is None:
        return
    names = certificate_names(config.tls.cert)
    for url in config.server_urls:
        if url.port == GATEWAY_PORT and url.host in names:
            why = f"{url} looks like the gateway of this host: set gateway_url = {url} in [pdbclient]"
            yield problem_of(config, "server_urls", why)
