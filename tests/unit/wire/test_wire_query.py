"""Queries are the stock terminus's own, and say which nodes and reports they mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pdbclient.errors import PdbError
from pdbclient.wire import InvalidQuery, exported_resources, filter_ast, parse_ast, parse_collector
from pdbclient.wire.query import (
    by_certnames,
    by_hashes,
    catalog_inputs_summary,
    catalog_summary,
    checked,
    facts_expiration,
    factset_summary,
    nodes_summary,
    report_hashes,
    report_hour_buckets,
    report_keys,
    report_summaries,
    reports_received,
    resource_type,
    rooted,
)
from pdbclient.wire.summary import CatalogSummary, HourBucket, NodeSummary, to_millis

A, B = "2026-01-31T00:00:00.000Z", "2026-02-01T00:00:00.000Z"
ANY_TYPE, ANY_STATE = ["=", "type", "any"], ["=", "node_state", "any"]


def test_the_query_of_a_collector_without_a_condition_is_the_terminuss() -> None:
    assert exported_resources("file", None, "node1.example") == [
        "and",
        ["=", "type", "File"],
        ["=", "exported", True],
        ["not", ["=", "certname", "node1.example"]],
    ]


def test_a_condition_is_added_as_the_terminus_adds_it() -> None:
    condition = parse_collector("(tag=='x' or title!='/a b') and mode=='0755' and owner != undef")
    assert exported_resources("File", condition, "a")[4] == [
        "and",
        [
            "and",
            ["or", ["=", "tag", "x"], ["not", ["=", "title", "/a b"]]],
            ["=", ["parameter", "mode"], "0755"],
        ],
        ["not", ["=", ["parameter", "owner"], None]],
    ]


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("file", "File"),
        ("foo::bar_x", "Foo::Bar_x"),
        ("::foo", "Foo"),
        ("Foo::Bar", "Foo::Bar"),
        ("fooBar", "FooBar"),
    ],
)
def test_a_type_is_asked_for_in_its_stored_form(name: str, stored: str) -> None:
    assert resource_type(name) == stored


@pytest.mark.parametrize("name", ["", "a b", "foo::", "::", "1a", "File[/a]"])
def test_what_is_no_type_is_refused(name: str) -> None:
    with pytest.raises(InvalidQuery, match="resource type"):
        exported_resources(name, None, "a")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("tag == 'a'", ["==", "tag", "a"]),
        ("tag==web", ["==", "tag", "web"]),
        ('title != "a\\n\\"b"', ["!=", "title", 'a\n"b']),
        (r"title == 'it\'s \n'", ["==", "title", r"it's \n"]),
        ("n == 5", ["==", "n", 5]),
        ("n == -1.5e3", ["==", "n", -1500.0]),
        ("x == true", ["==", "x", True]),
        ("x == 'true'", ["==", "x", "true"]),
        ("x == undef", ["==", "x", None]),
        ("require == File['/x']", ["==", "require", "File[/x]"]),
        ("require == Foo::Bar[baz]", ["==", "require", "Foo::Bar[baz]"]),
        ("a == 1 or b == 2 and c == 3", ["or", ["==", "a", 1], ["and", ["==", "b", 2], ["==", "c", 3]]]),
        ("a==1 and b==2 and c==3", ["and", ["and", ["==", "a", 1], ["==", "b", 2]], ["==", "c", 3]]),
        (" ( ( a == 1 ) ) ", ["==", "a", 1]),
    ],
)
def test_puppets_notation_is_read_as_puppet_reads_it(text: str, condition: list[Any]) -> None:
    assert parse_collector(text) == condition


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "column 1: expected a parameter's name, tag or title, but the condition ends"),
        ("tag", "column 4: expected == or !=, but the condition ends"),
        ("tag = 'a'", "column 4: expected == or !=, but found"),
        ("tag == ", "column 7: expected a value, but the condition ends"),
        ("tag == 'a", 'column 7: expected a value, but found "\'a"'),
        ("(tag == 'a'", "column 12: expected ')', but the condition ends"),
        ("tag == 'a' b", "column 11: expected the end, but found 'b'"),
        ("tag == 'a' and", "column 15: expected a parameter's name"),
        ("and == 1", "column 1: expected a parameter's name"),
        ('tag == "${x}"', "column 7: expected a value without $ interpolation"),
        ("n == 5x", "column 5: expected a value"),
        ("n == " + "9" * 5000, "column 5: the number is too large: 999"),
        ("tag == 'a' or n == -1e400", "column 19: the number is too large: -1e400"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_with_its_column(text: str, why: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        parse_collector(text)
    assert str(refusal.value).startswith(why)


def test_tags_are_asked_for_in_lower_case_and_other_values_as_they_are() -> None:
    assert filter_ast(["==", "tag", "Web"]) == ["=", "tag", "web"]
    assert filter_ast(("!=", "title", "A")) == ["not", ["=", "title", "A"]]
    assert filter_ast(["==", "x", [1, None]]) == ["=", ["parameter", "x"], [1, None]]


def test_more_than_two_operands_become_nested_pairs() -> None:
    one = ["==", "a", 1]
    ast = ["=", ["parameter", "a"], 1]
    assert filter_ast(["or", one, one, one]) == ["or", ["or", ast, ast], ast]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (["==", "tag", 5], "a tag is a string, not 5"),
        (["==", "tag", ["a"]], "a tag is a string"),
        (["==", "tag", None], "a tag is a string, not null"),
        (["=~", "title", "a"], "operator '=~'"),
        (["and", ["==", "a", 1]], "is not a condition"),
        ("tag == 'a'", "is not a condition"),
        ([], "is not a condition"),
        (["==", 5, "a"], "does not compare a name"),
        (["==", "a", "b", "c"], "does not compare a name"),
        (["or", "tag", "x"], "is not a condition"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(condition: Any, why: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        filter_ast(condition)
    assert why in str(refusal.value)
    assert isinstance(refusal.value, PdbError)


@pytest.mark.parametrize("query", ["nodes {}", ["=", "a", "b"], ["from", "nodes"]])
def test_a_query_passes_the_guard_as_it_is(query: Any) -> None:
    assert checked(query) is query


def _nested(depth: int) -> list[Any]:
    query: list[Any] = ["=", "certname", "a"]
    for _ in range(depth - 1):
        query = ["not", query]
    return query


def test_how_deep_a_query_may_be_is_the_same_for_every_python() -> None:
    """As a value and as text, whole and broken off: PuppetDB would answer with an internal error."""
    assert checked(_nested(500)) == parse_ast(str(_nested(500)).replace("'", '"'))
    for depth in (501, 900, 2000, 5000):
        with pytest.raises(InvalidQuery, match="nested too deep"):
            checked(_nested(depth))
        for text in ("[" * depth + "]" * depth, "[" * depth, '["not", {"a": ' * depth):
            with pytest.raises(InvalidQuery, match="nested too deep"):
                parse_ast(text)
    assert checked(["in", "x", ["array", [["a"]] * 2000]])
    assert parse_ast('["=", "title", "' + "[" * 600 + '\\"[["]')
    for text in ('["=", "' + "[" * 600, '["=", "a', "[]]", "["):
        with pytest.raises(InvalidQuery, match="is not JSON"):
            parse_ast(text)


@pytest.mark.parametrize("query", ["", " \n", [], None, {}, 5, [["=", "a", "b"]], [None], ("=", "a", "b")])
def test_an_empty_or_shapeless_query_is_refused(query: Any) -> None:
    with pytest.raises(InvalidQuery):
        checked(query)


@pytest.mark.parametrize(
    "query",
    [
        factset_summary("any"),
        catalog_summary("any"),
        catalog_inputs_summary("any"),
        nodes_summary("any"),
        facts_expiration(),
        *(by_certnames(entity, ["a"]) for entity in ("catalogs", "factsets", "reports", "nodes")),
        report_hour_buckets(A, B),
        report_hashes(A, B),
        report_keys(A, B),
        report_summaries(["h"], A, B),
        reports_received(A, B),
        reports_received(None, B),
        by_hashes(["x"]),
        by_hashes(["x"], A, B),
    ],
)
def test_every_query_can_reach_inactive_nodes(query: list[Any]) -> None:
    assert str(ANY_STATE) in str(query)


@pytest.mark.parametrize(
    "query",
    [
        report_hour_buckets(A, B),
        report_hashes(A, B),
        report_keys(A, B),
        report_summaries(["h"], A, B),
        reports_received(A, B),
        reports_received(None, B),
        by_hashes(["x"]),
        by_hashes(["x"], A, B),
        by_certnames("reports", []),
    ],
)
def test_every_query_of_reports_includes_plan_reports(query: list[Any]) -> None:
    assert str(ANY_TYPE) in str(query)


def test_summaries_mean_active_nodes_unless_told_otherwise() -> None:
    assert factset_summary()[2] == catalog_summary()[2] == ["=", "node_state", "active"]
    with pytest.raises(InvalidQuery, match="active, inactive, any"):
        nodes_summary("dead")


def test_times_are_half_open_ranges_bounded_on_both_sides() -> None:
    bounds = [[">=", "producer_timestamp", A], ["<", "producer_timestamp", B]]
    assert report_hashes(A, B)[2][-2:] == bounds
    assert report_keys(A, B)[2][-2:] == bounds
    assert report_summaries(["h"], A, B)[2][-2:] == bounds
    assert by_hashes(["x"], A, B)[-2:] == bounds


def test_a_batch_is_one_array() -> None:
    assert by_certnames("factsets", iter("ab"))[1] == ["in", "certname", ["array", ["a", "b"]]]
    assert by_hashes(["x"])[1] == ["in", "hash", ["array", ["x"]]]


def test_a_query_can_be_put_to_the_root_endpoint() -> None:
    assert rooted("catalog-inputs", ["=", "a", "b"]) == ["from", "catalog_inputs", ["=", "a", "b"]]


def test_summary_rows_are_decoded_and_other_columns_ignored() -> None:
    rows = b'[{"certname": "a", "hash": "h", "producer_timestamp": "t", "transaction_uuid": null, "x": 1}]'
    assert msgspec.json.decode(rows, type=list[CatalogSummary]) == [CatalogSummary("a", "h", "t", None)]
    node = msgspec.json.decode(b'{"certname": "a", "deactivated": null, "expired": "t"}', type=NodeSummary)
    assert (node.deactivated, node.expired) == (None, "t")


@pytest.mark.parametrize(
    ("label", "start"),
    [
        ("2026-01-31T10 +00", "2026-01-31T10:00:00.000Z"),
        ("2026-01-31T05 -05", "2026-01-31T10:00:00.000Z"),
        ("2026-01-31T10 +05:30", "2026-01-31T04:30:00.000Z"),
        ("12999-01-01T00 +00", "+12999-01-01T00:00:00.000Z"),
        ("0001-01-01T00 +00", "0001-01-01T00:00:00.000Z"),
    ],
)
def test_an_hours_label_means_the_same_instant_in_every_zone(label: str, start: str) -> None:
    row = {"to_string": label, "count": 2, "min": "a", "max": "b", "max_2": A}
    bucket = msgspec.convert(row, HourBucket)
    assert (bucket.start, bucket.count, bucket.min_hash, bucket.max_hash) == (to_millis(start), 2, "a", "b")
    assert bucket.max_producer_timestamp == A


def test_an_hours_label_without_its_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="not an hour"):
        HourBucket("2026-01-31T10", 1, "a", "a", A).start  # noqa: B018
