"""The man page and the completions name what the command line has."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdbclient.cli.main import make_parser
from tools import command_line


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("share")
    command_line.write(directory)
    return directory


def test_the_man_page_has_every_command_with_its_options(share: Path) -> None:
    text = (share / "man/man1/pdbclient.1").read_text().replace("\\", "")
    assert text.startswith('.TH PDBCLIENT "1" ')
    for command, options in _commands(make_parser()):
        assert command in text
        assert [option for option in options if option not in text] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sy"], ["sync"]),
        (["sync", "qua"], ["quarantine"]),
        (["sync", "once", "--dry"], ["--dry-run"]),
        (["gateway", "--log-format", "j"], ["json"]),
    ],
)
def test_bash_completes_commands_options_and_choices(words: list[str], expected: list[str], share: Path) -> None:
    """As bash calls it."""
    script = (
        'source "$1"; shift; COMP_WORDS=(pdbclient "$@"); COMP_CWORD=$#; '
        "_shtab_pdbclient; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", script, "bash", share / "bash-completion/completions/pdbclient", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == expected


def test_bash_completes_files_where_a_file_is_wanted(share: Path, tmp_path: Path) -> None:
    (tmp_path / "sync.conf").touch()
    script = (
        'source "$1"; COMP_WORDS=(pdbclient sync once --config sy); COMP_CWORD=4; '
        "_shtab_pdbclient; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    path = share / "bash-completion/completions/pdbclient"
    done = subprocess.run(
        ["bash", "-c", script, "bash", path], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["sync.conf"]


def test_zsh_is_told_of_every_command_in_one_line(share: Path) -> None:
    text = (share / "zsh/site-functions/_pdbclient").read_text()
    assert text.startswith("#compdef pdbclient")
    assert "    sync:'pull what is missing here from the peers, once or for good'" in text


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Every command below `parser`, as it is typed, with its options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command.prog, [option for each in command._actions for option in each.option_strings]
                yield from _commands(command)
