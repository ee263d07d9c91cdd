"""The structured log `sync`: phases, events and attributes as the PuppetDB HA guide documents them.

Each phase is a context manager, so an event without its start, or a start without its end, cannot be written:

- `sync`: attributes `remote`
- `entity`: `entity`, `remote`; `transferred` and `failed` when finished
- `record`: `query`, `certname`, `entity`, `remote`, for reports `hash`
- `deactivate`: `certname`

All carry `phase` and `event` (start, finished, error); finished carries `ok` true, error `ok` false, and both
`elapsed`, in whole milliseconds since the start. Attributes are passed as `extra`: any formatter can show
them.

At info level is what was done: the end of each pass, of entities of which something was transferred or failed, and of
deactivations; so a pass that finds nothing to do is one line. Errors are at error level, but for those of who was
asked to stop, which are at info level; all else is at debug level.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pdbclient.sync.inventory.budget import Stopped
from pdbclient.sync.policy.model import Entity, EntityResult
from pdbclient.sync.run.blame import in_words

__all__ = ["LOGGER_NAME", "SyncLog"]

LOGGER_NAME = "sync"


class SyncLog:
    """Writes the events of one pass against a remote. `monotonic` gives seconds."""

    def __init__(
        self,
        remote: str,
        logger: logging.Logger | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._remote = remote
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self._monotonic = monotonic
        self._results: list[EntityResult] = []

    @contextmanager
    def sync(self) -> Iterator[None]:
        """One pass. An exception that leaves the block becomes the error event, with its text as the
        reason.
        """
        with self._phase("sync", f"sync with {self._remote}", {"remote": self._remote}, self._results):
            yield

    @contextmanager
    def entity(self, entity: Entity) -> Iterator[EntityResult]:
        """One entity of a pass; the block counts into the result that it gets."""
        result = EntityResult()
        attributes = {"entity": str(entity), "remote": self._remote}
        self._results.append(result)
        with self._phase("entity", f"{entity} from {self._remote}", attributes, [result]):
            yield result

    @contextmanager
    def record(self, entity: Entity, query: str, certname: str, report_hash: str | None = None) -> Iterator[None]:
        """The transfer of one record that `query` brought."""
        attributes = {"entity": str(entity), "remote": self._remote, "query": query, "certname": certname}
        what = f"{entity} of {certname}"
        if report_hash is not None:
            attributes["hash"] = report_hash
            what = f"report {report_hash} of {certname}"
        with self._phase("record", what, attributes):
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
        results: Sequence[EntityResult] = (),
    ) -> Iterator[None]:
        """One phase; `results`, of which the counts are told when it is finished, may grow meanwhile."""
        began = self._monotonic()
        self._logger.debug("%s: start", what, extra={"phase": phase, "event": "start", **attributes})
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
            # To be asked to stop is nobody's failure.
            stopped = isinstance(error, Stopped | KeyboardInterrupt | SystemExit)
            level, how = (logging.INFO, "stopped") if stopped else (logging.ERROR, "failed")
            self._logger.log(level, "%s: %s: %s", what, how, in_words(error), extra=extra)
            raise
        transferred, failed = (sum(getattr(each, name) for each in results) for name in ("transferred", "failed"))
        extra = {"phase": phase, "event": "finished", "ok": True, "elapsed": self._since(began), **attributes}
        if phase == "entity":
            extra |= {"transferred": transferred, "failed": failed}
        not_told = phase == "record" or (phase == "entity" and not transferred + failed)
        level = logging.DEBUG if not_told else logging.INFO
        summary = f", {transferred} transferred, {failed} failed" if results else ""
        self._logger.log(level, "%s: finished in %d ms%s", what, extra["elapsed"], summary, extra=extra)

    def _since(self, began: float) -> int:
        return round((self._monotonic() - began) * 1000)
