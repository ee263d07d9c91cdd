"""Rich data of a document as text. The differential test holds all forms against Puppet itself."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.terminus.rich_data import plain_parameters
from pdbclient.wire.plain import PayloadError, is_plain


def rich(kind: str, value: object) -> dict[str, object]:
    return {"__ptype": kind, "__pvalue": value}


STRING, INTEGER = {"__ptype": "Pcore::StringType"}, {"__ptype": "Pcore::IntegerType"}
UNIT = {"__ptype": "Pcore::UnitType"}
OPTIONAL: dict[str, object] = {"__ptype": "Pcore::OptionalType"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (rich("Regexp", "a/b"), r"/a\/b/"),
        (rich("Regexp", r"a\/b\\"), r"/a\/b\\/"),
        ({"__ptype": "Default"}, "default"),
        (rich("Symbol", "absent"), "absent"),
        (rich("Binary", "aGVsbG8="), "aGVsbG8="),
        (rich("Timestamp", "2020-01-02T03:04:05.678000000 UTC"), "2020-01-02T03:04:05.678000000 UTC"),
        (rich("SemVer", "1.2.3-rc1"), "1.2.3-rc1"),
        (rich("URI", "http://a/b"), "http://a/b"),
        ({"__ptype": "Deferred", "name": "$x"}, "Deferred({'name' => '$x'})"),
        ({"__ptype": "Car", "a": [None, True, 1.0e20, "it's", "a\n", "b\\"]},
         "Car({'a' => [undef, true, 1.0e+20, 'it\\'s', \"a\\n\", 'b\\']})"),
        ({"__ptype": "Car", "a": {"__ptype": "Default"}, "b": rich("Regexp", "/"), "c": rich("URI", "x:y")},
         "Car({'a' => default, 'b' => /\\//, 'c' => URI('x:y')})"),
        ({"__ptype": "Car", "a": rich("Hash", [1, {}]), "b": rich("Binary", "")},
         "Car({'a' => {1 => {}}, 'b' => Instance of Binary})"),
        ({"__ptype": "Pcore::ArrayType", "element_type": STRING, "size_type": {**INTEGER, "from": 1}},
         "Array[String, 1]"),
        ({**INTEGER, "from": None, "to": 5}, "Integer[default, 5]"),
        ({"__ptype": "Pcore::EnumType", "values": ["it's"], "case_insensitive": True}, "Enum['it\\'s', true]"),
        ({"__ptype": "Pcore::OptionalType", "type": {**STRING, "size_type_or_value": "a"}}, "Optional['a']"),
        ({"__ptype": "Pcore::CallableType", "param_types": {"types": [STRING]}, "return_type": INTEGER},
         "Callable[[String], Integer]"),
        ({"__ptype": "Pcore::HashType", "key_type": UNIT, "value_type": UNIT,
          "size_type": {**INTEGER, "from": 0, "to": 0}}, "Hash[0, 0]"),
        ({"__ptype": "Pcore::CallableType", "param_types": {"types": [STRING]},
          "block_type": {"__ptype": "Pcore::CallableType", "param_types": None}}, "Callable[String, Callable]"),
        ({"__ptype": "Pcore::TupleType", "types": [STRING, INTEGER]}, "Tuple[String, Integer]"),
        ({"__ptype": "Pcore::PatternType", "patterns": [{"pattern": "a/"}]}, r"Pattern[/a\//]"),
        ({"__ptype": "Pcore::RegexpType", "pattern": "a"}, "Regexp[/a/]"),
        ({"__ptype": "Pcore::ResourceType", "type_name": "File", "title": "/x"}, "File['/x']"),
        ({"__ptype": "Pcore::ClassType", "class_name": "a::b"}, "Class[a::b]"),
        ({"__ptype": "Pcore::SemVerType", "ranges": [rich("SemVerRange", ">=1.0.0")]}, "SemVer['>=1.0.0']"),
        ({"__ptype": "Pcore::RuntimeType", "runtime": "ruby", "name_or_pattern": "X"}, "Runtime[ruby, 'X']"),
        ({"__ptype": "Pcore::URIType", "parameters": {"scheme": "http"}}, "URI[{'scheme' => 'http'}]"),
        ({"__ptype": "Pcore::StructType", "elements": [
            {"key_type": {**STRING, "size_type_or_value": "a"}, "value_type": STRING},
            {"key_type": {**STRING, "size_type_or_value": "b"}, "value_type": {"__ptype": "Pcore::AnyType"}},
            {"key_type": {**OPTIONAL, "type": {**STRING, "size_type_or_value": "c"}}, "value_type": STRING},
            {"key_type": {**OPTIONAL, "type": {**STRING, "size_type_or_value": "d"}}, "value_type": OPTIONAL}]},
         "Struct[{'a' => String, NotUndef['b'] => Any, Optional['c'] => String, 'd' => Optional}]"),
        ({"__ptype": "Pcore::SomethingNewType", "x": 1}, "SomethingNew"),
        ({"__ptype": "Pcore::TypeAliasType", "name": "Names", "resolved_type": STRING}, "Names = String"),
        ({"__ptype": "Pcore::ObjectType", "_pcore_init_hash": {"name": "Car"}}, "Car"),
        ({"__ptype": "Pcore::ObjectType", "_pcore_init_hash": {}}, None),
        ({"__ptype": "Pcore::ArrayType", "element_type": {"__ptype": "Pcore::ObjectType", "_pcore_init_hash": {}}},
         "Array[Object]"),
        ({"__ptype": "Pcore::InitType", "type": INTEGER, "init_args": [16, "x"]}, "Init[Integer, 16, 'x']"),
        ({"__ptype": "Pcore::CallableType",
          "param_types": {"types": [UNIT], "size_type": {**INTEGER, "from": 0, "to": 1}}}, "Callable[0, 1]"),
        ({"__ptype": "Pcore::CallableType", "param_types": {"types": []}, "return_type": STRING},
         "Callable[[0, 0], String]"),
    ],
)  # fmt: skip
def test_a_rich_value_becomes_its_text(value: object, text: str) -> None:
    assert plain_parameters({"p": [value]}) == {"p": [text]}


def test_keys_of_any_kind_become_text() -> None:
    pairs: list[object] = [None, 1, True, 2, 1.5, 3, [None, "q", rich("Regexp", "r")], 4, {"a": [1]}, 5]
    pairs += [{"__ptype": "Default"}, 6, rich("Hash", [1, 2]), 7, [rich("Hash", [1, {"__ptype": "Default"}])], 8]
    assert plain_parameters({"p": rich("Hash", pairs)})["p"] == {
        "": 1,
        "true": 2,
        "1.5": 3,
        '[nil, "q", /r/]': 4,
        '{"a"=>[1]}': 5,
        "default": 6,
        "{1=>2}": 7,
        "[{1=>:default}]": 8,
    }


def test_exact_numbers_stay_exact() -> None:
    assert plain_parameters({"p": [Decimal("1.10")]}) == {"p": [Decimal("1.10")]}


def test_reserved_keys_are_marked_as_such() -> None:
    made = plain_parameters({"p": [{"__pvalue": 1}, rich("Hash", ["__ptype", 2])]})
    assert made == {"p": [{"reserved key: __pvalue": 1}, {"reserved key: __ptype": 2}]}


def test_a_local_reference_is_what_it_refers_to() -> None:
    parameters = {"it's": {"k": [rich("Regexp", "x"), 2]}, "p": rich("LocalRef", r"$['it\'s']['k'][0]")}
    assert plain_parameters(parameters)["p"] == "/x/"


@pytest.mark.parametrize("path", ["$['p']", "$['nothing']", "$['text'][0]['x']", f"$['text'][{'1' * 5000}]"])
def test_a_local_reference_to_itself_or_nothing_is_refused(path: str) -> None:
    with pytest.raises(PayloadError):
        plain_parameters({"text": "x", "p": rich("LocalRef", path)})


def test_values_nested_too_deep_are_refused() -> None:
    value: Any = "x"
    for _ in range(250):
        value = [value]
    with pytest.raises(PayloadError, match="nested deeper than 200 levels"):
        plain_parameters({"p": value})


kinds = st.sampled_from(
    [
        *("Sensitive", "Default", "Symbol", "Hash", "Regexp", "Binary", "LocalRef", "Car", "Pcore::ArrayType"),
        *("Pcore::StructType", "Pcore::EnumType", "Pcore::OptionalType", "Pcore::CallableType", "Pcore::New"),
        *("Pcore::ResourceType", "Pcore::ClassType", "Pcore::RuntimeType", "Pcore::PatternType", "Pcore::ObjectType"),
        *("Pcore::TypeAliasType", "Pcore::RegexpType", "Pcore::StringType", "Pcore::SemVerType", "Pcore::URIType"),
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
members = st.sampled_from(
    [
        *("__pvalue", "name", "types", "elements", "type", "values", "param_types", "from", "_pcore_init_hash"),
        *("pattern", "patterns", "title", "type_name", "class_name", "runtime", "size_type_or_value", "ranges"),
    ]
)


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists, hashes, and hashes that look like rich data."""
    objects = st.builds(
        lambda kind, rest: {"__ptype": kind, **rest}, kinds, st.dictionaries(members, inner, max_size=3)
    )
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3) | objects


documents = st.recursive(scalars, wrapped, max_leaves=12)


@given(documents)
def test_any_document_becomes_plain_json_or_is_refused(value: Any) -> None:
    try:
        made = plain_parameters({"p": value})
    except PayloadError:
        return
    assert is_plain(made)


@given(scalars | st.lists(scalars), st.lists(st.sampled_from(["list", "hash", "pairs", "object", "key"]), max_size=6))
def test_no_secret_survives_wherever_it_lies(rest: object, wraps: list[str]) -> None:
    value: Any = rich("Sensitive", ["hunter2", rest])
    for wrap in wraps:
        value = {
            "list": [rest, value],
            "hash": {"k": value},
            "pairs": rich("Hash", [1, value]),
            "object": {"__ptype": "Car", "a": value},
            "key": rich("Hash", [[value], 1]),
        }[wrap]
    assert "hunter2" not in json.dumps(plain_parameters({"p": value}))


@given(st.recursive(st.just(rich("Sensitive", "hunter2")), wrapped, max_leaves=5))
def test_no_secret_survives_in_any_shape_that_only_looks_like_puppets(value: Any) -> None:
    try:
        shown = json.dumps(plain_parameters({"p": value}))
    except PayloadError as error:
        shown = str(error)
    assert "hunter2" not in shown


@given(documents)
def test_plain_values_stay_as_they_are(value: Any) -> None:
    try:
        made = plain_parameters({"p": value})
        again = plain_parameters(made)
    except PayloadError:
        return
    assert again == made
