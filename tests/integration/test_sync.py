"""The reconciler on a real PuppetDB pair, each side pulling from the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config import SyncConfig, load_sync_config
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.sync import Entity, PassResult, reconcile
from pdbclient.wire import query
from pdbclient.wire.command import Command, deactivate_node

from .admin_commands import delete

pytestmark = pytest.mark.integration

PRIMARY, REPLICA = "primary", "replica"
LATE = 20.0


class ReconciledPair:
    """The pair, a session to each node, and a sync configuration for each with a state of its own."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.now = datetime.now(UTC)
        self.samples = Samples(lab.puppetdb_jar)
        self.conf = {node.name: self._conf(node.name, directory) for node in lab.nodes}
        self.session = {name: self._session(name) for name in self.conf}
        self._queued: set[tuple[str, str, Any]] = set()

    def _conf(self, name: str, directory: Path) -> Path:
        text = self.lab.sync_conf(name).read_text()
        path = directory / f"{name}.conf"
        kept = [line for line in text.splitlines() if "state_dir" not in line and line.strip() != "}"]
        path.write_text("\n".join([*kept, f'  state_dir: "{directory}/{name}"', "}", ""]))
        return path

    def _session(self, name: str) -> Session:
        config = self.config(name)
        return Session(config.local, config.tls, config.timeouts)

    def config(self, name: str) -> SyncConfig:
        return load_sync_config(self.conf[name])

    def pull(self, name: str) -> PassResult:
        """One pass that brings the other side's records to `name`."""
        (result,) = reconcile(self.config(name))
        return result

    def ago(self, **age: float) -> datetime:
        return self.now - timedelta(**age)

    def submit(self, name: str, command: str, payload: dict[str, Any]) -> None:
        submitted = (name, command, payload["certname"])
        if submitted in self._queued and command != "store report":
            # In the queue, the newer one takes the older one's place: 7.12.1 at times leaves it there for hours then.
            self.settle()
        self._queued.add(submitted)
        self.session[name].submit(Command.create(command, payload, now=self.now))

    def run(self, name: str, certname: str, index: int, when: datetime) -> None:
        """What one agent run leaves behind."""
        self.submit(name, "replace facts", self.samples.facts(certname, index, when))
        self.submit(name, "replace catalog", self.samples.catalog(certname, index, when))
        self.submit(name, "store report", self.samples.report(certname, index, when))

    def simple_facts(self, name: str, certname: str, when: datetime, **values: Any) -> None:
        stamp = when.isoformat(timespec="milliseconds")
        payload = {
            "certname": certname,
            "environment": "production",
            "producer_timestamp": stamp,
            "producer": None,
            "values": values,
        }
        self.submit(name, "replace facts", payload)

    def deactivate(self, name: str, certname: str, when: datetime) -> None:
        self.session[name].submit(deactivate_node(certname, now=self.now, producer_timestamp=when))

    def settle(self) -> None:
        for node in self.lab.nodes:
            self.lab.settle(node.name)
        self._queued.clear()

    def records(self, name: str) -> dict[str, list[Any]]:
        """Everything that a reconciler answers for, record by record, without what a server stamps itself."""
        ask = self.session[name].records
        everyone = ["=", "node_state", "any"]
        found = {
            "nodes": ask("/nodes", query=query.nodes_summary("any")),
            "factsets": ask("/factsets", query=everyone, params={"include_package_inventory": True}),
            "catalogs": ask("/catalogs", query=everyone),
            "reports": ask("/reports", query=["=", "type", "any"]),
        }
        return {entity: sorted((_comparable(row) for row in rows), key=_text) for entity, rows in found.items()}

    def packages(self, name: str) -> list[tuple[str, ...]]:
        return self.lab.sql(
            name,
            "select c.certname, p.name, p.version, p.provider from certname_packages cp"
            " join packages p on p.id = cp.package_id join certnames c on c.id = cp.certname_id order by 1, 2, 3, 4",
        )


def _comparable(value: Any) -> Any:
    """Without receive times, and lists of rows in one order: the servers keep none."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in ("receive_time", "timestamp")}
        return {key: _comparable(item) for key, item in kept.items()}
    if isinstance(value, list):
        return sorted((_comparable(item) for item in value), key=_text)
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def moved(result: PassResult) -> dict[str, int]:
    assert result.ok, result
    return {str(e): r.transferred for e, r in result.entities.items() if r.transferred}


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[ReconciledPair]:
    made = ReconciledPair(pair, tmp_path)
    yield made
    for session in made.session.values():
        session.close()


def command_line(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pdbclient.cli.main", *map(str, arguments)]


def sync_once(site: ReconciledPair, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line("sync", "once", "--config", site.conf[name], *options),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def sync_running(
    site: ReconciledPair, name: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`sync run` as a process, ended with the block whatever happens. `environment` is added to ours.

    Verbose, as without that it does not tell what it begins, only what it has done.
    """
    process = subprocess.Popen(
        command_line("--verbose", "sync", "run", "--config", site.conf[name], "--log-format", "json", *options),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def events_until(process: subprocess.Popen[str], phase: str, event: str) -> list[dict[str, Any]]:
    """The process's log lines up to the one of that phase and event, which must come."""
    lines: list[dict[str, Any]] = []
    watchdog = threading.Timer(60.0, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        for text in process.stderr:
            lines.append(json.loads(text))
            if (lines[-1].get("phase"), lines[-1].get("event")) == (phase, event):
                return lines
    finally:
        watchdog.cancel()
    raise AssertionError(f"no {phase}/{event} among {lines}")


@pytest.mark.every_server("8.8.1+7.12.1")
def test_different_data_on_both_sides_become_the_same_and_a_second_round_transfers_nothing(
    site: ReconciledPair,
) -> None:
    for number in range(12):
        side = PRIMARY if number % 3 else REPLICA
        site.run(side, f"node{number}.example.com", number, site.ago(minutes=11 * number))
    # one node ran against both, later on the replica
    site.run(PRIMARY, "both.example.com", 1, site.ago(hours=30))
    site.run(REPLICA, "both.example.com", 2, site.ago(hours=29))
    site.settle()
    assert site.records(PRIMARY) != site.records(REPLICA)
    assert moved(site.pull(PRIMARY)) == {"facts": 5, "catalogs": 5, "reports": 5}
    assert moved(site.pull(REPLICA)) == {"facts": 8, "catalogs": 8, "reports": 9}
    primary, replica = site.records(PRIMARY), site.records(REPLICA)
    for entity, count in (("nodes", 13), ("factsets", 13), ("catalogs", 13), ("reports", 14)):
        assert len(primary[entity]) == count
        assert primary[entity] == replica[entity]
    packages = site.packages(PRIMARY)
    assert len(packages) > 1000
    assert packages == site.packages(REPLICA)
    assert moved(site.pull(PRIMARY)) == {}
    assert moved(site.pull(REPLICA)) == {}
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sync")]
    assert not site.lab.discarded(PRIMARY)
    assert not site.lab.discarded(REPLICA)


@pytest.mark.every_server
def test_a_conflict_at_equal_times_ends_with_one_winner_on_both_sides(site: ReconciledPair) -> None:
    when = site.ago(minutes=1)
    for number in range(6):
        for side in (PRIMARY, REPLICA):
            site.simple_facts(side, f"n{number}", when, side=side, number=number)
    site.settle()
    there, here = (
        {row["certname"]: row["hash"] for row in site.records(name)["factsets"]} for name in (PRIMARY, REPLICA)
    )
    results = [site.pull(PRIMARY), site.pull(REPLICA)]
    assert sum(moved(result)["facts"] for result in results if moved(result)) == 6
    winners = {name: max(there[name], here[name]) for name in there}
    for side in (PRIMARY, REPLICA):
        assert {row["certname"]: row["hash"] for row in site.records(side)["factsets"]} == winners
    assert [moved(site.pull(side)) for side in (PRIMARY, REPLICA)] == [{}, {}]


@pytest.mark.every_server
def test_a_deactivation_goes_before_the_data_and_is_not_undone_from_the_other_side(site: ReconciledPair) -> None:
    for side in (PRIMARY, REPLICA):
        site.run(side, "old.example.com", 1, site.ago(hours=3))
    # the replica missed the deactivation and has data that the primary missed, from before it
    site.run(REPLICA, "old.example.com", 2, site.ago(hours=2))
    site.run(PRIMARY, "new.example.com", 3, site.ago(minutes=5))
    site.settle()
    site.deactivate(PRIMARY, "old.example.com", site.ago(hours=1))
    site.settle()
    assert moved(site.pull(PRIMARY)) == {}
    done = sync_once(site, REPLICA, "--json", "--log-format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["transferred"] == {
        **dict.fromkeys(("nodes", "facts", "catalogs", "reports"), 1),
        **dict.fromkeys(("fact_expiration", "catalog_inputs"), 0),
    }
    phases = [json.loads(line).get("phase") for line in done.stderr.splitlines()]
    # Before the nodes' part is at its end, which is before all others.
    assert phases.index("deactivate") == phases.index("entity") - 1 == 0
    dead = {
        side: {row["certname"]: row["deactivated"] for row in site.records(side)["nodes"]}
        for side in (PRIMARY, REPLICA)
    }
    assert dead[PRIMARY] == dead[REPLICA]
    assert dead[REPLICA]["old.example.com"] is not None
    assert dead[REPLICA]["new.example.com"] is None
    assert [moved(site.pull(side)) for side in (PRIMARY, REPLICA)] == [{}, {}]


@pytest.mark.every_server("8.8.1+7.12.1")
def test_a_node_purged_here_and_dead_there_does_not_come_back(site: ReconciledPair) -> None:
    for side in (PRIMARY, REPLICA):
        site.run(side, "gone.example.com", 1, site.ago(hours=3))
        site.run(side, "alive.example.com", 2, site.ago(hours=3))
    site.settle()
    for side in (PRIMARY, REPLICA):
        site.deactivate(side, "gone.example.com", site.ago(hours=1))
    site.settle()
    delete(site.lab, PRIMARY, "gone.example.com")
    # the reports of the same runs differ by their transaction: those of the living node cross over
    assert moved(site.pull(PRIMARY)).keys() <= {"catalogs", "reports"}
    assert [row["certname"] for row in site.records(PRIMARY)["nodes"]] == ["alive.example.com"]


@pytest.mark.every_server
def test_numbers_and_text_arrive_as_they_were(site: ReconciledPair) -> None:
    values = {
        "big": 2**70,
        "small": 1e-5,
        "tenth": 0.1,
        "zeros": 100.50,
        "text": 'blank " \\ / % ü 日本 \U0001f600',
        "nested": {"empty": {}, "list": [[], None, True, -1]},
        "1": "a numeric key",
    }
    certname = "ünïcode %41+&=#.example.com"
    site.simple_facts(PRIMARY, certname, site.ago(minutes=1), **values)
    site.settle()
    assert moved(site.pull(REPLICA)) == {"facts": 1}
    assert site.records(PRIMARY)["factsets"] == site.records(REPLICA)["factsets"]
    (row,) = site.records(REPLICA)["factsets"]
    assert row["certname"] == certname
    assert len(row["facts"]["data"]) == len(values)
    assert moved(site.pull(REPLICA)) == {}


@pytest.mark.every_server
def test_a_hash_that_the_database_cannot_preserve_is_listed_and_pulled_no_more(site: ReconciledPair) -> None:
    # jsonb gives 123456789.0 back as an integer: nobody can submit what the hash was made of
    for number in range(8):
        site.simple_facts(PRIMARY, f"n{number}", site.ago(minutes=1), value=123456789.0, number=number)
    site.settle()
    first = site.pull(REPLICA)
    assert first.entities[Entity.FACTS].transferred == 8
    assert first.entities[Entity.FACTS].unequal == 8
    back = site.pull(PRIMARY)
    for side in (REPLICA, PRIMARY):
        again = site.pull(side)
        assert moved(again) == {}
    listed = [site.pull(side).entities[Entity.FACTS].unequal for side in (PRIMARY, REPLICA)]
    differing = 8 - back.entities[Entity.FACTS].transferred
    assert sum(listed) == differing


@pytest.mark.every_server
def test_a_plan_report_is_not_overlooked(site: ReconciledPair) -> None:
    payload = site.samples.report("n.example.com", 1, site.ago(minutes=3))
    site.submit(PRIMARY, "store report", {**payload, "type": "plan"})
    site.settle()
    assert moved(site.pull(REPLICA)) == {"reports": 1}
    assert site.records(PRIMARY)["reports"] == site.records(REPLICA)["reports"]


def test_a_dry_run_prints_the_plan_and_changes_nothing(site: ReconciledPair) -> None:
    site.run(PRIMARY, "a.example.com", 1, site.ago(minutes=3))
    site.simple_facts(PRIMARY, "future.example.com", site.ago(hours=-3), x=1)
    site.settle()
    before = site.records(REPLICA)
    shown = sync_once(site, REPLICA, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [row[:3] for row in rows] == [
        ["pull", "facts", "a.example.com"],
        ["leave", "facts", "future.example.com"],
        ["pull", "catalogs", "a.example.com"],
        ["pull", "reports", "a.example.com"],
    ]
    assert rows[1][4] == "stamped in the future"
    document = json.loads(sync_once(site, REPLICA, "--dry-run", "--json").stdout)[0]
    assert [row["certname"] for row in document["entities"]["facts"]["pull"]] == ["a.example.com"]
    assert site.records(REPLICA) == before
    assert not site.config(REPLICA).state_dir.exists()
    assert site.pull(REPLICA).as_json()["held"] == 1


def test_the_log_of_a_pass_is_exactly_as_the_guide_says(site: ReconciledPair, tmp_path: Path) -> None:
    site.run(PRIMARY, "a.example.com", 1, site.ago(minutes=3))
    for side in (PRIMARY, REPLICA):
        site.simple_facts(side, "dead.example.com", site.ago(hours=3), x=1)
    site.settle()
    site.deactivate(PRIMARY, "dead.example.com", site.ago(hours=1))
    site.settle()
    logging_config = tmp_path / "logging.yaml"
    logging_config.write_text(
        "formatters: {json: {(): pdbclient.observe.logs.JsonFormatter}}\n"
        f"handlers: {{file: {{class: logging.FileHandler, filename: {tmp_path}/log, formatter: json}}}}\n"
        "loggers: {sync: {level: DEBUG, handlers: [file]}}\n"
    )
    done = sync_once(site, REPLICA, "--log-config", str(logging_config))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    remote = site.lab.node(PRIMARY).url
    for line in lines:
        assert line["logger"] == "sync"
        told = line["event"] == "finished" and line["phase"] != "record"
        done_something = line.get("transferred", 1) + line.get("failed", 0) > 0
        assert line["level"] == ("INFO" if told and done_something else "DEBUG")
        assert line.get("ok") is (True if line["event"] == "finished" else None)
        assert ("elapsed" in line) is (line["event"] == "finished")
        assert isinstance(line.get("elapsed", 0), int)
        assert line.get("remote") == (None if line["phase"] == "deactivate" else remote)
    common = {"timestamp", "level", "logger", "message", "phase", "event"}
    story = [(line["phase"], line["event"], line.get("entity"), line.get("certname")) for line in lines]

    def entity(name: str, *inside: tuple[str, str, str | None, str]) -> list[tuple[Any, ...]]:
        return [("entity", "start", name, None), *inside, ("entity", "finished", name, None)]

    def pair(phase: str, name: str | None, certname: str) -> list[Any]:
        return [(phase, "start", name, certname), (phase, "finished", name, certname)]

    assert story == [
        ("sync", "start", None, None),
        *entity("nodes", *pair("deactivate", None, "dead.example.com")),
        *entity("fact_expiration"),
        *entity("facts", *pair("record", "facts", "a.example.com")),
        *entity("catalogs", *pair("record", "catalogs", "a.example.com")),
        *entity("catalog_inputs"),
        *entity("reports", *pair("record", "reports", "a.example.com")),
        ("sync", "finished", None, None),
    ]
    ended = {"ok", "elapsed"}
    expected: dict[tuple[str, str, str | None], set[str]] = {
        ("sync", "start", None): common | {"remote"},
        ("sync", "finished", None): common | ended | {"remote"},
        ("deactivate", "start", None): common | {"certname"},
        ("deactivate", "finished", None): common | ended | {"certname"},
    }
    for name in Entity:
        where = {"remote", "entity"}
        record = common | where | {"query", "certname"} | ({"hash"} if name == "reports" else set())
        expected["entity", "start", name] = common | where
        expected["entity", "finished", name] = common | where | ended | {"transferred", "failed"}
        expected["record", "start", name] = record
        expected["record", "finished", name] = record | ended
    for line in lines:
        assert line.keys() == expected[line["phase"], line["event"], line.get("entity")], line
    (report,) = site.records(PRIMARY)["reports"]
    assert {line["hash"] for line in lines if "hash" in line} == {report["hash"]}
    assert all(report["hash"] in line["query"] for line in lines if "hash" in line)
    finished = [line for line in lines if (line["phase"], line["event"]) == ("entity", "finished")]
    assert {line["entity"]: (line["transferred"], line["failed"]) for line in finished} == {
        **dict.fromkeys(("nodes", "facts", "catalogs", "reports"), (1, 0)),
        **dict.fromkeys(("fact_expiration", "catalog_inputs"), (0, 0)),
    }


def test_a_pass_that_finds_nothing_to_do_is_one_line_of_the_log(site: ReconciledPair) -> None:
    site.run(PRIMARY, "a.example.com", 1, site.ago(minutes=3))
    site.settle()
    assert site.pull(REPLICA).ok
    done = sync_once(site, REPLICA, "--json", "--log-format", "json")
    assert done.returncode == 0
    (line,) = (json.loads(text) for text in done.stderr.splitlines())
    assert (line["level"], line["phase"], line["event"], line["ok"]) == ("INFO", "sync", "finished", True)
    assert line["message"].endswith(" ms, 0 transferred, 0 failed")


def test_a_second_process_on_one_configuration_is_refused_with_the_pid_of_the_first(site: ReconciledPair) -> None:
    with sync_running(site, REPLICA) as first:
        events_until(first, "sync", "finished")
        second = sync_once(site, REPLICA)
        assert second.returncode == 1
        assert f"pid {first.pid}" in second.stderr
        assert sync_once(site, PRIMARY).returncode == 0
        assert first.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_waiting_daemon_ends_at_once_and_cleanly_when_told(site: ReconciledPair, number: signal.Signals) -> None:
    with sync_running(site, REPLICA) as process:
        events_until(process, "sync", "finished")
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - began < 3


def test_a_daemon_told_to_end_in_the_middle_of_a_pull_finishes_its_batch_and_the_next_one_goes_on(
    site: ReconciledPair,
) -> None:
    for number in range(15):
        site.run(PRIMARY, f"node{number}.example.com", number, site.ago(minutes=number))
    site.settle()
    with sync_running(site, REPLICA) as process:
        events_until(process, "entity", "start")
        events_until(process, "entity", "start")
        time.sleep(0.3)
        began = time.monotonic()
        process.terminate()
        lines = events_until(process, "sync", "error")
        assert process.wait(timeout=LATE) == 0
        assert time.monotonic() - began < LATE
        assert "asked to stop" in lines[-1]["message"]
    assert site.pull(REPLICA).ok
    assert site.records(PRIMARY) == site.records(REPLICA)


def test_a_hangup_with_a_broken_file_leaves_the_old_configuration_in_force(site: ReconciledPair) -> None:
    good = site.conf[REPLICA].read_text()
    site.conf[REPLICA].write_text(good.replace("5m", "1s"))
    with sync_running(site, REPLICA) as process:
        events_until(process, "sync", "finished")
        site.conf[REPLICA].write_text("sync: {")
        process.send_signal(signal.SIGHUP)
        lines = events_until(process, "sync", "finished") + events_until(process, "sync", "finished")
        assert any("the old one stays" in line["message"] for line in lines)
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_an_unreachable_remote_is_exit_code_3_and_a_sync_error_in_the_log(site: ReconciledPair) -> None:
    url = site.config(REPLICA).remotes[0].endpoint.url
    text = site.conf[REPLICA].read_text()
    site.conf[REPLICA].write_text(text.replace(url, "https://localhost:1"))
    done = sync_once(site, REPLICA, "--json", "--log-format", "json")
    assert done.returncode == 3
    assert json.loads(done.stdout)[0]["ok"] is False
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["phase"], line["event"]) for line in events] == [("sync", "error")]
    assert events[-1]["ok"] is False
    assert "Traceback" not in done.stderr


def test_a_local_server_that_is_down_is_the_one_that_is_named(site: ReconciledPair) -> None:
    config = site.config(REPLICA)
    local, remote = config.local.url, config.remotes[0].endpoint.url
    text = site.conf[REPLICA].read_text()
    assert text.count(local) == 1
    site.conf[REPLICA].write_text(text.replace(local, "https://localhost:1"))
    done = sync_once(site, REPLICA)
    assert done.returncode == 3
    assert f"{remote}: not pulled from: the local server https://localhost:1 is unreachable in " in done.stderr
    assert f"{remote}: unreachable" not in done.stderr


def test_a_wrong_configuration_is_exit_code_2(site: ReconciledPair) -> None:
    assert sync_once(site, REPLICA, "--remote", "https://elsewhere:8081").returncode == 2
    site.conf[REPLICA].write_text("sync: {}")
    assert sync_once(site, REPLICA).returncode == 2


def test_a_damaged_state_file_is_exit_code_1_with_its_path_and_advice(site: ReconciledPair) -> None:
    state = site.config(REPLICA).state_dir
    assert sync_once(site, REPLICA).returncode == 0
    (path,) = state.glob("*.sqlite")
    path.write_bytes(b"rubbish" * 1000)
    refused = sync_once(site, REPLICA)
    assert refused.returncode == 1
    assert str(path) in refused.stderr
    assert "Move the file away" in refused.stderr
