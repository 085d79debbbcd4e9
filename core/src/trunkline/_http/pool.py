"""Pools of connections to servers, by httpcore2. `_http/connection.py` holds what one connection does.

httpcore2 is the layer below the client of httpx2. The client's redirects, cookies and authentication are not wanted
here, and going through it adds a fifth to the time of a call and a tenth to that of a chunk.

**Stale connections.** A server may close an idle connection at any time, also while the next request is on its way. If
a *reused* connection breaks at once (`RESEND_SECONDS`) and before any byte of the response has arrived, the request is
sent once more on a new connection.

What httpcore2 and httpx2 do not document and this module relies on; `test_core_dependencies.py` checks it:

- The dictionary of the request's extension `timeout` is read once for the headers and once more when the iteration of
  the body starts, so a timeout that is removed in between does not apply to the body (`_http/httpx2.py` does this).
- Closing an idle connection of a pool that was just assigned to a request makes the pool choose another.

The module is imported when the first transport opens.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any

import httpcore2
import httpx2

from trunkline._forks import begin_anew_after_fork
from trunkline._http.common import (
    IDLE_SECONDS,
    MAX_IDLE_CONNECTIONS,
    ConnectionOptions,
    HTTPErrors,
    broke_at_once,
    default_headers,
)
from trunkline._http.connection import Backend, RequestState, Route, UnsolicitedBytes, current_request
from trunkline._http.decompression import DecodingError
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
from trunkline._http.handshake import close_now
from trunkline._http.idle import check_idle
from trunkline._http.proxies import Proxies, Proxy
from trunkline._http.tls import has_own_files, tls_context
from trunkline._http.unix_sockets import unix_target
from trunkline._http.unsolicited import has_unsolicited_bytes, refuse_reuse
from trunkline._urls import redact_url
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConnectTimeout, FirstChunkTimeout, RemoteError, TrunklineError

_TRANSPORT_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)

POOL_ERRORS = HTTPErrors(
    connect_timeout=httpcore2.ConnectTimeout,
    pool_timeout=httpcore2.PoolTimeout,
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
"""The errors of a connection that the server has closed."""

_METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


class PoolResponse:
    """The `HTTPResponse` of a `Pool`."""

    __slots__ = ("_response", "chunks", "http_version", "is_decoded", "proxy", "raw_headers", "status")

    def __init__(self, response: httpcore2.Response, proxy: Proxy | None = None) -> None:
        self.proxy = proxy
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


class Pool:
    """Connections to all servers, directly or through proxies, without a limit on the number of connections in use.

    The TLS context is created at the first request to an `https:` URL: loading the system's certificates takes tens of
    milliseconds, which plain HTTP need not pay. The files in the settings are read now, so that a wrong one is reported
    now. Raises `ConfigurationError` for a wrong file, or a wrong proxy in the settings.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._backend = Backend(options.tcp_keepalive)
        self._proxies = Proxies(options.proxy)
        self._tls = tls_context(options) if has_own_files(options) else None
        self._routes: dict[tuple[str, str, int], Route] = {}
        self._pools: dict[Route, httpcore2.AsyncConnectionPool] = {}
        self._second_pools: dict[Route, httpcore2.AsyncConnectionPool] = {}
        self._has_idle_timer = False  # whether a timer looks at the idle connections
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
        sent = RequestState(route, timeouts)
        pool = self._pool(self._pools, route, MAX_IDLE_CONNECTIONS)
        if not self._has_idle_timer:
            self._has_idle_timer = True
            check_idle(self)
        try:
            return await _send(pool, request, sent, wire_request.url)
        except _BROKEN as error:
            if sent.connection is not None and sent.connection.got_tls_alert:
                error.add_note(TLS_ALERT)
            if not sent.is_stale:
                raise
            # Where one idle connection is closed, the others to that server often are as well: it was restarted, or a
            # load balancer leads elsewhere now.
            await _close_idle(pool, request.url.origin)
            if not (isinstance(error, UnsolicitedBytes) or (resend and broke_at_once(sent.sent_at))):
                error.add_note(REUSED)
                raise
        # This pool keeps no connection, so each of its requests has a new one.
        pool = self._pool(self._second_pools, route, 0)
        request, _ = _build(wire_request, timeouts)
        return await _send(pool, request, RequestState(route, timeouts), wire_request.url)

    def _route(self, target: httpcore2.URL, path: str | None) -> Route:
        scheme, host = target.scheme.decode("ascii"), target.host.decode("ascii")
        port = target.port or (443 if scheme == "https" else 80)
        if path is not None:
            return Route(secure=False, proxy=None, socket=path)
        route = self._routes.get((scheme, host, port))
        if route is None:
            proxy = self._proxies.find(scheme, host, port)
            route = self._routes[scheme, host, port] = Route(secure=scheme == "https", proxy=proxy, socket=None)
        return route

    def _pool(
        self, pools: dict[Route, httpcore2.AsyncConnectionPool], route: Route, max_idle: int
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

    def keep_timer(self) -> bool:
        """Return whether the timer goes on, and remember it: there are connections that are or will be idle."""
        self._has_idle_timer = any(
            not connection.is_closed() for pool in self._pools.values() for connection in pool.connections
        )
        return self._has_idle_timer

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


async def _send(
    pool: httpcore2.AsyncConnectionPool, request: httpcore2.Request, sent: RequestState, url: str
) -> PoolResponse:
    """Send a request. Raises an error of httpcore2, or ours if a proxy is used."""
    proxy = sent.route.proxy
    current_request.set(sent)
    try:
        response = await pool.handle_async_request(request)
    except Exception as error:
        # A server that closed the reused connection does not cause a timeout.
        is_stale = sent.is_stale and not isinstance(error, httpcore2.TimeoutException)
        failed = None if proxy is None or is_stale else _proxy_failure(proxy, sent, url, error)
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
            return PoolResponse(response, proxy)
    finally:
        current_request.set(None)
        if sent.connection is not None and sent.connection.handshake_deadline is not None:
            # httpcore2 does not close a connection to a SOCKS proxy that fails.
            await close_now(sent.connection)
    if proxy is not None and isinstance(failed, RemoteError):
        failed.proxy = redact_url(proxy.url)
    raise failed


def _proxy_failure(proxy: Proxy, sent: RequestState, url: str, error: Exception) -> TrunklineError | None:
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
        if not (is_known or proxy.is_socks):
            return None
        return proxy_handshake(proxy, url, error, connection.answer, has_ended=connection.has_ended)
    if isinstance(error, httpcore2.ConnectTimeout):
        return ConnectTimeout(f"no connection to {where} through {proxy} within {seconds}")
    if isinstance(error, (httpcore2.ReadTimeout, httpcore2.WriteTimeout)):
        limit = f"first_chunk_timeout ({sent.headers_timeout:g} s)"
        return FirstChunkTimeout(f"no response from {where} through {proxy} within {limit}")
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
    target, host, path = _target(wire_request.url)
    headers = {**default_headers(), "host": host, **wire_request.headers}
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
def _target(url: str) -> tuple[httpcore2.URL, str, str | None]:
    """Return the parsed URL, the header `Host`, and the path of the Unix socket. The URL has no login any more."""
    unix = unix_target(url)
    target = httpx2.URL(url if unix is None else unix[1])
    if target.is_relative_url:
        raise httpx2.UnsupportedProtocol("the URL has no scheme or no host")
    parts = httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
    return parts, target.netloc.decode("ascii"), None if unix is None else unix[0]
