"""The hosts of a world: their names and addresses, how a process gets onto one, and what it finds there. Pure, but
for `HostNames`, which writes the files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOMAIN", "PUPPETDB_NAME", "SILENT", "Host", "HostNames", "hosts_text", "laid_out", "prefix"]

DOMAIN = "partitions.test"
PUPPETDB_NAME = f"puppetdb.{DOMAIN}"
"""A further name in the certificates of all PuppetDBs: that of whatever stands in front of them on a Puppet host."""
NETWORK = "10.77.0"
SILENT = f"{NETWORK}.53"
"""The address of a name server that never answers. No host has it."""
_FIRST = {"puppet": 11, "db": 21, "journal": 31}

# The files are the host's own in its processes' mount namespace, which goes with the last of them: nothing is left
# of them anywhere. Of what is mounted outside, they see the end, too (a disk that is taken away).
_ENTER = """\
mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf && hostname "$2" && shift 2 &&
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A host by its short name, with its address on the network."""

    name: str
    address: str

    @property
    def fqdn(self) -> str:
        """Its full name, which its certificate carries."""
        return f"{self.name}.{DOMAIN}"

    @property
    def hardware(self) -> str:
        """The hardware address of its link."""
        return hardware(self.address)


def hardware(address: str) -> str:
    """The hardware address that belongs to an address of the network."""
    return f"02:00:00:00:00:{int(address.rpartition('.')[2]):02x}"


def laid_out(databases: int, *, journal: bool) -> tuple[Host, ...]:
    """Two Puppet hosts, so many with a PuppetDB, and one for a shared journal if there is one."""
    names = ["puppet1", "puppet2", *(f"db{number}" for number in range(1, databases + 1))]
    return tuple(Host(name, _address(name)) for name in (*names, *(["journal"] if journal else [])))


def _address(name: str) -> str:
    kind = name.rstrip("0123456789")
    return f"{NETWORK}.{_FIRST[kind] + int(name[len(kind) :] or 1) - 1}"


def hosts_text(own: Host, known: Sequence[Host]) -> str:
    """/etc/hosts of `own`: itself, which every host knows, and those that it can find."""
    lines = ["127.0.0.1 localhost", f"{own.address} {own.fqdn} {own.name} {PUPPETDB_NAME}"]
    lines += [f"{host.address} {host.fqdn} {host.name}" for host in known if host != own]
    return "\n".join(lines) + "\n"


def prefix(namespace: Path, host: Host, directory: Path) -> tuple[str, ...]:
    """The command that runs another one, its arguments, on the host: in its network, with its names and its own name.

    It becomes that command: the process that is started is the one that runs. `directory` is that of its `HostNames`.
    """
    enter = ("nsenter", f"--net={namespace}", "unshare", "--mount", "--propagation", "slave", "--uts")
    return (*enter, "sh", "-c", _ENTER, "sh", str(directory), host.fqdn)


class HostNames:
    """What the names are on one host, in the files of `directory`: a new one."""

    def __init__(self, directory: Path, own: Host, hosts: Sequence[Host]) -> None:
        directory.mkdir(mode=0o755)
        self.directory, self._own, self._hosts = directory, own, hosts
        self.resolve()

    def resolve(self) -> None:
        """All hosts have names; for any other, the name server refuses at once."""
        _rewrite(self.directory / "hosts", hosts_text(self._own, self._hosts))
        _rewrite(self.directory / "resolv.conf", "nameserver 127.0.0.1\n")

    def fail(self) -> None:
        """No other host has a name, and the name server is silent: who asks waits as long as its library does."""
        _rewrite(self.directory / "resolv.conf", f"nameserver {SILENT}\n")
        _rewrite(self.directory / "hosts", hosts_text(self._own, []))


def _rewrite(path: Path, text: str) -> None:
    """In place: another file of that name would not be the one that is mounted. No reader finds it empty."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
        file.write(text.encode())
        file.flush()
        file.truncate()
