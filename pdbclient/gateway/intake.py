"""`POST /pdb/cmd/v1` -> a command, or the refusal that a real PuppetDB would give. Pure.

What is checked is what the server checks before it queues: the parameters, not the payload. Measured on PuppetDB
7.12.1; where that answers 500 to a malformed request (a parameter twice, a list for an object), this is a 400: a 500
would send the terminus on to the next server with the same request.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from pdbclient.gateway.compression import TooLarge, unpacked
from pdbclient.wire import Command, timestamp

__all__ = ["Refused", "command_from", "is_about_exported", "looks_into_body", "seconds_to_wait"]

OLDEST_VERSIONS: Mapping[str, int] = {
    "replace catalog": 6,
    "replace catalog inputs": 1,
    "replace facts": 4,
    "store report": 5,
    "deactivate node": 3,
    "configure expiration": 1,
}
"""The commands of PuppetDB's API, each with the oldest version that is not retired."""

STAMPED_BY_SERVER = ("store report", "deactivate node", "configure expiration")
"""Commands that a server stamps by its own clock when the payload has no timestamp: sent twice, they would be two."""

PARAMETERS = frozenset(
    {"command", "version", "certname", "producer-timestamp", "checksum", "secondsToWaitForCompletion"}
)
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
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
    """What a request asks for, in either form, not yet checked."""

    name: object
    version: object
    certname: object
    stamp: object
    body: bytes


def looks_into_body(query: str) -> bool:
    """Whether `command_from` has to unpack and read the body of a request with this query string."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    return "command" not in given or _stamp(given.get("producer-timestamp")) is None


def seconds_to_wait(query: str) -> float:
    """How many seconds a request with this query string waits for the command to be processed; 0: not at all.

    In the old form nobody waits. Raises `Refused`.
    """
    given = dict(parse_qsl(query, keep_blank_values=True))
    return _seconds(given) if "command" in given else 0.0


def command_from(
    query: str, headers: Mapping[str, str], body: bytes, *, now: datetime, max_unpacked: int = 2**31
) -> Command:
    """The command that a request with this raw query string, headers (names in any case) and body submits.

    The body goes on exactly as it came, gzip or not. But in the old form, where the whole command is the body, the
    payload is taken out of it, as its own text; and `now` is the producer timestamp of a request that gives none,
    which is put into a body that the server would stamp by itself. No body is unpacked beyond `max_unpacked` bytes.
    Raises `Refused`.
    """
    encoding = _checked_encoding(headers)
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if "command" not in given:
        return _command(_old_form(body), "identity", -1, now, max_unpacked)
    if len(given) != len(pairs):
        raise Refused(400, "a parameter is given twice")
    if unknown := sorted(given.keys() - PARAMETERS):
        raise Refused(400, f"invalid parameters: {', '.join(unknown)}")
    _seconds(given)
    name = given["command"].replace("_", " ")
    asked = _Asked(name, given.get("version"), given.get("certname"), given.get("producer-timestamp"), body)
    return _command(asked, encoding, _length(headers, body), now, max_unpacked)


def is_about_exported(target: str, body: bytes | None) -> bool:
    """Whether a query with this target (path and query string) and body may be about exported resources.

    Wherever the word stands, in the stock terminus's query or in anybody's PQL: better once too often.
    """
    return "exported" in unquote(target) or b"exported" in (body or b"")


def _seconds(given: Mapping[str, str]) -> float:
    text = given.get("secondsToWaitForCompletion", "0").strip()
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
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        payload = msgspec.json.decode(document["payload"], type=dict[str, msgspec.Raw])
        name, version = (msgspec.json.decode(document[key]) for key in ("command", "version"))
        certname, stamp = (_member(payload, key) for key in ("certname", "producer_timestamp"))
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, UnicodeDecodeError, RecursionError) as error:
        why = "without the parameter command, the body must be an object with command, version and payload, an object"
        raise Refused(400, why) from error
    if unknown := sorted(document.keys() - {"command", "version", "payload"}):
        raise Refused(400, f"invalid parameters: {', '.join(unknown)}")
    return _Asked(name, version if isinstance(version, int) else None, certname, stamp, bytes(document["payload"]))


def _member(payload: Mapping[str, msgspec.Raw], key: str) -> Any:
    return msgspec.json.decode(payload[key]) if key in payload else None


def _command(asked: _Asked, encoding: str, length: int, now: datetime, max_unpacked: int) -> Command:
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
    stamp, body = _stamp(asked.stamp), asked.body
    if stamp is None:
        stamp = timestamp.utc_text(now)
        if asked.name in STAMPED_BY_SERVER:
            stamp, body, length = _stamped(body, encoding, stamp, length, max_unpacked)
    return Command.ready(asked.name, version, asked.certname, stamp, body, encoding, length)


def _stamp(text: object) -> str | None:
    """PuppetDB takes a request with an unreadable producer timestamp as one without."""
    if isinstance(text, str):
        with contextlib.suppress(ValueError):
            return timestamp.to_utc(text)
    return None


def _stamped(body: bytes, encoding: str, stamp: str, length: int, max_unpacked: int) -> tuple[str, bytes, int]:
    """The timestamp that stands in the payload, the body and its length; `stamp` is put in where there is none.

    What is no payload at all goes on as it is, for the server to judge.
    """
    try:
        payload = _decode_raw(unpacked(body, max_unpacked) if encoding == "gzip" else body)
        own = _stamp(_member(payload, "producer_timestamp"))
    except TooLarge as error:
        raise Refused(
            413, f"a body that unpacks to more than {max_unpacked} bytes (gateway_max_body_bytes)"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, zlib.error):
        return stamp, body, length
    if own is not None or payload.get("producer_timestamp") not in (None, msgspec.Raw(b"null")):
        return own or stamp, body, length
    text = msgspec.json.encode(payload | {"producer_timestamp": msgspec.Raw(msgspec.json.encode(stamp))})
    return stamp, gzip.compress(text, 1, mtime=0) if encoding == "gzip" else text, len(text)
