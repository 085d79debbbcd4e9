"""HTTP by aiohttp: the faster transport, for asyncio alone. The only module that imports aiohttp.

It is imported when `HTTPTransports` chooses it, and does what `HTTPTransport` does, with the same errors. It takes care
of what aiohttp does otherwise: URLs are sent as they are, since signatures cover them; there are no cookies, and no
credentials from files; what had arrived before a connection broke is told before the error; a connection that is given
up is cut, whatever is still to be written to it.
"""

from __future__ import annotations

import asyncio
import io
import math
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

import aiohttp
import anyio
import yarl
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from trunkline._http.common import CLOSE_LIMIT, DRAIN_LIMIT, KEEP_ALIVE, reason_of, tls_context
from trunkline._urls import redact_url
from trunkline.authoring.provider import ByteStream, Timeouts
from trunkline.authoring.wire import WireRequest
from trunkline.errors import (
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    ProtocolViolation,
    StreamInterrupted,
    TrunklineError,
)

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

VERSION: tuple[int, ...] = tuple(int(number) for number in re.findall(r"\d+", aiohttp.__version__)[:2])
"""The version of aiohttp: major and minor."""

READ_BUFFER = 64 * 1024
"""Bytes of an answer that wait to be read before its connection stands still; aiohttp holds up to twice as many."""

LARGE = 2**20
"""Bytes of a request that are written at once; aiohttp warns of more, which would hold the event loop up."""

HEADER_LIMIT = 64 * 1024
"""The longest status line and the longest header that are read, in bytes."""


class AiohttpTransport:
    """A `Transport` over HTTP/1.1, on asyncio, with one pool of connections.

    `ca_bundle` is the setting of that name.
    """

    def __init__(self, *, ca_bundle: str | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> AiohttpTransport:
        self._tls = None if self._ca_bundle is None else tls_context(self._ca_bundle)
        self._session = aiohttp.ClientSession(
            # Connections are for the application to count: each stream holds one for as long as it is read.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, resolver=aiohttp.ThreadedResolver()),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            skip_auto_headers=("Content-Type",),
            read_bufsize=READ_BUFFER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            with anyio.CancelScope(shield=True):
                await session.close()

    def send(self, wire_request: WireRequest, timeouts: Timeouts) -> AbstractAsyncContextManager[ByteStream]:
        """Send; leaving the context manager closes the answer, and its connection unless all of it was read."""
        assert self._session is not None
        if self._tls is None and wire_request.url.startswith("https:"):
            self._tls = tls_context(None)
        return _Exchange(self._session, self._tls, wire_request, timeouts)


class _StaleConnection(aiohttp.ClientConnectionError):
    """A connection that was kept from an earlier request turned out to be closed, before any byte of an answer."""


class _Response(aiohttp.ClientResponse):
    """A response whose headers have a time limit, and whose connection is cut where they do not come.

    The limit is the request's `sock_read`; it is taken off here, since aiohttp would else set a timer at each read.
    """

    protocol: ResponseHandler

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        self.protocol = protocol
        seconds, protocol.read_timeout = protocol.read_timeout, None
        kept = protocol in _used
        try:
            with anyio.move_on_after(seconds) as scope:
                await super().start(connection)
            if scope.cancelled_caught:
                raise aiohttp.SocketTimeoutError
        except BaseException as error:
            # Closing alone would wait until a request that is half written was taken.
            if transport is not None:
                transport.abort()
            if kept and isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                raise _StaleConnection(str(error)) from error
            raise
        _used.add(protocol)
        _watch(protocol, self)
        return self

    def lost(self) -> None:
        """The connection is closed: whoever reads hears of it."""
        if not self.content.is_eof() and self.content.exception() is None:
            error = self.protocol.exception() or aiohttp.ClientConnectionError("the connection was closed")
            self.content.set_exception(error)


_reading: WeakKeyDictionary[ResponseHandler, _Response] = WeakKeyDictionary()
_used: WeakSet[ResponseHandler] = WeakSet()


def _watch(protocol: ResponseHandler, response: _Response) -> None:
    # aiohttp closes a connection whose answer breaks the rules of HTTP half way, and leaves the reader waiting.
    known = protocol in _reading
    _reading[protocol] = response
    closed = protocol.closed
    if closed is None:
        response.lost()
    elif not known:
        reference = ref(protocol)

        def lost(future: asyncio.Future[None]) -> None:
            if not future.cancelled():
                future.exception()  # known now, so that the event loop does not log it
            protocol = reference()
            if protocol is not None and (reading := _reading.pop(protocol, None)) is not None:
                reading.lost()

        closed.add_done_callback(lost)


class _Exchange:
    """One request and the answer to it."""

    __slots__ = ("_content", "_ended", "_headers", "_request", "_response", "_session", "_timeouts", "_tls")

    def __init__(
        self, session: aiohttp.ClientSession, tls: ssl.SSLContext | None, request: WireRequest, timeouts: Timeouts
    ) -> None:
        self._session = session
        self._tls = tls
        self._request = request
        self._timeouts = timeouts
        self._response: Any = None
        self._content: Any = None
        self._headers: dict[str, str] | None = None
        self._ended = False

    @property
    def status(self) -> int:
        status: int = self._response.status
        return status

    @property
    def headers(self) -> Mapping[str, str]:
        if self._headers is None:
            self._headers = _lower(self._response.headers)
        return self._headers

    async def __aenter__(self) -> ByteStream:
        try:
            try:
                self._response = await self._send()
            except (_StaleConnection, aiohttp.ClientConnectionResetError):
                # That the server closes a connection at leisure says nothing of the request: one more, on another.
                self._response = await self._send()
        except Exception as error:
            raise self._error(error) from None
        self._content = self._response.content
        return self

    async def _send(self) -> aiohttp.ClientResponse:
        request, timeouts = self._request, self._timeouts
        return await self._session.request(
            request.method,
            _url(request.url),
            headers=dict(request.headers),
            data=(io.BytesIO(request.body) if len(request.body) > LARGE else request.body) or None,
            allow_redirects=False,
            ssl=self._tls or True,
            timeout=aiohttp.ClientTimeout(
                connect=timeouts.connect, sock_read=timeouts.headers, ceil_threshold=math.inf
            ),
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._content.is_eof():
            # All of it is here, read or not, and aiohttp has its connection back.
            self._response.close()
            return
        if kind is None and not self._ended:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_LIMIT):
                await self._drain()
        connection = self._response.connection
        transport = None if connection is None else connection.transport
        self._response.close()
        if transport is not None:
            transport.abort()
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)  # the event loop closes the socket

    async def _drain(self) -> None:
        # A connection can be used again once its answer was read to the end. After the terminator that is a few bytes,
        # which have mostly arrived; a server that parks its socket loses it.
        size = 0
        try:
            async for chunk in self:
                size += len(chunk)
                if size > DRAIN_LIMIT:
                    return
        except TrunklineError:
            return

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk: bytes = await self._content.readany()
        except Exception as error:
            if rest := self._rest(error):
                return rest
            self._ended = True
            raise self._error(error) from None
        if chunk:
            return chunk
        self._ended = True
        if (broken := self._broken()) is not None:
            raise self._error(broken) from None
        raise StopAsyncIteration

    def _rest(self, error: Exception) -> bytes:
        # aiohttp tells of a lost connection at once; what had arrived before comes first here.
        content = self._content
        content.set_exception(None)
        rest: bytes = content.read_nowait()
        content.set_exception(error)
        return rest

    def _broken(self) -> BaseException | None:
        # Where the end of the connection is the end of the body, aiohttp takes a reset for it as well.
        headers, error = self._response.headers, self._response.protocol.exception()
        delimited = "Content-Length" in headers or "Transfer-Encoding" in headers or self._content.total_raw_bytes == 0
        return error if isinstance(error, OSError) and not delimited else None

    def _error(self, error: BaseException) -> BaseException:
        """Our error for aiohttp's."""
        where = redact_url(self._request.url)
        reason = self._reason(error)
        before = self._response is None
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ConnectTimeout(f"no connection to {where} within {self._timeouts.connect:g} s")
        if before and isinstance(error, aiohttp.SocketTimeoutError):
            return FirstChunkTimeout(f"no answer from {where} within {self._timeouts.headers:g} s")
        if isinstance(error, ContentEncodingError) or isinstance(error.__cause__, ContentEncodingError):
            return ProtocolViolation(f"the answer of {where} has a broken content encoding: {reason}")
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            return ConfigurationError(f"a request to {where} cannot be sent: {reason}")
        if before and isinstance(error, (aiohttp.ClientError, OSError)):  # a wrong certificate, too: a ValueError
            return ConnectionFailed(f"cannot reach {where}: {reason}")
        if before and isinstance(error, ValueError):
            return ConfigurationError(f"a request to {where} cannot be sent: {reason}")
        if not before and isinstance(error, (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError)):
            return StreamInterrupted(f"the connection to {where} was lost: {reason}")
        return error

    def _reason(self, error: BaseException) -> str:
        # What aiohttp says holds the whole URL in places, with what may be secret in it.
        if isinstance(error, aiohttp.ClientConnectorError):
            return reason_of(error.os_error)
        if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
            return error.message.partition("\n")[0].rstrip(":")  # the other lines show bytes of the answer
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            return "no valid HTTP URL"
        return reason_of(error).replace(self._request.url, redact_url(self._request.url))


def _url(url: str) -> yarl.URL:
    # As it is where it can be: yarl would write the path anew, and a signature covers the path.
    return yarl.URL(url, encoded=url.isascii() and " " not in url)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    lower: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        if not value.isascii():
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        lower[name] = f"{lower[name]}, {value}" if name in lower else value
    return lower
