"""Connections to servers, by httpcore2. With `_http/dialling.py`, the only module that imports httpcore2.

httpcore2 is the layer below the client of httpx2. The client's redirects, cookies and authentication are not wanted
here, and going through it adds a fifth to the time of a call and a tenth to that of a chunk.

**Stale connections.** A server may close an idle connection at any time, also while the next request is on its way. If
a *reused* connection breaks at once (`RESEND_SECONDS`) and before any byte of the response has arrived, the request is
sent once more on a new connection. httpcore2 does not report whether a connection was reused or whether bytes arrived,
so its network backend is wrapped: `_Backend` notes that a request dialled, and `_Connection` when the request was
written and that a byte of its response arrived. A context variable (`_exchange`) leads from both to the request, since
httpcore2 dials and writes in the task that sends.

**Unsolicited bytes.** `_http/unsolicited.py` describes them. `_Connection` refuses to write a request to a reused
connection whose socket is readable. Nothing was sent then, so the request goes to a new connection even if `resend` is
not set.

What httpcore2 and httpx2 do not document and this module relies on; `test_core_dependencies.py` checks it:

- The dictionary of the request's extension `timeout` is read once for the headers and once more when the iteration of
  the body starts, so a timeout that is removed in between does not apply to the body (`_http/httpx2.py` does this).
- A pool dials and writes in the task that sends the request, and writes before it reads.
- `httpcore2._backends.anyio.AnyIOStream(stream)` makes a network stream from one of anyio, on asyncio and trio.
- Closing an idle connection of a pool that was just assigned to a request makes the pool choose another.

The module is imported when the first transport opens.
"""

from __future__ import annotations

import base64
import math
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Any, cast
from urllib.parse import unquote

import anyio
import anyio.abc
import anyio.lowlevel
import attrs
import httpcore2
import httpx2
from httpcore2._backends.anyio import AnyIOStream

from trunkline._event_loops import asyncio_task
from trunkline._forks import begin_anew_after_fork
from trunkline._http.common import (
    CLOSE_LIMIT,
    IDLE_SECONDS,
    MAX_HEAD_SIZE,
    MAX_IDLE_CONNECTIONS,
    ConnectionOptions,
    HTTPErrors,
    broke_at_once,
    default_headers,
    keepalive_options,
)
from trunkline._http.decompression import DecodingError
from trunkline._http.early_answers import LARGE_WRITE, WRITE_SIZE, EarlyAnswer, UnreadBytes, read_first
from trunkline._http.failures import (
    CLOSED,
    REUSED,
    TLS_ALERT,
    has_no_address,
    no_response,
    protocol_reason,
    proxy_handshake,
    proxy_login,
    proxy_not_reached,
    proxy_refused,
)
from trunkline._http.handshake import finish_handshake
from trunkline._http.idle import check_idle
from trunkline._http.proxies import Proxies, Proxy
from trunkline._http.tls import has_own_files, tls_context
from trunkline._http.unix_sockets import connect, unix_target
from trunkline._http.unsolicited import Socket, has_unsolicited_bytes, is_readable, refuse_reuse
from trunkline._urls import redact_url
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConnectTimeout, TrunklineError

_TRANSPORT_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)

POOL_ERRORS = HTTPErrors(
    connect_timeout=httpcore2.ConnectTimeout,
    response_timeout=(httpcore2.ReadTimeout, httpcore2.WriteTimeout),
    decoding=DecodingError,
    proxy=httpcore2.ProxyError,
    local_protocol=httpcore2.LocalProtocolError,
    remote_protocol=httpcore2.RemoteProtocolError,
    invalid_url=(httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpcore2.UnsupportedProtocol),
    transport=_TRANSPORT_ERRORS,
)
"""The errors that a `Pool` and a `PoolResponse` raise."""

_BROKEN = (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError)
"""What a connection raises that the server has closed."""

_METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


class PoolResponse:
    """The `HTTPResponse` of a `Pool`."""

    __slots__ = ("_response", "chunks", "http_version", "is_decoded", "raw_headers", "status")

    def __init__(self, response: httpcore2.Response) -> None:
        # Its declared type is also that of the library's synchronous API.
        stream: Any = response.stream
        self.chunks: AsyncIterable[bytes] = stream
        self.is_decoded = False
        self._response = response
        self.status = response.status
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.headers
        self.http_version: object = response.extensions.get("http_version")

    def has_unsolicited_bytes(self) -> bool:
        """Whether bytes follow the response. Call this after the response was read to its end."""
        return has_unsolicited_bytes(self.chunks)

    def refuse_reuse(self) -> None:
        """Let `aclose` close the connection, also if the body was read to its end."""
        refuse_reuse(self.chunks)

    def aclose(self) -> Awaitable[None]:
        """Close the connection, or return it to its pool if the body was read to its end."""
        return self._response.aclose()


class _NotIdle(httpcore2.ReadError):
    """Bytes have arrived on an idle connection, or its end, before a request was written to it."""


class _Sent:
    """What is known of one request on its way."""

    __slots__ = ("connect_timeout", "connection", "dial_failed", "dialled", "route", "sent_at")

    def __init__(self, route: _Route, timeouts: dict[str, float | None]) -> None:
        self.route = route
        connect = timeouts.get("connect")
        self.connect_timeout = math.inf if connect is None else connect
        self.dialled = False
        self.dial_failed = False
        self.connection: _Connection | None = None
        self.sent_at = 0.0
        """When the first byte was written to `connection`, by `time.monotonic()`."""

    @property
    def is_stale(self) -> bool:
        """Whether the request was written to a reused connection that has not returned a byte."""
        return not self.dialled and self.connection is not None and not self.connection.answered


_exchange: ContextVar[_Sent | None] = ContextVar("trunkline_exchange", default=None)


class _Connection(httpcore2.AsyncNetworkStream):
    """A connection that notes whether a byte has arrived since the last write.

    Its methods are no coroutine functions, so that a chunk costs no second `await`.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream, *, is_secure: bool = False) -> None:
        self._stream = stream
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

    @property
    def is_tls(self) -> bool:
        """Whether the server has answered with a TLS alert: record type 21, version 3.x."""
        return self.answer.startswith(b"\x15\x03")

    # Not coroutine functions, which would cost a frame for each chunk.

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
        sent = _exchange.get()
        if sent is not None and sent.connection is not self:
            # The first write of a request on a reused connection. httpcore2 has checked this when it chose the
            # connection, but may have waited for others to close since then.
            sent.connection, sent.sent_at = self, monotonic()
            if self._is_readable():
                raise _NotIdle
        if self.handshake_deadline is not None and sent is not None and sent.route.is_socks_done(buffer):
            self.handshake_deadline = None
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

    def aclose(self) -> Coroutine[Any, Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        sent = _exchange.get()
        to_proxy = sent is not None and sent.route.is_proxy_secure and not self._is_secure
        if not to_proxy:
            self.handshake_deadline = None  # the proxy has connected to the server
        stream = await finish_handshake(self._stream, self._stream.start_tls(ssl_context, server_hostname, timeout))
        connection = _Connection(stream, is_secure=True)
        if sent is not None:
            sent.connection = connection
            if to_proxy and sent.route.has_tunnel:
                connection.handshake_deadline = self.handshake_deadline
        return connection

    def get_extra_info(self, info: str) -> Any:
        # httpcore2 asks this of an idle connection before each request.
        return self._is_readable() if info == "is_readable" else self._stream.get_extra_info(info)

    def _is_readable(self) -> bool:
        return self._socket is not None and is_readable(self._socket)


class _Backend(httpcore2.AsyncNetworkBackend):
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
        sent = _exchange.get()
        if sent is None:
            return _Connection(await dialling)
        sent.dialled = sent.dial_failed = True
        connection = sent.connection = _Connection(await dialling)
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


@attrs.frozen
class _Route:
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

    def is_socks_done(self, buffer: bytes) -> bool:
        """Whether what is written to a SOCKS proxy is the request, and not a message to the proxy.

        A message begins with its version: 5, or 1 for the login (RFC 1928 and 1929).
        """
        return self.proxy is not None and self.proxy.is_socks and buffer[:1] not in (b"\x05", b"\x01")


class Pool:
    """Connections to all servers, directly or through proxies, without a limit on the number of connections in use.

    The TLS context is created at the first request to an `https:` URL: loading the system's certificates takes tens of
    milliseconds, which plain HTTP need not pay. The files in the settings are read now, so that a wrong one is reported
    now. Raises `ConfigurationError` for a wrong file, or a wrong proxy in the settings.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._backend = _Backend(options.tcp_keepalive)
        self._proxies = Proxies(options.proxy)
        self._tls = tls_context(options) if has_own_files(options) else None
        self._routes: dict[tuple[str, str, int], _Route] = {}
        self._pools: dict[_Route, httpcore2.AsyncConnectionPool] = {}
        self._second_pools: dict[_Route, httpcore2.AsyncConnectionPool] = {}
        self._is_checked = False  # whether a timer looks at the idle connections
        begin_anew_after_fork(self)

    async def send(
        self, wire_request: WireRequest, timeouts: dict[str, float | None], *, resend: bool = False
    ) -> PoolResponse:
        """Send a request and wait for the headers of the response.

        `timeouts` has the names and units of httpx2. If `resend` is set, the request is sent once more on a new
        connection where the first was a stale one that broke at once. Raises one of `POOL_ERRORS`, `UnicodeError` for a
        header that is not ASCII, or the error of a proxy.
        """
        # Headers are only in the requests of httpcore2, and in no local variable: error trackers show these.
        request, path = _build(wire_request, timeouts)
        route = self._route(request.url, path)
        sent = _Sent(route, timeouts)
        pool = self._pool(self._pools, route, MAX_IDLE_CONNECTIONS)
        if not self._is_checked:
            self._is_checked = True
            check_idle(self)
        try:
            return await _send(pool, request, sent, wire_request.url)
        except _BROKEN as error:
            if sent.connection is not None and sent.connection.is_tls:
                error.add_note(TLS_ALERT)
            if not sent.is_stale:
                raise
            # Where one idle connection is closed, the others to that server often are as well: it was restarted, or a
            # load balancer leads elsewhere now.
            await _close_idle(pool, request.url.origin)
            if not (isinstance(error, _NotIdle) or (resend and broke_at_once(sent.sent_at))):
                error.add_note(REUSED)
                raise
        # This pool keeps no connection, so each of its requests has a new one.
        pool = self._pool(self._second_pools, route, 0)
        request, _ = _build(wire_request, timeouts)
        return await _send(pool, request, _Sent(route, timeouts), wire_request.url)

    def _route(self, target: httpcore2.URL, path: str | None) -> _Route:
        scheme, host = target.scheme.decode("ascii"), target.host.decode("ascii")
        port = target.port or (443 if scheme == "https" else 80)
        if path is not None:
            return _Route(secure=False, proxy=None, socket=path)
        route = self._routes.get((scheme, host, port))
        if route is None:
            proxy = self._proxies.find(scheme, host, port)
            route = self._routes[scheme, host, port] = _Route(secure=scheme == "https", proxy=proxy, socket=None)
        return route

    def _pool(
        self, pools: dict[_Route, httpcore2.AsyncConnectionPool], route: _Route, max_idle: int
    ) -> httpcore2.AsyncConnectionPool:
        # Without an await between the look-up and the assignment, so that two first calls share one pool.
        pool = pools.get(route)
        if pool is None:
            proxy = route.proxy
            tls_to_proxy = proxy is not None and proxy.url.startswith("https:")
            if self._tls is None and (route.secure or tls_to_proxy):
                self._tls = tls_context(self._options)
            pool = pools[route] = httpcore2.AsyncConnectionPool(
                ssl_context=self._tls,
                proxy=None if proxy is None else _httpcore_proxy(proxy, self._tls if tls_to_proxy else None),
                max_connections=None,
                max_keepalive_connections=max_idle,
                keepalive_expiry=IDLE_SECONDS,
                uds=route.socket,
                network_backend=self._backend,
            )
        return pool

    def expired(self) -> list[Callable[[], Awaitable[None]]]:
        """Return the functions that close the idle connections that are too old or that the server has closed."""
        return [
            connection.aclose
            for pool in self._pools.values()
            for connection in pool.connections
            if connection.is_idle() and connection.has_expired()
        ]

    def check_again(self) -> bool:
        """Return whether there are connections that are or will be idle."""
        self._is_checked = any(
            not connection.is_closed() for pool in self._pools.values() for connection in pool.connections
        )
        return self._is_checked

    def begin_anew(self) -> object:
        """Forget the connections of the parent of a fork: its timer must not close them."""
        inherited = self._pools, self._second_pools
        self._pools, self._second_pools = {}, {}
        return inherited

    async def aclose(self) -> None:
        """Close all connections."""
        # The stack closes the others even if `Task.cancel`, which no shield stops, interrupts closing one. A pool would
        # then leave its other connections open, so they are closed first, one by one.
        async with AsyncExitStack() as closing:
            for pool in (*self._pools.values(), *self._second_pools.values()):
                closing.push_async_callback(pool.aclose)
                for connection in pool.connections:
                    closing.push_async_callback(connection.aclose)


async def _send(pool: httpcore2.AsyncConnectionPool, request: httpcore2.Request, sent: _Sent, url: str) -> PoolResponse:
    """Send a request. Raises an error of httpcore2, or ours if a proxy is used."""
    proxy = sent.route.proxy
    _exchange.set(sent)
    try:
        response = await pool.handle_async_request(request)
    except Exception as error:
        failed = None if proxy is None or sent.is_stale else _proxy_failure(proxy, sent, url, error)
        if failed is None:
            raise
    else:
        if response.status == 407 and proxy is not None and not sent.route.secure:
            # The answer of the proxy, which forwards plain HTTP, and not of the provider.
            await response.aclose()
            failed = proxy_login(proxy)
        else:
            if sent.connection is not None:
                sent.connection.in_body = True
            return PoolResponse(response)
    finally:
        _exchange.set(None)
        if sent.connection is not None and sent.connection.handshake_deadline is not None:
            # httpcore2 does not close a connection to a SOCKS proxy that fails.
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await sent.connection.aclose()
    raise failed


def _proxy_failure(proxy: Proxy, sent: _Sent, url: str, error: Exception) -> TrunklineError | None:
    """Return our error for one of httpcore2's, or of the package for SOCKS, on the way through a proxy."""
    if isinstance(error, httpcore2.ProxyError):
        return _proxy_error(proxy, url, error)
    is_known = isinstance(error, _TRANSPORT_ERRORS) or has_no_address(error)
    where, seconds = redact_url(url), f"{sent.connect_timeout:g} s"
    if sent.dial_failed:
        if isinstance(error, httpcore2.TimeoutException):
            return ConnectTimeout(f"no connection to {proxy} within {seconds}")
        return proxy_not_reached(proxy, error) if is_known else None
    connection = sent.connection
    if connection is not None and connection.handshake_deadline is not None:
        if isinstance(error, httpcore2.TimeoutException):
            return ConnectTimeout(f"{proxy} did not connect to {where} within {seconds}")
        # The package for SOCKS has its own exceptions, and httpcore2 asserts what a proxy has sent.
        return proxy_handshake(proxy, url, error, connection.answer) if is_known or proxy.is_socks else None
    if isinstance(error, httpcore2.ConnectTimeout):
        return ConnectTimeout(f"no connection to {where} through {proxy} within {seconds}")
    if not is_known or isinstance(error, (httpcore2.TimeoutException, httpcore2.LocalProtocolError)):
        return None
    reason = protocol_reason(error, CLOSED) if isinstance(error, httpcore2.RemoteProtocolError) else CLOSED
    return no_response(url, error, reason, proxy)


async def _close_idle(pool: httpcore2.AsyncConnectionPool, origin: httpcore2.Origin) -> None:
    for connection in pool.connections:
        if connection.is_idle() and connection.can_handle_request(origin):
            await connection.aclose()


def _build(wire_request: WireRequest, timeouts: dict[str, float | None]) -> tuple[httpcore2.Request, str | None]:
    """Return the request in httpcore2's form, and the path of the Unix socket that it goes to."""
    method, content = wire_request.method, wire_request.body
    target, host, login, path = _target(wire_request.url)
    headers = {**default_headers(), "host": host, **wire_request.headers}
    if login is not None:
        headers.setdefault("authorization", login)
    if content or method in _METHODS_WITH_BODY:
        headers["content-length"] = str(len(content))
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    return httpcore2.Request(method, target, headers=raw, content=content, extensions={"timeout": timeouts}), path


def _httpcore_proxy(proxy: Proxy, tls: ssl.SSLContext | None) -> httpcore2.Proxy:
    url = httpx2.URL(proxy.url)
    scheme = b"socks5" if proxy.is_socks else url.raw_scheme
    login = None if proxy.login is None else (proxy.login[0].encode(), proxy.login[1].encode())
    parts = httpcore2.URL(scheme=scheme, host=url.raw_host, port=url.port, target=b"/")
    return httpcore2.Proxy(parts, auth=login, ssl_context=tls)


def _proxy_error(proxy: Proxy, url: str, error: httpcore2.ProxyError) -> TrunklineError:
    """Return our error for what a proxy answered to CONNECT, or to the handshake of SOCKS."""
    text = str(error)
    status = text[:3]
    if proxy.is_socks:
        if not text.startswith("Proxy Server could not connect"):
            return proxy_login(proxy)
        reason = text.partition(":")[2].strip(" .").lower()
        return proxy_refused(proxy, url, reason or "it gave no reason", retryable=True)
    if status == "407":
        return proxy_login(proxy)
    return proxy_refused(proxy, url, f"status {status}", retryable=status.startswith("5"))


# A service sends nearly all its requests to a few URLs, and parsing one takes longer than the rest of `_build`.
@lru_cache(maxsize=64)
def _target(url: str) -> tuple[httpcore2.URL, str, str | None, str | None]:
    """Return the parsed URL, the headers `Host` and `Authorization` (if the URL has a user), and the Unix socket."""
    unix = unix_target(url)
    target = httpx2.URL(url if unix is None else unix[1])
    if target.is_relative_url:
        raise httpx2.UnsupportedProtocol("the URL has no scheme or no host")
    login = None
    if target.userinfo:
        name, _, password = target.userinfo.decode("ascii").partition(":")
        login = "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")
    parts = httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
    return parts, target.netloc.decode("ascii"), login, None if unix is None else unix[0]
