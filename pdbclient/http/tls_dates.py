"""When the certificates and revocation lists of a configuration end, for those who watch them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pdbclient.config.model import TlsFiles

__all__ = ["Expiry", "earliest", "expiries"]

_Read = Callable[[bytes], Iterator[tuple[str, datetime | None]]]
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expiry:
    """One certificate, or revocation list, of the file at `path`, which `setting` names; `name` is in it.

    `ends` is None for a list that never does, and with `error`, which says why the file tells nothing.
    """

    setting: str
    path: Path
    name: str = ""
    ends: datetime | None = None
    error: str | None = None


def expiries(files: TlsFiles) -> tuple[Expiry, ...]:
    """Of every certificate and list in `files` as they are now, in the order of the files. It reads them."""
    return (
        *_read("ssl_cert", files.cert, _certificates),
        *_read("ssl_ca_cert", files.ca, _certificates),
        *_read("ssl_crl", None if files.revocation == "false" else files.crl, _lists),
    )


def _read(setting: str, path: Path | None, read: _Read) -> Iterator[Expiry]:
    if path is None:
        return
    try:
        found = [Expiry(setting, path, name, ends) for name, ends in read(path.read_bytes())]
    except OSError as error:
        found = [Expiry(setting, path, error=f"cannot be read: {error.strerror}")]
    except (ValueError, x509.InvalidVersion) as error:
        found = [Expiry(setting, path, error=f"cannot be looked into: {error}")]
    yield from found


def _certificates(text: bytes) -> Iterator[tuple[str, datetime | None]]:
    for each in x509.load_pem_x509_certificates(text):
        yield each.subject.rfc4514_string(), each.not_valid_after_utc


def _lists(text: bytes) -> Iterator[tuple[str, datetime | None]]:
    for found in _CRL.findall(text):
        each = x509.load_pem_x509_crl(found)
        yield each.issuer.rfc4514_string(), each.next_update_utc


def earliest(files: TlsFiles) -> dict[str, float]:
    """When the first certificate or list of each setting's file ends, in seconds since 1970.

    A file that cannot be read is left out: the daemon that cannot use it says so itself.
    """
    ends: dict[str, float] = {}
    for each in expiries(files):
        if each.ends is not None:
            ends[each.setting] = min(ends.get(each.setting, float("inf")), each.ends.timestamp())
    return ends
