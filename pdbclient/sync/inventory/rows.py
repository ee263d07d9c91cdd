"""Asking both sides the same, and reading what they answer, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from pdbclient.errors import IncompleteResponse
from pdbclient.sync.inventory.interfaces import Server
from pdbclient.wire import query

__all__ = ["CHUNK", "UNREADABLE", "batches", "both_sides", "read_count", "read_rows"]

CHUNK = 500
"""Keys in one query."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError)
"""What reading a row raises that is not what was asked for."""

T = TypeVar("T")


class _Count(msgspec.Struct):
    count: int


_anything = msgspec.json.Decoder().decode
_count = msgspec.json.Decoder(_Count).decode


def batches(keys: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`keys` in runs of at most `size`."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def both_sides(there: Server, here: Server, ask: Callable[[Server], T]) -> tuple[T, T]:
    """`ask` of both servers at the same time: the remote's answer, then the local one's."""
    with ThreadPoolExecutor(2, thread_name_prefix="sync-inventory") as pool:
        remote, local = pool.submit(ask, there), pool.submit(ask, here)
        return remote.result(), local.result()


def read_rows(
    server: Server,
    rows: Iterable[bytes],
    read: Callable[[bytes], T],
    unusable: dict[str, str] | None = None,
    key: str = "certname",
) -> Iterator[T]:
    """The rows, decoded. One that is not what was asked for is left out, and noted in `unusable` by what it has as
    `key`.

    Raises `IncompleteResponse` for one without a key, or when nothing may be left out (None).
    """
    for seen, row in enumerate(rows):
        try:
            yield read(row)
        except UNREADABLE as error:
            name = None if unusable is None else _text(row, key)
            if unusable is None or name is None:
                raise IncompleteResponse(str(server.endpoint), f"an unusable row: {error}", seen) from error
            unusable[name] = str(error)


def read_count(server: Server, path: str, ast: query.Ast, within: float) -> int:
    """The number that a query asks for. Raises `IncompleteResponse` for a row that has none."""
    rows = server.rows(path, query=ast, within=within)
    return sum(read_rows(server, rows, lambda row: _count(row).count))


def _text(row: bytes, key: str) -> str | None:
    """A text of a row of which nothing else can be used."""
    try:
        found = _anything(row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    text = found.get(key) if isinstance(found, dict) else None
    return text if isinstance(text, str) else None
