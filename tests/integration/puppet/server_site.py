"""A Puppet Server with the stock terminus, and agents of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import requests

from pdbclient.lab import Lab
from pdbclient.lab.ports import free_port

from .installation import Installation
from .process import Server
from .run import Run, failovers, puppet

__all__ = ["Agent", "PuppetServer"]

_SYSTEM = Path("/etc/puppet/puppetserver")
_JAR = Path("/usr/share/puppetserver/puppetserver.jar")
_START_SECONDS = 180.0

# It lives for minutes: the quick compiler and the small collector start sooner and share two cores better.
_JAVA = (
    *("java", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
    "-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger",
    "-Djruby.lib=/usr/share/jruby/lib",
)

_LOGBACK = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5p [%c{2}] %m%n</pattern></encoder>
  </appender>
  <logger name="org.eclipse.jetty" level="INFO"/>
  <root level="info"><appender-ref ref="OUT"/></root>
</configuration>
"""

_WEBSERVER = """\
webserver: {{
  client-auth: want
  ssl-host: 127.0.0.1
  ssl-port: {port}
  ssl-cert: {ssl}/certs/{certname}.pem
  ssl-key: {ssl}/private_keys/{certname}.pem
  ssl-ca-cert: {ssl}/certs/ca.pem
  ssl-crl-path: {ssl}/crl.pem
}}
"""

# Emptying the pool of JRubies, which makes Puppet Server read puppetdb.conf again.
_ADMIN_RULE = """
    rules: [
        { name: "admin", sort-order: 400, allow: "*"
          match-request: { path: "/puppet-admin-api/v1", type: path, method: delete } },
"""

_AGENT_CONF = """\
[main]
certname = {certname}
server = localhost
serverport = {port}
ssldir = {ssl}
vardir = {root}/opt/puppetlabs/puppet/cache
publicdir = {root}/opt/puppetlabs/puppet/public
logdir = {root}/var/log/puppetlabs/puppet
rundir = {root}/var/run/puppetlabs
# The agent would fetch a new one from the CA, which this Puppet Server has not.
certificate_revocation = false
"""


class PuppetServer:
    """A Puppet Server of its own, without a CA; its certificate is one of the lab's CA."""

    def __init__(self, root: Path, lab: Lab, certname: str) -> None:
        self._lab = lab
        self._process: Server | None = None
        self.installation = Installation(root, certname)
        self.installation.make(lab)
        self.port = free_port()
        self.log = root / "puppetserver.log"
        self._write_own_configuration(root / "etc/puppetlabs/puppetserver")

    def _write_own_configuration(self, directory: Path) -> None:
        """The package's files, with our places, no CA, and one JRuby."""
        shutil.copytree(_SYSTEM / "services.d", directory / "services.d")
        services = directory / "services.d/ca.cfg"
        name = "certificate-authority"
        enabled = f"puppetlabs.services.ca.{name}-service/{name}-service"
        disabled = f"puppetlabs.services.ca.{name}-disabled-service/{name}-disabled-service"
        services.write_text(_replaced(services.read_text(), f"^{enabled}$", disabled))
        shutil.copytree(_SYSTEM / "conf.d", directory / "conf.d")
        root, confdir = self.installation.root, self.installation.confdir
        places = {
            "server-conf-dir": confdir,
            "server-code-dir": root / "etc/puppetlabs/code",
            "server-var-dir": root / "opt/puppetlabs/server/data/puppetserver",
            "server-run-dir": root / "var/run/puppetlabs/puppetserver",
            "server-log-dir": root / "var/log/puppetlabs/puppetserver",
        }
        jruby = directory / "conf.d/puppetserver.conf"
        text = _replaced(jruby.read_text(), "#max-active-instances: 1$", "max-active-instances: 1")
        for setting, place in places.items():
            place.mkdir(parents=True, exist_ok=True)
            text = _replaced(text, rf"^    {setting}: .*$", f"    {setting}: {place}")
        jruby.write_text(text)
        (directory / "logback.xml").write_text(_LOGBACK)
        (directory / "conf.d/global.conf").write_text(f"global: {{ logging-config: {directory}/logback.xml }}\n")
        web = _WEBSERVER.format(port=self.port, ssl=self.installation.ssldir, certname=self.installation.certname)
        (directory / "conf.d/webserver.conf").write_text(web)
        rules = directory / "conf.d/auth.conf"
        rules.write_text(_replaced(rules.read_text(), r"^    rules: \[$", _ADMIN_RULE))

    def configure(
        self,
        example: str,
        gateway_port: int | None,
        added: Mapping[str, object] = MappingProxyType({}),
        /,
        **settings: str,
    ) -> None:
        """Install the example with that name; a running server takes it over."""
        before = self._configuration()
        self.installation.configure(example, self._lab, gateway_port, settings, added)
        if self._process is not None and self._configuration() != before:
            self._request("DELETE", "/puppet-admin-api/v1/jruby-pool").raise_for_status()

    def _configuration(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.installation.confdir.glob("*.*")) if file.is_file()]

    def start(self) -> None:
        """Start it and wait until it runs."""
        directory = self.installation.root / "etc/puppetlabs/puppetserver"
        options = ("--config", directory / "conf.d", "--bootstrap-config", directory / "services.d")
        self._process = Server([*_JAVA, "-jar", _JAR, *options], self.log)
        self._process.wait_until(self._running, _START_SECONDS)

    def _running(self) -> bool:
        try:
            return self._request("GET", "/status/v1/simple").text == "running"
        except requests.RequestException:
            return False

    def _request(self, method: str, path: str) -> requests.Response:
        ssl, certname = self.installation.ssldir, self.installation.certname
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(ssl / "certs/ca.pem")
            session.cert = (str(ssl / f"certs/{certname}.pem"), str(ssl / f"private_keys/{certname}.pem"))
            return session.request(method, f"https://localhost:{self.port}{path}", timeout=60)

    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.running()

    def stop(self) -> None:
        """End it; harmless when it does not run."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def manifest(self, text: str) -> None:
        """The main manifest, from the next run on."""
        (self.installation.manifests / "site.pp").write_text(text)

    def node(self, action: str, certname: str) -> Run:
        """`puppet node deactivate` or `puppet node status`, on the Puppet Server's host."""
        confdir = self.installation.confdir
        return puppet(["node", action, certname, "--confdir", confdir, "--color", "false"], self.installation.root)


class Agent:
    """A node of that Puppet Server."""

    def __init__(self, root: Path, lab: Lab, server: PuppetServer, certname: str) -> None:
        self.installation = Installation(root, certname)
        self.installation.make(lab)
        self._server = server
        text = _AGENT_CONF.format(certname=certname, port=server.port, ssl=self.installation.ssldir, root=root)
        (self.installation.confdir / "puppet.conf").write_text(text)

    @property
    def certname(self) -> str:
        """The name of the node."""
        return self.installation.certname

    def become_known(self) -> None:
        """A first run: Puppet Server asks for old facts, and the 404 sends the stock terminus to every server."""
        self.run()

    def run(self) -> tuple[Run, list[int]]:
        """`puppet agent -t`, and which ports Puppet Server gave up on meanwhile."""
        before = self._server.log.stat().st_size
        confdir = self.installation.confdir
        run = puppet(["agent", "-t", "--confdir", confdir, "--color", "false"], self.installation.root)
        with self._server.log.open("rb") as log:
            log.seek(before)
            return run, failovers(log.read().decode(errors="replace"))


def _replaced(text: str, pattern: str, by: str) -> str:
    """`text` with the one place that matches replaced; the package's file is not what it was when there is none."""
    text, times = re.subn(pattern, lambda _: by, text, flags=re.M)
    assert times == 1, f"one line matches {pattern}, not {times}"
    return text
