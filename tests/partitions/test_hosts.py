"""Who is on the network, under which names, and what of it is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from .hosts import SILENT, Host, HostNames, hosts_text, laid_out, prefix
from .nemeses import halves
from .network import Way, around, between

HOSTS = laid_out(2, journal=True)
PUPPET1, PUPPET2, DB1, DB2, JOURNAL = HOSTS


def test_each_host_has_an_address_of_its_own_and_none_that_of_the_silent_name_server() -> None:
    hosts = laid_out(3, journal=True)
    assert [host.name for host in hosts] == ["puppet1", "puppet2", "db1", "db2", "db3", "journal"]
    assert [host.name for host in laid_out(2, journal=False)] == ["puppet1", "puppet2", "db1", "db2"]
    addresses = [host.address for host in hosts]
    assert len({*addresses, SILENT}) == len(hosts) + 1
    assert len({host.hardware for host in hosts}) == len(hosts)
    assert PUPPET1.fqdn == "puppet1.partitions.test"


def test_a_host_knows_itself_by_the_name_of_what_stands_before_its_puppetdbs() -> None:
    text = hosts_text(PUPPET1, HOSTS)
    assert f"{PUPPET1.address} puppet1.partitions.test puppet1 puppetdb.partitions.test\n" in text
    assert f"{DB2.address} db2.partitions.test db2\n" in text
    assert text.count("puppetdb.partitions.test") == 1


def test_names_that_fail_are_changed_in_the_files_that_are_mounted_and_come_back(tmp_path: Path) -> None:
    names = HostNames(tmp_path / "etc", DB1, HOSTS)
    files = {name: tmp_path / "etc" / name for name in ("hosts", "resolv.conf")}
    before = {name: (file.stat().st_ino, file.read_text()) for name, file in files.items()}
    names.fail()
    assert files["hosts"].read_text() == hosts_text(DB1, [])
    assert PUPPET1.fqdn not in files["hosts"].read_text()
    assert SILENT in files["resolv.conf"].read_text()
    names.resolve()
    assert {name: (file.stat().st_ino, file.read_text()) for name, file in files.items()} == before


def test_the_command_that_leads_to_a_host_becomes_the_one_that_it_runs(tmp_path: Path) -> None:
    words = prefix(Path("/run/netns/some"), DB1, tmp_path)
    assert words[:2] == ("nsenter", "--net=/run/netns/some")
    assert words[-2:] == (str(tmp_path), "db1.partitions.test")
    script = words[words.index("-c") + 1]
    assert script.rstrip().endswith('exec "$@"')


def test_a_host_that_is_cut_off_has_no_way_to_any_other_and_none_to_itself_is_stopped() -> None:
    ways = around(DB1, HOSTS)
    assert len(ways) == 2 * (len(HOSTS) - 1)
    assert all(DB1.address in (way.source, way.target) for way in ways)
    assert Way(DB1.address, DB1.address) not in ways


def test_between_two_groups_all_ways_are_stopped_and_none_within() -> None:
    ways = between([PUPPET1, DB1], [PUPPET2, DB2])
    assert len(ways) == 8
    assert Way(PUPPET1.address, DB2.address) in ways
    assert Way(DB2.address, PUPPET1.address) in ways
    assert Way(PUPPET1.address, DB1.address) not in ways


@pytest.mark.parametrize(("hosts", "number"), [(HOSTS[:4], 3), (HOSTS, 10), (laid_out(3, journal=True), 25)])
def test_halves_are_all_ways_to_part_the_hosts_with_two_or_more_on_each_side(
    hosts: tuple[Host, ...], number: int
) -> None:
    sides = halves(hosts)
    parted = {frozenset((frozenset(side), frozenset(hosts) - frozenset(side))) for side in sides}
    assert len(parted) == len(sides) == number
    assert all(len(part) >= 2 for parts in parted for part in parts)
