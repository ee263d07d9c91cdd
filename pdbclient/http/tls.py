"""The TLS contexts of a configuration: Puppet's CA and nothing else, and our own certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from pdbclient.config.model import TlsFiles
from pdbclient.errors import ConfigError, Problem

__all__ = ["client_context", "server_context"]

_REVOCATION = {"chain": ssl.VERIFY_CRL_CHECK_CHAIN, "leaf": ssl.VERIFY_CRL_CHECK_LEAF}
"""The flags that Puppet sets (`revocation_mode` in lib/puppet/ssl/ssl_provider.rb, the same in Puppet 7 and 8)."""


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that trusts `files.ca` alone, checks host names and presents `files.cert`.

    `files.revocation` says which of a server's certificates are checked for revocation. Raises `ConfigError` naming
    the file.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for a server that only clients with a certificate of `files.ca` can talk to.

    `files.revocation` says which of a client's certificates are checked for revocation. Raises `ConfigError` naming
    the file.
    """
    context = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_trust(context, files.ca, "ssl_ca_cert")
    if files.crl is not None and files.revocation != "false":
        _load_trust(context, files.crl, "ssl_crl")
        context.verify_flags |= _REVOCATION[files.revocation]
    if files.cert is not None:
        _load_identity(context, files.cert, files.key or files.cert)
    return context


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
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _problem(key, "ssl_key", f"is not the key of the certificate {cert}") from error
        # OpenSSL does not say which of the two it could not use.
        raise _problem(cert, "ssl_cert", f"this certificate or its key {key} is not usable PEM") from error
    except OSError as error:
        unreadable = next((path for path in (cert, key) if not _readable(path)), cert)
        setting = "ssl_cert" if unreadable == cert else "ssl_key"
        raise _problem(unreadable, setting, f"cannot be read: {error.strerror}") from error


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _problem(path: Path, setting: str, why: str) -> ConfigError:
    return ConfigError([Problem(str(path), None, setting, why)])
