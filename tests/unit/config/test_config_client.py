"""The `[pdbclient]` section, what it overrides, and what a loaded configuration tells about itself."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.config import ClientConfig, Endpoint, Timeouts, load_config
from pdbclient.errors import ConfigError

Write = Callable[..., Path]
Refused = Callable[[Callable[[], object]], list[str]]

TWO = "[main]\nserver_urls = https://a:8081,https://b:8081\n"


def _load(write: Write, text: str) -> ClientConfig:
    return load_config(write("puppetdb.conf", text), check_files=False)


def test_defaults_are_those_of_the_stock_terminus(write: Write) -> None:
    """An empty file: one server, 30 s, one success, no broadcast, edges included."""
    config = _load(write, "")
    assert config.server_urls == (Endpoint("puppetdb", 8081),)
    assert config.timeouts == Timeouts(attempt=30, connect=3, read=10, operation=45)
    assert config.min_successful_submissions == 1
    assert config.include_catalog_edges
    assert config.verify_client_certificate
    assert not config.command_broadcast
    assert not config.sticky_read_failover
    assert not config.soft_write_failure
    assert not config.include_unchanged_resources
    assert config.submit_only_server_urls == ()
    assert config.gzip_min_bytes == 16384
    assert set(config.origins.values()) == {"default"}


def test_every_setting_arrives_in_its_field(write: Write) -> None:
    """No setting of either section is read and then dropped."""
    config = _load(
        write,
        "[main]\nserver_urls = https://a,https://b\nsubmit_only_server_urls = https://c\n"
        "server_url_timeout = 7\nmin_successful_submissions = 2\ncommand_broadcast = true\n"
        "sticky_read_failover = true\ninclude_unchanged_resources = true\ninclude_catalog_edges = false\n"
        "verify_client_certificate = false\n"
        "[pdbclient]\nconnect_timeout = 500ms\nread_timeout = 4\noperation_timeout = 2m\ngzip_min_bytes = 0\n",
    )
    assert config.timeouts == Timeouts(attempt=7, connect=0.5, read=4, operation=120)
    assert [e.submit_only for e in (*config.server_urls, *config.submit_only_server_urls)] == [False, False, True]
    assert [e.order for e in (*config.server_urls, *config.submit_only_server_urls)] == [0, 1, 2]
    assert config.min_successful_submissions == 2
    assert config.command_broadcast
    assert config.sticky_read_failover
    assert config.include_unchanged_resources
    assert not config.include_catalog_edges
    assert not config.verify_client_certificate
    assert config.gzip_min_bytes == 0


def test_soft_write_failure_is_read(write: Write) -> None:
    """It excludes the minimum above, so it has a test of its own."""
    assert _load(write, "[main]\nsoft_write_failure = true\n").soft_write_failure


def test_our_section_may_override_a_setting_of_main(write: Write) -> None:
    """The override wins, wherever the sections stand, and the origin says so."""
    path = write("puppetdb.conf", "[pdbclient]\nserver_url_timeout = 5\n[main]\nserver_url_timeout = 20\n")
    config = load_config(path, check_files=False)
    assert config.timeouts.attempt == 5
    assert config.origins["server_url_timeout"] == f"{path}:2"


def test_the_gateway_is_taken_out_of_the_list_and_the_order_is_kept(write: Write) -> None:
    """The gateway's upstreams are the others, however its own URL is written."""
    text = "[main]\nserver_urls = https://GW:8085/,https://a:8081,https://b:8081\n"
    config = _load(write, text + "[pdbclient]\ngateway_url = https://gw:8085\n")
    assert config.gateway_url == Endpoint("gw", 8085)
    assert [(e.host, e.order) for e in config.server_urls] == [("a", 0), ("b", 1)]
    assert config.warnings == ()


def test_a_gateway_without_upstreams_is_refused(write: Write, refused: Refused) -> None:
    """It would have nobody to hand requests on to."""
    text = "[main]\nserver_urls = https://gw:8085\n[pdbclient]\ngateway_url = https://gw:8085\n"
    assert refused(lambda: _load(write, text)) == [
        "4: gateway_url: https://gw:8085 is the only one of server_urls: no PuppetDB remains to hand requests on to"
    ]


def test_a_submit_only_gateway_is_refused(write: Write, refused: Refused) -> None:
    """Puppet would never read through it."""
    text = "[main]\nserver_urls = https://a\nsubmit_only_server_urls = https://gw\n"
    (problem,) = refused(lambda: _load(write, text + "[pdbclient]\ngateway_url = https://gw\n"))
    assert problem.startswith("5: gateway_url: https://gw:443 is a submit-only server")


def test_a_gateway_that_puppet_does_not_use_is_a_warning(write: Write) -> None:
    """Allowed while a site moves over, and worth a word."""
    config = _load(write, TWO + "[pdbclient]\ngateway_url = https://gw:8085\n")
    assert [str(e) for e in config.server_urls] == ["https://a:8081", "https://b:8081"]
    assert "not in server_urls" in config.warnings[0].why


def test_a_minimum_counts_the_servers_beside_the_gateway(write: Write, refused: Refused) -> None:
    """The gateway itself stores nothing."""
    text = "[main]\nserver_urls = https://gw,https://a\ncommand_broadcast = true\nmin_successful_submissions = 2\n"
    (problem,) = refused(lambda: _load(write, text + "[pdbclient]\ngateway_url = https://gw\n"))
    assert problem == (
        "4: min_successful_submissions: (2) must be less than or equal to "
        "the number of servers beside the gateway (1)"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("connect_timeout = 0", "must be above 0 and at most a day, found '0'"),
        ("connect_timeout = -1", "not a duration: '-1' (write for example 500ms, 30s, 5m, 2h or 14d)"),
        ("read_timeout = 25h", "must be above 0 and at most a day, found '25h'"),
        ("read_timeout = fast", "not a duration: 'fast' (write for example 500ms, 30s, 5m, 2h or 14d)"),
        ("operation_timeout = 5 weeks", "not a duration: '5 weeks' (write for example 500ms, 30s, 5m, 2h or 14d)"),
        ("gzip_min_bytes = -1", "must be a whole number from 0 to 1000000000, found '-1'"),
        ("gateway_url = https://a,https://b", "must be one URL, found 'https://a,https://b'"),
        (
            "gateway_url = https://a.:8085",
            "ends its host with a dot, as no certificate does: 'https://a.:8085' (leave the dot out)",
        ),
        ("conect_timeout = 3", "unknown setting: did you mean connect_timeout?"),
        ("jornal = /var/lib/x", "unknown setting: did you mean journal?"),
        ("stale_exported = warn", "must be serve or fail, found 'warn'"),
    ],
)
def test_each_bad_line_of_our_section_is_named_with_its_reason(
    line: str, why: str, write: Write, refused: Refused
) -> None:
    """One reason each, at its own line."""
    assert refused(lambda: _load(write, TWO + f"[pdbclient]\n{line}\n")) == [f"4: {line.split(' =')[0]}: {why}"]


def test_a_broken_setting_draws_no_further_conclusions(write: Write, refused: Refused) -> None:
    """A rule between settings is silent when one of them could not be read."""
    text = "[main]\nserver_urls = http://a\nmin_successful_submissions = 2\ncommand_broadcast = true\n"
    assert len(refused(lambda: _load(write, text))) == 1


def test_an_explicit_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Only the usual locations may be empty."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "nowhere.conf")


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    """The message says what to do."""
    with pytest.raises(ConfigError, match="is a directory: name the file itself"):
        load_config(str(tmp_path))


def test_a_utf16_file_is_named_as_such(write: Write) -> None:
    """Windows editors write it; `not UTF-8` would help nobody."""
    with pytest.raises(ConfigError, match="is UTF-16: save it as UTF-8"):
        load_config(write("puppetdb.conf", "[main]\n".encode("utf-16")))


def test_without_a_path_the_usual_locations_are_tried_in_order(write: Write, tmp_path: Path) -> None:
    """The packages of Puppet and OpenVox come before Debian's."""
    write("debian/puppetdb.conf", "[main]\nserver_urls = https://debian\n")
    assert load_config(check_files=False).server_urls[0].host == "debian"
    write("aio/puppetdb.conf", "[main]\nserver_urls = https://aio\n")
    assert load_config(check_files=False).server_urls[0].host == "aio"


def test_a_location_that_may_not_be_looked_into_is_not_taken_for_empty(
    write: Write, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falling back to the default server would be a silent failure."""
    write("debian/puppetdb.conf", "[main]\nserver_urls = https://debian\n")
    real_open, real_lstat = io.open, Path.lstat

    def closed(path: Path) -> None:
        if path.parent == tmp_path / "aio":
            raise PermissionError(13, "Permission denied")

    def lstat(path: Path) -> os.stat_result:
        closed(path)
        return real_lstat(path)

    def read_bytes(path: Path) -> bytes:
        closed(path)
        with real_open(path, "rb") as stream:
            return stream.read()

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert refused(lambda: load_config(check_files=False)) == ["-: -: may not be read by the user with id 0"]


def test_without_any_file_the_stock_default_holds_and_a_warning_says_so(tmp_path: Path) -> None:
    """The stock terminus says it at debug level only."""
    config = load_config(check_files=False)
    assert config.server_urls == (Endpoint("puppetdb", 8081),)
    assert "there is no such file" in config.warnings[0].why
    assert str(tmp_path / "debian") in str(config.warnings[0])


def test_without_any_file_and_certificate_the_missing_file_is_said_first(refused: Refused) -> None:
    """A machine without Puppet gets that message, not one about a CA alone."""
    problems = refused(load_config)
    assert "there is no such file" in problems[0]
    assert len(problems) == 5
