"""Which Java runs which release, and which settings a release gets."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config.model import TlsFiles
from pdbclient.errors import LabError
from pdbclient.lab import java as java_module
from pdbclient.lab import options as options_module
from pdbclient.lab.account import server_account
from pdbclient.lab.java import Java, choose, default_java, installed_javas
from pdbclient.lab.layout import LabState, Node
from pdbclient.lab.options import LabOptions, Programs, find_programs
from pdbclient.lab.puppetdb import PuppetDB
from pdbclient.lab.release import Release, read_release

OLD, J11, J17, J21, J25 = (Java(Path(f"/jvm/{feature}/bin/java"), feature) for feature in (7, 11, 17, 21, 25))
UNKNOWN = Java(Path("/opt/bin/java"), None)


def jar(path: Path, version: str | None, group: str = "puppetlabs", artifact: str = "puppetdb") -> Path:
    """A jar that says which release it is, among those of its libraries."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/maven/puppetlabs/trapperkeeper/pom.properties", "version=1.2.3\n")
        if version is not None:
            text = f"artifactId=puppetdb\r\nversion={version}\r\ngroupId=x\r\n"
            archive.writestr(f"META-INF/maven/{group}/{artifact}/pom.properties", text)
    return path


def java_home(home: Path, release: str | None) -> Path:
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("")
    java.chmod(0o755)
    if release is not None:
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{release}"\nJAVA_VERSION_DATE="2025-04-15"\n')
    return java


@pytest.mark.parametrize(
    ("version", "need"),
    [
        ("7.12.1", 8),
        ("8.4.1", 11),
        ("8.15.0", 11),
        ("9.0.0-beta1", 21),
        ("10.0.0", 21),
        ("6.22.1", 8),
        ("of mine", 0),
        (None, 0),
    ],
)
def test_every_release_needs_a_java_of_its_time(version: str | None, need: int) -> None:
    assert Release(version).java == need


@pytest.mark.parametrize(
    ("default", "installed", "chosen"),
    [
        (J17, [J11, J17, J21], {"7.12.1": J17, "8.8.1": J17, "9.0.0": J21, None: J17}),
        (J25, [J11, J17, J25], {"7.12.1": J25, "8.8.1": J25, "9.0.0": J25}),
        (OLD, [J25, J21, J17, OLD], {"7.12.1": J17, "8.8.1": J17, "9.0.0": J21, None: OLD}),
        (None, [J25, J11], {"7.12.1": J11, "8.8.1": J11, "9.0.0": J25, None: J11}),
        (UNKNOWN, [J21], {"7.12.1": UNKNOWN, "9.0.0": UNKNOWN, None: UNKNOWN}),
    ],
)
def test_the_default_java_is_taken_when_it_is_new_enough_and_else_the_oldest_that_is(
    default: Java | None, installed: list[Java], chosen: dict[str | None, Java]
) -> None:
    assert {version: choose(Release(version), default, installed) for version in chosen} == chosen


def test_without_a_java_that_is_new_enough_it_says_what_is_needed_and_what_there_is() -> None:
    with pytest.raises(LabError, match=r"PuppetDB 9\.0\.0 needs Java 21 or newer; there is \S+/17/bin/java \(17\)$"):
        choose(Release("9.0.0"), J17, [J17])
    with pytest.raises(
        LabError, match=r"PuppetDB 8\.8\.1 needs Java 11 or newer; there is none: java is not on PATH"
    ):
        choose(Release("8.8.1"), None, [])
    with pytest.raises(LabError, match="no Java to run PuppetDB of unknown version with; there is none"):
        choose(Release(), None, [UNKNOWN][:0])


def test_every_java_of_the_distribution_is_found_once_with_its_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = tmp_path / "jvm"
    monkeypatch.setattr(java_module, "_HOMES", homes)
    assert installed_javas() == []
    old, new, silent = (
        java_home(homes / name, release) for name, release in (("b8", "1.8.0_442"), ("a21", "21.0.7"), ("c", None))
    )
    (homes / "default-java").symlink_to("a21")
    (homes / "openjdk-17").mkdir()
    (homes / ".a21.jinfo").write_text("")
    assert installed_javas() == [Java(new, 21), Java(old, 8), Java(silent, None)]
    assert str(Java(silent, None)) == f"{silent} (unknown)"


def test_the_default_java_is_that_of_java_home_or_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = java_home(tmp_path / "home", "17.0.15"), java_home(tmp_path / "other", "25")
    link = tmp_path / "bin" / "java"
    link.parent.mkdir()
    link.symlink_to(other)
    monkeypatch.setenv("PATH", str(link.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert default_java() == Java(home, 17)
    monkeypatch.delenv("JAVA_HOME")
    assert default_java() == Java(link, 25)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert default_java() is None


def test_a_jar_says_which_release_it_holds_and_one_that_does_not_is_unknown(tmp_path: Path) -> None:
    assert read_release(jar(tmp_path / "7.jar", "7.12.1")) == Release("7.12.1")
    assert read_release(jar(tmp_path / "8.jar", "8.15.0", group="org.openvoxproject")) == Release("8.15.0")
    assert read_release(jar(tmp_path / "9.jar", "9.0.0", artifact="openvoxdb")) == Release("9.0.0")
    assert read_release(jar(tmp_path / "x.jar", None)) == Release()
    (tmp_path / "text.jar").write_text("no jar")
    for name in ("text.jar", "none.jar"):
        assert read_release(tmp_path / name) == Release()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Java 17 on PATH, and 21 beside it."""
    homes = tmp_path / "jvm"
    monkeypatch.setattr(java_module, "_HOMES", homes)
    javas = {"17": java_home(homes / "17", "17.0.15"), "21": java_home(homes / "21", "21.0.7")}
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(javas["17"].parent))
    monkeypatch.setattr(options_module, "_postgres_problem", lambda _: None)
    return javas


def test_each_node_gets_the_java_that_its_own_jar_needs_unless_one_is_given(
    tmp_path: Path, machine: dict[str, Path]
) -> None:
    seven, nine = jar(tmp_path / "7.jar", "7.12.1"), jar(tmp_path / "9.jar", "9.0.0")
    options = LabOptions(puppetdb_jar=seven, node_jars={"replica": nine}, postgres_bin=tmp_path)

    def javas(**changes: Any) -> list[Path]:
        programs = find_programs(replace(options, **changes))
        return [programs.java_of(name) for name in ("primary", "replica")]

    own = java_home(tmp_path / "own", None)
    assert javas() == [machine["17"], machine["21"]]
    assert javas(java=own) == [own, own]
    assert javas(node_javas={"replica": own}) == [machine["17"], own]
    assert javas(node_javas={"primary": own}) == [own, machine["21"]]
    assert javas(java=machine["21"], node_javas={"primary": own}) == [own, machine["21"]]


def test_a_node_whose_java_is_given_needs_no_other(tmp_path: Path, machine: dict[str, Path]) -> None:
    machine["21"].unlink()
    seven, nine = jar(tmp_path / "7.jar", "7.12.1"), jar(tmp_path / "9.jar", "9.0.0")
    options = LabOptions(puppetdb_jar=seven, node_jars={"replica": nine}, postgres_bin=tmp_path)
    with pytest.raises(
        LabError, match=r"PuppetDB 9\.0\.0 needs Java 21 or newer; .*17\) \(another place: --java FILE\)"
    ):
        find_programs(options)
    own = java_home(tmp_path / "own", None)
    programs = find_programs(replace(options, node_javas={"replica": own}))
    assert (programs.java, programs.java_of("replica")) == (machine["17"], own)


@pytest.mark.parametrize(
    ("version", "known"), [("7.12.1", True), ("8.8.1", True), ("8.15.0", False), ("9.0.0", False), (None, False)]
)
def test_a_server_gets_only_settings_that_its_release_knows(tmp_path: Path, version: str | None, known: bool) -> None:
    """OpenVoxDB warns about the setting for a check that it no longer makes."""
    node = Node("replica", tmp_path / "nodes" / "replica", 1, 2, 3)
    (node.home / "conf.d").mkdir(parents=True)
    jars = {"replica": jar(tmp_path / "x.jar", version)}
    programs = Programs(Path("/java"), Path("/puppetdb.jar"), Path("/pg"), jars, {"replica": Path("/java21")})
    state = LabState(tmp_path, (node,), programs, LabOptions(), "secret")
    tls = TlsFiles(Path("ca"), Path("cert"), Path("key"))
    puppetdb = PuppetDB(node, state, server_account(), tls)
    puppetdb.configure()
    text = (node.home / "conf.d" / "config.ini").read_text()
    assert ("disable-update-checking = true" in text) is known
    assert ("[puppetdb]" in text) is known
    assert puppetdb.command()[0] == Path("/java21")
