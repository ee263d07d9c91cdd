"""PuppetDB without pdbclient, as a script would use it: queries whose answers are only read, commands from disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import requests

from pdbclient.config.model import TlsFiles
from pdbclient.wire.command import Command
from pdbclient.wire.query import Ast

__all__ = ["BarePuppetDB", "Query", "Stored", "store"]

Query = tuple[str, Ast, dict[str, Any]]
"""Path below the query API, AST, further parameters."""
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Stored:
    """A command on disk: the parameters of its URL, and the file with its body."""

    params: list[tuple[str, str]]
    body: Path


def store(commands: Iterable[Command], directory: Path) -> list[Stored]:
    """Write commands to files of their own below `directory`."""
    directory.mkdir()
    stored = []
    for number, command in enumerate(commands):
        path = directory / f"{number}.json"
        path.write_bytes(command.body)
        stored.append(Stored(command.params(), path))
    return stored


@dataclass(frozen=True, slots=True)
class BarePuppetDB:
    """One server, by its URL."""

    url: str
    tls: TlsFiles

    def fetch(self, queries: Sequence[Query]) -> int:
        """Ask one after the other on a new connection; how many bytes came."""
        size = 0
        with self._session() as session:
            for path, ast, params in queries:
                url = f"{self.url}/pdb/query/v4{path}"
                with session.post(url, json={"query": ast, **params}, stream=True, timeout=600) as response:
                    response.raise_for_status()
                    size += sum(len(chunk) for chunk in response.raw.stream(_CHUNK, decode_content=True))
        return size

    def post(self, commands: Sequence[Stored], threads: int) -> None:
        """Submit all of them, from so many threads, each with a connection that it keeps."""
        waiting: SimpleQueue[Stored] = SimpleQueue()
        for command in commands:
            waiting.put(command)

        def work() -> None:
            with self._session() as session:
                while True:
                    try:
                        command = waiting.get_nowait()
                    except Empty:
                        return
                    self._send(session, command)

        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()

    def _send(self, session: requests.Session, command: Stored) -> None:
        response = session.post(
            f"{self.url}/pdb/cmd/v1",
            params=command.params,
            data=command.body.read_bytes(),
            headers={"Content-Type": "application/json"},
            timeout=600,
        )
        response.raise_for_status()

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.tls.ca)
            session.cert = (str(self.tls.cert), str(self.tls.key))
            yield session
