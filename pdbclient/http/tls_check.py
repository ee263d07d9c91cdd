"""What will keep TLS material that loads from being of use: now, soon, or under the name of the gateway."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from pdbclient.config.model import TlsFiles
from pdbclient.errors import Problem

__all__ = ["tls_warnings"]

SOON = timedelta(days=30)
"""Puppet 8 renews a host's certificate so long before its end (`hostcert_renewal_interval`)."""

_TIMES = (9, 10)
"""OpenSSL's verdicts about the time: not yet valid, expired."""
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def tls_warnings(files: TlsFiles, now: datetime, host: str | None = None) -> list[Problem]:
    """What is to be said of `files`, which load (see `pdbclient.http.tls`), at `now`, a time with a zone.

    Certificates and revocation lists that are not current, certificates that end within `SOON` or are revoked, CAs
    without a list. With `host`, also why clients will not accept the certificate of a server of that name.
    """
    try:
        return list(_warnings(files, now, host))
    except (OSError, ValueError, x509.InvalidVersion) as error:
        # This library is too strict for some of what OpenSSL takes; and other files may be here by now.
        paths = ", ".join(str(path) for path in (files.ca, files.cert, files.crl) if path is not None)
        return [Problem(str(files.ca), None, None, f"one of {paths} cannot be looked into: {error}")]


def _warnings(files: TlsFiles, now: datetime, host: str | None) -> Iterator[Problem]:
    authorities = x509.load_pem_x509_certificates(files.ca.read_bytes())
    own = [] if files.cert is None else x509.load_pem_x509_certificates(files.cert.read_bytes())
    lists = []
    if files.crl is not None and files.revocation != "false":
        lists = [x509.load_pem_x509_crl(text) for text in _CRL.findall(files.crl.read_bytes())]
    for path, setting, certificates in ((files.ca, "ssl_ca_cert", authorities), (files.cert, "ssl_cert", own)):
        for each in certificates:
            name = each.subject.rfc4514_string()
            if why := _age(now, each.not_valid_before_utc, each.not_valid_after_utc, SOON):
                yield Problem(str(path), None, setting, f"{name} {why}")
            if any(each.issuer == by.issuer and _lists_it(by, each) for by in lists):
                yield Problem(str(path), None, setting, f"{name} is revoked by {files.crl}")
    for by in lists:
        if why := _age(now, by.last_update_utc, by.next_update_utc, timedelta(0)):
            yield Problem(str(files.crl), None, "ssl_crl", f"the list of {by.issuer.rfc4514_string()} {why}")
    if lists:
        yield from _unlisted(files, authorities, own, lists)
    if host is not None and files.cert is not None and (words := _refusal(files.cert, files.key, host)):
        yield Problem(str(files.cert), None, "ssl_cert", f"no client of gateway_url accepts it: {words}")


def _age(now: datetime, begins: datetime, ends: datetime | None, soon: timedelta) -> str | None:
    """What is wrong with the time; a list without an end is current."""
    if now < begins:
        return f"is not valid before {begins:%Y-%m-%d %H:%M} UTC"
    if ends is not None and ends <= now:
        return f"has expired on {ends:%Y-%m-%d %H:%M} UTC"
    if ends is not None and ends - now < soon:
        return f"expires on {ends:%Y-%m-%d %H:%M} UTC"
    return None


def _lists_it(by: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    return by.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def _unlisted(
    files: TlsFiles,
    authorities: Sequence[x509.Certificate],
    own: Sequence[x509.Certificate],
    lists: Sequence[x509.CertificateRevocationList],
) -> Iterator[Problem]:
    """The CAs that need a list and have none. For the leaf, that is the one that issued ours, as far as we know."""
    issuers = [each.subject for each in authorities] if files.revocation == "chain" else [c.issuer for c in own[:1]]
    for name in dict.fromkeys(issuers):
        if name not in {by.issuer for by in lists}:
            why = f"has no list of {name.rfc4514_string()}: its certificates will be refused"
            yield Problem(str(files.crl), None, "ssl_crl", f"{why} (certificate_revocation is {files.revocation})")


def _refusal(cert: Path, key: Path | None, host: str) -> str | None:
    """OpenSSL's words, in a handshake with ourselves, about this certificate for a server `host`; not of its age."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(cert, key)
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust it without its CA
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    try:
        # The client says hello, the server shows its certificate, the client looks at it.
        for end in (ends[0], ends[1], ends[0]):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return None if error.verify_code in _TIMES else error.verify_message
    return None
