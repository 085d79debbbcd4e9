"""The HTTP transport of aiohttp: faster than that of httpx2, for asyncio only. The only module that imports aiohttp.

It behaves as `HTTPTransport` does and raises the same errors. Where aiohttp behaves differently by default, this module
changes that:

- URLs are sent unchanged, since signatures cover them; aiohttp would normalise the path.
- There are no cookies, and no credentials from `.netrc`.
- aiohttp does not send a request again. This module does, on a new connection, where `SendOptions` allows it.
- Bodies are decompressed by `_http/decoding.py`, so both libraries ask for the same encodings and report the same
  errors.
- Bytes that arrived before a connection broke are returned before the error is raised; aiohttp drops them.
- A connection that is given up is aborted, even while a request is still being written. `close` would wait for that.
- A connection that breaks the rules of HTTP in the middle of a body ends the read; aiohttp would wait for ever.
- A connection on which bytes have arrived behind a response is not used again (see `_http/unsolicited.py`). aiohttp
  takes what arrives while a connection is idle for the next response. It also loses a complete response if the bytes
  behind it came with it and are not HTTP.

**Names that aiohttp does not document.** They have no other way to be reached. `test_core_dependencies.py` checks each
of them against the installed version, and the extra `aiohttp` caps the version:

- `ClientResponse.start(connection)`, which reads the headers, `ClientRequest.send(connection)`,
  `ClientRequest.write_bytes(writer, connection, length)`, which `send` starts as a task if there is a body, and
  `BaseConnector.connect(request, traces, timeout)` are overridden. `response_class` and `request_class` pass the first
  three in.
- `ClientSession._retry_connection`, which is set to `False`.
- `UnixConnector._create_connection(request, traces, timeout)` is overridden; `BaseConnector._factory` makes a protocol.
- `BaseConnector._conns`, the idle connections by address, and `ResponseHandler.abort()`.
- `ResponseHandler.data_received(data)` and `connection_lost(error)` are replaced on an instance while the head of a
  response is awaited.
- `ResponseHandler._parser`, the parser of a connection, whose `feed_eof` returns a response that has begun.
- `ResponseHandler.should_close`, which is true if a response waits that nobody has asked for, and `force_close()`.
- `connection.protocol`, a `ResponseHandler`, with `read_timeout`, `exception()` and `closed` (a future); and
  `connection.transport`, the asyncio transport, for `abort()`.
- `response.content`, a `StreamReader`, with `exception()`, `set_exception()`, `read_nowait()`, `total_raw_bytes`.
- `aiohttp.http_exceptions`, for errors that reach the reader of a body unwrapped.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import cache
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

import aiohttp
import anyio
import yarl
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from trunkline._http.common import (
    CLOSE_LIMIT,
    DRAIN_LIMIT,
    END_OF_HEAD,
    IDLE_SECONDS,
    MAX_HEAD_SIZE,
    ConnectionOptions,
    broke_at_once,
    check_request_headers,
    content_encoding,
    default_headers,
    keepalive_options,
    unknown_encoding,
)
from trunkline._http.decoding import Decompressed, Undecodable
from trunkline._http.decompression import DecodingError, supported
from trunkline._http.early_answers import LARGE_WRITE, WRITE_SIZE, UnreadBytes, read_first
from trunkline._http.failures import (
    BAD_NAME,
    CLOSED,
    CUT,
    INVALID,
    REUSED,
    TOO_LARGE,
    interrupted,
    is_name_error,
    no_response,
    not_decodable,
)
from trunkline._http.framing_headers import with_one_length
from trunkline._http.proxies import Proxies
from trunkline._http.tls import has_own_files, tls_context
from trunkline._http.unix_sockets import connect, unix_target
from trunkline._http.unsolicited import is_readable
from trunkline._urls import redact_url
from trunkline.authoring.provider import ByteStream, SendOptions
from trunkline.authoring.wire import LowerHeaders, WireRequest
from trunkline.errors import (
    ConfigurationError,
    ConnectTimeout,
    FirstChunkTimeout,
    TrunklineError,
)
from trunkline.secrets import Headers

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter, ResolveResult
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

VERSION: tuple[int, ...] = tuple(int(number) for number in re.findall(r"\d+", aiohttp.__version__)[:2])
"""The major and minor version of aiohttp."""

READ_BUFFER = 64 * 1024
"""The number of unread bytes of a body at which aiohttp pauses the connection; it may buffer up to twice as many."""

HEADER_LIMIT = 64 * 1024
"""The longest status line and the longest header to accept, in bytes."""


class AiohttpTransport:
    """A `Transport` over HTTP/1.1, on asyncio, with one pool of connections. It refuses addresses that need a proxy."""

    def __init__(self, options: ConnectionOptions | None = None) -> None:
        self._options = options or ConnectionOptions()
        self._proxies = Proxies(self._options.proxy)
        self._tls: ssl.SSLContext | None = None
        self._sessions: dict[tuple[str | None, bool], aiohttp.ClientSession] = {}

    async def __aenter__(self) -> AiohttpTransport:
        # The files in the settings are read now, so that a wrong one is reported now. Loading the system's certificates
        # takes long, so that is done when they are needed.
        self._tls = tls_context(self._options) if has_own_files(self._options) else None
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        sessions, self._sessions = list(self._sessions.values()), {}
        # The stack closes the other sessions even if `Task.cancel`, which no shield stops, interrupts closing one.
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as closing:
                for session in sessions:
                    closing.push_async_callback(session.close)

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        """Send a request. Leaving the context manager closes the response; see `_Exchange`."""
        return _Exchange(self, wire_request, options)

    def refuse_proxy(self, url: yarl.URL) -> None:
        """Raise `ConfigurationError` if requests to a URL need a proxy, which only httpx2 supports."""
        proxy = self._proxies.find(url.scheme, url.raw_host or "", url.port or 0)
        if proxy is not None:
            raise ConfigurationError(
                f"setting 'http_library' is 'aiohttp', which does not use {proxy}: set it to 'auto'",
                setting="http_library",
            )

    def tls(self, url: str) -> ssl.SSLContext | None:
        """Return the TLS context for requests to a URL. Raises `ConfigurationError` for a file that cannot be used."""
        if self._tls is None and url.startswith("https:"):
            self._tls = tls_context(self._options)
        return self._tls

    def session(self, unix_socket: str | None, *, keeps: bool = True) -> aiohttp.ClientSession:
        """Return the session for TCP or for a Unix socket. One that does not keep connections opens one a request."""
        session = self._sessions.get((unix_socket, keeps))
        if session is None:
            session = self._sessions[unix_socket, keeps] = self._make_session(unix_socket, keeps)
        return session

    def _make_session(self, unix_socket: str | None, keeps: bool) -> aiohttp.ClientSession:
        # `limit=0` is no limit: each open stream holds a connection, so a limit would let streams that the application
        # reads slowly block its other calls.
        options: dict[str, Any] = {
            "limit": 0,
            **({"keepalive_timeout": IDLE_SECONDS} if keeps else {"force_close": True}),
        }
        connector: aiohttp.BaseConnector
        if unix_socket is not None:
            connector = _UnixConnector(unix_socket, **options)
        else:
            socket_options = keepalive_options(self._options.tcp_keepalive)

            def make_socket(address: aiohttp.AddrInfoType) -> socket.socket:
                family, kind, protocol = address[:3]
                made = socket.socket(family=family, type=kind, proto=protocol)
                for option in socket_options:
                    made.setsockopt(*option)
                return made

            connector = _TCPConnector(
                resolver=_Resolver(), socket_factory=make_socket if socket_options else None, **options
            )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_Request,
            response_class=_Response,
            skip_auto_headers=("Content-Type",),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=MAX_HEAD_SIZE,  # their size is limited, not their number, which is 128 by default
        )
        session._retry_connection = False  # it would send GET again, even where `max_retries` is 0
        return session


class _StaleConnection(aiohttp.ClientConnectionError):
    """A reused connection was closed by the server before any byte of the response arrived.

    `at_once` says whether it broke so soon that the server has not read the request; see `RESEND_SECONDS`.
    """

    is_sent = True
    """Whether a byte of the request was written."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once
        self.add_note(REUSED)


class _UnsolicitedBytes(_StaleConnection):
    """Bytes have arrived on an idle connection, or its end, before the request was written to it."""

    is_sent = False

    def __init__(self) -> None:
        super().__init__(at_once=True)


class _Connector(aiohttp.BaseConnector):
    """Takes no idle connection that the server has closed, or on which it has sent something."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None
            if not _is_stale(protocol):
                return connection
            connection.close()


class _Resolver(aiohttp.ThreadedResolver):
    """Raises an error if a name has no address. aiohttp would raise `StopIteration`."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "it has no address")
        return found


class _TCPConnector(_Connector, aiohttp.TCPConnector):
    pass


class _UnixConnector(_Connector, aiohttp.UnixConnector):
    """Waits if the queue of the server's socket is full. asyncio would take the socket for connected."""

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        _, protocol = await self._loop.create_unix_connection(self._factory, sock=await connect(self.path))
        return protocol


def _is_stale(protocol: ResponseHandler) -> bool:
    """Whether the server has closed a connection since its last response, or has sent something on it."""
    if protocol not in _used:
        return False
    return not protocol.is_connected() or _has_data(protocol) or _is_readable(protocol.transport)


def _has_data(protocol: ResponseHandler) -> bool:
    """Whether bytes have arrived behind the last response, and the event loop has received them.

    They have been parsed: a complete response waits in the protocol, and an incomplete one in the parser.
    """
    parser: Any = protocol._parser
    if protocol.should_close or parser is None:
        return True
    try:
        # With bytes that are not a response, the parser that is written in Python returns nothing and keeps them.
        return parser.feed_eof() is not None or bool(getattr(parser, "_tail", b""))
    except Exception:
        return True


def _is_readable(transport: asyncio.Transport | None) -> bool:
    found = None if transport is None else transport.get_extra_info("socket")
    return found is not None and is_readable(found)


class _LargeBody(aiohttp.Payload):
    """A body that is written in pieces, so that a response is noticed meanwhile; see `_http/early_answers.py`."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        body: bytes = self._value
        return body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        transport: asyncio.Transport | None = getattr(writer, "transport", None)
        socket = None if transport is None else transport.get_extra_info("socket")
        pieces = memoryview(self._value)
        for start in range(0, len(pieces), WRITE_SIZE):
            if start:  # `_Request.write_bytes` has just looked
                await read_first(socket)
            await writer.write(bytes(pieces[start : start + WRITE_SIZE]))


class _Request(aiohttp.ClientRequest):
    """A request that is not written to a connection which stopped being idle after the connector chose it.

    aiohttp writes a body, and the headers with it, in a task, which may start in a later turn of the event loop; other
    tasks may hold that up. So the check of the connector is repeated right before the first byte is written: there is
    no `await` in between.
    """

    is_written = False

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        assert protocol is not None
        reused = protocol in _used
        if not self.body and _is_stale(protocol):
            raise _UnsolicitedBytes
        sent_at = monotonic()
        try:
            response = await super().send(conn)
        except aiohttp.ClientConnectionResetError as error:
            if reused:
                raise _StaleConnection(at_once=broke_at_once(sent_at)) from error
            raise
        if isinstance(response, _Response):
            response.is_upload = isinstance(self.body, _LargeBody)
            response.is_request_written = self.is_written or not self.body
        return response

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        if isinstance(self.body, _LargeBody):
            # Since Python 3.12, aiohttp starts this before it has a response. A refusal could arrive, and the
            # connection be reset, before anything reads it.
            await asyncio.sleep(0)
        protocol = conn.protocol
        response: object = self.response  # since Python 3.12, this runs before there is one
        head = response.head if isinstance(response, _Response) else None
        has_begun = protocol in _used and head is not None and head.answered
        if protocol is not None and (has_begun or _is_stale(protocol)):
            protocol.abort()
            # Wakes `_Response.start`, unless a response has arrived.
            protocol.set_exception(_UnsolicitedBytes())
            return
        self.is_written = True
        if isinstance(response, _Response):
            response.is_request_written = True
        await super().write_bytes(writer, conn, content_length)


class _Response(aiohttp.ClientResponse):
    """A response with a time limit for its headers.

    The limit is the request's `sock_read`. `start` applies it to the headers and removes it from the protocol, since
    aiohttp would restart a timer for each chunk of the body.
    """

    protocol: ResponseHandler
    is_upload = False
    """Whether the request has a large body."""
    is_request_written = True
    head: _HeadReader | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        self.protocol = protocol
        seconds, protocol.read_timeout = protocol.read_timeout, None
        reused, sent_at = protocol in _used, monotonic()
        head = None
        if transport is not None:
            head = self.head = _HeadReader(protocol, transport, is_upload=self.is_upload)
        try:
            with anyio.move_on_after(seconds) as scope:
                await super().start(connection)
            if scope.cancelled_caught:
                raise aiohttp.SocketTimeoutError
            if reused and not self.is_request_written:
                raise _UnsolicitedBytes  # the response was there before the request
            if self.status == 101:
                # The request asked for no other protocol, so nothing valid can follow. httpcore2 refuses it as well.
                raise HttpProcessingError(message="unexpected status 101")
        except BaseException as error:
            # Closing would wait until the server has taken the rest of a request that is still being written.
            if transport is not None:
                transport.abort()
            broken = isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
            if broken and reused and not self.is_request_written:
                raise _UnsolicitedBytes from error
            if broken and reused and head is not None and not head.answered:
                raise _StaleConnection(at_once=broke_at_once(sent_at)) from error
            raise
        finally:
            if head is not None:
                head.close()
                self.head = None
        _used.add(protocol)
        _watch_connection(protocol, self)
        return self

    def connection_closed(self) -> None:
        """Raise an error in the pending and every later read, unless the body is complete."""
        if not self.content.is_eof() and self.content.exception() is None:
            error = self.protocol.exception() or aiohttp.ClientConnectionError("the connection was closed")
            self.content.set_exception(error)


# The response that is being read on each connection, and the connections that had at least one response. Both are weak:
# aiohttp decides how long a connection lives. A response holds its connection, so the dictionary must not hold it.
_reading: WeakKeyDictionary[ResponseHandler, ref[_Response]] = WeakKeyDictionary()
_used: WeakSet[ResponseHandler] = WeakSet()


_START = b"HTTP/"


class _HeadReader:
    """Passes the complete head of a response on to aiohttp, separately from its body and without interim responses.

    If a body breaks the rules of HTTP, or what follows it does, aiohttp drops everything that it parsed from the same
    bytes, also the status. A head that states the length of the body twice is changed; see `_http/framing_headers.py`.
    `close` must be called when the head has been read: the body is received by aiohttp alone.
    """

    def __init__(self, protocol: ResponseHandler, transport: asyncio.Transport, *, is_upload: bool) -> None:
        self._protocol = protocol
        self._transport = transport
        self._receive = protocol.data_received
        self._head = bytearray()
        self._size = 0  # of all heads, also of interim responses
        self.answered = False
        """Whether a byte has arrived."""
        self._unread: UnreadBytes | None = None
        if is_upload and transport.get_extra_info("sslcontext") is None:
            self._unread = UnreadBytes(transport.get_extra_info("socket"))
            vars(protocol)["connection_lost"] = self._connection_lost
        vars(protocol)["data_received"] = self._data_received
        transport.set_protocol(protocol)  # uvloop looks the method up only here

    def close(self) -> None:
        vars(self._protocol).pop("connection_lost", None)
        if self._unread is not None:
            self._unread.close()
        if vars(self._protocol).pop("data_received", None) is not None and not self._transport.is_closing():
            self._transport.set_protocol(self._protocol)

    def _connection_lost(self, error: Exception | None) -> None:
        if self._unread is not None and error is not None and (data := self._unread.read()):
            self._data_received(data)
        type(self._protocol).connection_lost(self._protocol, error)

    def _data_received(self, data: bytes) -> None:
        self.answered = True
        head = self._head
        while data:
            before = len(head)
            head += data
            if not head.startswith(_START[: len(head)]):
                self.close()
                self._receive(bytes(head))  # aiohttp raises the error
                return
            found = END_OF_HEAD.search(head, max(0, before - 2))
            end = len(head) if found is None else found.end()
            self._size += end - before
            if self._size > MAX_HEAD_SIZE:
                self._transport.abort()
                self._protocol.set_exception(LineTooLong("", MAX_HEAD_SIZE))
                return
            if found is None:
                return
            del found  # which keeps `head` from being cleared
            complete, data = bytes(head[:end]), data[end - before :]
            head.clear()
            if complete[9:10] == b"1" and complete[9:12] != b"101":
                continue  # aiohttp would take the headers of an interim response for those of the connection
            checked = with_one_length(complete)
            if checked != complete:
                self._protocol.force_close()  # after this response
            self._receive(checked)
            self.close()
            if data:
                self._receive(data)
            return


def _watch_connection(protocol: ResponseHandler, response: _Response) -> None:
    """Call `response.connection_closed` when its connection closes.

    If a body breaks the rules of HTTP (a wrong chunk size, say), aiohttp closes the connection but does not wake the
    reader. A connection serves many responses; the callback is added once, and looks up the current one.
    """
    watched = protocol in _reading
    _reading[protocol] = ref(response)
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
            current = None if protocol is None else _reading.pop(protocol, None)
            response = None if current is None else current()
            if response is not None:
                response.connection_closed()

        closed.add_done_callback(on_close)


class _Exchange:
    """One request and its response, as an async context manager and an async iterator over the body.

    The life of an exchange is that of `_Exchange` in `_http/httpx2.py`, with these differences:

    - aiohttp takes a connection back as soon as the end of the body has arrived, even if nobody has read it yet. So if
      the body is complete, leaving the block has nothing to close.
    - A connection that is given up is aborted: nothing that is still to be written is waited for.
    """

    __slots__ = ("_chunks", "_content", "_ended", "_headers", "_options", "_request", "_response", "_transport")

    def __init__(self, transport: AiohttpTransport, request: WireRequest, options: SendOptions) -> None:
        self._transport = transport
        self._request = request
        self._options = options
        self._response: Any = None
        self._content: Any = None
        self._chunks: AsyncIterator[bytes] = self
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
        check_request_headers(self._request.headers, self._request.url)
        failed: BaseException | None = None
        try:
            await self._open()
        except Exception as error:
            failed = self._translate_error(error)
        if failed is not None:
            raise failed
        return self

    async def _open(self) -> None:
        unix = unix_target(self._request.url)
        path, url = (None, self._request.url) if unix is None else unix
        target = _url(url)
        if path is None:
            self._transport.refuse_proxy(target)
        session, tls = self._transport.session(path), self._transport.tls(url)
        try:
            response = await self._send(session, target, tls)
        except _StaleConnection as error:
            # Where one idle connection is closed, the others to that server often are as well: it was restarted, or a
            # load balancer leads elsewhere now.
            _close_idle(session, target)
            if error.is_sent and not (self._options.resend and error.at_once):
                raise
            response = await self._send(self._transport.session(path, keeps=False), target, tls)
        self._response, self._content = response, response.content
        encoding = content_encoding(", ".join(response.headers.getall("Content-Encoding", ())))
        if not encoding:
            return
        unknown = unknown_encoding(encoding, frozenset(supported()))
        if unknown is not None:
            self._chunks = Undecodable(self._request.url, unknown)
        else:
            self._chunks = self._decompress(encoding)

    async def _send(
        self, session: aiohttp.ClientSession, url: yarl.URL, tls: ssl.SSLContext | None
    ) -> aiohttp.ClientResponse:
        request, options = self._request, self._options
        return await session.request(
            request.method,
            url,
            headers={**_default_headers(), **request.headers},
            data=(_LargeBody(request.body) if len(request.body) > LARGE_WRITE else request.body) or None,
            allow_redirects=False,
            ssl=tls or True,
            timeout=aiohttp.ClientTimeout(connect=options.connect, sock_read=options.headers, ceil_threshold=math.inf),
        )

    async def _decompress(self, encoding: str) -> AsyncIterator[bytes]:
        try:
            async for chunk in Decompressed(encoding, self):
                yield chunk
        except DecodingError as error:
            failed = not_decodable(self._request.url, encoding, str(error))
        else:
            return
        raise failed

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._content.is_eof():
            # The whole body has arrived, read or not, and the connection is back in the pool. Only if the server
            # answered while the request was being written, it is not, and closing would wait until that is written.
            _abort(self._response)
            return
        aborted = False
        try:
            if kind is None and not self._ended:
                with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                    await self._drain()
        finally:
            # Also if the task is cancelled meanwhile: anyio's shields do not stop `Task.cancel`.
            aborted = _abort(self._response)
        if aborted:
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
        except Exception:  # nobody waits for these bytes, and the connection is closed
            return

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

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
        # The reader of a response that has no body, such as one of status 204, has no `total_raw_bytes`.
        is_empty = getattr(self._content, "total_raw_bytes", 0) == 0
        delimited = "Content-Length" in headers or "Transfer-Encoding" in headers or is_empty
        return error if isinstance(error, OSError) and not delimited else None

    def _translate_error(self, error: BaseException) -> BaseException:
        """Return our error for one of aiohttp's."""
        url = redact_url(self._request.url)
        before = self._response is None
        if isinstance(error, TrunklineError):
            return error.with_traceback(None)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ConnectTimeout(f"no connection to {url} within connect_timeout ({self._options.connect:g} s)")
        if before and isinstance(error, aiohttp.SocketTimeoutError):
            return FirstChunkTimeout(f"no response from {url} within first_chunk_timeout ({self._options.headers:g} s)")
        if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            return ConfigurationError(f"a request to {url} cannot be sent: it is not a valid HTTP URL")
        # Before the check for ValueError, since the error for a wrong certificate is a ValueError as well.
        if before and isinstance(error, (aiohttp.ClientError, HttpProcessingError, OSError)):
            return no_response(self._request.url, error, self._reason(error))
        if before and is_name_error(error):
            return no_response(self._request.url, error, BAD_NAME)
        if before and isinstance(error, ValueError):
            return ConfigurationError(f"a request to {url} cannot be sent: it is not valid HTTP")
        if not before and isinstance(error, (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError)):
            return interrupted(self._request.url, error, self._reason(error))
        return error

    def _reason(self, error: BaseException) -> str:
        # The client wraps the error of the protocol, which wraps that of the parser.
        cause = error.__cause__
        if isinstance(cause, LineTooLong) or (cause is not None and isinstance(cause.__cause__, LineTooLong)):
            return TOO_LARGE
        if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
            return INVALID
        return CLOSED if self._response is None else CUT


def _abort(response: aiohttp.ClientResponse) -> bool:
    """Close a response and abort its connection. Return whether it still had one.

    Closing alone would wait until the server has taken the rest of a request that is still being written.
    """
    connection = response.connection
    transport = None if connection is None else connection.transport
    response.close()
    if transport is None:
        return False
    transport.abort()
    return True


def _close_idle(session: aiohttp.ClientSession, url: yarl.URL) -> None:
    """Close the idle connections to a server."""
    assert session.connector is not None
    for key, connections in session.connector._conns.items():
        if (key.host, key.port) == (url.host, url.port):
            for protocol, _ in connections:
                protocol.abort()


@cache
def _default_headers() -> dict[str, str]:
    # aiohttp itself sets `Connection`.
    return {name: value for name, value in default_headers().items() if name != "connection"}


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
