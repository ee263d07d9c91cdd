"""The TLS contexts of a configuration: Puppet's CA and nothing else, and our own certificate."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.errors import ConfigError, Problem

__all__ = ["TlsState", "client_context", "server_context", "tls_state"]

TlsState = tuple[tuple[str, int, int, int], ...]
"""What tells that a TLS file was replaced: path, modification time, size, inode of each."""

_REVOCATION = {"chain": ssl.VERIFY_CRL_CHECK_CHAIN, "leaf": ssl.VERIFY_CRL_CHECK_LEAF}
"""The flags that Puppet sets (`revocation_mode` in lib/puppet/ssl/ssl_provider.rb, the same in Puppet 7 and 8)."""


def tls_state(files: TlsFiles) -> TlsState:
    """The state of the files now; one that is not there has zeros."""
    state = []
    for path in (files.ca, files.cert, files.key, files.crl):
        if path is None:
            continue
        try:
            found = path.stat()
            state.append((str(path), found.st_mtime_ns, found.st_size, found.st_ino))
        except OSError:
            state.append((str(path), 0, 0, 0))
    return tuple(state)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that trusts `files.ca` alone, checks host names and presents `files.cert`.

    `files.revocation` says which of a server's certificates are checked for revocation. Raises `ConfigError` naming
    every file that cannot be used.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for a server that only clients with a certificate of `files.ca` can talk to.

    `files.revocation` says which of a client's certificates are checked for revocation. Raises `ConfigError` naming
    every file that cannot be used.
    """
    context = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    problems: list[Problem] = []
    with _kept(problems):
        _load_authorities(context, files.ca)
    if files.crl is not None and files.revocation != "false":
        with _kept(problems):
            _load_revocations(context, files.crl)
        context.verify_flags |= _REVOCATION[files.revocation]
    if files.cert is not None:
        with _kept(problems):
            _load_identity(context, files.cert, files.key or files.cert)
    if problems:
        raise ConfigError(problems)
    return context


@contextlib.contextmanager
def _kept(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        problems += error.problems


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _load_trust(context, path, "ssl_ca_cert")
    if not context.cert_store_stats()["x509"]:
        raise _problem(path, "ssl_ca_cert", "has no certificate")


def _load_revocations(context: ssl.SSLContext, path: Path) -> None:
    trusted = context.cert_store_stats()["x509"]
    _load_trust(context, path, "ssl_crl")
    held = context.cert_store_stats()
    if not held["crl"]:
        raise _problem(path, "ssl_crl", "has no revocation list")
    # OpenSSL takes what is there; Puppet, only the lists. The CA itself beside them changes nothing.
    if trusted and held["x509"] > trusted:
        raise _problem(path, "ssl_crl", "has certificates that ssl_ca_cert has not: they would be trusted")


def _load_trust(context: ssl.SSLContext, path: Path, setting: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise _problem(path, setting, "not a PEM file with what belongs there") from error
    except OSError as error:
        raise _problem(path, setting, f"cannot be read: {error.strerror}") from error


def _load_identity(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def no_password() -> str:
        # Without this, OpenSSL would ask on the terminal.
        raise _problem(key, "ssl_key", "the key is encrypted; Puppet's keys are not: give one without a passphrase")

    try:
        context.load_cert_chain(cert, key, no_password)
    except ssl.SSLError as error:
        # Another key, a key of another kind; OpenSSL has told the latter in both ways.
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise _problem(key, "ssl_key", f"is not the key of the certificate {cert}") from error
        if error.reason:
            words = error.reason.lower().replace("_", " ")
            raise _problem(cert, "ssl_cert", f"this certificate, or its key {key}, is not usable: {words}") from error
        # OpenSSL does not say which of the two it could not read.
        at_fault, setting = (key, "ssl_key") if _has_certificate(cert) else (cert, "ssl_cert")
        raise _problem(at_fault, setting, "is not usable PEM") from error
    except OSError as error:
        unreadable = next((path for path in (cert, key) if not _readable(path)), cert)
        setting = "ssl_cert" if unreadable == cert else "ssl_key"
        raise _problem(unreadable, setting, f"cannot be read: {error.strerror}") from error


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        return True
    except ssl.SSLError:
        return False


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _problem(path: Path, setting: str, why: str) -> ConfigError:
    return ConfigError([Problem(str(path), None, setting, why)])
