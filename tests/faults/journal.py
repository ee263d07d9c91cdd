"""Processes and file systems for the journal's fault tests; whatever is started or mounted ends with its block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries, upkeep
from pdbclient.journal.model import ANY, Entry
from pdbclient.wire.command import Command

ROOT = Path(__file__).parents[2]
NOBODY = 65534

APPENDER = """
import itertools, os, sys, threading
from pdbclient.journal import Journal
from pdbclient.journal.ledger import deliveries
from pdbclient.journal.model import ANY, Copy, CopyState
from tests.faults.journal import numbered

path, first, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
numbers = itertools.count(first)
journal = Journal.open(path)
os.write(1, b"open\\n")

def append():
    for number in numbers:
        entry = journal.append(numbered(number), [ANY]).result()
        # One write, so that a kill cannot leave half a line.
        os.write(1, f"{entry.id} {number}\\n".encode())

def deliver():
    while True:
        now = journal.clock()
        for claim in journal.run(deliveries.claim, ANY, 5, now, now + 60, journal.owner):
            journal.run(deliveries.ack, claim.entry, [Copy("https://a", CopyState.ACCEPTED, None, now)])

for work in [append] * threads + [deliver]:
    threading.Thread(target=work).start()
"""


def numbered(number: int) -> Command:
    """A command that is told by its number alone; every hundredth is large enough to be spilled."""
    text = f"{number:08}" * (40_000 if number % 100 == 0 else 300)
    body = b'{"a":"%s"}' % text.encode()
    stamp = f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}.000Z"
    name = ("store report", "replace facts", "replace catalog")[number % 3]
    made = Command.ready(name, 5, f"node{number % 50}", stamp, body)
    return made if number % 2 else made.gzipped()


@contextmanager
def appending(path: Path, first: int, threads: int = 8) -> Iterator[subprocess.Popen[bytes]]:
    """A process that puts commands in from `threads`, and tells the id and number of each that was acknowledged."""
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(path), str(first), str(threads)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"open\n":
                raise AssertionError(process.communicate()[1].decode())
            yield process
        finally:
            process.kill()
            process.wait()


def apart(work: Callable[[], object], *, unprivileged: bool = False) -> str:
    """What `work` gives, or the error that it raises, as text: from a forked child, where asked without root."""
    out, into = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork in a process with threads; the child makes its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            if unprivileged and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                text = str(work())
            except BaseException as error:  # noqa: BLE001 - the parent judges it
                text = f"{type(error).__name__}: {error}"
            os.write(into, text.encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


def put(path: Path, *numbers: int) -> list[int]:
    """Open the journal, append, close it: the ids."""
    with Journal.open(str(path)) as journal:
        return [journal.append(numbered(number), [ANY]).result().id for number in numbers]


def look(path: Path) -> int:
    """Open the journal and close it: how many entries there are."""
    with Journal.open(str(path)) as journal:
        return len(journal.run(entries.listing, limit=1_000_000))


def require_sound(journal: Journal, acknowledged: dict[int, int]) -> None:
    """All that was acknowledged is there as it was, nothing is half there, and the accounts are right."""
    ids = sorted(acknowledged)
    for at in range(0, len(ids), 500):
        found = journal.fetch(ids[at : at + 500])
        for entry in ids[at : at + 500]:
            stored = found.get(entry)
            assert isinstance(stored, Entry), f"entry {entry}, acknowledged as {acknowledged[entry]}: {stored}"
            assert stored.command == numbered(acknowledged[entry])
    assert journal.run(upkeep.structure) == []
    after: int | None = 0
    while after is not None:
        verified = journal.run(upkeep.verify, after, 1000)
        assert verified.damaged == {}
        after = verified.last
    (count, size), (counted,), (owed, pending) = journal.run(
        lambda tx: (
            tx.rows("SELECT count(*), coalesce(sum(length(body)), 0) FROM entries")[0],
            tx.rows("SELECT coalesce(sum(bytes), 0) FROM sizes")[0],
            tx.rows(
                "SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM entries WHERE state = 'pending'"
                " AND EXISTS (SELECT 1 FROM deliveries WHERE deliveries.entry = entries.id))"
            )[0],
        )
    )
    assert count >= len(ids)
    assert (size, owed) == (counted, pending)


@contextmanager
def mounted(directory: Path, *arguments: str) -> Iterator[Path]:
    """A file system of its own at `directory`. The test is left out where none can be mounted (no root)."""
    directory.mkdir()
    try:
        _mount(*arguments, str(directory))
        try:
            yield directory
        finally:
            subprocess.run(["umount", str(directory)], check=True)
    finally:
        directory.rmdir()


def remount(directory: Path, options: str) -> None:
    _mount("-o", f"remount,{options}", str(directory))


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system; the same with a limit of the process runs everywhere")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    # What could be mounted can be mounted again, or the test is wrong.
    assert not done.returncode or "remount" not in " ".join(arguments), done.stderr
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


def acknowledged_by(lines: Sequence[bytes]) -> dict[int, int]:
    """Numbers by id, from the output of `appending`; a line that was cut off was not told."""
    return {int(entry): int(number) for entry, number in (line.split() for line in lines if line.endswith(b"\n"))}
