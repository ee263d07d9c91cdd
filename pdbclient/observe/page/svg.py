"""A timeline as inline SVG. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from pdbclient.observe.page.timeline import Timeline
from pdbclient.observe.page.tree import element
from pdbclient.observe.page.words import server

__all__ = ["drawn"]

_WIDTH, _NAMES, _LANE, _BAR, _TOP = 1200.0, 250.0, 28.0, 14.0, 20.0
_ROOM = _WIDTH - _NAMES - 12.0


def drawn(line: Timeline) -> Element:
    """The timeline: a lane for each server, red where it was unhealthy, an arrow for each failover."""
    height = _TOP + _LANE * len(line.lanes)
    parts = [element("g", _label(line.title, 0, 12), classes="tick")]
    for at, text in line.ticks:
        x = _x(at)
        mark = element("line", x1=_n(x), x2=_n(x), y1=_n(_TOP), y2=_n(height))
        parts.append(element("g", mark, _label(text, x, 12, "middle"), classes="tick"))
    for number, lane in enumerate(line.lanes):
        middle = _middle(number)
        parts.append(_label(_shortened(lane.name), 0, middle + 4))
        parts.append(_bar("lane", line.known, 1.0, middle, "in use"))
        if line.known > 0:
            parts.append(_bar("unknown", 0.0, line.known, middle, "not known: the daemon did not run"))
        parts += [_bar("outage", bar.left, bar.right, middle, bar.text) for bar in lane.bars]
    for move in line.moves:
        x, begin, end = _x(move.at), _middle(move.source), _middle(move.target)
        tip = end - 5 if end > begin else end + 5
        wings = end + 1.6 * (tip - end)
        arrow = f"M{_n(x)},{_n(end)} L{_n(x - 4)},{_n(wings)} L{_n(x + 4)},{_n(wings)} Z"
        shape = (
            element("title", move.text),
            element("circle", cx=_n(x), cy=_n(begin), r="3"),
            element("line", x1=_n(x), x2=_n(x), y1=_n(begin), y2=_n(tip)),
            element("path", d=arrow),
        )
        parts.append(element("g", *shape, classes="move"))
    box = f"0 0 {_n(_WIDTH)} {_n(height + 4)}"
    return element("svg", *parts, viewBox=box, role="img", **{"aria-label": f"{line.title}: outages and failovers"})


def _x(part: float) -> float:
    return _NAMES + _ROOM * part


def _middle(lane: int) -> float:
    return _TOP + _LANE * (lane + 0.5)


def _bar(name: str, left: float, right: float, middle: float, text: str) -> Element:
    # An outage of seconds is seen, too.
    width = max(_ROOM * (right - left), 2.0)
    x = min(_x(left), _x(1.0) - width)
    box = {"x": _n(x), "y": _n(middle - _BAR / 2), "width": _n(width), "height": _n(_BAR), "rx": "2"}
    return element("rect", element("title", text), classes=name, **box)


def _label(text: str, x: float, y: float, anchor: str = "start") -> Element:
    return element("text", text, x=_n(x), y=_n(y), **{"text-anchor": anchor})


def _shortened(name: str) -> str:
    name = server(name)
    return name if len(name) <= 34 else f"{name[:20]}…{name[-13:]}"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
