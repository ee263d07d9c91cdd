"""The lab on real servers: what it starts, breaks, mends and leaves behind."""

from __future__ import annotations

import json
import os
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests

from pdbclient.config.model import TlsFiles
from pdbclient.errors import LabError
from pdbclient.lab import Lab, LabOptions, Node
from pdbclient.lab.samples import Samples

from .schema import flags_table

pytestmark = pytest.mark.integration

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def call(lab: Lab, node: Node, path: str, *, tls: TlsFiles | None = None, **options: Any) -> requests.Response:
    files = tls or lab.client_tls
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(lab.client_tls.ca)
        session.cert = (str(files.cert), str(files.key))
        method = "POST" if "data" in options else "GET"
        return session.request(method, node.url + path, timeout=options.pop("timeout", 10), **options)


def submit(lab: Lab, node: Node, command: str, version: int, payload: dict[str, Any]) -> None:
    answer = call(
        lab,
        node,
        "/pdb/cmd/v1",
        params={"command": command, "version": version, "certname": payload["certname"]},
        data=json.dumps(payload),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200, answer.text


def query(lab: Lab, node: Node, pql: str) -> list[dict[str, Any]]:
    answer = call(lab, node, "/pdb/query/v4", params={"query": pql})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


def listed(lab: Lab, node: Node, entity: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = call(lab, node, f"/pdb/query/v4/{entity}").json()
    return rows


def submit_deactivation(lab: Lab, node: Node, certname: str) -> None:
    payload = {"certname": certname, "producer_timestamp": "2026-03-04T12:00:00.000Z"}
    submit(lab, node, "deactivate node", 3, payload)
    lab.settle(node.name)


def pids(lab: Lab) -> dict[tuple[str, str], int | None]:
    return {
        (node.name, server): lab.pid(node.name, server) for node in lab.nodes for server in ("puppetdb", "postgres")
    }


def is_alive(pid: int) -> bool:
    """A zombie, which some containers' first process is slow to collect, is dead."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def is_refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def single(lab_directory: Path) -> Iterator[Lab]:
    """A lab of one node, beside the pair, for tests that stop it altogether."""
    lab = Lab.up(lab_directory / "single", 1)
    try:
        yield lab
    finally:
        if (lab_directory / "single").exists():
            lab.down(purge=True)


def test_up_on_a_lab_that_is_up_changes_nothing(pair: Lab) -> None:
    before = pids(pair)
    files = [pair.puppetdb_conf, *(pair.sync_conf(node.name) for node in pair.nodes)]
    written = [file.stat().st_mtime_ns for file in files]

    again = Lab.up(pair.directory)

    assert pids(again) == before
    assert None not in before.values()
    assert again.nodes == pair.nodes
    assert [file.stat().st_mtime_ns for file in files] == written


def test_up_starts_only_what_is_down_with_the_same_ports_and_data(pair: Lab) -> None:
    primary, replica = pair.nodes
    submit_deactivation(pair, primary, "kept.example.com")
    before = pids(pair)
    pair.fault("primary", "kill")
    pair.fault("primary", "stop-postgres")
    pair.fault("replica", "freeze")

    again = Lab.up(pair.directory)

    assert all(node.up for node in again.status())
    assert again.nodes == pair.nodes
    after = pids(again)
    assert after["replica", "puppetdb"] == before["replica", "puppetdb"]
    assert after["primary", "puppetdb"] != before["primary", "puppetdb"]
    assert query(again, primary, 'nodes[certname]{node_state="any"}') == [{"certname": "kept.example.com"}]
    assert query(again, replica, 'nodes[certname]{node_state="any"}') == []


def test_up_refuses_to_change_the_number_of_nodes(pair: Lab) -> None:
    with pytest.raises(LabError, match="has 2 nodes, not 3"):
        Lab.up(pair.directory, 3)


def test_a_killed_node_refuses_connections_until_it_is_started(pair: Lab) -> None:
    primary, replica = pair.nodes
    submit_deactivation(pair, primary, "kept.example.com")

    pair.fault("primary", "kill")
    pair.fault("primary", "kill")
    assert is_refused(primary.https_port)
    assert [node.puppetdb for node in pair.status()] == ["down", "running"]
    assert call(pair, replica, "/pdb/meta/v1/version").status_code == 200
    for action in ("freeze", "thaw"):
        with pytest.raises(LabError, match=r"primary: PuppetDB is down; start it first"):
            pair.fault("primary", action)

    pair.fault("primary", "start")
    started = pair.pid("primary")
    pair.fault("primary", "start")
    assert pair.pid("primary") == started
    assert query(pair, primary, 'nodes[certname]{node_state="any"}') == [{"certname": "kept.example.com"}]


def test_a_frozen_node_takes_connections_and_says_nothing_until_it_is_thawed(pair: Lab) -> None:
    primary = pair.nodes[0]

    pair.fault("primary", "freeze")
    pair.fault("primary", "freeze")
    assert not is_refused(primary.https_port)
    with pytest.raises(requests.ReadTimeout):
        requests.get(primary.cleartext_url + "/pdb/meta/v1/version", timeout=1)
    assert [node.puppetdb for node in pair.status()] == ["frozen", "running"]

    pair.fault("primary", "thaw")
    pair.fault("primary", "thaw")
    assert call(pair, primary, "/pdb/meta/v1/version").json()["version"] == pair.status()[0].version


def test_without_its_database_a_node_answers_no_query_until_that_is_back(pair: Lab) -> None:
    primary, replica = pair.nodes

    pair.fault("primary", "stop-postgres")
    pair.fault("primary", "stop-postgres")
    assert is_refused(primary.postgres_port)
    assert call(pair, replica, "/pdb/query/v4", params={"query": "nodes{}"}).status_code == 200
    with pytest.raises(LabError, match=r"primary: PuppetDB cannot run, because its PostgreSQL is down"):
        pair.fault("primary", "start")

    pair.fault("primary", "start-postgres")
    pair.fault("primary", "start-postgres")
    assert query(pair, primary, "nodes{}") == []


def test_an_unknown_node_or_action_is_named_with_those_that_exist(pair: Lab) -> None:
    with pytest.raises(LabError, match=r"no node 'standby': it has primary, replica"):
        pair.fault("standby", "kill")
    with pytest.raises(LabError, match=r"no fault is called 'melt': kill, freeze"):
        pair.fault("primary", "melt")


def test_every_sample_is_stored_and_none_is_discarded(pair: Lab) -> None:
    primary, samples = pair.nodes[0], Samples(pair.puppetdb_jar)
    for index in range(16):
        certname = f"node{index}.example.com"
        submit(pair, primary, "store report", 8, samples.report(certname, index, NOON))
        if index < 3:
            submit(pair, primary, "replace facts", 5, samples.facts(certname, index, NOON))
            submit(pair, primary, "replace catalog", 9, samples.catalog(certname, index, NOON))
    pair.settle("primary")

    assert pair.discarded("primary") == ()
    three = [f"node{index}.example.com" for index in range(3)]
    stamp = "2026-03-04T12:00:00.000Z"
    stored = [{"certname": name, "producer_timestamp": stamp} for name in three]
    assert query(pair, primary, "catalogs[certname,producer_timestamp]{order by certname}") == stored
    assert query(pair, primary, "factsets[certname,producer_timestamp]{order by certname}") == stored
    assert query(pair, primary, f'reports[count()]{{producer_timestamp="{stamp}"}}') == [{"count": 16}]
    exported = 'resources[certname]{exported=true and type="Sshkey" and tag="known_hosts" order by certname}'
    assert query(pair, primary, exported) == [{"certname": name} for name in three]
    assert query(pair, primary, 'events[count()]{property="ensure"}')[0]["count"] >= 16
    assert query(pair, primary, "package_inventory[count()]{}")[0]["count"] == 490 + 2318 + 490


def test_an_emptied_node_has_forgotten_everything_and_works_like_a_new_one(pair: Lab) -> None:
    primary, samples = pair.nodes[0], Samples(pair.puppetdb_jar)
    entities = ("nodes", "factsets", "catalogs", "reports", "environments", "producers")
    payloads = [
        ("replace facts", 5, samples.facts("a.example.com", 0, NOON)),
        ("replace catalog", 9, samples.catalog("a.example.com", 0, NOON)),
        ("store report", 8, samples.report("a.example.com", 0, NOON, transaction_uuid=str(UUID(int=1)))),
        (
            "store report",
            8,
            samples.report("a.example.com", 0, NOON - timedelta(days=9), transaction_uuid=str(UUID(int=2))),
        ),
    ]
    counts, hashes = [], []
    for _ in range(2):
        for payload in payloads:
            submit(pair, primary, *payload)
        pair.settle("primary")
        counts.append({entity: len(listed(pair, primary, entity)) for entity in entities})
        hashes.append({row["hash"] for row in listed(pair, primary, "reports")})
        # Emptying has to deal with what is still queued.
        submit(pair, primary, *payloads[0])
        pair.empty("primary")
        assert [listed(pair, primary, entity) for entity in entities] == [[]] * 6

    assert hashes[0] == hashes[1]
    stored = {"nodes": 1, "factsets": 1, "catalogs": 1, "reports": 2, "environments": 1, "producers": 1}
    assert counts == [stored, stored]


def test_the_dead_letter_office_shows_what_puppetdb_gave_up_and_is_emptied(pair: Lab) -> None:
    primary = pair.nodes[0]
    submit(pair, primary, "replace facts", 5, {"certname": "a.example.com", "values": "not a map"})
    pair.settle("primary")
    assert pair.discarded("primary")

    pair.empty("primary")
    assert pair.discarded("primary") == ()


def test_sql_looks_behind_puppetdbs_back(pair: Lab) -> None:
    submit_deactivation(pair, pair.nodes[0], "a.example.com")
    flags = flags_table(pair, "primary")
    assert pair.sql("primary", f"select certname, deactivated is null, null from {flags}") == [
        ("a.example.com", "f", "")
    ]
    assert pair.sql("replica", "select certname from certnames") == []
    with pytest.raises(LabError, match='"no_such_table" does not exist'):
        pair.sql("primary", "select 1 from no_such_table")


def test_a_certificate_of_a_foreign_ca_is_refused_and_one_of_the_labs_own_is_not(pair: Lab) -> None:
    primary = pair.nodes[0]
    answer = call(pair, primary, "/pdb/meta/v1/version", tls=pair.issue("another-client"))
    assert answer.status_code == 200
    for refused in (pair.issue("intruder", ca="foreign"), pair.issue("late", days=-1)):
        with pytest.raises((requests.exceptions.SSLError, requests.ConnectionError)):
            call(pair, primary, "/pdb/meta/v1/version", tls=refused)


def test_two_labs_run_side_by_side_and_share_nothing(pair: Lab, single: Lab) -> None:
    ports = [port for lab in (pair, single) for node in lab.nodes for port in node.ports]
    assert len(set(ports)) == len(ports)
    submit_deactivation(single, single.nodes[0], "single.example.com")
    assert query(pair, pair.nodes[0], 'nodes{node_state="any"}') == []
    with pytest.raises(requests.exceptions.SSLError):
        call(pair, single.nodes[0], "/pdb/meta/v1/version")


def test_down_leaves_no_process_and_up_brings_the_data_back_even_when_a_port_was_taken(single: Lab) -> None:
    node = single.nodes[0]
    submit_deactivation(single, node, "kept.example.com")
    running = [pid for pid in pids(single).values() if pid is not None]
    assert len(running) == 2
    single.fault("primary", "freeze")

    single.down()

    assert not [pid for pid in running if is_alive(pid)]
    assert all(is_refused(port) for port in node.ports)
    assert pids(single) == {("primary", "puppetdb"): None, ("primary", "postgres"): None}
    single.down()

    with (
        socket.create_server(("127.0.0.1", node.https_port)),
        socket.create_server(("127.0.0.1", node.postgres_port)),
    ):
        again = Lab.up(single.directory)
    moved = again.nodes[0]
    assert moved.https_port != node.https_port
    assert moved.postgres_port != node.postgres_port
    assert moved.url in again.puppetdb_conf.read_text()
    assert {"certname": "kept.example.com"} in query(again, moved, 'nodes[certname]{node_state="any"}')

    again.down(purge=True)
    assert not single.directory.exists()
    with pytest.raises(LabError, match="is not a lab"):
        Lab.load(single.directory)


def test_a_start_that_fails_shows_the_servers_own_words_and_leaves_nothing_running(lab_directory: Path) -> None:
    directory = lab_directory / "broken"
    jar = lab_directory / "empty.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("nothing", "")

    with pytest.raises(LabError, match=r"(?s)PuppetDB primary ended while it started.*main class clojure\.main"):
        Lab.up(directory, 1, options=LabOptions(puppetdb_jar=jar))

    broken = Lab.load(directory)
    assert pids(broken) == {("primary", "puppetdb"): None, ("primary", "postgres"): None}
    broken.down(purge=True)


def test_a_database_that_does_not_start_shows_its_own_words(single_cluster: Lab) -> None:
    node = single_cluster.nodes[0]
    (node.postgres_data / "postgresql.conf").write_text("no_such_setting = on\n")
    with pytest.raises(LabError, match=r'(?s)PostgreSQL of primary did not start.*"no_such_setting"'):
        Lab.up(single_cluster.directory)
    assert single_cluster.pid("primary", "postgres") is None


@pytest.fixture
def single_cluster(lab_directory: Path) -> Iterator[Lab]:
    """A lab whose only node has a database, and a PuppetDB that cannot start."""
    directory, jar = lab_directory / "cluster", lab_directory / "empty.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("nothing", "")
    with pytest.raises(LabError):
        Lab.up(directory, 1, options=LabOptions(puppetdb_jar=jar))
    lab = Lab.load(directory)
    try:
        yield lab
    finally:
        lab.down(purge=True)


def test_a_start_that_takes_too_long_is_ended(lab_directory: Path) -> None:
    directory = lab_directory / "impatient"
    options = replace(LabOptions(), start_timeout=0.5)
    with pytest.raises(LabError, match=r"PuppetDB primary is not running after 0\.5 s; last lines of"):
        Lab.up(directory, 1, options=options)
    stopped = Lab.load(directory)
    assert pids(stopped) == {("primary", "puppetdb"): None, ("primary", "postgres"): None}
    stopped.down(purge=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")
def test_a_directory_closed_to_the_servers_account_is_refused_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(LabError, match=r"the servers run as \w+, which may not enter .*--dir"):
        Lab.up(tmp_path / "lab", 1)
