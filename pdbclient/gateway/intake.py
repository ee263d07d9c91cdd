"""`POST /pdb/cmd/v1` -> a command, or the refusal that a real PuppetDB would give. Pure.

What is checked is what the server checks before it queues: the parameters, not the payload. Measured on PuppetDB
7.12.1; where that answers 500 to a malformed request (a parameter twice, a list for an object), this is a 400: a 500
would send the terminus on to the next server with the same request.

Whose command it is and of when, PuppetDB takes from the payload, whatever the parameters say
(`tests/integration/test_server_facts.py`), and so it is taken here.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from pdbclient.gateway.compression import unpacked
from pdbclient.wire import Command, timestamp
from pdbclient.wire.plain import holds_unstorable

__all__ = ["HEADERS", "Refused", "command_from", "is_about_exported", "seconds_to_wait"]

OLDEST_VERSIONS: Mapping[str, int] = {
    "replace catalog": 6,
    "replace catalog inputs": 1,
    "replace facts": 4,
    "store report": 5,
    "deactivate node": 3,
    "configure expiration": 1,
}
"""The commands of PuppetDB's API, each with the oldest version that is not retired."""

STAMPED_BY_SERVER = ("replace catalog inputs", "store report", "deactivate node", "configure expiration")
"""Commands that a server stamps by its own clock when the payload has no timestamp: sent twice, they would be two."""

PARAMETERS = frozenset(
    {"command", "version", "certname", "producer-timestamp", "checksum", "secondsToWaitForCompletion"}
)
HEADERS = ("Accept", "Content-Encoding", "Content-Type", "X-Uncompressed-Length")
"""The headers of a request on which a command depends."""
_NO_JSON = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ABSENT = msgspec.Raw(b"null")
_INTEGER = re.compile(r"[+-]?\d{1,9}", re.ASCII).fullmatch
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII).fullmatch
_NEVER = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*").fullmatch
_ACCEPTABLE = frozenset({"application/json", "application/*", "*/*"})


class Refused(Exception):
    """A request that cannot be done: the HTTP status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request asks for, in either form, not yet checked; `stamp` is that beside the payload."""

    name: object
    version: object
    certname: object
    stamp: object
    body: bytes


def seconds_to_wait(query: str) -> float:
    """How many seconds a request with this query string waits for the command to be processed; 0: not at all.

    In the old form nobody waits. Raises `Refused`.
    """
    given = dict(parse_qsl(query, keep_blank_values=True))
    return _seconds(given) if "command" in given else 0.0


class _Own(msgspec.Struct, gc=False):
    """What a payload says of itself. The rest of it, which may be large, is passed over and not decoded."""

    certname: msgspec.Raw = _ABSENT
    producer_timestamp: msgspec.Raw = _ABSENT


# Made here and not when first used: two threads that both meet a kind for the first time can crash msgspec.
_decode_own = msgspec.json.Decoder(_Own).decode


def command_from(query: str, headers: Mapping[str, str], body: bytes, *, now: datetime, limit: int) -> Command:
    """The command that a request with this raw query string, headers (names in any case) and body submits.

    The body goes on exactly as it came, gzip or not. But in the old form, where the whole command is the body, the
    payload is taken out of it, as its own text; and `now` is the producer timestamp of a request that gives none,
    which is put into a body that the server would stamp by itself.
    It reads all of the body, of which gzip may make `limit` bytes at most: beyond that it raises `TooLarge`. Raises
    `Refused`.
    """
    encoding = _checked_encoding(headers)
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if "command" not in given:
        return _command(_old_form(body), "identity", -1, now, limit)
    if len(given) != len(pairs):
        raise Refused(400, "a parameter is given twice")
    _check_parameters(given)
    name = given["command"].replace("_", " ")
    asked = _Asked(name, given.get("version"), given.get("certname"), given.get("producer-timestamp"), body)
    return _command(asked, encoding, _length(headers, body), now, limit)


def is_about_exported(target: str, body: bytes | None) -> bool:
    """Whether a query with this target (path and query string) and body may be about exported resources.

    Wherever the word stands, in the stock terminus's query or in anybody's PQL: better once too often.
    """
    return "exported" in unquote(target) or b"exported" in (body or b"")


def _check_parameters(given: Mapping[str, object]) -> None:
    if unknown := sorted(given.keys() - PARAMETERS):
        raise Refused(400, f"invalid parameters: {', '.join(unknown)}")
    _seconds(given)


def _seconds(given: Mapping[str, object]) -> float:
    text = str(given.get("secondsToWaitForCompletion", "0")).strip()
    if not _NUMBER(text):
        raise Refused(400, "secondsToWaitForCompletion must be a number of seconds")
    return max(float(text), 0.0)


def _checked_encoding(headers: Mapping[str, str]) -> str:
    kind = (headers.get("Content-Type") or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"content type {kind} not supported")
    ranges = [part.lower().split(";") for part in headers.get("Accept", "*/*").split(",")]
    accepted = {kind.strip() for kind, *parameters in ranges if not any(map(_NEVER, parameters))}
    if not accepted & _ACCEPTABLE:
        raise Refused(406, "must accept application/json")
    encoding = (headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Refused(415, f"content encoding {encoding} not supported")
    return encoding


def _length(headers: Mapping[str, str], body: bytes) -> int:
    """The uncompressed length as the client says it; PuppetDB too takes its word."""
    said = headers.get("X-Uncompressed-Length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 15 else len(body)


def _old_form(body: bytes) -> _Asked:
    try:
        document = _decode_raw(body)
        payload = document.pop("payload")
        own = _decode_own(payload)
        certname = msgspec.json.decode(own.certname)
        given = {key: msgspec.json.decode(value) for key, value in document.items()}
        name, version = given["command"], given["version"]
    except (*_NO_JSON, KeyError) as error:
        why = "without the parameter command, the body must be an object with command, version and payload, an object"
        raise Refused(400, why) from error
    _check_parameters({key: value for key, value in given.items() if value is not None})
    stamp = given.get("producer-timestamp")
    if not isinstance(stamp, str | None):
        raise Refused(400, "producer-timestamp must be a string")
    return _Asked(name, version if isinstance(version, int) else None, certname, stamp, bytes(payload))


def _command(asked: _Asked, encoding: str, length: int, now: datetime, limit: int) -> Command:
    missing: Sequence[str] = [key for key in ("certname", "version") if getattr(asked, key) is None]
    if asked.certname is None:
        raise Refused(400, f"missing parameters: {', '.join(missing)}")
    if not isinstance(asked.certname, str) or not asked.certname.strip():
        raise Refused(400, "certname must be a non-empty string")
    if not isinstance(asked.name, str) or asked.name not in OLDEST_VERSIONS:
        raise Refused(400, f"command must be one of: {', '.join(sorted(OLDEST_VERSIONS))}")
    if isinstance(asked.version, bool) or not _INTEGER(str(asked.version)):
        raise Refused(400, "version must be an integer")
    version, oldest = int(str(asked.version)), OLDEST_VERSIONS[asked.name]
    if version < oldest:
        raise Refused(400, f"version {version} of {asked.name!r} is retired, the oldest is {oldest}")
    body = asked.body
    text = _unpacked(body, limit) if encoding == "gzip" else body
    certname, stamp = _own(text)
    if stamp is None:
        stamp = _stamp(asked.stamp) or timestamp.utc_text(now)
        if asked.name in STAMPED_BY_SERVER and (stamped := _stamped(text, stamp)) is not None:
            body, length = gzip.compress(stamped, 1, mtime=0) if encoding == "gzip" else stamped, len(stamped)
    return Command.ready(asked.name, version, certname or asked.certname, stamp, body, encoding, length)


def _stamp(text: object) -> str | None:
    """PuppetDB takes a request with an unreadable producer timestamp as one without."""
    if isinstance(text, str):
        with contextlib.suppress(ValueError):
            return timestamp.to_utc(text)
    return None


def _unpacked(body: bytes, limit: int) -> bytes:
    """What is no gzip goes on, for the server to judge."""
    try:
        return unpacked(body, limit)
    except zlib.error:
        return b""


def _own(text: bytes) -> tuple[str | None, str | None]:
    """The certname and the producer timestamp of a payload, each None where it has none that can be read."""
    try:
        own = _decode_own(text)
        members = [msgspec.json.decode(raw) for raw in (own.certname, own.producer_timestamp)]
    except _NO_JSON:
        members = _own_of_odd(text)
    certname, stamp = members
    found = None
    with contextlib.suppress(ValueError):
        found = timestamp.as_stored(stamp)
    # Nor can a node be named by what no database holds.
    named = isinstance(certname, str) and certname.strip() and not holds_unstorable(certname)
    return certname if named else None, found


def _own_of_odd(text: bytes) -> list[Any]:
    """The same two of what is JSON to PuppetDB only: with control characters, half surrogates, more behind it."""
    try:
        payload, _ = json.JSONDecoder(strict=False).raw_decode(text.decode("utf-8", "replace").lstrip())
    except (ValueError, RecursionError):
        payload = None
    found = payload if isinstance(payload, dict) else {}
    return [found.get("certname"), found.get("producer_timestamp")]


def _stamped(text: bytes, stamp: str) -> bytes | None:
    """A payload with `stamp` put in; None for the server to judge: what is no payload, or has a stamp of its own."""
    try:
        payload = _decode_raw(text)
    except _NO_JSON:
        return None
    if payload.get("producer_timestamp", _ABSENT) != _ABSENT:
        return None
    return msgspec.json.encode(payload | {"producer_timestamp": msgspec.Raw(msgspec.json.encode(stamp))})
