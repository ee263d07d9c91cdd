"""A command's body as it stands in the journal: compressed where it was not yet, and with a checksum."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from pdbclient.wire.command import Command

__all__ = ["Damaged", "Packed", "pack", "unpack"]

SMALL = 512
"""Bytes below which compression is not worth its time."""


class Damaged(Exception):
    """What was read is not what was written."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A command, and its body as stored: `packing` is `deflate`, or `none` for the very bytes."""

    command: Command
    packing: str
    body: bytes
    checksum: bytes


def pack(command: Command) -> Packed:
    """Prepare `command` for the journal."""
    packing, body = "none", command.body
    if command.encoding == "identity" and len(body) >= SMALL:
        packing, body = "deflate", zlib.compress(body, 1)
    return Packed(command, packing, body, _checksum(command, packing, body))


def unpack(command: Command, packing: str, body: bytes, checksum: bytes) -> Command:
    """`command` (whose own body does not count) with the body that was stored for it. Raises `Damaged`."""
    if _checksum(command, packing, body) != checksum:
        raise Damaged("its checksum does not match")
    if packing == "deflate":
        try:
            body = zlib.decompress(body)
        except zlib.error as error:
            raise Damaged(f"its body does not unpack: {error}") from error
    fields = (command.name, command.version, command.certname, command.producer_timestamp)
    return Command.ready(*fields, body, command.encoding, command.length)


def _checksum(command: Command, packing: str, body: bytes) -> bytes:
    about = (command.name, command.version, command.certname, command.producer_timestamp, command.encoding)
    digest = hashlib.blake2b("\0".join(map(str, (*about, command.length, packing, ""))).encode(), digest_size=16)
    digest.update(body)
    return digest.digest()
