"""`pdbclient --help` and `import pdbclient` load nothing that they do not need.

Modules are counted, not time: the machine that tests run on is never idle. The time is `tests/bench/startup.py`'s.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import pdbclient
from pdbclient.cli.commands import HELP, MODULES
from pdbclient.cli.main import make_parser
from pdbclient.cli.parser import Parser

HEAVY = {
    *("aiohttp", "asyncio", "cryptography", "hocon", "msgspec", "prometheus_client", "psycopg", "requests", "rich"),
    *("sqlite3", "ssl", "tenacity", "urllib3", "yaml"),
}
"""What costs most: the program imports all of it, somewhere."""

SHOW = "import sys\ntry:\n    {}\nfinally:\n    print(*sys.modules, file=sys.stderr)"
MAIN = "from pdbclient.cli.main import main; main({})"


def imported(statement: str) -> set[str]:
    """The modules that a fresh Python has after a statement, without what its site-packages bring at its start."""
    ended = subprocess.run(
        [sys.executable, "-c", SHOW.format(statement)], capture_output=True, text=True, check=False, timeout=60
    )
    return set(ended.stderr.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import pdbclient",
        MAIN.format([]),
        MAIN.format(["--help"]),
        MAIN.format(["--version"]),
        MAIN.format(["frobnicate"]),
    ],
)
def test_nothing_is_imported_that_is_not_needed(statement: str) -> None:
    modules = imported(statement)
    assert "pdbclient" in modules
    assert modules & HEAVY == set()


def test_what_a_command_needs_is_imported_with_it_and_no_other_command() -> None:
    modules = imported(MAIN.format(["query", "--help"]))
    assert {"pdbclient.cli.query", "requests"} <= modules
    assert not {"pdbclient.cli.sync", "pdbclient.cli.lab", "aiohttp"} & modules


def test_help_is_the_same_with_and_without_the_commands() -> None:
    assert make_parser(()).format_help() == make_parser().format_help()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_adds_the_commands_that_the_list_says(module: str) -> None:
    groups = Parser().add_subparsers()
    import_module(f"pdbclient.cli.{module}").register(groups)
    assert tuple(groups.choices) == MODULES[module]
    assert [choice.help for choice in groups._choices_actions] == [HELP[name] for name in MODULES[module]]


def test_a_public_name_comes_with_its_first_use() -> None:
    modules = imported("import pdbclient; pdbclient.ConfigError")
    assert "pdbclient.client" not in modules
    assert "pdbclient.client" in imported("from pdbclient import Client")
    assert set(pdbclient.__all__) <= set(dir(pdbclient))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pdbclient' has no attribute 'Cleint'"):
        pdbclient.Cleint  # type: ignore[attr-defined]  # noqa: B018
