"""When the certificates and revocation lists that a program uses end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pdbclient.config.model import TlsFiles

__all__ = ["Expiry", "expiries"]

_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate or a revocation list in the file of a setting, and its end; None: without one, or `error`."""

    setting: str
    path: Path
    name: str = ""
    ends: datetime | None = None
    error: str | None = None


def expiries(files: TlsFiles) -> tuple[Expiry, ...]:
    """Those of `files` as they are on disk now, each file in its own order. What cannot be read is an `error`."""
    found: list[Expiry] = []
    for setting, path in (("ssl_cert", files.cert), ("ssl_ca_cert", files.ca), ("ssl_crl", files.crl)):
        if path is None or (setting == "ssl_crl" and files.revocation == "false"):
            continue
        try:
            found += _lists(setting, path) if setting == "ssl_crl" else _certificates(setting, path)
        except (OSError, ValueError, x509.InvalidVersion) as error:
            found.append(Expiry(setting, path, error=f"cannot be looked into: {error}"))
    return tuple(found)


def _certificates(setting: str, path: Path) -> Iterator[Expiry]:
    for each in x509.load_pem_x509_certificates(path.read_bytes()):
        yield Expiry(setting, path, each.subject.rfc4514_string(), each.not_valid_after_utc)


def _lists(setting: str, path: Path) -> Iterator[Expiry]:
    for text in _CRL.findall(path.read_bytes()):
        each = x509.load_pem_x509_crl(text)
        yield Expiry(setting, path, each.issuer.rfc4514_string(), each.next_update_utc)
