"""Root, who may do all, works on a journal as the user whose it is: what is made meanwhile is that user's, too.

Else the gateway, which runs as that user, could not open its own journal any more.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["as_owner"]


@contextmanager
def as_owner(place: str | None) -> Iterator[None]:
    """Inside, root is the owner of the journal's file at `place`, or, where there is none yet, of its directory.

    Anybody else stays who he is, and so does root where it is root's, or in PostgreSQL. The whole process changes.
    """
    owner = _owner(place) if os.geteuid() == 0 else None
    if owner is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(_groups(*owner))
        os.setegid(owner[1])
        os.seteuid(owner[0])
        yield
    finally:
        # First the user: only root may change the groups.
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _owner(place: str | None) -> tuple[int, int] | None:
    """User and group; None where nobody is to be changed to."""
    if place is None or "://" in place:
        return None
    path = Path(place).resolve()
    for each in (path, path.parent):
        try:
            found = each.stat()
        except OSError:
            # That it is not there, or not to be seen, is said when it is opened.
            continue
        return (found.st_uid, found.st_gid) if found.st_uid != 0 else None
    return None


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        # A user without a name: of a container, say.
        return [gid]
