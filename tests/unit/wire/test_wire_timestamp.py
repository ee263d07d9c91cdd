"""Timestamps are compared by the millisecond, whatever form they come in, and never without a zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.wire.timestamp import (
    as_stored,
    from_millis,
    is_wire_timestamp,
    parse,
    sortable,
    to_millis,
    to_utc,
    utc_text,
)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("2026-01-31T12:00:00.123Z", 1769860800123),
        ("2026-01-31T12:00:00.123999Z", 1769860800123),
        ("2026-01-31T12:00:00.123999999Z", 1769860800123),
        ("2026-01-31T14:00:00.123+02:00", 1769860800123),
        ("2026-01-31T06:30:00.1230-05:30", 1769860800123),
    ],
)
def test_every_form_gives_its_milliseconds(text: str, millis: int) -> None:
    assert to_millis(text) == millis
    assert is_wire_timestamp(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00:00+0200",
        "2026-01-31T12:00:00+02",
        "2026-01-31T12:00:00+19:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00.1234567890Z",
        "2026-01-31T12:00:00Z\n",
        "٢٠٢٦-01-31T12:00:00Z",
        "20260131T120000Z",
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    assert not is_wire_timestamp(text)
    with pytest.raises(ValueError):  # noqa: PT011 -- the calendar's own message, for days that do not exist
        to_millis(text)


def test_a_datetime_is_written_in_utc_with_its_milliseconds_cut() -> None:
    moment = datetime(2026, 1, 31, 14, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2)))
    assert utc_text(moment) == "2026-01-31T12:00:00.123Z"
    assert utc_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000Z"
    with pytest.raises(ValueError, match="needs a timezone"):
        utc_text(datetime(2026, 1, 31))


def test_utc_text_is_passed_through() -> None:
    assert to_utc("2026-01-31T12:00:00.123Z") == "2026-01-31T12:00:00.123Z"
    assert to_utc("2026-01-31T12:00:00Z") == "2026-01-31T12:00:00.000Z"


@given(st.integers(-(10**15), 10**16))
def test_milliseconds_survive_being_written(millis: int) -> None:
    assert to_millis(from_millis(millis)) == millis


@given(
    st.datetimes(timezones=st.timezones() | st.just(UTC), min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1))
)
def test_what_is_written_is_the_instant_cut_to_milliseconds(moment: datetime) -> None:
    written = parse(utc_text(moment))
    assert timedelta(0) <= moment - written < timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+18:00", "9999-12-31T23:00:00-18:00"])
def test_a_stamp_outside_of_the_years_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="outside of the years"):
        to_utc(text)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (1_796_056_000_000_000, "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800_001, "0001-01-01T00:00:00.000Z"),
        (10**400, "9999-12-31T23:59:59.999Z"),
        ("+12999-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T23:00:00-18:00", "9999-12-31T23:59:59.999Z"),
        ("-4712-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z"),
        ("2026-01-31T12:00:00.000Z", "2026-01-31T12:00:00.000Z"),
    ],
)
def test_what_a_server_stores_beyond_our_years_is_the_nearest_within(value: object, stored: str) -> None:
    assert as_stored(value) == stored
    assert parse(stored)


@given(st.lists(st.integers(-(10**16), 10**16), min_size=2))
def test_as_sortable_texts_instants_sort_as_they_are(instants: list[int]) -> None:
    assert [sortable(each) for each in sorted(instants)] == sorted(map(sortable, instants))
