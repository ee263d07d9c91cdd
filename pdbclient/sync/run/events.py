"""The structured log `sync`: phases, events and attributes as the PuppetDB HA guide documents them.

Each phase is a context manager, so an event without its start, or a start without its end, cannot be written:

- `sync`: attributes `remote`
- `entity`: `entity`, `remote`; `transferred` and `failed` when finished
- `record`: `query`, `certname`, `entity`, `remote`, for reports `hash`; at debug level unless it fails
- `deactivate`: `certname`

All carry `phase` and `event` (start, finished, error); finished carries `ok` true, error `ok` false, and both
`elapsed`, in whole milliseconds since the start. Attributes are passed as `extra`: any formatter can show
them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pdbclient.sync.policy.model import Entity, EntityResult
from pdbclient.sync.run.blame import in_words

__all__ = ["LOGGER_NAME", "SyncLog"]

LOGGER_NAME = "sync"


class SyncLog:
    """Writes the events of passes against one remote. `monotonic` gives seconds."""

    def __init__(
        self,
        remote: str,
        logger: logging.Logger | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote = remote
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self._monotonic = monotonic

    @contextmanager
    def sync(self) -> Iterator[None]:
        """One pass. An exception that leaves the block becomes the error event, with its text as the
        reason.
        """
        with self._phase("sync", f"sync with {self._remote}", {"remote": self._remote}):
            yield

    @contextmanager
    def entity(self, entity: Entity) -> Iterator[EntityResult]:
        """One entity of a pass; the block counts into the result that it gets."""
        result = EntityResult()
        attributes = {"entity": str(entity), "remote": self._remote}
        with self._phase("entity", f"{entity} from {self._remote}", attributes, result):
            yield result

    @contextmanager
    def record(self, entity: Entity, query: str, certname: str, report_hash: str | None = None) -> Iterator[None]:
        """The transfer of one record that `query` brought."""
        attributes = {"entity": str(entity), "remote": self._remote, "query": query, "certname": certname}
        what = f"{entity} of {certname}"
        if report_hash is not None:
            attributes["hash"] = report_hash
            what = f"report {report_hash} of {certname}"
        with self._phase("record", what, attributes, level=logging.DEBUG):
            yield

    @contextmanager
    def deactivate(self, certname: str) -> Iterator[None]:
        """The submission of one `deactivate node` command."""
        with self._phase("deactivate", f"deactivation of {certname}", {"certname": certname}):
            yield

    @contextmanager
    def _phase(
        self,
        phase: str,
        what: str,
        attributes: Mapping[str, object],
        counts: EntityResult | None = None,
        level: int = logging.INFO,
    ) -> Iterator[None]:
        began = self._monotonic()
        self._logger.log(level, "%s: start", what, extra={"phase": phase, "event": "start", **attributes})
        try:
            yield
        except BaseException as error:
            extra = {
                "phase": phase,
                "event": "error",
                "ok": False,
                "elapsed": self._since(began),
                **attributes,
            }
            self._logger.error("%s: failed: %s", what, in_words(error), extra=extra)
            raise
        extra = {"phase": phase, "event": "finished", "ok": True, "elapsed": self._since(began), **attributes}
        summary = ""
        if counts is not None:
            extra |= {"transferred": counts.transferred, "failed": counts.failed}
            summary = f", {counts.transferred} transferred, {counts.failed} failed"
        self._logger.log(level, "%s: finished in %d ms%s", what, extra["elapsed"], summary, extra=extra)

    def _since(self, began: float) -> int:
        return round((self._monotonic() - began) * 1000)
