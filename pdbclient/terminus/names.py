"""By which names a resource is known: its title, its aliases, and its type's own name for it.

A catalog document says nothing of types. The rule is that a type has one namevar, `name`, that the title is its
default, and that no two resources of the type may share it: so it is for defined types and classes, and for nearly
all others. `TYPES` holds those that differ. A native type that is not in it is taken to keep the rule, but a
reference that finds nothing by it may mean the one resource with such a value in any parameter, its namevar perhaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["TYPES", "NameTable", "ResourceKey", "TypeNames", "aliases", "flattened", "server_title"]

ResourceKey = tuple[str, str]
"""Type and title."""


@dataclass(frozen=True, slots=True)
class TypeNames:
    """How resources of one type are named.

    `key_attributes` are the parameters that identify a resource together: the namevar, or several of them (a
    composite namevar). `patterns` take a title apart, the first that matches: each group is the value of the
    attribute beside it. Without a pattern the title is the first attribute. A type that is not `isomorphic`
    (Exec) may have several resources with the same name, so that the name says nothing.
    """

    key_attributes: tuple[str, ...] = ("name",)
    isomorphic: bool = True
    patterns: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = ()

    @property
    def namevar(self) -> str | None:
        """The one parameter that names a resource; None when it takes several."""
        return self.key_attributes[0] if len(self.key_attributes) == 1 else None

    def parsed(self, title: str) -> dict[str, str | None]:
        """The key attributes that a title stands for; none when it fits no pattern."""
        if not self.patterns:
            return {self.key_attributes[0]: title}
        found = ((pattern.search(title), names) for pattern, names in self.patterns)
        return next((dict(zip(names, match.groups(), strict=True)) for match, names in found if match), {})

    def key(self, title: str, parameters: Mapping[str, object]) -> tuple[object, ...] | None:
        """The resource's identity within its type; None when its title fits no pattern, or a part is no text."""
        parts = self.parsed(title)
        key = tuple(parameters.get(name, parts.get(name)) for name in self.key_attributes)
        return key if any(key) and all(part is None or isinstance(part, str) for part in key) else None


_BY_NAME = TypeNames()

# What a File is called has no trailing slashes, except the root itself.
_FILE_TITLE = re.compile(r"^(/|.+:/|.*[^/])/*\n?\Z", re.DOTALL | re.MULTILINE)
_SSHKEY_TITLES = (
    (re.compile(r"^(.*?)@(.*)$", re.MULTILINE), ("name", "type")),
    (re.compile(r"^([^@]+)$", re.MULTILINE), ("name",)),
)

TYPES: Mapping[str, TypeNames] = MappingProxyType(
    {
        # Puppet itself
        **dict.fromkeys(("Component", "Filebucket", "Group", "Notify", "Resources"), _BY_NAME),
        **dict.fromkeys(("Schedule", "Service", "Stage", "User", "Whit"), _BY_NAME),
        "Exec": TypeNames(("command",), isomorphic=False),
        "File": TypeNames(("path",), patterns=((_FILE_TITLE, ("path",)),)),
        "Package": TypeNames(("name", "provider", "command")),
        "Tidy": TypeNames(("path",), isomorphic=False),
        # the modules that come with the agent
        **dict.fromkeys(("Augeas", "Cron", "Host", "Mailalias", "Mount", "Scheduled_task"), _BY_NAME),
        **dict.fromkeys(("Selboolean", "Selmodule", "Ssh_authorized_key", "Yumrepo", "Zfs", "Zone"), _BY_NAME),
        "Sshkey": TypeNames(("name", "type"), patterns=_SSHKEY_TITLES),
        "Zpool": TypeNames(("pool",)),
        # common modules
        "Apt_key": TypeNames(("id",)),
        "Concat_file": TypeNames(("path",)),
        "Mysql_datadir": TypeNames(("datadir",)),
        "Vcsrepo": TypeNames(("path",)),
    }
)
"""What is known of native types, by Puppet's capitalised name."""


def server_title(type_name: str, title: str) -> str:
    """The title that the server knows: the agent's cache writes `Main` for `main`, the class around all others."""
    return "main" if type_name == "Class" and title == "Main" else title


def aliases(title: str, parameters: Mapping[str, object], names: TypeNames) -> list[object]:
    """The `alias` parameter that the stock terminus makes for a resource: the user's, then the namevar's value.

    Puppet prints the namevar only where it differs from the title; `main` is the exception, as the title of the
    main class and stage is no text inside Puppet.
    """
    found = [alias for alias in flattened(parameters.get("alias")) if alias is not None]
    if names.namevar is not None and names.isomorphic:
        name = parameters.get(names.namevar)
        if name is not None and name not in found and (name != title or title == "main"):
            found.append(name)
    return found


@dataclass(slots=True)
class NameTable:
    """Which resource a reference means: by title, else by alias, else by what identifies it within its type.

    The last is how Puppet's own catalog finds it. The stock terminus has no such look-up and therefore refuses
    valid catalogs: `File['/']`, and references by name to types with a composite namevar.
    """

    types: Mapping[str, TypeNames]
    _titles: set[ResourceKey] = field(default_factory=set, init=False)
    _aliases: dict[ResourceKey, str] = field(default_factory=dict, init=False)
    _keys: dict[tuple[str, tuple[object, ...]], str] = field(default_factory=dict, init=False)
    _unknown: dict[str, list[tuple[str, Mapping[str, object]]]] = field(default_factory=dict, init=False)
    _by_value: dict[str, dict[str, str | None]] = field(default_factory=dict, init=False)

    def add(self, type_name: str, title: str, parameters: Mapping[str, object], *, native: bool) -> None:
        """A resource with its parameters as they are in the document: what is redacted later still names it.

        `native`: its type is Ruby code, hence may have another namevar than `name`.
        """
        self._titles.add((type_name, title))
        for alias in flattened(parameters.get("alias")):
            if isinstance(alias, str):
                self._aliases[type_name, alias] = title
        names = self.names_of(type_name)
        key = names.key(title, parameters) if names.isomorphic else None
        if key is not None:
            self._keys[type_name, key] = title
        if native and type_name not in self.types:
            self._unknown.setdefault(type_name, []).append((title, parameters))

    def names_of(self, type_name: str) -> TypeNames:
        """What identifies a resource of a type; an unknown one has the namevar `name`."""
        return self.types.get(type_name, _BY_NAME)

    def find(self, type_name: str, title: str) -> str | None:
        """The title of the resource that `type_name[title]` means, or None."""
        if (type_name, title) in self._titles:
            return title
        return self._aliases.get((type_name, title)) or self._identified(type_name, title)

    def _identified(self, type_name: str, title: str) -> str | None:
        key = self.names_of(type_name).key(title, {})
        if key is None:
            return None
        found = self._keys.get((type_name, key))
        if found is None and (type_name, key[0]) in self._titles:
            return str(key[0])  # `File['/a/']` where the title is /a and the path another: the stock one takes it
        return found or self._valued(type_name, title)

    def _valued(self, type_name: str, value: str) -> str | None:
        """For a type that is not known: the one resource of it that has `value` in a parameter."""
        if type_name not in self._unknown:
            return None
        if type_name not in self._by_value:
            titles: dict[str, str | None] = {}
            for title, parameters in self._unknown[type_name]:
                for item in {item for item in parameters.values() if isinstance(item, str)}:
                    titles[item] = None if item in titles else title
            self._by_value[type_name] = titles
        return self._by_value[type_name].get(value)


def flattened(value: object) -> Iterator[object]:
    """The value, or the members of a list of lists."""
    if isinstance(value, list):
        for item in value:
            yield from flattened(item)
    else:
        yield value
