"""How a pass ends: what is collected while it is under way, whatever it meets."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from pdbclient.errors import PdbError, ServerError, SyncError, TransportError
from pdbclient.sync.inventory.budget import Stopped
from pdbclient.sync.policy.model import Entity, EntityResult, Outcome
from pdbclient.sync.run.blame import in_words

__all__ = ["Ending", "PassFailed"]

_logger = logging.getLogger(__name__)


class PassFailed(SyncError):
    """Some entities of a pass could not be done; the others were."""


@dataclass(slots=True)
class Ending:
    """What is known by now of how a pass against `remote` ends; the rest as in `PassResult`."""

    remote: str
    results: dict[Entity, EntityResult] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    outcome: Outcome = Outcome.DONE
    unreachable: str | None = None

    def failed(self, entity: Entity, error: Exception) -> None:
        """This kept the entity from being done."""
        part = self.part(entity)
        part.error = part.error or in_words(error)
        self.errors.append(f"{entity}: {in_words(error)}")
        if not isinstance(error, PdbError):
            self._crashed(error)

    def broken_off(self, error: BaseException) -> None:
        """This ended the pass."""
        self.errors.append(in_words(error))
        if isinstance(error, Exception) and not isinstance(error, PdbError):
            self._crashed(error)
        elif self.outcome is not Outcome.CRASHED:
            self.outcome = _outcome(error)
            if self.outcome is Outcome.UNREACHABLE and isinstance(error, TransportError | ServerError):
                self.unreachable = error.endpoint

    def part(self, entity: Entity) -> EntityResult:
        """The entity's part."""
        return self.results.setdefault(entity, EntityResult())

    def _crashed(self, error: Exception) -> None:
        """Say where, once: what comes after it is of the same defect more often than not."""
        if self.outcome is not Outcome.CRASHED:
            _logger.error("the pass against %s crashed, a defect of pdbclient", self.remote, exc_info=error)
        self.outcome = Outcome.CRASHED


def _outcome(error: BaseException) -> Outcome:
    match error:
        case Stopped() | KeyboardInterrupt() | SystemExit():
            return Outcome.STOPPED
        case SyncError():
            return Outcome.REFUSED
        case _:
            return Outcome.UNREACHABLE
