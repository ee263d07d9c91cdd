"""What operators do with the reconciler, on a real pair: look, compare, seed, ask a daemon."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pdbclient.cli.main import main
from pdbclient.lab import Lab
from tests.ended import Ended
from tests.integration.test_sync import PRIMARY, REPLICA, ReconciledPair, command_line, events_until, sync_running

pytestmark = pytest.mark.integration


@pytest.fixture
def site(pair: Lab, tmp_path: Path) -> Iterator[ReconciledPair]:
    made = ReconciledPair(pair, tmp_path)
    yield made
    for session in made.session.values():
        session.close()


def sync(site: ReconciledPair, name: str, command: str, *options: str) -> Ended:
    """`pdbclient sync COMMAND` beside that server, in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out, err = StringIO(), StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["sync", *command.split(), "--config", str(site.conf[name]), *options])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert "Traceback" not in err.getvalue()
    return Ended(code, out.getvalue(), err.getvalue())


def differences(site: ReconciledPair, name: str, *options: str) -> tuple[int, dict[str, dict[str, int]]]:
    """The exit code of `sync diff`, and what it counts."""
    done = sync(site, name, "diff", "--json", *options)
    assert done.out, done.err
    (document,) = json.loads(done.out)
    found = {entity: part["differences"] for entity, part in document["entities"].items()}
    return done.code, {entity: kinds for entity, kinds in found.items() if kinds}


def until(what: Callable[[], Any], within: float = 30.0) -> Any:
    """What it gives as soon as that is something."""
    ends = time.monotonic() + within
    while time.monotonic() < ends:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("not in time")


@pytest.mark.every_server
def test_a_diff_sees_what_passes_then_settle_and_is_the_same_from_both_sides(site: ReconciledPair) -> None:
    for number, side in enumerate((PRIMARY, REPLICA)):
        site.run(side, f"n{number}", number, site.ago(minutes=20 + number))
    for side in (PRIMARY, REPLICA):
        site.simple_facts(side, "conflict", site.ago(minutes=30), side=side)
        site.simple_facts(side, "dead", site.ago(hours=3), x=1)
    site.settle()
    site.deactivate(PRIMARY, "dead", site.ago(hours=1))
    site.settle()
    alone = {"missing_here": 1, "missing_there": 1}
    common = {"facts": {**alone, "unequal": 1}, "catalogs": alone, "reports": alone}
    assert differences(site, PRIMARY) == (1, {"nodes": {"missing_there": 1}, **common})
    assert differences(site, REPLICA) == (1, {"nodes": {"missing_here": 1}, **common})
    assert differences(site, REPLICA, "--entity", "reports", "--certname", "n[12]") == (
        1,
        {"reports": {"missing_there": 1}},
    )
    assert differences(site, REPLICA, "--entity", "reports", "--min-age", "1h") == (0, {})
    for side in (PRIMARY, REPLICA):
        assert site.pull(side).ok
    for side in (PRIMARY, REPLICA):
        assert differences(site, side, "--full") == (0, {})
    assert sync(site, REPLICA, "audit").code == 0


def test_what_the_servers_keep_as_it_came_first_is_tied_and_counts_nowhere(site: ReconciledPair) -> None:
    stamp = site.ago(minutes=5).isoformat(timespec="milliseconds")
    for side, uuid, expires in ((PRIMARY, "a", True), (REPLICA, "b", False)):
        node = {"certname": "n", "producer_timestamp": stamp}
        inputs = {"catalog_uuid": f"{uuid * 8}-0000-4000-8000-000000000000", "inputs": [["hiera", uuid]]}
        site.submit(side, "replace catalog inputs", {**node, **inputs})
        site.submit(side, "configure expiration", {**node, "expire": {"facts": expires}})
    site.settle()
    for side in (PRIMARY, REPLICA):
        assert site.pull(side).ok
    tied = {"fact_expiration": {"tied": 1}, "catalog_inputs": {"tied": 1}}
    assert [differences(site, side) for side in (PRIMARY, REPLICA)] == [(0, tied)] * 2
    (status,) = json.loads(sync(site, REPLICA, "status", "--json").out)
    assert (status["ok"], status["tied"]) == (True, 2)


def test_a_hash_that_no_transfer_preserves_is_listed_by_diff_and_quarantine_and_counts_nowhere(
    site: ReconciledPair,
) -> None:
    # jsonb gives 123456789.0 back as an integer: nobody can submit what the hash was made of
    for number in range(8):
        site.simple_facts(PRIMARY, f"n{number}", site.ago(minutes=1), value=123456789.0, number=number)
    site.settle()
    for side in (REPLICA, PRIMARY):
        assert site.pull(side).ok
    kept = json.loads(sync(site, REPLICA, "quarantine list", "--json").out)
    assert [(row["state"], row["entity"]) for row in kept] == [("unequal", "facts")] * len(kept)
    assert len(kept) == 8
    # Some of the new hashes are the greater ones: those the primary took over, and they are equal now.
    code, listed = differences(site, REPLICA)
    assert (code, list(listed["facts"])) == (0, ["same_content"])
    # The primary pulled none of the others, and sees that their contents are the same, too.
    assert differences(site, PRIMARY) == (0, listed)


def test_a_diff_without_one_of_the_servers_is_exit_3(site: ReconciledPair) -> None:
    url = site.config(REPLICA).remotes[0].endpoint.url
    site.conf[REPLICA].write_text(site.conf[REPLICA].read_text().replace(url, "https://localhost:1"))
    done = sync(site, REPLICA, "diff", "--json")
    assert (done.code, done.out) == (3, "")
    assert "https://localhost:1" in done.err


@pytest.mark.every_server("8.8.1+7.12.1")
def test_a_seeding_that_is_killed_goes_on_from_there_and_the_servers_are_equal_in_the_end(
    site: ReconciledPair,
) -> None:
    for number in range(60):
        site.simple_facts(PRIMARY, f"facts{number}.example.com", site.ago(minutes=number + 1), number=number)
    for number in range(5):
        site.run(PRIMARY, f"node{number}.example.com", number, site.ago(minutes=50 * number + 1))
    site.settle()
    killed = subprocess.Popen(
        command_line("sync", "seed", "--config", site.conf[REPLICA], "--log-format", "json"),
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed:
        events_until(killed, "entity", "finished")
        until(lambda: site.session[REPLICA].document("/pdb/query/v4/factsets?limit=1").value)
        killed.send_signal(signal.SIGKILL)
    done = sync(site, REPLICA, "seed", "--json")
    assert done.code == 0, done.err
    passes = json.loads(done.out)
    assert not any(passes[-1]["transferred"].values())
    assert "a second" in done.err
    assert differences(site, REPLICA, "--full") == (0, {})
    primary, replica = site.records(PRIMARY), site.records(REPLICA)
    for entity, count in (("factsets", 65), ("catalogs", 5), ("reports", 5)):
        assert len(replica[entity]) == count
        assert replica[entity] == primary[entity]
    assert not site.lab.discarded(REPLICA)


@pytest.mark.every_server("8.8.1+7.12.1")
def test_a_daemon_shows_its_status_and_metrics_and_makes_a_pass_when_asked(site: ReconciledPair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = site.conf[REPLICA].read_text()
    site.conf[REPLICA].write_text(text.replace("sync: {", f"sync: {{\n  status_port: {port}", 1))
    remote = site.config(REPLICA).remotes[0].endpoint.url

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def factsets() -> list[Any]:
        return list(site.session[REPLICA].document("/pdb/query/v4/factsets?limit=1").value)

    assert sync(site, REPLICA, "status").code == 1
    assert "no daemon listens" in sync(site, REPLICA, "trigger").err
    with sync_running(site, REPLICA) as daemon:
        events_until(daemon, "sync", "finished")
        # The interval is five minutes: what comes now comes because it was asked for.
        site.simple_facts(PRIMARY, "late", site.ago(minutes=1), x=1)
        site.settle()
        asked = sync(site, REPLICA, "trigger", "--remote", remote, "--json")
        assert (asked.code, json.loads(asked.out)) == (0, {"triggered": [remote]})
        events_until(daemon, "sync", "finished")
        assert factsets()
        (status,) = json.loads(get("/status"))["remotes"]
        assert (status["ok"], status["transferred"], status["quarantined"]) == (True, 1, 0)
        beside = json.loads(sync(site, REPLICA, "status", "--json").out)[0]
        assert {name: status[name] for name in beside.keys() - {"lag_seconds"}} == {
            name: value for name, value in beside.items() if name != "lag_seconds"
        }
        assert sync(site, REPLICA, "status", "--max-lag", "1h").code == 0
        assert sync(site, REPLICA, "status", "--max-lag", "1ms").code == 1
        page = get("/")
        assert "pdbclient reconciler on" in page
        assert f"Divergence from {remote.removeprefix('https://')}" in page
        metrics = get("/metrics")
        assert f'pdbclient_sync_last_sync_succeeded{{remote="{remote}"}} 1.0' in metrics
        assert f'pdbclient_sync_records_transferred_total{{entity="facts",remote="{remote}"}} 1.0' in metrics
        daemon.terminate()
        assert daemon.wait(timeout=10) == 0
    (after,) = json.loads(sync(site, REPLICA, "status", "--json").out)
    assert after["last_success"] == status["last_success"]
    assert "no daemon listens" in sync(site, REPLICA, "trigger").err
