"""What an independent HTTP server (Werkzeug) makes of our requests: our own fakes could share our mistakes."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pdbclient.wire import Command, deactivate_node

from .conftest import Pki, Site

CERTNAMES = ["a&b=c", "a+b%41", "web 1/x", "größe-日本.example", "x" * 300]


@pytest.fixture
def server(pki: Pki) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert pki.server.cert is not None
    context.load_cert_chain(pki.server.cert, pki.server.key)
    context.load_verify_locations(pki.server.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    # Its own fixture serves one connection at a time, and a kept one would block the next.
    with HTTPServer(host="localhost", ssl_context=context, threaded=True) as running:
        yield running


@pytest.mark.parametrize("certname", CERTNAMES)
def test_a_certname_arrives_as_it_is(site: Site, server: HTTPServer, certname: str) -> None:
    seen: list[dict[str, str]] = []

    def take(request: Request) -> Response:
        seen.append(request.args.to_dict())
        return Response(json.dumps({"uuid": "u"}), content_type="application/json")

    server.expect_request("/pdb/cmd/v1", method="POST").respond_with_handler(take)
    command = deactivate_node(certname, now=datetime.now(UTC))
    with site.client(server.port) as client:
        client.submit(command)
    assert seen == [
        {
            "version": "3",
            "certname": certname,
            "command": "deactivate_node",
            "producer-timestamp": command.producer_timestamp,
        }
    ]


def test_a_large_command_arrives_compressed_and_whole(site: Site, server: HTTPServer) -> None:
    seen: list[tuple[Any, ...]] = []

    def take(request: Request) -> Response:
        headers = request.headers
        seen.append((headers["Content-Encoding"], headers["X-Uncompressed-Length"], gzip.decompress(request.data)))
        return Response(json.dumps({"uuid": "u"}), content_type="application/json")

    server.expect_request("/pdb/cmd/v1", method="POST").respond_with_handler(take)
    facts = {"certname": "a", "environment": "e", "producer": None, "values": {"text": "ü" * 50_000}}
    command = Command.create("replace facts", facts, now=datetime.now(UTC))
    with site.client(server.port) as client:
        client.submit(command)
    assert seen == [("gzip", str(len(command.body)), command.body)]


def test_a_query_arrives_as_json_with_its_parameters(site: Site, server: HTTPServer) -> None:
    body = {"query": ["=", "certname", "größe"], "limit": 2, "include_total": True}
    server.expect_request("/pdb/query/v4/nodes", method="POST", json=body).respond_with_json(
        [{"certname": "größe"}], headers={"X-Records": "7"}
    )
    with site.client(server.port) as client:
        found = client.query(["=", "certname", "größe"], path="nodes", limit=2, include_total=True)
    assert (list(found), found.total) == ([{"certname": "größe"}], 7)
