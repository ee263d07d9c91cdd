"""One PuppetDB per node: its configuration, start, wait and end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdbclient.config.model import TlsFiles
from pdbclient.errors import LabError
from pdbclient.lab.account import Account
from pdbclient.lab.compiled import class_path
from pdbclient.lab.layout import LabState, Node
from pdbclient.lab.ports import LOOPBACK, is_free
from pdbclient.lab.postgres import PortTakenError
from pdbclient.lab.process import ServerProcess, spawn, tail, wait_for_end
from pdbclient.lab.release import read_release

__all__ = ["PuppetDB"]

_TERM_SECONDS = 20.0
_KILL_SECONDS = 10.0

# A lab's JVM lives for minutes: the quick compiler and the small collector start sooner and share two cores
# better.
_JVM_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

_LOGBACK = """\
<configuration>
  <appender name="FILE" class="ch.qos.logback.core.FileAppender">
    <file>{log}</file>
    <encoder><pattern>%d{{yyyy-MM-dd'T'HH:mm:ss.SSSXXX}} %-5p [%c{{2}}] %m%n</pattern></encoder>
  </appender>
  <root level="info"><appender-ref ref="FILE"/></root>
</configuration>
"""

# Status for everybody, metrics for every certificate of the lab's CA: what the packages ship, in short.
_AUTH = """\
authorization: {
  version: 1
  rules: [
    { name: "lab status", sort-order: 500, allow-unauthenticated: true
      match-request: { path: "/status/v1", type: path, method: get } }
    { name: "lab metrics", sort-order: 500, allow: "*"
      match-request: { path: "/metrics", type: path, method: [get, post] } }
    { name: "lab deny all", sort-order: 999, deny: "*"
      match-request: { path: "/", type: path } }
  ]
}
"""


def _ini(sections: dict[str, dict[str, object]]) -> str:
    blocks = []
    for name, settings in sections.items():
        blocks.append("\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in settings.items())]))
    return "\n\n".join(blocks) + "\n"


@dataclass(frozen=True, slots=True)
class PuppetDB:
    """The PuppetDB of one node."""

    node: Node
    state: LabState
    account: Account
    tls: TlsFiles

    @property
    def process(self) -> ServerProcess:
        """The JVM."""
        return ServerProcess(self.node.record("puppetdb"))

    def configure(self) -> None:
        """Write conf.d, from scratch: the ports may have changed."""
        home, options = self.node.home, self.state.options
        conf = home / "conf.d"
        config: dict[str, dict[str, object]] = {
            "global": {"vardir": self.node.vardir, "logging-config": home / "logback.xml"},
            "command-processing": {"threads": options.threads},
        }
        if read_release(self.state.programs.jar(self.node.name)).checks_for_updates:
            config["puppetdb"] = {"disable-update-checking": "true"}
        database = {
            "subname": self.node.subname,
            "username": "puppetdb",
            "password": self.state.password,
            "gc-interval": options.gc_interval,
            "node-ttl": options.node_ttl,
            "node-purge-ttl": options.node_purge_ttl,
            "report-ttl": options.report_ttl,
        }
        jetty = {
            "host": LOOPBACK,
            "port": self.node.http_port,
            "ssl-host": self.node.address,
            "ssl-port": self.node.https_port,
            "ssl-key": self.tls.key,
            "ssl-cert": self.tls.cert,
            "ssl-ca-cert": self.tls.ca,
        }
        self._write(conf / "config.ini", _ini(config))
        self._write(conf / "database.ini", _ini({"database": database}))
        self._write(conf / "jetty.ini", _ini({"jetty": jetty}))
        self._write(conf / "auth.conf", _AUTH)
        self._write(home / "logback.xml", _LOGBACK.format(log=self.node.log))

    def _write(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        # database.ini holds a password; the account needs to read them all.
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self.account.own(path)

    def command(self) -> list[str | Path]:
        """The command line of the JVM."""
        programs, options = self.state.programs, self.state.options
        return [
            programs.java_of(self.node.name),
            f"-Xmx{options.heap}",
            *_JVM_FLAGS,
            "-cp",
            class_path(programs.jar(self.node.name)),
            "clojure.main",
            "-m",
            "puppetlabs.puppetdb.core",
            "services",
            "--config",
            self.node.home / "conf.d",
        ]

    def launch(self) -> None:
        """Start the JVM without waiting for the server; nothing to do when it runs.

        Raises `PortTakenError` at once when a port is taken: the JVM would need half its start to find out.
        """
        if self.process.pid is not None:
            return
        # With a prefix they may be in a network of their own, where we cannot look.
        ports = () if self.node.prefix else (self.node.https_port, self.node.http_port)
        busy = [port for port in ports if not is_free(port)]
        if busy:
            raise PortTakenError(f"PuppetDB {self.node.name}: port {busy[0]} is taken by another process")
        for log in (self.node.log, self.node.console_log):
            # What an earlier start said must not be taken for what this one says.
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
        pid = spawn(
            self.command(),
            account=self.account,
            cwd=self.node.home,
            log=self.node.console_log,
            prefix=self.node.prefix,
        )
        self.process.write(pid)

    def check_alive(self) -> None:
        """Raise `PortTakenError`, or `LabError` with the last log lines, when the JVM has ended."""
        if self.process.pid is not None:
            return
        self.process.forget()
        logs = "".join(p.read_text(errors="replace") for p in (self.node.log, self.node.console_log) if p.exists())
        if "Address already in use" in logs:
            raise PortTakenError(
                f"PuppetDB {self.node.name}: port {self.node.https_port} or {self.node.http_port} is taken"
            )
        raise LabError(f"PuppetDB {self.node.name} ended while it started; {self.last_words()}")

    def last_words(self) -> str:
        """The last lines of PuppetDB's log, and of the JVM's console when that says anything."""
        parts = [tail(self.node.log)] if self.node.log.exists() else []
        console = self.node.console_log
        if not parts or (console.exists() and console.stat().st_size):
            parts.append(tail(console, 15))
        return "\n".join(parts)

    def simple_status(self) -> str | None:
        """What `/status/v1/simple` says (`running`, `starting`, ...), None when nothing answers."""
        body = self._get("/status/v1/simple")
        return body.strip() if body is not None else None

    def version(self) -> str | None:
        """The version that the running server gives, None when it does not answer."""
        body = self._get("/pdb/meta/v1/version")
        try:
            document: Any = json.loads(body or "null")
        except ValueError:
            return None
        return str(document["version"]) if isinstance(document, dict) and "version" in document else None

    def _get(self, path: str) -> str | None:
        connection = http.client.HTTPConnection(LOOPBACK, self.node.http_port, timeout=3)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        """End the server: SIGTERM, then SIGKILL when it takes too long. A frozen one is thawed first."""
        process = self.process
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)
        if not wait_for_end(process, _TERM_SECONDS):
            self.kill()
        process.forget()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self.process
        process.signal(signal.SIGKILL)
        if not wait_for_end(process, _KILL_SECONDS):
            raise LabError(f"PuppetDB {self.node.name} (pid {process.pid}) cannot be killed")
        process.forget()

    def wait_until_running(self, seconds: float) -> None:
        """Wait for `running`.

        Raises `LabError` with the last log lines when the JVM ends or needs more than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while self.simple_status() != "running":
            self.check_alive()
            if time.monotonic() > deadline:
                raise LabError(f"PuppetDB {self.node.name} is not running after {seconds:g} s; {self.last_words()}")
            time.sleep(0.2)
