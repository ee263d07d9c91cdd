"""Histories that are made up: a site of two Puppet hosts with gateways, and two PuppetDBs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pdbclient.wire.summary import to_millis
from pdbclient.wire.timestamp import from_millis
from tests.partitions.checkers import Evidence, Held, NewestRecord, Report
from tests.partitions.history import (
    Event,
    NemesisBegan,
    NemesisEnded,
    Phase,
    Probed,
    Read,
    RunHistory,
    Submitted,
    WallClock,
)

__all__ = [
    "DATABASES",
    "FRONTS",
    "SINCE",
    "evidence",
    "held_of",
    "nemesis",
    "probes",
    "read",
    "submitted",
]

FRONTS = {"puppet1": "https://puppet1:8085", "puppet2": "https://puppet2:8085"}
DATABASES = {"db1": "https://db1:8081", "db2": "https://db2:8081"}
SINCE = 1_800_000_000_000
"""Milliseconds of the wall clock at the monotonic time 0."""


def submitted(at: float, number: int = 1, kind: str = "catalog", certname: str = "a", **fields: Any) -> Submitted:
    """A command that db1 took by way of puppet1's gateway, unless `fields` say otherwise."""
    host = fields.get("host", "puppet1")
    stamp = from_millis(SINCE + int(at * 1000))
    defaults: dict[str, Any] = {"took": 0.1, "host": host, "url": FRONTS[host], "status": 200, "by": DATABASES["db1"]}
    run = f"run-{certname}-{number}" if kind == "report" else ""
    known: dict[str, Any] = {
        "at": at,
        "kind": kind,
        "certname": certname,
        "stamp": stamp,
        "number": number,
        "run": run,
    }
    return Submitted(**(known | defaults | fields))


def read(at: float, seen: Mapping[str, int] | None = None, **fields: Any) -> Read:
    """An answer about exported resources, of db1 by way of puppet1's gateway, unless `fields` say otherwise."""
    host = fields.get("host", "puppet1")
    defaults: dict[str, Any] = {"took": 0.1, "host": host, "url": FRONTS[host], "status": 200, "by": DATABASES["db1"]}
    known: dict[str, Any] = {"at": at, "kind": "exported", "seen": seen or {}}
    return Read(**(known | defaults | fields))


def nemesis(
    name: str, target: str, begin: float, end: float, called: float | None = None
) -> tuple[NemesisBegan, NemesisEnded]:
    """Its beginning and end."""
    return NemesisBegan(begin, name, target), NemesisEnded(end, name, target, end if called is None else called)


def probes(begin: float, end: float, target: str = "db1", host: str = "puppet1", *, ok: bool = True) -> list[Probed]:
    """One a second."""
    return [Probed(begin + n, 0.05, host, target, ok) for n in range(int(end - begin) + 1)]


def evidence(events: Iterable[Event | tuple[Event, ...]], **fields: Any) -> Evidence:
    """That of a run with a shared journal, which began to be healthy at 0."""
    flat: list[Event] = [WallClock(0.0, SINCE / 1000), Phase(0.0, "healthy")]
    for event in events:
        flat += event if isinstance(event, tuple) else (event,)
    return Evidence(RunHistory.of(flat), DATABASES, **({"fronts": FRONTS} | fields))


def held_of(commands: Iterable[Submitted]) -> Held:
    """What a database holds that has processed all of these."""
    reports: list[Report] = []
    newest: dict[str, dict[str, NewestRecord]] = {}
    active: dict[str, int] = {}
    for each in commands:
        millis = to_millis(each.stamp)
        if each.kind == "report":
            reports.append(Report(each.certname, millis, each.run))
        else:
            newest.setdefault(each.kind, {})[each.certname] = NewestRecord(millis, str(each.number))
        if each.kind in ("facts", "catalog", "report"):
            active[each.certname] = millis
    gone = {name: row for name, row in newest.get("deactivate", {}).items() if row.millis > active.get(name, 0)}
    return Held(tuple(reports), {**newest, "deactivate": gone})
