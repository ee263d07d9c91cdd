"""What Puppet itself makes of certificates and revocation lists: the facts that ours are held to.

Needs Debian's puppet-agent (with Ruby), or what carries its libraries.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pdbclient.config.puppet_conf import layout_of
from pdbclient.config.values import SettingError, revocation
from pdbclient.lab.certificates import CertificateAuthority
from tests.faults.chain import Chain
from tests.faults.fake import Fake
from tests.faults.test_revocation import CASES, EXPIRED, FORGED, MISSING, REVOKED, expected

pytestmark = pytest.mark.integration

PUPPETS_WORDS = {
    REVOKED: "is revoked",
    MISSING: "is missing",
    EXPIRED: "has expired",
    "CRL is not yet valid": "is not yet valid",
    FORGED: "Invalid signature for CRL",
}
"""Those of `raise_cert_verify_error`, for OpenSSL's."""

_PUPPET = """
require 'json'
require 'puppet'
require 'puppet/ssl/ssl_provider'
Puppet::Util::Log.level = :crit
def told
  yield
  nil
rescue StandardError => e
  e.message
end
def started(confdir)
  Puppet.initialize_settings(['--confdir', confdir, '--vardir', confdir + '/var'], true, true)
end
def apart  # Puppet reads its settings once a process
  reader, writer = IO.pipe
  child = fork do
    writer.write(yield.to_json)
    writer.close
    exit!(0)
  end
  writer.close
  JSON.parse(reader.read).tap { Process.wait(child) }
end
input = JSON.parse(STDIN.read)
"""
_CONTEXTS = """
puts(input.map { |confdir|
  apart do
    told do
      started(confdir)
      Puppet::SSL::SSLProvider.new.load_context
    end
  end
}.to_json)
"""
_MODES = """
puts(input.map { |confdir|
  apart do
    mode = nil
    error = told do
      started(confdir)
      mode = Puppet.settings.values(nil, :server).interpolate(:certificate_revocation).to_s
    end
    error ? nil : mode
  end
}.to_json)
"""
_REQUESTS = """
# Names are looked up without the dot: not every resolver knows one with it. Ruby 3.1 connects by the first.
class << Socket
  prepend(Module.new { def tcp(host, *rest, **more, &block) = super(host.chomp('.'), *rest, **more, &block) })
end
class << TCPSocket
  prepend(Module.new { def open(host, *rest, **more, &block) = super(host.chomp('.'), *rest, **more, &block) })
end
started(input['confdir'])
context = Puppet::SSL::SSLProvider.new.load_context
puts(input['hosts'].map { |host|
  told { Puppet.runtime[:http].get(URI("https://#{host}:#{input['port']}/"), options: {ssl_context: context}) }
}.to_json)
"""


def puppet(program: str, given: Any) -> Any:
    run = subprocess.run(
        ["ruby", "-E", "UTF-8", "-e", _PUPPET + program],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, f"puppet-agent must be installed: {run.stderr}"
    return json.loads(run.stdout)


def _confdir(directory: Path, certname: str, *lines: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["[main]", f"certname = {certname}", f"ssldir = {directory}/ssl", *lines])
    (directory / "puppet.conf").write_text(text + "\n")
    return directory


def test_puppet_refuses_by_each_mode_what_we_refuse(tmp_path: Path) -> None:
    """With the files of `tests/faults/test_revocation.py`, and without any list."""
    chain = Chain()
    judged: dict[tuple[str, str], Path] = {}
    for number, (case, (lists, _, _)) in enumerate(CASES.items()):
        for mode in ("chain", "true", "leaf", "false"):
            confdir = _confdir(tmp_path / f"{number}-{mode}", "client", f"certificate_revocation = {mode}")
            chain.ssldir(confdir / "ssl", "client", *lists(chain))
            judged[case, mode] = confdir
    for mode in ("chain", "leaf", "false"):
        confdir = _confdir(tmp_path / f"gone-{mode}", "client", f"certificate_revocation = {mode}")
        chain.ssldir(confdir / "ssl", "client")
        (confdir / "ssl/crl.pem").unlink()
        judged["gone", mode] = confdir
    told = puppet(_CONTEXTS, [str(confdir) for confdir in judged.values()])
    for ((case, mode), confdir), words in zip(judged.items(), told, strict=True):
        if case == "gone":
            assert words == (None if mode == "false" else f"The CRL is missing from '{confdir}/ssl/crl.pem'")
            continue
        ours = expected(case, mode)
        assert (words is None) is (ours is None), (case, mode, words)
        if ours is not None:
            assert PUPPETS_WORDS[ours] in words, (case, mode)


def _values() -> Iterator[str]:
    for value in ("chain", "true", "True", "leaf", "false", "FALSE", '"false"', "'leaf'", "leaf {mode = 644}"):
        yield f"certificate_revocation = {value}"
    for value in ("CHAIN", "Leaf", "none", "", "leaf # not the chain", "$nowhere", "yes"):
        yield f"certificate_revocation = {value}"
    yield "certificate_revocation = leaf\ncertificate_revocation = false"
    yield "certificate_revocation = false\n[server]\ncertificate_revocation = leaf"
    yield "certificate_revocation = false\n[agent]\ncertificate_revocation = leaf"


def test_puppet_reads_certificate_revocation_as_we_do(tmp_path: Path) -> None:
    confdirs = {lines: _confdir(tmp_path / str(n), "client", lines) for n, lines in enumerate(_values())}
    told = puppet(_MODES, [str(confdir) for confdir in confdirs.values()])
    for (lines, confdir), theirs in zip(confdirs.items(), told, strict=True):
        try:
            ours: str | None = revocation(layout_of(confdir).revocation.value)
        except SettingError:
            ours = None
        assert ours == theirs, lines


def test_puppet_accepts_no_certificate_for_a_host_with_a_dot_at_its_end(tmp_path: Path) -> None:
    """Which is why such a host is refused where URLs are read."""
    authority = CertificateAuthority(tmp_path / "ssl", "a CA")
    authority.create()
    client = authority.issue("client")
    with Fake(authority.issue("server")) as server:
        assert client.ca.is_file()
        given = {"confdir": str(_confdir(tmp_path, "client")), "port": server.port}
        without, with_dot = puppet(_REQUESTS, {**given, "hosts": ["localhost", "localhost."]})
    assert without is None
    assert "did not match" in with_dot or "hostname mismatch" in with_dot.lower()
