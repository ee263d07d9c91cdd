"""What will keep TLS material that loads from being of use: now, soon, or under the name of the gateway."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pdbclient.config.model import TlsFiles
from pdbclient.errors import Problem

__all__ = ["SOON", "TlsFaults", "certificate_certname", "certificate_names", "own_fault", "tls_faults"]

SOON = timedelta(days=30)
"""Puppet 8 renews a host's certificate so long before its end (`hostcert_renewal_interval`)."""

_TIMES = (9, 10)
"""OpenSSL's verdicts about the time: not yet valid, expired."""
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_NO_TIME = timedelta(0)


@dataclass(frozen=True, slots=True)
class TlsFaults:
    """`errors`: nobody talks to whoever uses these files. `warnings`: some will not, or it will be so soon."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


_Fault = tuple[bool, Problem]
"""Whether it is an error, and what it is."""


def tls_faults(files: TlsFiles, now: datetime, host: str | None = None) -> TlsFaults:
    """What is to be said of `files`, which load (see `pdbclient.http.tls`), at `now`, a time with a zone.

    Certificates and revocation lists that are not current, certificates that end within `SOON` or are revoked, CAs
    without a list. With `host`, also why clients will not accept the certificate of a server of that name.

    Errors are what is wrong with our own certificate, and with what it is judged by: the CAs above it, and their
    lists, of which there is no current one. The same of other CAs, and what has yet to come, are warnings.
    """
    found: list[_Fault] = []
    try:
        # What was found stays, when something else cannot be looked into.
        found.extend(_faults(files, now, host))
    except (OSError, ValueError, x509.InvalidVersion) as error:
        # This library is too strict for some of what OpenSSL takes; and other files may be here by now.
        paths = ", ".join(str(path) for path in (files.ca, files.cert, files.crl) if path is not None)
        found.append((False, Problem(str(files.ca), None, None, f"one of {paths} cannot be looked into: {error}")))
    return TlsFaults(
        tuple(problem for is_error, problem in found if is_error),
        tuple(problem for is_error, problem in found if not is_error),
    )


def own_fault(files: TlsFiles, now: datetime) -> str | None:
    """What keeps everybody from accepting our certificate at `now`, as far as it can be seen here; None: nothing."""
    try:
        own = _certificates(files.cert)[:1]
        lists = _lists(files)
    except (OSError, ValueError, x509.InvalidVersion):
        # Only the best that can be said about a certificate that was refused; loading it tells the rest.
        return None
    return next((why for each in own for is_error, why in _own_faults(files, each, lists, now) if is_error), None)


def certificate_names(path: Path) -> frozenset[str]:
    """The DNS names in a certificate, in lower case; none where it cannot be read."""
    try:
        names = _alternatives(_certificates(path)[0])
    except (OSError, ValueError, IndexError, x509.InvalidVersion):
        return frozenset()
    return frozenset() if names is None else frozenset(n.lower() for n in names.get_values_for_type(x509.DNSName))


def certificate_certname(path: Path | None) -> str | None:
    """The certname in a certificate: its common name; None where there is none, or it cannot be read."""
    try:
        own = _certificates(path)[:1]
        names = [name for each in own for name in each.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except (OSError, ValueError, x509.InvalidVersion):
        return None
    return str(names[0].value) if names else None


def _faults(files: TlsFiles, now: datetime, host: str | None) -> Iterator[_Fault]:
    authorities, own, lists = _certificates(files.ca), _certificates(files.cert), _lists(files)
    above = _above(own, authorities)
    for each in own[:1]:
        name = _named(each)
        for is_error, fault in _own_faults(files, each, lists, now):
            yield is_error, Problem(str(files.cert), None, "ssl_cert", f"{name} {fault}")
    for each in (*authorities, *own[1:]):
        name = _named(each)
        path, setting = (files.ca, "ssl_ca_cert") if each in authorities else (files.cert, "ssl_cert")
        if why := _age(now, each.not_valid_before_utc, each.not_valid_after_utc, SOON):
            # One that was renewed may stand beside the new one.
            current = any(_is_current(other, now) for other in authorities if other.subject == each.subject)
            yield each.subject in above and not current, Problem(str(path), None, setting, f"{name} {why}")
        if _is_revoked(each, lists):
            judged = files.revocation == "chain" and each.subject in above
            yield judged, Problem(str(path), None, setting, f"{name} is revoked by {files.crl}")
    if lists:
        yield from _list_faults(files, lists, _judging(files, authorities, above), now)
        yield from _unlisted(files, authorities, own, lists)
    if files.cert is not None and (words := _refusal(files.cert, files.key, host)):
        whose = "nobody" if host is None else "no client of gateway_url"
        yield True, Problem(str(files.cert), None, "ssl_cert", f"{whose} accepts it: {words}")


def _own_faults(
    files: TlsFiles, own: x509.Certificate, lists: Sequence[x509.CertificateRevocationList], now: datetime
) -> Iterator[tuple[bool, str]]:
    if why := _age(now, own.not_valid_before_utc, own.not_valid_after_utc, SOON):
        yield not _is_current(own, now), why
    if _is_revoked(own, lists):
        yield True, f"is revoked by {files.crl}"


def _list_faults(
    files: TlsFiles,
    lists: Sequence[x509.CertificateRevocationList],
    judging: Collection[x509.Name],
    now: datetime,
) -> Iterator[_Fault]:
    current = {by.issuer for by in lists if not _age(now, by.last_update_utc, by.next_update_utc, _NO_TIME)}
    for by in lists:
        if why := _age(now, by.last_update_utc, by.next_update_utc, _NO_TIME):
            why = f"the list of {by.issuer.rfc4514_string()} {why}"
            yield by.issuer in judging and by.issuer not in current, Problem(str(files.crl), None, "ssl_crl", why)


def _certificates(path: Path | None) -> list[x509.Certificate]:
    return [] if path is None else x509.load_pem_x509_certificates(path.read_bytes())


def _lists(files: TlsFiles) -> list[x509.CertificateRevocationList]:
    if files.crl is None or files.revocation == "false":
        return []
    return [x509.load_pem_x509_crl(text) for text in _CRL.findall(files.crl.read_bytes())]


def _above(own: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> list[x509.Name]:
    """The CAs above our certificate, the one that issued it first."""
    found: list[x509.Name] = []
    name = own[0].issuer if own else None
    while name is not None and name not in found:
        found.append(name)
        name = next((each.issuer for each in authorities if each.subject == name), None)
    return found


def _judging(
    files: TlsFiles, authorities: Sequence[x509.Certificate], above: Sequence[x509.Name]
) -> Collection[x509.Name]:
    """The CAs whose lists decide about our certificate; without one of ours, nobody's in particular."""
    known = {each.subject for each in authorities}
    return known.intersection(above if files.revocation == "chain" else above[:1])


def _named(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


def _is_current(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _is_revoked(certificate: x509.Certificate, lists: Sequence[x509.CertificateRevocationList]) -> bool:
    return any(certificate.issuer == by.issuer and _lists_it(by, certificate) for by in lists)


def _names_in(certificate: x509.Certificate) -> str:
    """The names that a client may call a server with this certificate, to be read."""
    names = _alternatives(certificate)
    if names is None:
        return "no name at all: it has no subjectAltName"
    return ", ".join([*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))])


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


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
) -> Iterator[_Fault]:
    """The CAs that need a list and have none. For the leaf, that is the one that issued ours, as far as we know."""
    issuers = [each.subject for each in authorities] if files.revocation == "chain" else [c.issuer for c in own[:1]]
    for name in dict.fromkeys(issuers):
        if name not in {by.issuer for by in lists}:
            why = f"has no list of {name.rfc4514_string()}: its certificates will be refused"
            yield (
                False,
                Problem(str(files.crl), None, "ssl_crl", f"{why} (certificate_revocation is {files.revocation})"),
            )


def _refusal(cert: Path, key: Path | None, host: str | None) -> str | None:
    """What is said, in a handshake with ourselves, of this certificate for a server `host`; not of its age.

    Without `host`, only whether its key is of a kind that TLS uses at all.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(cert, key)
    client.load_verify_locations(cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust it without its CA
    if host is None:
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
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
        if error.verify_code in _TIMES:
            return None
        return f"{error.verify_message.rstrip('.')} (it is for {_names_in(_certificates(cert)[0])})"
    except ssl.SSLError as error:
        # OpenSSL shows no certificate whose key it would not take from others.
        kind = _kind(_certificates(cert)[0])
        words = (error.reason or str(error)).lower().replace("_", " ")
        return f"its key is {kind}, with which TLS does not work ({words}): take RSA or P-256, as Puppet does"
    return None


def _kind(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__.lstrip("_")
