"""`pdbclient doctor` and real PuppetDBs: what they show of themselves, and what of it is found."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pdbclient import Client
from pdbclient.config import Endpoint, load_config
from pdbclient.doctor.gather.servers import ask_servers
from pdbclient.doctor.model import PeerFacts, ServerFacts
from pdbclient.lab import Lab
from pdbclient.lab.samples import Samples
from pdbclient.sync.policy.identity import Process, one_process

from .test_cli import pdbclient

pytestmark = pytest.mark.integration

PRIMARY, REPLICA = "primary", "replica"
Findings = Mapping[str, tuple[str, str]]
"""What is not well: where, and what, by its code."""


def doctor(*options: object) -> tuple[int, Findings]:
    """As on a host without systemd: what runs here is nobody's unit, and this machine's systemd would miss it."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        systemctl = Path(directory, "systemctl")
        systemctl.write_text("#!/bin/sh\nexit 1\n")
        systemctl.chmod(0o755)
        patch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        ended = pdbclient("doctor", "--json", "--user", "root", *options)
    roles: list[dict[str, Any]] = ended.json["roles"]
    found = [each for role in roles for each in role["findings"] if each["severity"] != "ok"]
    return ended.code, {each["code"]: (each["where"], each["what"]) for each in found}


@pytest.fixture
def sync(pair: Lab, tmp_path: Path) -> Path:
    """The reconciler beside the primary, with a state of its own."""
    text = pair.sync_conf(PRIMARY).read_text()
    path = tmp_path / "sync.conf"
    lines = [f'  state_dir: "{tmp_path}/state"' if "state_dir" in line else line for line in text.splitlines()]
    path.write_text("\n".join(lines))
    return path


def test_beside_a_puppetdb_it_is_green_once_a_pass_was_made(pair: Lab, sync: Path) -> None:
    assert doctor("--sync", sync) == (
        1,
        {"sync-never-ran": (pair.node(REPLICA).url, "there was no pass against it yet")},
    )
    assert pdbclient("sync", "once", "--config", sync).code == 0
    assert doctor("--sync", sync) == (0, {})


def test_a_frozen_server_is_found_and_keeps_nobody_waiting(pair: Lab, sync: Path) -> None:
    pdbclient("sync", "once", "--config", sync)
    pair.fault(REPLICA, "freeze")
    try:
        began = time.monotonic()
        code, found = doctor("--sync", sync)
        took = time.monotonic() - began
    finally:
        pair.fault(REPLICA, "thaw")
    assert code == 1
    assert set(found) == {"server-unreachable"}
    assert found["server-unreachable"][0] == pair.node(REPLICA).url
    assert took < 20


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("store report", "report-ttl is 14d here, and it has a report 20 days ago"),
        (
            "deactivate node",
            "node-purge-ttl is 14d here, and it has a node that was deactivated or expired 20 days ago",
        ),
    ],
)
def test_a_remote_that_keeps_longer_than_this_host_is_found(pair: Lab, sync: Path, command: str, what: str) -> None:
    """Nothing shows a remote's times to live but what it still has: this one's are 3650d, and this host's 14d."""
    at = datetime.now(UTC) - timedelta(days=20)
    payload: dict[str, Any] = {"certname": "old.example.com", "producer_timestamp": at.isoformat()}
    if command == "store report":
        payload = Samples(pair.puppetdb_jar).report("old.example.com", 0, at)
    remote = Endpoint("localhost", pair.node(REPLICA).https_port)
    with Client(replace(load_config(pair.puppetdb_conf), server_urls=(remote,))) as client:
        client.submit_payload(command, payload)
    pair.settle(REPLICA)
    # The reconciler leaves alone what is past its time to live: this host does not get it.
    assert pdbclient("sync", "once", "--config", sync).code == 0
    assert doctor("--sync", sync) == (4, {"ttl-differs": (pair.node(REPLICA).url, what)})


def test_one_server_under_two_names_is_found(pair: Lab, sync: Path) -> None:
    port = pair.node(PRIMARY).https_port
    sync.write_text(sync.read_text().replace(pair.node(REPLICA).url, f"https://127.0.0.1:{port}"))
    _, found = doctor("--sync", sync)
    assert found["same-server-twice"][0] == f"https://127.0.0.1:{port}"


def test_puppetdbs_port_in_clear_text_is_called_plain_http(pair: Lab, sync: Path) -> None:
    url = f"https://localhost:{pair.node(REPLICA).http_port}"
    sync.write_text(sync.read_text().replace(pair.node(REPLICA).url, url))
    _, found = doctor("--sync", sync)
    assert found["server-plain-http"][0] == url
    assert "that is plain HTTP" in found["server-plain-http"][1]
    ended = pdbclient("sync", "once", "--config", sync)
    assert ended.code == 3
    assert "that is plain HTTP" in ended.err


def asked(lab: Lab) -> tuple[Mapping[str, ServerFacts], tuple[PeerFacts, ...]]:
    endpoints = [Endpoint("localhost", node.https_port) for node in lab.nodes]
    facts, peers = ask_servers(endpoints, lab.client_tls, "client", dict.fromkeys(endpoints, 0.0))
    return {name: each for name, each in zip((PRIMARY, REPLICA), facts, strict=True)}, peers


def eventually(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 30
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def as_if_begun_at_once(facts: Mapping[str, ServerFacts]) -> list[list[Process]]:
    return [[replace(look, began=1) for look in facts[name].looks] for name in (PRIMARY, REPLICA)]


@pytest.mark.every_server("8.8.1+7.12.1")
def test_what_a_server_shows_of_its_age_its_clock_and_its_peer(pair: Lab) -> None:
    """Old reports, dead nodes, and what the other one lacks."""
    facts, peers = asked(pair)
    assert [each.error for each in facts.values()] == [None, None]
    assert [each.version for each in facts.values()] == [node.version for node in pair.status()]
    assert [each.queue for each in facts.values()] == [0, 0]
    looks = as_if_begun_at_once(facts)
    assert one_process(looks[0], looks[0])
    # What two servers that have just begun use may overlap between two looks: then the next ones tell.
    assert eventually(lambda: not one_process(*as_if_begun_at_once(asked(pair)[0])))
    for each in facts.values():
        assert each.clock is not None
        assert each.clock[0] <= 0 <= each.clock[1]
    assert [(each.oldest_report, each.oldest_dead) for each in facts.values()] == [(None, None)] * 2
    assert peers == ()

    samples, now = Samples(pair.puppetdb_jar), datetime.now(UTC)
    with Client(load_config(pair.puppetdb_conf)) as client:
        for index, days in enumerate((0, 5)):
            report = samples.report(f"n{index}.example.com", index, now - timedelta(days=days))
            client.submit_payload("store report", report)
        dead = {"certname": "dead.example.com", "producer_timestamp": (now - timedelta(days=3)).isoformat()}
        client.submit_payload("deactivate node", dead)
    pair.settle(PRIMARY)
    # What came last does not count until it has been there for as long as the clock was in doubt.
    both = (PeerFacts(pair.node(PRIMARY).url, pair.node(REPLICA).url, 0.0, 2, 2),)
    assert eventually(lambda: asked(pair)[1] == both)
    facts, _ = asked(pair)
    assert facts[PRIMARY].oldest_report == pytest.approx(5 * 86400, abs=600)
    assert facts[PRIMARY].oldest_dead == pytest.approx(3 * 86400, abs=600)
