"""The address of a PuppetDB: what counts as one, and why not. Pure."""

from __future__ import annotations

import ipaddress
import re

from pdbclient.config.model import Endpoint, LocalAddress

__all__ = ["parse_local_url", "parse_server_url", "shown"]

_USER = re.compile(r"^([\"']?[A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?P<query>\?[^#]*)?(?P<fragment>#.*)?"
)
# Underscores are no host name by the letter, but the stock terminus takes them and they occur.
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def parse_server_url(text: str, *, default_port: int = 443) -> Endpoint:
    """The endpoint that `text` names.

    Scheme https; no path but `/`; port 1 to 65535. The stock terminus lets a user, a query, a fragment, a
    missing host and any port through and then builds broken requests from them: here they are refused. So is a
    host with a dot at its end, for which it accepts no certificate.
    Raises `ValueError` with the reason.
    """
    _check_characters(text)
    found = _URL.fullmatch(text)
    if found is None or found["scheme"].lower() != "https":
        raise ValueError(_not_https(text))
    if found["path"] not in ("", "/"):
        raise ValueError(f"cannot contain a path, found {shown(text)}")
    if found["query"] or found["fragment"]:
        raise ValueError(f"cannot contain a query or a fragment, found {shown(text)} (every request would be wrong)")
    if "@" in found["authority"]:
        raise ValueError("cannot contain a user or a password: PuppetDB knows clients by certificate")
    host, port = _split_authority(found["authority"], text)
    return Endpoint(_host(host, text), default_port if port is None else _port(port, text))


def parse_local_url(text: str) -> LocalAddress:
    """The address that `text` names: http, an address of the loopback, a port. Raises `ValueError` with why not."""
    _check_characters(text)
    found = _URL.fullmatch(text)
    if found is None or found["scheme"].lower() != "http":
        raise ValueError(f"must be http://127.0.0.1:PORT, found {shown(text)} (gateway_url is for others, by https)")
    if found["path"] not in ("", "/") or found["query"] or found["fragment"] or "@" in found["authority"]:
        raise ValueError(f"must be http://127.0.0.1:PORT and no more, found {shown(text)}")
    host, port = _split_authority(found["authority"], text)
    address = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"must be an address of the loopback, or others could read: {shown(text)}")
    if port is None:
        raise ValueError(f"needs a port: {shown(text)}")
    return LocalAddress(address, _port(port, text))


def shown(text: str) -> str:
    """What was found, quoted, without what may be a password in it: rather too much is masked than too little."""
    return repr(_masked(text))


def _masked(text: str) -> str:
    return _USER.sub(r"\1***@", text)


def _check_characters(text: str) -> None:
    if not text:
        raise ValueError("must be https, found '': there is a comma too many, or no value")
    if text[0] in "\"'" or text[-1] in "\"'":
        raise ValueError(f"not a URL: {shown(text)} (quotes are not removed here: leave them out)")
    if not text.isascii():
        raise ValueError(f"not a URL: {shown(text)} (only ASCII: write a host name in its xn-- form)")
    if re.search(r"\s[#;]", text):
        raise ValueError(f"not a URL: {shown(text)} (a comment needs a line of its own)")
    if re.search(r"\s", text):
        raise ValueError(f"not a URL: {shown(text)} (separate URLs with commas)")
    if not text.isprintable():
        raise ValueError(f"not a URL: {shown(text)} (control characters)")


def _not_https(text: str) -> str:
    if text.lower().startswith("http://"):
        return f"must be https, found {shown(text)} (PuppetDB tells clients apart by their certificates)"
    if text in ("http:", "https:"):
        return f"must be https, found {shown(text)} (in HOCON // starts a comment: put the URL in double quotes)"
    if "://" not in text:
        return f"must be https, found {shown(text)} (write https://{_masked(text)})"
    return f"must be https, found {shown(text)}"


def _split_authority(authority: str, text: str) -> tuple[str, str | None]:
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?", authority)
    if found is None:
        raise ValueError(f"not a URL: {shown(text)} (an IPv6 address stands in square brackets)")
    # `https://a:` means the default port, as it does to Ruby.
    return found[1], found[2] or None


def _host(host: str, text: str) -> str:
    if not host or host == "[]":
        raise ValueError(f"has no host: {shown(text)}")
    if host.startswith("["):
        if "%" in host:
            raise ValueError(f"an IPv6 address with a zone has no place in a URL: {shown(text)}")
        try:
            return ipaddress.IPv6Address(host[1:-1]).compressed
        except ValueError as error:
            raise ValueError(f"not an IPv6 address: {shown(text)}") from error
    if host.endswith(".") and _HOST.fullmatch(host[:-1]):
        # requests leaves it out when it judges the certificate; Ruby, Python's ssl and so OpenSSL do not.
        raise ValueError(f"ends its host with a dot, as no certificate does: {shown(text)} (leave the dot out)")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError(f"not a host name: {shown(text)}")
    return host.lower()


def _port(port: str, text: str) -> int:
    # isdecimal() alone would let other scripts' digits through; the text is ASCII already.
    if not port.isdecimal() or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise ValueError(f"port must be 1 to 65535, found {shown(text)}")
    return int(port)
