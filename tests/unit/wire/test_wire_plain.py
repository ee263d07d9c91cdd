"""Values are faithful or refused with the reason; what cannot be stored becomes U+FFFD with one warning."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.errors import InvalidCommand
from pdbclient.wire import Command
from pdbclient.wire.plain import MAX_DEPTH, is_plain
from tests.unit.wire.wire_payloads import NOW, catalog, event, facts, report, report_resource, resource


class Text(str):
    __slots__ = ()


class Family(enum.StrEnum):
    DEBIAN = "Debian"


class Level(enum.IntEnum):
    HIGH = 3


def sent(value: object) -> Command:
    return Command.create("replace facts", facts(values={"v": value}), now=NOW)


def arrived(value: object) -> Any:
    return json.loads(sent(value).body)["values"]["v"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**70, "1180591620717411303424"),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**4000, str(10**4000)),
        (1e22, "1e22"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (5e-324, "5e-324"),
        (123456789.0, "123456789.0"),
        (Decimal("1.10"), "1.10"),
        (Decimal(2**70), "1180591620717411303424"),
        (True, "true"),
        (None, "null"),
        ((1, 2), "[1,2]"),
        (Level.HIGH, "3"),
        (Family.DEBIAN, '"Debian"'),
        (Text("x"), '"x"'),
        ("\\u0000", '"\\\\u0000"'),
        ("é日\U0001f600", '"é日\U0001f600"'),
        (b"caf\xc3\xa9", '"café"'),
        (bytearray(b"x"), '"x"'),
        (OrderedDict(a=1), '{"a":1}'),
        (MappingProxyType({"a": MappingProxyType({})}), '{"a":{}}'),
        ("x" * 10_000_000, '"' + "x" * 10_000_000 + '"'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_written_without_loss(value: object, text: str) -> None:
    command = sent(value)
    assert f'"values":{{"v":{text}}}'.encode() in command.body
    assert command.warnings == ()


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (math.nan, "$.values.v", "nan is not a number"),
        ([1, {"a": [math.inf]}], "$.values.v[1].a[0]", "inf is not a number"),
        (1e400, "$.values.v", "inf is not a number"),
        (Decimal("1e400"), "$.values.v", "1E+400 is not a number"),
        (Decimal("NaN"), "$.values.v", "NaN is not a number"),
        (Decimal("sNaN"), "$.values.v", "sNaN is not a number"),
        (10**5000, "$.values.v", "integer of 16610 bits"),
        ({5: 1}, "$.values.v", "the key 5 is an int, not a string"),
        ({10**5000: 1}, "$.values.v", "the key (too long to show) is an int"),
        ({None: 1}, "$.values.v", "the key None is a NoneType, not a string"),
        ({b"a": 1}, "$.values.v", "is a bytes, not a string"),
        ({"a\x00b": 1}, "$.values.v", "has a U+0000"),
        ({"x y": {"a": {1, 2}}}, "$.values.v['x y'].a", "a set has no JSON form"),
        (datetime(2026, 1, 1), "$.values.v", "a datetime has no JSON form"),
        (object(), "$.values.v", "an object has no JSON form"),
        (dict.fromkeys(["a\ud800", "a\udfff"]), "$.values.v", "two keys become the same"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_faithful_form_is_refused(value: object, path: str, reason: str) -> None:
    with pytest.raises(InvalidCommand) as refusal:
        sent(value)
    assert refusal.value.path == path
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    "payload",
    [
        ("replace catalog", catalog(resources=[resource(parameters={"a": [math.nan]})], edges=[])),
        ("store report", report(metrics=[{"category": "c", "name": "n", "value": math.nan}])),
        ("store report", report(resources=[report_resource(events=[event(new_value=math.nan)])])),
        ("store report", report(resources=[report_resource(events=[event(old_value={"a": math.inf})])])),
    ],
)
def test_nan_never_becomes_null_in_any_command(payload: tuple[str, dict[str, Any]]) -> None:
    with pytest.raises(InvalidCommand, match="is not a number that JSON"):
        Command.create(*payload, now=NOW)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("a\x00b", "a\ufffdb"),
        (b"\xff\xfeA", "\ufffd\ufffdA"),
        (b"\xed\xa0\x80", "\ufffd" * 3),
        (b"caf\xc3\xa9\xff", "café\ufffd"),
        ({"k\udcff": 1}, {"k\ufffd": 1}),
    ],
)
def test_text_that_cannot_be_stored_becomes_u_fffd_with_one_warning(value: object, stored: object) -> None:
    command = sent(value)
    assert json.loads(command.body)["values"]["v"] == stored
    (warning,) = command.warnings
    assert warning.startswith("Lossy encoding of a 'replace facts' command for host 'web1.example': ")
    assert "$.values.v" in warning


def test_many_losses_make_one_warning_that_counts_them() -> None:
    (warning,) = sent(["\x00", "ok", "\ud800", "\x00"]).warnings
    assert warning.endswith("at $.values.v[0] and 2 more")


def test_a_title_is_replaced_in_the_resource_and_in_its_edges_alike() -> None:
    spec = {"type": "File", "title": "/\ud800"}
    payload = catalog(
        resources=[resource(title="/\ud800")],
        edges=[{"source": spec, "target": spec, "relationship": "contains"}],
    )
    command = Command.create("replace catalog", payload, now=NOW)
    assert json.loads(command.body)["edges"][0]["target"]["title"] == "/\ufffd"
    assert len(command.warnings) == 1


def nested(levels: int, leaf: object = 1) -> object:
    value = leaf
    for _ in range(levels):
        value = [value]
    return value


# `v` lies in `values`, which lies in the payload: two levels are used up already
@pytest.mark.parametrize("leaf", [1, "\x00"])
def test_the_depth_limit_is_the_same_on_the_fast_and_on_the_slow_way(leaf: object) -> None:
    assert sent(nested(MAX_DEPTH - 1, leaf)).length > 2 * MAX_DEPTH
    for levels in (MAX_DEPTH, 50_000):
        with pytest.raises(InvalidCommand, match=f"nested deeper than {MAX_DEPTH} levels"):
            sent(nested(levels, leaf))


def test_objects_in_one_another_count_as_levels_too() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = {"k": value}
    with pytest.raises(InvalidCommand, match="nested deeper"):
        sent(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidCommand, match="nested deeper"):
        sent(loop)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def attempt(payload: dict[str, Any]) -> Command | InvalidCommand:
    try:
        return Command.create("replace facts", payload, now=NOW)
    except InvalidCommand as refusal:
        return refusal


@given(json_values)
def test_json_values_arrive_as_they_were_but_for_u_0000(value: object) -> None:
    text = json.dumps(value)
    outcome = attempt(facts(values={"v": value}))
    if isinstance(outcome, InvalidCommand):
        assert "U+0000" in outcome.reason or "become the same" in outcome.reason
        assert "\\u0000" in text
    else:
        # a backslash before u0000 in the value itself is written as two
        expected = text.replace("\\\\", "\\x").replace("\\u0000", "\\ufffd").replace("\\x", "\\\\")
        assert json.loads(outcome.body)["values"]["v"] == json.loads(expected)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(alphabet=st.characters())
    | st.text(alphabet=st.sampled_from(["\ud800", "\x00", "a"]))
    | st.binary(max_size=8)
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=3)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=12,
)


@given(anything)
def test_any_value_gives_a_command_of_valid_json_or_invalid_command(value: object) -> None:
    outcome = attempt(facts(values={"v": value}))
    if isinstance(outcome, InvalidCommand):
        assert outcome.path.startswith("$.values")
    else:
        decoded = json.loads(outcome.body.decode("utf-8"), parse_constant=lambda name: pytest.fail(name))
        assert "v" in decoded["values"]
        assert b"\\u0000" not in outcome.body.replace(b"\\\\", b"")


@given(st.dictionaries(st.sampled_from(list(facts())), anything) | st.dictionaries(st.text(), anything))
def test_any_payload_gives_a_command_or_invalid_command(members: dict[str, Any]) -> None:
    for outcome in (attempt(members), attempt(facts() | members)):
        assert isinstance(outcome, Command) or outcome.path.startswith("$")


@given(json_values)
def test_what_is_plain_needs_no_repair(value: object) -> None:
    assert is_plain(value)
