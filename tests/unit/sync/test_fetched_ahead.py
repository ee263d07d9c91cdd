"""While one batch of records is submitted, the next ones are fetched, so that a long way costs little."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pdbclient.errors import DeadlineExceeded, Rejected
from pdbclient.sync import Entity
from pdbclient.sync.run import pull
from pdbclient.wire.command import Command

from .conftest import SyncPair
from .fake import facts

NODES = 100


class Remote:
    """What is on its way from A: how many batches at once at most, and how many came."""

    def __init__(self, site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self.batches = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._rows = site.a.rows
        self.slow = threading.Event()
        monkeypatch.setattr(site.a, "rows", self.rows)

    def rows(self, path: str, *, query: Any = None, **options: Any) -> Iterator[bytes]:
        found = self._rows(path, query=query, **options)
        if path != "/factsets" or query[0] != "and":
            yield from found
            return
        with self._lock:
            self._under_way += 1
            self.batches += 1
            self.most = max(self.most, self._under_way)
        self.slow.wait(0.02)
        try:
            yield from found
        finally:
            with self._lock:
                self._under_way -= 1


@pytest.fixture
def remote(site: SyncPair, monkeypatch: pytest.MonkeyPatch) -> Remote:
    for number in range(NODES):
        site.a.apply("replace facts", facts(f"n{number:03}", site.ago(5)))
    return Remote(site, monkeypatch)


def test_batches_are_fetched_ahead_and_each_record_comes_once(site: SyncPair, remote: Remote) -> None:
    result = site.pull(site.b)
    assert result.ok
    assert remote.batches == NODES // 20
    assert 2 <= remote.most <= pull.AHEAD
    assert sorted(each.certname for each in site.b.submitted) == sorted(site.a.nodes)


def test_the_local_server_has_the_first_batch_before_others_are_asked_for(
    site: SyncPair, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would take the remote's time from the one that is waited for."""
    submit, had = site.b.submit, list[int]()

    def counted(command: Command, *, within: float | None = None) -> str:
        had.append(remote.batches)
        return submit(command, within=within)

    monkeypatch.setattr(site.b, "submit", counted)
    assert site.pull(site.b).ok
    assert had[0] == 1
    assert remote.most > 1


def test_who_wants_one_at_a_time_gets_one_at_a_time(site: SyncPair, remote: Remote) -> None:
    site.options["concurrency"] = 1
    assert site.pull(site.b).ok
    assert remote.most == 1


def test_large_batches_are_read_row_by_row(site: SyncPair, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "AHEAD_BYTES", 100)
    assert site.pull(site.b).ok
    assert remote.batches == NODES // 20
    assert remote.most == 1
    site.b.tables["factsets"].clear()
    assert sorted(each.certname for each in site.b.submitted) == sorted(site.a.nodes)


def test_what_breaks_while_it_is_fetched_ahead_is_tried_again_in_halves(site: SyncPair, remote: Remote) -> None:
    """In the middle of the answer: what came before that is not lost."""
    bad = "n050"
    rows = remote._rows

    def breaking(path: str, *, query: Any = None, **options: Any) -> Iterator[bytes]:
        for row in rows(path, query=query, **options):
            if path == "/factsets" and query[0] == "and" and bad.encode() in row:
                raise DeadlineExceeded("https://a", "no answer")
            yield row

    remote._rows = breaking
    result = site.pull(site.b)
    assert (result.entities[Entity.FACTS].transferred, result.entities[Entity.FACTS].failed) == (NODES - 1, 1)
    assert sorted(each.certname for each in site.b.submitted) == sorted(site.a.nodes.keys() - {bad})


def test_when_the_local_server_is_gone_what_is_fetched_ahead_is_left(site: SyncPair, remote: Remote) -> None:
    site.b.refuses = {f"n{number:03}": Rejected("b", 400, "no") for number in range(3)}
    result = site.pull(site.b)
    assert result.entities[Entity.FACTS].failed == 3
    site.b.down = DeadlineExceeded("https://b", "no answer")
    assert not site.pull(site.b).ok
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sync-fetch")]
