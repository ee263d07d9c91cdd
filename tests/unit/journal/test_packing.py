"""A command as it stands in the journal."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.errors import JournalCorrupt
from pdbclient.journal.store.packing import SMALL, Damaged, Packed, pack, unpack
from pdbclient.wire.command import Command

from .store import FACTS, command, stamp

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(text, text, st.binary(max_size=3000), st.sampled_from(["identity", "gzip"]), st.integers(0, 2**31 - 1))
def test_what_was_packed_is_unpacked_as_it_was(
    name: str, certname: str, body: bytes, encoding: str, version: int
) -> None:
    made = Command.ready(name, version, certname, stamp(0), body, encoding, 7)
    packed = pack(made)
    assert unpack(replace(made, body=b""), packed.packing, packed.body, packed.checksum) == made


@pytest.mark.parametrize(
    ("size", "encoding", "packing"),
    [
        (SMALL - 1, "identity", "none"),
        (SMALL, "identity", "deflate"),
        (SMALL, "gzip", "none"),
        (0, "identity", "none"),
    ],
)
def test_only_what_is_large_and_not_compressed_yet_is_compressed(size: int, encoding: str, packing: str) -> None:
    packed = pack(Command.ready(FACTS, 5, "node", stamp(0), b"x" * size, encoding, size))
    assert packed.packing == packing
    assert (len(packed.body) < size) is (packing == "deflate")


def unpacked(packed: Packed, **changes: object) -> Command:
    values = {"packing": packed.packing, "body": packed.body, "checksum": packed.checksum} | changes
    return unpack(packed.command, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"other", None, 5, "text"])
def test_a_body_that_is_not_the_one_that_was_written_is_damaged(body: object) -> None:
    with pytest.raises(Damaged, match="checksum"):
        unpacked(pack(command(body=b"x" * 1000)), body=body)


@pytest.mark.parametrize("checksum", [b"", None, b"0" * 16])
def test_a_checksum_that_is_not_the_one_that_was_written_is_damage_too(checksum: object) -> None:
    with pytest.raises(Damaged, match="checksum"):
        unpacked(pack(command()), checksum=checksum)


def test_a_body_that_does_not_unpack_is_damaged_though_its_checksum_matches() -> None:
    packed = pack(command(body=b"x" * 1000))
    body = zlib.compress(b"x" * 1000)[:-4]
    about = (FACTS, 5, "node.example", stamp(0), "identity", 1000, "deflate", "")
    checksum = hashlib.blake2b("\0".join(map(str, about)).encode() + body, digest_size=16).digest()
    with pytest.raises(Damaged, match="does not unpack"):
        unpacked(packed, body=body, checksum=checksum)


def test_damage_is_a_corrupt_journal_to_whoever_does_not_care_which_entry() -> None:
    assert issubclass(Damaged, JournalCorrupt)
