"""Which account the lab's servers run as: PostgreSQL refuses root, and a JVM has no use for it."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pdbclient.errors import LabError

__all__ = ["Account", "Identity", "require_reachable", "server_account"]

# Both come with the Debian packages; PostgreSQL's own account is preferred because it is there on every
# distribution.
_CANDIDATES = ("postgres", "puppetdb", "nobody")


class Identity(TypedDict, total=False):
    """The keyword arguments of `subprocess` that change to another account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """A system account. `switch` says whether we have to change to it, that is: whether we are root."""

    name: str
    uid: int
    gid: int
    home: str
    switch: bool

    @property
    def identity(self) -> Identity:
        """How `subprocess.run` becomes this account; empty when we are it already."""
        return Identity(user=self.uid, group=self.gid, extra_groups=[]) if self.switch else Identity()

    @property
    def environment(self) -> dict[str, str]:
        """A small environment for the servers: no PG* or JAVA_TOOL_OPTIONS of ours leaks into them."""
        kept = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        return {"LANG": "C.UTF-8", "HOME": self.home, **kept}

    def own(self, *paths: Path) -> None:
        """Give files and directories to this account (nothing to do when it is ourselves)."""
        if self.switch:
            for path in paths:
                os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Ourselves, or for root the first of PostgreSQL's, PuppetDB's and the nobody account that exists."""
    if os.geteuid() != 0:
        me = pwd.getpwuid(os.geteuid())
        return Account(me.pw_name, me.pw_uid, me.pw_gid, me.pw_dir, switch=False)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, switch=True)
    raise LabError(f"root cannot run PostgreSQL, and none of the accounts {', '.join(_CANDIDATES)} exists")


def require_reachable(directory: Path, account: Account) -> None:
    """Check that `account` can walk down to `directory` (the part of it that exists).

    A lab below a 0700 home of root would only fail later, with a message of initdb's that blames the wrong
    thing. Raises `LabError` naming the directory that is closed.
    """
    if not account.switch:
        return
    for part in (*reversed(directory.absolute().parents), directory):
        try:
            info = part.stat()
        except FileNotFoundError:
            return
        needed = stat.S_IXOTH
        if info.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif info.st_gid == account.gid:
            needed = stat.S_IXGRP
        if not info.st_mode & needed:
            raise LabError(
                f"the servers run as {account.name}, which may not enter {part}: "
                "choose a directory outside it (--dir), for example below /var/tmp"
            )
