"""A status document as a page: HTML and inline SVG that need no script and no other request. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from itertools import groupby
from xml.etree.ElementTree import Element, tostring

from pdbclient.observe.page.document import Document
from pdbclient.observe.page.findings import Finding, Level, findings, worst
from pdbclient.observe.page.style import STYLE
from pdbclient.observe.page.svg import drawn
from pdbclient.observe.page.timeline import timelines
from pdbclient.observe.page.tree import element
from pdbclient.observe.page.view import Cell, Table, tables
from pdbclient.observe.page.words import since

__all__ = ["HEADERS", "REFRESH", "error_page", "page"]

REFRESH = 5
"""Seconds after which a browser asks anew."""
_WORDS = {Level.OK: "healthy", Level.WARNING: "degraded", Level.CRITICAL: "critical"}
# Not by colour alone.
_SIGNS = {Level.OK: "●", Level.WARNING: "▲", Level.CRITICAL: "✖"}
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    # Nothing but this one style: what a text smuggled in could do is nothing, and nothing is asked for elsewhere.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(document: Document) -> bytes:
    """The page of a daemon."""
    parts = [_banner(findings(document))]
    for pairs, group in groupby(tables(document), lambda table: not table.columns):
        sections = [_section(table, _pictures(document) if table.timeline else ()) for table in group]
        parts += [element("div", *sections, classes="pairs")] if pairs else sections
    return _whole(f"pdbclient {document.program.name}", _header(document), parts, _footer(document))


def error_page(title: str, why: str) -> bytes:
    """The page in the place of one that cannot be made."""
    banner = element("section", element("h2", title), element("p", why), classes="banner critical")
    return _whole("pdbclient", element("header", element("h1", "pdbclient")), [banner], None)


def _whole(title: str, header: Element, parts: Iterable[Element], footer: Element | None) -> bytes:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", **{"http-equiv": "refresh", "content": str(REFRESH)}),
        element("title", title),
        # Else a browser asks for /favicon.ico.
        element("link", rel="icon", href="data:,"),
        _style(),
    )
    main = element("main", header, *parts, *([] if footer is None else [footer]))
    html = element("html", head, element("body", main), lang="en")
    text = tostring(html, encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}\n".encode()


def _style() -> Element:
    # The serializer leaves a style as it is.
    style = Element("style")
    style.text = STYLE
    return style


def _header(document: Document) -> Element:
    program = document.program
    what = {"gateway": "pdbclient gateway", "sync": "pdbclient reconciler"}.get(program.name, program.name)
    return element(
        "header",
        element("h1", f"{what} on {program.host}"),
        element("span", f"{document.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", classes="dim"),
    )


def _footer(document: Document) -> Element:
    program = document.program
    return element(
        "footer",
        f"pdbclient {program.version}, running since {since(program.started, document.at)}. All times are UTC. This"
        f" page loads anew every {REFRESH} s. The same for programs: ",
        element("a", "/status", href="/status"),
        ", ",
        element("a", "/metrics", href="/metrics"),
        ".",
    )


def _banner(found: tuple[Finding, ...]) -> Element:
    level = worst(found)
    name = level.name.lower()
    heading = element("h2", _sign(level), f" {_WORDS[level].capitalize()}", classes=name)
    if not found:
        return element("section", heading, classes=f"banner {name}")
    items = [
        element("li", _sign(each.level), " ", *_prose(each.text), classes=each.level.name.lower()) for each in found
    ]
    return element("section", heading, element("ul", *items), classes=f"banner {name}")


def _prose(text: str) -> Iterator[Element | str]:
    """A sentence, in which commands stand between backticks."""
    for number, part in enumerate(text.split("`")):
        yield element("code", part) if number % 2 else part


def _sign(level: Level) -> Element:
    return element("span", _SIGNS[level], classes="sign", **{"aria-hidden": "true"})


def _pictures(document: Document) -> list[Element]:
    pictures = [drawn(each) for each in timelines(document)]
    legend = "Red: unhealthy. Arrow: requests go to another server. Grey: not known, the gateway did not run."
    return [*pictures, element("p", legend, classes="note")]


def _section(table: Table, pictures: Sequence[Element] = ()) -> Element:
    parts = [element("h2", table.title), *pictures]
    if table.rows:
        heads = [
            element("th", name, scope="col", classes="number" if number in table.numbers else None)
            for number, name in enumerate(table.columns)
        ]
        rows = [
            element("tr", *(_cell(cell, number in table.numbers) for number, cell in enumerate(row)))
            for row in table.rows
        ]
        head = [element("thead", element("tr", *heads))] if heads else []
        parts.append(element("table", *head, element("tbody", *rows)))
    elif table.empty:
        parts.append(element("p", table.empty, classes="note"))
    parts += [element("p", table.note, classes="note")] if table.note else []
    return element("section", *parts)


SHORT = 36
"""Letters that are not broken into lines."""


def _cell(cell: Cell, number: bool) -> Element:
    classes = [*(["number"] if number else []), *(["short"] if len(cell.text) <= SHORT else [])]
    if cell.level is None:
        return element("td", cell.text, classes=" ".join(classes) or None)
    text = f"{_SIGNS[cell.level]} {cell.text}" if not number else cell.text
    level = element("span", text, classes=f"level {cell.level.name.lower()}")
    return element("td", level, classes=" ".join(classes) or None)
