"""The Puppet module: hosts from nothing to a first run, by `puppet apply` itself, on Puppet 7 and 8.

The program is this checkout's. Services run under Puppet's `base` provider, with the module's own reload command:
there is no systemd here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from pdbclient.config import load_config, load_sync_config
from pdbclient.config.model import Endpoint, Timeouts
from pdbclient.http.session import Session
from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port
from pdbclient.lab.samples import Samples
from pdbclient.wire.command import Command
from tests.soak import LONG

from .puppet.evidence import assert_stored, assert_untouched
from .puppet.gateway import Gateway
from .puppet.installation import EXAMPLES, Installation
from .puppet.outage import PRIMARY, REPLICA
from .puppet.process import Server
from .puppet.run import Run, puppet
from .puppet.server_site import Agent, PuppetServer
from .puppet.services import Services
from .puppet.stock import PUPPETS, StockPuppet, parameters

pytestmark = pytest.mark.integration

MODULE = EXAMPLES / "modules/pdbclient"
NODE, SERVER, PDB, SEEDED = "node1.mycorp.net", "puppet.mycorp.net", "pdb1.mycorp.net", "seeded.mycorp.net"
GATEWAY, SYNC = "pdbclient-gateway", "pdbclient-sync"
RELOAD = "try-reload-or-restart"

INSTALLED = [each for each in PUPPETS if each.installed]

PUPPET_CONF = """\
# By hand, before the module.
[main]
certname = {certname}
ssldir = {root}/etc/puppetlabs/puppet/ssl
vardir = {root}/opt/puppetlabs/puppet/cache
publicdir = {root}/opt/puppetlabs/puppet/public
logdir = {root}/var/log/puppetlabs/puppet
rundir = {root}/var/run/puppetlabs
codedir = {root}/etc/puppetlabs/code
"""
SERVER_SECTION = """\

[server]
vardir = {root}/opt/puppetlabs/server/data/puppetserver
logdir = {root}/var/log/puppetlabs/puppetserver
rundir = {root}/var/run/puppetlabs/puppetserver
"""
PUPPETSERVER = """
service { 'puppetserver':
  ensure   => running,
  provider => base,
  start    => 'systemctl start puppetserver',
  stop     => 'systemctl stop puppetserver',
  status   => 'systemctl status puppetserver',
}
"""
PROGRAM = """\
#!/bin/sh
PYTHONPATH={checkout} exec {python} -m pdbclient "$@"
"""
# Instead of systemd's own, which there is none of; how a service is reloaded is the module's matter.
BASE = """
Service <| tag == 'pdbclient' |> { provider => base }
Service <| title == 'pdbclient-gateway' |> {
  start => 'systemctl start pdbclient-gateway',
  stop => 'systemctl stop pdbclient-gateway',
  status => 'systemctl status pdbclient-gateway',
}
Service <| title == 'pdbclient-sync' |> {
  start => 'systemctl start pdbclient-sync',
  stop => 'systemctl stop pdbclient-sync',
  status => 'systemctl status pdbclient-sync',
}
"""


class ModuleHost:
    """A host with Puppet, a certificate, the program, and nothing else of pdbclient."""

    def __init__(
        self, root: Path, lab: Lab, certname: str, stock: StockPuppet, installation: Installation | None = None
    ) -> None:
        self.lab = lab
        self.installation = installation or Installation(root, certname)
        if installation is None:
            self.installation.make(lab)
        self.bin = root / "usr/bin"
        self.bin.mkdir(parents=True)
        self.program = self.bin / "pdbclient"
        self.program.write_text(PROGRAM.format(checkout=EXAMPLES.parent, python=sys.executable))
        self.program.chmod(0o755)
        (self.confdir / "puppet.conf").write_text(PUPPET_CONF.format(certname=certname, root=root))
        environment = dict(stock.environment())
        self._environment = {**environment, "PATH": f"{self.bin}{os.pathsep}{environment['PATH']}"}

    @property
    def confdir(self) -> Path:
        return self.installation.confdir

    def url(self, name: str) -> str:
        return f"https://localhost:{self.lab.node(name).https_port}"

    def apply(self, manifest: str, *options: str, command: bool = True) -> Run:
        """Apply these declarations. Without `command`, the program is to come as a package."""
        program = f"class {{ 'pdbclient': manage_package => false, command => '{self.program}' }}\n"
        file = self.installation.root / "host.pp"
        file.write_text((program if command else "") + manifest + BASE)
        return puppet(
            ["apply", *("--modulepath", MODULE.parent, "--confdir", self.confdir), "--detailed-exitcodes",
             *("--color", "false"), *options, file],
            self.installation.root,
            self._environment,
        )  # fmt: skip

    def configuration(self) -> dict[str, tuple[bytes, int]]:
        """Puppet's own files, and whatever the module leaves beside them: contents and modes."""
        files = [path for path in self.confdir.iterdir() if path.is_file()]
        return {path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in files}


class Reconciler:
    """`pdbclient sync run`, as its unit starts it."""

    def __init__(self, command: list[str | Path], log: Path) -> None:
        self._command, self._log = command, log
        self.process: Server | None = None

    def start(self) -> None:
        self.process = Server(self._command, self._log)

    def running(self) -> bool:
        return self.process is not None and self.process.running()

    def reload(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGHUP)

    def stop(self) -> int:
        assert self.process is not None
        return self.process.stop()


@pytest.fixture
def new_host(stock: StockPuppet, pair: Lab, lab_directory: Path) -> Iterator[Callable[[str], ModuleHost]]:
    """Makes hosts on which nothing has been done yet; the pair is well and empty."""
    made: list[Path] = []

    def make(certname: str) -> ModuleHost:
        root = lab_directory / f"module-{stock.name}-{certname}"
        made.append(root)
        return ModuleHost(root, pair, certname, stock)

    yield make
    for root in made:
        shutil.rmtree(root)


def gateway_host(
    host: ModuleHost,
    port: int,
    *,
    ensure: str = "present",
    target: str = "apply",
    puppet_service: str | None = None,
    **settings: object,
) -> str:
    """A host with the gateway; `settings` are further ones of `[pdbclient]`."""
    service = "undef" if puppet_service is None else f"'{puppet_service}'"
    own = ", ".join(f"{name} => '{value}'" for name, value in settings.items())
    return f"""
class {{ 'pdbclient::terminus':
  ensure      => '{ensure}',
  server_urls => ['{host.url(PRIMARY)}', '{host.url(REPLICA)}'],
  target      => '{target}',
  gateway     => 'https://localhost:{port}',
  journal     => '{host.installation.root}/journal.db',
  puppet_service => {service},
  settings    => {{ 'main' => {{ 'server_url_timeout' => 20 }}, 'pdbclient' => {{ {own} }} }},
}}
class {{ 'pdbclient::gateway': ensure => '{ensure}' }}
"""


def gateway_of(host: ModuleHost) -> Gateway:
    """The gateway, with its unit's command line."""
    conf = host.installation.puppetdb_conf
    return Gateway(conf, host.installation.root / "gateway.log", [host.program, "gateway", "--config", conf])


def sync_host(host: ModuleHost, *, ensure: str = "present", **settings: object) -> str:
    """The host of the primary, which pulls from the replica."""
    ssl, certname = host.installation.ssldir, host.installation.certname
    more = ", ".join(f"'{name.replace('_', '-')}' => {value!r}" for name, value in settings.items())
    return f"""
class {{ 'pdbclient::sync':
  ensure      => '{ensure}',
  remotes     => [{{ 'server_url' => '{host.url(REPLICA)}', 'interval' => '1h' }}],
  local_url   => '{host.url(PRIMARY)}',
  state_dir   => '{host.installation.root}/state',
  ssl_ca_cert => '{ssl}/certs/ca.pem',
  ssl_cert    => '{ssl}/certs/{certname}.pem',
  ssl_key     => '{ssl}/private_keys/{certname}.pem',
  config_file => '{sync_conf(host)}',
  settings    => {{ {more} }},
}}
"""


def sync_conf(host: ModuleHost) -> Path:
    return host.installation.root / "sync.conf"


def reconciler_of(host: ModuleHost) -> Reconciler:
    """The reconciler, with its unit's command line."""
    command: list[str | Path] = [host.program, "sync", "run", "--config", sync_conf(host)]
    return Reconciler(command, host.installation.root / "sync.log")


def seed_replica(pair: Lab) -> None:
    """The replica has facts of a node that the primary does not know."""
    config = load_config(pair.puppetdb_conf)
    with closing(Session(Endpoint("localhost", pair.node(REPLICA).https_port), config.tls, Timeouts())) as session:
        now = datetime.now(UTC)
        facts = Samples(pair.puppetdb_jar).facts(SEEDED, 0, now)
        session.submit(Command.create("replace facts", facts, now=now))
    pair.settle(REPLICA)


def pulled(pair: Lab) -> bool:
    """Whether the primary has them."""
    return (SEEDED,) in pair.sql(PRIMARY, "select certname from factsets")


@pytest.mark.parametrize("stock", list(parameters(PUPPETS)))
def test_a_host_with_both_roles_from_nothing_to_a_run_and_a_pass_and_back(
    new_host: Callable[[str], ModuleHost], pair: Lab
) -> None:
    """A small site has its reconciler beside the gateway. In the long form, hosts of one role are made, too."""
    host, by_hand = new_host(NODE), "# By hand.\nsync: {}\n"
    sync_conf(host).write_text(by_hand)
    before, gateway, reconciler, port = host.configuration(), gateway_of(host), reconciler_of(host), free_port()
    manifest = gateway_host(host, port) + sync_host(host)
    seed_replica(pair)
    with Services(host.bin, {GATEWAY: gateway, SYNC: reconciler}) as services:
        host.apply(manifest).require(2)
        assert [name for action, name in services.asked if action == "start"] == [GATEWAY, SYNC]
        eventually(lambda: pulled(pair))
        pid = gateway.pid
        assert host.apply(manifest).require(0).failovers == []
        assert journalled(host) == 3, "facts, catalog and report came through the gateway"

        services.asked.clear()
        local, status = f"http://127.0.0.1:{free_port()}", free_port()
        changed = gateway_host(host, port, gateway_local_url=local) + sync_host(host, status_port=status)
        host.apply(changed).require(2)
        assert services.asked == [(RELOAD, GATEWAY), (RELOAD, SYNC)]
        eventually(lambda: answers(f"{local}/status/v1/simple"))
        eventually(lambda: answers(f"http://127.0.0.1:{status}/status"))
        assert (gateway.pid, reconciler.running()) == (pid, True)

        services.asked.clear()
        absent = gateway_host(host, port, ensure="absent", gateway_local_url=local) + sync_host(host, ensure="absent")
        host.apply(absent).require(2)
        assert services.asked == [("stop", GATEWAY), ("stop", SYNC)]
    assert host.configuration() == before
    assert sync_conf(host).read_text() == by_hand


if LONG:

    @pytest.mark.soak
    @pytest.mark.parametrize("stock", list(parameters(PUPPETS)))
    def test_a_host_of_puppet_apply_from_nothing_to_a_run_through_the_gateway_and_back(
        new_host: Callable[[str], ModuleHost], pair: Lab
    ) -> None:
        """A second run changes nothing, and is the first through the gateway; a changed parameter reloads it."""
        host = new_host(NODE)
        before, port, local = host.configuration(), free_port(), free_port()
        gateway, manifest = gateway_of(host), gateway_host(host, port)
        with Services(host.bin, {GATEWAY: gateway}) as services:
            host.apply(manifest).require(2)
            assert services.asked == [(RELOAD, GATEWAY), ("start", GATEWAY)]
            written, pid = host.configuration(), gateway.pid

            again = host.apply(manifest).require(0)
            assert again.failovers == []
            assert host.configuration() == written
            assert_stored(pair, PRIMARY, [NODE])
            assert_untouched(pair, REPLICA)
            assert journalled(host) == 3, "facts, catalog and report came through the gateway"

            changed = gateway_host(host, port, gateway_local_url=f"http://127.0.0.1:{local}")
            services.asked.clear()
            promised = host.apply(changed, "--noop").require(0)
            assert would_change(promised) == ["Exec[pdbclient: gateway settings]"]
            assert would_refresh(promised) == ["Exec[pdbclient: reload the gateway]"]
            assert (host.configuration(), services.asked) == (written, [])
            host.apply(changed).require(2)
            assert services.asked == [(RELOAD, GATEWAY)]
            eventually(lambda: answers(f"http://127.0.0.1:{local}/status/v1/simple"))
            assert gateway.pid == pid

            services.asked.clear()
            absent = gateway_host(host, port, ensure="absent", gateway_local_url=f"http://127.0.0.1:{local}")
            host.apply(absent).require(2)
            assert services.asked == [("stop", GATEWAY)]
            assert host.configuration() == before
            host.apply(absent).require(0)

    @pytest.mark.soak
    @pytest.mark.parametrize("stock", list(parameters(PUPPETS)))
    def test_the_host_of_a_puppetdb_from_nothing_to_a_first_pass_and_back(
        new_host: Callable[[str], ModuleHost], pair: Lab
    ) -> None:
        """What the replica has comes; a changed parameter reloads; what was written by hand before is there again."""
        host, by_hand = new_host(PDB), "# By hand.\nsync: {}\n"
        sync_conf(host).write_text(by_hand)
        seed_replica(pair)
        reconciler = reconciler_of(host)
        with Services(host.bin, {SYNC: reconciler}) as services:
            host.apply(sync_host(host, report_ttl="14d")).require(2)
            assert services.asked == [(RELOAD, SYNC), ("start", SYNC)]
            eventually(lambda: pulled(pair))
            host.apply(sync_host(host, report_ttl="14d")).require(0)

            services.asked.clear()
            port = free_port()
            host.apply(sync_host(host, report_ttl="14d", status_port=port)).require(2)
            assert services.asked == [(RELOAD, SYNC)]
            assert reconciler.running()
            eventually(lambda: answers(f"http://127.0.0.1:{port}/status"))

            services.asked.clear()
            absent = sync_host(host, ensure="absent")
            host.apply(absent).require(2)
            assert services.asked == [("stop", SYNC)]
            assert sync_conf(host).read_text() == by_hand
            host.apply(absent).require(0)

    @pytest.mark.soak
    @pytest.mark.parametrize("stock", list(parameters(INSTALLED)))
    def test_a_puppet_server_from_nothing_to_an_agents_run_through_the_gateway(
        new_host: Callable[[str], ModuleHost], pair: Lab, lab_directory: Path
    ) -> None:
        """Restarted when what it reads has changed, and once the gateway is there; else only the gateway reloads."""
        root = lab_directory / "module-puppetserver"
        server = PuppetServer(root, pair, SERVER)
        host = ModuleHost(root, pair, SERVER, INSTALLED[0], server.installation)
        with (host.confdir / "puppet.conf").open("a") as conf:
            conf.write(SERVER_SECTION.format(root=root))
        gateway, port, local = gateway_of(host), free_port(), free_port()
        agent = Agent(lab_directory / "module-agent", pair, server, NODE)
        server.manifest("")
        services = Services(host.bin, {GATEWAY: gateway, "puppetserver": server})
        server.start()
        with services:
            manifest = gateway_host(host, port, target="server", puppet_service="puppetserver")
            host.apply(manifest + PUPPETSERVER).require(2)
            restarted = [("start", GATEWAY), ("stop", "puppetserver"), ("start", "puppetserver")]
            assert services.asked == [(RELOAD, GATEWAY), *restarted]
            host.apply(manifest + PUPPETSERVER).require(0)
            run, failed_over = agent.run()
            run.require(0)
            assert failed_over == []
            assert_stored(pair, PRIMARY, [NODE])
            assert journalled(host) == 3

            services.asked.clear()
            url = f"http://127.0.0.1:{local}"
            changed = gateway_host(host, port, target="server", puppet_service="puppetserver", gateway_local_url=url)
            host.apply(changed + PUPPETSERVER).require(2)
            assert services.asked == [(RELOAD, GATEWAY)]
            eventually(lambda: answers(f"{url}/status/v1/simple"))


TYPED = {
    "Url": (
        ["https://a:8081", "https://[::1]:8081/", "https://a"],
        ["http://a:8081", "https://a,https://b", "a:8081", ""],
    ),
    # A password would be readable by everybody in puppetdb.conf.
    "Journal": (["/j.db", "postgresql://u@db/j", "postgres:///j"], ["j.db", "postgresql://u:p@db/j", "mysql://db/j"]),
    "Interval": (["5m", "500ms", "14d"], ["5", "5 m", "m"]),
    "Path": (["/a b"], ["a", "/a\\nb"]),
}


def type_checks() -> str:
    """Declarations that fail where a type takes what it should not, or the other way round."""
    judged = [("!~", name, value) for name, (good, _) in TYPED.items() for value in good]
    judged += [("=~", name, value) for name, (_, bad) in TYPED.items() for value in bad]
    return "".join(
        f'if "{value}" {sign} Pdbclient::{name} {{ fail("Pdbclient::{name}: {value}") }}\n'
        for sign, name, value in judged
    )


@pytest.mark.parametrize("stock", list(parameters(INSTALLED)))
def test_a_run_without_effect_on_a_new_host_names_all_that_would_be_done(
    new_host: Callable[[str], ModuleHost],
) -> None:
    """The program itself is not there yet. And a setting that pdbclient would refuse stops what depends on it."""
    host = new_host(NODE)
    before = host.configuration()
    host.program.rename(host.program.with_name("later"))
    manifest = gateway_host(host, free_port()) + sync_host(host)
    with Services(host.bin, {}):
        run = host.apply(type_checks() + manifest, "--noop", command=False).require(0)
    assert would_change(run) == [
        "Package[pdbclient]",
        "Exec[pdbclient: terminus settings]",
        "Exec[pdbclient: gateway settings]",
        "Service[pdbclient-gateway]",
        f"File[{sync_conf(host)}]",
        "Service[pdbclient-sync]",
    ]
    assert host.configuration() == before
    assert not sync_conf(host).exists()

    host.program.with_name("later").rename(host.program)
    with Services(host.bin, {}) as services:
        run = host.apply(gateway_host(host, free_port(), journal_rate="fast") + sync_host(host, report_ttl="soon"))
        assert services.asked == [], "nothing is reloaded or started with a wrong setting"
    run.require(6)
    assert re.search(r"puppetdb.conf:\d+: journal_rate: must be a whole number .*, found 'fast'", run.output)
    assert re.search(r"report_ttl: not a duration: 'soon'", run.output)
    assert "gateway_url" in host.installation.puppetdb_conf.read_text()
    assert "journal" not in host.installation.puppetdb_conf.read_text()
    assert not sync_conf(host).exists()


ALONE = """\
class {{ 'pdbclient': manage_package => false, command => '/bin/true' }}
class {{ 'pdbclient::sync':
  remotes     => [{{ server_url => 'https://replica.example.com:8081', interval => '5m' }}],
  config_file => '{file}',
  settings    => {{ {settings} }},
}}
Service <| tag == 'pdbclient' |> {{ provider => base, ensure => undef, enable => undef }}
Exec <| title == 'pdbclient: reload the reconciler' |> {{ command => 'true' }}
notice(pdbclient::options('main', {{ {settings} }}))
"""


@pytest.mark.parametrize("stock", [each for each in PUPPETS if each.installed])
@pytest.mark.parametrize(
    ("settings", "said", "silent"),
    [
        ("", ('ssl_crl: "{crl}"', 'state_dir: "/var/lib/pdbclient-sync"'), ()),
        ("'ssl_crl' => undef", (), ("ssl_crl",)),
        (
            "'ssl-crl' => '/a.pem', 'state-dir' => '/b'",
            ('ssl_crl: "/a.pem"', 'state_dir: "/b"'),
            ("ssl-crl", "state-"),
        ),
        ("'report_ttl' => '7d', 'report-ttl' => '14d'", ('report_ttl: "14d"',), ("7d", "report-ttl")),
        ("'local-url' => 'https://x:8081'", ('local_url: "https://x:8081"',), ("local-url",)),
    ],
)
def test_a_setting_has_two_spellings_and_is_one(
    stock: StockPuppet, tmp_path: Path, settings: str, said: tuple[str, ...], silent: tuple[str, ...]
) -> None:
    """And the reconciler has Puppet's own revocation list, unless it is to have another one or none."""
    file, confdir = tmp_path / "sync.conf", tmp_path / "puppet"
    confdir.mkdir()
    (confdir / "puppet.conf").write_text(f"[main]\nssldir = {confdir}/ssl\n")
    manifest = tmp_path / "host.pp"
    manifest.write_text(ALONE.format(file=file, settings=settings))
    options: list[str | Path] = ["--modulepath", MODULE.parent, "--confdir", confdir, "--vardir", tmp_path / "var"]
    run = puppet(["apply", "--detailed-exitcodes", *options, manifest], tmp_path, stock.environment()).require(2)
    assert not re.search(r"main\.\w*-", run.output), "nor has a setting of puppetdb.conf"
    text = file.read_text()
    for line in said:
        assert f"\n  {line.format(crl=confdir / 'ssl/crl.pem')}\n" in text
    assert [word for word in silent if word in text] == []
    config = load_sync_config(file, check_files=False)
    assert config.tls.revocation == ("false" if "ssl_crl" in silent else "chain")


def test_puppet_lint_and_puppet_strings_find_nothing(tmp_path: Path) -> None:
    """Style, and what is not documented: each class, parameter, function and type is."""
    assert said_by("puppet-lint", "--fail-on-warnings", MODULE, cwd=tmp_path) == ""
    copy = tmp_path / "pdbclient"
    shutil.copytree(MODULE, copy)
    assert "[warn]" not in said_by("puppet", "strings", "generate", "--format", "markdown", cwd=copy)
    described = (copy / "REFERENCE.md").read_text()
    for name in ("terminus", "gateway", "sync"):
        assert f"### `pdbclient::{name}`" in re.sub("<a .*?></a>", "", described)


def said_by(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def journalled(host: ModuleHost) -> int:
    """How many commands the journal has."""
    done = subprocess.run(
        [host.program, "journal", "list", "--config", host.installation.puppetdb_conf, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return len(json.loads(done.stdout))


def would_change(run: Run) -> list[str]:
    """The resources that a run without effect says it would have changed, in order."""
    return re.findall(r"/(\w+\[[^]]*\])/\w+: .* \(noop\)", run.output)


def would_refresh(run: Run) -> list[str]:
    """Those that it would have refreshed, classes left out."""
    return re.findall(r"/(\w+\[[^]]*\]): Would have triggered", run.output)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def eventually(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.2)
