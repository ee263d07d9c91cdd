"""What kinds of worlds there are, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Arrangement", "Front", "NotNow", "Usage", "WorldError"]


class Arrangement(StrEnum):
    """Where the journal is."""

    SHARED = "postgresql"
    """In a PostgreSQL on a host of its own, shared by both gateways."""
    FILES = "sqlite"
    """In a file of each gateway, on a disk whose power can be cut."""


class Front(StrEnum):
    """What the Puppet hosts send through."""

    GATEWAY = "gateway"
    """pdbclient's gateway; only with it, the PuppetDBs have reconcilers, too."""
    STOCK = "stock"
    """Nothing: they speak to the PuppetDBs as the stock terminus does."""
    HAPROXY = "haproxy"
    """haproxy on each of them."""


class WorldError(Exception):
    """The world is not what it is to be; the message says what, and why."""


class NotNow(WorldError):
    """A nemesis cannot be aimed at that now: it is down already, say. Nothing was done."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses: open descriptors, threads, resident memory in megabytes."""

    descriptors: int
    threads: int
    megabytes: float
