"""After `pdbclient terminus setup --write`, Puppet itself sees what is meant; after `--undo`, what was there.

Needs Debian's puppet-agent and puppet-terminus-puppetdb: the real `puppet config print`, the stock terminus'
own parser, and Puppet's own reader of routes.yaml.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pdbclient.cli.main import main

pytestmark = pytest.mark.integration

URLS = "https://primary-puppetdb.mycorp.net:8081,https://replica-puppetdb.mycorp.net:8081"
GATEWAY = "https://puppet.mycorp.net:8085"

# What the stock terminus reads of puppetdb.conf, and whom an application of Puppet asks, by routes.yaml.
_ASK_RUBY = """
require 'json'
require 'puppet'
require 'puppet/application_support'
require 'puppet/indirector'
require 'puppet/node/facts'
require 'puppet/resource'
require 'puppet/resource/catalog'
require 'puppet/util/puppetdb'
require 'puppet/util/puppetdb/config'
confdir, vardir, mode, application = ARGV
Puppet.settings.preferred_run_mode = mode.to_sym
Puppet.initialize_settings(['--confdir', confdir, '--vardir', vardir])
Puppet::ApplicationSupport.configure_indirector_routes(application)
termini = [Puppet::Node::Facts, Puppet::Resource::Catalog, Puppet::Resource].map do |model|
  [model.indirection.name, [model.indirection.terminus_class, model.indirection.cache_class]]
end
config = Puppet::Util::Puppetdb::Config.load
puts({
  urls: config.server_urls.map(&:to_s),
  timeout: config.server_url_timeout,
  termini: termini.to_h,
}.to_json)
"""

AIO = """\
# This file is managed by hand.
[main]
certname = puppet.mycorp.net
reports = log

[agent]
\tserver = puppet.mycorp.net
\tenvironment = production

[master]
    # Reports go to the dashboard too.
    reports = store, http
    autosign = /etc/puppet/autosign.conf { mode = 644 }
    storeconfigs = false
    dns_alt_names = puppet,puppet.mycorp.net"""
OLD_ROUTES = """\
---
# The inventory of Puppet Server.
server:
  catalog:
    cache: json   # asked for by the audit
  facts:
    terminus: yaml

agent: {node: {cache: yaml}}
"""
OLD_PUPPETDB_CONF = """\
; by hand
[main]
  server_urls = https://primary-puppetdb.mycorp.net:8081, https://replica-puppetdb.mycorp.net:8081
  server_url_timeout = 12
"""


@dataclass(frozen=True)
class ConfdirCase:
    """A confdir as it may be, what it is set up for, and what Puppet is to see."""

    files: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    section: str = "server"
    application: str = "server"
    reports: str = "store,puppetdb"
    urls: tuple[str, ...] = (GATEWAY, *URLS.split(","))
    timeout: int = 30
    facts: tuple[str, str] = ("puppetdb", "yaml")
    resource: str = "store_configs"


NEW = ("--server-urls", URLS, "--gateway-url", GATEWAY)
CASES = {
    "Debian's own files": ConfdirCase(options=NEW),
    "a server with a past": ConfdirCase(
        files={"puppet.conf": AIO, "routes.yaml": OLD_ROUTES, "puppetdb.conf": OLD_PUPPETDB_CONF},
        reports="store, http, puppetdb",
        timeout=12,
    ),
    "a server with CR LF": ConfdirCase(files={"puppet.conf": AIO.replace("\n", "\r\n")}, options=NEW[:2],
                                reports="store, http, puppetdb"),
    "a server without a gateway": ConfdirCase(
        files={"puppet.conf": "reports = puppetdb\n", "puppetdb.conf": OLD_PUPPETDB_CONF},
        options=("--no-gateway",), reports="puppetdb", urls=tuple(URLS.split(",")), timeout=12,
    ),
    "a setting twice and sections in pieces": ConfdirCase(
        files={"puppet.conf": "[server]\nreports = log\n[main]\nreports = http\n[server]\nreports = store\n"},
        options=NEW, reports="log,puppetdb",
    ),
    "puppet apply": ConfdirCase(
        files={"puppet.conf": AIO},
        options=(*NEW, "--for", "apply"),
        section="user", application="apply", reports="log,puppetdb", facts=("facter", "puppetdb_apply"),
        resource="puppetdb",
    ),
}  # fmt: skip


def tree(directory: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Every file and directory: contents, mode, owner and group."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (data, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return found


def output_of(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, f"puppet-agent and puppet-terminus-puppetdb must be installed: {ended.stderr}"
    assert "Error" not in ended.stderr
    return ended.stdout


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_puppet_sees_what_was_set_up_and_undo_gives_the_same_tree_back(tmp_path: Path, case: ConfdirCase) -> None:
    """The settings by Puppet's own command, the servers by the stock parser, the routes by Puppet's reader."""
    confdir, vardir = tmp_path / "puppet", tmp_path / "var"
    shutil.copytree("/etc/puppet", confdir)
    for name, text in case.files.items():
        (confdir / name).write_bytes(text.encode())
        (confdir / name).chmod(0o640)
    before = tree(confdir)
    # The plan alone leaves everything, and says so by its exit code.
    assert main(["terminus", "setup", "--confdir", str(confdir), *case.options]) == 1
    assert tree(confdir) == before
    assert main(["terminus", "setup", "--write", "--confdir", str(confdir), *case.options]) == 0
    after = tree(confdir)
    assert main(["terminus", "setup", "--write", "--confdir", str(confdir), *case.options]) == 0
    assert tree(confdir) == after

    names = ("storeconfigs", "storeconfigs_backend", "reports", "route_file")
    printed = output_of(
        *("puppet", "config", "print", *names, "--section", case.section),
        *("--confdir", str(confdir), "--vardir", str(vardir)),
    )
    assert dict(line.split(" = ", 1) for line in printed.splitlines()) == {
        "storeconfigs": "true",
        "storeconfigs_backend": "puppetdb",
        "reports": case.reports,
        "route_file": f"{confdir}/routes.yaml",
    }
    # Puppet's own programs read files as UTF-8 whatever the locale is; bare ruby goes by the locale.
    seen = json.loads(
        output_of("ruby", "-E", "UTF-8", "-e", _ASK_RUBY, str(confdir), str(vardir), case.section, case.application)
    )
    assert tuple(seen["urls"]) == case.urls
    assert seen["timeout"] == case.timeout
    assert tuple(seen["termini"]["facts"]) == case.facts
    assert seen["termini"]["resource"][0] == case.resource
    # Every other line is where and as it was.
    for name, text in case.files.items():
        lines = (confdir / name).read_bytes().decode().splitlines()
        kept = [line for line in text.splitlines() if line in lines]
        assert len(text.splitlines()) - len(kept) <= 2
        assert [line for line in lines if line in kept] == kept

    assert main(["terminus", "setup", "--undo", "--confdir", str(confdir)]) == 0
    assert tree(confdir) == before


def test_the_agent_of_a_server_does_not_store_configurations(tmp_path: Path) -> None:
    """What a server needs stands in its own section: [main] would make the host's agent a server too."""
    confdir = tmp_path / "puppet"
    shutil.copytree("/etc/puppet", confdir)
    (confdir / "puppet.conf").write_text("[main]\nstoreconfigs = false\nreports = log\n")
    assert main(["terminus", "setup", "--write", "--confdir", str(confdir), *NEW]) == 0
    for section, storeconfigs, reports in (("server", "true", "log,puppetdb"), ("agent", "false", "log")):
        printed = output_of(
            *("puppet", "config", "print", "storeconfigs", "reports", "--section", section),
            *("--confdir", str(confdir), "--vardir", str(tmp_path / "var")),
        )
        assert printed == f"reports = {reports}\nstoreconfigs = {storeconfigs}\n"


@pytest.mark.parametrize(
    "text",
    ["[main] # ours\nreports = log\n", "; old\n", "[main]\nreports: log\n", "[mastre]\n", "\ufeff[main]\n"],
)
def test_what_is_refused_as_unreadable_puppet_cannot_read_either(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Puppet says so at the same line."""
    (tmp_path / "puppet.conf").write_bytes(text.encode())
    assert main(["terminus", "setup", "--confdir", str(tmp_path), *NEW]) == 2
    line = capsys.readouterr().err.partition("puppet.conf:")[2].partition(":")[0]
    ended = subprocess.run(
        ["puppet", "config", "print", "reports", "--confdir", str(tmp_path), "--vardir", str(tmp_path / "var")],
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"line: {line})" in ended.stderr
