"""What a world does, seen from its hosts: what passes over its network, what its services answer."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from pdbclient.errors import LabError
from pdbclient.wire import Command

from .configuration import GATEWAY_PORT, HTTPS_PORT
from .hosts import Host
from .inside import inside
from .leftovers import of_world
from .world import World

__all__ = [
    "ahead",
    "answers",
    "connection",
    "eventually",
    "found",
    "has",
    "left_of",
    "nodes",
    "open_ways",
    "passes",
    "rate",
    "round_trip",
    "submit",
]

_WAIT = 0.3
_LIMIT = 30.0


def _bound(world: World, host: Host) -> socket.socket:
    def bind() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((host.address, 0))
        return opened

    return inside(world.installation.network.namespace(host), bind)


def passes(world: World, source: Host, target: Host) -> bool:
    """Whether a packet gets from one host to another one."""
    with closing(_bound(world, source)) as one, closing(_bound(world, target)) as other:
        other.settimeout(_WAIT)
        one.sendto(b"packet", other.getsockname())
        try:
            return other.recv(100) == b"packet"
        except TimeoutError:
            return False


def open_ways(world: World) -> set[tuple[str, str]]:
    """From which host to which other one packets get."""
    pairs = [(one, other) for one in world.hosts for other in world.hosts if one != other]
    return {(one.name, other.name) for one, other in pairs if passes(world, one, other)}


def round_trip(world: World, source: Host, target: Host) -> float:
    """Seconds until a packet's answer is there. Raises `TimeoutError`."""
    with closing(_bound(world, source)) as one, closing(_bound(world, target)) as other:
        for each in (one, other):
            each.settimeout(_LIMIT)
        began = time.monotonic()
        one.sendto(b"packet", other.getsockname())
        other.sendto(*other.recvfrom(100))
        one.recv(100)
        return time.monotonic() - began


@contextmanager
def connection(world: World, source: Host, target: Host) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection between two hosts: the end of the one that made it, and the other one."""
    network = world.installation.network
    listening = inside(network.namespace(target), lambda: socket.create_server((target.address, 0)))
    with closing(listening):
        address = listening.getsockname()
        near = inside(network.namespace(source), lambda: socket.create_connection(address, _LIMIT))
        with closing(near):
            far, _ = listening.accept()
            with closing(far):
                far.settimeout(_LIMIT)
                yield near, far


def rate(world: World, source: Host, target: Host, size: int) -> float:
    """Bits a second at which so many bytes get from one host to the other."""
    with connection(world, source, target) as (near, far):
        sender = threading.Thread(target=near.sendall, args=(bytes(size),))
        began, left = time.monotonic(), size
        sender.start()
        while left:
            left -= len(far.recv(65536))
        took = time.monotonic() - began
        sender.join()
        return 8 * size / took


def eventually(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether it is so within that time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def submit(world: World, puppet: Host, certname: str) -> str:
    """Facts of a node through the gateway of a Puppet host: the status, or the error's words."""
    values = {"certname": certname, "environment": "production", "producer": None, "values": {"a": 1}}
    command = Command.create("replace facts", values, now=datetime.now(UTC))
    path = f"/pdb/cmd/v1?{urlencode(command.params())}"
    return world.ask(puppet, puppet, GATEWAY_PORT, path, command.body, seconds=_LIMIT)


def nodes(world: World, database: Host) -> list[str]:
    """The certnames that a PuppetDB has."""
    return [name for (name,) in world.sql(database, "select certname from certnames order by certname")]


def has(world: World, database: Host, certname: str) -> Callable[[], bool]:
    """Whether it has that one by now."""
    return lambda: certname in nodes(world, database)


def _moment(world: World, key: str) -> datetime:
    """When the last line of a log was written, by its own clock."""
    found = re.findall(r"^(\d{4}-\d\d-\d\dT\S+)Z ", world.logs()[key].read_text(), flags=re.MULTILINE)
    return datetime.fromisoformat(found[-1]).replace(tzinfo=UTC)


def ahead(world: World, key: str) -> float:
    """Hours by which that log's clock is ahead of the true one."""
    return (_moment(world, key) - datetime.now(UTC)).total_seconds() / 3600


def answers(world: World, target: str) -> bool:
    """Whether a service does its work: it takes part in what its clients want of it."""
    name, service = target.split()
    host = world.host(name)
    match service:
        case "gateway":
            return world.ask(host, host, GATEWAY_PORT) == "200"
        case "puppetdb":
            return world.ask(host, host, HTTPS_PORT) == "200"
        case "postgres":
            try:
                return world.sql(host, "select 1") == [("1",)]
            except LabError:
                return False
        case _:
            passes = world.passes(host)
            return eventually(lambda: world.passes(host) > passes, 15)


def left_of(world: World) -> list[str]:
    """What there still is of a world on this machine, when it is to be gone."""
    return found(world.installation.network.name, world.directory)


def found(name: str, directory: Path) -> list[str]:
    """What there is on this machine of the world of that name and place.

    Its namespaces, links outside of them, mounts, processes, and files that `ip netns exec` would heed.
    """
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    mounts = Path("/proc/mounts").read_text().splitlines()
    there = [*of_world(name), *(f"link {line}" for line in links if line.startswith(("puppet", "db", "journal")))]
    there += [f"mount {line}" for line in mounts if str(directory) in line]
    for entry in Path("/proc").iterdir():
        # Some end meanwhile.
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if entry.name.isdigit() and (str(directory) in command or name in command):
                there.append(f"process {entry.name} {command}")
    return there + [str(path) for path in Path("/etc/netns").glob(f"{name}*")]
