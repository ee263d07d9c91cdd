"""One setting is changed, and every other byte stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdbclient.puppet_setup import ini

Reader = Callable[[str], ini.IniFile]

READERS: tuple[Reader, ...] = (ini.puppet_conf, ini.puppetdb_conf)
_BLANK = st.text(" \t", max_size=3)
_WORD = st.text("abcdefgxyz_", min_size=1, max_size=3)
_VALUE = st.text("abc, =:#[]/é", max_size=8).map(str.strip)
_SECTION = st.sampled_from(["main", "server", "agent"])
_LINE = st.one_of(
    st.tuples(_BLANK, _SECTION, _BLANK).map(lambda parts: f"{parts[0]}[{parts[1]}]{parts[2]}"),
    st.tuples(_BLANK, _WORD, _BLANK, _BLANK, _VALUE, _BLANK).map(
        lambda p: f"{p[0]}{p[1]}{p[2]}={p[3]}{p[4]}{p[5]}",
    ),
    st.tuples(_BLANK, st.text("abc =[]", max_size=8)).map(lambda parts: f"{parts[0]}# {parts[1]}"),
    _BLANK,
)
_TEXT = st.tuples(st.lists(_LINE, max_size=12), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda parts: parts[1].join(parts[0]) + (parts[1] if parts[2] and parts[0] else "")
)


@settings(deadline=None)
@given(text=_TEXT, section=_SECTION, name=_WORD, value=st.text("xyz,", min_size=1, max_size=5))
@pytest.mark.parametrize("reader", READERS)
def test_whatever_the_text_one_line_is_changed_or_added_and_all_others_stay(
    reader: Reader, text: str, section: str, name: str, value: str
) -> None:
    """In order and byte for byte; and the setting then has its value, once and for all."""
    before = reader(text)
    after = before.with_value(section, name, value)
    counts = after.find(section, name)
    assert counts is not None
    assert counts.value == value
    assert after.with_value(section, name, value) == after
    old, new = text.splitlines(keepends=True), after.text.splitlines(keepends=True)
    at = counts.line - 1
    if (changed := before.find(section, name)) is not None:
        assert changed.line == counts.line
        assert (old[:at], old[at + 1 :]) == (new[:at], new[at + 1 :])
        assert old[at].endswith("\r\n") == new[at].endswith("\r\n")
        return
    # What is new: the setting, and above it, where there was no such section, a header and a blank line.
    start = at if len(new) == len(old) + 1 else len(old)
    assert [*new[:start], *new[at + 1 :]] in (old, [*old[:-1], *(line + "\n" for line in old[-1:])], _completed(old))
    assert [line.strip() for line in new[start:at]] in ([], [f"[{section}]"], ["", f"[{section}]"])


def _completed(lines: list[str]) -> list[str]:
    """With the line end that the last line lacked."""
    return [*lines[:-1], *(line.rstrip("\r\n") + "\r\n" for line in lines[-1:])]


@settings(deadline=None)
@given(text=_TEXT, section=_SECTION, name=_WORD)
@pytest.mark.parametrize("reader", READERS)
def test_taking_a_setting_out_takes_its_lines_and_no_others(
    reader: Reader, text: str, section: str, name: str
) -> None:
    """All of them: what stood above would count again."""
    before = reader(text)
    after = before.without(section, name)
    gone = {s.line for s in before.settings() if (s.section, s.name) == (section, name)}
    assert after.find(section, name) is None
    assert after.text == "".join(
        line for number, line in enumerate(text.splitlines(keepends=True), start=1) if number not in gone
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "[main]\na = 1\n"),
        ("[main]\n", "[main]\na = 1\n"),
        ("[main]", "[main]\na = 1\n"),
        ("[main]\r\n", "[main]\r\na = 1\r\n"),
        ("[main]\n    b = 2\n\n[agent]\n", "[main]\n    b = 2\n    a = 1\n\n[agent]\n"),
        ("[main]\n# a = 0\n\n# c\nb = 2\n# d\n", "[main]\n# a = 0\n\n# c\nb = 2\na = 1\n# d\n"),
        ("[agent]\nb = 2", "[agent]\nb = 2\n\n[main]\na = 1\n"),
        ("# only a comment\n", "# only a comment\n\n[main]\na = 1\n"),
        ("[main]\nb = 2\n[agent]\n[main]\nc = 3\n", "[main]\nb = 2\n[agent]\n[main]\nc = 3\na = 1\n"),
        ("[main]\n\ta=0  \n", "[main]\n\ta=1  \n"),
        ("[main]\na =\n", "[main]\na = 1\n"),
    ],
)
def test_a_setting_goes_where_a_person_would_put_it(text: str, expected: str) -> None:
    """Below its siblings and as far to the right as they are; in a new section at the end."""
    assert ini.puppet_conf(text).with_value("main", "a", "1").text == expected


def test_of_two_equal_settings_the_one_that_counts_is_changed() -> None:
    """For Puppet the first, for the stock terminus the last."""
    text = "[main]\na = 1\na = 2\n"
    assert ini.puppet_conf(text).with_value("main", "a", "3").text == "[main]\na = 3\na = 2\n"
    assert ini.puppetdb_conf(text).with_value("main", "a", "3").text == "[main]\na = 1\na = 3\n"


def test_what_stands_above_the_first_header_is_in_main_for_puppet_alone() -> None:
    """So it is changed there."""
    assert ini.puppet_conf("a = 1\n").with_value("main", "a", "2").text == "a = 2\n"
    assert ini.puppetdb_conf("a = 1\n").find("main", "a") is None
