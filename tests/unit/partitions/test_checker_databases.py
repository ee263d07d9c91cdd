"""The checkers of what databases hold in the end: losses, duplicates, phantoms, differences."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pdbclient.wire.summary import to_millis
from tests.partitions.checkers import Evidence, Held, Kind, NewestRecord, Report, check
from tests.partitions.checkers.databases import duplicated, listed, lost, phantoms, unequal
from tests.partitions.history import Applied, Event, Submitted

from . import made_up as site
from .made_up import evidence, held_of, nemesis, submitted

RUN = [
    submitted(1, 1, "facts"),
    submitted(2, 2, "catalog"),
    submitted(3, 3, "inputs"),
    submitted(4, 4, "report"),
    submitted(5, 5, "deactivate"),
    submitted(6, 6, "facts", certname="b"),
    submitted(7, 7, "report", certname="b"),
]
WHOLE = held_of(RUN)


def kinds(found: object) -> list[Kind]:
    return [each.kind for each in found]  # type: ignore[attr-defined]


def of(*servers: Held, events: list[Submitted] | None = None) -> Evidence:
    return evidence(RUN if events is None else events, held=dict(zip(site.DATABASES, servers, strict=True)))


def less(held: Held, kind: str, certname: str) -> Held:
    """Without that record."""
    if kind == "report":
        return replace(held, reports=tuple(each for each in held.reports if each.certname != certname))
    rows = {name: row for name, row in held.newest[kind].items() if name != certname}
    return replace(held, newest={**held.newest, kind: rows})


def test_two_servers_that_have_all_are_right() -> None:
    assert check(of(WHOLE, WHOLE)) == ()


def test_without_databases_nothing_is_said_of_them() -> None:
    assert list(lost(evidence(RUN))) == []


def test_what_is_nowhere_is_lost_and_what_is_on_one_server_only_is_missing() -> None:
    for kind, certname in (("facts", "b"), ("report", "b"), ("deactivate", "a")):
        missing = less(WHOLE, kind, certname)
        assert kinds(lost(of(missing, missing))) == [Kind.LOST], kind
        (found,) = lost(of(WHOLE, missing))
        assert (found.kind, found.where) == (Kind.MISSING, "db2")
        assert found.what.startswith(f"{kind} ")
        assert found.evidence == (
            f"{site.FRONTS['puppet1']} said 200 to puppet1 after 0.100 s; https://db1:8081 had it",
        )


def test_what_was_sent_again_later_is_not_lost_but_the_servers_were_not_equal_in_time() -> None:
    missing, whole = less(WHOLE, "report", "b"), {"db1": WHOLE, "db2": WHOLE}
    late = evidence(RUN, held={"db1": WHOLE, "db2": missing}, later=whole)
    assert kinds(check(late)) == [Kind.UNEQUAL]
    assert kinds(check(evidence(RUN, held=whole, later={"db1": missing, "db2": missing}))) == [Kind.LOST]


def test_a_deactivated_node_may_be_whole_on_one_server_but_not_on_none() -> None:
    for kind in ("facts", "catalog", "inputs", "report"):
        missing = less(WHOLE, kind, "a")
        assert list(lost(of(WHOLE, missing))) == list(unequal(of(WHOLE, missing))) == [], kind
        assert listed(of(WHOLE, missing)) == 1
        assert kinds(lost(of(missing, missing))) == [Kind.LOST]


def test_something_newer_takes_the_place_of_what_was_acknowledged() -> None:
    later = [*RUN, submitted(20, 8, "facts"), submitted(21, 9, "catalog"), submitted(22, 10, "report")]
    held = held_of(later)
    assert held.deactivated() == frozenset()
    assert list(lost(of(held, held, events=later))) == []
    older = replace(held, newest={**held.newest, "catalog": {"a": WHOLE.newest["catalog"]["a"]}})
    assert kinds(lost(of(older, older, events=later))) == [Kind.LOST]


def test_a_deactivation_is_lost_when_the_node_is_active_with_older_data() -> None:
    active = less(WHOLE, "deactivate", "a")
    assert kinds(lost(of(active, active))) == [Kind.LOST]
    again = [*RUN, submitted(20, 8, "facts")]
    back = held_of(again)
    assert list(lost(of(back, back, events=again))) == []


def test_what_was_not_acknowledged_may_be_there_or_not() -> None:
    events = [replace(each, status=500, error="500: no", url=site.DATABASES["db1"]) for each in RUN]
    nothing = Held()
    assert check(of(nothing, nothing, events=events)) == ()
    assert check(of(WHOLE, WHOLE, events=events)) == ()


def test_what_went_past_the_gateway_to_a_server_that_was_emptied_then_is_not_lost_by_anybody() -> None:
    past = submitted(1, 1, "facts", certname="b", url=site.DATABASES["db1"])
    through = submitted(1, 1, "facts", certname="b")
    for nemesis_, events, kind in (
        (nemesis("emptied", "db1", 5, 6), [past], []),
        (nemesis("emptied", "db1", 5, 6), [through], [Kind.LOST]),
        (nemesis("emptied", "db2", 5, 6), [past], [Kind.LOST]),
        (nemesis("emptied", "db1", 0.2, 0.5), [past], [Kind.LOST]),
        (nemesis("kill", "db1 puppetdb", 5, 6), [past], [Kind.LOST]),
    ):
        found = lost(evidence([*events, nemesis_], held={"db1": Held(), "db2": Held()}))
        assert kinds(found) == kind, nemesis_
    # A site without gateways has nothing else.
    alone = evidence([past, nemesis("emptied", "db1", 5, 6)], held={"db1": Held(), "db2": Held()}, fronts={})
    assert kinds(lost(alone)) == [Kind.LOST]


def test_a_report_twice_on_one_server_is_one_too_many_and_once_on_both_is_none() -> None:
    twice = replace(WHOLE, reports=(*WHOLE.reports, replace(WHOLE.reports[0], content="another hash")))
    (found,) = duplicated(of(WHOLE, twice))
    assert (found.kind, found.where) == (Kind.TWICE, "db2")
    another = Report("b", WHOLE.reports[0].millis, "another run")
    assert list(duplicated(of(WHOLE, replace(WHOLE, reports=(*WHOLE.reports, another))))) == []


def test_what_nobody_sent_is_told_unless_puppet_itself_speaks_for_that_node() -> None:
    millis = to_millis(RUN[0].stamp)
    for extra in (
        replace(WHOLE, reports=(*WHOLE.reports, Report("b", millis, "unheard"))),
        replace(WHOLE, newest={**WHOLE.newest, "facts": {**WHOLE.newest["facts"], "b": NewestRecord(millis + 1)}}),
        replace(WHOLE, newest={**WHOLE.newest, "deactivate": {"b": NewestRecord(millis)}}),
    ):
        assert kinds(phantoms(of(WHOLE, extra))) == [Kind.PHANTOM]
        puppet: list[Event] = [*RUN, Applied(1.0, 2.0, "puppet1", "b", 0)]
        assert list(phantoms(evidence(puppet, held={"db1": WHOLE, "db2": extra}))) == []


def test_records_that_differ_are_told_with_what_each_has() -> None:
    other = replace(WHOLE, newest={**WHOLE.newest, "facts": {**WHOLE.newest["facts"], "b": NewestRecord(1, "older")}})
    (found,) = unequal(of(WHOLE, other))
    assert (found.what, found.where) == ("facts of b", "db1, db2")
    assert found.evidence[1] == "db2: NewestRecord(millis=1, content='older')"
    same_time = {"b": replace(WHOLE.newest["facts"]["b"], content="other content")}
    tied = replace(WHOLE, newest={**WHOLE.newest, "facts": {**WHOLE.newest["facts"], **same_time}})
    assert kinds(unequal(of(WHOLE, tied))) == [Kind.UNEQUAL]


def test_what_did_not_come_to_rest_is_told() -> None:
    (found,) = check(evidence([], unsettled=("db1: 1 of 3 passes have not ended in 240 s",)))
    assert (found.kind, found.where) == (Kind.UNSETTLED, "db1")


HISTORIES = st.lists(
    st.tuples(st.sampled_from(["facts", "catalog", "inputs", "report", "deactivate"]), st.sampled_from("abc")),
    min_size=1,
    max_size=25,
)


def commands(drawn: list[tuple[str, str]]) -> list[Submitted]:
    return [submitted(n + 1.0, n + 1, kind, certname) for n, (kind, certname) in enumerate(drawn)]


@given(HISTORIES)
def test_servers_that_processed_everything_are_never_accused(drawn: list[tuple[str, str]]) -> None:
    sent = commands(drawn)
    assert check(of(held_of(sent), held_of(sent), events=sent)) == ()


@given(HISTORIES, st.data())
def test_servers_that_never_saw_the_last_command_of_a_node_always_are(
    drawn: list[tuple[str, str]], data: st.DataObject
) -> None:
    sent = commands(drawn)
    last = {(each.kind, each.certname): each for each in sent}
    gone = data.draw(st.sampled_from(sorted(last.values(), key=lambda each: each.at)))
    after = [each for each in sent if each.certname == gone.certname and each.at > gone.at]
    rest = [each for each in sent if each is not gone]
    found = kinds(lost(of(held_of(rest), held_of(rest), events=sent)))
    superseded = gone.kind == "deactivate" and any(each.kind in ("facts", "catalog", "report") for each in after)
    assert found == ([] if superseded else [Kind.LOST])


@given(HISTORIES, st.data())
def test_a_report_that_is_there_twice_is_always_found(drawn: list[tuple[str, str]], data: st.DataObject) -> None:
    sent = [*commands(drawn), submitted(99, 99, "report")]
    held = held_of(sent)
    again = data.draw(st.sampled_from(held.reports))
    twice = replace(held, reports=(*held.reports, again))
    assert kinds(duplicated(of(held, twice, events=sent))) == [Kind.TWICE]
