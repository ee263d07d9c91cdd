"""The TLS material: from our own `ssl_*` settings, else the way Puppet finds it. Never looks into keys."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pdbclient.config.document import Document
from pdbclient.config.model import TlsFiles
from pdbclient.config.puppet_conf import Located, PuppetLayout, find_confdir, layout_of
from pdbclient.config.values import SettingError, resolve_path, revocation
from pdbclient.config.verdict import Verdict
from pdbclient.errors import Problem

__all__ = ["TlsSearch", "find_tls"]

_WHAT = {
    "ssl_ca_cert": "the CA certificate",
    "ssl_cert": "the client certificate",
    "ssl_key": "the client's private key",
    "ssl_crl": "the revocation list",
}
_LAYOUT_FIELD = {
    "ssl_ca_cert": "localcacert",
    "ssl_cert": "hostcert",
    "ssl_key": "hostprivkey",
    "ssl_crl": "hostcrl",
}


@dataclass(slots=True)
class TlsSearch:
    """What was found: `files`, the origin of each, and what is wrong."""

    files: TlsFiles
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def find_tls(
    verdict: Verdict,
    document: Document,
    *,
    section: str,
    present_certificate: bool = True,
    check_files: bool = True,
) -> TlsSearch:
    """Find the CA, certificate, key and revocation list for `document`, and what the list is for.

    Each setting of `verdict` wins; the rest is as Puppet has it, by the puppet.conf beside the document or of the
    system. `present_certificate` false leaves certificate and key out. With `check_files` every file must be there
    and readable; without, only the names are worked out. `section` is where the advice tells the user to put a
    setting, in words.

    `certificate_revocation` other than false needs the list: so does Puppet, of which only the agent fetches it
    (`load_context` in lib/puppet/ssl/ssl_provider.rb: "The CRL is missing from"; the same in Puppet 7 and 8).
    """
    search = _Search(verdict, document, section, check_files)
    cert = key = None
    if present_certificate:
        _refuse_half_a_pair(verdict, document, search.problems)
        cert, key = search.file("ssl_cert"), search.file("ssl_key")
    ca = search.file("ssl_ca_cert")
    mode = search.revocation()
    files = TlsFiles(ca, cert, key, None if mode == "false" else search.file("ssl_crl"), revocation=mode)
    return TlsSearch(files, search.origins, search.problems)


def _refuse_half_a_pair(verdict: Verdict, document: Document, problems: list[Problem]) -> None:
    for given, missing in (("ssl_cert", "ssl_key"), ("ssl_key", "ssl_cert")):
        if given in verdict.entries and missing not in verdict.entries:
            problems.append(verdict.entries[given].problem(f"needs {missing} beside it"))


@dataclass(slots=True)
class _Search:
    verdict: Verdict
    document: Document
    section: str
    check_files: bool
    layout: PuppetLayout | None = None
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def file(self, name: str) -> Path:
        """The path for `ssl_...` setting `name`, checked."""
        entry = self.verdict.entries.get(name)
        if entry is not None:
            self.origins[name] = entry.origin
            if name in self.verdict.broken:
                return Path()
            path = resolve_path(self.verdict.values[name], self.document.directory)
            if why := self._fault(path):
                self.problems.append(entry.problem(f"{_WHAT[name]} {why}"))
            return path
        located = self._located(name)
        self.origins[name] = located.origin
        path = Path(located.value)
        if why := self._fault(path):
            self.problems.append(self._not_found(name, located, path, why))
        return path

    def revocation(self) -> str:
        """`chain`, `leaf` or `false`: ours, else what Puppet says of its list, else that of the list named here."""
        mode, origin = self._mode()
        self.origins["certificate_revocation"] = origin
        if mode == "false":
            self.origins["ssl_crl"] = origin
        return mode

    def _mode(self) -> tuple[str, str]:
        entries = self.verdict.entries
        # Puppet's list belongs to Puppet's CA; with another CA only its own list makes sense.
        listless = "ssl_ca_cert" in entries and "ssl_crl" not in entries
        if own := entries.get("certificate_revocation"):
            mode = self.verdict.values["certificate_revocation"] or "chain"
            if listless and mode != "false":
                self.problems.append(own.problem("needs ssl_crl beside it: the list of the CA in ssl_ca_cert"))
                return "false", own.origin
            return mode, own.origin
        if listless:
            return "false", entries["ssl_ca_cert"].origin
        located = self._layout().revocation
        try:
            mode = revocation(located.value)
        except SettingError as error:
            file, line = _place(located)
            self.problems += [Problem(file, line, "certificate_revocation", reason) for reason in error.reasons]
            return "chain", located.origin
        if mode == "false" and "ssl_crl" in entries:
            # Puppet does without its own list; this one was named to be used.
            return "chain", entries["ssl_crl"].origin
        return mode, located.origin

    def _located(self, name: str) -> Located:
        located: Located = getattr(self._layout(), _LAYOUT_FIELD[name])
        return located

    def _layout(self) -> PuppetLayout:
        if self.layout is None:
            self.layout = layout_of(find_confdir(self.document.directory))
            self.problems.extend(self.layout.problems)
        return self.layout

    def _fault(self, path: Path) -> str | None:
        return _unreadable(path) if self.check_files else None

    def _not_found(self, name: str, located: Located, path: Path, why: str) -> Problem:
        file, line = (self.document.file, None) if located.origin == "default" else _place(located)
        advice = f"set {name} in {self.section}, or certname and ssldir in puppet.conf"
        if name == "ssl_crl":
            advice += "; certificate_revocation = false does without"
        return Problem(file, line, name, f"{_WHAT[name]} {why} ({advice}{_others(path)})")


def _place(located: Located) -> tuple[str, int]:
    file, _, number = located.origin.rpartition(":")
    return file, int(number)


def _unreadable(path: Path) -> str | None:
    """Why the file at `path` cannot be used, or None."""
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except FileNotFoundError:
        return f"{path} does not exist"
    except IsADirectoryError:
        return f"{path} is a directory"
    except PermissionError:
        return f"{path} may not be read by the user with id {os.geteuid()}"
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path of puppet.conf
        return f"{path} cannot be read: {error}"
    return None


def _others(path: Path) -> str:
    # A wrong certname is the usual reason: the names that are there say the right one.
    try:
        names = sorted(n for n in os.listdir(path.parent) if n.endswith(".pem") and n != "ca.pem")
    except (OSError, ValueError):
        return ""
    return f"; that directory has {', '.join(names[:3])}" if names and path.name not in names else ""
