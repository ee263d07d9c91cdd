"""In what the PuppetDBs differ, version by version, as far as a client or a reconciler meets it.

The fake servers answer as one of these. Every fact of the first three is put to the real server of that version in
`tests/integration/test_server_facts.py`. OpenVoxDB is in no Debian: what is said of it was seen once on 8.15.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pdbclient.wire.timestamp import from_millis, to_millis

__all__ = [
    "OPENVOXDB_8_15",
    "OPENVOXDB_ROUNDS",
    "PUPPETDB_7_5",
    "PUPPETDB_7_12",
    "PUPPETDB_8_4",
    "PUPPETDB_8_8",
    "RELEASES",
    "STARTING",
    "STARTING_STATUS",
    "Refusal",
    "Release",
    "micros",
    "release_of",
]

TEXT = "text/plain;charset=utf-8"
HTML = "text/html;charset=utf-8"
JSON = "application/json;charset=utf-8"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without rows. `location` is how the address ends to which it redirects."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    location: str = ""


STARTING = Refusal(503, b"PuppetDB is currently down. Try again later.")
"""What every version says to anything below /pdb, known address or not, from when it listens until it runs."""

STARTING_STATUS = "unknown"
"""The state, with HTTP 503, that every version's status tells meanwhile."""

_CLOSED = b"FATAL: terminating connection due to administrator command"
_DASHBOARD = Refusal(302, location="/dashboard/index.html")
_NOT_FOUND = Refusal(404, b"Not Found", HTML)
_DROPPED_JOIN = Refusal(500, b'ERROR: missing FROM-clause entry for table "certnames"\n  Position: 569', TEXT)


@dataclass(frozen=True, slots=True)
class Release:
    """What a server of one version is and says.

    - `schema`: the version of its database; None where that is not known
    - `unknown`: the answer to an address below /pdb that does not exist
    - `has_latest`: it knows /pdb/meta/v1/version/latest, which looks for a newer version
    - `parameters`: those of a query that not every version knows; 400 to another
    - `lost_join`: the answer to a query of `nodes` with `extract` that names the expiration of facts or
      `report_environment`, and no other column of the newest report; None: an answer like any other
    - `refuses_in_json`: 406 and 415 come as JSON with `kind` and `msg`, else as text
    - `sync_version`: what it expects in the header `x-pdb-sync-ver`, where that is sent
    - `one_catalog`: its database takes one catalog of a node and no more
    - `newer_flag_holds`: a node that is deactivated and expired, one before a record and one after it, stays so; if
      not, the older flag is enough for the record to revive it
    - `newest_of_any_day`: it stores a report of 31 December 9999, or of before 15 October 1582, as the newest of its
      node; then, in the second case, no newer one of that node any more. Others store none of these days.
    - `decimals`: how many decimals of a second of a stamp it stores, rounding what comes after them if `rounds`, else
      cutting it off. A report's hash is made before that, of milliseconds cut off.
    - `shows_rounded`: a stamp that has more than milliseconds is shown rounded to them, else cut
    - `keeps_newest`: its garbage collection leaves the newest report of each node, but for plans, beyond report-ttl
    - `disconnected`: the answer to a query whose connection to the database PostgreSQL has just closed. Only to one
      that was in use within the last half second: the others are checked first, and replaced
    """

    name: str
    version: str
    schema: int | None
    unknown: Refusal = _DASHBOARD
    has_latest: bool = True
    parameters: frozenset[str] = field(default=frozenset({"origin"}))
    lost_join: Refusal | None = None
    refuses_in_json: bool = False
    sync_version: int = 1
    one_catalog: bool = False
    newer_flag_holds: bool = False
    newest_of_any_day: bool = False
    decimals: int = 3
    rounds: bool = False
    shows_rounded: bool = False
    keeps_newest: bool = False
    disconnected: Refusal = Refusal(500, _CLOSED, TEXT)

    def __str__(self) -> str:
        return self.name

    def stored(self, text: str) -> str:
        """A stamp as the database has it, in UTC; with six decimals only where three do not say it all."""
        unit: int = 10 ** (9 - self.decimals)
        nanos = _nanos(text)
        return _text(((nanos + unit // 2) if self.rounds else nanos) // unit, self.decimals)

    def shown(self, stored: str) -> str:
        """How a stored stamp stands in an answer, with milliseconds."""
        found = micros(stored)
        return from_millis((found + 500 if self.shows_rounded else found) // 1000)


def micros(text: str) -> int:
    """Microseconds since 1970 UTC, cut off. Raises ValueError for what is no stamp."""
    return _nanos(text) // 1000


def _nanos(text: str) -> int:
    whole, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    fraction = rest.removesuffix(zone) if zone else rest
    seconds = to_millis(whole + zone if rest else text) // 1000
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def _text(units: int, decimals: int) -> str:
    seconds, fraction = divmod(units, 10**decimals)
    text = f"{from_millis(seconds * 1000)[:-5]}.{fraction:0{decimals}d}"
    return (text.removesuffix("000") if decimals > 3 else text) + "Z"


PUPPETDB_7_12 = Release("PuppetDB-7.12.1", "7.12.1", 80)
PUPPETDB_8_4 = Release("PuppetDB-8.4.1", "8.4.1", 84, parameters=frozenset({"origin", "timeout"}), sync_version=2)
PUPPETDB_8_8 = Release(
    "PuppetDB-8.8.1",
    "8.8.1",
    88,
    unknown=_NOT_FOUND,
    parameters=PUPPETDB_8_4.parameters,
    lost_join=_DROPPED_JOIN,
    refuses_in_json=True,
    sync_version=2,
    one_catalog=True,
    newer_flag_holds=True,
    newest_of_any_day=True,
    keeps_newest=True,
    disconnected=Refusal(503, _CLOSED, TEXT),
)
OPENVOXDB_8_15 = replace(
    PUPPETDB_8_8,
    name="OpenVoxDB-8.15.0",
    version="8.15.0",
    schema=None,
    has_latest=False,
    decimals=6,
    rounds=True,
)
OPENVOXDB_ROUNDS = replace(OPENVOXDB_8_15, name="OpenVoxDB-8.15.0-rounds", shows_rounded=True)
"""It was seen to show `.1239997` as .124. That is so when the seventh decimal is rounded into the sixth, and when the
fourth is rounded into the third: the tests of stamps hold for both.
"""
PUPPETDB_7_5 = replace(PUPPETDB_7_12, name="PuppetDB-7.5.0", version="7.5.0", schema=None, parameters=frozenset())
"""The last before `origin`, by its release notes."""

RELEASES = (PUPPETDB_7_12, PUPPETDB_8_4, PUPPETDB_8_8, OPENVOXDB_8_15)
"""What the tests of the reconciler meet, alone and in pairs."""


def release_of(version: str) -> Release:
    """The facts of a PuppetDB of Debian's; of one that is not among them, those of the last before it."""
    debians = (PUPPETDB_7_12, PUPPETDB_8_4, PUPPETDB_8_8)
    last = [release for release in debians if _numbers(release.version) <= _numbers(version)][-1]
    return (
        last if last.version == version else replace(last, name=f"PuppetDB-{version}", version=version, schema=None)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])
