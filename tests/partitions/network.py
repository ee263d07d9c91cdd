"""Hosts in network namespaces of their own, joined by a bridge in one more: a network that breaks on demand.

Nothing of it is in the network of this machine. Packets are stopped at the bridge, silently, as by a router that has
gone; hosts know each other's hardware addresses for good, as if a router were between them, so that nobody is told
that there is no way. What was begun twice is ended twice: each of these gives what ends it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .hosts import SILENT, Host, hardware
from .leftovers import NAMESPACES, guarded, new_name, remove, remove_leftovers

__all__ = ["Network", "Way", "around", "between"]

_ROOT = Path(__file__).parents[2]
_LIMIT = 20.0
_SWITCH = "switch"
_BRIDGE = "bridge"
_OFF = """\
table bridge partitions {
  set stopped { type ipv4_addr . ipv4_addr; }
  chain forward {
    type filter hook forward priority filter;
    ip saddr . ip daddr @stopped drop
  }
}
"""
_RATE = ("tbf", "rate", "256kbit", "burst", "4kb", "latency", "400ms")
"""256 kbit/s, and a queue of the length that such a line's modem has."""


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """A way from one address to another one."""

    source: str
    target: str


def between(some: Iterable[Host], others: Iterable[Host]) -> frozenset[Way]:
    """All ways between the hosts of two groups, in both directions."""
    theirs = list(others)
    ways = {Way(one.address, other.address) for one in some for other in theirs if one != other}
    return frozenset(ways | {Way(way.target, way.source) for way in ways})


def around(host: Host, hosts: Iterable[Host]) -> frozenset[Way]:
    """All ways from and to a host."""
    return between([host], hosts)


class Network:
    """The network of `hosts`, there from entering the context to leaving it. Needs root. Thread-safe.

    On entering, it first removes what killed runs have left. Raises `OSError` with the program's words when the
    kernel, or what this machine has installed, does not do what is asked.
    """

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = tuple(hosts)
        self.name = new_name()
        self._lock = threading.RLock()
        self._stopped: list[Collection[Way]] = []
        self._guard = guarded(self.name)

    def __enter__(self) -> Self:
        remove_leftovers()
        self._guard.__enter__()
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            remove(self.name)
        finally:
            self._guard.__exit__(None, None, None)

    def namespace(self, host: Host) -> str:
        """The name of a host's network namespace."""
        return f"{self.name}.{host.name}"

    def path(self, host: Host) -> Path:
        """The file that stands for it."""
        return NAMESPACES / self.namespace(host)

    # -- what can be done to it

    def stop(self, ways: Collection[Way]) -> Callable[[], None]:
        """Let no packet pass on these ways, until what this gives is called."""
        with self._lock:
            self._stopped.append(ways)
            self._apply()

        def end() -> None:
            with self._lock:
                # This very one, not its equal.
                self._stopped = [each for each in self._stopped if each is not ways]
                self._apply()

        return end

    def unplug(self, host: Host) -> Callable[[], None]:
        """Take the cable out of a host, which sees that, until what this gives is called."""
        self._switch("ip", "link", "set", host.name, "down")
        return lambda: self._switch("ip", "link", "set", host.name, "up")

    def thin(self, host: Host) -> Callable[[], None]:
        """Make a host's link one of 256 kbit/s in each direction, until what this gives is called."""
        ends = [(self.namespace(host), "eth0"), (self._bridge, host.name)]
        for namespace, link in ends:
            _run("tc", "-n", namespace, "qdisc", "replace", "dev", link, "root", *_RATE)

        def end() -> None:
            for namespace, link in ends:
                _run("tc", "-n", namespace, "qdisc", "delete", "dev", link, "root")

        return end

    def delay(self, host: Host, seconds: float) -> Callable[[], None]:
        """Have each packet from or to a host come `seconds` late, until what this gives is called.

        Instead of its link, that of a relay is in the bridge.
        """
        far, near = f"{host.name}-far", f"{host.name}-near"
        self._switch("ip", "link", "add", "name", far, "type", "veth", "peer", "name", near)
        for link in (far, near):
            self._quiet(link)
        self._switch("ip", "link", "set", "dev", host.name, "nomaster")
        self._switch("ip", "link", "set", "dev", far, "master", _BRIDGE)
        for link in (far, near):
            self._switch("ip", "link", "set", "dev", link, "up")
        module = f"{__package__}.relay"
        command = [*self._in_switch, sys.executable, "-m", module, host.name, near, str(seconds)]
        pipe = subprocess.PIPE
        relay = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=_ROOT)
        assert relay.stdin is not None
        assert relay.stdout is not None
        said = relay.stdout.readline()

        def end() -> None:
            with relay:
                assert relay.stdin is not None
                relay.stdin.close()
                try:
                    code = relay.wait(_LIMIT)
                finally:
                    relay.kill()
            self._switch("ip", "link", "delete", far)
            self._switch("ip", "link", "set", "dev", host.name, "master", _BRIDGE)
            if code:
                raise OSError(f"the relay of {host.name} has ended with {code}")

        if said != b"relaying\n":
            end()
            raise OSError(f"the relay of {host.name} does not start")
        return end

    def reset(self, host: Host) -> None:
        """Reset all TCP connections of a host over the network; both sides are told, as far as that reaches them."""
        _run(*_within(self.namespace(host)), "ss", "--kill", "--tcp", "--no-header", "src", host.address)

    # -- how it is made

    def _make(self) -> None:
        _run("ip", "netns", "add", self._bridge)
        self._switch("ip", "link", "add", "name", _BRIDGE, "type", "bridge")
        self._quiet(_BRIDGE)
        self._switch("ip", "link", "set", _BRIDGE, "up")
        for host in self.hosts:
            self._connect(host)
        self._switch("nft", "-f", "-", text=_OFF)

    def _connect(self, host: Host) -> None:
        namespace = self.namespace(host)
        _run("ip", "netns", "add", namespace)
        link = ("ip", "link", "add", "name", host.name, "type", "veth")
        self._switch(*link, "peer", "name", "eth0", "address", host.hardware, "netns", namespace)
        self._quiet(host.name)
        self._switch("ip", "link", "set", "dev", host.name, "master", _BRIDGE, "up")
        inside = _within(namespace)
        _run(*inside, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv4.ip_unprivileged_port_start=0")
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")
        for address in (*(other.address for other in self.hosts if other != host), SILENT):
            way = ("neighbour", "add", address, "lladdr", hardware(address), "nud", "permanent", "dev", "eth0")
            _run("ip", "-n", namespace, *way)

    def _quiet(self, link: str) -> None:
        """A link of the switch says nothing by itself."""
        self._switch("sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")

    def _apply(self) -> None:
        """Stop the ways that anything stops, and no others, at one blow."""
        ways = sorted({way for each in self._stopped for way in each})
        lines = ["flush set bridge partitions stopped"]
        if ways:
            elements = ", ".join(f"{way.source} . {way.target}" for way in ways)
            lines.append(f"add element bridge partitions stopped {{ {elements} }}")
        self._switch("nft", "-f", "-", text="\n".join(lines) + "\n")

    @property
    def _bridge(self) -> str:
        return f"{self.name}.{_SWITCH}"

    @property
    def _in_switch(self) -> tuple[str, ...]:
        return _within(self._bridge)

    def _switch(self, *command: str, text: str | None = None) -> None:
        _run(*self._in_switch, *command, text=text)


def _within(namespace: str) -> tuple[str, ...]:
    return ("nsenter", f"--net={NAMESPACES / namespace}")


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_LIMIT, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
