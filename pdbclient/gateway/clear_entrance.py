"""The entrance of the clear-text address: how many connections there may be, and which make room for others."""

from __future__ import annotations

import logging
import socket
from collections import deque

from pdbclient.gateway.listen import PATIENCE, Entrance

__all__ = ["ClearEntrance"]

log = logging.getLogger("pdbclient.gateway")


class ClearEntrance(Entrance):
    """Without TLS to be waited for, all connections count: there may be `most`, whatever they do.

    When there are, the oldest without a request is closed for the next one, if it is `PATIENCE` old; else that one
    is. It does not wait in the backlog: the event loop would ask for it again and again. `inside` gives the
    descriptors of the connections with a request under way.
    """

    def _make_room(self, now: float) -> None:
        # A closed one's descriptor is -1.
        self._handshakes = deque(each for each in self._handshakes if each[1].fileno() >= 0)
        if len(self._handshakes) < self._most:
            return
        if not self._said:
            self._said = True
            log.warning("%d connections in clear text are open: idle ones are closed for new ones", self._most)
        busy = self._inside()
        for each in self._handshakes:
            began, connection = each
            if now - began < PATIENCE:
                break
            if connection.fileno() not in busy:
                self._handshakes.remove(each)
                _end(connection)
                return
        # Without a descriptor for it the event loop rests for a while, as at the other entrance.
        newest, _ = socket.socket.accept(self)
        newest.close()
        raise BlockingIOError


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        log.debug("a connection in clear text had gone: %s", error)
