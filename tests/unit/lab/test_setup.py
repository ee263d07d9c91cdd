"""Finding programs, ports and accounts, and what is said when they are missing."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.errors import LabError
from pdbclient.lab import Lab, ports
from pdbclient.lab import install as install_module
from pdbclient.lab import options as options_module
from pdbclient.lab.account import Account, require_reachable
from pdbclient.lab.install import install
from pdbclient.lab.options import LabOptions, find_programs


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.chmod(0o755)
    return path


@pytest.fixture
def complete(tmp_path: Path) -> LabOptions:
    """A machine where everything is, in places of its own."""
    for name in ("initdb", "postgres", "psql"):
        executable(tmp_path / "pg" / name)
    jar = executable(tmp_path / "puppetdb.jar")
    return LabOptions(puppetdb_jar=jar, postgres_bin=tmp_path / "pg", java=executable(tmp_path / "java"))


def test_given_paths_are_used(complete: LabOptions, tmp_path: Path) -> None:
    programs = find_programs(complete)
    assert (programs.java, programs.puppetdb_jar, programs.postgres_bin) == (
        tmp_path / "java",
        tmp_path / "puppetdb.jar",
        tmp_path / "pg",
    )


def test_everything_that_is_missing_is_named_at_once_with_its_option(tmp_path: Path) -> None:
    options = LabOptions(puppetdb_jar=tmp_path / "x.jar", postgres_bin=tmp_path / "pg", java=tmp_path / "java")
    with pytest.raises(LabError) as caught:
        find_programs(options)
    text = str(caught.value)
    for expected in ("--puppetdb-jar", "--postgres-bin", "initdb, postgres, psql", "--java", "lab install"):
        assert expected in text


def test_a_node_may_run_another_jar_than_the_others(complete: LabOptions, tmp_path: Path) -> None:
    other = executable(tmp_path / "puppetdb8.jar")
    programs = find_programs(replace(complete, node_jars={"replica": other}))
    assert [programs.jar(name) for name in ("primary", "replica")] == [tmp_path / "puppetdb.jar", other]
    other.unlink()
    with pytest.raises(LabError, match=rf"--node-jar replica={other}: no such file"):
        find_programs(replace(complete, node_jars={"replica": other}))


def test_a_jar_for_a_node_that_the_lab_does_not_have_is_refused(complete: LabOptions, tmp_path: Path) -> None:
    options = replace(complete, node_jars={"third": complete.puppetdb_jar or tmp_path})
    with pytest.raises(LabError, match="--node-jar third=…: the lab has no such node, but primary, replica"):
        Lab.up(tmp_path / "lab", options=options)


def test_a_java_for_a_node_that_the_lab_does_not_have_is_refused(complete: LabOptions, tmp_path: Path) -> None:
    options = replace(complete, node_javas={"third": complete.java or tmp_path})
    with pytest.raises(LabError, match="--java third=…: the lab has no such node, but primary, replica"):
        Lab.up(tmp_path / "lab", options=options)


def test_the_newest_packaged_postgresql_is_taken(
    complete: LabOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("9", "15", "13"):
        for name in ("initdb", "postgres", "psql"):
            executable(tmp_path / "lib" / version / "bin" / name)
    monkeypatch.setattr(options_module, "_DEBIAN_POSTGRES", tmp_path / "lib")
    found = find_programs(LabOptions(puppetdb_jar=complete.puppetdb_jar, java=complete.java))
    assert found.postgres_bin == tmp_path / "lib" / "15" / "bin"


def test_a_free_port_is_free_and_outside_the_source_ports_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(ports.free_port() < low for _ in range(50)) or low < 11240
    busy = socket.create_server((ports.LOOPBACK, 0))
    with busy:
        port = busy.getsockname()[1]
        assert not ports.is_free(port)
        choices = iter([port, 20001, 20002])
        monkeypatch.setattr(ports, "is_free", lambda candidate: candidate != port)
        monkeypatch.setattr(random, "choice", lambda _: next(choices))
        assert ports.free_port(taken={20001}) == 20002


def test_when_no_port_is_free_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    with pytest.raises(LabError, match=r"no free port on 127\.0\.0\.1"):
        ports.free_port()


def test_a_directory_that_the_account_may_not_enter_is_named(tmp_path: Path) -> None:
    other = Account("other", os.getuid() + 12345, os.getgid() + 12345, "/", switch=True)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(LabError, match="the servers run as other, which may not enter"):
        require_reachable(closed / "lab", other)
    require_reachable(closed / "lab", Account("me", os.getuid(), os.getgid(), "/", switch=False))


def forbid(*_: object) -> None:
    raise AssertionError("nothing may be installed here")


def test_installing_what_is_there_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_module, "_all_there", lambda: True)
    monkeypatch.setattr(install_module, "_apt", forbid)
    said: list[str] = []
    install(said.append)
    assert said == ["PuppetDB, PostgreSQL and Java are there already"]


@pytest.mark.parametrize(
    ("apt_get", "uid", "why"), [(None, 0, "has no apt-get"), ("/usr/bin/apt-get", 7, "needs root")]
)
def test_without_root_or_apt_it_says_what_to_install_and_which_options_to_pass(
    monkeypatch: pytest.MonkeyPatch, apt_get: str | None, uid: int, why: str
) -> None:
    monkeypatch.setattr(install_module, "_all_there", lambda: False)
    monkeypatch.setattr(install_module, "_apt", forbid)
    monkeypatch.setattr("shutil.which", lambda _: apt_get)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    with pytest.raises(LabError, match=why) as caught:
        install(lambda _: None)
    for expected in ("puppetdb", "postgresql", "--puppetdb-jar", "--postgres-bin", "--java"):
        assert expected in str(caught.value)


@pytest.mark.parametrize("was_there", [True, False])
def test_services_are_held_back_while_packages_are_installed_and_a_policy_of_others_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, was_there: bool
) -> None:
    policy = tmp_path / "policy-rc.d"
    if was_there:
        policy.write_text("of others")
    calls: list[tuple[str, bool]] = []
    monkeypatch.setattr(install_module, "_all_there", lambda: False)
    monkeypatch.setattr(install_module, "_POLICY", policy)
    monkeypatch.setattr(install_module, "_SYSTEMD", tmp_path / "no-systemd")
    monkeypatch.setattr(install_module, "_apt", lambda words: calls.append((words[0], policy.exists())))
    monkeypatch.setattr(install_module, "find_programs", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    install(lambda _: None)
    assert calls == [("update", True), ("install", True)]
    assert policy.exists() is was_there
    assert not was_there or policy.read_text() == "of others"
