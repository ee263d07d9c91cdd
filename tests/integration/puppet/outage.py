"""What fails around a Puppet run, and on which server its data then is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from pdbclient.lab import Lab
from tests.soak import LONG

from ..journal_truth import process_all
from ..locked_table import locked
from .gateway import Gateway

__all__ = ["BACK", "LIMITS", "OUTAGES", "PRIMARY", "REPLICA", "Outage", "blackout", "reading_only"]

PRIMARY, REPLICA = "primary", "replica"
BACK = {"kill": "start", "freeze": "thaw", "stop-postgres": "start-postgres"}

# The examples' time limits, shortened in proportion: Puppet waits longer than the gateway does for all servers.
LIMITS = {
    "server_url_timeout": "5",
    "connect_timeout": "1s",
    "read_timeout": "2s",
    "operation_timeout": "4500ms",
}


@dataclass(frozen=True, slots=True)
class Outage:
    """`primary` is the fault of that PuppetDB; `lands` is the server that then has what Puppet sends."""

    lands: str
    primary: str | None = None
    gateway_killed: bool = False

    @contextmanager
    def __call__(self, lab: Lab, gateways: Sequence[Gateway]) -> Iterator[None]:
        """All is as it says; afterwards the primary is well again."""
        for gateway in gateways if self.gateway_killed else ():
            gateway.kill()
        if self.primary is None:
            yield
            return
        lab.fault(PRIMARY, self.primary)
        try:
            yield
        finally:
            lab.fault(PRIMARY, BACK[self.primary])
        if self.primary == "stop-postgres":
            # What met the missing database often enough is tried again after an hour, or a restart.
            assert process_all(lab, PRIMARY) == set()


OUTAGES = {
    "nothing": Outage(PRIMARY),
    "primary killed": Outage(REPLICA, "kill"),
    "primary frozen": Outage(REPLICA, "freeze"),
    "gateway killed": Outage(PRIMARY, gateway_killed=True),
}
if LONG:
    OUTAGES["gateway and primary killed"] = Outage(REPLICA, "kill", gateway_killed=True)


@contextmanager
def blackout(lab: Lab) -> Iterator[None]:
    """Both PuppetDBs are killed; afterwards both run again."""
    for name in (PRIMARY, REPLICA):
        lab.fault(name, "kill")
    try:
        yield
    finally:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: lab.fault(name, "start"), (PRIMARY, REPLICA)))


@contextmanager
def reading_only(lab: Lab, name: str) -> Iterator[None]:
    """This PuppetDB takes commands and answers queries, and what it takes does not show before the end."""
    with locked(lab, name, "certnames", "share"):
        yield
