"""A look from a process of the service's user: whoever asks may be root, and root may read everything.

The process is forked and does not run another program: what is there of pdbclient is loaded, wherever it lies.
"""

from __future__ import annotations

import grp
import importlib
import logging
import os
import pwd
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from pdbclient.doctor.model import ServiceFacts, UnitFacts
from pdbclient.errors import PdbError

__all__ = ["LIMIT", "LookFailed", "Looking"]

log = logging.getLogger("pdbclient.doctor")

LIMIT = 60.0
"""Seconds for the whole look. Each question to a server has a limit of its own; a file on a dead NFS has none."""
LATER = ("psycopg", "encodings.idna")
"""What is else loaded when it is first used, where this user may not be able to read it any more."""


class LookFailed(PdbError):
    """There are no facts; the message says why."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Who a process becomes."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class Looking:
    """`look` under way in a process of its own, as the user and with the groups of `unit`; as us, unless we are root.

    Raises `LookFailed`. To be made before this process has threads.
    """

    def __init__(self, look: Callable[[], ServiceFacts], unit: UnitFacts, limit: float = LIMIT) -> None:
        account = _account(unit)
        for name in LATER:
            try:
                importlib.import_module(name)
            except ImportError:
                # Whoever needs it says so.
                continue
        self._who = unit.user or str(os.geteuid())
        self._end, self._limit = time.monotonic() + limit, limit
        self._answers, answer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._answers)
            _answer(look, account, answer)
        os.close(answer)

    def facts(self) -> ServiceFacts:
        """What it saw, when it is done."""
        try:
            data = self._read()
            os.waitpid(self._pid, 0)
        except LookFailed:
            # What is stuck in the kernel does not even end when it is killed: nobody waits for that.
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, os.WNOHANG)
            raise
        finally:
            os.close(self._answers)
        try:
            return msgspec.json.decode(data, type=ServiceFacts)
        except msgspec.DecodeError as error:
            said = data.decode("utf-8", "replace") or "it ended without a word"
            raise LookFailed(f"the look as {self._who} failed: {said}") from error

    def _read(self) -> bytes:
        data = b""
        while True:
            ready, _, _ = select.select([self._answers], [], [], max(self._end - time.monotonic(), 0.0))
            if not ready:
                raise LookFailed(
                    f"the look as {self._who} took more than {self._limit:.0f} s: is a file system stuck?"
                )
            piece = os.read(self._answers, 64 * 1024)
            if not piece:
                return data
            data += piece


def _answer(look: Callable[[], ServiceFacts], account: _Account | None, answer: int) -> NoReturn:
    """The other process: become that user, look, say what was seen, or what went wrong."""
    try:
        if account is not None:
            os.setgroups(account.groups)
            os.setgid(account.gid)
            os.setuid(account.uid)
            os.environ["HOME"] = account.home
        said = msgspec.json.encode(look())
    except BaseException as error:  # the process that waits says it
        log.debug("the look failed", exc_info=error)
        said = f"{type(error).__name__}: {error}".encode()
    try:
        with os.fdopen(answer, "wb") as stream:
            stream.write(said)
    finally:
        os._exit(0)


def _account(unit: UnitFacts) -> _Account | None:
    """Who the process is to become; None: nobody else, because we cannot, or it is us."""
    if os.geteuid() != 0 or unit.user in (None, "root"):
        return None
    try:
        account = pwd.getpwnam(str(unit.user))
    except KeyError as error:
        raise LookFailed(f"there is no user {unit.user} on this machine") from error
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))
    for name in unit.groups:
        try:
            groups.add(grp.getgrnam(name).gr_gid)
        except KeyError as error:
            raise LookFailed(f"there is no group {name} on this machine, which {unit.name} is to have") from error
    return _Account(account.pw_uid, account.pw_gid, tuple(sorted(groups)), account.pw_dir)
