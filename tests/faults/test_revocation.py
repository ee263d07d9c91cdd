"""`certificate_revocation` as Puppet means it, wherever a certificate is judged: client, gateway and reconciler.

What each mode refuses is what Puppet refuses with the same files (`tests/integration/test_stock_tls.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.x509 import CertificateRevocationList

from pdbclient import AllEndpointsFailed, Client, ConfigError
from pdbclient.config import ClientConfig, SyncConfig, load_config, load_sync_config
from pdbclient.gateway.upstream import Upstream
from pdbclient.sync.run.reconciler import Reconciler

from .chain import CERTIFICATES, Chain
from .conftest import Site, deactivation
from .gateway import GatewayThread, ask, gateway_config
from .test_gateway_security import kept_out
from .test_tls import some

REVOKED, MISSING, EXPIRED = "certificate revoked", "unable to get certificate CRL", "CRL has expired"
EARLY, FORGED = "CRL is not yet valid", "CRL signature failure"

CASES: dict[str, tuple[Callable[[Chain], tuple[CertificateRevocationList, ...]], str | None, str | None]] = {
    # What the file has; what chain, and what leaf says to it. To false, all is well.
    "nothing is revoked": (lambda ca: (ca.revocations("root"), ca.revocations("intermediate")), None, None),
    "the leaf is revoked": (
        lambda ca: (ca.revocations("root"), ca.revocations("intermediate", *CERTIFICATES)),
        REVOKED,
        REVOKED,
    ),
    "the intermediate is revoked": (
        lambda ca: (ca.revocations("intermediate"), ca.revocations("root", "intermediate")),
        REVOKED,
        None,
    ),
    "no list of the root": (lambda ca: (ca.revocations("intermediate"),), MISSING, None),
    "no list of the intermediate": (lambda ca: (ca.revocations("root"),), MISSING, MISSING),
    "the root's list has expired": (
        lambda ca: (ca.revocations("root", days=-1), ca.revocations("intermediate")),
        EXPIRED,
        None,
    ),
    "the intermediate's list has expired": (
        lambda ca: (ca.revocations("root"), ca.revocations("intermediate", days=-1)),
        EXPIRED,
        EXPIRED,
    ),
    "the root's list is for later": (
        lambda ca: (ca.revocations("root", from_days=1, days=2), ca.revocations("intermediate")),
        EARLY,
        None,
    ),
    "another signed the intermediate's list": (
        lambda ca: (ca.revocations("root"), Chain().revocations("intermediate")),
        FORGED,
        FORGED,
    ),
}
MODES = ("chain", "true", "leaf", "false", None)
"""`true` is `chain`, and so is a puppet.conf that does not say."""


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=MODES, ids=str)
def mode(request: pytest.FixtureRequest) -> str | None:
    mode: str | None = request.param
    return mode


def expected(case: str, mode: str | None) -> str | None:
    """OpenSSL's words for the one who is refused, or None."""
    _, by_chain, by_leaf = CASES[case]
    return {"leaf": by_leaf, "false": None}.get(mode or "chain", by_chain)


def puppet(chain: Chain, directory: Path, certname: str, case: str, mode: str | None) -> Path:
    """The confdir of this host."""
    chain.ssldir(directory / "ssl", certname, *CASES[case][0](chain))
    said = "" if mode is None else f"certificate_revocation = {mode}\n"
    (directory / "puppet.conf").write_text(f"[main]\ncertname = {certname}\nssldir = {directory}/ssl\n{said}")
    return directory


def client_config(confdir: Path, *ports: int) -> ClientConfig:
    urls = ",".join(f"https://localhost:{port}" for port in ports)
    (confdir / "puppetdb.conf").write_text(f"[main]\nserver_urls = {urls}\n")
    return load_config(confdir / "puppetdb.conf")


def sync_config(confdir: Path, local: int, remote: int) -> SyncConfig:
    (confdir / "sync.conf").write_text(
        f'sync: {{ local_url: "https://localhost:{local}", state_dir: "{confdir}/state"\n'
        f'remotes: [{{server_url: "https://localhost:{remote}", interval: 5m}}] }}\n'
    )
    return load_sync_config(confdir / "sync.conf")


def test_a_client_judges_its_servers(site: Site, chain: Chain, tmp_path: Path, case: str, mode: str | None) -> None:
    server = site.server(tls=chain.ssldir(tmp_path / "server", "server"))
    config = client_config(puppet(chain, tmp_path, "client", case, mode), server.port)
    words = expected(case, mode)
    requests: list[Callable[[Client], object]] = [lambda c: c.submit(deactivation()), lambda c: c.query("nodes[]{}")]
    for request in requests:
        with Client(config) as client:
            if words is None:
                request(client)
                continue
            with pytest.raises(AllEndpointsFailed) as failed:
                request(client)
            assert f"its certificate is not accepted: {words} (ssl_crl {config.tls.crl})" in str(failed.value)
    assert bool(server.requests) is (words is None)


def test_a_gateway_judges_its_servers(site: Site, chain: Chain, tmp_path: Path, case: str, mode: str | None) -> None:
    server = site.server(tls=chain.ssldir(tmp_path / "server", "server"))
    config = client_config(puppet(chain, tmp_path, "client", case, mode), server.port)
    words = expected(case, mode)

    with closing(Upstream(config)) as upstream:
        if words is None:
            accepted, _ = asyncio.run(upstream.submit(lambda: (deactivation(), 0.0)))
            assert accepted.uuids
            return
        with pytest.raises(AllEndpointsFailed) as failed:
            asyncio.run(upstream.submit(lambda: (deactivation(), 0.0)))
    assert f"its certificate is not accepted: {words} (ssl_crl {config.tls.crl})" in str(failed.value)


def test_a_gateway_judges_its_clients(
    site: Site,
    chain: Chain,
    tmp_path: Path,
    case: str,
    mode: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = chain.ssldir(tmp_path / "client", "client")
    behind = site.server(tls=chain.ssldir(tmp_path / "behind", "server"))
    config = client_config(puppet(chain, tmp_path, "server", "nothing is revoked", mode), behind.port)
    words = expected(case, mode)
    with GatewayThread(gateway_config(config, config.tls)) as gateway:
        # What judges its clients so judges its own certificate, too: it would not start any more, but it takes it up.
        puppet(chain, tmp_path, "server", case, mode)
        gateway.reload(gateway.config)
        if words is None:
            assert ask(gateway.port, client, "/nothing").status == 404
            return
        assert kept_out(gateway.port, client)
    told = [line for line in caplog.messages if "client rejected" in line]
    assert told == [f"client rejected: its certificate is not accepted: {words}"]
    said = [line for line in caplog.messages if "no client will use this gateway" in line]
    assert bool(said) is (words not in (MISSING, FORGED)), "these are seen in a handshake only"


def test_a_reconciler_judges_its_servers(
    site: Site, chain: Chain, tmp_path: Path, case: str, mode: str | None
) -> None:
    files = chain.ssldir(tmp_path / "server", "server")
    local, remote = site.server(tls=files), site.server(tls=files)
    config = sync_config(puppet(chain, tmp_path, "client", case, mode), local.port, remote.port)
    words = expected(case, mode)
    with Reconciler(config) as reconciler:
        result = reconciler.run_once(config.remotes[0].endpoint)
    judged = "\n".join(result.errors)
    if words is None:
        assert "certificate" not in judged
        assert remote.requests
        return
    assert f"its certificate is not accepted: {words} (ssl_crl {config.tls.crl})" in judged
    assert local.requests == remote.requests == []


@pytest.mark.parametrize("mode", ["chain", "leaf", "false"])
def test_a_revocation_list_that_is_not_there_is_refused_as_by_puppet(chain: Chain, tmp_path: Path, mode: str) -> None:
    confdir = puppet(chain, tmp_path, "client", "nothing is revoked", mode)
    (confdir / "ssl/crl.pem").unlink()
    if mode == "false":
        assert client_config(confdir, 1).tls.crl is None
        return
    for load in (lambda: client_config(confdir, 1), lambda: sync_config(confdir, 1, 2)):
        with pytest.raises(ConfigError) as refused:
            load()
        (problem,) = refused.value.problems
        assert (problem.setting, str(confdir / "ssl/crl.pem") in problem.why) == ("ssl_crl", True)


@pytest.mark.parametrize("which", ["client", "sync"])
def test_our_own_setting_wins_over_puppets(chain: Chain, tmp_path: Path, which: str) -> None:
    confdir = puppet(chain, tmp_path, "client", "nothing is revoked", "chain")
    (confdir / "own.conf").write_text(
        "[pdbclient]\ncertificate_revocation = leaf\n"
        if which == "client"
        else 'sync: { certificate-revocation: leaf, local_url: "https://a"\n'
        'remotes: [{server_url: "https://b", interval: 5m}] }\n'
    )
    config = (load_config if which == "client" else load_sync_config)(confdir / "own.conf")
    assert (config.tls.revocation, config.tls.crl) == ("leaf", confdir / "ssl/crl.pem")
    assert config.origins["certificate_revocation"] == f"{confdir}/own.conf:{2 if which == 'client' else 1}"
    assert some(config.tls.crl)
