"""The host: the service's unit and user, the files with secrets, the room on its disks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pdbclient.doctor.kinds import found, well
from pdbclient.doctor.model import DiskFacts, Facts, Finding, Role

__all__ = ["check_disks", "check_files", "check_unit", "check_user"]

MIB = 1024 * 1024
FULL = (100 * MIB, 0.01)
FILLING = (1024 * MIB, 0.05)
"""Bytes, or a share of the file system, whichever is less: there a disk is full, or fills."""
FEW_INODES = 1000


def check_unit(facts: Facts) -> Iterator[Finding]:
    """Whether the service runs, and will after the next boot. A host without a gateway needs no unit."""
    unit, name = facts.unit, f"{facts.unit.name}.service"
    if unit.active is None or (facts.service.role is Role.SERVER and facts.service.gateway_url is None):
        return
    if unit.active not in ("active", "reloading", "activating"):
        yield found("unit-not-running", name, f"systemd says that it is {unit.active}", unit=unit.name)
    elif unit.enabled == "disabled":
        yield found("unit-not-enabled", name, "it is not started at boot", unit=unit.name)
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
        if disk.error is not None:
            yield found("directory-unwritable", disk.path, f"{disk.purpose}: {disk.error}", user=user, path=disk.path)
        elif _below(disk, FULL):
            yield found("disk-full", disk.path, f"{disk.purpose} has {_room(disk)}")
        elif _below(disk, FILLING) or (disk.free_inodes is not None and disk.free_inodes < FEW_INODES):
            yield found("disk-filling", disk.path, f"{disk.purpose} has {_room(disk)}")
        else:
            yield well("disk", disk.path, f"{disk.purpose} has {_room(disk)}")


def _below(disk: DiskFacts, limit: tuple[int, float]) -> bool:
    least, share = limit
    return disk.free < min(least, share * disk.size) or disk.free_inodes == 0


def _room(disk: DiskFacts) -> str:
    inodes = "" if disk.free_inodes is None or disk.free_inodes >= FEW_INODES else f", {disk.free_inodes} inodes"
    return f"{disk.free / MIB:.0f} MiB of {disk.size / MIB:.0f} MiB free{inodes}"
