"""The lowest versions that setup.cfg allows, which `make pythons` installs."""

from __future__ import annotations

import pytest

from tools.lowest import SETUP, lowest

TEXT = """
[options]
install_requires =
    requests>=2.32.2
    {more}

[options.extras_require]
postgresql =
    # A comment.
    psycopg[binary]>=3.2.1
test =
    psycopg[binary]>=3.2.1
    types-PyYAML
"""


def test_each_requirement_is_pinned_once_to_its_lowest_version() -> None:
    assert lowest(TEXT.format(more="rich>=13")) == ["psycopg==3.2.1", "requests==2.32.2", "rich==13"]


def test_a_bound_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="rich<14: not of the form name>=version"):
        lowest(TEXT.format(more="rich<14"))


def test_two_lowest_versions_of_one_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"psycopg has two lowest versions: 3\.1 and 3\.2\.1"):
        lowest(TEXT.format(more="psycopg>=3.1"))


def test_all_that_the_program_needs_has_one() -> None:
    pinned = {line.partition("==")[0] for line in lowest(SETUP.read_text())}
    assert {"aiohttp", "cryptography", "msgspec", "psycopg", "requests", "rich", "tenacity", "urllib3"} <= pinned
