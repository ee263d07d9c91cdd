"""The report of a run as one HTML page that needs nothing else: timeline, violations, latencies, counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from math import log10
from typing import Any

from .checkers import Evidence, Violation
from .checkers.figures import percentile
from .history import Phase, Submitted

__all__ = ["page"]

WIDTH, LEFT, RIGHT = 1160, 210, 20
ROW = 20
PLOT = 130
FASTEST, SLOWEST = 0.005, 30.0
"""Seconds at the bottom and the top of a plot, which is logarithmic."""
BUCKETS = 240
SHOWN = 500
"""Violations of which the page tells all."""
KINDS = {"command": "commands", "exported": "exported resources", "node": "other queries"}

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --text: #1b1f24; --faint: #667078; --line: #d5dade;
  --band: #f1f4f6; --nemesis: #b8661a; --fast: #1f6f8b; --slow: #8fbccb; --failed: #8a5a00; --bad: #c0202b;
  --good: #23763b; --failover: #6b4fa0; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181c; --text: #dde3e8; --faint: #93a0aa; --line: #38424a;
  --band: #1d2329; --nemesis: #e09a4f; --fast: #6cc0dc; --slow: #2f6274; --failed: #d9a441; --bad: #ff6b70;
  --good: #67c584; --failover: #b79df0; } }
body { background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { font-weight: 600 } .bad { color: var(--bad) } .good { color: var(--good) } .faint { color: var(--faint) }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere }
table { border-collapse: collapse; font-size: 14px } th, td { text-align: left; vertical-align: top;
  padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line) } td.number, th.number { text-align: right }
.scroll { overflow-x: auto } svg { min-width: 900px; width: 100%; height: auto } svg text { fill: var(--faint);
  font: 11px system-ui, sans-serif } .label { fill: var(--text) } .band { fill: var(--band) }
.axis { stroke: var(--line) } .nemesis { fill: var(--nemesis) } .median { fill: var(--fast) }
.p99 { stroke: var(--slow); stroke-width: 3 } .failed { stroke: var(--failed); stroke-width: 1.5 }
.violation { stroke: var(--bad); stroke-width: 2 } .failover { stroke: var(--failover); stroke-width: 1.5 }
"""


def page(document: Mapping[str, Any], evidence: Evidence, violations: Sequence[Violation]) -> str:
    """The whole page. `document` is that of `report.document`."""
    ok = not violations
    verdict = "no violations" if ok else f"{len(violations)} violation{'s' if len(violations) > 1 else ''}"
    off = f", without {', '.join(document['off'])}" if document["off"] else ""
    title = f"Partitions: seed {document['seed']}, {document['partitions']}, {document['front']}{off}"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f'<p><span class="verdict {"good" if ok else "bad"}">{verdict}</span> in {document["minutes"]} minutes. '
            f"Again: <code>{escape(document['again'])}</code></p>",
            "<h2>Timeline</h2>",
            '<div class="scroll">',
            _timeline(document, evidence, violations),
            "</div>",
            '<p class="faint">Bars: nemeses. Of the requests, by time: dots the median, lines up to the 99th '
            "percentile, ticks below what failed; logarithmic. Failovers: another server answers than before.</p>",
            *_violations(document, violations),
            "<h2>Latencies</h2>",
            _table(
                ("phase", "requests", "number", "p50 ms", "p95 ms", "p99 ms", "longest ms"),
                (
                    (row["phase"], KINDS.get(row["kind"], row["kind"]), row["number"], *_milliseconds(row))
                    for row in document["latencies"]
                ),
            ),
            '<p class="faint">healthy: when nothing was wrong. Else while that outage of one PuppetDB was known.</p>',
            "<h2>Counts</h2>",
            _table(("what", "how much"), _flat(document["counts"])),
            "</body></html>\n",
        ]
    )


def _milliseconds(row: Mapping[str, Any]) -> list[str]:
    return [f"{row[name] * 1000:.0f}" for name in ("p50", "p95", "p99", "longest")]


def _violations(document: Mapping[str, Any], violations: Sequence[Violation]) -> Iterator[str]:
    if not violations:
        return
    yield "<h2>Violations</h2>"
    yield _table(("kind", "number"), document["by_kind"].items())
    if len(violations) > SHOWN:
        yield f"<p>The first {SHOWN} of {len(violations)}; the JSON document has all.</p>"
    rows = (
        (
            "" if each["at"] is None else f"{each['at'] // 60:.0f}:{each['at'] % 60:04.1f}",
            each["kind"],
            each["where"],
            each["what"],
            each["evidence"],
        )
        for each in document["violations"][:SHOWN]
    )
    yield _table(("when", "kind", "where", "what", "evidence"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="number">{value}</td>'
    if isinstance(value, list | tuple):
        return f"<td>{'<br>'.join(f'<code>{escape(str(each))}</code>' for each in value)}</td>"
    return f"<td>{escape(str(value))}</td>"


def _flat(counts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in counts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield f"{before}{name}".replace("_", " "), value


class _Scale:
    """Where a time is, in pixels."""

    def __init__(self, began: float, end: float) -> None:
        self.began, self.seconds = began, max(end - began, 1.0)

    def __call__(self, at: float) -> float:
        share = min(max((at - self.began) / self.seconds, 0.0), 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _timeline(document: Mapping[str, Any], evidence: Evidence, violations: Sequence[Violation]) -> str:
    began = evidence.history.begins("healthy") or 0.0
    scale = _Scale(began, evidence.history.end)
    parts: list[str] = []
    top = ROW
    for name in sorted({each.nemesis for each in evidence.timeline.intervals}):
        parts.append(_label(top, name))
        for each in evidence.timeline.intervals:
            if each.nemesis == name:
                width = max(scale(each.end) - scale(each.begin), 2.0)
                about = f"{each} from {each.begin - began:.1f} to {each.end - began:.1f} s"
                parts.append(
                    f'<rect class="nemesis" x="{scale(each.begin)}" y="{top + 4}" width="{width:.1f}" '
                    f'height="{ROW - 8}" rx="2"><title>{escape(about)}</title></rect>'
                )
        top += ROW
    for host in evidence.fronts or sorted({each.host for each in evidence.history.requests()}):
        for kind, what in KINDS.items():
            top += 10
            parts += _plot(evidence, scale, top, host, kind, f"{host}: {what}")
            top += PLOT
    marks = [
        (began + each["at"], f"{each['host']}: {each['kind']}: {each['source']} to {each['target']}")
        for each in document["failovers"]
    ]
    parts += [_label(top, "failovers"), *_ticks(scale, top, "failover", marks)]
    top += ROW
    wrong = [(each.at, f"{each.kind}: {each.what} ({each.where})") for each in violations if each.at is not None]
    parts += [_label(top, "violations"), *_ticks(scale, top, "violation", wrong)]
    top += ROW
    bands = list(_bands(evidence, scale, top))
    head = f'<svg viewBox="0 0 {WIDTH} {top + 30}" role="img" aria-label="Timeline of the run">'
    return "\n".join([head, *bands, *parts, *_times(scale, top), "</svg>"])


def _label(top: int, text: str) -> str:
    return f'<text class="label" x="0" y="{top + 14}">{escape(text)}</text>'


def _bands(evidence: Evidence, scale: _Scale, height: int) -> Iterator[str]:
    """The phases: what is healthy has another ground."""
    phases = evidence.history.all(Phase)
    for phase, end in zip(phases, [*(each.at for each in phases[1:]), evidence.history.end], strict=True):
        left, width = scale(phase.at), scale(end) - scale(phase.at)
        if phase.name != "nemeses":
            yield f'<rect class="band" x="{left}" y="{ROW}" width="{max(width, 0):.1f}" height="{height - ROW}"/>'
        yield f'<text x="{left + 2}" y="12">{escape(phase.name)}</text>'


def _times(scale: _Scale, top: int) -> Iterator[str]:
    step = next(each for each in (10, 30, 60, 300, 600, 3600, 36000) if scale.seconds / each <= 14 or each == 36000)
    for seconds in range(0, int(scale.seconds) + 1, step):
        x = scale(scale.began + seconds)
        text = f"{seconds // 60}:{seconds % 60:02}"
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{top}" y2="{top + 5}"/>'
        yield f'<text x="{x}" y="{top + 18}" text-anchor="middle">{text}</text>'


def _ticks(scale: _Scale, top: int, name: str, marks: Iterable[tuple[float, str]]) -> Iterator[str]:
    for at, about in marks:
        x = scale(at)
        line = f'<line class="{name}" x1="{x}" x2="{x}" y1="{top + 3}" y2="{top + ROW - 3}">'
        yield f"{line}<title>{escape(about)}</title></line>"


def _plot(evidence: Evidence, scale: _Scale, top: int, host: str, kind: str, label: str) -> Iterator[str]:
    yield _label(top, label)
    for seconds in (0.01, 0.1, 1.0, 10.0):
        y = _height(top, seconds)
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 4}" y="{y + 4}" text-anchor="end">{seconds:g} s</text>'
    took: dict[int, list[float]] = {}
    for each in evidence.history.requests():
        if each.host != host or kind != ("command" if isinstance(each, Submitted) else each.kind):
            continue
        if not evidence.through_front(each):
            continue
        if each.error is None:
            bucket = int((each.at - scale.began) / scale.seconds * BUCKETS)
            took.setdefault(bucket, []).append(each.took)
        else:
            x = scale(each.at)
            line = f'<line class="failed" x1="{x}" x2="{x}" y1="{top + PLOT - 9}" y2="{top + PLOT - 2}">'
            yield f"{line}<title>{escape(f'{each.took:.2f} s: {each.error}')}</title></line>"
    for bucket, values in sorted(took.items()):
        x = scale(scale.began + (bucket + 0.5) * scale.seconds / BUCKETS)
        median, high = (_height(top, percentile(values, percent)) for percent in (50, 99))
        about = f"{len(values)} requests, p50 {percentile(values, 50):.3f} s, p99 {percentile(values, 99):.3f} s"
        yield f'<line class="p99" x1="{x}" x2="{x}" y1="{median}" y2="{high}"/>'
        yield f'<circle class="median" cx="{x}" cy="{median}" r="2"><title>{about}</title></circle>'


def _height(top: int, seconds: float) -> float:
    share = log10(min(max(seconds, FASTEST), SLOWEST) / FASTEST) / log10(SLOWEST / FASTEST)
    return round(top + (PLOT - 12) * (1 - share), 1)
