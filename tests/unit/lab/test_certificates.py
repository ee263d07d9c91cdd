"""The throwaway CA, checked by a TLS handshake of Python's own ssl module."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from pdbclient.config.model import TlsFiles
from pdbclient.lab.certificates import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    authority = CertificateAuthority(tmp_path / "ssl", "test CA")
    authority.create()
    return authority


def handshake(server: TlsFiles, client: TlsFiles, hostname: str) -> None:
    """Mutual TLS in memory; raises `ssl.SSLError` when one side refuses the other."""
    ours = ssl.create_default_context(cafile=client.ca)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.ca)
    theirs.verify_mode = ssl.CERT_REQUIRED
    for context in (ours, theirs):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    for context, files in ((ours, client), (theirs, server)):
        assert files.cert is not None
        context.load_cert_chain(files.cert, files.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        ours.wrap_bio(to_client, to_server, server_hostname=hostname),
        theirs.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not ends


@pytest.mark.parametrize("hostname", ["primary", "localhost", "127.0.0.1"])
def test_a_node_and_a_client_trust_each_other_under_every_name(
    authority: CertificateAuthority, hostname: str
) -> None:
    handshake(authority.issue("primary"), authority.issue("client"), hostname)


def test_a_certificate_is_good_only_for_the_names_asked_for(authority: CertificateAuthority) -> None:
    server = authority.issue("primary", names=["other.example.com"])
    handshake(server, authority.issue("client"), "other.example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, authority.issue("client"), "localhost")


def test_an_expired_certificate_is_refused(authority: CertificateAuthority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(authority.issue("primary", days=-1), authority.issue("client"), "localhost")


def test_a_certificate_of_another_ca_is_refused(authority: CertificateAuthority, tmp_path: Path) -> None:
    foreign = CertificateAuthority(tmp_path / "foreign", "another CA")
    foreign.create()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(foreign.issue("primary"), authority.issue("client"), "localhost")


def test_creating_the_ca_again_keeps_it(authority: CertificateAuthority) -> None:
    ca = authority.issue("primary").ca
    before = ca.read_bytes()
    authority.create()
    assert ca.read_bytes() == before


def test_the_revocation_list_is_empty_and_keys_are_private(authority: CertificateAuthority) -> None:
    files = authority.issue("primary")
    assert files.crl is not None
    assert files.key is not None
    assert len(x509.load_pem_x509_crl(files.crl.read_bytes())) == 0
    assert files.key.stat().st_mode & 0o777 == 0o600


def test_what_is_revoked_is_on_the_list_and_its_successor_is_not(authority: CertificateAuthority) -> None:
    def serial(files: TlsFiles) -> int:
        assert files.cert is not None
        return x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number

    revoked = []
    for name in ("client", "other", "client"):
        revoked.append(serial(authority.issue(name)))
        authority.revoke(name)
    renewed = authority.issue("client")
    assert renewed.crl is not None
    found = x509.load_pem_x509_crl(renewed.crl.read_bytes())
    issuer = x509.load_pem_x509_certificate(renewed.ca.read_bytes())
    assert found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    assert [each.serial_number for each in found] == revoked
    assert serial(renewed) not in revoked
