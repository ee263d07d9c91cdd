"""A real pair with its configuration, clients of it, and the primary behind a proxy, for the client's tests."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from pdbclient import Client
from pdbclient.config import ClientConfig, Endpoint, load_config
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples

from ..faults.proxy import Proxy

__all__ = ["PRIMARY", "REPLICA", "ClientSite", "Json", "ago", "facts"]

Json = dict[str, Any]
PRIMARY, REPLICA = "primary", "replica"


class ClientSite:
    """The pair, its configuration, and the primary behind a proxy that can fail."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab = lab
        self.config = load_config(lab.puppetdb_conf)
        self.samples = Samples(lab.puppetdb_jar)
        self.primary, self.replica = self.config.server_urls
        self.proxy = stack.enter_context(Proxy(self.primary.port))
        self._stack = stack

    def client(self, config: ClientConfig | None = None, **changes: Any) -> Client:
        return self._stack.enter_context(Client(replace(config or self.config, **changes)))

    def behind_proxy(self, **changes: Any) -> Client:
        """A client that reaches the primary through the proxy."""
        return self.client(server_urls=(Endpoint("localhost", self.proxy.port), self.replica), **changes)

    def settle(self) -> None:
        for node in self.lab.nodes:
            self.lab.settle(node.name)

    def count(self, name: str, table: str = "certnames") -> int:
        return int(self.lab.sql(name, f"select count(*) from {table}")[0][0])

    def stock(self, method: str, path: str, **options: Any) -> requests.Response:
        """A bare request to the primary, as the stock terminus makes it."""
        tls = self.lab.client_tls
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(tls.ca)
            session.cert = (str(tls.cert), str(tls.key))
            url = self.primary.url + path
            return session.request(method, url, allow_redirects=False, timeout=20, **options)


def facts(certname: str, value: object = 1) -> Json:
    return {
        "certname": certname,
        "environment": "production",
        "producer": "puppet.example",
        "values": {"value": value},
    }


def ago(minutes: float = 0) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)
