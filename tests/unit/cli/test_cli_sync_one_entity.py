"""What the commands say, and exit with, when a server cannot answer about one entity."""

from __future__ import annotations

import json

import pytest

from pdbclient.errors import ServerError
from tests.unit.sync.fake import expiration, facts
from tests.versions import PUPPETDB_8_8

from .conftest import Run
from .sync_site import LOCAL, REMOTE, SyncSite

WHY = 'HTTP 500: ERROR: missing FROM-clause entry for table "certnames"'


@pytest.fixture
def site(sync_site: SyncSite) -> SyncSite:
    """The remote has an expiration, about which it fails, and facts."""
    sync_site.there.become(PUPPETDB_8_8)
    sync_site.there.apply("configure expiration", expiration("n", sync_site.ago(20)))
    sync_site.there.apply("replace facts", facts("n", sync_site.ago(10)))
    error = ServerError(REMOTE, 500, 'ERROR: missing FROM-clause entry for table "certnames"')
    sync_site.there.broken = lambda path, query: error if "expires_facts_updated" in str(query) else None
    return sync_site


def test_a_pass_does_the_others_names_it_and_is_exit_1(run: Run, site: SyncSite) -> None:
    done = run("sync", "once", "--config", str(site.conf), "--json")
    assert done.code == 1
    (document,) = json.loads(done.out)
    assert (document["outcome"], document["transferred"]["facts"]) == ("done", 1)
    assert document["errors"] == [f"fact_expiration: {REMOTE}: {WHY}"]
    assert [name for name, part in document["entities"].items() if part["error"]] == ["fact_expiration"]


def test_the_status_says_when_each_was_last_done_and_what_the_servers_are(run: Run, site: SyncSite) -> None:
    run("sync", "once", "--config", str(site.conf))
    told = run("sync", "status", "--config", str(site.conf), "--json")
    assert told.code == 1
    (document,) = json.loads(told.out)
    parts = document["entities"]
    assert parts["fact_expiration"] == {"last_success": None, "error": f"{REMOTE}: {WHY}"}
    assert parts["facts"]["error"] is None
    assert parts["facts"]["last_success"] is not None
    assert document["servers"] == {
        LOCAL: {"version": "7.12.1", "answers": ["origin"]},
        REMOTE: {"version": "8.8.1", "answers": ["origin", "timeout"]},
    }
    text = run("sync", "status", "--config", str(site.conf)).out
    assert WHY in text
    assert "8.8.1" in text


def test_a_diff_compares_the_others_names_it_and_is_exit_3(run: Run, site: SyncSite) -> None:
    told = run("sync", "diff", "--config", str(site.conf))
    assert told.code == 3
    assert f"fact_expiration could not be compared: {REMOTE}: {WHY}" in told.err
    assert "not all could be compared" in told.err
    assert "missing_here" in told.out
    (document,) = json.loads(run("sync", "diff", "--config", str(site.conf), "--json").out)
    assert document["equal"] is False
    assert document["entities"]["fact_expiration"]["error"] == f"{REMOTE}: {WHY}"
    assert document["entities"]["facts"]["differences"] == {"missing_here": 1}


def test_a_dry_run_plans_the_others_names_it_and_is_exit_1(run: Run, site: SyncSite) -> None:
    told = run("sync", "once", "--dry-run", "--config", str(site.conf))
    assert told.code == 1
    assert f"fact_expiration: {REMOTE}: {WHY}" in told.err
    assert "pull" in told.out


def test_a_seeding_brings_the_others_and_is_exit_1(run: Run, site: SyncSite) -> None:
    done = run("sync", "seed", "--config", str(site.conf))
    assert done.code == 1
    assert "how many fact_expiration are lacking cannot be told" in done.err
    assert set(site.here.tables["factsets"]) == {"n"}
