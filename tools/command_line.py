"""Man page and completions of the command line, from its parser: `python -m tools.command_line DIRECTORY`.

Writes `man/man1/pdbclient.1`, `bash-completion/completions/pdbclient` and `zsh/site-functions/_pdbclient` below
DIRECTORY, which is laid out as /usr/share is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import metadata
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from pdbclient.cli.main import make_parser

__all__ = ["write"]


def write(directory: Path) -> None:
    """Write all three; what is there is replaced."""
    _put(directory / "man/man1/pdbclient.1", _man_page())
    parser = make_parser()
    _prepare(parser)
    _put(directory / "bash-completion/completions/pdbclient", shtab.complete(parser, shell="bash"))
    _put(directory / "zsh/site-functions/_pdbclient", shtab.complete(parser, shell="zsh"))


def _man_page() -> str:
    # argparse breaks lines where the terminal would: this one has room for all of a usage, which man then breaks.
    os.environ["COLUMNS"] = "2000"
    about = metadata("pdbclient")
    page = Manpage(make_parser(), format="single-commands-section")
    page.description = about["Summary"]
    page.source = f"pdbclient {about['Version']}"
    page.manual = "pdbclient"
    return str(page)


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which values are files, and what a command is in one line."""
    for action in parser._actions:
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    for name, command, summary in _commands(parser):
        command.description = summary or name
        _prepare(command)


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str | None]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            choices: Mapping[str, argparse.ArgumentParser] = action.choices
            for choice in action._choices_actions:
                yield choice.dest, choices[choice.dest], choice.help


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
