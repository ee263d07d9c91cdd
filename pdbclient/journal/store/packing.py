"""A command's body as it stands in the journal: compressed where it was not yet, and with a checksum."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass

from isal import isal_zlib

from pdbclient.errors import InvalidCommand, JournalCorrupt
from pdbclient.wire.command import Command

__all__ = ["Damaged", "Packed", "pack", "unpack"]

SMALL = 512
"""Bytes below which compression is not worth its time."""
VOID = 4096
"""Bytes that catalog inputs without any input have at the most."""


class Damaged(JournalCorrupt):
    """What was read is not what was written."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A command, and its body as stored: `packing` is `deflate`, or `none` for the very bytes.

    `void`: PuppetDB keeps nothing of it.
    """

    command: Command
    packing: str
    body: bytes
    checksum: bytes
    void: bool = False


def pack(command: Command) -> Packed:
    """Prepare `command` for the journal. Raises `InvalidCommand` for what cannot be stored as it is."""
    _require_storable(command)
    packing, body = "none", command.body
    if command.encoding == "identity" and len(body) >= SMALL:
        # A catalog of 185 KB in a tenth of a millisecond, where zlib takes six: with it, that was most of an append.
        packing, body = "deflate", isal_zlib.compress(body, 1)
    return Packed(command, packing, body, _checksum(command, packing, body), _is_void(command))


def unpack(command: Command, packing: str, body: bytes, checksum: bytes) -> Command:
    """`command` (whose own body does not count) with the body that was stored for it. Raises `Damaged`."""
    if not isinstance(body, bytes) or _checksum(command, packing, body) != checksum:
        raise Damaged("its checksum does not match")
    if packing == "deflate":
        try:
            body = zlib.decompress(body)
        except zlib.error as error:
            raise Damaged(f"its body does not unpack: {error}") from error
    fields = (command.name, command.version, command.certname, command.producer_timestamp)
    return Command.ready(*fields, body, command.encoding, command.length)


def _is_void(command: Command) -> bool:
    """Whether PuppetDB keeps nothing of `command`: it ignores catalog inputs that are none."""
    if command.name != "replace catalog inputs" or command.length > VOID or len(command.body) > VOID:
        return False
    try:
        body = gzip.decompress(command.body) if command.encoding == "gzip" else command.body
        payload = json.loads(body)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return False
    return isinstance(payload, dict) and payload.get("inputs") == []


def _require_storable(command: Command) -> None:
    # Both databases' limits, so that a site can change from one to the other.
    for text in (command.name, command.certname, command.producer_timestamp, command.encoding):
        if "\0" in text or not _is_unicode(text):
            why = "cannot be kept in the journal: it is not valid Unicode without U+0000"
            raise InvalidCommand(command.name, command.certname, "$.certname", why)
    if not (0 <= command.version < 1 << 31 and 0 <= command.length < 1 << 63):
        raise InvalidCommand(command.name, command.certname, "version", "cannot be kept in the journal: out of range")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _checksum(command: Command, packing: str, body: bytes) -> bytes:
    about = (command.name, command.version, command.certname, command.producer_timestamp, command.encoding)
    digest = hashlib.blake2b("\0".join(map(str, (*about, command.length, packing, ""))).encode(), digest_size=16)
    digest.update(body)
    return digest.digest()
