"""A host that runs `puppet apply` with the stock terminus."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pdbclient.lab import Lab

from .installation import Installation
from .run import Run, puppet
from .stock import StockPuppet

__all__ = ["ApplySite"]

_EXAMPLE = "apply-gateway"


class ApplySite:
    """One masterless host with a confdir, vardir, ssldir and certificate of its own.

    It runs the installed Puppet, or `stock`.
    """

    def __init__(self, root: Path, lab: Lab, certname: str, stock: StockPuppet | None = None) -> None:
        self._lab = lab
        self._environment = os.environ if stock is None else stock.environment()
        self.installation = Installation(root, certname)
        self.installation.make(lab)

    @property
    def certname(self) -> str:
        """The name of the host."""
        return self.installation.certname

    @property
    def puppetdb_conf(self) -> Path:
        """The file that Puppet and the gateway share."""
        return self.installation.puppetdb_conf

    def configure(
        self, gateway_port: int | None, added: Mapping[str, object] = MappingProxyType({}), /, **settings: str
    ) -> None:
        """The example's configuration with those settings; without a port, with no gateway in it."""
        self.installation.configure(_EXAMPLE, self._lab, gateway_port, settings, added)

    def apply(self, manifest: str) -> Run:
        """Apply the manifest. The exit code: 0 nothing to do, 2 changed something, 1 no catalog, 4 and 6 failures."""
        file = self.installation.manifests / "site.pp"
        file.write_text(manifest)
        return self._puppet("apply", "--detailed-exitcodes", file)

    def node(self, action: str, certname: str) -> Run:
        """`puppet node deactivate` or `puppet node status`."""
        return self._puppet("node", action, certname)

    def _puppet(self, command: str, *arguments: str | Path) -> Run:
        confdir = self.installation.confdir
        arguments = (*arguments, "--confdir", confdir, "--color", "false")
        return puppet([command, *arguments], self.installation.root, self._environment)
