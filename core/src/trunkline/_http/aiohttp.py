"""The HTTP transport of aiohttp: faster than that of httpx2, for asyncio only. The only module that imports aiohttp.

It behaves as `HTTPTransport` does and raises the same errors. Where aiohttp behaves differently by default, this module
changes that:

- URLs are sent unchanged, since signatures cover them; aiohttp would normalise the path.
- There are no cookies, and no credentials from `.netrc`.
- Bytes that arrived before a connection broke are returned before the error is raised; aiohttp drops them.
- A connection that is given up is aborted, even while a request is still being written. `close` would wait for that.
- A connection that breaks the rules of HTTP in the middle of a body ends the read; aiohttp would wait for ever.

**Names that aiohttp does not document.** They have no other way to be reached. `test_core_dependencies.py` checks each
of them against the installed version, and the extra `aiohttp` caps the version:

- `ClientResponse.start(connection)`, which reads the headers, is overridden. `response_class` passes the subclass in.
- `connection.protocol`, a `ResponseHandler`, with `read_timeout`, `exception()` and `closed` (a future); and
  `connection.transport`, the asyncio transport, for `abort()`.
- `response.content`, a `StreamReader`, with `exception()`, `set_exception()`, `read_nowait()`, `total_raw_bytes`.
- `aiohttp.http_exceptions`, for errors that reach the reader of a body unwrapped.
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

from trunkline._http.common import CLOSE_LIMIT, DRAIN_LIMIT, IDLE_SECONDS, reason_of, tls_context
from trunkline._urls import redact_url
from trunkline.authoring.provider import ByteStream, Timeouts
from trunkline.authoring.wire import LowerHeaders, WireRequest
from trunkline.errors import (
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    ProtocolViolation,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.secrets import Headers

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection

VERSION: tuple[int, ...] = tuple(int(number) for number in re.findall(r"\d+", aiohttp.__version__)[:2])
"""The major and minor version of aiohttp."""

READ_BUFFER = 64 * 1024
"""The number of unread bytes of a body at which aiohttp pauses the connection; it may buffer up to twice as many."""

LARGE_BODY = 2**20
"""Request bodies with more bytes are sent as a file, in pieces. aiohttp warns about writing them at once."""

HEADER_LIMIT = 64 * 1024
"""The longest status line and the longest header to accept, in bytes."""


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
            # `limit=0` is no limit: each open stream holds a connection, so a limit would let streams that the
            # application reads slowly block its other calls.
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=IDLE_SECONDS, resolver=aiohttp.ThreadedResolver()
            ),
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
        """Send a request. Leaving the context manager closes the response; see `_Exchange`."""
        assert self._session is not None
        if self._tls is None and wire_request.url.startswith("https:"):
            self._tls = tls_context(None)
        return _Exchange(self._session, self._tls, wire_request, timeouts)


class _StaleConnection(aiohttp.ClientConnectionError):
    """An idle connection of the pool was closed by the server before any byte of the response arrived."""


class _Response(aiohttp.ClientResponse):
    """A response with a time limit for its headers.

    The limit is the request's `sock_read`. `start` applies it to the headers and removes it from the protocol, since
    aiohttp would restart a timer for each chunk of the body.
    """

    protocol: ResponseHandler

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        self.protocol = protocol
        seconds, protocol.read_timeout = protocol.read_timeout, None
        reused = protocol in _used
        try:
            with anyio.move_on_after(seconds) as scope:
                await super().start(connection)
            if scope.cancelled_caught:
                raise aiohttp.SocketTimeoutError
        except BaseException as error:
            # Closing would wait until the server has taken the rest of a request that is still being written.
            if transport is not None:
                transport.abort()
            if reused and isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                raise _StaleConnection(str(error)) from error
            raise
        _used.add(protocol)
        _watch_connection(protocol, self)
        return self

    def connection_closed(self) -> None:
        """Raise an error in the pending and every later read, unless the body is complete."""
        if not self.content.is_eof() and self.content.exception() is None:
            error = self.protocol.exception() or aiohttp.ClientConnectionError("the connection was closed")
            self.content.set_exception(error)


# The response that is being read on each connection, and the connections that had at least one response. Both are weak:
# aiohttp decides how long a connection lives.
_reading: WeakKeyDictionary[ResponseHandler, _Response] = WeakKeyDictionary()
_used: WeakSet[ResponseHandler] = WeakSet()


def _watch_connection(protocol: ResponseHandler, response: _Response) -> None:
    """Call `response.connection_closed` when its connection closes.

    If a body breaks the rules of HTTP (a wrong chunk size, say), aiohttp closes the connection but does not wake the
    reader. A connection serves many responses; the callback is added once, and looks up the current one.
    """
    watched = protocol in _reading
    _reading[protocol] = response
    closed = protocol.closed
    if closed is None:
        # The connection closed between the headers and this line.
        response.connection_closed()
    elif not watched:
        # The future belongs to the protocol. A strong reference in its callback would be a cycle.
        reference = ref(protocol)

        def on_close(future: asyncio.Future[None]) -> None:
            if not future.cancelled():
                future.exception()  # marks it as retrieved; otherwise the event loop logs it
            protocol = reference()
            if protocol is not None and (reading := _reading.pop(protocol, None)) is not None:
                reading.connection_closed()

        closed.add_done_callback(on_close)


class _Exchange:
    """One request and its response, as an async context manager and an async iterator over the body.

    The life of an exchange is that of `_Exchange` in `_http/httpx2.py`, with these differences:

    - aiohttp takes a connection back as soon as the end of the body has arrived, even if nobody has read it yet. So if
      the body is complete, leaving the block has nothing to close.
    - A connection that is given up is aborted: nothing that is still to be written is waited for.
    - If a reused connection turns out to be closed before any byte of the response, the request is sent once more. The
      server may have closed an idle connection while the request was on its way, which says nothing about the request.
    """

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
        self._headers: Headers | None = None
        self._ended = False

    @property
    def status(self) -> int:
        status: int = self._response.status
        return status

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = _decode_headers(self._response.headers)
        return self._headers

    async def __aenter__(self) -> ByteStream:
        try:
            try:
                self._response = await self._send()
            except (_StaleConnection, aiohttp.ClientConnectionResetError):
                # The server may have closed an idle connection before it read the request; retry once.
                self._response = await self._send()
        except Exception as error:
            raise self._translate_error(error) from None
        self._content = self._response.content
        return self

    async def _send(self) -> aiohttp.ClientResponse:
        request, timeouts = self._request, self._timeouts
        return await self._session.request(
            request.method,
            _url(request.url),
            headers=dict(request.headers),
            data=(io.BytesIO(request.body) if len(request.body) > LARGE_BODY else request.body) or None,
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
            # The whole body has arrived, read or not, and the connection is back in the pool.
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
                await asyncio.sleep(0)  # `abort` only schedules closing the socket; let the event loop do it

    async def _drain(self) -> None:
        """Read the rest of the body, up to `DRAIN_LIMIT` bytes, so that the connection can be used again."""
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
            if rest := self._buffered(error):
                return rest
            self._ended = True
            raise self._translate_error(error) from None
        if chunk:
            return chunk
        self._ended = True
        if (reset := self._reset_at_end()) is not None:
            raise self._translate_error(reset) from None
        raise StopAsyncIteration

    def _buffered(self, error: Exception) -> bytes:
        """Return the bytes that arrived before the connection broke.

        A broken connection sets an exception on the stream, which `readany` raises although the buffer may hold bytes.
        Without the exception they can be read. Setting it again makes the next read raise it.
        """
        content = self._content
        content.set_exception(None)
        rest: bytes = content.read_nowait()
        content.set_exception(error)
        return rest

    def _reset_at_end(self) -> BaseException | None:
        """Return the error of a connection that was reset where its end would be the end of the body.

        A body without a length ends when the server closes the connection. aiohttp treats a reset as such an end, which
        would make a truncated response look complete.
        """
        headers, error = self._response.headers, self._response.protocol.exception()
        delimited = "Content-Length" in headers or "Transfer-Encoding" in headers or self._content.total_raw_bytes == 0
        return error if isinstance(error, OSError) and not delimited else None

    def _translate_error(self, error: BaseException) -> BaseException:
        """Return our error for one of aiohttp's."""
        url = redact_url(self._request.url)
        reason = self._reason(error)
        before = self._response is None
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ConnectTimeout(f"no connection to {url} within {self._timeouts.connect:g} s")
        if before and isinstance(error, aiohttp.SocketTimeoutError):
            return FirstChunkTimeout(f"no response from {url} within {self._timeouts.headers:g} s")
        if isinstance(error, ContentEncodingError) or isinstance(error.__cause__, ContentEncodingError):
            return ProtocolViolation(f"the response from {url} cannot be decompressed: {reason}")
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            return ConfigurationError(f"a request to {url} cannot be sent: {reason}")
        # Before the check for ValueError, since the error for a wrong certificate is a ValueError as well.
        if before and isinstance(error, (aiohttp.ClientError, OSError)):
            return ConnectionFailed(f"cannot reach {url}: {reason}")
        if before and isinstance(error, ValueError):
            return ConfigurationError(f"a request to {url} cannot be sent: {reason}")
        if not before and isinstance(error, (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError)):
            return StreamInterrupted(f"the connection to {url} was lost: {reason}")
        return error

    def _reason(self, error: BaseException) -> str:
        """Return the text of an error without secrets: some of aiohttp's errors contain the URL with its query."""
        if isinstance(error, aiohttp.ClientConnectorError):
            return reason_of(error.os_error)
        if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
            return error.message.partition("\n")[0].rstrip(":")  # further lines quote bytes of the response
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            return "not a valid HTTP URL"
        return reason_of(error).replace(self._request.url, redact_url(self._request.url))


def _url(url: str) -> yarl.URL:
    # `encoded=True` leaves the URL unchanged. yarl would normalise the path otherwise, which a signature covers.
    return yarl.URL(url, encoded=url.isascii() and " " not in url)


def _decode_headers(headers: Mapping[str, str]) -> Headers:
    """Return the headers with names in lower case; repeated ones are joined with a comma (RFC 9110, section 5.3)."""
    lower: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        if not value.isascii():  # aiohttp decodes bytes that are not UTF-8 to surrogates
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        lower[name] = f"{lower[name]}, {value}" if name in lower else value
    return LowerHeaders(lower)
