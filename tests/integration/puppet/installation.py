"""A Puppet of its own below one directory, configured with the example files that users copy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pdbclient.lab import Lab

__all__ = ["EXAMPLES", "GATEWAY_PORT", "Installation"]

EXAMPLES = Path(__file__).parents[3] / "puppet_conf_examples"
GATEWAY_PORT = 8085  # in the examples

_PATH = re.compile(r"(?<!\S)/(?:etc|opt|var/log|var/run)/puppetlabs\b")
_PUPPETDBS = {"primary": "primary-puppetdb.mycorp.net:8081", "replica": "replica-puppetdb.mycorp.net:8081"}
_GATEWAY = re.compile(rf"https://[\w.-]+:{GATEWAY_PORT}")


@dataclass(frozen=True, slots=True)
class Installation:
    """The file system of the Puppet packages, below `root` instead of `/`; `certname` is the host's."""

    root: Path
    certname: str

    @property
    def confdir(self) -> Path:
        """Where puppet.conf, routes.yaml and puppetdb.conf are."""
        return self.root / "etc/puppetlabs/puppet"

    @property
    def puppetdb_conf(self) -> Path:
        """The file that Puppet and the gateway share."""
        return self.confdir / "puppetdb.conf"

    @property
    def ssldir(self) -> Path:
        """Certificates, laid out as Puppet has them."""
        return self.confdir / "ssl"

    @property
    def manifests(self) -> Path:
        """The manifests of the environment production."""
        return self.root / "etc/puppetlabs/code/environments/production/manifests"

    def make(self, lab: Lab) -> None:
        """The directories, and a certificate of the lab's CA; a copy, because Puppet changes modes and owners."""
        self.manifests.mkdir(parents=True)
        for place in ("opt/puppetlabs", "var/log/puppetlabs", "var/run/puppetlabs"):
            (self.root / place).mkdir(parents=True)
        tls = lab.issue(self.certname)
        for source in (tls.ca, tls.cert, tls.key, tls.crl):
            assert source is not None
            target = self.ssldir / source.relative_to(lab.directory / "ssl")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)

    def configure(
        self,
        example: str,
        lab: Lab,
        gateway_port: int | None,
        settings: Mapping[str, str],
        added: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Install the example of that name: its hosts, ports and paths become ours, and nothing else.

        `settings` gives time limits and switches that the example sets other values, so that tests take seconds;
        `added` are settings of `[pdbclient]` that it does not have. Without `gateway_port` the gateway is taken out
        again, if the example has it.
        """
        for name in ("puppet.conf", "routes.yaml"):
            text = (EXAMPLES / example / name).read_text()
            (self.confdir / name).write_text(self._ours(text))
        text = self._ours((EXAMPLES / example / "puppetdb.conf").read_text())
        for node, address in _PUPPETDBS.items():
            text = text.replace(address, f"localhost:{lab.node(node).https_port}")
        if gateway_port is None:
            text = re.sub(rf"{_GATEWAY.pattern},|^gateway_url = .*\n", "", text, flags=re.M)
        text = _GATEWAY.sub(f"https://localhost:{gateway_port}", text)
        assert "mycorp" not in text, "every host of the example has a counterpart here"
        for name, value in settings.items():
            text, times = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.M)
            assert times == 1, f"the example sets {name} once"
        if added:
            *_, last = re.findall(r"^\[(\w+)\]$", text, flags=re.M)
            assert last == "pdbclient", "what is added comes at the end"
            text += "".join(f"{name} = {value}\n" for name, value in added.items())
        self.puppetdb_conf.write_text(text)

    def _ours(self, text: str) -> str:
        text = _PATH.sub(lambda found: f"{self.root}{found[0]}", text)
        return re.sub(r"^certname = .*$", f"certname = {self.certname}", text, flags=re.M)
