"""Everything that can be wrong with a certificate or key: its own message, naming the file and the server."""

from __future__ import annotations

import gc
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from pdbclient import AllEndpointsFailed, Client, ConfigError
from pdbclient.config.model import TlsFiles
from pdbclient.http.outcome import Kind, Operation

from .conftest import Pki, Site, catalog, deactivation
from .fake import Fake
from .gateway import eventually


def some(path: Path | None) -> Path:
    assert path is not None
    return path


def told(client: Client) -> str:
    """What the first server's attempt is said to have met; that server is left alone for a minute then."""
    done = client.submit(deactivation())
    first, second = done.attempts
    assert (first.outcome.kind, second.outcome.kind) == (Kind.TLS, Kind.ACCEPTED), str(first)
    health = client.health()[first.endpoint, Operation.COMMAND]
    assert health.retry_at - time.monotonic() == pytest.approx(60, abs=2)
    return str(first)


def revoking(pki: Pki, directory: Path, *certificates: TlsFiles, days: float = 1) -> Path:
    """A revocation list of the CA that lists these certificates and is current for `days` more."""
    key = serialization.load_pem_private_key((pki.authority.ssl_dir / "ca" / "ca_key.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    issuer = x509.load_pem_x509_certificate(pki.server.ca.read_bytes()).subject
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(now - timedelta(days=9))
    builder = builder.next_update(now + timedelta(days=days))
    for files in certificates:
        serial = x509.load_pem_x509_certificate(some(files.cert).read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(days=1))
        builder = builder.add_revoked_certificate(entry.build())
    path = directory / "crl.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def broken(site: Site, directory: Path, what: str) -> tuple[Fake, TlsFiles]:
    """A server that does not go with the client's files in that way, and those files."""
    pki = site.pki
    own = pki.authority
    if what == "wrong CA":
        return site.server(tls=pki.foreign.issue("server"), client_cas=pki.server), pki.client
    if what == "expired":
        return site.server(tls=own.issue("old", days=-1)), pki.client
    if what == "other host":
        return site.server(tls=own.issue("elsewhere", names=["puppetdb.example"])), pki.client
    if what == "revoked":
        server = own.issue("revoked")
        return site.server(tls=server), replace(pki.client, crl=revoking(pki, directory, server))
    if what == "our CA unknown there":
        foreign = pki.foreign.issue("stranger")
        return site.server(), replace(foreign, ca=pki.client.ca, crl=None)
    if what == "our certificate expired":
        return site.server(), replace(own.issue("old-client", days=-1), crl=None)
    return site.server(), replace(pki.client, cert=None, key=None)


MESSAGES = {
    "wrong CA": ("certificate is not accepted", "unable to get local issuer|self.signed"),
    "expired": ("certificate is not accepted", "expired"),
    "other host": ("certificate is not accepted", "[Hh]ostname mismatch.*localhost"),
    "revoked": ("certificate is not accepted", "revoked"),
    "our CA unknown there": ("refuses our certificate", "UNKNOWN_CA"),
    "our certificate expired": (
        "refuses our certificate",
        r"which has expired on \d{4}-\d\d-\d\d \d\d:\d\d UTC: .*CERTIFICATE_EXPIRED",
    ),
    "none": ("refuses our connection without a certificate", "CERTIFICATE_REQUIRED"),
}


def file_at_fault(files: TlsFiles, what: str) -> Path | None:
    if what == "none":
        return None
    if what.startswith("our"):
        return files.cert
    return files.crl if what == "revoked" else files.ca


@pytest.mark.parametrize("what", MESSAGES)
def test_a_certificate_fault_names_server_and_file_and_opens_the_circuit_for_a_minute(
    site: Site, tmp_path: Path, what: str
) -> None:
    server, files = broken(site, tmp_path, what)
    # The other server must go with the client's files whatever they are: it is asked for no certificate.
    open_to_all = site.server()
    open_to_all.require_certificate(False)
    client = site.client(server.port, open_to_all.port, tls=files)
    message = told(client)
    fault, reason = MESSAGES[what]
    assert f"https://localhost:{server.port}" in message
    assert fault in message
    assert re.search(reason, message)
    if (path := file_at_fault(files, what)) is not None:
        assert str(path) in message
    assert server.requests == []


def test_a_large_body_does_not_hide_that_our_certificate_is_refused(site: Site) -> None:
    files = replace(site.pki.foreign.issue("stranger"), ca=site.pki.client.ca, crl=None)
    server = site.server()
    client = site.client(server.port, tls=files, gzip_min_bytes=10**9)
    with pytest.raises(AllEndpointsFailed) as failed:
        client.submit(catalog(5_000_000))
    assert failed.value.attempts[0].outcome.kind in (Kind.TLS, Kind.AMBIGUOUS)
    assert server.requests == []


def test_a_current_revocation_list_without_the_server_changes_nothing(site: Site, tmp_path: Path) -> None:
    crl = revoking(site.pki, tmp_path, site.pki.authority.issue("another"))
    client = site.client(tls=replace(site.pki.client, crl=crl))
    assert client.submit(deactivation()).endpoint == client.config.server_urls[0]


def test_an_outdated_revocation_list_is_named(site: Site, tmp_path: Path) -> None:
    crl = revoking(site.pki, tmp_path, days=-1)
    client = site.client(site.primary.port, tls=replace(site.pki.client, crl=crl))
    with pytest.raises(AllEndpointsFailed, match="CRL has expired") as failed:
        client.submit(deactivation())
    assert str(crl) in str(failed.value)


@contextmanager
def nobody() -> Iterator[None]:
    """Run as an account that cannot read what only root can."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every account can enter: pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def refused(site: Site, files: TlsFiles) -> str:
    """What is said about files that no client can be made with."""
    with pytest.raises(ConfigError) as error:
        Client(site.config(tls=files)).close()
    (problem,) = error.value.problems
    return str(problem)


@pytest.mark.parametrize("which", ["ca", "cert", "key", "crl"])
def test_an_unreadable_file_is_named_with_its_setting(site: Site, open_directory: Path, which: str) -> None:
    files = {"ca": site.pki.client.ca, "cert": some(site.pki.client.cert), "key": some(site.pki.client.key)}
    files["crl"] = some(site.pki.server.crl)
    copies: dict[str, Any] = {}
    for name, path in files.items():
        copies[name] = open_directory / f"{name}.pem"
        copies[name].write_bytes(path.read_bytes())
        copies[name].chmod(0o000 if name == which else 0o644)
    with nobody():
        message = refused(site, TlsFiles(**copies))
    assert message.startswith(f"{copies[which]}: ssl_")
    assert "Permission denied" in message


@pytest.mark.parametrize("which", ["ca", "cert", "key", "crl"])
@pytest.mark.parametrize("content", ["missing", "a directory", "empty", "not PEM", "PEM of nothing"])
def test_a_file_that_is_not_what_it_should_be_is_named(site: Site, tmp_path: Path, which: str, content: str) -> None:
    path = tmp_path / "broken.pem"
    if content == "a directory":
        path.mkdir()
    elif content != "missing":
        path.write_text(
            {
                "empty": "",
                "not PEM": "hello\n",
                "PEM of nothing": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            }[content]
        )
    changed: dict[str, Any] = {which: path}
    message = refused(site, replace(site.pki.client, **changed))
    assert str(path) in message
    assert "ssl_" in message
    if content == "missing":
        assert message.startswith(f"{path}: ")
        assert "No such file" in message


def test_a_key_of_another_certificate_is_named_with_that_certificate(site: Site) -> None:
    other = site.pki.authority.issue("other")
    message = refused(site, replace(site.pki.client, key=other.key))
    assert str(other.key) in message
    assert str(site.pki.client.cert) in message
    assert "is not the key of the certificate" in message


def test_an_encrypted_key_is_named_and_nobody_is_asked_for_a_passphrase(site: Site, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(some(site.pki.client.key).read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    message = refused(site, replace(site.pki.client, key=encrypted))
    assert str(encrypted) in message
    assert "encrypted" in message


def test_a_private_key_given_as_the_certificate_or_the_ca_is_never_shown(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    key = some(site.pki.client.key)
    secret = key.read_text().splitlines()[1:-1]
    messages = [
        refused(site, replace(site.pki.client, ca=key)),
        refused(site, replace(site.pki.client, cert=key)),
        refused(site, replace(site.pki.client, crl=key)),
        refused(site, replace(site.pki.client, key=site.pki.authority.issue("other").key)),
        repr(site.config()),
        caplog.text,
    ]
    assert not [line for line in secret for message in messages if line in message]


def connections_at(server: Fake) -> int:
    """How many are open there: each has a thread."""
    return sum(thread.name == f"fake-{server.port}-link" for thread in threading.enumerate())


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_client_takes_up_replaced_files_as_a_whole_or_not_at_all(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """H25: a long-lived client went on with the certificates that it had begun with."""
    monkeypatch.setattr("pdbclient.http.sender.LOOK_AT_FILES", 0.0)
    first, second = site.pki.authority.issue("client"), site.pki.authority.issue("renewed")
    (tmp_path / "new").mkdir()
    files = replace(first, cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", crl=revoking(site.pki, tmp_path))
    for new, old in ((files.cert, first.cert), (files.key, first.key)):
        some(new).write_bytes(some(old).read_bytes())
    with Client(replace(site.config(site.primary.port), tls=files)) as client:
        client.query("nodes {}")
        some(files.cert).write_bytes(some(second.cert).read_bytes())
        for _ in range(3):
            client.query("nodes {}")
        (said,) = [record.message for record in caplog.records if "cannot be used" in record.message]
        assert f"{files.key}" in said
        assert site.primary.certnames == {"client"}
        some(files.key).write_bytes(some(second.key).read_bytes())
        client.query("nodes {}")
        assert site.primary.certnames == {"client", "renewed"}
        client.query("nodes {}")
        assert eventually(lambda: connections_at(site.primary) == 1), (
            "the old one's are closed, not left to be collected"
        )
        revoking(site.pki, tmp_path / "new", site.pki.server).replace(some(files.crl))
        with pytest.raises(AllEndpointsFailed, match="certificate revoked"):
            client.query("nodes {}")
