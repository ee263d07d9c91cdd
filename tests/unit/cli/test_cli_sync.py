"""`pdbclient sync once`, `audit`, `seed` and `diff`, on PuppetDBs in memory."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pdbclient.cli import sync_pass
from pdbclient.cli.sync_seed import Lines, Tally
from pdbclient.config.puppetdb_conf import read_puppetdb
from pdbclient.errors import NotSent, ServerError, SyncError
from pdbclient.sync import Daemon, Entity
from pdbclient.wire.command import Command
from tests.unit.sync.fake import FakePuppetDB, catalog, deactivation, facts, report

from .conftest import Run
from .sync_site import LOCAL, OTHER, REMOTE, SyncSite


def fill(site: SyncSite, *certnames: str, server: FakePuppetDB | None = None, seconds: float = 100.0) -> None:
    for number, name in enumerate(certnames):
        where = server or site.there
        where.apply("replace facts", facts(name, site.ago(seconds + number), number))
        where.apply("replace catalog", catalog(name, site.ago(seconds + number), number))
        where.apply("store report", report(name, site.ago(seconds + number), f"r{number}"))


def transferred(text: str) -> dict[str, int]:
    (result,) = json.loads(text)
    return {entity: number for entity, number in result["transferred"].items() if number}


COMMANDS = ("once", "audit", "seed", "diff", "status", "trigger")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_remote_that_is_not_configured_is_exit_2_with_those_that_are(
    command: str, run: Run, sync_site: SyncSite
) -> None:
    ended = run("sync", command, "--config", sync_site.conf, "--remote", "https://elsewhere:8081")
    assert (ended.code, ended.out) == (2, "")
    assert "https://elsewhere:8081 is not one of the remotes" in ended.err
    assert REMOTE in ended.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_that_is_wrong_is_exit_2(command: str, run: Run, sync_site: SyncSite) -> None:
    sync_site.conf.write_text("sync: {}")
    assert run("sync", command, "--config", sync_site.conf).code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--entity", "factsets"), "'factsets' is none of nodes, fact_expiration, facts"),
        (("--max-age", "2"), "needs a unit"),
        (("--max-age", "yesterday"), "not a duration"),
        (("--remote", "http://there:8080"), "https"),
        (("--allow-deactivations", "all"), "all"),
        (("--allow-deactivations", "0"), "0"),
    ],
)
def test_an_option_that_is_wrong_is_exit_2_with_the_reason(
    options: tuple[str, str], said: str, run: Run, sync_site: SyncSite
) -> None:
    ended = run("sync", "once", "--config", sync_site.conf, *options)
    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize("command", ["once", "audit"])
def test_options_narrow_a_pass_to_entities_nodes_and_ages(command: str, run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "web1", "web2", "db1")
    fill(sync_site, "web3", seconds=90_000)
    options = ("--entity", "facts", "reports", "--certname", "web*", "--max-age", "12h", "--json")
    ended = run("sync", command, "--config", sync_site.conf, *options)
    assert ended.code == 0, ended.err
    assert transferred(ended.out) == {"facts": 2, "reports": 2}
    rest = run("sync", command, "--config", sync_site.conf, "--json")
    assert transferred(rest.out) == {"facts": 2, "catalogs": 4, "reports": 2}


def test_what_the_options_do_not_say_is_as_configured(run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "web1", "db1")
    sync_site.configured(more='  entities: ["facts"]\n  certnames: ["db*"]\n')
    assert transferred(run("sync", "once", "--config", sync_site.conf, "--json").out) == {"facts": 1}
    options = ("--certname", "*", "--json")
    assert transferred(run("sync", "once", "--config", sync_site.conf, *options).out) == {"facts": 1}
    options = ("--entity", "catalogs", "--json")
    assert transferred(run("sync", "once", "--config", sync_site.conf, *options).out) == {"catalogs": 1}


def test_one_way_takes_the_remote_s_word_at_equal_times(run: Run, sync_site: SyncSite) -> None:
    when = sync_site.ago(50)
    for server, value in ((sync_site.here, "one"), (sync_site.there, "other")):
        server.apply("replace facts", facts("n", when, value))
    hashes = {name: each.tables["factsets"]["n"]["hash"] for name, each in _sides(sync_site)}
    if hashes["there"] > hashes["here"]:
        # Then both ways do it: put the contents the other way round.
        for server, value in ((sync_site.here, "other"), (sync_site.there, "one")):
            server.apply("replace facts", facts("n", when, value))
    assert transferred(run("sync", "once", "--config", sync_site.conf, "--json").out) == {}
    assert transferred(run("sync", "once", "--config", sync_site.conf, "--one-way", "--json").out) == {"facts": 1}
    here, there = (each.tables["factsets"]["n"]["hash"] for _, each in _sides(sync_site))
    assert here == there


def _sides(site: SyncSite) -> list[tuple[str, FakePuppetDB]]:
    return [("here", site.here), ("there", site.there)]


def test_a_dry_run_goes_by_the_options_too(run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "web1", "db1")
    options = ("--dry-run", "--entity", "catalogs", "--certname", "web1")
    ended = run("sync", "once", "--config", sync_site.conf, *options)
    assert ended.code == 0
    assert [line.split("\t")[:3] for line in ended.out.splitlines()] == [["pull", "catalogs", "web1"]]
    assert not sync_site.here.submitted


def test_a_brake_is_told_with_the_option_that_says_yes_and_the_option_does(run: Run, sync_site: SyncSite) -> None:
    when = sync_site.ago(100)
    for number in range(4):
        for _, side in _sides(sync_site):
            side.apply("replace facts", facts(f"n{number}", when))
        sync_site.there.apply("deactivate node", deactivation(f"n{number}", when + 1))
    once = ("sync", "once", "--config", sync_site.conf)
    braked = run(*once)
    assert braked.code == 1
    assert "`pdbclient sync once --allow-deactivations 4` does it" in braked.err
    listed = run(*once, "--allow-deactivations", "4", "--dry-run")
    assert [line.split("\t")[:3] for line in listed.out.splitlines()] == [
        ["deactivate", "nodes", f"n{number}"] for number in range(4)
    ]
    assert transferred(run(*once, "--allow-deactivations", "4", "--json").out) == {"nodes": 4}


# --- seed


def test_a_seeding_fills_the_server_and_tells_each_pass(run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "a", "b", "c")
    ended = run("sync", "seed", "--config", sync_site.conf, "--json")
    assert ended.code == 0, ended.err
    first, *rest = json.loads(ended.out)
    assert first["transferred"]["facts"] == 3
    assert rest
    assert not any(rest[-1]["transferred"].values())
    assert "9 of about 9 records" in ended.err
    assert sync_site.here.tables == sync_site.there.tables
    again = run("sync", "seed", "--config", sync_site.conf)
    assert again.code == 0
    assert "0 of about 0 records" in again.err


def test_a_seeding_is_from_one_remote(run: Run, sync_site: SyncSite) -> None:
    sync_site.configured(REMOTE, OTHER)
    fill(sync_site, "a", server=sync_site.more)
    ended = run("sync", "seed", "--config", sync_site.conf)
    assert ended.code == 2
    assert f"--remote: is needed, to choose one of: {REMOTE}, {OTHER}" in ended.err
    ended = run("sync", "seed", "--config", sync_site.conf, "--remote", OTHER, "--json")
    assert ended.code == 0
    assert "a" in sync_site.here.tables["factsets"]


def test_a_seeding_without_its_remote_is_exit_3(run: Run, sync_site: SyncSite) -> None:
    sync_site.there.down = NotSent(REMOTE, "connection refused")
    ended = run("sync", "seed", "--config", sync_site.conf, "--json")
    assert ended.code == 3
    assert [result["outcome"] for result in json.loads(ended.out)] == ["unreachable"]


@pytest.mark.parametrize("down", ["here", "there"])
def test_a_pass_names_the_server_that_is_unreachable(run: Run, sync_site: SyncSite, down: str) -> None:
    """Not the remote when it is the local one."""
    url = LOCAL if down == "here" else REMOTE
    getattr(sync_site, down).down = NotSent(url, "connection refused")
    ended = run("sync", "once", "--config", sync_site.conf)
    assert ended.code == 3
    assert f"pdbclient: {url}: connection refused" in ended.err
    last = ended.err.splitlines()[-1]
    if down == "here":
        assert last.startswith(f"{REMOTE}: not pulled from: the local server {LOCAL} is unreachable in ")
    else:
        assert last.startswith(f"{REMOTE}: unreachable in ")
    told = json.loads(run("sync", "once", "--config", sync_site.conf, "--json").out)
    assert [(each["outcome"], each["unreachable"]) for each in told] == [("unreachable", url)]


def test_the_daemon_says_at_its_start_that_a_time_to_live_differs(
    run: Run, sync_site: SyncSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf_d = tmp_path / "conf.d"
    conf_d.mkdir()
    (conf_d / "database.ini").write_text("[database]\nreport-ttl = 30d\n")
    monkeypatch.setattr(read_puppetdb, "__defaults__", ((conf_d,),))
    monkeypatch.setattr(Daemon, "run", lambda daemon: None)
    monkeypatch.setattr(sync_pass, "configure_logging", lambda *_: None)
    logged: list[str] = []
    monkeypatch.setattr(sync_pass._logger, "warning", lambda text, problem: logged.append(text % problem))
    assert run("sync", "run", "--config", sync_site.conf).code == 0
    assert [line.partition(": ")[2][:24] for line in logged] == ["report-ttl: is 30d, but "]


def test_a_seeding_that_is_interrupted_is_exit_130_and_the_same_command_goes_on(
    run: Run, sync_site: SyncSite
) -> None:
    fill(sync_site, *(f"n{number}" for number in range(60)))
    submit = sync_site.here.submit

    def interrupted(command: Command, *, within: float | None = None) -> str:
        if len(sync_site.here.submitted) == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return submit(command, within=within)

    sync_site.here.submit = interrupted  # type: ignore[method-assign]
    ended = run("sync", "seed", "--config", sync_site.conf)
    assert ended.code == 130
    assert "what was transferred stands" in ended.err
    sync_site.here.submit = submit  # type: ignore[method-assign]
    assert run("sync", "seed", "--config", sync_site.conf).code == 0
    assert sync_site.here.tables == sync_site.there.tables


@pytest.mark.parametrize("command", ["diff", "status", "once"])
def test_a_state_file_that_may_not_be_looked_at_is_said_and_is_no_difference(
    command: str, run: Run, sync_site: SyncSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user who may not enter state_dir; root may enter all, but no name is as long as that."""
    text = sync_site.conf.read_text()
    sync_site.conf.write_text(text.replace('/state"', f'/{"x" * 300}"'))
    ended = run("sync", command, "--config", sync_site.conf)
    assert ended.code == (3 if command == "diff" else 1)
    assert "x" * 300 in ended.err
    assert "File name too long" in ended.err


class TestWhatASeedingLeaves:
    """It exits 0 when nothing is left, and only then."""

    def seeded(self, run: Run, site: SyncSite, *options: str) -> tuple[int, str]:
        ended = run("sync", "seed", "--config", site.conf, *options)
        return ended.code, ended.err

    def test_a_record_that_failed_in_the_first_pass_waits_in_the_last_one(
        self, run: Run, sync_site: SyncSite
    ) -> None:
        fill(sync_site, "bad", "n1", "n2")
        sync_site.here.refuses["bad"] = ServerError(LOCAL, 500, "Internal Server Error")
        code, said = self.seeded(run, sync_site)
        assert code == 1
        assert "3 records of https://there.example.com:8081 are not here" in said
        assert "sync quarantine list" in said
        assert self.seeded(run, sync_site)[0] == 1, "they still wait"

    def test_a_record_that_was_queued_and_never_stored(self, run: Run, sync_site: SyncSite) -> None:
        fill(sync_site, "bad", "n1")
        sync_site.here.discards.add("bad")
        assert self.seeded(run, sync_site, "--entity", "facts")[0] == 1

    def test_a_record_of_the_future_and_one_that_cannot_be_used(self, run: Run, sync_site: SyncSite) -> None:
        fill(sync_site, "n1")
        fill(sync_site, "early", seconds=-9000)
        assert self.seeded(run, sync_site)[0] == 1
        for table in ("factsets", "catalogs"):
            del sync_site.there.tables[table]["early"]
        sync_site.there.tables["reports"].clear()
        assert self.seeded(run, sync_site)[0] == 0
        sync_site.there.tables["catalogs"]["n1"]["hash"] = 17
        assert self.seeded(run, sync_site)[0] == 1


@pytest.mark.parametrize("command", ["once", "audit"])
def test_a_pass_that_is_interrupted_is_exit_130_and_no_error_in_the_log(
    command: str, run: Run, sync_site: SyncSite
) -> None:
    fill(sync_site, "n1", "n2")
    sync_site.there.broken = lambda path, query: os.kill(os.getpid(), signal.SIGINT)
    ended = run("sync", command, "--config", sync_site.conf)
    assert ended.code == 130
    assert "ERROR" not in ended.err
    assert "asked to stop" in ended.err


def test_the_tally_of_a_seeding_goes_over_entities_and_passes() -> None:
    now = [100.0]
    tally = Tally(50, lambda: now[0])
    assert tally.text() == "0 of about 50 records"
    now[0] = 110.0
    tally.count(Entity.FACTS, 15)
    tally.count(Entity.CATALOGS, 5)
    assert tally.text() == "20 of about 50 records, 2.0 a second, 15 s left"
    tally.next_pass()
    tally.count(Entity.FACTS, 1)
    assert tally.done == 21
    tally.count(Entity.REPORTS, 40)
    assert tally.text() == "61 of about 61 records, 6.1 a second"


def test_elsewhere_than_on_a_terminal_a_line_is_logged_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    tally = Tally(1000, lambda: now[0])
    lines = Lines(tally, lambda: now[0])
    for second in range(1, 36):
        now[0] = float(second)
        lines.show(Entity.FACTS, 20 * second, 1000)
    assert caplog.messages == [
        f"facts: {20 * second} of about 1000 records, 20.0 a second, {50 - second} s left" for second in (10, 20, 30)
    ]


def test_a_tally_without_a_total_tells_no_time_left() -> None:
    now = [0.0]
    tally = Tally(None, lambda: now[0])
    now[0] = 4.0
    tally.count(Entity.FACTS, 10)
    assert tally.text() == "10 records, 2.5 a second"


@pytest.mark.parametrize(
    ("left", "text"),
    [(59, "59 s left"), (61, "1 min 1 s left"), (3599.7, "1 h 0 min left"), (90_000, "25 h 0 min left")],
)
def test_the_time_left_is_told_in_units_that_one_can_grasp(left: float, text: str) -> None:
    now = [0.0]
    tally = Tally(round(left * 10) + 10, lambda: now[0])
    now[0] = 1.0
    tally.count(Entity.FACTS, 10)
    assert tally.text().endswith(text)


def test_on_a_terminal_a_seeding_shows_rate_and_time_left_and_no_log_lines(
    run: Run, sync_site: SyncSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sync_site, "a", "b")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    ended = run("sync", "seed", "--config", sync_site.conf, "--json")
    assert ended.code == 0
    assert "6 of about 6 records" in ended.err
    assert "a second" in ended.err
    assert "INFO" not in ended.err


# --- diff


def test_a_diff_of_equal_servers_is_exit_0_and_says_so(run: Run, sync_site: SyncSite) -> None:
    for server in (sync_site.here, sync_site.there):
        server.apply("replace facts", facts("n", 1_700_000_000_000))
    ended = run("sync", "diff", "--config", sync_site.conf)
    assert (ended.code, ended.out) == (0, "")
    assert "nothing differs" in ended.err
    assert "facts 1/1" in ended.err


def test_a_diff_lists_what_differs_with_examples_and_is_exit_1(run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "a", "b", "c")
    ended = run("sync", "diff", "--config", sync_site.conf, "--entity", "facts", "--examples", "2")
    assert ended.code == 1
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert rows[0] == ["facts", "missing_here", "3", "-", "-", "-"]
    assert [row[3] for row in rows[1:]] == ["a", "b"]
    stored = sync_site.there.tables["factsets"]["a"]
    assert rows[1][4:] == ["-", f"{stored['producer_timestamp']} {stored['hash']}"]
    assert "they differ" in ended.err


def test_a_diff_as_json_is_one_document_a_remote(run: Run, sync_site: SyncSite) -> None:
    sync_site.configured(REMOTE, OTHER)
    fill(sync_site, "a")
    ended = run("sync", "diff", "--config", sync_site.conf, "--json", "--certname", "a", "b*")
    assert ended.code == 1
    documents = json.loads(ended.out)
    assert [(each["remote"], each["equal"]) for each in documents] == [(REMOTE, False), (OTHER, True)]
    assert documents[0]["entities"]["reports"]["differences"] == {"missing_here": 1}


def test_what_cannot_be_made_equal_is_listed_and_exit_0(run: Run, sync_site: SyncSite) -> None:
    when = sync_site.ago(100)
    for server in (sync_site.here, sync_site.there):
        server.mangles.add("n")
        server.apply("replace facts", facts("n", when))
    ended = run("sync", "diff", "--config", sync_site.conf)
    assert ended.code == 0
    assert ended.out.startswith("facts\tsame_content*\t1\t")
    assert "nothing differs that could be made equal" in ended.err


def test_a_diff_that_cannot_be_told_is_exit_3_and_prints_nothing(run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "a")
    sync_site.there.down = NotSent(REMOTE, "connection refused")
    for options in ((), ("--json",)):
        ended = run("sync", "diff", "--config", sync_site.conf, *options)
        assert (ended.code, ended.out) == (3, "")
        assert "connection refused" in ended.err


def test_a_diff_leaves_out_what_may_be_on_its_way(run: Run, sync_site: SyncSite) -> None:
    fill(sync_site, "a")
    assert run("sync", "diff", "--config", sync_site.conf, "--min-age", "10m").code == 0
    assert run("sync", "diff", "--config", sync_site.conf, "--min-age", "30s").code == 1


def test_an_error_of_the_state_file_is_no_difference(
    run: Run, sync_site: SyncSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise SyncError("state.sqlite: is damaged")

    monkeypatch.setattr("pdbclient.sync.run.diff.State", refuse)
    ended = run("sync", "diff", "--config", sync_site.conf)
    assert (ended.code, ended.out) == (3, "")
    assert "is damaged" in ended.err
