"""Who may come in: TLS with Puppet's CA and revocation list, then a list of certnames."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509

from pdbclient.config.model import ClientConfig
from pdbclient.errors import ConfigError, Problem
from pdbclient.gateway.addresses import REPORT_PATH
from pdbclient.loopback import host_in, is_loopback

__all__ = ["Handshake", "allowed_certnames", "certname_of_peer", "refusal_of_local"]

log = logging.getLogger("pdbclient.gateway")


class Handshake(ssl.SSLObject):
    """A server's TLS that says whom it rejects, and why; asyncio does not, and tells the client little."""

    def do_handshake(self) -> None:
        """As in `ssl`; a failure leaves a line in the log."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLCertVerificationError as error:
            log.warning("client rejected: its certificate is not accepted: %s", error.verify_message)
            raise
        except ssl.SSLError as error:
            log.warning("client rejected: the TLS handshake failed: %s", error.reason or error)
            raise


def allowed_certnames(config: ClientConfig) -> Collection[str]:
    """`gateway_allow`, else the name in the gateway's own certificate. Raises `ConfigError` when that has none."""
    if config.gateway_allow:
        return frozenset(config.gateway_allow)
    assert config.tls.cert is not None
    return frozenset({_certname_in(config.tls.cert)})


def certname_of_peer(certificate: Mapping[str, Any] | None) -> str | None:
    """The common name in a client's certificate, as Python's ssl gives it; Puppet's certname is that."""
    for name in (certificate or {}).get("subject", ()):
        for key, value in name:
            if key == "commonName":
                return str(value)
    return None


def refusal_of_local(path: str, host: str, origin: str | None, *, commands: bool) -> str | None:
    """Why a request in clear text from this machine is refused, if it is. Pure.

    `host` and `origin` are its headers. A page that a browser has loaded from elsewhere must not read here, neither
    openly (`Origin`) nor by a name of its own that it has made to stand for the loopback (`Host`).
    """
    if origin is not None:
        return "this address is for programs of this machine, not for pages in a browser"
    if not is_loopback(host_in(host)):
        return "this address is for programs of this machine, which call it 127.0.0.1, [::1] or localhost"
    if not commands and (path == REPORT_PATH or path.startswith("/pdb/cmd")):
        return "this address is for reading only: gateway_local_commands would let every program here submit"
    return None


def _certname_in(path: Path) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except (OSError, ValueError, x509.InvalidVersion) as error:
        raise ConfigError([Problem(str(path), None, "ssl_cert", f"is no certificate: {error}")]) from error
    if not names:
        why = "has no common name, so nobody would be let in: set gateway_allow"
        raise ConfigError([Problem(str(path), None, "ssl_cert", why)])
    return str(names[0].value).lower()
