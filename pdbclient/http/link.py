"""One TLS connection for coroutines: a socket that never blocks, and every wait with a limit.

asyncio's own TLS transport loses what came in before a write failed: a 413, or why our certificate is refused. On the
socket itself the answer is still read. And bytes are copied once less.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from typing import Self

__all__ = ["Link"]

_READ = 64 * 1024
_BURST = 1024 * 1024


class Link:
    """A connection, made by `open`. Only for the event loop that opened it; `close` may come from anywhere."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls
        self._descriptor = tls.fileno()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, host: str, port: int, context: ssl.SSLContext, limit: float) -> Self:
        """Connect to the first address of `host` that takes it. `limit` is in seconds, for the name, TCP and TLS.

        Raises `TimeoutError`, `OSError` (`ssl.SSLError` is one), `UnicodeError` for what cannot be a host's name.
        """
        async with asyncio.timeout(limit):
            plain = await _connected(host, port, asyncio.get_running_loop().time() + limit)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                tls = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            except BaseException:
                plain.close()
                raise
            link = cls(tls)
            try:
                await link._handshake()
            except BaseException:
                link.close()
                raise
            return link

    def close(self) -> None:
        """Let go of it, without TLS's own good-bye."""
        self._tls.close()

    @property
    def dropped(self) -> bool:
        """Whether the server has closed it, or said what nobody asked for. For a link without a request."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    async def send(self, data: bytes, inactivity: float, deadline: float) -> None:
        """Send all of it. `inactivity`: seconds that one wait may last; `deadline`: when the last one ends."""
        left, pause = memoryview(data), len(data) - _BURST
        while left:
            if len(left) < pause:
                # A server that takes it as fast as it comes would keep everybody else waiting.
                pause -= _BURST
                await asyncio.sleep(0)
            try:
                left = left[self._tls.send(left) :]
            except ssl.SSLWantWriteError:
                await self._ready(writing=True, inactivity=inactivity, deadline=deadline)
            except ssl.SSLWantReadError:
                await self._ready(writing=False, inactivity=inactivity, deadline=deadline)

    async def receive(self, inactivity: float, deadline: float) -> bytes:
        """What comes next; nothing when the server has closed."""
        while True:
            # What TLS has read already, no wait for the socket would tell of.
            if not self._tls.pending():
                await self._ready(writing=False, inactivity=inactivity, deadline=deadline)
            try:
                return self._tls.recv(_READ)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLWantWriteError:
                await self._ready(writing=True, inactivity=inactivity, deadline=deadline)

    async def _handshake(self) -> None:
        forever = float("inf")
        while True:
            try:
                return self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._ready(writing=False, inactivity=forever, deadline=forever)
            except ssl.SSLWantWriteError:
                await self._ready(writing=True, inactivity=forever, deadline=forever)

    async def _ready(self, *, writing: bool, inactivity: float, deadline: float) -> None:
        """Wait until the socket can be read, or written to. Raises `TimeoutError` at the earlier of the limits."""
        loop, descriptor = self._loop, self._descriptor
        end = min(loop.time() + inactivity, deadline)
        ready: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(end, _late, ready) if end < float("inf") else None
        (loop.add_writer if writing else loop.add_reader)(descriptor, _wake, ready)
        try:
            await ready
        finally:
            (loop.remove_writer if writing else loop.remove_reader)(descriptor)
            if timer is not None:
                timer.cancel()


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _late(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_exception(TimeoutError("nothing within the read timeout, or the deadline has passed"))


async def _connected(host: str, port: int, end: float) -> socket.socket:
    """A TCP connection to one of the host's addresses, each tried for an equal share of what is left until `end`."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    refused = OSError(f"no address for {host}")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        now = loop.time()
        plain = socket.socket(family, kind, protocol)
        try:
            plain.setblocking(False)
            async with asyncio.timeout_at(now + (end - now) / (len(addresses) - tried)):
                await loop.sock_connect(plain, address)
        except OSError as error:
            plain.close()
            # asyncio puts the address in the place of the system's words.
            refused = OSError(error.errno, os.strerror(error.errno)) if error.errno else error
        except BaseException:
            plain.close()
            raise
        else:
            return plain
    raise refused
