"""What servers of each version are told beside a query, and the count of requests that failed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import pytest

from pdbclient.config.model import Endpoint
from pdbclient.errors import Busy, IncompleteResponse, NotSent, Rejected, ServerError, SyncError
from pdbclient.sync.inventory.capabilities import PARAMETERS, Capabilities, PassServer, ask_capabilities
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.sync.policy.versions import hash_class
from pdbclient.sync.run.diff import diff
from pdbclient.wire.command import Command

from ...versions import PUPPETDB_8_4
from .conftest import SyncPair
from .fake import facts

ALL = Capabilities(frozenset({"origin", "timeout"}))
SEVEN = Capabilities(frozenset({"origin"}))


class PickyServer:
    """A server that answers 200 to queries with certain parameters, and 400, or `error`, to others."""

    def __init__(self, known: set[str], error: Exception | None = None) -> None:
        self.endpoint = Endpoint("a", 8081)
        self.known, self.error, self.asked = known, error, 0

    def rows(self, path: str, *, params: Any = None, **options: Any) -> Iterator[bytes]:
        self.asked += 1
        if not params.keys() <= self.known:
            raise self.error or Rejected("https://a:8081", 400, "Unsupported query parameter")
        yield from ()


@pytest.mark.parametrize("known", [set(), {"origin"}, {"timeout"}, {"origin", "timeout"}])
def test_what_a_server_answers_is_found_by_asking_it(known: set[str]) -> None:
    assert ask_capabilities(cast(Server, PickyServer(known))).answers == known


def test_a_server_that_fails_at_a_parameter_is_not_told_it() -> None:
    broken = PickyServer({"origin"}, ServerError("https://a:8081", 500, "missing FROM-clause entry"))
    assert ask_capabilities(cast(Server, broken)) == SEVEN


@pytest.mark.parametrize(
    "error",
    [NotSent("https://a:8081", "refused"), Busy("https://a:8081", 503, "", 5.0), IncompleteResponse("a", "x")],
)
def test_a_server_that_does_not_answer_is_not_taken_for_one_that_knows_nothing(error: Exception) -> None:
    with pytest.raises(type(error)):
        ask_capabilities(cast(Server, PickyServer(set(), error)))


def test_a_server_is_asked_once_and_again_when_it_is_another_version(site: SyncPair) -> None:
    def asked() -> int:
        return sum(query == ["in", "certname", ["array", [""]]] for _, query in site.b.queries)

    assert site.pull(site.a).ok
    assert asked() == len(PARAMETERS)
    assert site.pull(site.a).ok
    assert asked() == len(PARAMETERS), "what it answered is remembered, over restarts too"
    site.b.version = "8.4.1"
    assert site.pull(site.a).ok
    assert asked() == 2 * len(PARAMETERS)


@pytest.mark.parametrize("version", ["7.4.0", "7.12.1", "8.0.1", "8.4.1", "8.8.1"])
def test_all_of_7_from_7_4_on_and_8_hash_alike(version: str) -> None:
    assert hash_class(version) == hash_class("7.12.1")


class BreakingServer:
    """A server that notes the parameters of queries, and may break."""

    def __init__(self) -> None:
        self.endpoint = Endpoint("a", 8081)
        self.params: list[Any] = []
        self.error: Exception | None = None

    def rows(self, path: str, *, params: Any = None, **options: Any) -> Iterator[bytes]:
        self.params.append(params)
        yield b"{}"
        if self.error is not None:
            raise self.error

    def document(self, path: str, *, within: float | None = None) -> Any:
        if self.error is not None:
            raise self.error
        return path

    def submit(self, command: Command, *, within: float | None = None) -> str:
        if self.error is not None:
            raise self.error
        return "uuid"

    def close(self) -> None:
        self.closed = True


def asked(known: Capabilities | None, within: float | None, params: dict[str, str] | None = None) -> Any:
    recorder = BreakingServer()
    server = PassServer(recorder)
    if known is not None:
        server.learn(known)
    assert list(server.rows("/nodes", params=params, within=within)) == [b"{}"]
    (sent,) = recorder.params
    return sent


def test_a_server_whose_version_is_not_known_yet_is_told_nothing() -> None:
    assert asked(None, 10.0) is None
    assert asked(Capabilities(), 10.0, {"a": "b"}) == {"a": "b"}


def test_a_server_is_told_who_asks_and_when_the_answer_is_of_no_more_use() -> None:
    assert asked(SEVEN, 10.0) == {"origin": "pdbclient-sync"}
    assert asked(ALL, 10.2, {"a": "b"}) == {"a": "b", "origin": "pdbclient-sync", "timeout": 11}


@pytest.mark.parametrize("within", [None, math.inf])
def test_a_query_that_may_take_any_time_has_no_timeout(within: float | None) -> None:
    assert asked(ALL, within) == {"origin": "pdbclient-sync"}


def test_every_failed_request_is_counted_and_a_mistake_of_ours_is_not() -> None:
    recorder = BreakingServer()
    server = PassServer(recorder)
    command = Command.ready("deactivate node", 3, "n", "2026-01-01T00:00:00.000Z", b"{}")
    recorder.error = IncompleteResponse("a", "cut")
    with pytest.raises(IncompleteResponse):
        list(server.rows("/nodes"))
    recorder.error = NotSent("a", "refused")
    with pytest.raises(NotSent):
        server.document("/status")
    recorder.error = Rejected("a", 400, "no")
    with pytest.raises(Rejected):
        server.submit(command)
    assert server.failed_requests == 3
    recorder.error = SyncError("asked to stop")
    with pytest.raises(SyncError):
        server.submit(command)
    assert server.failed_requests == 3
    recorder.error = None
    assert str(server.document("/x")) == "/x"
    assert (server.submit(command), server.endpoint) == ("uuid", recorder.endpoint)
    server.close()
    assert recorder.closed


def test_a_pass_tells_how_many_requests_failed_those_tried_again_with_success_too(site: SyncPair) -> None:
    for number in range(4):
        site.a.apply("replace facts", facts(f"n{number}", site.ago(5)))
    breaks = [IncompleteResponse("a", "cut")]
    site.a.broken = lambda path, query: breaks.pop() if path == "/factsets" and query[0] == "and" and breaks else None
    result = site.pull(site.b)
    assert result.ok
    assert (len(site.b.tables["factsets"]), result.failed_requests) == (4, 1)
    assert result.as_json()["failed_requests"] == 1


@pytest.fixture
def seen(site: SyncPair) -> dict[str, list[dict[str, Any]]]:
    """The parameters of the queries to `a`, a 7.12.1, and to `b`, an 8.4.1."""
    site.b.become(PUPPETDB_8_4)
    seen: dict[str, list[dict[str, Any]]] = {"a": [], "b": []}
    for name, server in (("a", site.a), ("b", site.b)):

        def rows(
            path: str, *, params: Any = None, _name: str = name, _rows: Any = server.rows, **options: Any
        ) -> Any:
            # But for those by which it is found out.
            if options["query"] != ["in", "certname", ["array", [""]]]:
                seen[_name].append(params or {})
            return _rows(path, params=params, **options)

        server.rows = rows  # type: ignore[method-assign]
    site.a.apply("replace facts", facts("n", site.ago(5)))
    return seen


def assert_asked_as_their_versions_allow(seen: dict[str, list[dict[str, Any]]]) -> None:
    assert all(params["origin"] == "pdbclient-sync" and "timeout" not in params for params in seen["a"])
    assert all(0 < params["timeout"] <= 1800 for params in seen["b"])
    assert all(params["origin"] == "pdbclient-sync" for params in seen["b"])
    assert seen["a"]
    assert seen["b"]


def test_both_servers_of_a_pass_are_asked_as_their_own_version_allows(
    site: SyncPair, seen: dict[str, list[dict[str, Any]]]
) -> None:
    assert site.pull(site.b).ok
    assert_asked_as_their_versions_allow(seen)


def test_both_servers_of_a_comparison_are_asked_as_their_own_version_allows(
    site: SyncPair, seen: dict[str, list[dict[str, Any]]]
) -> None:
    config = site.config(site.b)
    found = diff(config, site.a.endpoint, connect=site.connect, clock=site.clock)
    assert not found.equal
    assert_asked_as_their_versions_allow(seen)
