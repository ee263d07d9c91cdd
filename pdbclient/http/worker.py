"""A background thread that is there only while there is something to do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Worker"]

log = logging.getLogger("pdbclient.http")


class Worker:
    """Calls `step` in a thread named `name`: when woken, and after the seconds that it gives; None: nothing is left.

    A thread that cannot be started is said in the log; the next `wake` tries again.
    """

    def __init__(self, name: str, step: Callable[[], float | None]) -> None:
        self._name = name
        self._step = step
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = self._closed = False

    def wake(self) -> None:
        """There is something to do, or something to do sooner."""
        with self._condition:
            self._woken = True
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    log.warning("%s: %s", self._name, error)
                    return
                self._thread = thread
            self._condition.notify()

    @property
    def running(self) -> bool:
        """Whether its thread is there."""
        return self._thread is not None

    def close(self) -> None:
        """End the thread; a step under way is waited for."""
        with self._condition:
            self._closed = True
            thread = self._thread
            self._condition.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._woken = False
            try:
                wait = self._step()
            except BaseException:
                with self._condition:
                    self._thread = None
                raise
            with self._condition:
                if not self._woken and not self._closed and wait is not None:
                    self._condition.wait(wait)
                if self._closed or (wait is None and not self._woken):
                    self._thread = None
                    return
