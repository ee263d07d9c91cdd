"""A report's hash is the one that PuppetDB gives it."""

from __future__ import annotations

from typing import Any

import pytest

from pdbclient.wire.report_hash import MEMBERS, report_hash
from pdbclient.wire.timestamp import from_millis, to_millis
from tests.unit.wire.report_hash_cases import CASES, CHANGED_IN_STORE, report


@pytest.mark.parametrize("name", CASES)
def test_hash_is_the_servers(name: str) -> None:
    payload, expected = CASES[name]
    assert report_hash(payload) == expected


@pytest.mark.parametrize("name", sorted(set(CASES) - CHANGED_IN_STORE - {"surrogate"}))
def test_what_a_server_shows_has_the_same_hash(name: str) -> None:
    payload, expected = CASES[name]
    shown = payload | {key: _shown(payload[key]) for key in ("start_time", "end_time", "producer_timestamp")}
    assert report_hash(shown) == expected


def _shown(text: str) -> str:
    return from_millis(to_millis(text))


def test_nothing_else_is_hashed() -> None:
    bare = {name: value for name, value in report("a.example").items() if name in MEMBERS}
    other = report("a.example", status="failed", environment="test", logs=[{}], producer=None, noop=True)
    assert report_hash(bare) == report_hash(other) == report_hash(other | {"hash": "x", "receive_time": "y"})


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_is_hashed(name: str) -> None:
    one = report("a.example")
    other = one | {name: 13 if name == "report_format" else "2026-11-20T10:00:00.001Z"}
    assert report_hash(one) != report_hash(other)


@pytest.mark.parametrize("name", MEMBERS)
def test_missing_member(name: str) -> None:
    payload = report("a.example")
    del payload[name]
    with pytest.raises(KeyError, match=name):
        report_hash(payload)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("certname", None),
        ("configuration_version", 1700000000),
        ("report_format", "12"),
        ("report_format", 12.0),
        ("report_format", True),
        ("report_format", None),
        ("producer_timestamp", None),
        ("producer_timestamp", "2026-11-20T10:00:11"),
        ("start_time", "9999-12-31T23:59:59.999-01:00"),
        ("transaction_uuid", 7),
    ],
)
def test_what_no_report_can_have(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is|ISO-8601|after the year"):
        report_hash(report("a.example") | {name: value})
