"""One real server, spoken to with bare requests, so that it alone is under test."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import requests

from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.wire.check import VERSIONS as COMMANDS
from tests.versions import Release

__all__ = ["QUERY", "OneServer"]

Json = dict[str, Any]
QUERY = "/pdb/query/v4"


@dataclass(frozen=True)
class OneServer:
    """A node of a lab, and what is taken for its facts."""

    lab: Lab
    name: str
    release: Release

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        tls = self.lab.client_tls
        with requests.Session() as session:
            session.trust_env = False
            session.verify, session.cert = str(tls.ca), (str(tls.cert), str(tls.key))
            url = f"{self.lab.node(self.name).url}{path}"
            return session.request(method, url, allow_redirects=False, timeout=60, **options)

    def query(self, path: str, query: Any, **params: Any) -> requests.Response:
        return self.request("POST", f"{QUERY}{path}", json={"query": query, **params})

    def rows(self, path: str, query: Any, **params: Any) -> list[Json]:
        answer = self.query(path, query, **params)
        assert answer.status_code == 200, answer.text
        rows: list[Json] = answer.json()
        return rows

    def submit(self, command: str, payload: Json, seconds: int = 20) -> Json:
        """Have it processed, if it can be, and tell what the server said."""
        params = {
            "command": command.replace(" ", "_"),
            "version": COMMANDS[command],
            "certname": payload["certname"],
            "secondsToWaitForCompletion": seconds,
        }
        told: Json = self.request("POST", "/pdb/cmd/v1", params=params, json=payload).json()
        return told

    def store(self, command: str, payload: Json) -> None:
        told = self.submit(command, payload)
        assert (told["processed"], told.get("error")) == (True, None), told

    def session(self) -> closing[Session]:
        endpoint = Endpoint("localhost", self.lab.node(self.name).https_port)
        return closing(Session(endpoint, self.lab.client_tls, Timeouts()))
