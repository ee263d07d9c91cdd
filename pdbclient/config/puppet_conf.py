"""Where Puppet keeps its files on this machine: puppet.conf and the usual locations, as Puppet reads them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdbclient.config.reading import read_text
from pdbclient.errors import ConfigError, Problem

__all__ = ["Located", "PuppetLayout", "confdir_candidates", "find_confdir", "layout_of", "parse_puppet_conf"]

AIO_CONFDIR = Path("/etc/puppetlabs/puppet")  # Puppet 4 to 8 and OpenVox packages
DEBIAN_CONFDIR = Path("/etc/puppet")  # Debian's and Ubuntu's own puppet-agent
DEBIAN_SSLDIR = Path("/var/lib/puppet/ssl")
_VARDIRS = {AIO_CONFDIR: "/opt/puppetlabs/puppet/cache", DEBIAN_CONFDIR: "/var/cache/puppet"}

# The terminus runs inside the Puppet server, so what holds for the server comes first. [agent] is looked at
# last, for a machine that sets certname or ssldir nowhere else.
_SECTIONS = ("server", "master", "main", "agent")

_SECTION = re.compile(r"\s*\[(\w+)\].*", re.ASCII)
_SETTING = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*(?:\{[^{}]*\}\s*)?", re.ASCII)
_QUOTE = re.compile(r"^[\"']|[\"']$")


@dataclass(frozen=True, slots=True)
class Located:
    """A value and where it comes from: `file:line`, or `default`."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class PuppetLayout:
    """What one installation of Puppet says about certificates. Paths are not checked to exist."""

    confdir: Path
    certname: Located
    localcacert: Located
    hostcert: Located
    hostprivkey: Located
    hostcrl: Located
    revocation: Located
    problems: tuple[Problem, ...] = ()


def confdir_candidates() -> Sequence[Path]:
    """Where puppetdb.conf and puppet.conf may be, in order: the system's places, before them a user's own."""
    system = (AIO_CONFDIR, DEBIAN_CONFDIR)
    if os.geteuid() == 0:
        return system
    home = Path.home()
    return (home / ".puppetlabs/etc/puppet", home / ".puppet/etc", *system)


def find_confdir(beside: Path | None = None) -> Path:
    """The confdir for a configuration in the directory `beside`: that one if it is one, else the system's."""
    candidates = confdir_candidates()
    if beside and (beside in candidates or os.path.isfile(beside / "puppet.conf") or os.path.isdir(beside / "ssl")):
        return beside
    for candidate in candidates:
        if os.path.isfile(candidate / "puppet.conf"):
            return candidate
    return next((candidate for candidate in candidates if os.path.isdir(candidate)), beside or candidates[0])


def parse_puppet_conf(text: str, file: str) -> Mapping[str, Located]:
    """The settings that hold for the terminus, `[server]` before `[master]`, `[main]` and `[agent]`. Pure."""
    found: dict[str, dict[str, Located]] = {}
    section = "main"
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith(("#", ";")):
            continue
        if header := _SECTION.fullmatch(line):
            section = header[1]
        elif setting := _SETTING.fullmatch(line):
            value = _QUOTE.sub("", setting[2]).rstrip()
            # The first one of a section holds.
            found.setdefault(section, {}).setdefault(setting[1], Located(value, f"{file}:{number}"))
    merged: dict[str, Located] = {}
    for name in reversed(_SECTIONS):
        merged.update(found.get(name, {}))
    return merged


def layout_of(confdir: Path) -> PuppetLayout:
    """Read `confdir`/puppet.conf, if there is one, and complete it with Puppet's defaults for this place.

    When puppet.conf is there and cannot be read, the layout has the defaults and says so in its `problems`.
    """
    path = confdir / "puppet.conf"
    try:
        return _layout(confdir, parse_puppet_conf(read_text(path)[0], str(path)), ())
    except ConfigError as error:
        absent = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        return _layout(confdir, {}, () if absent else error.problems)


def _layout(confdir: Path, settings: Mapping[str, Located], problems: tuple[Problem, ...]) -> PuppetLayout:
    scope = dict(settings)
    for name, default in _defaults(confdir):
        value = scope.get(name, Located(default, "default"))
        text, origin = _interpolated(value.value, scope)
        if name == "certname":
            text = text.lower()  # Puppet refuses upper case in it
        # A path built from a setting of puppet.conf comes from there, though it stands nowhere itself.
        scope[name] = Located(text, origin if value.origin == "default" and origin else value.origin)
    return PuppetLayout(
        confdir=confdir,
        certname=scope["certname"],
        localcacert=scope["localcacert"],
        hostcert=scope["hostcert"],
        hostprivkey=scope["hostprivkey"],
        hostcrl=scope["hostcrl"],
        revocation=scope["certificate_revocation"],
        problems=problems,
    )


def _defaults(confdir: Path) -> Iterator[tuple[str, str]]:
    # In the order in which they build on each other.
    yield "confdir", str(confdir)
    yield "vardir", _VARDIRS.get(confdir, str(confdir.parent / "cache"))
    yield "certname", _host_name()
    yield "ssldir", str(_default_ssldir(confdir))
    yield "certdir", "$ssldir/certs"
    yield "privatekeydir", "$ssldir/private_keys"
    yield "localcacert", "$certdir/ca.pem"
    yield "hostcert", "$certdir/$certname.pem"
    yield "hostprivkey", "$privatekeydir/$certname.pem"
    yield "hostcrl", "$ssldir/crl.pem"
    yield "certificate_revocation", "chain"


def _default_ssldir(confdir: Path) -> Path:
    # Debian's package keeps certificates apart from the configuration, for root and for whoever owns them.
    if confdir != DEBIAN_CONFDIR:
        return confdir / "ssl"
    return confdir / "ssl" if os.geteuid() != 0 and os.path.isdir(confdir / "ssl") else DEBIAN_SSLDIR


def _host_name() -> str:
    name = socket.getfqdn().removesuffix(".")
    # getfqdn() answers `localhost` where /etc/hosts lists that first; the host's own name is nearer.
    return (socket.gethostname() if name.startswith("localhost") else name).lower()


def _interpolated(text: str, scope: Mapping[str, Located]) -> tuple[str, str | None]:
    """`text` with `$name` and `${name}` replaced, and the origin of the last configured replacement."""
    origin: str | None = None

    def replacement(found: re.Match[str]) -> str:
        nonlocal origin
        value = scope.get(found[1] or found[2])
        if value is None:
            return found[0]
        if value.origin != "default":
            origin = value.origin
        return value.value

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", replacement, text), origin
