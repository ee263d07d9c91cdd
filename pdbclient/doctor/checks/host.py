"""The host: the service's unit and user, the files with secrets, the room on its disks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import DiskFacts, Facts, Finding, PathRule, Role, UnitFacts

__all__ = ["check_disks", "check_files", "check_unit", "check_user", "unwritable"]

MIB = 1024 * 1024
FULL = (100 * MIB, 0.01)
FILLING = (1024 * MIB, 0.05)
"""Bytes, or a share of the file system, whichever is less: there a disk is full, or fills."""
FEW_INODES = 1000
SETTLED = 60.0
"""Seconds after which a service that systemd has restarted counts as running: one that ends soon after each start is
found active, too, now and then."""
_RUNNING = ("active", "reloading", "refreshing", "activating")
_NOT_AT_BOOT = ("disabled", "masked", "masked-runtime", "enabled-runtime", "linked", "linked-runtime", "bad")


def check_unit(facts: Facts) -> Iterator[Finding]:
    """Whether the service runs, and will after the next boot. A host without a gateway needs no unit."""
    unit, name = facts.unit, f"{facts.unit.name}.service"
    if unit.active is None or not _needs_unit(facts):
        return
    if unit.active not in _RUNNING or _ends_again(unit):
        yield found("unit-not-running", name, _why_not(unit), unit=unit.name)
    elif unit.load != "loaded":
        yield found("unit-not-enabled", name, f"it runs, but {_unusable(unit)}", unit=unit.name)
    elif unit.enabled in _NOT_AT_BOOT:
        yield found("unit-not-enabled", name, f"it is not started at boot: it is {unit.enabled}", unit=unit.name)
    else:
        yield well("unit", name, f"{unit.active}, as {unit.user}")


def check_user(facts: Facts) -> Iterator[Finding]:
    """Whether files were seen as the service sees them."""
    service = facts.service
    if service.service_user is not None and service.looked_as != service.service_user:
        what = f"files were seen as {service.looked_as}, and the service runs as {service.service_user}"
        yield found("looked-as-another-user", service.config, what, user=service.service_user)


def check_files(facts: Facts) -> Iterator[Finding]:
    """Whether secrets are kept."""
    for file in facts.service.files:
        if file.open_to_all:
            what = f"it holds {file.secret}, and every account of this machine may read it"
            yield found("secret-open-to-all", file.path, what, path=file.path)


def check_disks(facts: Facts) -> Iterator[Finding]:
    """Whether there is room where something is kept, and the service may write there."""
    user = facts.service.looked_as
    for disk in facts.service.disks:
        if (why := unwritable(facts, disk)) is not None:
            names = {"user": user, "path": disk.path, "unit": facts.unit.name}
            yield found("directory-unwritable", disk.path, f"{disk.purpose}: {why}", **names)
        elif _below(disk, FULL):
            yield found("disk-full", disk.path, f"{disk.purpose} has {_room(disk)}")
        elif _below(disk, FILLING) or (disk.free_inodes is not None and disk.free_inodes < FEW_INODES):
            yield found("disk-filling", disk.path, f"{disk.purpose} has {_room(disk)}")
        else:
            yield well("disk", disk.path, f"{disk.purpose} has {_room(disk)}")


def unwritable(facts: Facts, disk: DiskFacts) -> str | None:
    """Why the service cannot write there: for its user, or for its unit, which may allow it less. None: it can."""
    if disk.error is not None or not disk.ours or not _needs_unit(facts):
        return disk.error
    covering = [rule for rule in facts.unit.paths if _is_below(disk.real, rule.path)]
    shut = next((rule for rule in covering if rule.effect in ("hidden", "private")), None)
    if shut is not None:
        return f"its unit has a {shut.path} of its own ({shut.setting}): choose a directory elsewhere"
    # The nearest one holds.
    nearest = max(covering, key=_nearness, default=None)
    if nearest is None or nearest.effect == "read-write":
        return None
    return f"its unit may not write there ({nearest.setting})"


def _nearness(rule: PathRule) -> tuple[int, bool]:
    return len(rule.path), rule.effect == "read-write"


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _needs_unit(facts: Facts) -> bool:
    service = facts.service
    if service.role is Role.PUPPETDB or service.gateway_url is not None:
        return True
    if facts.puppet is not None and facts.puppet.gateway_url is not None:
        return True
    # Nobody knows whether there is to be a gateway; who enabled it wants one.
    return service.unread and facts.unit.enabled == "enabled"


def _ends_again(unit: UnitFacts) -> bool:
    if unit.active == "activating":
        return unit.restarts > 0 or (unit.sub or "").startswith("auto-restart")
    return unit.restarts > 0 and unit.running_for is not None and unit.running_for < SETTLED


def _why_not(unit: UnitFacts) -> str:
    if unit.load != "loaded":
        return _unusable(unit)
    if _ends_again(unit):
        times = f"{unit.restarts} time{'' if unit.restarts == 1 else 's'} so far"
        return f"it ends by itself, and systemd starts it again ({times}): it is {_state(unit)} now"
    return f"systemd says that it is {_state(unit)}"


def _state(unit: UnitFacts) -> str:
    return f"{unit.active}" if unit.sub is None else f"{unit.active} ({unit.sub})"


def _unusable(unit: UnitFacts) -> str:
    if unit.load == "masked":
        return f"it is masked: `systemctl unmask {unit.name}`"
    if unit.load == "not-found":
        return "systemd has no such unit: the package brings it, or puppet_conf_examples"
    return f"systemd cannot use its unit file ({unit.load})"


def _below(disk: DiskFacts, limit: tuple[int, float]) -> bool:
    least, share = limit
    return disk.free < min(least, share * disk.size) or disk.free_inodes == 0


def _room(disk: DiskFacts) -> str:
    inodes = "" if disk.free_inodes is None or disk.free_inodes >= FEW_INODES else f", {disk.free_inodes} inodes"
    return f"{disk.free / MIB:.0f} MiB of {disk.size / MIB:.0f} MiB free{inodes}"
