"""`pdbclient sync status`, `quarantine` and `trigger`: what the state file and the daemon tell."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from pdbclient.errors import NotSent, Rejected
from pdbclient.observe.page.document import Document
from pdbclient.observe.status_port import StatusPort
from pdbclient.sync import Entity, Version
from pdbclient.sync.state.store import State, state_path
from pdbclient.wire.summary import to_millis
from tests.unit.sync.fake import catalog, facts

from .conftest import Run
from .sync_site import OTHER, REMOTE, SyncSite

BAD = Version(1_700_000_000_000, "bad")


def opened(site: SyncSite) -> closing[State]:
    path = state_path(site.config.state_dir, site.config.local)
    path.parent.mkdir(parents=True, exist_ok=True)
    return closing(State(path))


def refuse(
    site: SyncSite, entity: Entity, key: str, times: int, remote: str = REMOTE, version: Version = BAD
) -> None:
    """As if the local server had not taken it so often, just now."""
    with opened(site) as state:
        for _ in range(times):
            state.remember_refused(remote, entity, {key: (version, "HTTP 400: bad")}, time.time())


def unequal(site: SyncSite, key: str) -> None:
    with opened(site) as state:
        state.remember_unequal(REMOTE, Entity.FACTS, {key: BAD})


def listed(run: Run, site: SyncSite, *options: str) -> list[tuple[str, str, str]]:
    ended = run("sync", "quarantine", "list", "--config", site.conf, "--json", *options)
    assert ended.code == 0
    return sorted((row["key"], row["state"], row["entity"]) for row in json.loads(ended.out))


def status(run: Run, site: SyncSite, *options: str) -> tuple[int, list[dict[str, Any]]]:
    ended = run("sync", "status", "--config", site.conf, "--json", *options)
    return ended.code, json.loads(ended.out)


# --- status


def test_before_the_first_pass_the_status_says_so_is_exit_1_and_makes_no_file(run: Run, sync_site: SyncSite) -> None:
    code, (told,) = status(run, sync_site)
    assert code == 1
    assert (told["remote"], told["ok"], told["last_success"], told["lag_seconds"]) == (REMOTE, False, None, None)
    assert told["last_pass"] is None
    assert "no pass yet" in run("sync", "status", "--config", sync_site.conf).err
    assert not sync_site.config.state_dir.exists()


def test_after_a_pass_the_status_tells_when_and_what(run: Run, sync_site: SyncSite) -> None:
    sync_site.there.apply("replace facts", facts("n", sync_site.ago(50)))
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    code, (told,) = status(run, sync_site, "--max-lag", "1m")
    assert code == 0
    assert (told["ok"], told["transferred"], told["failed"], told["has_worked_once"]) == (True, 1, 0, True)
    assert told["last_success"].endswith("Z")
    assert 0 <= told["lag_seconds"] < 60
    assert told["last_pass"]["transferred"]["facts"] == 1
    text = run("sync", "status", "--config", sync_site.conf).out
    assert f"remote\t{REMOTE}\n" in text
    assert "transferred\t1\n" in text


def test_a_pass_that_failed_is_exit_1_with_the_reason_and_the_lag_goes_on(run: Run, sync_site: SyncSite) -> None:
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    sync_site.there.down = NotSent(REMOTE, "connection refused")
    assert run("sync", "once", "--config", sync_site.conf).code == 3
    code, (told,) = status(run, sync_site)
    assert code == 1
    assert "connection refused" in told["last_error"]
    assert told["ok"] is False
    assert told["has_failed_after_working"] is True
    assert told["last_success"] is not None
    assert told["lag_seconds"] >= 0


def test_a_last_success_longer_ago_than_the_greatest_lag_is_exit_1(run: Run, sync_site: SyncSite) -> None:
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert status(run, sync_site, "--max-lag", "1h")[0] == 0
    assert status(run, sync_site, "--max-lag", "1us")[0] == 1


def test_a_last_success_in_the_future_is_exit_1_as_nobody_can_tell_how_long_ago_it_was(
    run: Run, sync_site: SyncSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock was set back, and a daemon that is dead since looked as if it had just been at work."""
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    now = time.time()
    for back, code, known in ((30.0, 0, True), (7200.0, 1, False)):
        monkeypatch.setattr("pdbclient.cli.sync_status.time.time", lambda at=now - back: at)
        ended, (told,) = status(run, sync_site, "--max-lag", "15m")
        assert (ended, told["lag_seconds"] is not None, told["ok"]) == (code, known, True)
        assert status(run, sync_site)[0] == 0


def test_the_status_tells_of_what_cannot_be_used(run: Run, sync_site: SyncSite) -> None:
    for name in ("n1", "n2"):
        sync_site.there.apply("replace catalog", catalog(name, sync_site.ago(50)))
    sync_site.there.tables["catalogs"]["n1"]["hash"] = 17
    ended = run("sync", "once", "--config", sync_site.conf)
    assert ended.code == 0
    assert "1 unusable: a server shows something for them that is no such record" in ended.err
    _, (told,) = status(run, sync_site)
    assert (told["unusable"], told["transferred"]) == (1, 1)


def test_the_status_of_one_remote_can_be_asked_for(run: Run, sync_site: SyncSite) -> None:
    sync_site.configured(REMOTE, OTHER)
    assert run("sync", "once", "--config", sync_site.conf, "--remote", OTHER).code == 0
    assert [(each["remote"], each["ok"]) for each in status(run, sync_site)[1]] == [(REMOTE, False), (OTHER, True)]
    assert status(run, sync_site)[0] == 1
    assert status(run, sync_site, "--remote", OTHER)[0] == 0


def test_the_status_counts_what_waits_and_what_is_quarantined(run: Run, sync_site: SyncSite) -> None:
    refuse(sync_site, Entity.FACTS, "a", 1)
    refuse(sync_site, Entity.CATALOGS, "b", 3)
    refuse(sync_site, Entity.REPORTS, "c", 4)
    refuse(sync_site, Entity.REPORTS, "d", 3, remote=OTHER)
    _, (told,) = status(run, sync_site)
    assert (told["waiting"], told["quarantined"]) == (1, 2)


@pytest.mark.parametrize("times", [1, 3])
def test_a_record_that_waits_or_is_quarantined_is_exit_4_unless_a_pass_failed(
    times: int, run: Run, sync_site: SyncSite
) -> None:
    sync_site.there.apply("replace facts", facts("a", sync_site.ago(50)))
    row = sync_site.there.tables["factsets"]["a"]
    refuse(sync_site, Entity.FACTS, "a", times, version=Version(to_millis(row["producer_timestamp"]), row["hash"]))
    assert status(run, sync_site)[0] == 1, "no pass yet"
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert status(run, sync_site)[0] == 4
    assert status(run, sync_site, "--max-lag", "1us")[0] == 1
    assert "quarantine list" in run("sync", "status", "--config", sync_site.conf).err
    assert run("sync", "quarantine", "drop", "a", "--config", sync_site.conf).code == 0
    assert status(run, sync_site)[0] == 0
    assert "quarantine list" not in run("sync", "status", "--config", sync_site.conf).err


def test_a_record_that_the_server_does_not_take_is_failed_in_the_status_and_waiting(
    run: Run, sync_site: SyncSite
) -> None:
    sync_site.there.apply("replace facts", facts("n", sync_site.ago(50)))
    sync_site.here.refuses["n"] = Rejected("here", 400, "bad facts")
    assert run("sync", "once", "--config", sync_site.conf).code == 1
    code, (told,) = status(run, sync_site)
    assert (code, told["ok"], told["last_error"]) == (4, True, None), "the pass itself succeeded"
    assert (told["failed"], told["waiting"]) == (1, 1)
    assert told["last_pass"]["failed"]["facts"] == 1
    ((key, state, entity),) = listed(run, sync_site)
    assert (key, state, entity) == ("n", "waiting", "facts")
    # The cause is mended: without a retry it would wait, with one the next pass takes it.
    del sync_site.here.refuses["n"]
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert "n" not in sync_site.here.tables["factsets"]
    assert run("sync", "quarantine", "retry", "n", "--config", sync_site.conf).code == 0
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert "n" in sync_site.here.tables["factsets"]
    assert listed(run, sync_site) == []
    assert status(run, sync_site)[0] == 0


# --- quarantine


def test_the_list_has_what_waits_what_is_quarantined_and_what_is_unequal(run: Run, sync_site: SyncSite) -> None:
    refuse(sync_site, Entity.FACTS, "a", 1)
    refuse(sync_site, Entity.CATALOGS, "b", 3)
    unequal(sync_site, "c")
    refuse(sync_site, Entity.FACTS, "elsewhere", 3, remote=OTHER)
    assert listed(run, sync_site) == [
        ("a", "waiting", "facts"),
        ("b", "quarantined", "catalogs"),
        ("c", "unequal", "facts"),
    ]
    assert listed(run, sync_site, "--entity", "catalogs") == [("b", "quarantined", "catalogs")]
    text = run("sync", "quarantine", "list", "--config", sync_site.conf).out
    row = next(line.split("\t") for line in text.splitlines() if "\tb\t" in line)
    assert row[:5] == ["quarantined", "catalogs", "b", "2023-11-14T22:13:20.000Z", "3"]
    assert row[6:] == ["HTTP 400: bad", REMOTE]


def test_without_a_state_file_nothing_is_listed_and_none_is_made(run: Run, sync_site: SyncSite) -> None:
    assert listed(run, sync_site) == []
    ended = run("sync", "quarantine", "drop", "--all", "--config", sync_site.conf)
    assert (ended.code, ended.out) == (0, "")
    assert not sync_site.config.state_dir.exists()


def test_show_tells_all_that_is_known_of_a_record(run: Run, sync_site: SyncSite) -> None:
    refuse(sync_site, Entity.FACTS, "a", 3)
    refuse(sync_site, Entity.CATALOGS, "a", 1)
    shown = json.loads(run("sync", "quarantine", "show", "a", "--config", sync_site.conf, "--json").out)
    assert sorted((row["entity"], row["state"], row["tries"]) for row in shown) == [
        ("catalogs", "waiting", 1),
        ("facts", "quarantined", 3),
    ]
    assert all(row["reason"] == "HTTP 400: bad" and row["hash"] == "bad" for row in shown)
    text = run("sync", "quarantine", "show", "a", "--entity", "facts", "--config", sync_site.conf).out
    assert "reason\tHTTP 400: bad\n" in text
    assert "catalogs" not in text
    missing = run("sync", "quarantine", "show", "nobody", "--config", sync_site.conf)
    assert missing.code == 1
    assert "nobody" in missing.err


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_records_are_named_by_their_keys_or_all_of_them_are_meant(
    command: str, run: Run, sync_site: SyncSite
) -> None:
    refuse(sync_site, Entity.FACTS, "a", 3)
    ended = run("sync", "quarantine", command, "--config", sync_site.conf)
    assert (ended.code, ended.out) == (2, "")
    assert "--all" in ended.err
    assert run("sync", "quarantine", command, "a", "--all", "--config", sync_site.conf).code == 2
    assert listed(run, sync_site) == [("a", "quarantined", "facts")]


def test_a_retry_forgets_what_went_wrong_with_those_that_are_named(run: Run, sync_site: SyncSite) -> None:
    for key in ("a", "b", "c"):
        refuse(sync_site, Entity.FACTS, key, 3)
    refuse(sync_site, Entity.CATALOGS, "a", 3)
    ended = run("sync", "quarantine", "retry", "a", "b", "nobody", "--entity", "facts", "--config", sync_site.conf)
    assert ended.code == 1
    assert "nobody" in ended.err
    assert ended.out.splitlines() == [f"facts\ta\t{REMOTE}", f"facts\tb\t{REMOTE}"]
    assert listed(run, sync_site) == [("a", "quarantined", "catalogs"), ("c", "quarantined", "facts")]


def test_when_a_record_is_tried_again_is_told_of_those_that_are(run: Run, sync_site: SyncSite) -> None:
    """One dropped after it had been stored with another hash was to be tried again in 1970."""
    refuse(sync_site, Entity.FACTS, "waiting", 1)
    refuse(sync_site, Entity.FACTS, "quarantined", 3)
    refuse(sync_site, Entity.FACTS, "dropped", 1)
    unequal(sync_site, "unequal")
    unequal(sync_site, "dropped-unequal")
    assert run("sync", "quarantine", "drop", "dropped", "dropped-unequal", "--config", sync_site.conf).code == 0
    rows = json.loads(run("sync", "quarantine", "list", "--config", sync_site.conf, "--json").out)
    assert {row["key"]: (row["state"], row["tries"], row["retry_at"] is not None) for row in rows} == {
        "waiting": ("waiting", 1, True),
        "quarantined": ("quarantined", 3, False),
        "dropped": ("dropped", 1, False),
        "unequal": ("unequal", None, False),
        "dropped-unequal": ("dropped", None, False),
    }
    assert "1970" not in run("sync", "quarantine", "show", "dropped-unequal", "--config", sync_site.conf).out


def test_a_retry_of_what_is_unequal_has_it_pulled_again(run: Run, sync_site: SyncSite) -> None:
    unequal(sync_site, "a")
    assert run("sync", "quarantine", "retry", "a", "--config", sync_site.conf).code == 0
    assert listed(run, sync_site) == []


def test_a_dropped_record_is_counted_no_more_and_is_pulled_only_in_another_version(
    run: Run, sync_site: SyncSite
) -> None:
    sync_site.there.apply("replace facts", facts("n", sync_site.ago(50)))
    sync_site.here.refuses["n"] = Rejected("here", 400, "bad facts")
    assert run("sync", "once", "--config", sync_site.conf).code == 1
    assert run("sync", "quarantine", "drop", "n", "--config", sync_site.conf).code == 0
    del sync_site.here.refuses["n"]
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert "n" not in sync_site.here.tables["factsets"]
    _, (told,) = status(run, sync_site)
    assert (told["waiting"], told["quarantined"], told["failed"]) == (0, 0, 0)
    sync_site.there.apply("replace facts", facts("n", sync_site.ago(10)))
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert "n" in sync_site.here.tables["factsets"]


def test_a_dropped_record_can_be_taken_back(run: Run, sync_site: SyncSite) -> None:
    sync_site.there.apply("replace facts", facts("n", sync_site.ago(50)))
    sync_site.here.refuses["n"] = Rejected("here", 400, "bad facts")
    assert run("sync", "once", "--config", sync_site.conf).code == 1
    assert run("sync", "quarantine", "drop", "n", "--config", sync_site.conf).code == 0
    assert listed(run, sync_site) == [("n", "dropped", "facts")]
    del sync_site.here.refuses["n"]
    assert run("sync", "quarantine", "retry", "n", "--config", sync_site.conf).code == 0
    assert run("sync", "once", "--config", sync_site.conf).code == 0
    assert "n" in sync_site.here.tables["factsets"]


# --- trigger


class AskedDaemon:
    """Stands in for a daemon."""

    def __init__(self) -> None:
        self.remotes: list[str | None] = []

    def document(self) -> Document:
        raise NotImplementedError

    def metrics(self) -> bytes:
        return b""

    def trigger(self, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        remote = query["remote"][-1] if "remote" in query else None
        self.remotes.append(remote)
        return 202, {"triggered": [REMOTE]}


def test_a_trigger_asks_the_daemon_for_all_remotes_or_one(run: Run, sync_site: SyncSite) -> None:
    daemon = AskedDaemon()
    with StatusPort(0, daemon, actions={"/trigger": daemon.trigger}) as port:
        sync_site.configured(more=f"  status_port: {port.port}\n")
        ended = run("sync", "trigger", "--config", sync_site.conf)
        assert (ended.code, ended.out) == (0, "")
        assert f"a pass will be made against {REMOTE}" in ended.err
        ended = run("sync", "trigger", "--config", sync_site.conf, "--remote", f"{REMOTE}/", "--json")
        assert (ended.code, json.loads(ended.out)) == (0, {"triggered": [REMOTE]})
    assert daemon.remotes == [None, REMOTE]
    ended = run("sync", "trigger", "--config", sync_site.conf)
    assert ended.code == 1
    assert "no daemon listens" in ended.err


def test_without_a_status_port_a_trigger_says_what_to_add(run: Run, sync_site: SyncSite) -> None:
    ended = run("sync", "trigger", "--config", sync_site.conf)
    assert ended.code == 2
    assert f"{sync_site.conf}: status_port: is not set" in ended.err
