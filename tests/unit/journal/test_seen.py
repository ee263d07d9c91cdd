"""Which entries a server has, by PuppetDB's own precedence."""

from __future__ import annotations

import gzip

import pytest

from pdbclient.errors import Busy, Forbidden, NotSent, PdbError, ServerError
from pdbclient.journal.model import EntryState, Listed
from pdbclient.journal.store.packing import pack
from pdbclient.journal.work.seen import Shown, has, held, is_hidden, is_known, look
from pdbclient.wire.command import Command

from .server import FakeServer
from .store import CATALOG, DEACTIVATE, EXPIRE, FACTS, INPUTS, REPORT, A, command, stamp

OLDER, SAME, NEWER = stamp(99), stamp(100), stamp(101)


def listed(name: str, certname: str = "n", at: int = 100, number: int = 1) -> Listed:
    return Listed(number, "uuid", 0.0, EntryState.DELIVERED, name, 5, certname, stamp(at), "identity", 2, 2)


def there(*newest: tuple[str, str], reports: tuple[str, ...] = (), latest: str | None = None) -> Shown:
    """What is there of the node `n`."""
    return Shown(
        {(name, "n"): when for name, when in newest},
        {("n", when) for when in reports},
        {} if latest is None else {"n": latest},
    )


@pytest.mark.parametrize("name", [CATALOG, FACTS, INPUTS, EXPIRE, DEACTIVATE])
def test_of_what_is_replaced_the_same_or_something_newer_counts(name: str) -> None:
    assert [has(listed(name), there((name, when))) for when in (OLDER, SAME, NEWER)] == [False, True, True]
    assert not has(listed(name), there())


@pytest.mark.parametrize("name", [CATALOG, FACTS, INPUTS, EXPIRE])
def test_another_record_of_the_node_takes_the_place_of_none(name: str) -> None:
    others = [(other, NEWER) for other in (CATALOG, FACTS, INPUTS, EXPIRE, DEACTIVATE) if other != name]
    assert not has(listed(name), there(*others, reports=(NEWER,), latest=NEWER))


def test_a_report_is_there_or_not() -> None:
    assert has(listed(REPORT), there(reports=(OLDER, SAME)))
    assert not has(listed(REPORT), there(reports=(OLDER, NEWER)))
    assert not has(listed(REPORT, certname="m"), there(reports=(SAME,)))


@pytest.mark.parametrize("name", [CATALOG, FACTS, INPUTS, EXPIRE])
def test_a_newer_record_of_any_kind_makes_a_deactivation_moot_an_equal_one_does_not(name: str) -> None:
    entry = listed(DEACTIVATE)
    assert [has(entry, there((name, when))) for when in (OLDER, SAME, NEWER)] == [False, False, True]


def test_a_newer_report_makes_a_deactivation_moot_too() -> None:
    entry = listed(DEACTIVATE)
    assert [has(entry, there(latest=when)) for when in (OLDER, SAME, NEWER)] == [False, False, True]


def test_a_command_of_a_name_from_the_future_is_nowhere() -> None:
    assert not has(listed("store plan"), there((CATALOG, NEWER), reports=(SAME,)))


def seen(server: FakeServer, entries: list[Listed]) -> dict[int, bool]:
    return held(entries, look(server.session, entries, strict=True))


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(A)


def test_a_server_is_asked_only_for_what_the_entries_are_about(server: FakeServer) -> None:
    entries = [listed(FACTS, "n", number=1), listed(FACTS, "m", number=2), listed(CATALOG, "n", number=3)]
    server.newest = {(FACTS, "n"): NEWER, (FACTS, "m"): OLDER, (CATALOG, "n"): SAME}
    assert seen(server, entries) == {1: False, 3: True}
    assert sorted(path for path, _ in server.queries) == ["/catalogs", "/factsets", "/nodes"]


def test_whether_a_deactivation_is_moot_is_asked_only_where_it_does_not_show(server: FakeServer) -> None:
    entries = [listed(DEACTIVATE, certname, number=n) for n, certname in enumerate("abcd")]
    server.newest = {(DEACTIVATE, "a"): SAME, (INPUTS, "b"): NEWER}
    server.reports = {("c", NEWER), ("c", OLDER), ("d", OLDER)}
    assert seen(server, entries) == {0: True, 1: False, 2: False}
    assert {query[2][1][2][1][0] for path, query in server.queries if path != "/nodes"} <= {"b", "c", "d"}
    server.queries.clear()
    server.newest = {(DEACTIVATE, certname): SAME for certname in "abcd"}
    assert seen(server, entries).keys() == {0, 1, 2, 3}
    assert [path for path, _ in server.queries] == ["/nodes"]


def test_facts_that_were_asked_for_anyway_decide_about_a_deactivation_as_well(server: FakeServer) -> None:
    entries = [listed(DEACTIVATE, "n", number=1), listed(FACTS, "n", at=50, number=2)]
    server.newest = {(FACTS, "n"): NEWER}
    assert seen(server, entries) == {1: False, 2: False}
    assert [path for path, _ in server.queries].count("/factsets") == 1


CANNOT = ServerError(A, 500, "missing FROM-clause entry")


@pytest.mark.parametrize("name", [CATALOG, FACTS, INPUTS])
def test_what_an_older_deactivation_hides_is_not_held(server: FakeServer, name: str) -> None:
    entries = [listed(name, certname, number=n) for n, certname in enumerate("abc")]
    server.newest = {(name, certname): SAME for certname in "abc"}
    server.newest |= {(DEACTIVATE, "b"): OLDER, (DEACTIVATE, "c"): SAME}
    shown = look(server.session, entries)
    assert [has(entry, shown) for entry in entries] == [True, True, True]
    assert [is_hidden(entry, shown) for entry in entries] == [False, True, False]
    assert held(entries, shown).keys() == {0, 2}


def test_what_is_not_there_is_not_hidden(server: FakeServer) -> None:
    entries = [listed(FACTS, number=1)]
    server.newest = {(DEACTIVATE, "n"): OLDER}
    assert not is_hidden(entries[0], look(server.session, entries))
    assert [path for path, _ in server.queries] == ["/factsets"]


def test_a_question_that_a_server_cannot_answer_leaves_the_others_answered(server: FakeServer) -> None:
    entries = [listed(name, "n", number=n) for n, name in enumerate((EXPIRE, FACTS, DEACTIVATE, REPORT))]
    entries.append(listed(DEACTIVATE, "m", number=4))
    server.newest = {(FACTS, "n"): SAME, (DEACTIVATE, "m"): SAME}
    server.cannot = {EXPIRE: CANNOT}
    shown = look(server.session, entries)
    assert shown.unanswered == {EXPIRE: CANNOT}
    known = [is_known(entry, shown) for entry in entries]
    # Whether a deactivation is moot may depend on what cannot be asked; one that shows does not.
    assert known == [False, True, False, True, True]
    with pytest.raises(ServerError):
        seen(server, entries)


@pytest.mark.parametrize("error", [Busy(A, 503, "", 5.0), Forbidden(A, 403, ""), NotSent(A, "refused")])
def test_a_server_that_is_not_to_be_had_is_no_unanswered_question(server: FakeServer, error: PdbError) -> None:
    server.cannot = {FACTS: error}
    with pytest.raises(type(error)):
        look(server.session, [listed(FACTS, "n", number=1)])


def test_of_two_catalogs_of_one_node_the_newer_counts(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"certname": "n", "producer_timestamp": when} for when in (SAME, OLDER)]
    monkeypatch.setattr(server, "records", lambda path, **options: iter(rows if path == "/catalogs" else ()))
    assert look(server.session, [listed(CATALOG)]).newest == {(CATALOG, "n"): SAME}


@pytest.mark.parametrize(
    ("body", "void"),
    [
        (b'{"inputs": []}', True),
        (b'{"inputs": [["hiera", "a"]]}', False),
        (b"{}", False),
        (b"[]", False),
        (b"no JSON", False),
        (b'"\xff"', False),
    ],
)
def test_inputs_that_are_none_are_kept_by_no_server(body: bytes, void: bool) -> None:
    plain = command(INPUTS, body=body)
    assert pack(plain).void == pack(plain.gzipped()).void == void
    assert not pack(command(FACTS, body=body)).void
    assert not pack(Command.ready(INPUTS, 1, "n", SAME, gzip.compress(body)[:-9], "gzip", len(body))).void
    # Large ones cannot be without inputs, and are not looked into.
    assert not pack(command(INPUTS, body=body + b" " * 5000)).void
