"""One connection of a pool: what it notes of a request, and when it refuses one or stops writing it.

httpcore2 does not report whether a connection was reused or whether bytes arrived, so its network backend is wrapped:
`Backend` notes that a request dialled, and `Connection` when the request was written and that a byte of its response
arrived. A context variable (`current_request`) leads from both to the request, since httpcore2 dials and writes in the
task that sends.

**Unsolicited bytes.** `_http/unsolicited.py` describes them. `Connection` refuses to write a request to a reused
connection whose socket is readable. Nothing was sent then, so the request goes to a new connection even if `resend` is
not set.

What httpcore2 does not document and this module relies on; `test_core_dependencies.py` checks it:

- A pool dials and writes in the task that sends the request, and writes before it reads.
- `httpcore2._backends.anyio.AnyIOStream(stream)` makes a network stream from one of anyio, on asyncio and trio.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Coroutine, Iterable
from contextvars import ContextVar
from time import monotonic
from typing import Any, cast

import anyio
import anyio.abc
import anyio.lowlevel
import attrs
import httpcore2
from httpcore2._backends.anyio import AnyIOStream

from trunkline._event_loops import asyncio_task
from trunkline._http.common import (
    CLOSE_LIMIT,
    MAX_HEAD_SIZE,
    keepalive_options,
)
from trunkline._http.early_answers import LARGE_WRITE, WRITE_SIZE, EarlyAnswer, UnreadBytes, read_first
from trunkline._http.handshake import finish_handshake
from trunkline._http.proxies import Proxy
from trunkline._http.socks import is_incomplete, is_message
from trunkline._http.unix_sockets import connect
from trunkline._http.unsolicited import Socket, is_readable


@attrs.frozen
class Route:
    """What a pool of connections is for."""

    secure: bool
    proxy: Proxy | None
    socket: str | None

    @property
    def has_tunnel(self) -> bool:
        """Whether the proxy connects to the server before the request is sent."""
        return self.proxy is not None and (self.secure or self.proxy.is_socks)

    @property
    def is_proxy_secure(self) -> bool:
        """Whether the connection to the proxy uses TLS."""
        return self.proxy is not None and self.proxy.url.startswith("https:")

    @property
    def is_socks(self) -> bool:
        """Whether the proxy speaks SOCKS5."""
        return self.proxy is not None and self.proxy.is_socks


class UnsolicitedBytes(httpcore2.ReadError):
    """Bytes have arrived on an idle connection, or its end, before a request was written to it."""


class RequestState:
    """What is known of one request on its way."""

    __slots__ = ("connect_timeout", "connection", "dial_failed", "dialled", "headers_timeout", "route", "sent_at")

    def __init__(self, route: Route, timeouts: dict[str, float | None]) -> None:
        self.route = route
        connect = timeouts.get("connect")
        self.connect_timeout = math.inf if connect is None else connect
        headers = timeouts.get("read")
        self.headers_timeout = math.inf if headers is None else headers
        self.dialled = False
        self.dial_failed = False
        self.connection: Connection | None = None
        self.sent_at = 0.0
        """When the first byte was written to `connection`, by `time.monotonic()`."""

    @property
    def is_stale(self) -> bool:
        """Whether the request was written to a reused connection that has not returned a byte."""
        return not self.dialled and self.connection is not None and not self.connection.answered


current_request: ContextVar[RequestState | None] = ContextVar("trunkline_request", default=None)
"""The request that this task sends."""


class HandshakeStream(httpcore2.AsyncNetworkStream):
    """A connection that is closed if its TLS handshake fails or is cancelled.

    `read` and `write` return the coroutine of the inner stream, so that a chunk costs no second `await`.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    def read(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, max_bytes: int, timeout: float | None = None
    ) -> Coroutine[Any, Any, bytes]:
        return self._stream.read(max_bytes, timeout)

    def write(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, buffer: bytes, timeout: float | None = None
    ) -> Coroutine[Any, Any, None]:
        return self._stream.write(buffer, timeout)

    def aclose(self) -> Coroutine[Any, Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return await finish_handshake(self._stream, self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Connection(HandshakeStream):
    """A connection that notes whether a byte has arrived since the last write."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, *, is_secure: bool = False) -> None:
        super().__init__(stream)
        self._socket: Socket | None = stream.get_extra_info("socket")
        self._is_secure = is_secure
        self.answered = False
        self.answer = b""
        """The beginning of the first bytes after the last write."""
        self.in_body = False
        """Whether the headers of the response have arrived. From then on, reads are passed on as they are."""
        self._headers_deadline: float | None = None
        self._size = 0  # of what has arrived since the last write
        self._early = EarlyAnswer()
        self.handshake_deadline: float | None = None
        """When a proxy must have connected to the server, by `time.monotonic()`; `None` without one, or afterwards."""
        self.has_ended = False
        """Whether the connection has ended where the headers, or an answer of a proxy, should be."""
        self._socks_message = b""  # the last one, until a SOCKS proxy has connected to the server

    @property
    def got_tls_alert(self) -> bool:
        """Whether the server has answered with a TLS alert: record type 21, version 3.x."""
        return self.answer.startswith(b"\x15\x03")

    def read(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, max_bytes: int, timeout: float | None = None
    ) -> Coroutine[Any, Any, bytes]:
        read = self._stream.read if self.in_body else self._read_headers
        return read(max_bytes, timeout)

    async def _read_headers(self, max_bytes: int, timeout: float | None) -> bytes:
        """Read a part of the headers, of interim responses, or of what a proxy answers.

        httpcore2 applies the timeout to each read, so a server that sends a byte now and then would never reach it.
        """
        if self.handshake_deadline is not None:
            # httpcore2 would wait for the proxy as long as for the headers of the response.
            timeout = max(0.0, self.handshake_deadline - monotonic())
        elif timeout is not None:
            if self._headers_deadline is None:
                self._headers_deadline = monotonic() + timeout
            timeout = max(0.0, self._headers_deadline - monotonic())
        data = self._early.take() or await self._stream.read(max_bytes, timeout)
        self.has_ended = not data
        while self._socks_message and not self.has_ended and is_incomplete(data, self._socks_message):
            assert self.handshake_deadline is not None
            more = await self._stream.read(max_bytes, max(0.0, self.handshake_deadline - monotonic()))
            self.has_ended = not more
            data += more
        if not self._size:
            self.answer = data[:5]
        self.answered = self.answered or (bool(data) and self.handshake_deadline is None)
        self._size += len(data)
        if self._size > MAX_HEAD_SIZE:  # the last read may also bring up to 64 KiB of the body
            raise httpcore2.RemoteProtocolError("the head of the response is too long")
        return data

    def write(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, buffer: bytes, timeout: float | None = None
    ) -> Coroutine[Any, Any, None]:
        self.answered, self.in_body = bool(self._early), False
        self._headers_deadline, self._size = None, 0
        sent = current_request.get()
        if sent is not None and sent.connection is not self:
            # The first write of a request on a reused connection. httpcore2 has checked this when it chose the
            # connection, but may have waited for others to close since then.
            sent.connection, sent.sent_at = self, monotonic()
            if self._is_readable():
                raise UnsolicitedBytes
        if self.handshake_deadline is not None and sent is not None and sent.route.is_socks:
            self._socks_message = buffer if is_message(buffer) else b""
            if not self._socks_message:
                self.handshake_deadline = None  # this is the request
        write = self._stream.write if len(buffer) <= LARGE_WRITE else self._write_large
        return write(buffer, timeout)

    async def _write_large(self, buffer: bytes, timeout: float | None) -> None:
        """Write a large body, and read meanwhile: the server may refuse it and stop reading.

        Raises `httpcore2.WriteError` then. httpcore2 goes on to read the response, and closes the connection after it,
        since the request is not complete.
        """
        failed: Exception | None = None
        unread = None if self._is_secure or self._socket is None else UnreadBytes(self._socket)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_for_refusal, tasks.cancel_scope)
                try:
                    await self._write_pieces(buffer, timeout)
                except Exception as error:  # the task group would wrap it
                    failed = error
                # If the connection broke, the other task reads what has arrived, and ends.
                limit = CLOSE_LIMIT if isinstance(failed, httpcore2.WriteError) else 0.0
                tasks.cancel_scope.deadline = anyio.current_time() + limit
            if unread is not None and failed is not None:
                self._early.feed(unread.read())
        finally:
            if unread is not None:
                unread.close()
        if self._early.is_refusal or self._early.size > MAX_HEAD_SIZE:
            raise httpcore2.WriteError
        if failed is not None:
            raise failed

    async def _write_pieces(self, buffer: bytes, timeout: float | None) -> None:
        for _ in range(3):  # until the other task reads
            await anyio.lowlevel.checkpoint()
        deadline = math.inf if timeout is None else monotonic() + timeout
        pieces = memoryview(buffer)
        for start in range(0, len(buffer), WRITE_SIZE):
            await read_first(self._socket)
            left = None if timeout is None else max(0.0, deadline - monotonic())
            await self._stream.write(bytes(pieces[start : start + WRITE_SIZE]), left)

    async def _watch_for_refusal(self, writing: anyio.CancelScope) -> None:
        early = self._early = EarlyAnswer()
        try:
            while not early.is_final and early.size <= MAX_HEAD_SIZE:
                data = await self._stream.read(LARGE_WRITE)
                if not data:
                    return  # writing fails as well, or succeeds, and then the end of the response is read again
                self.answered = True
                early.feed(data)
        except Exception:
            return  # reading the response raises it again
        if early.is_refusal or early.size > MAX_HEAD_SIZE:
            writing.cancel()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        sent = current_request.get()
        to_proxy = sent is not None and sent.route.is_proxy_secure and not self._is_secure
        if not to_proxy:
            self.handshake_deadline, self._socks_message = None, b""  # the proxy has connected to the server
        stream = await super().start_tls(ssl_context, server_hostname, timeout)
        connection = Connection(stream, is_secure=True)
        if sent is not None:
            sent.connection = connection
            if to_proxy and sent.route.has_tunnel:
                connection.handshake_deadline = self.handshake_deadline
        return connection

    def get_extra_info(self, info: str) -> Any:
        # httpcore2 asks this of an idle connection before each request.
        return self._is_readable() if info == "is_readable" else super().get_extra_info(info)

    def _is_readable(self) -> bool:
        return self._socket is not None and is_readable(self._socket)


class Backend(httpcore2.AsyncNetworkBackend):
    """Dials with TCP keep-alive, and wraps the connections."""

    def __init__(self, tcp_keepalive: float | None) -> None:
        self._options = keepalive_options(tcp_keepalive)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await self._dial(_network().connect_tcp(host, port, timeout, local_address, self._options))

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        return await self._dial(_connect_unix(path, timeout))

    async def _dial(self, dialling: Awaitable[httpcore2.AsyncNetworkStream]) -> httpcore2.AsyncNetworkStream:
        sent = current_request.get()
        if sent is None:
            return Connection(await dialling)
        sent.dialled = sent.dial_failed = True
        connection = sent.connection = Connection(await dialling)
        sent.dial_failed = False
        if sent.route.has_tunnel or sent.route.is_proxy_secure:
            connection.handshake_deadline = monotonic() + sent.connect_timeout
        return connection


async def _connect_unix(path: str, timeout: float | None) -> httpcore2.AsyncNetworkStream:
    try:
        with anyio.fail_after(timeout):
            stream = await anyio.abc.UNIXSocketStream.from_socket(await connect(path))
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout from error
    except OSError as error:
        raise httpcore2.ConnectError from error
    return cast("httpcore2.AsyncNetworkStream", AnyIOStream(stream))


def _network() -> httpcore2.AsyncNetworkBackend:
    backend = httpcore2.TrioBackend if asyncio_task() is None else httpcore2.AnyIOBackend
    return cast("httpcore2.AsyncNetworkBackend", backend())
