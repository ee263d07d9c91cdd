"""The limits behind the gateway, which follow from how long Puppet waits for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pdbclient.config import load_config
from pdbclient.config.model import Timeouts
from pdbclient.config.settings import OWN, STOCK
from pdbclient.gateway.upstream import timeouts_below

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "puppet_conf_examples").glob("*-gateway/puppetdb.conf"))
WORDS = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *EXAMPLES]


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


def test_by_default_the_gateway_may_take_longer_than_puppet_waits_and_still_answers_before() -> None:
    """So nobody has to keep one setting above the other."""
    attempt, operation = STOCK["server_url_timeout"].default, OWN["operation_timeout"].default
    assert (attempt, operation) == (Timeouts().attempt, Timeouts().operation)
    assert attempt < operation
    assert timeouts_below(Timeouts(attempt=attempt, operation=operation)).operation == attempt * 5 / 6


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
@pytest.mark.parametrize("line", ["operation_timeout = 25s\n", "operation_timeout = 120s\n", ""])
def test_what_the_examples_say_of_the_time_is_so(example: Path, line: str, tmp_path: Path) -> None:
    text = example.read_text()
    assert "it answers a command\n# within 5/6 of this, also where operation_timeout is longer." in text
    changed, number = re.subn(r"operation_timeout = .*\n", line, text)
    assert number == 1
    conf = tmp_path / "puppetdb.conf"
    conf.write_text(changed)
    limits = load_config(conf, check_files=False).timeouts
    assert timeouts_below(limits).operation <= limits.attempt * 5 / 6 == 25


@pytest.mark.parametrize("path", WORDS, ids=[str(path.relative_to(ROOT)) for path in WORDS])
def test_nobody_is_told_to_keep_one_timeout_above_the_other(path: Path) -> None:
    assert not re.search(r"(above|longer than|greater than)[\s#`]+operation_timeout", path.read_text())
