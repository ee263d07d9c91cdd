"""Real servers on hosts of their own: each nemesis does what it says, and ends; nothing is left of a world."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from pdbclient.journal import Journal
from pdbclient.journal.ledger import entries

from .configuration import GATEWAY_PORT, HTTPS_PORT
from .nemeses import NEMESES
from .network import Network
from .probes import (
    ahead,
    answers,
    connection,
    eventually,
    found,
    has,
    left_of,
    nodes,
    open_ways,
    passes,
    rate,
    round_trip,
    submit,
)
from .services import Program
from .world import Arrangement, Front, NotNow, World

pytestmark = [pytest.mark.integration, pytest.mark.partitions, pytest.mark.soak]

ROOT = Path(__file__).parents[2]
FOUR = ("puppet1", "puppet2", "db1", "db2")
ALL = {(one, other) for one in FOUR for other in FOUR if one != other}


def begin(world: World, name: str, target: str) -> Callable[[], None]:
    assert target in NEMESES[name].targets(world)
    return NEMESES[name].begin(world, target)


# -- the network


def test_all_hosts_reach_each_other(world: World) -> None:
    assert open_ways(world) == ALL


def test_a_host_uses_tls_by_name(world: World) -> None:
    puppet = world.puppets[0]
    assert submit(world, puppet, "by-name.example") == "200"
    assert eventually(has(world, world.databases[0], "by-name.example"), 20)
    config = world.installation.home(puppet) / "puppetdb.conf"
    command = [sys.executable, "-m", "pdbclient", "query", "--config", str(config), "nodes[certname]{}"]
    with world.spawn(puppet, command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "by-name.example" in said.splitlines()


def test_from_and_to_a_host_that_is_cut_off_no_packet_passes(world: World) -> None:
    end = begin(world, "cut", "db1")
    assert open_ways(world) == {way for way in ALL if "db1" not in way}
    end()
    assert open_ways(world) == ALL


def test_halves_do_not_reach_each_other(world: World) -> None:
    end = begin(world, "halves", "puppet1 db1")
    assert open_ways(world) == {(one, other) for one, other in ALL if {one, other} in ({*FOUR[::2]}, {*FOUR[1::2]})}
    end()
    assert open_ways(world) == ALL


def test_one_way_only_the_other_is_open(world: World) -> None:
    end = begin(world, "one_way", "puppet1 db1")
    assert open_ways(world) == ALL - {("puppet1", "db1")}
    end()
    assert open_ways(world) == ALL


def test_what_two_nemeses_stop_is_stopped_until_both_have_ended(world: World) -> None:
    cut, one_way = begin(world, "cut", "db1"), begin(world, "one_way", "puppet1 db1")
    cut()
    assert open_ways(world) == ALL - {("puppet1", "db1")}
    one_way()
    assert open_ways(world) == ALL


def test_the_same_at_the_same_target_is_not_begun_twice_and_ended_once(world: World) -> None:
    first = begin(world, "cut", "db1")
    with pytest.raises(NotNow, match="cut db1 is under way"):
        begin(world, "cut", "db1")
    first()
    again = begin(world, "cut", "db1")
    first()
    assert world.under_way() == ("cut db1",)
    assert not passes(world, world.host("puppet1"), world.host("db1"))
    again()
    assert world.under_way() == ()


def test_a_link_flaps(world: World) -> None:
    end, seen = begin(world, "flap", "db2"), []
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        seen.append(passes(world, world.host("puppet1"), world.host("db2")))
        time.sleep(0.1)
    end()
    changes = sum(one != other for one, other in pairwise(seen))
    assert changes >= 4, seen
    assert open_ways(world) == ALL


def test_established_connections_end_when_they_are_reset(world: World) -> None:
    one, other = world.host("puppet1"), world.host("db1")
    with connection(world, one, other) as (near, far):
        near.sendall(b"before")
        assert far.recv(100) == b"before"
        begin(world, "reset", "db1")()
        for end in (near, far):
            with pytest.raises((ConnectionResetError, ConnectionAbortedError)):
                end.recv(100)
    with connection(world, one, other) as (near, far):
        near.sendall(b"after")
        assert far.recv(100) == b"after"


@pytest.mark.parametrize(("source", "target"), [("puppet1", "db1"), ("db1", "puppet1")])
def test_a_thin_link_is_one_of_256_kbit_a_second(world: World, source: str, target: str) -> None:
    ends = world.host(source), world.host(target)
    assert rate(world, *ends, 2_000_000) > 5_000_000
    end = begin(world, "thin", "db1")
    assert 150_000 < rate(world, *ends, 100_000) < 330_000
    end()
    assert rate(world, *ends, 2_000_000) > 5_000_000


def test_a_delay_is_one_of_150_ms_there_and_back(world: World) -> None:
    ends = world.host("puppet1"), world.host("db1")
    assert min(round_trip(world, *ends) for _ in range(3)) < 0.05
    with connection(world, *ends) as (near, far):
        end = begin(world, "delay", "db1")
        assert 0.15 <= min(round_trip(world, *ends) for _ in range(3)) < 0.2
        # What is there stays, and large pieces pass, too.
        near.sendall(bytes(300_000))
        left = 300_000
        while left:
            left -= len(far.recv(65536))
        end()
    assert min(round_trip(world, *ends) for _ in range(3)) < 0.05


def test_names_do_not_resolve_but_the_own_one(world: World) -> None:
    def resolves(name: str) -> bool:
        command = ["timeout", "3", "getent", "ahostsv4", f"{name}.partitions.test"]
        with world.spawn(world.host("puppet1"), command, stdout=subprocess.DEVNULL) as process:
            return process.wait(30) == 0

    assert resolves("db1")
    end = begin(world, "no_names", "puppet1")
    assert (resolves("db1"), resolves("puppet1")) == (False, True)
    end()
    assert resolves("db1")


# -- services

SERVICES = [
    *(f"puppet{number} gateway" for number in (1, 2)),
    *(f"db{number} {service}" for number in (1, 2) for service in ("postgres", "puppetdb", "reconciler")),
]


@pytest.mark.parametrize("target", SERVICES)
def test_a_service_that_is_stopped_is_there_and_does_nothing(world: World, target: str) -> None:
    assert sorted(NEMESES["stop"].targets(world)) == sorted(SERVICES)
    name, service = target.split()
    host = world.host(name)
    pid = world.pid(host, service)
    end = begin(world, "stop", target)
    assert (world.service_state(host, service), world.pid(host, service)) == ("stopped", pid)
    assert not answers(world, target)
    end()
    assert (world.service_state(host, service), world.pid(host, service)) == ("up", pid)
    assert eventually(lambda: answers(world, target), 20)


@pytest.mark.parametrize("target", SERVICES)
def test_a_service_that_is_killed_is_down_until_the_end(world: World, target: str) -> None:
    name, service = target.split()
    host = world.host(name)
    pid = world.pid(host, service)
    end = begin(world, "kill", target)
    # Nobody but the end of it starts it again.
    time.sleep(3)
    assert (world.service_state(host, service), world.pid(host, service)) == ("down", None)
    with pytest.raises(NotNow, match="under way"):
        begin(world, "kill", target)
    with pytest.raises(NotNow, match=f"{target} is down"):
        begin(world, "stop", target)
    end()
    assert world.pid(host, service) not in (None, pid)
    assert eventually(lambda: answers(world, target), 60)
    assert world.failures() == {}


def test_a_program_that_fails_is_started_again_and_that_is_told(world: World) -> None:
    host = world.host("puppet2")
    gateway = world.service(host, "gateway")
    assert isinstance(gateway, Program)
    (pid,) = gateway.pids()
    subprocess.run(["kill", "-ABRT", str(pid)], check=True)
    assert eventually(lambda: world.pid(host, "gateway") not in (None, pid), 10)
    assert world.failures() == {"puppet2 gateway": [-signal.SIGABRT]}
    gateway.failures.clear()


def test_a_power_cut_leaves_what_the_journal_has_acknowledged(world: World) -> None:
    host = world.host("puppet1")
    cut = begin(world, "cut", "puppet1")
    sent = [f"power-{number}.example" for number in range(5)]
    assert [submit(world, host, name) for name in sent] == ["200"] * len(sent)
    pid = world.pid(host, "gateway")
    begin(world, "power_cut", "puppet1")()
    assert eventually(lambda: answers(world, "puppet1 gateway") or world.pid(host, "gateway") not in (None, pid), 20)
    with closing(Journal.open(world.journal(host), beside=True)) as journal:
        assert {*journal.run(entries.counts).pending.values()} == {len(sent)}
    cut()
    assert eventually(lambda: {*sent} <= {*nodes(world, world.host("db1"))}, 60)
    assert world.failures() == {}


@pytest.mark.parametrize("hours", [3, -3])
def test_the_clock_of_a_gateway_jumps_and_jumps_back(world: World, hours: int) -> None:
    gateway = world.service(world.host("puppet1"), "gateway")

    def write() -> None:
        time.sleep(1.5)
        (pid,) = gateway.pids()
        log = world.logs()["puppet1 gateway"]
        before = log.read_text().count("asked to")
        subprocess.run(["kill", "-HUP", str(pid)], check=True)
        assert eventually(lambda: log.read_text().count("asked to") > before, 10)

    end = begin(world, "clock", f"puppet1 gateway {hours:+}h")
    write()
    assert abs(ahead(world, "puppet1 gateway") - hours) < 0.01
    end()
    write()
    assert abs(ahead(world, "puppet1 gateway")) < 0.01


def test_the_clock_of_a_reconciler_jumps_and_jumps_back(world: World) -> None:
    end = begin(world, "clock", "db1 reconciler +3h")
    assert eventually(lambda: abs(ahead(world, "db1 reconciler") - 3) < 0.01, 20)
    end()
    assert eventually(lambda: abs(ahead(world, "db1 reconciler")) < 0.01, 20)


def test_a_revoked_certificate_is_refused_and_its_successor_is_not(world: World) -> None:
    puppet, other, database = (world.host(name) for name in ("puppet1", "puppet2", "db1"))
    end = begin(world, "revoke", "puppet1")
    assert eventually(lambda: "certificate" in world.ask(puppet, database, HTTPS_PORT), 20)
    assert world.ask(other, database, HTTPS_PORT) == "200"
    end()
    assert world.ask(puppet, database, HTTPS_PORT) == "200"
    assert eventually(lambda: answers(world, "puppet1 gateway"), 30)


# -- data


def test_an_emptied_puppetdb_has_nothing(world: World) -> None:
    database = world.host("db1")
    for each in ("db1", "db2"):
        begin(world, "stop", f"{each} reconciler")
    assert submit(world, world.host("puppet1"), "emptied.example") == "200"
    assert eventually(has(world, database, "emptied.example"), 20)
    world.settle(database, 20)
    for each in ("puppet1", "puppet2"):
        begin(world, "stop", f"{each} gateway")
    begin(world, "emptied", "db1")()
    assert nodes(world, database) == []
    assert answers(world, "db1 puppetdb")


def test_a_restored_puppetdb_has_what_it_had_at_the_beginning(world: World) -> None:
    database = world.host("db1")
    for each in ("db1", "db2"):
        begin(world, "stop", f"{each} reconciler")
    assert submit(world, world.host("puppet1"), "old.example") == "200"
    assert eventually(has(world, database, "old.example"), 20)
    end = begin(world, "restored", "db1")
    assert submit(world, world.host("puppet1"), "new.example") == "200"
    assert eventually(has(world, database, "new.example"), 20)
    world.settle(database, 20)
    end()
    assert "old.example" in nodes(world, database)
    assert "new.example" not in nodes(world, database)
    assert eventually(lambda: answers(world, "db1 puppetdb"), 60)


def test_what_is_down_cannot_be_emptied_or_dumped(world: World) -> None:
    begin(world, "kill", "db1 puppetdb")
    for name in ("emptied", "restored"):
        with pytest.raises(NotNow, match="puppetdb of db1 is down"):
            begin(world, name, "db1")


# -- all of it


def test_healing_ends_all_that_is_under_way(world: World) -> None:
    several = ["cut db1", "flap db2", "delay puppet1", "thin puppet2", "stop db2 puppetdb", "kill db1 postgres"]
    several += ["no_names puppet1", "clock puppet1 gateway +3h", "halves puppet1 db2"]
    ends = [begin(world, *each.split(" ", 1)) for each in several]
    assert world.under_way() == tuple(several)
    world.heal(90)
    assert world.under_way() == ()
    assert open_ways(world) == ALL
    assert {world.service_state(world.host(name), each) for name, each in map(str.split, SERVICES)} == {"up"}
    for end in ends:
        end()
    assert open_ways(world) == ALL


def test_what_programs_use_is_known_and_their_logs_have_no_traceback(world: World) -> None:
    programs = [each for each in SERVICES if each.endswith((" gateway", " reconciler"))]
    usage = world.usage()
    assert sorted(usage) == sorted(programs)
    assert all(each.descriptors > 3 and each.threads >= 1 and each.megabytes > 10 for each in usage.values())
    assert sorted(world.logs()) == sorted(programs)
    for log in world.logs().values():
        assert "Traceback" not in log.read_text()


def test_two_gateways_share_a_journal_in_postgresql_and_nothing_is_left(place: Path) -> None:
    with World.up(place / "shared", Arrangement.SHARED) as world:
        for host in world.puppets:
            assert submit(world, host, f"{host.name}.example") == "200"
        (journal,) = world.journal_hosts
        (count,) = world.sql(journal, "select count(distinct certname) from entries")
        assert count == ("2",)
        # It works without its network, and without its journal nothing does.
        end = begin(world, "cut", "journal")
        assert world.sql(journal, "select count(distinct certname) from entries") == [count]
        end()
        assert "power_cut" not in [name for name in NEMESES if NEMESES[name].targets(world)]
    assert left_of(world) == []


def test_haproxy_leads_to_the_second_puppetdb_when_the_first_is_down(place: Path) -> None:
    with World.up(place / "haproxy", Arrangement.FILES, front=Front.HAPROXY) as world:
        puppet = world.puppets[0]
        assert world.urls(puppet) == ("https://puppetdb.partitions.test:8085",)
        assert world.services(puppet) == ("haproxy",)
        begin(world, "kill", "db1 puppetdb")
        assert eventually(lambda: world.ask(puppet, puppet, GATEWAY_PORT) == "200", 20)
    assert left_of(world) == []


UP_AND_WAIT = """
import sys, time
from pathlib import Path
from tests.partitions.world import Arrangement, Front, World
world = World.up(Path(sys.argv[1]), Arrangement.FILES, databases=1, front=Front.STOCK)
print(world.installation.network.name, flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_world_whose_process_is_killed(place: Path) -> None:
    directory = place / "killed"
    command = [sys.executable, "-c", UP_AND_WAIT, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            assert [each for each in found(name, directory) if "postgres" in each]
        finally:
            process.kill()
    assert eventually(lambda: found(name, directory) == [], 30), found(name, directory)


LEAVE = """
from tests.partitions.hosts import laid_out
from tests.partitions.network import Network
network = Network(laid_out(1, journal=False))
network._make()
print(network.name)
"""


def test_a_network_that_was_left_is_removed_by_the_next(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVE], cwd=ROOT, capture_output=True, text=True, check=True)
    name = done.stdout.strip()
    assert len(found(name, place / "none")) == 4
    with Network(()):
        assert found(name, place / "none") == []
