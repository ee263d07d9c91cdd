"""What `pdbclient config check --syntax-only` would say of a puppetdb.conf that is not on disk yet."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pdbclient.config import load_config
from pdbclient.errors import ConfigError, Problem

__all__ = ["judge"]


def judge(puppetdb_conf: str, puppet_conf: str, confdir: Path) -> tuple[Sequence[Problem], Sequence[Problem]]:
    """The problems and the warnings of a puppetdb.conf beside a puppet.conf, both named as in `confdir`.

    Files that they name are not looked at: they may come later. What is on disk then, the command line checks.
    """
    with tempfile.TemporaryDirectory(prefix="pdbclient-setup-") as name:
        directory = Path(name)
        for file, text in (("puppetdb.conf", puppetdb_conf), ("puppet.conf", puppet_conf)):
            (directory / file).write_bytes(text.encode())
        try:
            warnings = load_config(directory / "puppetdb.conf", check_files=False).warnings
        except ConfigError as error:
            return [_named(problem, confdir) for problem in error.problems], ()
        return (), [_named(warning, confdir) for warning in warnings]


def _named(problem: Problem, confdir: Path) -> Problem:
    return replace(problem, file=str(confdir / Path(problem.file).name))
