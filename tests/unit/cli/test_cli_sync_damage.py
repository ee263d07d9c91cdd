"""Each command of `pdbclient sync` beside a state file that is damaged inside: words and the advice, no traceback."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from pdbclient.sync.state.store import state_path
from tests.unit.sync.test_state_damage import DAMAGE, fill

from .conftest import Run
from .sync_site import SyncSite

COMMANDS = {
    ("once",): 1,
    ("once", "--dry-run"): 1,
    ("audit",): 1,
    ("run",): 1,
    ("seed",): 1,
    ("status",): 1,
    ("diff",): 3,
    ("quarantine", "list"): 1,
    ("quarantine", "show", "n"): 1,
    ("quarantine", "retry", "--all"): 1,
    ("quarantine", "drop", "n"): 1,
}


@pytest.mark.parametrize(
    "damage",
    [
        *("unknown entity", "time that cannot be shown", "success beyond all calendars", "result that is a list"),
        *("result that is no JSON", "no table refused", "no table pass", "a column less", "cursor"),
        "key that is no text",
    ],
)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_says_what_is_wrong_and_what_to_do(
    command: tuple[str, ...], damage: str, run: Run, sync_site: SyncSite
) -> None:
    path = state_path(sync_site.config.state_dir, sync_site.config.local)
    fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(DAMAGE[damage])
        db.commit()
    ended = run("sync", *command, "--config", sync_site.conf)
    assert ended.code == COMMANDS[command]
    assert ended.out == ""
    assert f"pdbclient: {path}: is damaged: " in ended.err
    assert "Move the file away" in ended.err
    path.rename(path.with_suffix(".away"))
    if command[0] in ("once", "diff"):
        assert run("sync", *command, "--config", sync_site.conf).code == 0
