"""The mistakes of a new administrator: each made with real files and servers that answer, and found by `doctor`.

Here it looks in this process, as the user that the tests run as; as a service's user, and the whole command, in
`test_doctor_command.py`; at real PuppetDBs, in the integration tests.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config import Endpoint, load_config
from pdbclient.config.model import TlsFiles
from pdbclient.config.puppetdb_conf import read_puppetdb
from pdbclient.doctor.checks import judge
from pdbclient.doctor.gather import servers
from pdbclient.doctor.gather.puppet import look_at_puppet
from pdbclient.doctor.gather.service import look
from pdbclient.doctor.model import Facts, Finding, Role, Severity, UnitFacts
from pdbclient.errors import SafetyBrake
from pdbclient.journal import Journal
from pdbclient.lab.ports import free_port
from pdbclient.puppet_setup import Wanted, plan_setup, write
from pdbclient.sync.policy.model import Entity, Outcome, PassResult, Version
from pdbclient.sync.state.store import State, state_path

from .conftest import Pki, Site, deactivation
from .fake import Answer, Fake, Reply, Request, answer, healthy, starting
from .gateway import GatewayThread
from .proxy import BlackHole

SERVICE_NOT_FOUND = answer(
    {"kind": "service-not-found", "msg": "No status information found for service puppetdb-status"}, 404
)
"""What a Puppet Server says to the question for PuppetDB's status: see the integration test of the real one."""


class PuppetServerHost:
    """A Puppet Server with a gateway, a journal and two PuppetDBs, set up by `terminus setup`; a test spoils it."""

    def __init__(self, site: Site, tls: TlsFiles, directory: Path, stack: ExitStack) -> None:
        self.site, self.tls, self.directory, self._stack = site, tls, directory, stack
        self.urls = [f"https://localhost:{server.port}" for server in (site.primary, site.replica)]
        self.gateway_url = f"https://localhost:{free_port()}"
        self.own: dict[str, str] = {"journal": str(directory / "journal.db")}
        self.write()
        write(plan_setup(directory, Wanted()), datetime.now(UTC))

    @property
    def conf(self) -> Path:
        return self.directory / "puppetdb.conf"

    def write(self) -> None:
        """puppetdb.conf as it is to be; puppet.conf, if there is none."""
        urls = ", ".join([self.gateway_url, *self.urls])
        own = {"gateway_url": self.gateway_url, **self.own}
        lines = [f"{name} = {value}" for name, value in own.items() if value]
        self.conf.write_text("\n".join(["[main]", f"server_urls = {urls}", "[pdbclient]", *lines, ""]))
        puppet = self.directory / "puppet.conf"
        if not puppet.exists():
            puppet.write_text(f"[main]\ncertname = puppet\nssldir = {self.tls.ca.parents[1]}\n")

    def serve(self, **changes: Any) -> None:
        """Have the gateway run, with the configuration as it is now."""
        self._stack.enter_context(GatewayThread(replace(load_config(self.conf), **changes)))

    def instead(self, reply: Reply, tls: TlsFiles | None = None, **options: Any) -> Fake:
        """Another server in the place of the primary."""
        fake = self.site.server(tls=tls, **options)
        fake.reply = fake.otherwise = reply
        self.urls[0] = f"https://localhost:{fake.port}"
        self.write()
        return fake

    def found(self) -> list[Finding]:
        """What `doctor` says of it, but for what is well."""
        return [each for each in self.all() if each.severity is not Severity.OK]

    def all(self) -> list[Finding]:
        unit = UnitFacts("pdbclient-gateway")
        return judge(Facts(look(Role.SERVER, self.conf), unit, look_at_puppet(self.conf)))


@pytest.fixture(scope="module")
def puppet(pki: Pki) -> TlsFiles:
    """The certificate of the Puppet Server."""
    return pki.authority.issue("puppet", names=["localhost", "puppet"])


@pytest.fixture
def host(site: Site, puppet: TlsFiles, tmp_path: Path) -> Iterator[PuppetServerHost]:
    with ExitStack() as stack:
        yield PuppetServerHost(site, puppet, tmp_path, stack)


def some(path: Path | None) -> Path:
    assert path is not None
    return path


def test_where_all_is_well_all_is_told_and_nothing_is_found(host: PuppetServerHost) -> None:
    host.serve()
    assert {each.severity for each in host.all()} == {Severity.OK}
    codes = [each.code for each in host.all()]
    assert codes == ["configuration", "disk", "server", "server", "puppet", "gateway", "journal"]


# -- each mistake: what is spoiled before the gateway is to start, and the finding


@contextmanager
def plain_http() -> Iterator[int]:
    """The port of a server that speaks HTTP in clear text."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def forbidding(request: Request) -> Answer:
    """PuppetDB with a certificate-allowlist: its status is open to all."""
    if request.target.startswith("/status/"):
        return healthy(request)
    return answer(b"The client certificate name (puppet) doesn't appear in the certificate allowlist.", 403)


def of_another_time(request: Request) -> Answer:
    pieces = [bytes(piece) for piece in healthy(request).pieces]
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() - 7200)).encode()
    return Answer([pieces[0].replace(b"\r\n", b"\r\nDate: " + date + b"\r\n", 1), *pieces[1:]])


def of_no_version(request: Request) -> Answer:
    return answer({}) if request.target.startswith("/pdb/meta/") else healthy(request)


def expired(host: PuppetServerHost) -> None:
    host.instead(healthy, host.site.pki.authority.issue("old", days=-1))


def another_name(host: PuppetServerHost) -> None:
    host.instead(healthy, host.site.pki.authority.issue("elsewhere", names=["puppetdb.example"]))


def another_ca(host: PuppetServerHost) -> None:
    host.instead(healthy, host.site.pki.foreign.issue("server"), client_cas=host.site.pki.server)


def unknown_to_it(host: PuppetServerHost) -> None:
    pki = host.site.pki
    host.instead(healthy, pki.server, client_cas=pki.foreign.issue("server"))


def nobody_there(host: PuppetServerHost) -> None:
    host.urls[0] = f"https://localhost:{free_port()}"
    host.write()


def no_answer_at_all(host: PuppetServerHost) -> None:
    host.site.proxy.fault = BlackHole()
    host.urls[0] = f"https://localhost:{host.site.proxy.port}"
    host.write()


def one_only(host: PuppetServerHost) -> None:
    del host.urls[1]
    host.write()


def misspelled(host: PuppetServerHost) -> None:
    host.own = {"journl": "/var/lib/pdbclient/journal.db"}
    host.write()


def no_such_certificate(host: PuppetServerHost) -> None:
    host.own["ssl_cert"] = host.own["ssl_key"] = str(host.directory / "nowhere.pem")
    host.write()


def no_directory(host: PuppetServerHost) -> None:
    host.own["journal"] = str(host.directory / "nowhere/journal.db")
    host.write()


def a_name_that_is_not_in_the_certificate(host: PuppetServerHost) -> None:
    host.gateway_url = host.gateway_url.replace("localhost", "127.0.0.1")
    host.write()


def open_key(host: PuppetServerHost) -> None:
    for path in (host.directory, *host.directory.parents):
        if not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 0o1)
    key = host.directory / "key.pem"
    key.write_bytes(some(host.tls.key).read_bytes())
    key.chmod(0o644)
    host.own |= {"ssl_cert": str(host.tls.cert), "ssl_key": str(key)}
    host.write()


def junk_for_a_journal(host: PuppetServerHost) -> None:
    Path(host.own["journal"]).write_bytes(b"hello\n" * 100)


def past_the_gateway(host: PuppetServerHost) -> None:
    """Somebody has changed the order."""
    text = host.conf.read_text().replace(f"{host.gateway_url}, {host.urls[0]}", f"{host.urls[0]}, {host.gateway_url}")
    host.conf.write_text(text)


def no_reports(host: PuppetServerHost) -> None:
    path = host.directory / "puppet.conf"
    path.write_text(path.read_text().replace("reports = store,puppetdb", "reports = store"))


def no_routes(host: PuppetServerHost) -> None:
    (host.directory / "routes.yaml").unlink()


MISTAKES: dict[str, tuple[Callable[[PuppetServerHost], object], str, str]] = {
    # What is done, the code of the only finding, and what it says.
    "the server's certificate has expired": (expired, "server-certificate", "certificate has expired"),
    "the server's certificate is for another name": (another_name, "server-certificate", "Hostname mismatch"),
    "the server is of another CA": (another_ca, "server-certificate", "its certificate is not accepted"),
    "our CA is unknown there": (unknown_to_it, "server-refuses-certificate", "it refuses our certificate"),
    "nobody listens": (nobody_there, "server-unreachable", "Connection refused"),
    "no answer at all": (no_answer_at_all, "server-unreachable", "within the connect timeout"),
    "a Puppet Server": (lambda host: host.instead(SERVICE_NOT_FOUND), "server-not-puppetdb", "that is no PuppetDB"),
    "some web site": (lambda host: host.instead(answer({"a": 1})), "server-not-puppetdb", "that is no PuppetDB"),
    "no version": (lambda host: host.instead(of_no_version), "server-not-puppetdb", "does not tell its version"),
    "the allowlist": (lambda host: host.instead(forbidding), "server-forbids", "certificate allowlist"),
    "it is only starting": (lambda host: host.instead(starting), "server-busy", ""),
    "its clock": (lambda host: host.instead(of_another_time), "clocks-differ", "s ahead of its clock"),
    "one server only": (one_only, "one-server-only", "the only one of server_urls"),
    "past the gateway": (past_the_gateway, "puppet-goes-elsewhere", "[main] server_urls is"),
    "no reports": (no_reports, "puppet-goes-elsewhere", "reports is 'store', and should be 'store,puppetdb'"),
    "an open key": (open_key, "secret-open-to-all", "a private key"),
}
"""With these, the gateway runs."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_by_its_own_name_and_nothing_beside_it(host: PuppetServerHost, mistake: str) -> None:
    spoil, code, words = MISTAKES[mistake]
    spoil(host)
    host.serve()
    (finding,) = host.found()
    assert finding.code == code
    assert words in finding.what
    assert finding.do


def test_routes_that_are_missing_are_found_setting_by_setting(host: PuppetServerHost) -> None:
    no_routes(host)
    host.serve()
    assert [(each.code, each.what) for each in host.found()] == [
        ("puppet-goes-elsewhere", "master.facts.terminus is not set, and should be 'puppetdb'"),
        ("puppet-goes-elsewhere", "master.facts.cache is not set, and should be 'yaml'"),
    ]
    setup = f"`pdbclient terminus setup --confdir {host.directory} --for server --write` does it"
    assert all(each.do.startswith(setup) for each in host.found())


def test_plain_http_is_called_so(host: PuppetServerHost) -> None:
    with plain_http() as port:
        host.urls[0] = f"https://localhost:{port}"
        host.write()
        host.serve()
        (finding,) = host.found()
    assert finding.code == "server-plain-http"
    assert "that is plain HTTP" in finding.what
    assert "8081" in finding.do


def test_one_server_that_hangs_delays_nothing_else(host: PuppetServerHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes is a limit for each question, not for each server one after the other."""
    released = threading.Event()

    def hanging(request: Request) -> Answer:
        if request.is_query:
            released.wait(20)
        return healthy(request)

    monkeypatch.setattr(servers, "ONE_QUESTION", 1.0)
    other = host.instead(hanging)
    host.urls.insert(1, f"https://localhost:{other.port}")
    host.instead(hanging)
    host.serve()
    began = time.monotonic()
    try:
        findings = host.all()
    finally:
        released.set()
    assert time.monotonic() - began < 4.0
    assert [each.code for each in findings if each.severity is Severity.PROBLEM] == ["server-hangs"] * 2
    assert [each.where for each in findings if each.code == "server"] == [host.urls[2]]


# -- with these, the gateway does not start, or nobody lets it be one


BEFORE: dict[str, tuple[Callable[[PuppetServerHost], object], Mapping[str, str]]] = {
    "a setting that is misspelled": (misspelled, {"configuration": "journl: unknown setting: did you mean journal?"}),
    "a certificate that is not there": (
        no_such_certificate,
        {"configuration": "nowhere.pem does not exist", "gateway-not-used": "Connection refused"},
    ),
    "a journal without its directory": (
        no_directory,
        {"configuration": "does not exist: make it", "gateway-not-used": "Connection refused"},
    ),
    "a journal that is none": (
        junk_for_a_journal,
        {"journal-unusable": "is no journal", "gateway-not-used": "Connection refused"},
    ),
    "a name that is not in the certificate": (
        a_name_that_is_not_in_the_certificate,
        {"configuration": "no client of gateway_url accepts it: IP address mismatch", "gateway-not-used": "refused"},
    ),
    "nothing": (lambda host: None, {"gateway-not-used": "Connection refused"}),
}


@pytest.mark.parametrize("mistake", BEFORE)
def test_what_keeps_the_gateway_from_starting_is_found(host: PuppetServerHost, mistake: str) -> None:
    spoil, expected = BEFORE[mistake]
    spoil(host)
    findings = host.found()
    for code, words in expected.items():
        assert [each.what for each in findings if each.code == code and words in each.what], findings
    assert {each.code for each in findings} == set(expected)


def test_our_certificate_that_has_expired_is_found_here_and_where_it_is_refused(host: PuppetServerHost) -> None:
    late = host.site.pki.authority.issue("late", days=-1)
    host.own |= {"ssl_cert": str(late.cert), "ssl_key": str(late.key)}
    host.write()
    found = host.found()
    assert [each.code for each in found] == [
        "configuration",
        *["server-refuses-certificate"] * 2,
        "gateway-not-used",
    ]
    assert all("expired on" in each.what for each in found[:3])


def test_the_key_of_another_certificate_is_found(host: PuppetServerHost) -> None:
    other = host.site.pki.authority.issue("other")
    host.own |= {"ssl_cert": str(host.tls.cert), "ssl_key": str(other.key)}
    host.write()
    found = host.found()
    assert [each.code for each in found] == ["configuration", "gateway-not-used"]
    assert "is not the key of the certificate" in found[0].what


def test_psycopg_that_is_missing_is_found(host: PuppetServerHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    host.own["journal"] = "postgresql://pdb:secret@db.example/journal"
    host.write()
    found = host.found()
    assert {each.code for each in found} == {"configuration", "journal-unusable", "gateway-not-used"}
    assert all("psycopg" in each.what for each in found[:1])
    assert "secret" not in str(found)


def test_a_gateway_that_nobody_calls_one_is_found(host: PuppetServerHost) -> None:
    host.serve()
    host.own = {"gateway_url": ""}
    host.write()
    found = [each for each in host.found() if each.code == "server-is-gateway"]
    assert [each.where for each in found] == [host.gateway_url]
    assert f"gateway_url = {host.gateway_url}" in found[0].do


def test_puppet_that_the_gateway_does_not_let_in_is_found(host: PuppetServerHost) -> None:
    host.serve(gateway_allow=("somebody",))
    (finding,) = host.found()
    assert (finding.code, finding.where) == ("gateway-forbids-puppet", host.gateway_url)
    assert "add puppet to gateway_allow" in finding.do


def test_another_service_in_the_place_of_the_gateway_is_found(host: PuppetServerHost) -> None:
    other = host.site.server()
    host.gateway_url = f"https://localhost:{other.port}"
    host.write()
    (finding,) = host.found()
    assert (finding.code, finding.where) == ("gateway-is-another", host.gateway_url)


def test_what_waits_in_the_journal_and_what_was_rejected_is_found(host: PuppetServerHost) -> None:
    with Journal.open(host.own["journal"]) as journal:
        journal.clock = lambda: time.time() - 7200
        journal.append(deactivation(), [""]).result()
    found = [each for each in host.found() if each.code == "journal-undelivered"]
    assert ["120 min" in each.what for each in found] == [True]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_journal_of_another_user_is_found(host: PuppetServerHost) -> None:
    """Somebody has started the gateway as root once."""
    Journal.open(host.own["journal"]).close()
    os.chown(host.own["journal"], 65534, 65534)
    found = [each.what for each in host.found() if each.code == "journal-unusable"]
    assert ["belongs to the user nobody (65534)" in what for what in found] == [True]


# -- beside a PuppetDB


class Peer:
    """The host of a PuppetDB with its reconciler, and the other PuppetDB."""

    def __init__(self, site: Site, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.directory = site, directory
        self.local, self.remote = (f"https://localhost:{each.port}" for each in (site.primary, site.replica))
        self.conf = directory / "sync.conf"
        self.conf_d = directory / "conf.d"
        self.conf_d.mkdir()
        (self.conf_d / "jetty.ini").write_text(f"[jetty]\nssl-port = {site.primary.port}\n")
        monkeypatch.setattr(read_puppetdb, "__defaults__", ((self.conf_d,),))
        self.write()

    def write(self, more: str = "") -> None:
        tls = self.site.pki.client
        self.conf.write_text(
            f'sync: {{\n  local_url: "{self.local}"\n  remotes: [{{server_url: "{self.remote}", interval: 5m}}]\n'
            f'  ssl_ca_cert: "{tls.ca}", ssl_cert: "{tls.cert}", ssl_key: "{tls.key}"\n'
            f'  state_dir: "{self.directory}/state"\n{more}}}\n'
        )

    def remember(self, result: PassResult, at: float | None = None) -> None:
        path = state_path(self.directory / "state", Endpoint("localhost", self.site.primary.port))
        path.parent.mkdir(exist_ok=True)
        state = State(path)
        state.remember_pass(result, time.time() if at is None else at)
        state.close()

    def passed(self, *errors: str, outcome: Outcome = Outcome.DONE, ago: float = 60.0) -> None:
        self.remember(PassResult(self.remote, outcome, {}, errors, 10), time.time() - ago)

    def found(self) -> list[tuple[str, str]]:
        facts = Facts(look(Role.PUPPETDB, self.conf), UnitFacts("pdbclient-sync"))
        return [(each.code, each.what) for each in judge(facts) if each.severity is not Severity.OK]


@pytest.fixture
def peer(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    peer = Peer(site, tmp_path, monkeypatch)
    peer.passed()
    return peer


def test_beside_a_puppetdb_where_all_is_well_nothing_is_found(peer: Peer) -> None:
    assert peer.found() == []


def test_a_reconciler_that_never_ran_is_found(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [code for code, _ in Peer(site, tmp_path, monkeypatch).found()] == ["sync-never-ran"]


def test_a_reconciler_that_lags_fails_or_was_braked_is_found(peer: Peer) -> None:
    peer.passed(ago=7200.0)
    assert [code for code, _ in peer.found()] == ["sync-lags"]
    peer.passed("facts: the database is on fire")
    assert peer.found() == [("sync-failed", "facts: the database is on fire")]
    brake = f"nodes: {SafetyBrake('the remote has no nodes at all')}"
    peer.passed(brake)
    assert peer.found() == [("sync-braked", brake)]
    peer.passed("the clocks are 90 s apart", outcome=Outcome.REFUSED)
    assert peer.found() == [("sync-failed", "the clocks are 90 s apart")]


def test_a_record_in_quarantine_is_found(peer: Peer) -> None:
    path = state_path(peer.directory / "state", Endpoint("localhost", peer.site.primary.port))
    state = State(path)
    for _ in range(3):
        state.remember_refused(peer.remote, Entity.FACTS, {"a.example": (Version(1, "h"), "rejected")}, time.time())
    state.close()
    assert peer.found() == [("sync-quarantined", "1 records are left alone")]


def test_a_time_to_live_that_is_not_puppetdbs_is_found(peer: Peer) -> None:
    (peer.conf_d / "database.ini").write_text("[database]\npassword = secret\nreport-ttl = 30d\n")
    ((code, what),) = peer.found()
    assert code == "configuration-doubtful"
    assert what.startswith("report-ttl: is 30d, but report_ttl of the reconciler is 14d (by default)")


def test_a_bracket_that_is_missing_is_told_in_words(peer: Peer) -> None:
    peer.conf.write_text(peer.conf.read_text().replace("interval: 5m}]", "interval: 5m}"))
    (first, second) = peer.found()
    assert first[0] == second[0] == "configuration"
    assert "not valid HOCON" in first[1]
    assert "rbrac" not in first[1]
    assert "were not looked at" in second[1]


def test_a_state_file_that_is_none_is_found(peer: Peer) -> None:
    path = state_path(peer.directory / "state", Endpoint("localhost", peer.site.primary.port))
    path.write_bytes(b"hello\n" * 1000)
    assert [code for code, _ in peer.found()] == ["sync-state-unusable"]
