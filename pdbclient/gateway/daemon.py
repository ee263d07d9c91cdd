"""`pdbclient gateway`: serve one configuration, then the next one, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from pdbclient.config.model import ClientConfig
from pdbclient.errors import ConfigError, GatewayError, JournalError, StatusError
from pdbclient.gateway.notify import notify_ready, notify_reloading, notify_stopping
from pdbclient.gateway.server import DRAIN_LIMIT, Server
from pdbclient.gateway.status import StatusPage
from pdbclient.http.tls import TlsState, tls_state

__all__ = ["Gateway"]

log = logging.getLogger("pdbclient.gateway")

T = TypeVar("T")

FILES_INTERVAL = 5.0
"""Seconds between looks at the TLS files, whose replacement needs no signal, and between tries to reload."""
SAID_EVERY = 60.0


class Gateway:
    """The daemon. `load` reads the configuration: at the start, where its errors are raised, and at each reload."""

    def __init__(self, load: Callable[[], ClientConfig]) -> None:
        self._load = load
        self._stopping = self._reloading = False
        self._seen: TlsState = ()
        self._failed: _Failed | None = None
        self._ending: set[asyncio.Task[Any]] = set()
        self._page = StatusPage()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises `ConfigError`, `GatewayError` or `StatusError` when it cannot bind an address, and `JournalError`.
        """
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._woken, self._told_to_stop = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        server, self._seen = await _in_thread(lambda: self._opened(None), _let_go)
        # Before it says that it listens: whoever reads that may send one.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._ask_for_reload)
        try:
            await self._in_force(server)
            notify_ready(server.summary)
            while not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), FILES_INTERVAL)
                self._woken.clear()
                if not self._stopping and (why := self._why_to_reload(server)):
                    # Before: a signal that comes while it is read is for what comes after.
                    self._reloading = False
                    server = await self._unless_stopped(self._reloaded(server, why), server)
            notify_stopping()
            log.info("ending; requests under way have %.0f s", DRAIN_LIMIT)
        finally:
            await asyncio.gather(server.stop(), asyncio.to_thread(self._page.close), *self._ending)
        log.info("ended")

    def _stop(self) -> None:
        self._stopping = True
        self._told_to_stop.set()
        self._woken.set()

    def _ask_for_reload(self) -> None:
        self._reloading = True
        self._woken.set()

    def _why_to_reload(self, server: Server) -> str | None:
        if self._reloading:
            return "asked to"
        if tls_state(server.config.tls) != self._seen:
            return "a certificate or the revocation list was replaced"
        return None if self._failed is None else self._failed.why

    async def _unless_stopped(self, reloading: Coroutine[Any, Any, Server], server: Server) -> Server:
        """What a reload comes to; `server` when it is not done by the time that the gateway is to end."""
        reload = asyncio.ensure_future(reloading)
        stop = asyncio.ensure_future(self._told_to_stop.wait())
        await asyncio.wait([reload, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if reload.done():
            return reload.result()
        reload.cancel()
        # What it has begun to start ends with the others.
        self._ending.add(asyncio.ensure_future(asyncio.wait([reload])))
        return server

    async def _reloaded(self, server: Server, why: str) -> Server:
        """The server of the configuration as it is now; the old one when that cannot be used yet."""
        notify_reloading()
        try:
            new, seen = await _in_thread(lambda: self._opened(server), _let_go)
            try:
                await self._in_force(new)
            except BaseException:
                await new.stop()
                raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the old configuration stays, and it is said
            self._put_off(why, error)
            new = server
        else:
            self._failed, self._seen = None, seen
            log.info("configuration and certificates reloaded: %s", why)
            # The old one ends in its own time: its requests under way are answered.
            ending = asyncio.create_task(server.stop(new))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        notify_ready(new.summary)
        return new

    async def _in_force(self, server: Server) -> None:
        """Put it in force: it accepts connections last, since from then on, nothing may fail: it has clients."""
        await server.prepare()
        await asyncio.to_thread(self._page.show, server)
        await server.start()

    def _opened(self, before: Server | None) -> tuple[Server, TlsState]:
        """The server of the configuration as it is now, and the state of its TLS files from before they were read."""
        config = self._load()
        seen = tls_state(config.tls)
        return Server.open(config, before, self._page.sockets), seen

    def _put_off(self, why: str, error: Exception) -> None:
        """Try again until it is done: what was revoked, say, must not stay in. It is said once a minute."""
        now, text = time.monotonic(), str(error) or repr(error)
        last = self._failed
        if last is None or last.text != text or now - last.said_at >= SAID_EVERY:
            expected = isinstance(error, ConfigError | GatewayError | JournalError | StatusError | OSError)
            # Anything else is a fault of ours, which somebody has to look into.
            trace = None if expected else error
            log.error("reload failed, the old configuration stays in force: %s", text, exc_info=trace)
            last = _Failed(why, text, now)
        self._failed = last


@dataclass(frozen=True, slots=True)
class _Failed:
    """A reload that could not be done yet, why it is wanted, and when (monotonic seconds) its error was last said."""

    why: str
    text: str
    said_at: float


def _let_go(opened: tuple[Server, TlsState]) -> None:
    opened[0].discard()


async def _in_thread(call: Callable[[], T], unwanted: Callable[[T], None]) -> T:
    """Run it in a thread of its own, for which nobody waits at the end: a file or a name may take for ever.

    What it gives when nobody waits for it any more goes to `unwanted`, in another thread.
    """
    future: Future[T] = Future()
    # Begun: it cannot be cancelled, and its result is there to be let go of, sooner or later.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits for it
            future.set_exception(error)

    def left(done: Future[T]) -> None:
        if done.exception() is None:
            threading.Thread(target=unwanted, args=(done.result(),), name="pdbclient-load", daemon=True).start()

    threading.Thread(target=run, name="pdbclient-load", daemon=True).start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(left)
        raise
