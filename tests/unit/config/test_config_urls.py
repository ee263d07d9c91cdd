"""What counts as the address of a PuppetDB, and the reason when it does not."""

from __future__ import annotations

import pytest

from pdbclient.config.urls import parse_server_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://a", "https://a:8081"),
        ("https://a:443", "https://a:443"),
        ("https://A.B:1/", "https://a.b:1"),
        ("https://[2001:DB8:0:0::1]", "https://[2001:db8::1]:8081"),
        ("https://10.0.0.1:65535", "https://10.0.0.1:65535"),
    ],
)
def test_the_canonical_url_names_scheme_host_and_port(text: str, url: str) -> None:
    """However it was written, one server has one identity."""
    assert parse_server_url(text, default_port=8081).url == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be https, found ''"),
        ("http:", "in HOCON // starts a comment"),
        ("ftp://a", "must be https, found 'ftp://a'"),
        ("a", "write https://a"),
        ("https://", "has no host"),
        ("https://[]", "has no host"),
        ("https://:8081", "has no host"),
        ("https://::1", "an IPv6 address stands in square brackets"),
        ("https://[::1", "an IPv6 address stands in square brackets"),
        ("https://[::1]a", "an IPv6 address stands in square brackets"),
        ("https://[1.2.3.4]", "not an IPv6 address"),
        ("https://[fe80::1%25eth0]", "an IPv6 address with a zone has no place in a URL"),
        ("https://a:https", "port must be 1 to 65535"),
        ("https://a:000443", "port must be 1 to 65535"),
        ("https://" + "a" * 254, "not a host name"),
    ],
)
def test_each_wrong_url_has_its_reason(text: str, reason: str) -> None:
    """The reason says what to write instead where that is known."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the reason is compared as plain text below
        parse_server_url(text)
    assert reason in str(caught.value)
