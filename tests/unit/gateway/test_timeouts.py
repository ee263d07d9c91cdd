"""The limits behind the gateway, which follow from how long Puppet waits for it."""

from __future__ import annotations

import pytest

from pdbclient.config.model import Timeouts
from pdbclient.gateway.upstream import timeouts_below


@pytest.mark.parametrize("attempt", [1.0, 5.0, 10.0, 30.0, 120.0])
def test_two_silent_servers_are_given_up_before_puppet_gives_up_on_the_gateway(attempt: float) -> None:
    limits = timeouts_below(Timeouts(attempt=attempt))
    assert 2 * limits.read < limits.operation < attempt
    assert limits.connect <= limits.read


def test_the_defaults_leave_the_read_limit_as_it_is() -> None:
    assert timeouts_below(Timeouts()) == Timeouts(attempt=30.0, connect=3.0, read=10.0, operation=25.0)


def test_shorter_limits_stay() -> None:
    limits = Timeouts(attempt=30.0, connect=1.0, read=2.0, operation=5.0)
    assert timeouts_below(limits) == limits


def test_where_puppet_waits_for_ever_nothing_is_shortened() -> None:
    limits = Timeouts(attempt=0.0)
    assert timeouts_below(limits) == limits
