"""The text of a hash or a list as the Ruby of each Puppet writes it. A differential test knows all characters."""

from __future__ import annotations

from typing import Any

import pytest

from pdbclient.terminus.catalog import catalog_payload
from pdbclient.terminus.report import report_payload
from pdbclient.terminus.ruby_characters import RUBY_3_1, RUBY_3_2, ruby_of
from pdbclient.terminus.ruby_inspect import ruby_inspect

NEXT_LINE, MELTING_FACE, SHAKING_FACE = "\x85", "\U0001fae0", "\U0001fae8"
"""A control character, and one that came with Unicode 14 and 15 each."""
OLD, NEW = f'["{NEXT_LINE}\\u{{1FAE0}}\\u{{1FAE8}}"]', f'["\\u0085{MELTING_FACE}{SHAKING_FACE}"]'
VALUE = [NEXT_LINE + MELTING_FACE + SHAKING_FACE]


@pytest.mark.parametrize(
    ("version", "ruby"),
    [("7.23.0", RUBY_3_1), ("7", RUBY_3_1), ("6.28.0", RUBY_3_1), ("8.10.0", RUBY_3_2), ("8", RUBY_3_2),
     ("9.0.0-rc1", RUBY_3_2), ("10.1", RUBY_3_2), (None, RUBY_3_2), ("", RUBY_3_2), ("x7", RUBY_3_2), (7, RUBY_3_2),
     ("7" * 5000, RUBY_3_2)],
)  # fmt: skip
def test_a_version_of_puppet_has_its_ruby(version: object, ruby: object) -> None:
    assert ruby_of(version) is ruby


def test_characters_of_unicode_14_and_15_are_escaped_as_ruby_3_1_does_or_printed_as_3_2_does() -> None:
    assert ruby_inspect(VALUE, RUBY_3_1) == OLD
    assert ruby_inspect(VALUE, RUBY_3_2) == ruby_inspect(VALUE) == NEW


@pytest.mark.parametrize("char", ["\u2ffc", "\u31ef", "\U0002ebf0", "\U0002ee5d", "\u0378", "\u2028", "\x7f"])
def test_what_only_a_newer_unicode_has_is_escaped_whatever_this_python_knows(char: str) -> None:
    for ruby in (RUBY_3_1, RUBY_3_2):
        assert ruby_inspect(char, ruby).startswith(r'"\u')


@pytest.mark.parametrize("char", ["é", "☃", "\u200b", "\ue000", "\xa0", "\U0001f600"])
def test_what_all_know_stands_as_it_is(char: str) -> None:
    for ruby in (RUBY_3_1, RUBY_3_2):
        assert ruby_inspect(char, ruby) == f'"{char}"'


@pytest.mark.parametrize(("version", "key"), [("7.23.0", OLD), ("8.10.0", NEW), (None, NEW)])
def test_a_catalog_is_for_the_version_that_is_given(version: str | None, key: str) -> None:
    message = {"__ptype": "Hash", "__pvalue": [VALUE, 1]}
    notify = {"type": "Notify", "title": "x", "parameters": {"message": message}}
    payload = catalog_payload({"name": "n", "resources": [notify]}, producer=None, puppet_version=version)
    assert [resource["parameters"] for resource in _listed(payload["resources"])] == [{"message": {key: 1}}]


@pytest.mark.parametrize(("version", "text"), [("7.23.0", OLD), ("8.10.0", NEW), (None, NEW)])
def test_a_report_says_itself_which_puppet_it_comes_from(version: str | None, text: str) -> None:
    time = "2026-01-31T12:00:00Z"
    event = {"status": "success", "time": time, "desired_value": VALUE, "previous_value": {"k": VALUE}}
    report = {
        **{"host": "n", "environment": "e", "time": time, "puppet_version": version},
        "resource_statuses": {"Notify[x]": {"title": "x", "time": time, "events": [event]}},
    }
    (resource,) = _listed(report_payload(report, producer=None).payload["resources"])
    (sent,) = resource["events"]
    assert (sent["new_value"], sent["old_value"]) == (text, f'{{"k"=>{text}}}')


def _listed(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value
