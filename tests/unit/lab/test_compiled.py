"""Compiling PuppetDB's code ahead: for which jar, how often, and what happens when it cannot be done."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from pdbclient.errors import LabError
from pdbclient.lab import compiled
from pdbclient.lab.account import Account
from pdbclient.lab.compiled import class_path, compile_ahead
from pdbclient.lab.options import Programs

MYSELF = Account("me", os.getuid(), os.getgid(), "/", switch=False)
# Stands for `java`: writes down what it is asked for, and makes a class where the real one would.
JAVA = """#!/bin/sh
echo "$@" >> {log}
for word in "$@"; do
  case "$word" in -Dclojure.compile.path=*) touch "${{word#*=}}/made.class";; esac
done
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setattr(compiled, "cache_directory", lambda: tmp_path / "cache")
    java = tmp_path / "java"
    java.write_text(JAVA.format(log=tmp_path / "calls"))
    java.chmod(0o755)
    make_jar(tmp_path)
    return Programs(java, tmp_path / "puppetdb.jar", tmp_path)


def make_jar(directory: Path, extra: str = "nothing") -> None:
    (directory / "library.jar").write_text("")
    with zipfile.ZipFile(directory / "puppetdb.jar", "w") as archive:
        # A long line of a manifest goes on after a newline and a space, in the middle of a word.
        archive.writestr("META-INF/MANIFEST.MF", "Main-Class: x\r\nClass-Path: other.jar lib\r\n rary.jar\r\n")
        archive.writestr("bootstrap.cfg", "# a comment\na.web/service\n\na.web/another\nb.core/service\n")
        archive.writestr(extra, "")


def calls(tmp_path: Path) -> list[str]:
    log = tmp_path / "calls"
    return log.read_text().splitlines() if log.exists() else []


def test_every_service_is_compiled_once_and_then_found(programs: Programs, tmp_path: Path) -> None:
    assert class_path(programs.puppetdb_jar) == str(programs.puppetdb_jar)
    said: list[str] = []
    for _ in range(2):
        assert compile_ahead(programs, MYSELF, said.append) is None
    (call,) = calls(tmp_path)
    assert call.endswith("a.web b.core puppetlabs.puppetdb.core puppetlabs.puppetdb.cli.services clojure.main")
    assert len(said) == 1
    classes, jar = class_path(programs.puppetdb_jar).split(os.pathsep)
    assert (Path(classes) / "made.class").exists()
    assert jar == str(programs.puppetdb_jar)
    assert sorted(entry.name for entry in (tmp_path / "cache").iterdir()) == [".lock", Path(classes).name]


def test_after_an_upgrade_of_a_library_the_old_classes_are_not_used(programs: Programs, tmp_path: Path) -> None:
    compile_ahead(programs, MYSELF, lambda _: None)
    (tmp_path / "library.jar").write_text("newer")
    assert class_path(programs.puppetdb_jar) == str(programs.puppetdb_jar)


def test_a_jar_that_is_compiled_already_is_left_alone(programs: Programs, tmp_path: Path) -> None:
    make_jar(tmp_path, "puppetlabs/puppetdb/cli/services__init.class")
    assert compile_ahead(programs, MYSELF, lambda _: None) is None
    assert calls(tmp_path) == []


def test_when_it_fails_the_reason_is_told_and_nothing_is_kept(programs: Programs, tmp_path: Path) -> None:
    programs.java.write_text("#!/bin/sh\necho first\necho no memory\nexit 1\n")
    assert compile_ahead(programs, MYSELF, lambda _: None) == "no memory"
    assert class_path(programs.puppetdb_jar) == str(programs.puppetdb_jar)
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_made_is_told_too(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    problem = compile_ahead(programs, MYSELF, lambda _: None)
    assert problem is not None
    assert "cache" in problem


def test_something_that_is_no_jar_is_an_error(programs: Programs) -> None:
    programs.puppetdb_jar.write_text("text")
    with pytest.raises(LabError, match=r"is not PuppetDB's jar"):
        compile_ahead(programs, MYSELF, lambda _: None)
