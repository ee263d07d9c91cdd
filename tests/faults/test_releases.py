"""Servers of each release, well, starting, and asked for what they do not have: none is shut out for it."""

from __future__ import annotations

from contextlib import closing

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import NotFound, Rejected
from pdbclient.http.breaker import Health
from pdbclient.http.outcome import Operation
from pdbclient.http.session import Session
from tests.versions import OPENVOXDB_8_15, PUPPETDB_7_5, RELEASES, Release

from .conftest import SHORT, Site, deactivation
from .fake import of, starting

UNKNOWN = ("nope", "reports/abc", "nodes/a/b")


def session_to(site: Site) -> closing[Session]:
    """To the first server alone."""
    return closing(Session(Endpoint("localhost", site.primary.port), site.pki.client, SHORT))


@pytest.fixture(params=(PUPPETDB_7_5, *RELEASES), ids=str)
def release(site: Site, request: pytest.FixtureRequest) -> Release:
    """What both servers are."""
    found: Release = request.param
    for server in (site.primary, site.replica):
        server.reply = server.otherwise = of(found)
    return found


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_address_that_no_server_has_keeps_no_server_away(site: Site, release: Release, path: str) -> None:
    client = site.client()
    for _ in range(4):
        with pytest.raises((NotFound, Rejected), match="no such address"):
            client.get(path)
    assert all(health == Health() for health in client.health().values())
    assert client.submit(deactivation()).endpoint == client.config.server_urls[0]
    assert (len(site.primary.commands), len(site.replica.requests)) == (1, 0)


def test_the_address_of_the_latest_version_is_gone_in_openvoxdb(site: Site, release: Release) -> None:
    path = "/pdb/meta/v1/version/latest"
    with session_to(site) as session:
        if release is OPENVOXDB_8_15:
            with pytest.raises(NotFound):
                session.document(path)
        else:
            assert session.document(path).value["version"] == release.version


def test_a_node_that_nobody_knows_is_an_answer(site: Site, release: Release) -> None:
    with pytest.raises(NotFound, match="No information is known about node n1"):
        site.client().get("nodes/n1")
    assert site.replica.requests == []


@pytest.mark.parametrize("parameter", ["timeout", "origin", "limit"])
def test_a_parameter_that_the_release_does_not_know_is_refused_by_name(
    site: Site, release: Release, parameter: str
) -> None:
    with session_to(site) as session:
        if parameter == "limit" or parameter in release.parameters:
            assert list(session.rows("/nodes", params={parameter: 5})) == []
        else:
            with pytest.raises(Rejected, match=f"Unsupported query parameter '{parameter}'"):
                list(session.rows("/nodes", params={parameter: 5}))


@pytest.mark.parametrize("path", ["nodes/n1", *UNKNOWN])
def test_a_server_that_starts_is_left_for_the_next_one(site: Site, release: Release, path: str) -> None:
    site.primary.reply = site.primary.otherwise = starting
    client = site.client()
    with pytest.raises((NotFound, Rejected)):
        client.get(path)
    assert site.replica.requests
    health = client.health()
    assert not health[client.config.server_urls[0], Operation.QUERY].usable
    assert client.submit(deactivation()).endpoint == client.config.server_urls[1]
