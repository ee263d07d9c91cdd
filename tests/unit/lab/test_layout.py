"""What `lab.json` keeps, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pdbclient.errors import LabError
from pdbclient.lab.layout import LabState, Node, default_directory, node_names, read_state, write_state
from pdbclient.lab.options import LabOptions, Programs


def state_in(directory: Path) -> LabState:
    directory.mkdir()
    nodes = tuple(
        Node(name, directory / "nodes" / name, 1000 + n, 2000 + n, 3000 + n)
        for n, name in enumerate(("primary", "replica"))
    )
    jars = {"replica": Path("/puppetdb8.jar")}
    javas = {"primary": Path("/java21")}
    programs = Programs(Path("/bin/java"), Path("/puppetdb.jar"), Path("/pg/bin"), jars, javas)
    options = LabOptions(java=Path("/bin/java"), heap="1g", node_jars=jars, node_javas=javas)
    return LabState(directory, nodes, programs, options, "secret")


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, ("primary",)), (2, ("primary", "replica")), (4, ("primary", "replica", "replica2", "replica3"))],
)
def test_nodes_are_called_primary_replica_replica2_and_so_on(count: int, names: tuple[str, ...]) -> None:
    assert node_names(count) == names


def test_a_state_comes_back_as_it_was_written_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    write_state(state)
    assert read_state(state.directory) == state
    assert (state.directory / "lab.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in state.directory.iterdir()] == ["lab.json"]


def test_a_node_in_another_network_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    state = state.with_node(replace(state.node("replica"), address="10.0.0.1", prefix=("in-network", "one")))
    write_state(state)
    assert read_state(state.directory) == state


def test_a_state_of_an_earlier_version_has_all_nodes_on_the_loopback(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    write_state(state)
    file = state.directory / "lab.json"
    document = json.loads(file.read_text())
    for node in document["nodes"]:
        del node["address"], node["prefix"]
    file.write_text(json.dumps(document))
    assert read_state(state.directory) == state


def test_a_state_with_an_option_of_a_later_version_is_read_without_it(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    write_state(state)
    file = state.directory / "lab.json"
    document = json.loads(file.read_text())
    document["options"]["of_tomorrow"] = 1
    file.write_text(json.dumps(document))
    assert read_state(state.directory) == state


def test_a_state_of_an_earlier_version_has_one_jar_and_one_java_for_all_nodes(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    write_state(state)
    file = state.directory / "lab.json"
    document = json.loads(file.read_text())
    for part in ("options", "programs"):
        del document[part]["node_jars"], document[part]["node_javas"]
    file.write_text(json.dumps(document))
    read = read_state(state.directory)
    assert read is not None
    assert read.programs.jar("replica") == read.programs.jar("primary") == Path("/puppetdb.jar")
    assert read.programs.java_of("primary") == read.programs.java_of("replica") == Path("/bin/java")


def test_no_state_file_is_no_lab(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "another"}', '{"format": "pdbclient-lab-1"}'])
def test_a_state_file_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json is not the state file of a lab"):
        read_state(tmp_path)


def test_a_copied_lab_is_refused_because_its_state_speaks_of_the_original(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    write_state(state)
    shutil.copytree(state.directory, tmp_path / "copy")
    with pytest.raises(LabError, match="a lab cannot be moved"):
        read_state(tmp_path / "copy")


def test_a_changed_port_leaves_everything_else(tmp_path: Path) -> None:
    state = state_in(tmp_path / "lab")
    changed = state.node("replica").with_port("http_port", 9)
    after = state.with_node(changed)
    assert after.node("replica").ports == (1001, 9, 3001)
    assert after.node("primary") == state.node("primary")
    assert state.node("primary").with_port("https_port", 9).ports == (9, 2000, 3000)
    assert state.node("primary").with_port("postgres_port", 9).ports == (1000, 2000, 9)


def test_the_default_directory_follows_xdg_but_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_directory() == Path("/state/pdbclient/lab")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_directory() == Path("/home/someone/.local/state/pdbclient/lab")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_directory() == Path("/var/lib/pdbclient/lab")
