"""Complete or an error: a JSON array in chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pdbclient.http import stream
from pdbclient.http.stream import ArrayReader, MalformedJson, RowReader, decode_document


def read(chunks: Iterable[bytes], row_limit: int = stream.DEFAULT_ROW_LIMIT) -> list[tuple[Any, str]]:
    reader = ArrayReader(row_limit)
    rows = [row for chunk in chunks for row in reader.feed(chunk)]
    rows += reader.close()
    assert reader.rows == len(rows)
    return rows


def read_texts(chunks: Iterable[bytes]) -> list[str]:
    reader = RowReader()
    rows = [row for chunk in chunks for row in reader.feed(chunk)]
    rows += reader.close()
    assert reader.rows == len(rows)
    return [row.decode() for row in rows]


def outcome(read: Callable[[list[bytes]], list[str]], chunks: list[bytes]) -> list[str] | None:
    """The texts, or None for an error."""
    try:
        return read(chunks)
    except MalformedJson:
        return None


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.just(']},{["\\'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BLANK = st.text(" \t\r\n", max_size=3)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[list[Any], list[str], bytes]:
    """Values, the exact text of each, and the text of the array."""
    values = draw(st.lists(VALUES, max_size=6))
    indent = draw(st.sampled_from([None, 0, 3]))
    texts = [json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent) for value in values]
    blank = [draw(BLANK) for _ in range(4)]
    body = blank[0] + "[" + blank[1] + f"{blank[2]},{blank[3]}".join(texts) + blank[2] + "]" + blank[0]
    return values, texts, body.encode("utf-8", "surrogatepass")


def storable(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


@given(arrays(), st.lists(st.integers(0, 200), max_size=12))
@settings(max_examples=300)
def test_any_array_in_any_chunks_gives_the_same_rows_and_texts(
    array: tuple[list[Any], list[str], bytes], places: list[int]
) -> None:
    values, texts, body = array
    assert read(cut(body, places)) == list(zip(values, texts, strict=True))


@given(arrays())
def test_any_array_byte_by_byte_gives_the_same_rows(array: tuple[list[Any], list[str], bytes]) -> None:
    values, texts, body = array
    assert read(cut(body, range(len(body)))) == list(zip(values, texts, strict=True))


@given(arrays(), st.data())
@settings(max_examples=300)
def test_a_part_of_an_array_is_never_a_shorter_array(
    array: tuple[list[Any], list[str], bytes], data: st.DataObject
) -> None:
    whole = array[2].rstrip()
    end = data.draw(st.integers(0, len(whole) - 1))
    places = data.draw(st.lists(st.integers(0, 200), max_size=5))
    with pytest.raises(MalformedJson):
        read(cut(whole[:end], places))


@given(arrays(), st.text(min_size=1, max_size=5).filter(lambda t: bool(t.strip(" \t\r\n")) and storable(t)))
def test_nothing_may_follow_the_array(array: tuple[list[Any], list[str], bytes], garbage: str) -> None:
    with pytest.raises(MalformedJson, match="text after the end of the array"):
        read([array[2] + garbage.encode()])


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=4))
@example(b"[1e999]", [])
@example(b"[" + b"1" * 5000 + b"]", [100])
def test_any_bytes_give_what_the_standard_library_gives_or_an_error(body: bytes, places: list[int]) -> None:
    try:
        rows = read(cut(body, places))
    except MalformedJson:
        return
    assert [value for value, _ in rows] == json.loads(body)


@pytest.mark.parametrize(
    "text",
    [
        "1e5",
        "-1.5E+10",
        "12345678901234567890",
        "0.1",
        "-0",
        "1e-400",
        "1" + "0" * 400 + "e-300",
        "true",
        '"\\u00e9"',
    ],
)
def test_a_value_cut_anywhere_is_one_value(text: str) -> None:
    for nested in (text, f"[{text}]", f'{{"a": {text}}}'):
        body = f"[{nested},{nested}]".encode()
        for place in range(len(body) + 1):
            assert read([body[:place], body[place:]]) == [(json.loads(nested), nested)] * 2


def test_a_character_cut_in_two_is_one_character() -> None:
    body = '["é𝄞"]'.encode()
    for place in range(len(body) + 1):
        assert read([body[:place], body[place:]]) == [("é𝄞", '"é𝄞"')]


def test_rows_come_as_soon_as_they_are_complete() -> None:
    reader = ArrayReader()
    assert list(reader.feed(b'[{"a": 1}, {"b"')) == [({"a": 1}, '{"a": 1}')]
    assert list(reader.feed(b': 2}, "')) == [({"b": 2}, '{"b": 2}')]
    assert reader.rows == 2


def test_a_number_in_the_text_keeps_its_form() -> None:
    assert read([b"[1.0, 1e2, 1.00000000000000000001]"])[2] == (1.0, "1.00000000000000000001")
    assert [text for _, text in read([b"[1.0, 1e2]"])] == ["1.0", "1e2"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "an empty answer"),
        (b" \n", "an empty answer"),
        (b"[", "broke off after 0 complete rows"),
        (b"[1, 2", "broke off after 1 complete rows"),
        (b"[1, 2,", "broke off after 2 complete rows"),
        (b"[1, ]", "broke off after 1 complete rows, at: ']'"),
        (b"[,1]", "broke off after 0 complete rows"),
        (b"[1 2]", "no comma after 1 rows"),
        (b"[1}", "broke off"),
        (b"[] []", "text after the end of the array"),
        (b'[{"a": 1}', "broke off after 0 complete rows"),
        (b'{"error": "no"}', "not a JSON array: '{"),
        (b"null", "not a JSON array"),
        (b"<html>", "not a JSON array"),
        (b"PuppetDB is busy", "not a JSON array"),
        (b"\xef\xbb\xbf[]", "not a JSON array"),
        (b"[NaN]", "NaN is not JSON"),
        (b'[{"a": [NaN]}]', "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e400]", "beyond a double's range"),
        (b'[{"a": -1e400}]', "beyond a double's range"),
        (b"[[1e400", "broke off"),
        (b"[" + b"7" * 5000 + b"]", "a number that is too long"),
        (b'[{"a": 1, "b": 2, "a": 1}]', "the key 'a' stands twice"),
        (b'["\xff"]', "not UTF-8"),
        (b'["\xc3', "not UTF-8"),
        (b'["\xed\xa0\x80"]', "not UTF-8"),
        (b'["\n"]', "broke off after 0 complete rows"),
        (b"[" * 50_000, "nested too deep"),
        (b'[{"a":' * 50_000, "nested too deep"),
        (b"[nul]", "broke off"),
        (b"[1x]", "broke off"),
        (b"[01]", "broke off"),
        (b"[1.]", "broke off"),
        (b"['a']", "broke off"),
    ],
)
def test_what_is_not_one_array_is_an_error(body: bytes, message: str) -> None:
    for chunks in ([body], [body[:1], body[1:]], [body[: len(body) // 2], body[len(body) // 2 :]]):
        for reading in (read, read_texts):
            with pytest.raises(MalformedJson) as caught:
                reading(chunks)
            assert message in str(caught.value)
            assert len(str(caught.value)) < 400


def test_rows_before_the_break_are_counted() -> None:
    reader = ArrayReader()
    assert len(list(reader.feed(b"[1,2,3,"))) == 3
    with pytest.raises(MalformedJson):
        list(reader.close())
    assert reader.rows == 3


def test_a_row_up_to_the_limit_is_read() -> None:
    row = json.dumps("x" * 998)
    assert read(cut(f"[{row},{row}]".encode(), range(0, 2003, 7)), row_limit=1000) == [("x" * 998, row)] * 2


@pytest.mark.parametrize("text", [b'["' + b"x" * 10_000 + b'"]', b"[" + b"?" * 10_000, b"[1" + b" " * 10_000 + b"]"])
def test_a_row_of_more_than_twice_the_limit_is_an_error_before_it_is_all_held(text: bytes) -> None:
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for chunk in cut(text, range(0, len(text), 100)):
            taken += len(chunk)
            yield chunk

    with pytest.raises(MalformedJson, match="a row of more than 1000 characters, or not JSON"):
        read(chunks(), row_limit=1000)
    assert taken <= 2200


def test_a_big_row_costs_time_in_proportion_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the decoder is given, added up, is a few times the row; a look per chunk would make it thousands."""
    looked_at = 0
    real = stream._element_end

    def counted(text: str, start: int) -> tuple[Any, int] | None:
        nonlocal looked_at
        looked_at += len(text) - start
        return real(text, start)

    monkeypatch.setattr(stream, "_element_end", counted)
    row = json.dumps(["x" * 90] * 20_000).encode()
    body = b"[" + row + b"]"
    assert len(read([body[at : at + 1000] for at in range(0, len(body), 1000)])) == 1
    assert looked_at < 4 * len(body)


def test_many_small_rows_cost_one_look_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = stream._element_end

    def counted(text: str, start: int) -> tuple[Any, int] | None:
        nonlocal calls
        calls += 1
        return real(text, start)

    monkeypatch.setattr(stream, "_element_end", counted)
    body = json.dumps([{"certname": f"node{n}"} for n in range(2000)]).encode()
    chunks = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    assert len(read(chunks)) == 2000
    assert calls <= 2000 + len(chunks) + 1


# -- rows as text alone


PLAIN = st.none() | st.booleans() | st.text() | st.sampled_from(["", '":', "},{", "[{", "a\\", "e", '"'])
FLAT = st.fixed_dictionaries({"certname": PLAIN, "hash": PLAIN, 'a":b': PLAIN})
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [{}, [], 1, 2.5, "x", None, {"certname": 1}, {"certname": {}}, {"certname": [], "hash": "x"}]
)


@given(st.lists(FLAT | FLAT | ODD, max_size=12), st.sampled_from([(",", ":"), (", ", ": ")]), st.data())
@settings(max_examples=300)
def test_rows_alone_are_those_of_the_exact_reader_whole_or_cut_off(
    rows: list[Any], separators: tuple[str, str], data: st.DataObject
) -> None:
    body = json.dumps(rows, separators=separators, ensure_ascii=data.draw(st.booleans())).encode()
    places = data.draw(st.lists(st.integers(0, len(body)), max_size=6))
    end = data.draw(st.integers(0, len(body)))
    for part in (body, body[:end], body + b"]", body[:end] + b"}" + body[end:], body[:end] + b"," + body[end:]):
        chunks = cut(part, places)
        exact = outcome(lambda chunks: [text for _, text in read(chunks)], chunks)
        assert outcome(read_texts, chunks) == exact


@given(arrays(), st.lists(st.integers(0, 200), max_size=12))
def test_rows_alone_of_any_array_are_its_texts(array: tuple[list[Any], list[str], bytes], places: list[int]) -> None:
    assert read_texts(cut(array[2], places)) == array[1]


@pytest.mark.parametrize(
    "bad",
    [
        '{"a":"1","b":"2","a":"3"}',
        '{"a":"1","a":"2"}',
        '{"a":"1","b":1e400}',
        '{"a":"1","b":NaN}',
        '{"a":"1","b":[NaN]}',
        '{"a":"1","b":"\xff"}',
        '{"a":"1","b":tru}',
        '{"a":"1","b":"2",}',
        '{"a":"1" "b":"2"}',
        '{"a":"1","b":"\n"}',
        '{"a":"1"}}',
        '{"a":"1","b":"2"}{"a":"1","b":"2"}',
        '{"a":"1","b":"2"}]{"a":"1","b":"2"}',
    ],
)
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("after", [0, 2])
def test_a_bad_row_among_simple_ones_is_an_error_to_both(bad: str, before: int, after: int) -> None:
    good = '{"a":"1","b":null}'
    body = f"[{','.join([good] * before + [bad] + [good] * after)}]".encode("latin-1")
    for place in range(len(body)):
        chunks = [body[:place], body[place:]]
        assert outcome(read_texts, chunks) is None
        with pytest.raises(MalformedJson):
            read(chunks)


def test_simple_rows_come_as_soon_as_they_are_complete_and_need_no_exact_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_element_end", None)
    reader = RowReader()
    assert list(reader.feed(b' [{"a":"1"} ,{"a":"2"},{"a"')) == [b'{"a":"1"}', b'{"a":"2"}']
    assert list(reader.feed(b':"3"}\n')) == [b'{"a":"3"}']
    assert list(reader.feed(b' , {"a":null}]')) == [b'{"a":null}']
    assert reader.rows == 4
    assert list(reader.close()) == []


# -- whole documents


@given(VALUES)
def test_a_document_is_what_it_says(value: Any) -> None:
    assert decode_document(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"<html>", "not JSON: '<html>'"),
        (b"NaN", "NaN is not JSON"),
        (b'{"a": 1e999}', "beyond a double's range"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 50_000, "not JSON"),
        (b"7" * 5000, "not JSON"),
    ],
)
def test_a_document_that_is_not_json_is_an_error(body: bytes, message: str) -> None:
    with pytest.raises(MalformedJson) as caught:
        decode_document(body)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
