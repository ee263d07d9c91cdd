"""Commands to one PuppetDB from an event loop: what `Session.submit` does, without a thread for each.

A gateway's command goes from one client to one server. In a thread it would cost twice the time of the processor,
most of it for handing over. Everything else stays with `Session`: rules, limits and errors are the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from aiohttp.streams import StreamReader
from requests.structures import CaseInsensitiveDict

from pdbclient.errors import Ambiguous, DeadlineExceeded, IncompleteResponse, NotSent, ServerError
from pdbclient.http.connection import POOL_SIZE, Trace
from pdbclient.http.link import Link
from pdbclient.http.outcome import Operation, error_for_status
from pdbclient.http.session import DOCUMENT_LIMIT, ERROR_BODY_LIMIT, Session
from pdbclient.http.stream import MalformedJson, decode_document
from pdbclient.http.via import sent_on
from pdbclient.wire.command import Command

__all__ = ["AsyncSession"]

_HEADERS = (
    "Accept: application/json\r\nAccept-Encoding: gzip\r\nUser-Agent: pdbclient\r\n"
    "Content-Type: application/json; charset=utf-8\r\n"
)
_INTERIM = (100, 102, 103)


class AsyncSession(Session):
    """A `Session` whose commands can also go out from a coroutine, on connections of their own."""

    def _open(self) -> None:
        super()._open()
        self._idle: list[Link] = []

    def close(self) -> None:
        """Close the idle connections; one in use is closed after its exchange."""
        super().close()
        idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    async def post(self, command: Command, within: float) -> str:
        """As `submit`, from the one event loop that uses this session."""
        request = self._request(command)
        trace = Trace(time.monotonic() + within, self._timeouts.read)
        try:
            answer = await self._exchange(request, trace)
        except Ambiguous as error:
            if trace.connected or isinstance(error, DeadlineExceeded):
                raise
            # It was an idle connection, which the server may have closed by itself.
            trace = Trace(trace.deadline, trace.inactivity, fresh=True)
            try:
                answer = await self._exchange(request, trace)
            except NotSent as again:
                again.maybe_sent = True
                raise
        return self._uuid(answer)

    def _request(self, command: Command) -> bytes:
        """Head and body, which leave in one write."""
        encoding = "" if command.encoding == "identity" else f"Content-Encoding: {command.encoding}\r\n"
        via = "".join(f"{name}: {value}\r\n" for name, value in sent_on(self.gateway).items())
        head = (
            f"POST /pdb/cmd/v1?{urlencode(command.params())} HTTP/1.1\r\n"
            f"Host: {self._url.partition('//')[2]}\r\n{_HEADERS}{encoding}{via}"
            f"X-Uncompressed-Length: {command.length}\r\nContent-Length: {len(command.body)}\r\n\r\n"
        )
        return head.encode("ascii") + command.body

    async def _exchange(self, request: bytes, trace: Trace) -> _Answer:
        """One request and its answer, the whole of it."""
        pool, link, answer = self._idle, None, _Answer()
        try:
            link = await self._link(trace)
            trace.sending = True
            whole = await self._sent(link, request, trace)
            while not answer.began:
                answer.feed(await link.receive(trace.inactivity, trace.deadline))
            await self._rest(link, trace, answer)
            if whole and answer.reusable and pool is self._idle and len(pool) < POOL_SIZE:
                pool.append(link)
                link = None
            return answer
        except (OSError, UnicodeError) as error:
            raise self._transport_error(error, trace) from error
        finally:
            if link is not None:
                link.close()

    async def _link(self, trace: Trace) -> Link:
        while self._idle and not trace.fresh:
            link = self._idle.pop()
            if not link.dropped:
                return link
            link.close()
        trace.connected = True
        limit = min(self._timeouts.connect, max(trace.deadline - time.monotonic(), 0.001))
        return await Link.open(self.endpoint.host, self.endpoint.port, self._context, limit)

    async def _sent(self, link: Link, request: bytes, trace: Trace) -> bool:
        """Whether the server took all of the request. When it did not, it may have said why: a 413, say."""
        try:
            await link.send(request, trace.inactivity, trace.deadline)
        except TimeoutError:
            raise
        except OSError:
            return False
        return True

    async def _rest(self, link: Link, trace: Trace, answer: _Answer) -> None:
        limit = DOCUMENT_LIMIT if answer.status == 200 else ERROR_BODY_LIMIT
        try:
            while not answer.complete and answer.size <= limit:
                answer.feed(await link.receive(trace.inactivity, trace.deadline))
        except OSError as error:
            if answer.status != 200:
                # The status is the answer; its explanation got lost.
                answer.lose_body()
            elif isinstance(error, TimeoutError):
                raise DeadlineExceeded(self._url, "the answer stopped, or took longer than allowed") from error
            else:
                raise IncompleteResponse(self._url, f"the answer broke off: {error}") from error

    def _uuid(self, answer: _Answer) -> str:
        if answer.status != 200:
            raise self._status_error(answer)
        if not answer.complete:
            raise IncompleteResponse(self._url, f"an answer of more than {DOCUMENT_LIMIT} bytes")
        try:
            document = decode_document(answer.body)
        except MalformedJson as error:
            raise IncompleteResponse(self._url, str(error)) from error
        uuid = document.get("uuid") if isinstance(document, dict) else None
        if not isinstance(uuid, str):
            raise IncompleteResponse(self._url, "answered 200 to a command, but without a uuid")
        return uuid

    def _status_error(self, answer: _Answer) -> ServerError:
        body = answer.body[:ERROR_BODY_LIMIT]
        error = error_for_status(self._url, answer.status, answer.headers, body, Operation.COMMAND)
        assert error is not None, answer.status
        error.headers, error.body = answer.headers, body
        return error


class _Answer:
    """An answer as it comes in. aiohttp parses it, and takes this for the connection whose pace it sets."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self, loop, DOCUMENT_LIMIT, read_until_eof=True)  # type: ignore[arg-type]
        self._message: RawResponseMessage | None = None
        self._payload: StreamReader | None = None
        self._reusable = True

    def feed(self, data: bytes) -> None:
        """Take what was received; nothing means that the server has closed. Raises `ConnectionError` for no HTTP."""
        broken = ""
        try:
            if data:
                self._take(self._parser.feed_data(data)[0])
            elif self._message is None:
                broken = "Remote end closed connection without response"
            else:
                self._reusable = False
                self._parser.feed_eof()
            if self._payload is not None and (error := self._payload.exception()) is not None:
                broken = str(error)
        except HttpProcessingError as error:
            broken = error.message
        if broken:
            raise ConnectionError(" ".join(broken.split())[:200])

    def _take(self, messages: Sequence[tuple[RawResponseMessage, StreamReader]]) -> None:
        for message, payload in messages:
            if message.code in _INTERIM:
                continue
            if self._message is None:
                self._message, self._payload = message, payload
            # A second answer, to what nobody asked, is not for the next request.
            self._reusable = message is self._message and not message.should_close

    @property
    def began(self) -> bool:
        """Whether the status and the headers are there."""
        return self._message is not None

    @property
    def complete(self) -> bool:
        """Whether the body is there, too."""
        return self._payload is not None and self._payload.is_eof()

    @property
    def reusable(self) -> bool:
        """Whether the next request may go over the same connection."""
        return self.complete and self._reusable

    @property
    def status(self) -> int:
        """The status of what has begun."""
        assert self._message is not None
        return self._message.code

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of what has begun; names in any case, those given twice joined."""
        assert self._message is not None
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
        for name, value in self._message.headers.items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    @property
    def size(self) -> int:
        """Bytes of the body so far."""
        return 0 if self._payload is None else self._payload.total_bytes

    @property
    def body(self) -> bytes:
        """The body so far, decompressed; to be taken once."""
        return b"" if self._payload is None else self._payload.read_nowait()

    def lose_body(self) -> None:
        """Forget the body: it broke off."""
        self._payload = None

    def pause_reading(self) -> None:
        """For the parser, which is never given so much that it would need this."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """As `pause_reading`."""
