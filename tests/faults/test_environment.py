"""Nothing in the environment changes whom the client trusts, whom it talks to, or as whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdbclient import AllEndpointsFailed
from pdbclient.http.outcome import Kind

from .conftest import Site, deactivation
from .fake import answer

PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.mark.parametrize("variable", BUNDLES)
def test_a_ca_bundle_of_the_environment_does_not_add_trust(
    site: Site, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    foreign = site.pki.foreign.issue("server")
    monkeypatch.setenv(variable, str(foreign.ca))
    server = site.server(tls=foreign, client_cas=site.pki.server)
    with pytest.raises(AllEndpointsFailed) as failed:
        site.client(server.port).submit(deactivation())
    assert failed.value.attempts[0].outcome.kind is Kind.TLS
    assert server.requests == []


@pytest.mark.parametrize("variable", [*BUNDLES, "SSL_CERT_DIR"])
def test_a_ca_bundle_of_the_environment_does_not_take_trust_away(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path if variable.endswith("DIR") else site.pki.foreign.issue("x").ca))
    assert site.client().submit(deactivation()).uuid


@pytest.mark.parametrize("variable", PROXIES)
def test_a_proxy_of_the_environment_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, f"http://localhost:{site.replica.port}")
    client = site.client(site.primary.port)
    client.submit(deactivation())
    assert list(client.query("nodes {}")) == []
    assert site.replica.connections == 0


def test_credentials_of_a_netrc_file_are_not_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login admin password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    client = site.client(site.primary.port)
    client.submit(deactivation())
    client.query("nodes {}")
    assert len(site.primary.requests) == 2
    assert not [request for request in site.primary.requests if "authorization" in request.headers]


def test_cookies_of_an_answer_are_not_kept(site: Site) -> None:
    site.primary.reply = answer([], Set_Cookie="session=1; Path=/")
    client = site.client(site.primary.port)
    for _ in range(2):
        client.query("nodes {}")
    assert "cookie" not in site.primary.queries[1].headers
