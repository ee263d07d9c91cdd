"""A CA of two floors, as Puppet Server sets one up: a root, an intermediate below it, certificates of that one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pdbclient.config.model import TlsFiles

__all__ = ["CERTIFICATES", "Chain", "pem"]

CERTIFICATES = ("server", "client")
_DAY = timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def pem(*things: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """A bundle, as Puppet keeps CAs and revocation lists."""
    return b"".join(thing.public_bytes(Encoding.PEM) for thing in things)


class Chain:
    """The CA, and certificates for `server` and `client`, both good for localhost. An ssldir is made by `ssldir`."""

    def __init__(self) -> None:
        self._keys = {
            name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "intermediate", *CERTIFICATES)
        }
        self.certificates = {
            "root": self.certificate("root", "root"),
            "intermediate": self.certificate("intermediate"),
        }
        for name in CERTIFICATES:
            self.certificates[name] = self.certificate(name, "intermediate", host="localhost")

    def certificate(
        self, name: str, issuer: str = "root", *, host: str | None = None, days: float = 365, from_days: float = -400
    ) -> x509.Certificate:
        """A certificate for the key `name`; of a CA, unless it is for a host. It is good for `days` more."""
        now, key, signer = datetime.now(UTC), self._keys[name].public_key(), self._keys[issuer]
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + from_days * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def revocations(
        self, issuer: str, *revoked: str, days: float = 1, from_days: float = -9
    ) -> x509.CertificateRevocationList:
        """The list of `issuer`, with the certificates of these names in it, current for `days` more."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(_name(issuer))
        builder = builder.last_update(now + from_days * _DAY).next_update(now + days * _DAY)
        for name in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(self.certificates[name].serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now - _DAY).build())
        return builder.sign(self._keys[issuer], hashes.SHA256())

    def key(self, name: str) -> bytes:
        return self._keys[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def ssldir(self, directory: Path, certname: str, *lists: x509.CertificateRevocationList) -> TlsFiles:
        """`directory` as Puppet's ssldir of this host, with these revocation lists."""
        files = {
            "certs/ca.pem": pem(self.certificates["root"], self.certificates["intermediate"]),
            f"certs/{certname}.pem": pem(self.certificates[certname]),
            f"private_keys/{certname}.pem": self.key(certname),
            "crl.pem": pem(*lists),
        }
        paths = {name: directory / name for name in files}
        for name, content in files.items():
            paths[name].parent.mkdir(parents=True, exist_ok=True)
            paths[name].write_bytes(content)
        return TlsFiles(*paths.values())
