"""The client that a command needs: to ask, or to submit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pdbclient.cli.journal_owner import as_owner
from pdbclient.client import Client
from pdbclient.config import load_config
from pdbclient.errors import JournalBusy
from pdbclient.http.failover import Failover

__all__ = ["asking_client", "submitting_client"]


def asking_client(path: Path | None) -> Client:
    """A client for queries. It leaves the journal alone, which another process may have open."""
    return Client(replace(load_config(path), journal=None))


def submitting_client(path: Path | None) -> Client:
    """A client for commands. Where the gateway has the journal, they go through the gateway, and into the same one.

    Raises `ConfigError` and `JournalError`.
    """
    config = load_config(path)
    failover = Failover(config)  # as whoever we are: it reads certificates
    try:
        with as_owner(config.journal):
            return Client(config, failover=failover)
    except JournalBusy:
        if config.gateway_url is None:
            raise
    servers = (config.gateway_url, *config.server_urls)
    ordered = tuple(replace(server, order=order) for order, server in enumerate(servers))
    submit_only = tuple(replace(server, order=server.order + 1) for server in config.submit_only_server_urls)
    return Client(replace(config, journal=None, server_urls=ordered, submit_only_server_urls=submit_only))
