"""`pdbclient gateway`: serve one configuration, then the next one, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable

from pdbclient.config.model import ClientConfig
from pdbclient.errors import ConfigError, GatewayError, JournalError
from pdbclient.gateway.door import TlsState, tls_state
from pdbclient.gateway.notify import notify_ready, notify_reloading, notify_stopping
from pdbclient.gateway.site import DRAIN_LIMIT, Site

__all__ = ["Gateway"]

log = logging.getLogger("pdbclient.gateway")

FILES_INTERVAL = 5.0
"""Seconds between looks at the TLS files: a renewed certificate or revocation list needs no signal."""


class Gateway:
    """The daemon. `load` reads the configuration: at the start, where its errors are raised, and at each reload."""

    def __init__(self, load: Callable[[], ClientConfig]) -> None:
        self._load = load
        self._stopping = self._reloading = False
        self._seen: TlsState = ()
        self._ending: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises `ConfigError`, `GatewayError` when the address cannot be had, and `JournalError`.
        """
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._woken = asyncio.Event()
        loop = asyncio.get_running_loop()
        config = self._load()
        self._seen = tls_state(config.tls)
        site = Site.open(config)
        # Before it says that it listens: whoever reads that may send one.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._ask_for_reload)
        try:
            await site.start()
            notify_ready(site.summary)
            while not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), FILES_INTERVAL)
                self._woken.clear()
                if not self._stopping and (self._reloading or tls_state(site.config.tls) != self._seen):
                    # Before: a signal that comes while it is read is for what comes after.
                    asked, self._reloading = self._reloading, False
                    site = await self._reloaded(site, asked=asked)
            notify_stopping()
            log.info("ending; requests under way have %.0f s", DRAIN_LIMIT)
        finally:
            await asyncio.gather(site.stop(), *self._ending)
        log.info("ended")

    def _stop(self) -> None:
        self._stopping = True
        self._woken.set()

    def _ask_for_reload(self) -> None:
        self._reloading = True
        self._woken.set()

    async def _reloaded(self, site: Site, *, asked: bool) -> Site:
        """The site of the configuration as it is now; the old one when that cannot be used."""
        notify_reloading()
        why = "asked to" if asked else "a certificate or the revocation list was replaced"
        # Taken before the files are read: what is replaced meanwhile is read again.
        seen = tls_state(site.config.tls)
        try:
            config = self._load()
            seen_new = tls_state(config.tls)
            new = Site.open(config, site)
        except (ConfigError, GatewayError, JournalError) as error:
            log.error("the configuration was not read again, the old one stays: %s", error)
            # What cannot be used is not tried again until it changes.
            new, self._seen = site, seen
        else:
            self._seen = seen_new
            await new.start()
            log.info("configuration and certificates read again: %s", why)
            # The old one ends in its own time: its requests under way are answered.
            ending = asyncio.create_task(site.stop())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        notify_ready(new.summary)
        return new
