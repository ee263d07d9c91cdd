"""The commands of the documentation about the journal, each on a journal with an entry that it is meant for."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pdbclient.journal import CopyState, Journal
from pdbclient.journal.ledger import deliveries
from pdbclient.journal.model import ANY, Copy
from pdbclient.wire.command import Command
from tests.documentation import blocks, pdbclient_commands

from .conftest import CliSite, Run

COMMANDS = [argv for block in blocks("sh", "journal") for argv in pdbclient_commands(block)]
REJECTED = Copy("https://b.example:8081", CopyState.REJECTED, None, 1.0, "HTTP 400: bad")


@pytest.mark.parametrize("argv", COMMANDS, ids=map(shlex.join, COMMANDS))
def test_a_command_of_the_documentation_does_what_it_is_shown_for(
    argv: list[str], run: Run, site: CliSite, tmp_path: Path
) -> None:
    place = tmp_path / "journal.db"
    site.conf.write_text(f"{site.conf.read_text()}journal = {place}\n")
    command = Command.ready("replace facts", 5, "web1", "2026-01-01T00:00:00.000Z", b'{"certname":"web1"}')
    taken = Copy(f"https://localhost:{site.primary.port}", CopyState.ACCEPTED, "uuid", 1.0)
    with Journal.open(str(place)) as journal:
        entry = journal.append(command, [ANY]).result()
        journal.run(deliveries.ack, entry.id, (taken,) if "drop" in argv else (REJECTED,))
    words = [str(entry.id) if word == "ID" else word for word in argv]
    ended = run(*words, "--config", site.conf)
    assert ended.code == 0, ended.err


def test_all_of_them_are_shown() -> None:
    shown = {argv[1] for argv in COMMANDS if argv[0] == "journal"}
    assert shown == {"status", "list", "show", "retry", "drop", "prune", "verify"}
