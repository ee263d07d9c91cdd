"""Whatever the bytes, a file is a configuration or a list of problems, never another exception."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pdbclient.config import ClientConfig, Endpoint, SyncConfig, load_config, load_sync_config
from pdbclient.config.urls import parse_server_url
from pdbclient.config.values import SettingError, span
from pdbclient.errors import ConfigError

# Pieces of both formats: bytes alone would never get past the first line.
_SYNTAX = ["[main]\n", "[pdbclient]\n", "[sync]\n", "main {", "sync: {", "pdbclient.", "}", "[", "]", ":", "=", " "]
_SYNTAX += ["\n", "\r\n", ",", '"', '"""', "${", "${?", "#", "//", ";", "|", "include ", "\0", "é", "~/", "\ufeff"]
_NAMES = ["server_urls", "submit_only_server_urls", "remotes", "server_url", "interval", "intervals", "ssl_key"]
_NAMES += [
    "gateway_url",
    "state_dir",
    "min_successful_submissions",
    "server_url_timeout",
    "connect_timeout",
    "server",
]
_VALUES = [
    "https://a",
    '"https://b"',
    "5m",
    "1e999",
    "-1",
    "99999999999999999999",
    "true",
    "null",
    "\\u0000",
    "\\ud800",
]
_PIECES = st.sampled_from(_SYNTAX + _NAMES + _VALUES)
_FILES = st.one_of(
    st.binary(max_size=200),
    st.lists(_PIECES, max_size=30).map(lambda pieces: "".join(pieces).encode()),
    st.tuples(st.sampled_from([b"[main]\n", b"main {", b"[sync]\n", b"sync: {"]), st.binary(max_size=60)).map(
        b"".join
    ),
)


@pytest.mark.parametrize(("load", "kind"), [(load_config, ClientConfig), (load_sync_config, SyncConfig)])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=_FILES, check_files=st.booleans())
@example(content=b"main " + b"{a:" * 3000, check_files=False)
@example(content=b"main {x=" + b"[" * 20000, check_files=False)
@example(content=b"[sync]\nlogging_config = \0\n", check_files=True)
@example(content=b"[pdbclient]\nssl_ca_cert = " + b"x" * 5000, check_files=True)
def test_any_bytes_are_a_configuration_or_a_config_error(
    load: Callable[..., object], kind: type, content: bytes, check_files: bool
) -> None:
    """And every problem can be printed and names its file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(content)
        try:
            outcome = load(path, check_files=check_files)
        except ConfigError as error:
            outcome = error
        if isinstance(outcome, ConfigError):
            assert outcome.problems
            assert all(problem.file and problem.why for problem in outcome.problems)
        else:
            assert isinstance(outcome, kind)


@given(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,10}){0,3}", fullmatch=True), st.integers(1, 65535)
)
def test_an_endpoint_survives_its_own_url(host: str, port: int) -> None:
    """Reading what we print gives the same server."""
    endpoint = Endpoint(host, port)
    assert parse_server_url(endpoint.url) == endpoint


@given(st.ip_addresses(v=6), st.integers(1, 65535))
def test_an_ipv6_endpoint_survives_its_own_url(address: object, port: int) -> None:
    """However the address is written."""
    endpoint = parse_server_url(f"https://[{address}]:{port}/")
    assert parse_server_url(endpoint.url) == endpoint


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_a_reason(text: str) -> None:
    """A ValueError with a message, nothing else."""
    try:
        assert parse_server_url(text).url.startswith("https://")
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either outcome is right; this one must explain itself


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,9})? ?[a-z]{0,3}", fullmatch=True)))
def test_any_text_is_a_span_above_zero_or_a_reason(text: str) -> None:
    """No infinity, no zero, no nan."""
    try:
        assert 0 < span(text) < 4e9
    except SettingError as error:
        assert error.reasons  # noqa: PT017 - either outcome is right; this one must explain itself
