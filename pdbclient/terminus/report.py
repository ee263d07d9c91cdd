"""Puppet's report -> the payload of `store report` 8, as the stock report processor computes it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from pdbclient.errors import InvalidCommand
from pdbclient.terminus.rich_data import unreserved
from pdbclient.terminus.ruby_characters import ruby_of
from pdbclient.terminus.ruby_inspect import ruby_to_s
from pdbclient.wire.plain import shown

__all__ = ["ReportPayload", "report_payload"]

_TOO_LONG = 10**1000
"""PuppetDB 7.12.1, 8.4.1 and 8.8.1 take a command with an integer of more than 1,000 digits, and never process it."""

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d*))?\s*(?:(Z|UTC)|([+-]\d\d):?(\d\d))", re.ASCII
).fullmatch


@dataclass(frozen=True, slots=True)
class ReportPayload:
    """A payload without its producer timestamp, and what of the report PuppetDB will not store, one line each."""

    payload: dict[str, object]
    warnings: tuple[str, ...] = ()


def report_payload(
    report: Mapping[str, object],
    *,
    producer: str | None,
    environment: str | None = None,
    include_unchanged_resources: bool = False,
) -> ReportPayload:
    """The payload for a report as `puppet_file.read` gives it; `report` itself is not changed.

    `producer` is the certname of the server that got the report. The report's own environment is taken when none is
    given; formats 1 and 2 have none. Resources without events that were not skipped
    are left out unless `include_unchanged_resources`. Old and new values of events become text as the Ruby of the
    report's `puppet_version` writes it.

    Where the stock processor sends what PuppetDB then refuses, or fails, this does not: a job id becomes text; an
    empty resource status, and a metric that is no number or has more than 1,000 digits, are left out (the latter with
    a warning); a log without
    source, message or tags gets Puppet's own default, empty text and an empty list; a missing list of events is an
    empty one; a flag that is none is false where PuppetDB needs one, else null.

    Raises `InvalidCommand` with the path of what no report can lack: host, environment, times with a zone.
    """
    document = _Document(report if environment is None else {**report, "environment": environment})
    resources = [
        _resource(document, status, path)
        for status, path in document.statuses()
        if include_unchanged_resources or status.get("skipped") or status.get("events")
    ]
    metrics, time_total, warnings = _metrics(document)
    start, end = _span(document, time_total)
    payload = {
        "certname": document.host,
        "environment": document.environment,
        "producer": producer,
        **{field: _text(report.get(field)) for field in _TEXTS},
        **{field: _flag(report.get(field)) for field in ("noop_pending", "corrective_change")},
        "report_format": report.get("report_format"),
        "configuration_version": ruby_to_s(report.get("configuration_version")),
        "start_time": start,
        "end_time": end,
        "noop": _noop(report.get("noop"), resources),
        "logs": [_log(document, log, path) for log, path in document.entries(report.get("logs"), "$.logs")],
        "metrics": metrics,
        "resources": resources,
    }
    return ReportPayload(payload, tuple(warnings))


_TEXTS = (
    *("puppet_version", "transaction_uuid", "catalog_uuid", "code_id", "job_id", "cached_catalog_status", "status"),
)


class _Document:
    """A report whose outer form is checked."""

    def __init__(self, report: Mapping[str, object]) -> None:
        self._report = report
        self.ruby = ruby_of(report.get("puppet_version"))
        self.host = "unknown"
        host = report.get("host")
        if not isinstance(host, str) or not host:
            raise self.refused("$.host", "names no host: is this one of Puppet's reports?")
        self.host = host
        environment = report.get("environment")
        if environment is None:
            why = "is missing, as in formats 1 and 2, and PuppetDB stores no report without one: give one"
            raise self.refused("$.environment", f"{why} (`pdbclient submit report --environment`)")
        self.environment = ruby_to_s(environment)

    def refused(self, path: str, reason: str) -> InvalidCommand:
        return InvalidCommand("store report", self.host, path, reason)

    def statuses(self) -> Iterator[tuple[Mapping[str, object], str]]:
        """The resources, each with its path; an empty one is how Puppet writes a resource that has no status."""
        statuses = self._object(self._report.get("resource_statuses") or {}, "$.resource_statuses")
        for title, status in statuses.items():
            if status:
                path = f"$.resource_statuses[{title!r:.80}]"
                yield self._object(status, path), path

    def entries(self, value: object, path: str) -> Iterator[tuple[Mapping[str, object], str]]:
        """The objects of a list, each with its path; null is an empty list."""
        for at, item in enumerate(self.items(value, path)):
            yield self._object(item, f"{path}[{at}]"), f"{path}[{at}]"

    def items(self, value: object, path: str) -> list[object]:
        if value is not None and not isinstance(value, list):
            raise self.refused(path, f"must be a list, not {shown(value)}")
        return value or []

    def metrics(self) -> Iterator[tuple[str, list[object]]]:
        """Each metric's name and its values: name, label and value each."""
        for key, metric in self._object(self._report.get("metrics") or {}, "$.metrics").items():
            path = f"$.metrics.{key}"
            members = self._object(metric, path)
            name = members.get("name")
            yield ruby_to_s(key if name is None else name), self.items(members.get("values"), f"{path}.values")

    def wire_time(self, value: object, path: str) -> str:
        """ISO-8601 with milliseconds (cut) and the zone that stands there. Ruby's YAML has a space in its times."""
        found = _TIME(value) if isinstance(value, str) else None
        if found is None:
            raise self.refused(path, f"{shown(value)} is not a time with a zone")
        date, time, decimals, utc, hours, minutes = found.groups()
        zone = "Z" if utc or (hours, minutes) == ("-00", "00") else f"{hours}:{minutes}"
        return f"{date}T{time}.{(decimals or '')[:3]:0<3}{zone}"

    def time_of(self, entry: Mapping[str, object], path: str) -> str:
        return self.wire_time(entry.get("time"), f"{path}.time")

    def start(self) -> tuple[str, Fraction]:
        """When the run began: for the wire, and the part of a second in full, for the sum with its duration."""
        value = self._report.get("time")
        wire = self.wire_time(value, "$.time")
        found = _TIME(str(value))
        assert found is not None
        return wire, Fraction(f"0.{found[3] or '0'}")

    def _object(self, value: object, path: str) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            raise self.refused(path, f"must be an object, not {shown(value)}")
        return value


def _span(document: _Document, duration: Fraction) -> tuple[str, str]:
    """Start and end: the end is the start and the run's total time, in its zone."""
    wire, fraction = document.start()
    try:
        start = datetime.fromisoformat(wire).replace(microsecond=0)
        end = start + timedelta(milliseconds=math.floor((fraction + duration) * 1000))
    except (ValueError, OverflowError) as error:
        raise document.refused("$.time", f"{wire} and the total time of the run make no time: {error}") from error
    zone = wire[23:]
    return wire, end.isoformat(timespec="milliseconds")[:23] + zone


def _resource(document: _Document, status: Mapping[str, object], path: str) -> dict[str, object]:
    containment = status.get("containment_path")
    return {
        "skipped": bool(status.get("skipped")),
        "timestamp": document.time_of(status, path),
        "resource_type": ruby_to_s(status.get("resource_type")),
        "resource_title": ruby_to_s(status.get("title")),
        "file": _text(status.get("file")),
        "line": _line(status.get("line")),
        "containment_path": containment
        and [ruby_to_s(part) for part in document.items(containment, f"{path}.containment_path")],
        "corrective_change": _flag(status.get("corrective_change")),
        "events": [
            _event(document, event, where)
            for event, where in document.entries(status.get("events"), f"{path}.events")
        ],
    }


def _event(document: _Document, event: Mapping[str, object], path: str) -> dict[str, object]:
    return {
        "status": ruby_to_s(event.get("status")),
        "timestamp": document.time_of(event, path),
        "name": _text(event.get("name")),
        "property": _text(event.get("property")),
        "new_value": ruby_to_s(unreserved(event.get("desired_value")), document.ruby),
        "old_value": ruby_to_s(unreserved(event.get("previous_value")), document.ruby),
        "corrective_change": _flag(event.get("corrective_change")),
        "message": _text(event.get("message")),
    }


def _log(document: _Document, log: Mapping[str, object], path: str) -> dict[str, object]:
    source = log.get("source")
    return {
        "file": _text(log.get("file")),
        "line": _line(log.get("line")),
        "level": ruby_to_s(log.get("level")),
        "message": ruby_to_s(log.get("message")),
        "source": "Puppet" if source is None else ruby_to_s(source),
        "tags": [ruby_to_s(tag) for tag in document.items(log.get("tags"), f"{path}.tags")],
        "time": document.time_of(log, path),
    }


def _metrics(document: _Document) -> tuple[list[dict[str, object]], Fraction, list[str]]:
    """The flat list, sorted by label within a metric, the run's total time, and a warning for each left out."""
    metrics: list[dict[str, object]] = []
    total, warnings = Fraction(0), []
    for category, values in document.metrics():
        for value in sorted(values, key=_label):
            match value:
                case [name, _, int() | float() as number] if _is_number(number):
                    metrics.append({"category": category, "name": ruby_to_s(name), "value": number})
                    if (category, name) == ("time", "total"):
                        total = Fraction(number)
                case _:
                    what = f"the metric {category} of the report of {document.host} is left out"
                    warnings.append(f"{what}: {shown(value)} is no name, label and number")
    return metrics, total, warnings


def _is_number(value: int | float) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, bool) and abs(value) < _TOO_LONG


def _label(value: object) -> str:
    return ruby_to_s(value[1]) if isinstance(value, list) and len(value) > 1 else ""


def _noop(noop: object, resources: list[dict[str, object]]) -> bool:
    """The run's own flag; without one, whether some event is noop and all are."""
    if isinstance(noop, bool):
        return noop
    statuses = {event["status"] for resource in resources for event in _events(resource)}
    return statuses == {"noop"}


def _events(resource: Mapping[str, object]) -> list[dict[str, object]]:
    events = resource["events"]
    assert isinstance(events, list)
    return events


def _text(value: object) -> str | None:
    return None if value is None else ruby_to_s(value)


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _line(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
