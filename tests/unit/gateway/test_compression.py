"""Unpacking with a bound, and who is answered in gzip."""

from __future__ import annotations

import gzip
import zlib

import pytest

from pdbclient.gateway.compression import Gzip, TooLarge, unpacked, wants_gzip


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_what_is_within_the_limit_is_unpacked(size: int) -> None:
    assert unpacked(gzip.compress(b"x" * size), 1000) == b"x" * size


@pytest.mark.parametrize("size", [1001, 100_000, 10_000_000])
def test_what_is_beyond_the_limit_is_not(size: int) -> None:
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(b"x" * size), 1000)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"x", b"\x1f\x8b", gzip.compress(b"abc", mtime=0)[:-1]),
        *(zlib.compress(b"abc"), gzip.compress(b"abc", mtime=0)[:-8] + b"00000000"),
    ],
)
def test_what_is_no_gzip_is_an_error(body: bytes) -> None:
    with pytest.raises(zlib.error):
        unpacked(body, 1000)


def test_pieces_are_one_gzip() -> None:
    stream = Gzip()
    pieces = [stream.more(bytes([at]) * 1000) for at in range(200)]
    assert gzip.decompress(b"".join([*pieces, stream.end()])) == b"".join(bytes([at]) * 1000 for at in range(200))


@pytest.mark.parametrize("wanted", ["gzip", " GZip ", "br, gzip", "gzip;q=0.001", "gzip ; q = 1", "gzip;q=0,gzip"])
def test_who_names_gzip_gets_it(wanted: str) -> None:
    assert wants_gzip(wanted)


@pytest.mark.parametrize("wanted", ["", "*", "br", "gzip;q=0", "gzip;Q=0.00", "x-gzip", "gzip2", "gzip;x=1", "gz ip"])
def test_who_does_not_name_it_does_not(wanted: str) -> None:
    assert not wants_gzip(wanted)
