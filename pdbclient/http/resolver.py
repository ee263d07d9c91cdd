"""The addresses of one host, looked up so that whoever waits for them has a limit.

The system's look-up has none: it may hang for as long as its servers are silent.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
from concurrent.futures import Future

__all__ = ["Resolver"]

GIVEN_UP_AFTER = 30.0
"""Seconds after which a look-up that hangs is left alone, and another one started."""
MOST = 4
"""Look-ups that hang, each in a thread: while there are so many, no further one is started."""


class Resolver:
    """Looks up `host`. Thread-safe: all that ask at the same time wait for one look-up, in a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._literal = _is_address(host)
        self._lock = threading.Lock()
        self._running: list[Future[list[str]]] = []
        self._began = float("-inf")

    def addresses(self, limit: float) -> list[str]:
        """The addresses, in the order to try them, within `limit` seconds.

        Raises `TimeoutError`, `socket.gaierror`, `UnicodeError` for what cannot be a host's name, and `OSError` for
        what this machine does not have, a thread or a descriptor.
        """
        return [self._host] if self._literal else self._look_up().result(max(limit, 0.0))

    def _look_up(self) -> Future[list[str]]:
        with self._lock:
            self._running = [future for future in self._running if not future.done()]
            is_new = time.monotonic() - self._began < GIVEN_UP_AFTER
            if self._running and (is_new or len(self._running) == MOST):
                return self._running[-1]
            future: Future[list[str]] = Future()
            thread = threading.Thread(target=self._fulfil, args=(future,), name="pdbclient-resolver", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(errno.ENOMEM, str(error)) from error
            self._running.append(future)
            self._began = time.monotonic()
            return future

    def _fulfil(self, future: Future[list[str]]) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            future.set_exception(_no_descriptor() or error)
        else:
            future.set_result([str(entry[4][0]) for entry in found])


def _no_descriptor() -> OSError | None:
    """Why a look-up may have failed: without a descriptor for its files, the system says "unknown host"."""
    try:
        socket.socket().close()
    except OSError as error:
        return error
    return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
