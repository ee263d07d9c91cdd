"""Records of every kind met for the first time by several threads at once: msgspec crashes there if it may."""

from __future__ import annotations

import subprocess
import sys

import pytest

_RACE = """
import sys, threading
from contextlib import suppress
from datetime import UTC, datetime
from pdbclient.errors import InvalidCommand
from pdbclient.wire import record
from pdbclient.wire.command import Command

row = b'''{"certname": "a", "version": "1", "producer_timestamp": "2026-01-31T12:00:00.000Z",
 "resources": {"data": []}, "edges": {"data": []}, "facts": {"data": [{"name": "a", "value": 1}]},
 "package_inventory": [], "inputs": []}'''
payload = {"certname": "a", "resources": [{"type": "A", "title": "a"}], "edges": [], "values": {}}
works = {
    "row": lambda: getattr(record, sys.argv[2])(row),
    "payload": lambda: Command.create(sys.argv[2], payload, now=datetime.now(UTC)),
}
work = works[sys.argv[1]]
start = threading.Barrier(8)

def first():
    start.wait()
    with suppress(InvalidCommand):
        work()

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=first) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
TIMES = 3


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("row", "catalog_command"),
        ("row", "factset_command"),
        ("row", "report_command"),
        ("row", "catalog_inputs_command"),
        ("payload", "replace catalog"),
        ("payload", "store report"),
    ],
)
def test_the_first_record_of_a_kind_may_come_to_many_threads_at_once(what: str, name: str) -> None:
    for _ in range(TIMES):
        done = subprocess.run([sys.executable, "-c", _RACE, what, name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
