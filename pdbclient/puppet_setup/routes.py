"""routes.yaml: which terminus Puppet asks for what. Edited line by line, or not at all. Pure.

A Puppet server takes the entries under `server` or `master`: of two, those under `server`; of one, that one,
and only `master` is known to every version. `puppet apply` takes those under `apply`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from pdbclient.errors import ConfigError, Problem
from pdbclient.puppet_setup.change import Edited, SettingChange
from pdbclient.puppet_setup.puppet_conf import Target

__all__ = ["edit_routes", "leaves", "with_leaves"]

_Routes = Mapping[str, Mapping[str, str]]

_WANTED: Mapping[Target, _Routes] = {
    "server": {"facts": {"terminus": "puppetdb", "cache": "yaml"}},
    "apply": {
        "catalog": {"terminus": "compiler", "cache": "puppetdb"},
        # Not `ral` with `puppetdb` as its cache, as PuppetDB's documentation has it: a search asks no cache, so
        # that no collector would ever see what another host exported.
        "resource": {"terminus": "puppetdb"},
        "facts": {"terminus": "facter", "cache": "puppetdb_apply"},
    },
}
_STEP = 2
_NULL = "tag:yaml.org,2002:null"


class _NoSafeEditError(Exception):
    """The text is written in a way that these edits do not cover."""


def edit_routes(text: str, target: Target, file: str) -> Edited:
    """Add the routes of `target`, or change them where they stand.

    `text` is empty where there is no such file. Raises `ConfigError` when the text is not YAML or no mapping,
    and with the lines to add when an edit cannot be shown to change nothing else (flow style, anchors).
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    routes = _loaded(text, file)
    application = _application(routes, target)
    expected = copy.deepcopy(routes)
    changes = []
    try:
        for path, wanted in _leaves(application, _WANTED[target]):
            before = _put(expected, path, wanted)
            if before != wanted:
                changes.append(SettingChange(".".join(path[:2]), path[2], before, wanted))
                text = _with_leaf(text, path, wanted)
        # An anchor's text would change in every place that refers to it.
        if _reloaded(text) != expected or (changes and _has_aliases(text)):
            raise _NoSafeEditError
    except (_NoSafeEditError, yaml.YAMLError) as error:
        wanted_text = yaml.safe_dump({application: _WANTED[target]}, default_flow_style=True, sort_keys=False)
        why = f"is written so that a change could break it: write into it yourself {' '.join(wanted_text.split())}"
        raise ConfigError([Problem(file, None, application, why)]) from error
    return Edited(mark + text, tuple(changes))


def leaves(text: str, file: str) -> dict[tuple[str, ...], str]:
    """Every terminus that the text names, by application, indirection and role; what is no such thing is left out.

    Raises `ConfigError` for what is no YAML, or no mapping.
    """
    routes = _loaded(text.removeprefix("\ufeff"), file)
    found: dict[tuple[str, ...], str] = {}
    for application, indirections in _items(routes):
        for indirection, roles in _items(indirections):
            found |= {(application, indirection, role): str(terminus) for role, terminus in _items(roles)}
    return found


def with_leaves(text: str, values: Mapping[tuple[str, ...], str | None], file: str) -> str:
    """The text with these termini, as `leaves` names them, changed or (None) taken out, with what they leave empty.

    Raises `ConfigError` when it cannot be shown that nothing else changes.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    expected = copy.deepcopy(_reloaded(text))
    try:
        for path, value in values.items():
            if value is not None:
                _put(expected, path, value)
                text = _with_leaf(text, path, value)
            else:
                text = _without(text, _drop(expected, path))
        if _reloaded(text) != expected or (values and _has_aliases(text)):
            raise _NoSafeEditError
    except (_NoSafeEditError, yaml.YAMLError) as error:
        names = ", ".join(".".join(path) for path in values)
        why = f"is written so that a change could break it: take back yourself what was set up: {names}"
        raise ConfigError([Problem(file, None, None, why)]) from error
    return mark + text


def _items(routes: Any) -> Iterator[tuple[str, Any]]:
    return ((str(key), below) for key, below in routes.items()) if isinstance(routes, dict) else iter(())


def _drop(routes: dict[Any, Any], path: Sequence[str]) -> Sequence[str]:
    """Take out a leaf with whatever it leaves empty; returns the path of all that is gone."""
    within = [routes]
    for key in path[:-1]:
        within.append(within[-1][key])
    depth = len(path) - 1
    while depth > 0 and len(within[depth]) == 1:
        depth -= 1
    del within[depth][path[depth]]
    return path[: depth + 1]


def _without(text: str, path: Sequence[str]) -> str:
    """`text` without the lines of what is at `path`, but for comments among them."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    name = None
    for key in path:
        if not isinstance(node, yaml.MappingNode) or node.flow_style:
            raise _NoSafeEditError
        name, node = next(pair for pair in reversed(node.value) if pair[0].value == key)
    if name is None or node is None:
        raise _NoSafeEditError
    lines = text.splitlines(keepends=True)
    first, last = name.start_mark.line, _last_line(node)
    comments = [line for line in lines[first : last + 1] if line.lstrip().startswith("#")]
    return "".join([*lines[:first], *comments, *lines[last + 1 :]])


def _loaded(text: str, file: str) -> dict[Any, Any]:
    try:
        routes = _reloaded(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = f"is no YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
        raise ConfigError([Problem(file, mark.line + 1 if mark else None, None, why)]) from error
    if not isinstance(routes, dict):
        raise ConfigError([Problem(file, None, None, "must be a mapping, as in master: {facts: {...}}")])
    return routes


def _reloaded(text: str) -> Any:
    routes = yaml.safe_load(text)
    return {} if routes is None else routes


def _has_aliases(text: str) -> bool:
    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))


def _application(routes: Mapping[Any, Any], target: Target) -> str:
    if target == "apply":
        return "apply"
    return "server" if "server" in routes else "master"


def _leaves(application: str, routes: _Routes) -> Iterator[tuple[tuple[str, str, str], str]]:
    for indirection, termini in routes.items():
        for role, terminus in termini.items():
            yield (application, indirection, role), terminus


def _put(routes: dict[Any, Any], path: Sequence[str], value: str) -> str | None:
    """Set a leaf, and return what it was."""
    for key in path[:-1]:
        if routes.get(key) is None:
            routes[key] = {}
        routes = routes[key]
        if not isinstance(routes, dict):
            raise _NoSafeEditError
    before = routes.get(path[-1])
    routes[path[-1]] = value
    return None if before is None else str(before)


def _with_leaf(text: str, path: Sequence[str], value: str) -> str:
    """`text` with one value replaced, or with the lines that are missing inserted after its siblings."""
    node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None or node.tag == _NULL:
        return _inserted(text, text.count("\n") + 1, 0, path, value)
    for depth, key in enumerate(path):
        if not isinstance(node, yaml.MappingNode) or node.flow_style:
            raise _NoSafeEditError
        column = node.value[0][0].start_mark.column
        pairs = [(name, below) for name, below in node.value if name.value == key]
        if not pairs:
            return _inserted(text, _last_line(node) + 1, column, path[depth:], value)
        name, node = pairs[-1]
        if node.start_mark.index == node.end_mark.index and depth + 1 < len(path):
            return _inserted(text, name.start_mark.line + 1, column + _STEP, path[depth + 1 :], value)
    if not isinstance(node, yaml.ScalarNode) or node.start_mark.line != node.end_mark.line:
        raise _NoSafeEditError
    gap = " " if text[node.start_mark.index - 1] == ":" else ""
    return text[: node.start_mark.index] + gap + value + text[node.end_mark.index :]


def _inserted(text: str, line: int, column: int, path: Sequence[str], value: str) -> str:
    lines = text.splitlines(keepends=True)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    line = min(line, len(lines))
    if line > 0 and not lines[line - 1].endswith("\n"):
        lines[line - 1] += end
    new = [f"{' ' * (column + _STEP * depth)}{key}:" for depth, key in enumerate(path)]
    new[-1] += f" {value}"
    return "".join([*lines[:line], *(f"{content}{end}" for content in new), *lines[line:]])


def _last_line(node: yaml.Node) -> int:
    """The line, from 0, in which a node really ends: a block's own end mark is at what follows it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    before_next = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    return node.end_mark.line - 1 if before_next else node.end_mark.line
