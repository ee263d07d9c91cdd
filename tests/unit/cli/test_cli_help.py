"""Every command and every option says what it is for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from pdbclient.cli.main import make_parser
from pdbclient.cli.output import EXIT_CODES

from .conftest import Run

Walk = Iterator[tuple[tuple[str, ...], str | None, argparse.ArgumentParser]]

COMMANDS = {
    "config check",
    "demo",
    "doctor",
    "exported",
    "gateway",
    "journal drop",
    "journal list",
    "journal prune",
    "journal retry",
    "journal show",
    "journal status",
    "journal verify",
    "lab down",
    "lab fault",
    "lab install",
    "lab status",
    "lab up",
    "nodes",
    "query",
    "recover",
    "status",
    "submit catalog",
    "submit deactivate",
    "submit expiration",
    "submit facts",
    "submit inputs",
    "submit report",
    "sync audit",
    "sync diff",
    "sync once",
    "sync quarantine drop",
    "sync quarantine list",
    "sync quarantine retry",
    "sync quarantine show",
    "sync run",
    "sync seed",
    "sync status",
    "sync trigger",
    "terminus setup",
}


def _groups(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser] | None:
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _walk(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Walk:
    """Every parser below `parser`: its name, the line its group has for it, and itself."""
    groups = _groups(parser)
    if groups is None:
        return
    lines = {choice.dest: choice.help for choice in groups._choices_actions}
    for name, below in groups.choices.items():
        yield (*path, name), lines.get(name), below
        yield from _walk(below, (*path, name))


PARSERS = list(_walk(make_parser()))
EACH = pytest.mark.parametrize(("path", "line", "parser"), PARSERS, ids=[" ".join(path) for path, _, _ in PARSERS])
LEAVES = [row for row in PARSERS if _groups(row[2]) is None]


def test_these_are_the_commands() -> None:
    """A new command is added here, and then to what the README lists."""
    assert {" ".join(path) for path, _, _ in LEAVES} == COMMANDS


@EACH
def test_every_command_has_a_line_in_the_list_of_its_group(
    path: tuple[str, ...], line: str | None, parser: argparse.ArgumentParser
) -> None:
    """The line tells more than the name."""
    assert line is not None
    assert len(line.split()) > 1


@pytest.mark.parametrize(("path", "line", "parser"), LEAVES, ids=[" ".join(path) for path, _, _ in LEAVES])
def test_every_command_has_a_description_that_says_more_than_its_line(
    path: tuple[str, ...], line: str | None, parser: argparse.ArgumentParser
) -> None:
    """Whoever asks for help of one command wants more than its name and options."""
    assert parser.description is not None
    assert len(parser.description.split()) > len(str(line).split())


@EACH
def test_every_argument_of_every_command_has_help(
    path: tuple[str, ...], line: str | None, parser: argparse.ArgumentParser
) -> None:
    """Options and positional arguments alike."""
    silent = [
        action.option_strings or action.dest
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


@EACH
def test_help_of_every_command_can_be_asked_for(
    path: tuple[str, ...], line: str | None, parser: argparse.ArgumentParser, run: Run
) -> None:
    """Help is printed on standard output, exit 0, with nothing that its format string could not fill in."""
    ended = run(*path, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"usage: pdbclient {' '.join(path)}")
    assert "%(" not in ended.out


@EACH
def test_no_line_of_help_is_wider_than_a_terminal(
    path: tuple[str, ...], line: str | None, parser: argparse.ArgumentParser
) -> None:
    """Text that argparse does not wrap is not wider than 118 characters."""
    assert max(len(text) for text in parser.format_help().splitlines()) <= 118


def test_the_exit_codes_are_documented_where_one_looks(run: Run) -> None:
    """`pdbclient --help` has all of them."""
    assert EXIT_CODES in run("--help").out
    for code in ("0", "1", "2", "3", "4", "130"):
        assert any(line.split()[:1] == [code] for line in EXIT_CODES.splitlines())


def test_the_version_is_printed(run: Run) -> None:
    """`--version` is one line."""
    ended = run("--version")
    assert ended.code == 0
    assert ended.out.startswith("pdbclient ")
    assert ended.out.count("\n") == 1
