"""Bytes of JSON that nobody parses: known to be whole, or known to be not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pdbclient.http.json_completeness import JsonCompleteness
from pdbclient.http.stream import MalformedJson


def fed(chunks: Iterable[bytes]) -> None:
    whole = JsonCompleteness()
    for chunk in chunks:
        whole.feed(chunk)
    whole.close()


def is_whole(chunks: Iterable[bytes]) -> bool:
    try:
        fed(chunks)
    except MalformedJson:
        return False
    return True


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.sampled_from('\\"[]{}ü语\U0001f600 a\n\u0000'))
    | st.just('\\\\"]\\'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('\\"{}é', max_size=4), inner, max_size=4),
    max_leaves=15,
)
DOCUMENTS = st.lists(VALUES, max_size=5) | st.dictionaries(st.text('a\\"]', max_size=4), VALUES, max_size=5)
BLANK = st.text(" \t\r\n", max_size=3)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """The text of an array or object, written in one of many ways."""
    document: Any = draw(DOCUMENTS)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 0, 2])))
    return (draw(BLANK) + text).encode("utf-8", "surrogatepass")


PLACES = st.lists(st.integers(0, 300), max_size=20)


@given(texts(), PLACES, BLANK)
@example(b'["\\\\"]', [1, 2, 3, 4, 5], "")
@example(b'["\\""]', [1, 2, 3, 4, 5], "")
@example(b'["\\\\\\""]', [3, 4, 5, 6], "\n")
@settings(max_examples=400)
def test_a_whole_one_is_whole_in_whatever_chunks_it_comes(text: bytes, places: list[int], after: str) -> None:
    assert is_whole([*cut(text, places), after.encode()])


@given(texts(), PLACES, st.data())
@settings(max_examples=400)
def test_one_that_is_cut_anywhere_is_not(text: bytes, places: list[int], data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(text) - 1))
    assert not is_whole(cut(text[:end], places))


@given(texts(), PLACES, st.sampled_from([b"x", b'""', b"]", b"}", b",", b"1", b'"', b"\\", b"null"]))
@settings(max_examples=400)
def test_one_with_something_after_its_end_is_not(text: bytes, places: list[int], more: bytes) -> None:
    assert not is_whole(cut(text + more, places))
    assert not is_whole(cut(text + b" " + more + b"\n", places))


def test_every_cut_of_one_with_every_trap_is_known_in_chunks_of_every_size() -> None:
    text = json.dumps([{'a\\"b': "x]\\", "c": [1, {"d": '"}'}], "é": "ü[\\\\"}] * 2, ensure_ascii=False).encode()
    for end in range(len(text) + 1):
        for step in (1, 2, 3, 7, len(text)):
            chunks = [text[at : min(at + step, end)] for at in range(0, end, step)]
            assert is_whole(chunks) == (end == len(text)), (end, step)


@pytest.mark.parametrize(
    "text", [b"", b" \n", b"null", b"true", b"1", b'"[]"', b"<html>", b"\xff", b"]", b"}", b",", b"\xef\xbb\xbf[]"]
)
@pytest.mark.parametrize("step", [1, 100])
def test_what_is_no_array_or_object_is_not_whole(text: bytes, step: int) -> None:
    assert not is_whole(text[at : at + step] for at in range(0, len(text), step))


@pytest.mark.parametrize("text", [b"[]", b"{}", b" [ ] ", b'{"a":1}\r\n'])
def test_the_smallest_ones_are_whole(text: bytes) -> None:
    assert is_whole([text])


def test_empty_chunks_change_nothing() -> None:
    fed([b"", b"[", b"", b'"\\', b"", b'""', b"", b"]", b""])


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([], "an empty answer, not JSON"),
        ([b"<html>"], "not a JSON array or object: '<html>'"),
        ([b"[1"], "broke off before its end"),
        ([b'["a'], "broke off before its end"),
        ([b'["\\'], "broke off before its end"),
        ([b"[]", b" x"], "text after the end"),
        ([b"[] x"], "text after the end"),
        ([b"[[1]", b"] x"], "text after the end"),
        ([b"[][]"], "text after the end"),
        ([b'[] "a"'], "text after the end"),
        ([b'[] "a'], "text after the end"),
    ],
)
def test_the_error_says_why(chunks: list[bytes], why: str) -> None:
    with pytest.raises(MalformedJson) as error:
        fed(chunks)
    assert str(error.value) == why


def test_a_string_of_ten_megabytes_of_escaped_quotes_is_followed() -> None:
    text = b'["' + b'\\"' * 2_500_000 + b"\\\\" * 2_500_000 + b'"]'
    for step in (65536, 65537, len(text)):
        fed(text[at : at + step] for at in range(0, len(text), step))
        assert not is_whole(text[at : at + step] for at in range(0, len(text) - 2, step) if at + step < len(text))
