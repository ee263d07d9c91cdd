"""Reads a file of Puppet's own, YAML or JSON, and says what it is. The file is data: nothing in it is run."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import msgspec

from pdbclient.terminus.ruby_yaml import PuppetFileError, read_yaml

__all__ = ["Kind", "PuppetFile", "PuppetFileError", "is_json", "read"]

_decode = msgspec.json.Decoder().decode
# `puppet catalog compile` tells on standard output, and in colour, what it does before it prints the catalog.
_NOTICES = re.compile(rb"\A(?:(?:\x1b\[[\d;]*m)?(?:Notice|Info|Warning): [^\n]*\n)+")


class Kind(Enum):
    """What a file holds; `PAYLOAD` is a command's payload in PuppetDB's own form, or none of them."""

    CATALOG = "catalog"
    FACTS = "facts"
    REPORT = "report"
    PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class PuppetFile:
    """A file's content as plain data. Values may be shared inside `document`: do not change it."""

    kind: Kind
    document: Mapping[str, object]


def is_json(data: bytes) -> bool:
    """Whether `read` takes `data` for JSON rather than YAML, by how it begins."""
    return data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")


def read(data: bytes) -> PuppetFile:
    """Read a catalog, facts or a report as Puppet writes them, told apart by what is in them.

    A catalog is what `puppet catalog compile` prints, or Puppet Server's `/puppet/v4/catalog` answers (taken out of
    its `catalog`); facts are a `Puppet::Node::Facts` with name and values, or the bare values that `puppet facts
    show` and `facter` print (given as `{"name": their clientcert or null, "values": …}`); a report is a
    `Puppet::Transaction::Report`. Any other object is taken for a payload, whose check will tell what is wrong
    with it. YAML is read by `read_yaml`; JSON keeps every integer, and the last of two equal keys.

    Raises `PuppetFileError`: neither YAML nor JSON, or no object at all.
    """
    text = _NOTICES.sub(b"", data.removeprefix(codecs.BOM_UTF8), count=1)
    document = _read_json(text) if is_json(text) else read_yaml(text)
    if not isinstance(document, dict):
        raise PuppetFileError("must be a JSON object, or a hash in YAML")
    return _recognized(document)


def _recognized(document: dict[str, object]) -> PuppetFile:
    inner = document.get("catalog")
    if len(document) == 1 and isinstance(inner, dict):
        document = inner
    if "certname" in document:
        return PuppetFile(Kind.PAYLOAD, document)
    if "host" in document and "resource_statuses" in document:
        return PuppetFile(Kind.REPORT, document)
    if "name" in document and "resources" in document:
        return PuppetFile(Kind.CATALOG, document)
    if "name" in document and "values" in document:
        return PuppetFile(Kind.FACTS, document)
    if "facterversion" in document and "values" not in document:
        return PuppetFile(Kind.FACTS, {"name": document.get("clientcert"), "values": document})
    return PuppetFile(Kind.PAYLOAD, document)


def _read_json(data: bytes) -> object:
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # The standard library takes what old Puppets write: NaN, and bytes that are no UTF-8. The payload's own check
    # names the place of those.
    try:
        return json.loads(data.decode("utf-8", "surrogateescape"))
    except RecursionError as error:
        raise PuppetFileError("is nested too deep") from error
    except json.JSONDecodeError as error:
        raise PuppetFileError(f"is no JSON: {error.msg}", error.lineno) from error
    except ValueError as error:
        raise PuppetFileError(f"is no JSON: {error}") from error
