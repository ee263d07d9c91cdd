"""Who is pulled from, and how often: the guide's list of objects, or two lists of equal length. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pdbclient.config.document import Document, Value
from pdbclient.config.model import Endpoint, Remote
from pdbclient.config.settings import PUPPETDB_PORT
from pdbclient.config.values import SettingError, one_url, span
from pdbclient.config.verdict import Verdict, did_you_mean
from pdbclient.errors import Problem

__all__ = ["judge_remotes"]

_KEYS = {"server_url": one_url(PUPPETDB_PORT), "interval": span}


def judge_remotes(verdict: Verdict, document: Document, local: Endpoint) -> tuple[Remote, ...]:
    """The remotes of a sync section; what is wrong with them is added to `verdict`."""
    entries = verdict.entries
    if "remotes" in entries and ("server_urls" in entries or "intervals" in entries):
        verdict.refuse("remotes", "cannot stand beside server_urls and intervals: use one of the two forms", document)
        return ()
    if "remotes" in entries:
        remotes = _from_objects(verdict, document)
    elif "server_urls" in entries or "intervals" in entries:
        remotes = _from_lists(verdict, document)
    else:
        why = 'is missing: write remotes: [{server_url: "https://peer:8081", interval: 5m}]'
        verdict.problems.append(Problem(document.file, document.section_lines.get("sync"), "remotes", why))
        return ()
    _refuse_repeats(remotes, verdict, document, local)
    return tuple(replace(r, endpoint=replace(r.endpoint, order=i)) for i, (r, _) in enumerate(remotes))


_Placed = Sequence[tuple[Remote, str]]
"""Remotes, each with the path of its URL in the document, for messages."""


def _from_lists(verdict: Verdict, document: Document) -> _Placed:
    if not verdict.broken.isdisjoint(("server_urls", "intervals")):
        return ()
    urls, intervals = verdict.values["server_urls"] or (), verdict.values["intervals"] or ()
    if len(urls) != len(intervals):
        setting = "intervals" if "intervals" in verdict.entries else "server_urls"
        why = f"server_urls has {len(urls)} and intervals has {len(intervals)}: each server needs its interval"
        verdict.refuse(setting, why, document)
        return ()
    return [(Remote(url, seconds), "sync.server_urls") for url, seconds in zip(urls, intervals, strict=True)]


def _from_objects(verdict: Verdict, document: Document) -> _Placed:
    value = verdict.entries["remotes"].value
    if not isinstance(value, list) or not value:
        why = 'must be a list like [{server_url: "https://peer:8081", interval: 5m}]'
        verdict.refuse("remotes", why, document)
        return ()
    remotes = []
    for index, item in enumerate(value):
        path = f"sync.remotes.{index}"
        if not isinstance(item, dict):
            why = f'number {index + 1} must be an object like {{server_url: "https://peer:8081", interval: 5m}}'
            verdict.refuse("remotes", why, document)
        elif (remote := _remote(item, path, verdict, document)) is not None:
            remotes.append((remote, f"{path}.server_url"))
    return remotes


def _remote(item: dict[str, Value], path: str, verdict: Verdict, document: Document) -> Remote | None:
    found: dict[str, object] = {}
    sound = True
    for key, value in item.items():
        name = key.replace("-", "_")
        if name not in _KEYS:
            _refuse(f"{path}.{key}", f"unknown setting{did_you_mean(name, _KEYS)}", verdict, document)
            sound = False
            continue
        try:
            found[name] = _KEYS[name](value)
        except SettingError as error:
            found[name] = None
            sound = False
            for reason in error.reasons:
                _refuse(f"{path}.{key}", reason, verdict, document)
    for name in _KEYS:
        if name not in found:
            _refuse(f"{path}.{name}", "is missing", verdict, document)
            sound = False
    url, interval = found.get("server_url"), found.get("interval")
    return Remote(url, interval) if sound and isinstance(url, Endpoint) and isinstance(interval, float) else None


def _refuse_repeats(remotes: _Placed, verdict: Verdict, document: Document, local: Endpoint) -> None:
    seen: set[Endpoint] = set()
    for remote, path in remotes:
        if remote.endpoint == local:
            why = f"{remote.endpoint} is the local PuppetDB (local_url): a server cannot be its own peer"
            _refuse(path, why, verdict, document)
        if remote.endpoint in seen:
            _refuse(path, f"{remote.endpoint} is there twice", verdict, document)
        seen.add(remote.endpoint)


def _refuse(path: str, why: str, verdict: Verdict, document: Document) -> None:
    """A problem at the line of `path`, else of what encloses it.

    `sync.remotes.0.interval` is reported as `remotes[0].interval`.
    """
    place = path
    while place and place not in document.lines:
        place = place.rpartition(".")[0]
    entry = verdict.entries.get("remotes") or verdict.entries.get("server_urls")
    default = (document.file, entry.line if entry else None)
    file, line = document.lines.get(place, default)
    parts = path.split(".")[1:]
    setting = f"remotes[{parts[1]}].{parts[2]}" if len(parts) == 3 else parts[0]
    verdict.problems.append(Problem(file, line, setting, why))
