"""What is turned off is off: each in a process of its own, as in the controls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .safeties import Safety, command

ROOT = Path(__file__).parents[2]
OFF = {
    Safety.JOURNAL_SYNC: (
        "from pdbclient.journal.store import sqlite\n"
        "connection = sqlite._connect(Path(sys.argv[1]), 1.0)\n"
        "print(connection.execute('PRAGMA synchronous').fetchone()[0])"
    ),
    Safety.VERIFICATION: "from pdbclient.journal.work.audit import Audit\nprint(Audit.round(None))",
    Safety.FRESHNESS: (
        "from pdbclient.journal.work.exported import Exported\n"
        "print(Exported.answer(None, None, 1.0, str)[1].stale, Exported.prepare(None, None, 1.0))"
    ),
}
SAID = {Safety.JOURNAL_SYNC: "0", Safety.VERIFICATION: "None", Safety.FRESHNESS: "False None"}


@pytest.mark.parametrize("safety", Safety)
def test_a_safety_that_is_turned_off_does_nothing_any_more(safety: Safety, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom tests.partitions.safeties import Safety, turn_off\n"
        f"turn_off(Safety({safety.value!r}))\n{OFF[safety]}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "journal.db")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == (SAID[safety], "", 0)


def test_what_is_left_of_the_command_is_pdbclient_itself() -> None:
    assert command([]) == [sys.executable, "-m", "pdbclient"]
    words = command([Safety.FRESHNESS, Safety.VERIFICATION])
    done = subprocess.run([*words, "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert words[-1] == "freshness,verification"
    assert done.stdout.startswith("pdbclient ")
