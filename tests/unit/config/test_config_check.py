"""`pdbclient config check` on its output, its exit code, and what it never prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pdbclient.cli import config as command
from tests.faults.chain import Chain, pem

Write = Callable[..., Path]


def _run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["config", "check", *map(str, argv)])
    return int(args.run(args))


@pytest.fixture
def good(write: Write) -> Path:
    """A configuration with its own certificates."""
    chain = Chain()
    write("ca.pem", pem(chain.certificates["root"], chain.certificates["intermediate"]))
    write("c.pem", pem(chain.certificates["client"]))
    write("k.pem", chain.key("client"))
    return write(
        "puppetdb.conf",
        "[main]\nserver_urls = https://a,https://b:8081\ncommand_broadcast = true\n"
        "[pdbclient]\nssl_ca_cert = ca.pem\nssl_cert = c.pem\nssl_key = k.pem\nread_timeout = 500ms\n",
    )


@pytest.fixture
def sync(write: Write, good: Path) -> Path:
    """A sync configuration beside it."""
    return write(
        "sync.conf",
        'sync: { local_url: "https://me", remotes: [{server_url: "https://b", interval: 5m}]\n'
        "ssl_ca_cert: ca.pem, ssl_cert: c.pem, ssl_key: k.pem }\n",
    )


def test_every_setting_is_printed_with_its_value_and_origin(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a setting, tab-separated in a pipe."""
    assert _run("--config", good) == 0
    out, err = capsys.readouterr()
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert rows["server_urls"] == ["https://a:443, https://b:8081", f"{good}:2"]
    assert rows["command_broadcast"] == ["true", f"{good}:3"]
    assert rows["ssl_key"] == [str(good.parent / "k.pem"), f"{good}:7"]
    assert rows["read_timeout"] == ["0.5s", f"{good}:8"]
    assert rows["server_url_timeout"] == ["30s", "default"]
    assert rows["gateway_url"] == ["-", "default"]
    # With a CA of its own and no list of that, nothing is checked for revocation.
    assert rows["certificate_revocation"] == ["false", f"{good}:5"]
    assert err == ""


def test_warnings_go_to_standard_error_and_do_not_fail(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """Accepted is accepted."""
    path = write("puppetdb.conf", "[main]\nserver_urls = https://a\nserver_urls = https://b\n")
    assert _run("--config", path, "--syntax-only") == 0
    assert f"warning: {path}:3: server_urls: set again" in capsys.readouterr().err


def test_both_files_can_be_checked_at_once(good: Path, sync: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Remotes are shown with their intervals."""
    assert _run("--config", good, "--sync", sync) == 0
    out = capsys.readouterr().out
    assert f"remotes\thttps://b:8081 every 300s\t{sync}:1\n" in out
    assert "server_urls\t" in out


def test_a_sync_configuration_alone_needs_no_puppetdb_conf(sync: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The machine of a PuppetDB need not be a Puppet server."""
    assert _run("--sync", sync) == 0
    assert "server_urls" not in capsys.readouterr().out


def test_json_has_values_and_origins(good: Path, sync: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers stay numbers, servers are URLs."""
    assert _run("--config", good, "--sync", sync, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    settings = document["puppetdb.conf"]["settings"]
    assert settings["server_urls"] == {"value": ["https://a:443", "https://b:8081"], "origin": f"{good}:2"}
    assert settings["read_timeout"]["value"] == 0.5
    remotes = document["sync"]["settings"]["remotes"]
    assert remotes["value"] == [{"server_url": "https://b:8081", "interval": 300.0}]


def test_all_problems_of_both_files_are_printed_and_the_exit_code_is_2(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, with nothing on standard output."""
    bad = write("puppetdb.conf", "[main]\nserver = a\nserver_urls = http://a\n")
    sync = write("sync.conf", "[sync]\n")
    assert _run("--config", bad, "--sync", sync, "--syntax-only") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[0] for line in err.splitlines()] == [f"{bad}:2", f"{bad}:3", f"{sync}:1", "3 problems"]


def test_problems_as_json(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts: file, line, setting, why."""
    bad = write("puppetdb.conf", "[main]\nserver_urls = https://a/x\n")
    assert _run("--config", bad, "--syntax-only", "--json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "problems": [
            {
                "file": str(bad),
                "line": 2,
                "setting": "server_urls",
                "why": "cannot contain a path, found 'https://a/x'",
            }
        ],
    }


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_content_of_a_key_is_never_printed(
    options: tuple[str, ...], good: Path, sync: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its path is. Neither that of a key that is loaded, nor that of one that cannot be."""
    key = good.parent / "k.pem"
    secret = key.read_text().splitlines()[1:-1]
    assert _run("--config", good, "--sync", sync, *options) == 0
    captured = capsys.readouterr()
    assert not [line for line in secret if line in captured.out + captured.err]
    assert "k.pem" in captured.out
    key.write_text("TOP-SECRET-KEY")
    assert _run("--config", good, "--sync", sync, *options) == 2
    captured = capsys.readouterr()
    assert "TOP-SECRET-KEY" not in captured.out + captured.err
    assert "k.pem" in captured.out + captured.err
