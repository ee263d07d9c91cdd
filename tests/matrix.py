"""Which tests run on which versions: in every run, and in `make matrix`, which runs them on more.

A test that depends on what the server does is marked `every_server`. In every run it meets a pair of this machine's
own PuppetDB and the pairs of its share; in the matrix, every two releases, both ways. A test without the mark that
uses a pair meets the own one; in the matrix, also two of each other release.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pdbclient.lab import LabOptions
from tests.puppetdbs import OWN, VERSIONS, held, jar
from tests.soak import LONG

__all__ = ["MATRIX", "OWN_PAIR", "Pair", "alike", "share"]

_WANTED = os.environ.get("PDBCLIENT_MATRIX", "")
MATRIX = bool(_WANTED)
"""Whether this is the matrix: the environment variable PDBCLIENT_MATRIX is `all`, or names pairs (`8.8.1+7.12.1 …`)
that all tests with a pair are to meet, and no others.
"""

# Each server of a pair is another release, and so is each that is asked first: with the own pair, all three are, and
# 8.8.1 is in both places.
_SHARE = ("8.8.1+7.12.1", "8.4.1+8.8.1")
# Tests that take long name one pair: 8.8.1 first, which differs most from the others.


@dataclass(frozen=True, slots=True)
class Pair:
    """The releases that the two servers of a pair run."""

    primary: str
    replica: str

    def __str__(self) -> str:
        return f"{self.primary}+{self.replica}"

    @property
    def held(self) -> tuple[str, str]:
        """What they really run: another release where Debian no longer has this one. Raises `LabError`."""
        return held(self.primary), held(self.replica)

    def options(self) -> LabOptions:
        """How the lab of this pair is built. Raises `LabError` when a jar has not been made."""
        return LabOptions(puppetdb_jar=jar(self.primary), node_jars={"replica": jar(self.replica)})

    def arguments(self) -> list[str]:
        """The same, as options of `pdbclient lab up` and `pdbclient demo`."""
        return [f"--puppetdb-jar={jar(self.primary)}", f"--node-jar=replica={jar(self.replica)}"]


OWN_PAIR = Pair(OWN, OWN)


def share(*pairs: str, own: bool = True, long: Sequence[str] = ()) -> list[Pair]:
    """The pairs of a test that is marked `every_server`; its arguments are the mark's.

    In every run: the own one, unless `own` is false, and `pairs` (`8.8.1+7.12.1`: primary and replica), or those that
    such tests have where the mark says nothing; in the long form also those in `long`: a test with them is marked
    `soak`, too. In the matrix: all.
    """
    if MATRIX:
        return _wanted() or _distinct(OWN_PAIR, *(Pair(one, other) for one in VERSIONS for other in VERSIONS))
    return _distinct(*([OWN_PAIR] if own else []), *map(_named, pairs or _SHARE), *map(_named, long if LONG else ()))


def alike() -> list[Pair]:
    """In the matrix, the pairs of a test without the mark: two of each release, this machine's own first."""
    return _wanted() or _distinct(OWN_PAIR, *(Pair(version, version) for version in VERSIONS))


def _wanted() -> list[Pair]:
    """The pairs that PDBCLIENT_MATRIX names; none: all."""
    return [] if _WANTED == "all" else [_named(pair) for pair in _WANTED.split()]


def _named(text: str) -> Pair:
    primary, _, replica = text.partition("+")
    return Pair(primary, replica)


def _distinct(*pairs: Pair) -> list[Pair]:
    return list(dict.fromkeys(pairs))
