"""A throwaway certificate authority, laid out like Puppet's own `ssldir`."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pdbclient.config.model import TlsFiles
from pdbclient.lab.layout import tls_files

__all__ = ["CertificateAuthority"]

_CA_DAYS = 3650
_KEY_BITS = 2048


class CertificateAuthority:
    """One CA below `ssl_dir`: `certs/ca.pem`, `certs/NAME.pem`, `private_keys/NAME.pem`, `crl.pem`,
    `ca/ca_key.pem`.

    These are the places where Puppet looks, so `ssldir = SSL_DIR` is all an agent needs.
    """

    def __init__(self, ssl_dir: Path, name: str) -> None:
        self.ssl_dir, self.name = ssl_dir, name

    @property
    def _ca_key(self) -> Path:
        return self.ssl_dir / "ca" / "ca_key.pem"

    def create(self) -> None:
        """Make the CA and its empty revocation list, unless it is there."""
        files = tls_files(self.ssl_dir, "ca")
        assert files.crl is not None
        if files.crl.exists():
            return
        for directory, mode in (("certs", 0o755), ("private_keys", 0o711), ("ca", 0o700)):
            (self.ssl_dir / directory).mkdir(mode=mode, parents=True, exist_ok=True)
        key = _new_key()
        certificate = _ca_certificate(self.name, key)
        _write(self._ca_key, _key_pem(key), secret=True)
        _write(files.ca, _pem(certificate))
        # Last, because its presence means that the CA is complete.
        _write(files.crl, _pem(_revocations(certificate, key, [])))

    def issue(self, certname: str, *, days: float = 365.0, names: Sequence[str] | None = None) -> TlsFiles:
        """Issue a certificate for server and client use, replacing an earlier one of the same name.

        It is valid for `days` from now, or expired that long ago when negative. `names` are the DNS names and
        addresses it is good for: `certname`, localhost and 127.0.0.1 unless given.
        """

        files = tls_files(self.ssl_dir, certname)
        assert files.cert is not None
        assert files.key is not None
        authority, ca_key = self._authority(files)
        key = _new_key()
        alternatives = [_alternative(name) for name in names or (certname, "localhost", "127.0.0.1")]
        certificate = _leaf_certificate(certname, key, alternatives, days, authority, ca_key)
        _write(files.key, _key_pem(key), secret=True)
        _write(files.cert, _pem(certificate))
        return files

    def revoke(self, certname: str) -> None:
        """Put the certificate that `certname` has now on the revocation list, beside those that are there."""
        files = tls_files(self.ssl_dir, certname)
        assert files.cert is not None
        assert files.crl is not None
        authority, ca_key = self._authority(files)
        certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
        before = x509.load_pem_x509_crl(files.crl.read_bytes())
        new = (
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(datetime.now(UTC))
            .build()
        )
        _write(files.crl, _pem(_revocations(authority, ca_key, [*before, new])))

    def _authority(self, files: TlsFiles) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        key = serialization.load_pem_private_key(self._ca_key.read_bytes(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return x509.load_pem_x509_certificate(files.ca.read_bytes()), key


def _new_key() -> rsa.RSAPrivateKey:

    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def _alternative(name: str) -> x509.GeneralName:

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name(name: str) -> x509.Name:

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _usage(*, authority: bool) -> x509.KeyUsage:

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _ca_certificate(name: str, key: rsa.RSAPrivateKey) -> x509.Certificate:

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(_common_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _revocations(
    authority: x509.Certificate, key: rsa.RSAPrivateKey, revoked: Iterable[x509.RevokedCertificate]
) -> x509.CertificateRevocationList:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - timedelta(days=1))
        .next_update(now + timedelta(days=_CA_DAYS))
    )
    for each in revoked:
        builder = builder.add_revoked_certificate(each)
    return builder.sign(key, hashes.SHA256())


def _leaf_certificate(
    certname: str,
    key: rsa.RSAPrivateKey,
    alternatives: Sequence[x509.GeneralName],
    days: float,
    authority: x509.Certificate,
    ca_key: rsa.RSAPrivateKey,
) -> x509.Certificate:

    end = datetime.now(UTC) + timedelta(days=days)
    start = min(datetime.now(UTC), end) - timedelta(days=1)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(certname))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(thing: x509.Certificate | x509.CertificateRevocationList) -> bytes:

    return thing.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes, *, secret: bool = False) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644), "wb") as file:
        file.write(data)
    temporary.replace(path)
