"""What `lab fault` does to one node; every fault may be asked for twice."""

from __future__ import annotations

import signal
import time
from typing import Literal

from pdbclient.errors import LabError
from pdbclient.lab.servers import Servers

__all__ = ["ACTIONS", "Action", "inject"]

Action = Literal["kill", "freeze", "thaw", "start", "stop-postgres", "start-postgres"]
ACTIONS: tuple[Action, ...] = ("kill", "freeze", "thaw", "start", "stop-postgres", "start-postgres")


def inject(servers: Servers, action: str) -> str:
    """Do it and return, when it has taken effect, a line that says what is the case now.

    kill: SIGKILL PuppetDB. freeze, thaw: SIGSTOP, SIGCONT. start: start PuppetDB (thaw it when frozen) and
    wait until it is running. stop-postgres, start-postgres: stop (fast) and start its database. Raises
    `LabError`.
    """
    match action:
        case "kill":
            return _kill(servers)
        case "freeze":
            return _freeze(servers)
        case "thaw":
            return _thaw(servers)
        case "start":
            return _start(servers)
        case "stop-postgres":
            servers.postgres.stop()
            return f"{servers.node.name}: PostgreSQL is down"
        case "start-postgres":
            servers.postgres.start()
            return f"{servers.node.name}: PostgreSQL is running"
    raise LabError(f"no fault is called {action!r}: {', '.join(ACTIONS)}")


def _kill(servers: Servers) -> str:
    servers.puppetdb.kill()
    return f"{servers.node.name}: PuppetDB is down"


def _require_alive(servers: Servers) -> None:
    if servers.puppetdb.process.pid is None:
        raise LabError(
            f"{servers.node.name}: PuppetDB is down; start it first (pdbclient lab fault {servers.node.name} start)"
        )


def _freeze(servers: Servers) -> str:
    _require_alive(servers)
    servers.puppetdb.process.signal(signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while not servers.puppetdb.process.frozen:
        if time.monotonic() > deadline:
            raise LabError(f"{servers.node.name}: PuppetDB does not stop at SIGSTOP")
        time.sleep(0.01)
    return f"{servers.node.name}: PuppetDB is frozen"


def _thaw(servers: Servers) -> str:
    _require_alive(servers)
    servers.puppetdb.process.signal(signal.SIGCONT)
    return f"{servers.node.name}: PuppetDB is thawed"


def _start(servers: Servers) -> str:
    if servers.postgres.process.pid is None:
        raise LabError(
            f"{servers.node.name}: PuppetDB cannot run, because its PostgreSQL is down; "
            f"start that first (pdbclient lab fault {servers.node.name} start-postgres)"
        )
    puppetdb = servers.puppetdb
    puppetdb.process.signal(signal.SIGCONT)
    was_down = puppetdb.process.pid is None
    puppetdb.launch()
    try:
        puppetdb.wait_until_running(servers.state.options.start_timeout)
    except BaseException:
        if was_down:
            puppetdb.kill()
        raise
    return f"{servers.node.name}: PuppetDB is running"
