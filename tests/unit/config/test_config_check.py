"""`pdbclient config check` on its output, its exit code, and what it never prints."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdbclient.cli import config as command
from pdbclient.cli import config_here
from pdbclient.config.sync_config import SYSTEM_STATE
from tests.documentation import ROOT
from tests.faults.chain import Chain, pem
from tests.faults.journal import NOBODY

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


@contextmanager
def somebody() -> Iterator[int]:
    """Inside, root is nobody in particular; everybody else stays who he is."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield os.geteuid()
    finally:
        os.seteuid(before)


@pytest.fixture
def kept(good: Path, sync: Path) -> Iterator[Path]:
    """A directory that others may read, with both configurations: journal and state are in `data`, open to all."""
    with tempfile.TemporaryDirectory(prefix="pdbclient-test-", dir="/var/tmp") as name:
        directory = Path(name)
        shutil.copytree(good.parent, directory, dirs_exist_ok=True)
        (directory / "data").mkdir()
        conf = directory / good.name
        conf.write_text(f"{conf.read_text()}journal = {directory}/data/journal.db\n")
        conf = directory / sync.name
        conf.write_text(conf.read_text().replace("ssl_ca_cert", f'state_dir: "{directory}/data"\nssl_ca_cert'))
        for each in (directory, *directory.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)
        (directory / "data").chmod(0o777)
        yield directory
        (directory / "data").chmod(0o777)


FILES = [("--config", "puppetdb.conf", "journal"), ("--sync", "sync.conf", "state_dir")]


@pytest.mark.parametrize(("option", "name", "setting"), FILES)
def test_a_directory_that_its_user_may_not_write_is_a_problem(
    kept: Path, option: str, name: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The daemon, started as that user, would end at once."""
    with somebody() as user:
        assert _run(option, kept / name) == 0, capsys.readouterr().err
        assert capsys.readouterr().err == ""
    (kept / "data").chmod(0o555)
    with somebody():
        assert _run(option, kept / name) == 2
        assert _run(option, kept / name, "--syntax-only") == 0
    err = capsys.readouterr().err
    assert (
        f": {setting}: the user with id {user} may not write in {kept}/data: look as the user that the service" in err
    )


@pytest.mark.parametrize("end", ["", "-journal", ".lock"])
@pytest.mark.parametrize(("option", "name", "setting"), FILES)
def test_so_is_a_file_that_another_one_left_there(
    kept: Path, option: str, name: str, setting: str, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = "journal.db" if setting == "journal" else "sync-me-8081.sqlite"
    file = kept / "data" / (base.replace(".sqlite", end) if (setting, end) == ("state_dir", ".lock") else base + end)
    file.touch(0o444)
    with somebody():
        assert _run(option, kept / name) == 2
    assert f": {setting}: the user with id" in (err := capsys.readouterr().err)
    assert f"may not read and write {file}: " in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
def test_a_journal_of_another_user_is_a_problem_also_where_its_mode_lets_everybody_write(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway opens its own only. Root, who looks for others, may."""
    file = kept / "data" / "journal.db"
    file.touch()
    file.chmod(0o666)
    with somebody():
        assert _run("--config", kept / "puppetdb.conf") == 2
    assert f"journal: {file} does not belong to the user with id {NOBODY}: " in capsys.readouterr().err
    os.chown(file, NOBODY, NOBODY)
    assert _run("--config", kept / "puppetdb.conf") == 0


def test_a_state_directory_that_is_not_there_must_be_one_that_can_be_made(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = kept / "sync.conf"
    conf.write_text(conf.read_text().replace("/data", "/data/new/state"))
    with somebody():
        assert _run("--sync", conf) == 0
    (kept / "data").chmod(0o555)
    with somebody():
        assert _run("--sync", conf) == 2
    assert f"may not write in {kept}/data: " in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "/primary"])
def test_what_the_unit_makes_need_not_be_there_before_the_first_start(
    kept: Path, below: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """systemd makes it below /var/lib, where the service's user may make nothing: the examples name it."""
    conf, made = kept / "sync.conf", kept / "data" / "made"
    conf.write_text(conf.read_text().replace("/data", f"/data/made{below}"))
    (kept / "data").chmod(0o555)
    monkeypatch.setattr(config_here, "SYSTEM_STATE", made)
    with somebody():
        assert _run("--sync", conf) == 0
    assert capsys.readouterr().err == ""
    (kept / "data").chmod(0o755)
    made.mkdir(0o555)
    with somebody() as user:
        assert _run("--sync", conf) == 2
    assert f": state_dir: the user with id {user} may not write in {made}: " in capsys.readouterr().err


def test_the_unit_makes_the_default_for_the_state() -> None:
    unit = ROOT / "puppet_conf_examples/pdbclient-sync.service"
    names = re.findall(r"^StateDirectory=(.+)$", unit.read_text(), re.M)
    assert [f"/var/lib/{name}" for name in names] == [str(SYSTEM_STATE)]


@pytest.mark.parametrize("path", ["c.pem", "c.pem/state"])
def test_a_state_directory_that_is_a_file_is_a_problem(
    kept: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = kept / "sync.conf"
    conf.write_text(conf.read_text().replace("/data", f"/{path}"))
    assert _run("--sync", conf) == 2
    assert f"state_dir: {kept}/c.pem is no directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"), [("handlers: [\n", ":2: is not YAML: "), ("- a\n", ": must be a mapping"), ("", ": must be a")]
)
def test_a_logging_configuration_that_cannot_be_one_is_a_problem(
    sync: Path, write: Write, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("logging.yaml", text)
    sync.write_text(sync.read_text().replace("ssl_ca_cert", "logging_config: logging.yaml, ssl_ca_cert"))
    assert _run("--sync", sync) == 2
    assert f"{path}{why}" in capsys.readouterr().err
    write("logging.yaml", "handlers: {}\n")
    assert _run("--sync", sync) == 0


def test_a_port_that_needs_a_privilege_is_a_warning_with_what_to_do(
    good: Path, sync: Path, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The unit that is shipped has no capability at all."""
    text = good.read_text().replace("https://a,", "https://puppet,https://a,")
    good.write_text(f"{text}gateway_local_url = http://127.0.0.1:80\ngateway_status_port = 1024\n")
    sync.write_text(sync.read_text().replace("ssl_ca_cert", "status_port: 1023, ssl_ca_cert"))
    least = write("least", "1024\n")
    monkeypatch.setattr(config_here, "_LEAST_PORT", least)
    assert _run("--config", good, "--sync", sync) == 0
    lines = capsys.readouterr().err.splitlines()
    low = [line for line in lines if "is below 1024, and the service may not listen there" in line]
    assert [line.split(": ")[2] for line in low] == ["gateway_local_url", "status_port"]
    assert all("AmbientCapabilities=CAP_NET_BIND_SERVICE" in line for line in low)
    least.write_text("0\n")
    assert _run("--config", good, "--sync", sync) == 0
    assert "is below" not in capsys.readouterr().err


def test_two_daemons_of_one_machine_have_not_one_status_port(
    good: Path, sync: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.write_text(f"{good.read_text()}gateway_status_port = 8088\n")
    sync.write_text(sync.read_text().replace("ssl_ca_cert", "status_port: 8088, ssl_ca_cert"))
    assert _run("--config", good) == 0
    assert _run("--sync", sync) == 0
    assert _run("--config", good, "--sync", sync, "--syntax-only") == 0, "they may be meant for two machines"
    capsys.readouterr()
    assert _run("--config", good, "--sync", sync) == 2
    assert f"{sync}:2: status_port: 8088 is gateway_status_port, too ({good}:9): give" in capsys.readouterr().err
