"""Where a unit of systemd lets its service write: rules for paths, made of what `systemctl show` says."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping

from pdbclient.doctor.model import PathRule

__all__ = ["PATH_PROPERTIES", "path_rules"]

_OWN_DIRECTORIES = {
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
    "RuntimeDirectory": "/run",
}
"""What systemd makes for the service, and below which directory."""
PATH_PROPERTIES = ("ProtectSystem", "ProtectHome", "PrivateTmp", "ReadWritePaths", "BindPaths", *_OWN_DIRECTORIES)

_SYSTEM = {
    "strict": ("/",),
    "full": ("/usr", "/boot", "/efi", "/etc"),
    "yes": ("/usr", "/boot", "/efi"),
}
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")


def path_rules(shown: Mapping[str, str]) -> tuple[PathRule, ...]:
    """The rules of a unit: see systemd.exec(5). Empty where systemd was not asked."""
    return tuple(PathRule(os.path.realpath(path), effect, setting) for path, effect, setting in _rules(shown))


def _rules(shown: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    system, home, temporary = (shown.get(name, "no") for name in ("ProtectSystem", "ProtectHome", "PrivateTmp"))
    for path in _SYSTEM.get(system, ()):
        yield path, "read-only", f"ProtectSystem={system}"
    if home != "no":
        for path in _HOMES:
            yield path, "read-only" if home == "read-only" else "hidden", f"ProtectHome={home}"
    if temporary != "no":
        for path in _TEMPORARY:
            yield path, "private", f"PrivateTmp={temporary}"
    for path in _words(shown, "ReadWritePaths"):
        yield path.lstrip("-+"), "read-write", "ReadWritePaths"
    for path in _words(shown, "BindPaths"):
        source, *rest = path.lstrip("-").split(":")
        yield rest[0] if rest else source, "read-write", "BindPaths"
    for setting, parent in _OWN_DIRECTORIES.items():
        for name in _words(shown, setting):
            yield f"{parent}/{name.partition(':')[0]}", "read-write", setting


def _words(shown: Mapping[str, str], name: str) -> list[str]:
    text = shown.get(name, "")
    try:
        return shlex.split(text)
    except ValueError:
        # Not as a shell writes it: as older releases of systemd do.
        return text.split()
