"""What a PuppetDB can be told beside a query, and a server that is told it.

The header `x-pdb-sync-ver`, with which Puppet Enterprise's own sync says how it hashes, is never sent. A server
takes its absence for any other client, and answers 409 to a number that is not its own: 1 in all of 7 and in
8.0, 2 from 8.1 on. So sending it could only keep a 7 and an 8 apart, which hash alike; what really keeps two
servers apart is `policy.versions.hash_class`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pdbclient.config.model import Endpoint
from pdbclient.errors import ServerError, TransportError
from pdbclient.http.outcome import is_about_one_query
from pdbclient.sync.inventory.interfaces import Answer, Server
from pdbclient.wire.command import Command
from pdbclient.wire.query import Ast

__all__ = ["ORIGIN", "PARAMETERS", "Capabilities", "PassServer", "ask_capabilities"]

ORIGIN = "pdbclient-sync"
"""Who asks, in the server's log. Not one of Puppet Enterprise's two sync origins, which the server exempts from
its longest query time: ours are short, and the log is not to name the wrong program.
"""


PARAMETERS: Mapping[str, Any] = MappingProxyType({"origin": ORIGIN, "timeout": 15})
"""What the queries of a pass may say of themselves, where the server answers such queries."""

_NOBODY: Ast = ["in", "certname", ["array", [""]]]
"""A query that costs nothing: no node is called that."""
WITHIN = 15.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which of `PARAMETERS` a server's queries may have; a server answers 400 to one that it does not know."""

    answers: frozenset[str] = frozenset()

    def params(self, within: float | None) -> dict[str, Any]:
        """What to add to a query that may take `within` seconds."""
        added: dict[str, Any] = {}
        if "origin" in self.answers:
            added["origin"] = ORIGIN
        if "timeout" in self.answers and within is not None and math.isfinite(within):
            # Else the server goes on with what we gave up, and its garbage collection waits for it.
            added["timeout"] = math.ceil(within)
        return added


def ask_capabilities(server: Server) -> Capabilities:
    """What the server answers, found by asking it: no list of versions knows the next one, or a fork's.

    Raises the errors of a server that is not to be had.
    """
    answers = set()
    for name, value in PARAMETERS.items():
        try:
            deque(server.rows("/nodes", query=_NOBODY, params={name: value}, within=WITHIN), maxlen=0)
        except ServerError as error:
            if not is_about_one_query(error):
                raise
        else:
            answers.add(name)
    return Capabilities(frozenset(answers))


class PassServer:
    """A server as one pass (or `diff`) asks it: queries say who asks and for how long, and failed requests are
    counted.

    It knows nothing of the server until it is told (`learn`), and until then adds nothing to queries.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._capabilities = Capabilities()
        self._failed = 0
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> Endpoint:
        """The server's address."""
        return self._server.endpoint

    @property
    def failed_requests(self) -> int:
        """How many requests met a `TransportError` or `ServerError`, those that were then tried again too."""
        return self._failed

    def ask(self) -> Capabilities:
        """As `ask_capabilities`. A parameter that it does not take is no failed request."""
        return ask_capabilities(self._server)

    def learn(self, capabilities: Capabilities) -> None:
        """Ask as this server may be asked."""
        self._capabilities = capabilities

    def rows(
        self,
        path: str,
        *,
        query: str | list[Any] | None = None,
        params: Mapping[str, Any] | None = None,
        within: float | None = None,
    ) -> Iterator[bytes]:
        """As `Server.rows`."""
        params = {**(params or {}), **self._capabilities.params(within)} or None
        with self._counted():
            yield from self._server.rows(path, query=query, params=params, within=within)

    def document(self, path: str, *, within: float | None = None) -> Answer:
        """As `Server.document`."""
        with self._counted():
            return self._server.document(path, within=within)

    def submit(self, command: Command, *, within: float | None = None) -> str:
        """As `Server.submit`."""
        with self._counted():
            return self._server.submit(command, within=within)

    def close(self) -> None:
        """As `Server.close`."""
        self._server.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except (TransportError, ServerError):
            with self._lock:
                self._failed += 1
            raise
