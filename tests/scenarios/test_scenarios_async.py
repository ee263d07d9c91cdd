"""The same scenarios with commands submitted by a coroutine: one set of rules for both ways to send."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.http.failover import Accepted, Failover
from pdbclient.wire import Command
from tests.unit.http import fake

from .test_scenarios import test_scenario  # noqa: F401


class AsyncFailover(Failover):
    """Submits by `submit_async` what is no broadcast."""

    def submit(self, command: Command) -> Accepted:
        if self._config.command_broadcast:
            return super().submit(command)

        async def attempt(endpoint: Endpoint, within: float) -> str:
            return self._sessions[endpoint].submit(command, within=within)

        return result_of(self.submit_async(command, attempt))


def result_of(coroutine: Coroutine[Any, Any, Accepted]) -> Accepted:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        accepted: Accepted = end.value
        return accepted
    raise AssertionError("it waits")


@pytest.fixture(autouse=True)
def by_a_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "Failover", AsyncFailover)
