"""Each check of `pdbclient doctor`: from facts to findings, with what must be found and what must not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pdbclient.doctor.checks import judge
from pdbclient.doctor.checks.host import unwritable
from pdbclient.doctor.gather.unit_paths import path_rules
from pdbclient.doctor.kinds import KINDS, found
from pdbclient.doctor.model import (
    DiskFacts,
    Facts,
    FileFacts,
    GatewayFacts,
    JournalFacts,
    PassFacts,
    PathRule,
    PeerFacts,
    PuppetFacts,
    Role,
    ServerFacts,
    ServiceFacts,
    SettingFacts,
    Severity,
    UnitFacts,
)
from pdbclient.errors import Problem, SafetyBrake
from pdbclient.http.outcome import PLAIN_HTTP
from pdbclient.sync.policy.identity import Process

A, B, GATEWAY = "https://a:8081", "https://b:8081", "https://puppet:8085"
DAY = 86400.0
GIB = 1024**3
ONE = ServerFacts(A, "puppet", looks=(Process(1, 5), Process(1, 7)))
TWO = ServerFacts(B, "puppet", looks=(Process(2, 5), Process(2, 7)))
SERVERS = (
    replace(ONE, version="8.8.1", queue=0, clock=(-1.0, 1.0), oldest_report=13 * DAY),
    replace(TWO, version="7.12.1", queue=3, clock=(-0.5, 1.5), oldest_dead=13 * DAY),
)


def server_role(**changes: Any) -> Facts:
    """A Puppet Server with a gateway where all is well; `changes` are to what its service sees."""
    service = ServiceFacts(
        Role.SERVER,
        "/p/puppetdb.conf",
        "pdbclient",
        "pdbclient",
        certname="puppet",
        gateway_url=GATEWAY,
        files=(FileFacts("/p/key.pem", "a private key", False),),
        disks=(DiskFacts("/var/lib/pdbclient", "the journal", 50 * GIB, 100 * GIB, 10**6),),
        servers=SERVERS,
        peers=(PeerFacts(A, B, 1800.0, 50, 3),),
        journal=JournalFacts("/var/lib/pdbclient/journal.db", held_by=7, bytes=10, max_bytes=1000),
    )
    unit = UnitFacts("pdbclient-gateway", "pdbclient", (), "active", "enabled")
    puppet = PuppetFacts(
        "/p", GATEWAY, gateway=GatewayFacts(GATEWAY, "/p/puppet.pem", "puppet", is_gateway=True, journal_up=True)
    )
    return Facts(replace(service, **changes), unit, puppet)


def puppetdb_role(**changes: Any) -> Facts:
    """The host of a PuppetDB whose reconciler gets on well."""
    service = ServiceFacts(
        Role.PUPPETDB,
        "/etc/pdbclient/sync.conf",
        "puppetdb",
        "puppetdb",
        certname="a",
        report_ttl=14 * DAY,
        node_purge_ttl=14 * DAY,
        servers=SERVERS,
        passes=(PassFacts(B, 300.0, True, 100.0),),
    )
    return Facts(replace(service, **changes), UnitFacts("pdbclient-sync", "puppetdb", (), "active", "enabled"))


def server(**changes: Any) -> tuple[ServerFacts, ...]:
    """The servers, of which the first is like that."""
    return (replace(SERVERS[0], **changes), SERVERS[1])


def failed(met: str, error: str) -> Facts:
    return server_role(servers=server(met=met, error=error))


def disk(**changes: Any) -> Facts:
    facts = DiskFacts("/var/lib/pdbclient", "the journal", 50 * GIB, 100 * GIB, 10**6)
    return server_role(disks=(replace(facts, **changes),))


def journal(**changes: Any) -> Facts:
    return server_role(journal=replace(JournalFacts("/j", bytes=10, max_bytes=1000), **changes))


def gateway(**changes: Any) -> Facts:
    facts = server_role()
    assert facts.puppet is not None
    assert facts.puppet.gateway is not None
    return replace(facts, puppet=replace(facts.puppet, gateway=replace(facts.puppet.gateway, **changes)))


def puppet(**changes: Any) -> Facts:
    facts = server_role()
    assert facts.puppet is not None
    return replace(facts, puppet=replace(facts.puppet, **changes))


def unit(**changes: Any) -> Facts:
    facts = server_role()
    return replace(facts, unit=replace(facts.unit, **changes))


STRICT = PathRule("/", "read-only", "ProtectSystem=strict")
HOME = PathRule("/srv", "hidden", "ProtectHome=yes")


def within(*paths: PathRule) -> Facts:
    """Of a unit with these rules, whose service has its journal in a directory of its user's."""
    directory = "/srv/journal"
    journal = JournalFacts(f"{directory}/journal.db", missing=True)
    disks = (DiskFacts(directory, "the journal", 50 * GIB, 100 * GIB, 10**6, real=directory),)
    facts = server_role(disks=disks, journal=journal)
    return replace(facts, unit=replace(facts.unit, paths=paths))


def passes(**changes: Any) -> Facts:
    return puppetdb_role(passes=(replace(PassFacts(B, 300.0, True, 100.0), **changes),))


WRONG = Problem("/p/puppetdb.conf", 4, "journl", "unknown setting: did you mean journal?")
UNREADABLE = Problem("/p/puppetdb.conf", None, "ssl_key", "/p/key.pem may not be read by the user with id 999")

CASES: dict[str, tuple[Facts, str, str]] = {
    # What is the case, and the one thing that is to be found: its code, and where.
    "setting": (server_role(errors=(WRONG,)), "configuration", "/p/puppetdb.conf:4"),
    "unreadable": (server_role(errors=(UNREADABLE,)), "file-unreadable", "/p/puppetdb.conf"),
    "doubtful": (server_role(warnings=(WRONG,)), "configuration-doubtful", "/p/puppetdb.conf:4"),
    "another user": (server_role(looked_as="joe"), "looked-as-another-user", "/p/puppetdb.conf"),
    "stopped": (unit(active="failed"), "unit-not-running", "pdbclient-gateway.service"),
    "not at boot": (unit(enabled="disabled"), "unit-not-enabled", "pdbclient-gateway.service"),
    "ends again and again": (
        unit(active="activating", sub="auto-restart", restarts=57),
        "unit-not-running",
        "pdbclient-gateway.service",
    ),
    "ended for the first time": (
        unit(active="activating", sub="auto-restart"),
        "unit-not-running",
        "pdbclient-gateway.service",
    ),
    "started again just now": (unit(restarts=3, running_for=1.0), "unit-not-running", "pdbclient-gateway.service"),
    "starts again": (
        unit(active="activating", sub="start-pre", restarts=3),
        "unit-not-running",
        "pdbclient-gateway.service",
    ),
    "masked": (
        unit(load="masked", active="inactive", enabled="masked"),
        "unit-not-running",
        "pdbclient-gateway.service",
    ),
    "no unit": (
        unit(load="not-found", active="inactive", enabled=""),
        "unit-not-running",
        "pdbclient-gateway.service",
    ),
    "a wrong unit": (unit(load="bad-setting", active="inactive"), "unit-not-running", "pdbclient-gateway.service"),
    "masked while it runs": (unit(load="masked", enabled="masked"), "unit-not-enabled", "pdbclient-gateway.service"),
    "until the next boot": (unit(enabled="enabled-runtime"), "unit-not-enabled", "pdbclient-gateway.service"),
    "beside its unit's directories": (within(STRICT), "directory-unwritable", "/srv/journal"),
    "in a home": (within(HOME), "directory-unwritable", "/srv/journal"),
    "in a home, whatever is writable": (
        within(HOME, PathRule("/srv/journal", "read-write", "ReadWritePaths")),
        "directory-unwritable",
        "/srv/journal",
    ),
    "open key": (server_role(files=(FileFacts("/k", "a private key", True),)), "secret-open-to-all", "/k"),
    "unwritable": (disk(error="may not"), "directory-unwritable", "/var/lib/pdbclient"),
    "full": (disk(free=50 * 1024**2), "disk-full", "/var/lib/pdbclient"),
    "no inodes": (disk(free_inodes=0), "disk-full", "/var/lib/pdbclient"),
    "few inodes": (disk(free_inodes=10), "disk-filling", "/var/lib/pdbclient"),
    "filling": (disk(free=GIB // 2), "disk-filling", "/var/lib/pdbclient"),
    "a small disk that is full": (disk(free=GIB // 200, size=GIB), "disk-full", "/var/lib/pdbclient"),
    "refused": (failed("not sent", "no connection: Connection refused"), "server-unreachable", A),
    "plain HTTP": (failed("not sent", f"no connection: {PLAIN_HTTP}"), "server-plain-http", A),
    "its certificate": (failed("tls", "its certificate is not accepted: expired"), "server-certificate", A),
    "our certificate": (failed("tls", "it refuses our certificate x"), "server-refuses-certificate", A),
    "allowlist": (failed("forbidden", "not allowed"), "server-forbids", A),
    "Puppet Server": (failed("misrouted", "that is no PuppetDB"), "server-not-puppetdb", A),
    "no JSON": (failed("incomplete", "not JSON"), "server-not-puppetdb", A),
    "database down": (failed("busy", "its database is down"), "server-busy", A),
    "silent": (failed("timeout", "no answer"), "server-hangs", A),
    "500": (failed("server error", "NullPointerException"), "server-error", A),
    "a gateway": (server_role(servers=server(is_gateway=True)), "server-is-gateway", A),
    "a queue": (server_role(servers=server(queue=1000)), "queue-long", A),
    "one only": (server_role(servers=SERVERS[:1]), "one-server-only", "/p/puppetdb.conf"),
    "a new version": (server_role(servers=server(version="10.0.0")), "version-untested", A),
    "no version": (server_role(servers=server(version="next")), "version-untested", A),
    "a version before the tested ones": (server_role(servers=server(version="7.11.2")), "version-untested", A),
    "one server": (server_role(servers=server(looks=(Process(2, 6), Process(2, 6)))), "same-server-twice", B),
    "ahead": (server_role(servers=server(clock=(61.0, 62.0))), "clocks-differ", A),
    "behind": (server_role(servers=server(clock=(-63.0, -61.0))), "clocks-differ", A),
    "this host's clock": (
        server_role(servers=tuple(replace(each, clock=(100.0, 101.0)) for each in SERVERS)),
        "clocks-differ",
        "this host",
    ),
    "two clocks": (
        server_role(servers=(replace(SERVERS[0], clock=(40.0, 41.0)), replace(SERVERS[1], clock=(-41.0, -40.0)))),
        "clocks-differ",
        B,
    ),
    "astray": (
        puppet(astray=(SettingFacts("/p/puppet.conf", "[server] reports", "store", "store,puppetdb"),)),
        "puppet-goes-elsewhere",
        "/p/puppet.conf",
    ),
    "Puppet's files": (puppet(errors=(WRONG,)), "configuration", "/p/puppetdb.conf:4"),
    "Puppet's habits": (puppet(warnings=(WRONG,)), "configuration-doubtful", "/p/puppetdb.conf:4"),
    "gateway down": (gateway(met="not sent", error="refused"), "gateway-not-used", GATEWAY),
    "gateway unasked": (gateway(unasked="/p/k: may not"), "gateway-not-asked", GATEWAY),
    "not let in": (gateway(met="forbidden", error="not in gateway_allow"), "gateway-forbids-puppet", GATEWAY),
    "another service": (gateway(met="misrouted", error="404"), "gateway-is-another", GATEWAY),
    "another answer": (gateway(is_gateway=False), "gateway-is-another", GATEWAY),
    "left out": (gateway(unusable=(f"{A} for query",)), "gateway-leaves-out", GATEWAY),
    "without its journal": (gateway(journal_up=None), "journal-unusable", GATEWAY),
    "its journal": (gateway(journal_up=False), "journal-unusable", GATEWAY),
    "journal": (journal(error="belongs to the user 0"), "journal-unusable", "/j"),
    "undelivered": (journal(pending={"": 3}, oldest_pending=601.0), "journal-undelivered", "/j"),
    "parked": (journal(parked=2), "journal-parked", "/j"),
    "bound": (journal(bytes=901), "journal-near-its-bound", "/j"),
    "never ran": (passes(ran=False, lag=None), "sync-never-ran", B),
    "never succeeded": (passes(lag=None), "sync-lags", B),
    "lag": (passes(lag=1501.0), "sync-lags", B),
    "failed": (passes(error="facts: HTTP 500"), "sync-failed", B),
    "put off": (passes(error="the clocks are 90 s apart, more than max_clock_skew"), "sync-failed", B),
    "braked": (passes(error=f"nodes: {SafetyBrake('12 of 20 nodes would be deactivated')}"), "sync-braked", B),
    "emptied": (passes(error=f"facts: {SafetyBrake('the remote has none: it looks emptied')}"), "sync-braked", B),
    "quarantined": (passes(quarantined=1), "sync-quarantined", B),
    "state": (puppetdb_role(state_error="damaged", passes=()), "sync-state-unusable", "/etc/pdbclient/sync.conf"),
    "peer": (puppetdb_role(peers=(PeerFacts(A, B, 1200.0, 50, 26),)), "peer-lacks-records", B),
    "old reports": (puppetdb_role(servers=server(oldest_report=17 * DAY)), "ttl-differs", A),
    "old nodes": (puppetdb_role(servers=server(oldest_dead=17 * DAY)), "ttl-differs", A),
}


def wrong(facts: Facts) -> Iterator[tuple[str, str]]:
    return ((each.code, each.where) for each in judge(facts) if each.severity is not Severity.OK)


@pytest.mark.parametrize("facts", [server_role(), puppetdb_role()], ids=["server", "puppetdb"])
def test_where_all_is_well_everything_is_told_and_nothing_is_found(facts: Facts) -> None:
    findings = judge(facts)
    assert {each.severity for each in findings} == {Severity.OK}
    assert {"unit", "configuration", "server"} <= {each.code for each in findings}


@pytest.mark.parametrize("case", CASES)
def test_one_thing_that_is_wrong_is_found_once_and_nothing_beside_it(case: str) -> None:
    facts, code, where = CASES[case]
    assert list(wrong(facts)) == [(code, where)]


def test_every_kind_of_finding_is_met_by_a_case() -> None:
    """But for those that are no check's: there were no facts. Versions that hash differently are untested, too."""
    met = {code for _, code, _ in CASES.values()} | {"versions-hash-differently"}
    assert set(KINDS) - met == {"service-user-missing", "look-failed"}


def test_versions_that_hash_differently_are_found() -> None:
    facts = server_role(servers=server(version="7.3.0"))
    assert list(wrong(facts)) == [("version-untested", A), ("versions-hash-differently", B)]


def test_every_finding_says_what_where_and_what_to_do() -> None:
    for facts, _, _ in CASES.values():
        for finding in judge(facts):
            if finding.severity is not Severity.OK:
                assert finding.where
                assert finding.what
                assert finding.do
                assert "{" not in finding.do


def test_advice_has_the_names_that_it_speaks_of() -> None:
    finding = found("server-forbids", A, "403", certname="puppet.example")
    assert finding.do == "add puppet.example to the file that certificate-allowlist names there, and restart PuppetDB"


@pytest.mark.parametrize(
    "facts",
    [
        # Nothing is expected of a unit on a host without a gateway, nor where there is no systemd.
        replace(
            server_role(gateway_url=None),
            unit=UnitFacts("pdbclient-gateway", None, (), "inactive", paths=(STRICT,)),
            puppet=PuppetFacts("/p"),
        ),
        unit(active=None, enabled=None),
        unit(restarts=1, running_for=3600.0),
        unit(active="activating", sub="start"),
        within(STRICT, PathRule("/srv/journal", "read-write", "ReadWritePaths")),
        within(STRICT, PathRule("/srv", "read-write", "StateDirectory")),
        within(PathRule("/srv/journ", "read-only", "ProtectSystem=full")),
        replace(
            puppetdb_role(disks=(DiskFacts("/q", "PuppetDB's queue", GIB * 9, GIB * 9, ours=False, real="/q"),)),
            unit=UnitFacts("pdbclient-sync", "puppetdb", (), "active", "enabled", paths=(STRICT,)),
        ),
        # What is said within the limits.
        disk(free=2 * GIB),
        journal(pending={"": 3}, oldest_pending=599.0),
        journal(missing=True),
        passes(lag=1499.0),
        puppetdb_role(peers=(PeerFacts(A, B, 1200.0, 50, 25),)),
        puppetdb_role(report_ttl=0.0, servers=server(oldest_report=900 * DAY)),
        server_role(servers=server(oldest_report=900 * DAY)),
        server_role(servers=server(clock=(59.0, 70.0))),
        server_role(servers=server(version="9.0.0-SNAPSHOT")),
        server_role(servers=server(version="7.12.0")),
    ],
)
def test_what_is_no_mistake_is_not_found(facts: Facts) -> None:
    assert list(wrong(facts)) == []


def test_a_configuration_that_cannot_be_read_says_that_nothing_else_was_looked_at() -> None:
    service = ServiceFacts(Role.SERVER, "/p/puppetdb.conf", "pdbclient", unread=True, errors=(WRONG,))
    facts = Facts(service, server_role().unit)
    what = [each.what for each in judge(facts) if each.code == "configuration"]
    assert what == [
        "journl: unknown setting: did you mean journal?",
        "as pdbclient, it cannot be used: the servers and the rest were not looked at",
    ]


def well(facts: Facts) -> set[str]:
    return {each.code for each in judge(facts) if each.severity is Severity.OK}


UNREAD = ServiceFacts(Role.SERVER, "/p/puppetdb.conf", "pdbclient", unread=True, errors=(WRONG,))


def test_what_was_not_looked_at_is_not_called_well() -> None:
    """Of Puppet's configuration, root saw no more than the service did; the mistake is told once."""
    facts = Facts(UNREAD, UnitFacts("pdbclient-gateway"), PuppetFacts("/p", errors=(WRONG,)))
    assert well(facts) == set()
    assert [each.what for each in judge(facts)].count("journl: unknown setting: did you mean journal?") == 1


def test_a_gateway_whose_user_may_not_read_the_key_is_still_one() -> None:
    """Root read what puppetdb.conf names: Puppet goes to the gateway, and its unit is to run."""
    stopped = replace(server_role().unit, active="failed")
    facts = Facts(replace(UNREAD, errors=(UNREADABLE,)), stopped, PuppetFacts("/p", GATEWAY))
    texts = [each.what for each in judge(facts) if each.code == "puppet"]
    assert texts == [f"Puppet's configuration leads to PuppetDB, by the gateway {GATEWAY}"]
    assert ("unit-not-running", "pdbclient-gateway.service") in set(wrong(facts))


@pytest.mark.parametrize(("enabled", "told"), [("enabled", True), ("disabled", False)])
def test_where_nobody_can_read_whether_there_is_a_gateway_its_unit_says(enabled: str, told: bool) -> None:
    unit = UnitFacts("pdbclient-gateway", active="failed", enabled=enabled)
    facts = Facts(UNREAD, unit, PuppetFacts("/p", errors=(WRONG,)))
    assert ("unit-not-running" in {code for code, _ in wrong(facts)}) is told


def test_a_journal_that_cannot_be_made_is_not_called_well() -> None:
    """`the gateway makes it when it starts` is said where it can."""
    nowhere = Problem("/p/puppetdb.conf", 4, "journal", "its directory /srv/x does not exist")
    unseen = JournalFacts("/srv/x/journal.db", missing=True)
    assert "journal" in well(server_role(journal=unseen))
    assert "journal" not in well(server_role(journal=unseen, errors=(nowhere,)))
    assert "journal" not in well(server_role(journal=unseen, disks=disk(error="may not").service.disks))
    assert "journal" not in well(within(STRICT))


SHIPPED = {"ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "StateDirectory": "pdbclient:old"}


@pytest.mark.parametrize(
    ("shown", "directory", "setting"),
    [
        (SHIPPED, "/srv/journal", "ProtectSystem=strict"),
        (SHIPPED, "/var/lib/pdbclient", None),
        (SHIPPED, "/var/lib/pdbclient/deeper", None),
        (SHIPPED, "/var/lib/pdbclient-sync", "ProtectSystem=strict"),
        (SHIPPED, "/home/joe", "ProtectHome=yes"),
        (SHIPPED, "/var/tmp/journal", "PrivateTmp=yes"),
        ({**SHIPPED, "PrivateTmp": "disconnected"}, "/tmp", "PrivateTmp=disconnected"),
        ({**SHIPPED, "ReadWritePaths": "/home/joe"}, "/home/joe", "ProtectHome=yes"),
        ({**SHIPPED, "ReadWritePaths": "/home/joe", "ProtectHome": "read-only"}, "/home/joe", None),
        ({**SHIPPED, "ProtectHome": "read-only"}, "/home/joe", "ProtectHome=read-only"),
        ({**SHIPPED, "ReadWritePaths": "-/srv/a +/srv/b 'c"}, "/srv/b/journal", None),
        ({**SHIPPED, "ReadWritePaths": "/srv/a '/srv/b c'"}, "/srv/b c", None),
        ({**SHIPPED, "BindPaths": "/mnt/x:/srv/journal:rbind /srv/y"}, "/srv/journal", None),
        ({**SHIPPED, "LogsDirectory": "pdbclient"}, "/var/log/pdbclient", None),
        ({"ProtectSystem": "full"}, "/etc/pdbclient", "ProtectSystem=full"),
        ({"ProtectSystem": "full"}, "/srv", None),
        ({"ProtectSystem": "yes"}, "/etc", None),
        ({"ProtectSystem": "no", "ProtectHome": "no", "PrivateTmp": "no"}, "/home", None),
        ({}, "/srv", None),
    ],
)
def test_where_a_unit_lets_its_service_write(shown: dict[str, str], directory: str, setting: str | None) -> None:
    """As systemd.exec(5) has it."""
    facts = within(*path_rules(shown))
    (each,) = facts.service.disks
    why = unwritable(facts, replace(each, real=directory))
    assert why is None if setting is None else f"({setting})" in str(why)
