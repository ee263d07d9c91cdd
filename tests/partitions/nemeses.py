"""What befalls a world: each with what it may be aimed at, a beginning and an end.

A target is the names of hosts, or of a host and what of it is meant, with spaces between. All that has begun is
ended by `World.heal`, too. What cannot be done at that moment, as the service is down already, say, is `NotNow`, and
nothing has happened then.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from time import sleep

from pdbclient.errors import LabError
from pdbclient.lab import reset

from .copies import dump, restore
from .hosts import Host
from .model import NotNow, WorldError
from .network import Way, around, between
from .services import PostgresqlService, PuppetdbService
from .world import World

__all__ = ["NEMESES", "Nemesis", "halves"]

ROUND_TRIP = 0.15
"""Seconds."""
FLAP_OFF, FLAP_ON = 1.5, 1.0
HOURS = 3
_EMPTYING = 5.0
_TRIES = 3

End = Callable[[], None]
Targets = Callable[[World], Sequence[str]]
Begin = Callable[[World, str], End]


@dataclass(frozen=True, slots=True)
class Nemesis:
    """One of them. `begin` aims it at a target and gives what ends it; `targets` are always in the same order.

    `lasting`: it goes on until its end. Else it is over at once, and its end does nothing.
    """

    name: str
    targets: Targets
    begin: Begin
    lasting: bool


def halves(hosts: Sequence[Host]) -> list[tuple[Host, ...]]:
    """The ways to part the hosts in two, with two or more on each side: each by its side that has the first host.

    (One that is alone is cut off, which is another matter.)
    """
    first, *others = hosts
    sides = [(first, *some) for number in range(1, len(others)) for some in combinations(others, number)]
    return [side for side in sides if len(hosts) - len(side) >= 2]


# -- targets


def _hosts(world: World) -> list[str]:
    return [host.name for host in world.hosts]


def _sides(world: World) -> list[str]:
    return [" ".join(host.name for host in side) for side in halves(world.hosts)]


def _ways(world: World) -> list[str]:
    return [f"{one.name} {other.name}" for one in world.hosts for other in world.hosts if one != other]


def _services(world: World) -> list[str]:
    return [f"{host.name} {service}" for host in world.hosts for service in world.services(host)]


def _powers(world: World) -> list[str]:
    return [host.name for host in world.puppets if host in world.installation.powers]


def _clocks(world: World) -> list[str]:
    some = [each for each in _services(world) if each.endswith((" gateway", " reconciler"))]
    return [f"{each} {sign}{HOURS}h" for each in some for sign in "+-"]


def _puppets(world: World) -> list[str]:
    return [host.name for host in world.puppets]


def _databases(world: World) -> list[str]:
    return [host.name for host in world.databases]


# -- the network


def _cut(world: World, target: str) -> End:
    return _stop(world, around(world.host(target), world.hosts))


def _halves(world: World, target: str) -> End:
    side = [world.host(name) for name in target.split()]
    return _stop(world, between(side, [host for host in world.hosts if host not in side]))


def _one_way(world: World, target: str) -> End:
    source, other = (world.host(name) for name in target.split())
    return _stop(world, frozenset({Way(source.address, other.address)}))


def _stop(world: World, ways: frozenset[Way]) -> End:
    return world.installation.network.stop(ways)


def _flap(world: World, target: str) -> End:
    network, host, over = world.installation.network, world.host(target), threading.Event()
    failed: list[Exception] = []

    def flap() -> None:
        try:
            plugged = False
            while not plugged or not over.is_set():
                plug = network.unplug(host)
                over.wait(FLAP_OFF)
                plug()
                plugged = True
                over.wait(FLAP_ON)
        except Exception as error:  # noqa: BLE001 - raised at its end
            failed.append(error)

    thread = threading.Thread(target=flap, name=f"flap-{target}")
    thread.start()

    def end() -> None:
        over.set()
        thread.join()
        if failed:
            raise WorldError(f"the link of {target} does not flap: {failed[0]}")

    return end


def _reset(world: World, target: str) -> End:
    world.installation.network.reset(world.host(target))
    return _nothing


def _thin(world: World, target: str) -> End:
    return world.installation.network.thin(world.host(target))


def _delay(world: World, target: str) -> End:
    return world.installation.network.delay(world.host(target), ROUND_TRIP / 2)


def _no_names(world: World, target: str) -> End:
    names = world.installation.names[world.host(target)]
    names.fail()
    return names.resolve


# -- services


def _frozen(world: World, target: str) -> End:
    host, name = target.split()
    service = world.service(world.host(host), name)
    _require(service.state() == "up", f"{target} is {service.state()}")
    service.stop()
    return service.thaw


def _kill(world: World, target: str) -> End:
    host, name = target.split()
    service = world.service(world.host(host), name)
    _require(service.state() != "down", f"{target} is down")
    service.kill()
    return service.launch


def _power_cut(world: World, target: str) -> End:
    """The gateway is gone with its host's power; what the disk has of what was not synced is a matter of chance."""
    host = world.host(target)
    power, gateway = world.installation.powers[host], world.service(host, "gateway")
    was_down = gateway.state() == "down"
    power.cut(next(world.numbers))
    gateway.kill()
    power.on()
    if not was_down:
        gateway.launch()
    return _nothing


def _clock(world: World, target: str) -> End:
    """It jumps at the beginning, and back at the end."""
    host, _, jump = target.split()
    clock = world.installation.clocks[world.host(host)]
    clock.set(int(jump.rstrip("h")) * 3600)
    return lambda: clock.set(0)


def _revoke(world: World, target: str) -> End:
    certificates, host = world.installation.certificates, world.host(target)
    certificates.revoke(host, world.databases)
    return lambda: certificates.renew(host)


# -- data


def _emptied(world: World, target: str) -> End:
    _require_both(world, target)
    servers = world.installation.servers(world.host(target))
    for last in (False, False, True):
        try:
            reset.empty(servers, _EMPTYING)
            break
        except LabError as error:
            # PuppetDB works meanwhile: it may be in the way of the lock.
            if last:
                raise NotNow(f"{target} cannot be emptied: {error}") from error
            sleep(1.0)
    return _nothing


def _restored(world: World, target: str) -> End:
    """The dump is made at the beginning. At the end, all is as it was then: what came since is gone."""
    host = world.host(target)
    _require_both(world, target)
    database, puppetdb = world.service(host, "postgres"), world.service(host, "puppetdb")
    assert isinstance(database, PostgresqlService)
    assert isinstance(puppetdb, PuppetdbService)
    directory = world.directory / "dumps" / str(next(world.numbers))
    directory.mkdir(parents=True)
    dump(database.postgres, directory / "puppetdb.dump")

    def end() -> None:
        puppetdb.kill()
        database.thaw()
        database.launch()
        # What it had accepted and not stored yet is on another disk than the database's, and goes on from there.
        restore(database.postgres, directory / "puppetdb.dump")
        shutil.rmtree(directory)
        puppetdb.launch()

    return end


def _require_both(world: World, target: str) -> None:
    for name in ("puppetdb", "postgres"):
        state = world.service_state(world.host(target), name)
        _require(state == "up", f"{name} of {target} is {state}")


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise NotNow(why)


def _nothing() -> None:
    pass


def _registered(name: str, begin: Begin) -> Begin:
    """With an end that the world knows, and that may be called twice."""
    return lambda world, target: world.begin(f"{name} {target}", lambda: begin(world, target))


def _all(*some: tuple[str, Targets, Begin, bool]) -> dict[str, Nemesis]:
    return {
        name: Nemesis(name, targets, _registered(name, begin) if lasting else begin, lasting)
        for name, targets, begin, lasting in some
    }


NEMESES: Mapping[str, Nemesis] = _all(
    ("cut", _hosts, _cut, True),
    ("halves", _sides, _halves, True),
    ("one_way", _ways, _one_way, True),
    ("flap", _hosts, _flap, True),
    ("reset", _hosts, _reset, False),
    ("thin", _hosts, _thin, True),
    ("delay", _hosts, _delay, True),
    ("no_names", _hosts, _no_names, True),
    ("stop", _services, _frozen, True),
    ("kill", _services, _kill, True),
    ("power_cut", _powers, _power_cut, False),
    ("clock", _clocks, _clock, True),
    ("revoke", _puppets, _revoke, True),
    ("emptied", _databases, _emptied, False),
    ("restored", _databases, _restored, True),
)
"""All of them, by name."""
