"""The checker of what readers of exported resources saw: it never goes back, whoever answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.partitions.checkers import Kind
from tests.partitions.checkers.exported import backwards, forgiven
from tests.partitions.history import Event, Read, Submitted

from . import made_up as site
from .made_up import evidence, read, submitted


def found(*events: Event, **fields: Any) -> list[str]:
    return [each.what for each in backwards(evidence(events, **fields))]


ONE, TWO, GONE = submitted(1, 1), submitted(2, 2), submitted(3, 3, "deactivate")
BACK = ["a: 2 was shown, and then 1"]


def test_a_read_that_began_after_another_one_shows_no_less_at_the_same_or_another_gateway() -> None:
    for host in site.FRONTS:
        assert found(ONE, TWO, read(5, {"a": 2}), read(6, {"a": 1}, host=host)) == BACK
        assert found(ONE, TWO, read(5, {"a": 1}), read(6, {"a": 2}, host=host)) == []
        assert found(ONE, TWO, read(5, {"a": 2}), read(6, {"a": 2}, host=host)) == []


def test_the_evidence_names_both_reads_and_who_answered() -> None:
    (one,) = backwards(evidence([ONE, TWO, read(5, {"a": 2}), read(6, {"a": 1}, by=site.DATABASES["db2"])]))
    assert (one.kind, one.where, one.at) == (Kind.BACKWARDS, "puppet1, https://db2:8081", 6)
    assert one.evidence == (
        "2: by https://db1:8081 to puppet1, from 5.000 to 5.100",
        "less: by https://db2:8081 to puppet1, from 6.000 to 6.100, not marked stale",
    )


def test_reads_at_the_same_time_may_show_either() -> None:
    assert found(ONE, TWO, read(5, {"a": 2}, took=2.0), read(6, {"a": 1})) == []
    assert found(ONE, TWO, read(5, {"a": 2}, took=2.0), read(6, {"a": 1}), read(7.5, {"a": 1})) == BACK


def test_an_answer_that_is_marked_stale_shows_what_it_likes_and_counts_for_nothing() -> None:
    assert found(ONE, TWO, read(5, {"a": 2}), read(6, {"a": 1}, stale=True)) == []
    assert found(ONE, TWO, read(5, {"a": 2}, stale=True), read(6, {"a": 1})) == []
    failed = read(6, {}, status=503, error="503: no")
    assert found(ONE, TWO, read(5, {"a": 2}), failed, read(6, {"a": 1}, kind="node")) == []


def test_a_node_that_is_not_shown_any_more_was_deactivated_or_is_lost() -> None:
    nothing = read(6, {})
    lost = ["a: 2 was shown, and then nothing, and nobody had deactivated it since 2"]
    assert found(ONE, TWO, read(5, {"a": 2}), nothing) == lost
    assert found(ONE, TWO, GONE, read(5, {"a": 2}), nothing) == []
    before = submitted(1.5, 1, "deactivate")
    assert found(submitted(1, 0), before, TWO, read(5, {"a": 2}), nothing) == lost
    not_yet = submitted(8, 3, "deactivate")
    assert found(ONE, TWO, read(5, {"a": 2}), nothing, not_yet) == lost


def test_a_deactivated_node_comes_back_only_when_it_did_something_since() -> None:
    seen: list[Event] = [read(5, {"a": 2}), read(6, {}), read(7, {"a": 2})]
    (back,) = found(ONE, TWO, GONE, *seen)
    assert back.endswith("the catalog that it had before it was deactivated")
    facts = submitted(6.5, 4, "facts")
    assert found(ONE, TWO, GONE, facts, *seen) == []
    assert len(found(ONE, TWO, GONE, replace(facts, at=8.0), *seen)) == 1, "that was after the read"
    older = submitted(2.5, 2, "facts")
    assert len(found(ONE, TWO, older, GONE, *seen)) == 1
    again: list[Event] = [submitted(6.5, 4), read(5, {"a": 2}), read(6, {}), read(7, {"a": 4})]
    assert found(ONE, TWO, GONE, *again) == []


def test_of_what_went_past_all_gateways_none_can_know() -> None:
    past = replace(TWO, url=site.DATABASES["db1"])
    reads = [read(5, {"a": 2}), read(6, {"a": 1})]
    assert found(ONE, past, *reads) == []
    assert forgiven(evidence([ONE, past, *reads])) == 1
    # But of what it does know it shows no less.
    three = submitted(3, 3)
    assert found(ONE, past, three, read(5, {"a": 3}), read(6, {"a": 1})) == ["a: 3 was shown, and then 1"]


def test_a_deactivation_that_it_knows_is_shown_where_what_came_after_it_went_past_all_gateways() -> None:
    """Nothing of the node, then what a reconciler brought: facts make it active with the catalog that it had."""
    two = submitted(2, 2, "deactivate")
    past = [
        replace(submitted(3, 3, "facts"), url=site.DATABASES["db1"]),
        replace(submitted(4, 4), url=site.DATABASES["db1"]),
    ]
    reads = [read(5, {"a": 4}), read(6, {}), read(7, {"a": 1})]
    assert found(ONE, two, *past, *reads) == []
    assert forgiven(evidence([ONE, two, *past, *reads])) == 2
    # One that nobody has made active again is gone, and a catalog that it knows is there.
    assert found(ONE, two, past[1], read(5, {"a": 4}), read(6, {"a": 1})) == ["a: 4 was shown, and then 1"]
    three = submitted(3, 3)
    assert len(found(ONE, two, three, past[1], read(5, {"a": 4}), read(6, {}))) == 1


def test_with_a_journal_for_each_gateway_each_knows_what_went_through_itself() -> None:
    other: list[Event] = [ONE, TWO, read(5, {"a": 2}, host="puppet2"), read(6, {"a": 1}, host="puppet2")]
    assert found(*other, shared=False) == []
    assert found(*other) == BACK
    own: list[Event] = [ONE, TWO, read(5, {"a": 2}, host="puppet2"), read(6, {"a": 1})]
    assert found(*own, shared=False) == BACK


def test_without_gateways_everything_is_judged() -> None:
    direct: dict[str, Any] = {"url": site.DATABASES["db1"]}
    reads = [read(5, {"a": 2}, **direct), read(6, {"a": 1}, url=site.DATABASES["db2"])]
    assert found(replace(ONE, **direct), replace(TWO, **direct), *reads, fronts={}) == BACK
    # With them, reads past them are Puppet's own affair.
    assert found(ONE, TWO, *reads) == []


def test_a_counter_that_nobody_sent_is_none() -> None:
    (one,) = backwards(evidence([ONE, read(5, {"a": 7})]))
    assert one.kind == Kind.PHANTOM


@dataclass(frozen=True)
class Happening:
    """What happens at one time: a command, or a read that lasts so long."""

    kind: str
    certname: str
    host: str
    took: float


STEPS = st.lists(
    st.builds(
        Happening,
        st.sampled_from(["catalog", "facts", "deactivate", "read", "read"]),
        st.sampled_from("ab"),
        st.sampled_from(sorted(site.FRONTS)),
        st.sampled_from([0.1, 0.9, 2.5]),
    ),
    max_size=40,
)


SENT, LOOK = Happening("catalog", "a", "puppet1", 0.1), Happening("read", "a", "puppet1", 0.1)


def linear(steps: Iterable[Happening]) -> tuple[list[Submitted], list[Read]]:
    """The history of a server that does everything at once, at the beginning of each step."""
    sent: list[Submitted] = []
    reads: list[Read] = []
    catalogs: dict[str, int] = {}
    away: set[str] = set()
    for number, step in enumerate(steps, 1):
        if step.kind == "read":
            seen = {name: counter for name, counter in catalogs.items() if name not in away}
            reads.append(read(float(number), seen, host=step.host, took=step.took))
            continue
        sent.append(submitted(float(number), number, step.kind, step.certname, host=step.host, took=step.took))
        if step.kind == "catalog":
            catalogs[step.certname] = number
        if step.kind == "deactivate":
            away.add(step.certname)
        else:
            away.discard(step.certname)
    return sent, reads


@given(STEPS)
def test_a_server_that_does_one_thing_after_the_other_is_never_accused(steps: list[Happening]) -> None:
    sent, reads = linear(steps)
    assert found(*sent, *reads) == []


@given(STEPS, st.data())
def test_one_that_shows_an_earlier_counter_of_a_node_always_is(steps: list[Happening], data: st.DataObject) -> None:
    sent, reads = linear([SENT, SENT, LOOK, *steps, LOOK])
    earlier = [
        (before, after, name, number)
        for before in reads
        for after in reads
        if before.end < after.at
        for name in before.seen
        for number in [each.number for each in sent if (each.kind, each.certname) == ("catalog", name)]
        if number < before.seen[name]
    ]
    _, after, name, number = data.draw(st.sampled_from(earlier))
    mutated = [replace(each, seen={**each.seen, name: number}) if each is after else each for each in reads]
    assert any(each.startswith(f"{name}: ") for each in found(*sent, *mutated))


@given(STEPS, st.data())
def test_one_that_forgets_a_node_that_nobody_deactivates_always_is(
    steps: list[Happening], data: st.DataObject
) -> None:
    sent, reads = linear([SENT, LOOK, *(step for step in steps if step.kind != "deactivate"), LOOK])
    shown = [(after, name) for before in reads for after in reads if before.end < after.at for name in before.seen]
    after, name = data.draw(st.sampled_from(shown))
    rest = {key: value for key, value in after.seen.items() if key != name}
    mutated = [replace(each, seen=rest) if each is after else each for each in reads]
    assert any(each.startswith(f"{name}: ") for each in found(*sent, *mutated))
