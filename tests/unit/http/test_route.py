"""Who is asked, in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.config.model import Endpoint
from pdbclient.http.route import read_order, write_order

from .fake import endpoints

A, B, C, S, T = endpoints("abc", "st")


def test_commands_go_to_the_submit_only_servers_last() -> None:
    assert write_order([S, C, T, A, B]) == (A, B, C, S, T)


def test_queries_never_go_to_a_submit_only_server() -> None:
    assert read_order([S, C, T, A, B]) == (A, B, C)
    assert read_order([S, T]) == ()


@pytest.mark.parametrize(
    ("held_back", "order"),
    [([], [A, B, C]), ([A], [B, C, A]), ([B], [A, C, B]), ([A, B], [C, A, B]), ([A, B, C], [A, B, C])],
)
def test_who_lacks_something_is_asked_last(held_back: list[Endpoint], order: list[Endpoint]) -> None:
    assert read_order([C, B, A, S], held_back) == tuple(order)


@pytest.mark.parametrize(
    ("sticky", "order"),
    [(A, [A, B, C]), (B, [B, C, A]), (C, [C, A, B]), (S, [A, B, C]), (None, [A, B, C])],
)
def test_sticky_reads_begin_with_the_last_reader_and_wrap_round(
    sticky: Endpoint | None, order: list[Endpoint]
) -> None:
    assert read_order([A, B, C, S], [], sticky) == tuple(order)


def test_sticky_reads_hold_nobody_back() -> None:
    assert read_order([A, B, C], [B], sticky=B) == (B, C, A)


@given(
    st.permutations([A, B, C, S, T]),
    st.sets(st.sampled_from([A, B, C, S])),
    st.sampled_from([None, A, B, C, S, T]),
)
def test_an_order_loses_and_doubles_nobody(
    servers: list[Endpoint], held_back: set[Endpoint], sticky: Endpoint | None
) -> None:
    reads = read_order(servers, held_back, sticky)
    assert sorted(reads, key=str) == [A, B, C]
    assert sorted(write_order(servers), key=str) == sorted(servers, key=str)
