"""What counts as the address of a PuppetDB, and the reason when it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import load_config
from pdbclient.config.urls import parse_server_url
from pdbclient.errors import ConfigError

Write = Callable[..., Path]


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


@pytest.mark.parametrize(
    "text",
    [
        "[main]\nserver_urls = http://pdb:hunter2@a:8080\n",
        "[main]\nserver_urls = https://pdb:hunter2@a:8081/pdb\n",
        "[main]\nserver_urls = https://pdb:hunter2@a:8081#x\n",
        "[main]\nserver_urls = https://pdb:hun/ter2@a:8081\n",
        "[main]\nserver_urls = pdb:hunter2@a:8081\n",
        '[main]\nserver_urls = "https://pdb:hunter2@a:8081"\n',
        "[main]\nserver_urls https://pdb:hunter2@a:8081\n",
        "[main]\nserver_urls = https://a\n[pdbclient]\ngateway_url = https://pdb:hunter2@a, https://b\n",
        "[main]\nserver_urls = https://a\n[pdbclient]\ngateway_local_url = https://pdb:hunter2@127.0.0.1:80\n",
        "[main]\nserver_urls = https://a\n[pdbclient]\ngateway_local_url = http://pdb:hunter2@127.0.0.1:80\n",
    ],
)
def test_no_reason_repeats_a_password(write: Write, text: str) -> None:
    """It went to the log at a reload."""
    with pytest.raises(ConfigError) as refused:
        load_config(write("puppetdb.conf", text), check_files=False)
    assert "hun" not in str(refused.value)
    assert "ter2" not in str(refused.value)
