"""A PuppetDB command: checked, stamped and encoded once; the same bytes go to every server, every time."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from pdbclient.errors import InvalidCommand
from pdbclient.wire import timestamp
from pdbclient.wire.check import VERSIONS, check
from pdbclient.wire.limits import index_warnings
from pdbclient.wire.plain import PayloadError, made_plain, shown

__all__ = ["Command", "configure_expiration", "deactivate_node"]

_LOSSY = "Lossy encoding"
_KNOWN = ("file", "line")
"""Members of a resource that are there when they are known."""
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Command:
    """One command, ready to be sent.

    `body` is the exact JSON bytes, or the gzip of them when `encoding` says so; `length` is the number of
    JSON bytes. `producer_timestamp` is UTC with milliseconds and `Z`, the instant that stands in the body
    (there it may be written otherwise). `warnings` tell what was lost in encoding, and what PuppetDB may not store.
    """

    name: str
    version: int
    certname: str
    producer_timestamp: str
    body: bytes = field(repr=False)
    encoding: str = "identity"
    length: int = -1
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.length < 0:
            object.__setattr__(self, "length", len(self.body))

    @classmethod
    def create(
        cls,
        name: str,
        payload: Mapping[str, object],
        *,
        now: datetime,
        certname: str | None = None,
        producer_timestamp: str | datetime | None = None,
    ) -> Command:
        """Check `payload` against the wire format of the command `name` (`replace facts`, …) and encode it.

        The payload's own `producer_timestamp` and `certname` win; where it has none (or null), the arguments
        and at last `now` (aware) are put in. A `certname` argument that contradicts the payload is refused.
        The payload is not changed. Text that PuppetDB cannot store (invalid UTF-8, U+0000) becomes U+FFFD,
        with one warning. Of a catalog's resources, a null `file` or `line` is left out, and missing `parameters`
        become null: PuppetDB shows these alike and hashes them apart, so that no copy would be equal.

        Raises `InvalidCommand` with the path of what PuppetDB would refuse or what JSON cannot hold (NaN, …).
        """
        try:
            return _create(cls, name, payload, now, certname, producer_timestamp)
        except PayloadError as error:
            raise _invalid(name, payload, certname, error) from error

    @classmethod
    def from_bytes(
        cls,
        name: str,
        body: bytes,
        *,
        now: datetime,
        certname: str | None = None,
        producer_timestamp: str | datetime | None = None,
    ) -> Command:
        """Check a payload that is JSON already, and send it as it is: no number or key order changes.

        Arguments and errors as for `create`. When a timestamp or certname has to be put in, the other members
        keep their text; only when something cannot be stored is the whole encoded anew.
        """
        body = body.removeprefix(codecs.BOM_UTF8)
        try:
            payload = _parsed(body)
        except PayloadError as error:
            raise _invalid(name, {}, certname, error) from error
        created = cls.create(name, payload, now=now, certname=certname, producer_timestamp=producer_timestamp)
        if not isinstance(payload, _Exact) or any(each.startswith(_LOSSY) for each in created.warnings):
            return created
        put_in = {"certname": created.certname, "producer_timestamp": created.producer_timestamp}
        missing = {key: msgspec.Raw(_encode(text)) for key, text in put_in.items() if payload.get(key) is None}
        if missing:
            body = _encode(_decode_raw(body) | missing)
        return replace(created, body=body, length=len(body))

    @classmethod
    def ready(
        cls,
        name: str,
        version: int,
        certname: str,
        producer_timestamp: str,
        body: bytes,
        encoding: str = "identity",
        length: int = -1,
    ) -> Command:
        """A command whose caller vouches for it (records of another PuppetDB, a journal): nothing is checked.

        `producer_timestamp` must be UTC with milliseconds and `Z`; `length` is needed when `encoding` is
        gzip.
        """
        return cls(name, version, certname, producer_timestamp, body, encoding, length)

    def gzipped(self, level: int = 1) -> Command:
        """The same command with a gzip body; equal commands give equal bytes. Itself when it is gzip already.

        Level 1 makes a catalog seven times smaller; level 6 takes twice the time for a third less.
        """
        if self.encoding == "gzip":
            return self
        return replace(self, body=gzip.compress(self.body, level, mtime=0), encoding="gzip")

    def params(self) -> list[tuple[str, str]]:
        """The query parameters of the submission, in the stock terminus's order, not yet percent-encoded."""
        return [
            ("version", str(self.version)),
            ("certname", self.certname),
            ("command", self.name.replace(" ", "_")),
            ("producer-timestamp", self.producer_timestamp),
        ]


def deactivate_node(certname: str, *, now: datetime, producer_timestamp: str | datetime | None = None) -> Command:
    """`deactivate node`: as of `producer_timestamp`, else `now`. Raises `InvalidCommand`."""
    payload = {"certname": certname}
    return Command.create("deactivate node", payload, now=now, producer_timestamp=producer_timestamp)


def configure_expiration(
    certname: str, facts: bool, *, now: datetime, producer_timestamp: str | datetime | None = None
) -> Command:
    """`configure expiration`: whether the facts of `certname` may expire. Raises `InvalidCommand`."""
    payload = {"certname": certname, "expire": {"facts": facts}}
    return Command.create("configure expiration", payload, now=now, producer_timestamp=producer_timestamp)


def _create(
    cls: type[Command],
    name: str,
    payload: Mapping[str, object],
    now: datetime,
    certname: str | None,
    stamp: str | datetime | None,
) -> Command:
    if name not in VERSIONS:
        raise PayloadError("command", f"must be one of: {', '.join(sorted(VERSIONS))}")
    if not isinstance(payload, Mapping):
        raise PayloadError("$", f"must be an object, not {type(payload).__name__}")
    own = payload.get("producer_timestamp")
    if own is None or isinstance(own, datetime):
        own = own or stamp or now
    if isinstance(own, datetime):
        own = _utc(own)
    named = payload.get("certname")
    if named is None:
        named = certname
    elif certname is not None and certname != named:
        raise PayloadError("$.certname", f"is {shown(named)}, but the command is for {shown(certname)}")
    stamped = {**payload, "producer_timestamp": own, "certname": named}
    if name == "replace catalog" and isinstance(resources := payload.get("resources"), list | tuple):
        stamped["resources"] = [_as_shown(resource) for resource in resources]
    body, warnings = _encoded(name, stamped)
    # `check` has seen to it that both are text by now
    return cls(name, VERSIONS[name], str(named), timestamp.to_utc(str(own)), body, "identity", len(body), warnings)


def _as_shown(resource: object) -> object:
    """A catalog's resource in the one form in which it can be copied; what is none is left to `check`."""
    if not isinstance(resource, Mapping):
        return resource
    if "parameters" in resource and all(resource.get(key, "") is not None for key in _KNOWN):
        return resource
    known = {key: value for key, value in resource.items() if value is not None or key not in _KNOWN}
    return {"parameters": None, **known}


def _encoded(name: str, payload: dict[str, object]) -> tuple[bytes, tuple[str, ...]]:
    """The payload's bytes and the warnings: the fast way for plain JSON, else with a look at every value."""
    try:
        if check(name, payload):
            body = _encode(payload)
            # two searches, because the short needle is found (not) in two thirds of the time
            if b"u0000" not in body or b"\\u0000" not in body:
                return body, index_warnings(name, payload)
    except (PayloadError, TypeError, ValueError, RecursionError):
        pass  # what follows repairs the payload, or meets the fault again and names its path
    losses: list[str] = []
    plain = made_plain(payload, "$", losses)
    assert isinstance(plain, dict)
    if "$.certname" in losses:
        raise PayloadError("$.certname", f"{shown(payload['certname'])} is not valid UTF-8 without U+0000")
    check(name, plain)
    return _encode(plain), _warning(name, plain["certname"], losses) + index_warnings(name, plain)


def _warning(name: str, certname: str, losses: list[str]) -> tuple[str, ...]:
    if not losses:
        return ()
    more = f" and {len(losses) - 1} more" if len(losses) > 1 else ""
    return (
        f"{_LOSSY} of a '{name}' command for host '{certname}': "
        f"invalid UTF-8 or U+0000 became U+FFFD at {losses[0]}{more}",
    )


class _Exact(dict[str, object]):
    """A payload whose JSON text is fit to be sent as it is."""


def _parsed(body: bytes) -> dict[str, object]:
    """The object in `body`, `_Exact` unless its text needs repair. Raises `PayloadError` when it is none."""
    try:
        payload = _decode(body)
        exact = True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The standard library's parser takes broken text, so that `made_plain` can repair it and name its
        # path.
        payload = _parsed_broken(body)
        exact = False
    if not isinstance(payload, dict):
        raise PayloadError("$", "must be a JSON object")
    return _Exact(payload) if exact else payload


def _parsed_broken(body: bytes) -> object:
    def constant(text: str) -> NoReturn:
        raise PayloadError("$", f"{text} is no JSON")

    try:
        text = body.decode("utf-8", "surrogateescape")
        return json.loads(text, parse_float=Decimal, parse_constant=constant)
    except RecursionError as error:
        raise PayloadError("$", "nested too deep") from error
    except ValueError as error:
        raise PayloadError("$", f"is no JSON: {error}") from error


def _utc(moment: datetime) -> str:
    try:
        return timestamp.utc_text(moment)
    except ValueError as error:
        raise PayloadError("$.producer_timestamp", str(error)) from error


def _invalid(name: str, payload: Any, certname: str | None, error: PayloadError) -> InvalidCommand:
    named = payload.get("certname") if isinstance(payload, Mapping) else None
    if named is None:
        named = certname
    return InvalidCommand(name, named if isinstance(named, str) else shown(named), error.path, error.reason)
