"""The reconciler where something is wrong with a server: its clock, its past, all its data, one of its nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config.model import Endpoint, Remote
from pdbclient.http.session import Session
from pdbclient.sync import Entity, Outcome, PassResult, reconcile
from pdbclient.sync.state.store import State, state_path

from .admin_commands import clean, delete
from .schema import flags_table
from .sync.backup import Backup
from .sync.clock import SettableClock, with_clock
from .sync.truth import differences, held
from .test_sync import PRIMARY, REPLICA, ReconciledPair, events_until, moved, site, sync_once, sync_running

__all__ = ["site"]

pytestmark = pytest.mark.integration

SIDES = (PRIMARY, REPLICA)
NODE = "reporting.example.com"
HOUR = 3600


def give_reports(site: ReconciledPair, *hours: float) -> None:
    """Reports of so many hours ago, received by the primary now."""
    for number in hours:
        site.submit(PRIMARY, "store report", site.samples.report(NODE, 1, site.ago(hours=number)))
    site.lab.settle(PRIMARY)


def make_quiet(site: ReconciledPair) -> None:
    """An ordinary pass each way, and another, which has nothing to do but to compare the hours that are full now."""
    for name in SIDES:
        assert site.pull(name).ok
    assert [moved(site.pull(name)) for name in SIDES] == [{}, {}]


def differing(site: ReconciledPair) -> list[Any]:
    return list(differences(site.lab, PRIMARY, REPLICA))


@pytest.fixture
def state(site: ReconciledPair) -> Iterator[State]:
    """What the reconciler beside the replica remembers, from its first pass on."""
    config = site.config(REPLICA)
    assert site.pull(REPLICA).ok
    with closing(State(state_path(config.state_dir, config.local), read_only=True)) as opened:
        yield opened


# --- one server, or one database, in two places


def test_the_local_server_under_another_name_is_refused(site: ReconciledPair) -> None:
    config = site.config(PRIMARY)
    alias = Endpoint("127.0.0.1", config.local.port)
    assert config.local.host == "localhost"
    for _ in range(2):
        (result,) = reconcile(config, [Remote(alias, 60.0)])
        assert result.outcome is Outcome.REFUSED
        assert "is the local server" in result.errors[0]
        give_reports(site, 1)


def test_two_servers_of_one_database_are_refused(site: ReconciledPair) -> None:
    """They are not, as long as nothing has come in since both began."""
    give_reports(site, 1, 2, 3)
    settings = site.lab.node(REPLICA).home / "conf.d" / "database.ini"
    own = settings.read_text()
    port = {name: str(site.lab.node(name).postgres_port) for name in SIDES}
    site.lab.fault(REPLICA, "kill")
    try:
        settings.write_text(own.replace(f":{port[REPLICA]}/", f":{port[PRIMARY]}/"))
        site.lab.fault(REPLICA, "start")
        assert moved(site.pull(REPLICA)) == {}
        give_reports(site, 4, 5, 6)
        result = site.pull(REPLICA)
    finally:
        site.lab.fault(REPLICA, "kill")
        settings.write_text(own)
        site.lab.fault(REPLICA, "start")
    assert result.outcome is Outcome.REFUSED
    assert "have one database" in result.errors[0]
    assert moved(site.pull(REPLICA)) == {"reports": 6}
    assert site.pull(REPLICA).ok


# --- clocks


def test_a_server_with_a_wrong_clock_is_left_alone_and_what_it_received_meanwhile_is_found_later(
    site: ReconciledPair, state: State, lab_directory: Path
) -> None:
    remote = site.lab.node(PRIMARY).url
    clock = SettableClock(lab_directory)
    with with_clock(site.lab, PRIMARY, clock, lab_directory):
        give_reports(site, 0, 30)
        assert moved(site.pull(REPLICA)) == {"reports": 2}
        for wrong in (HOUR, -HOUR):
            clock.set(wrong)
            give_reports(site, 0, 5, 30)
            assert received(site, wrong) == 3
            for name in SIDES:
                assert_refused(site.pull(name), wrong)
            clock.set(0)
            give_reports(site, 0, 30)
            assert moved(site.pull(REPLICA)) == {"reports": 5}
            assert moved(site.pull(REPLICA)) == {}
            cursor = state.reports(remote).cursor
            assert cursor is not None
            assert abs(cursor / 1000 - time.time()) < 60, "not where the wrong clock was"
        # So little is let through, and the cursor with it, before the clock is set back.
        clock.set(40)
        give_reports(site, 0, 30)
        assert moved(site.pull(REPLICA)) == {"reports": 2}
        clock.set(0)
        give_reports(site, 0, 5, 30)
        assert moved(site.pull(REPLICA)) == {"reports": 3}
    assert len(held(site.lab, PRIMARY)[Entity.REPORTS]) == 17
    assert differing(site) == []


def received(site: ReconciledPair, wrong: int) -> int:
    """How many reports the primary has that came in, by its clock, so far from now."""
    ((number,),) = site.lab.sql(
        PRIMARY, f"select count(*) from reports where abs(extract(epoch from receive_time - now()) - {wrong}) < 60"
    )
    return int(number)


def assert_refused(result: PassResult, wrong: int) -> None:
    assert result.outcome is Outcome.REFUSED
    assert result.entities == {}
    (why,) = result.errors
    seconds = int(why.partition("at least ")[2].partition(" s apart")[0])
    assert abs(seconds - abs(wrong)) < 30
    assert "Check NTP" in why


def test_a_daemon_whose_own_clock_jumps_keeps_its_interval_and_finds_each_report(
    site: ReconciledPair, tmp_path: Path
) -> None:
    site.conf[REPLICA].write_text(site.conf[REPLICA].read_text().replace("5m", "2s"))
    clock = SettableClock(tmp_path)
    with sync_running(site, REPLICA, environment=clock.environment) as daemon:
        events_until(daemon, "sync", "finished")
        for wrong in (HOUR, 0, -HOUR, 0):
            ended = time.monotonic()
            clock.set(wrong)
            give_reports(site, 0, 30)
            start = events_until(daemon, "sync", "start")[-1]
            # Early would be at once, late in an hour.
            assert 1.0 < time.monotonic() - ended < 30
            shown = datetime.fromisoformat(start["timestamp"]) - datetime.now(UTC)
            assert abs(shown.total_seconds() - wrong) < 60, "the daemon does have this clock"
            lines = events_until(daemon, "sync", "finished")
            ended_parts = [line for line in lines if line["phase"] == "entity" and "ok" in line]
            assert [line["transferred"] for line in ended_parts if line["entity"] == "reports"] == [2]
        daemon.terminate()
        assert daemon.wait(timeout=20) == 0
    assert differing(site) == []


# --- a remote that has lost something


def test_a_remote_restored_from_yesterdays_copy_takes_nothing_away_and_both_sides_are_equal_in_the_end(
    site: ReconciledPair, state: State, lab_directory: Path
) -> None:
    backup = Backup(site.lab, lab_directory)
    for number in range(3):
        site.run(SIDES[number % 2], f"node{number}.example.com", number, site.ago(hours=30 + number))
    for name in SIDES:
        site.simple_facts(name, "dead.example.com", site.ago(hours=30), x=1)
    site.settle()
    make_quiet(site)
    backup.save(PRIMARY)

    for number in range(3):
        site.run(SIDES[number % 2], f"node{number}.example.com", 7 + number, site.ago(minutes=20 + number))
    site.run(REPLICA, "young.example.com", 1, site.ago(minutes=20))
    site.deactivate(PRIMARY, "dead.example.com", site.ago(hours=2))
    site.settle()
    make_quiet(site)
    assert differing(site) == []
    remembered = state.reports(site.lab.node(PRIMARY).url)
    assert remembered.total is not None
    assert (remembered.total.there, remembered.total.here) == (3, 3), "no hour of these is asked for"

    backup.restore(PRIMARY)
    assert len(differing(site)) == 3 * 3 + 3 + 1, "runs, the young node, the deactivation"
    site.run(PRIMARY, "node0.example.com", 20, site.ago(minutes=5))
    site.run(REPLICA, "node1.example.com", 21, site.ago(minutes=5))
    site.settle()
    assert moved(site.pull(REPLICA)) == {"facts": 1, "catalogs": 1, "reports": 1}
    assert moved(site.pull(PRIMARY)) == {"nodes": 1, "facts": 3, "catalogs": 3, "reports": 5}
    make_quiet(site)
    assert differing(site) == []


def test_an_emptied_remote_takes_nothing_away_and_passes_go_on_once_it_is_filled_from_here(
    site: ReconciledPair,
) -> None:
    for number in range(2):
        site.run(SIDES[number], f"node{number}.example.com", number, site.ago(hours=number))
    site.settle()
    make_quiet(site)
    before = held(site.lab, REPLICA)
    site.lab.empty(PRIMARY)
    refused = sync_once(site, REPLICA)
    assert refused.returncode == 1
    assert "reports no nodes at all, but had 2 before and there are 2 here" in refused.stderr
    assert "`pdbclient sync seed` beside it" in refused.stderr
    assert held(site.lab, REPLICA) == before
    assert moved(site.pull(PRIMARY)) == {"facts": 2, "catalogs": 2, "reports": 2}
    assert moved(site.pull(REPLICA)) == {}
    assert held(site.lab, REPLICA) == before
    assert differing(site) == []


class Nodeless(Session):
    """A real server, but for its nodes: it lists none."""

    def rows(self, path: str, **options: Any) -> Iterator[bytes]:
        return iter(()) if path == "/nodes" else super().rows(path, **options)


def test_a_remote_that_lists_no_nodes_is_refused_and_deactivates_nobody(site: ReconciledPair) -> None:
    for number in range(2):
        site.run(PRIMARY, f"node{number}.example.com", number, site.ago(hours=1 + number))
    site.settle()
    make_quiet(site)
    before = held(site.lab, REPLICA)
    site.run(PRIMARY, "node0.example.com", 5, site.ago(minutes=1))
    site.settle()
    config = site.config(REPLICA)

    def connect(endpoint: Endpoint) -> Session:
        kind = Session if endpoint == config.local else Nodeless
        return kind(endpoint, config.tls, config.timeouts)

    (result,) = reconcile(config, connect=connect)
    assert result.outcome is Outcome.REFUSED
    assert "reports no nodes at all, but had 2 before" in result.errors[0]
    assert held(site.lab, REPLICA) == before
    assert moved(site.pull(REPLICA)) == {"facts": 1, "catalogs": 1, "reports": 1}
    assert differing(site) == []


@pytest.mark.every_server
@pytest.mark.parametrize(("nodes", "limit"), [(100, 50), (1200, 60)])
def test_more_deactivations_than_50_and_a_twentieth_of_the_nodes_are_braked_and_the_rest_goes_on(
    site: ReconciledPair, nodes: int, limit: int
) -> None:
    for name in SIDES:
        for table in dict.fromkeys(("certnames", flags_table(site.lab, name))):
            site.lab.sql(
                name,
                f"insert into {table} (certname) select 'node' || number from generate_series(1, {nodes}) number",
            )
    flags = flags_table(site.lab, PRIMARY)
    site.lab.sql(
        PRIMARY,
        f"update {flags} set deactivated = now() - interval '1 hour'"
        f" where certname in (select 'node' || number from generate_series(1, {limit + 1}) number)",
    )
    site.simple_facts(PRIMARY, f"node{nodes}", site.ago(minutes=1), x=1)
    site.settle()
    braked = site.pull(REPLICA)
    assert (braked.ok, braked.outcome) == (False, Outcome.DONE)
    (why,) = braked.errors
    assert why.startswith(f"nodes: safety brake: {limit + 1} of {nodes} active nodes would be deactivated")
    assert f"--allow-deactivations {limit + 1}" in why
    assert braked.entities[Entity.FACTS].transferred == 1
    assert held(site.lab, REPLICA)[Entity.NODES] == {}
    # One less is not too many.
    site.lab.sql(PRIMARY, f"update {flags} set deactivated = null where certname = 'node1'")
    assert moved(site.pull(REPLICA)) == {"nodes": limit}
    assert len(held(site.lab, REPLICA)[Entity.NODES]) == limit
    assert differing(site) == []


# --- a node that one side has purged


@pytest.mark.every_server("8.8.1+7.12.1")
def test_a_node_purged_here_does_not_come_back_from_where_it_is_still_dead(site: ReconciledPair) -> None:
    long_dead = ("deactivated", "expired")
    for name in SIDES:
        for certname in long_dead:
            site.simple_facts(name, certname, site.ago(days=12 * 366), x=1)
        for certname in ("expired-lately", "alive"):
            site.simple_facts(name, certname, site.ago(days=2), x=1)
        site.lab.settle(name)
        site.deactivate(name, "deactivated", site.ago(days=11 * 366))
        site.lab.settle(name)
        # What only a server's own garbage collection sets.
        for certname, age in (("expired", "11 years"), ("expired-lately", "1 day")):
            flags = flags_table(site.lab, name)
            site.lab.sql(name, f"update {flags} set expired = now() - interval '{age}' where certname = '{certname}'")
    clean(site.lab, PRIMARY, "purge_nodes")
    delete(site.lab, PRIMARY, "expired-lately")
    for _ in range(2):
        assert certnames(site, PRIMARY) == ["alive"]
        assert certnames(site, REPLICA) == ["alive", "deactivated", "expired", "expired-lately"]
        assert [moved(site.pull(name)) for name in SIDES] == [{}, {}]


@pytest.mark.every_server("8.8.1+7.12.1")
def test_a_node_deleted_here_and_active_there_comes_back_whole_unless_it_was_deactivated_before(
    site: ReconciledPair,
) -> None:
    """A server keeps no trace of what it deleted: an active node that it does not have is one that it missed."""
    site.run(REPLICA, "node.example.com", 1, site.ago(hours=3))
    site.run(REPLICA, "other.example.com", 2, site.ago(hours=3))
    site.settle()
    make_quiet(site)
    delete(site.lab, PRIMARY, "node.example.com")
    assert moved(site.pull(PRIMARY)) == {"facts": 1, "catalogs": 1, "reports": 1}
    assert differing(site) == []
    site.deactivate(REPLICA, "node.example.com", site.ago(hours=1))
    site.settle()
    assert moved(site.pull(PRIMARY)) == {"nodes": 1}
    delete(site.lab, PRIMARY, "node.example.com")
    assert [moved(site.pull(name)) for name in SIDES] == [{}, {}]
    assert certnames(site, PRIMARY) == ["other.example.com"]
    assert certnames(site, REPLICA) == ["node.example.com", "other.example.com"]


def certnames(site: ReconciledPair, name: str) -> list[str]:
    return [row[0] for row in site.lab.sql(name, "select certname from certnames order by 1")]
