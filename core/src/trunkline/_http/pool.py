"""Connections to servers without a proxy, by httpcore2. The only module of the transports that imports httpcore2.

httpcore2 is the layer below the client of httpx2. The client's redirects, cookies and authentication are not wanted
here, and going through it adds a fifth to the time of a call and a tenth to that of a chunk.

Two kinds of things that httpcore2 and httpx2 do not document are relied on; `test_core_dependencies.py` checks them
against the installed versions:

- The dictionary of the request's extension `timeout` is read once for the headers and once more when the iteration of
  the body starts, so a timeout that is removed in between does not apply to the body (`_http/httpx2.py` does this).
- The headers that a client of httpx2 sends by default (`User-Agent`, `Accept-Encoding` …) can be read from
  `AsyncClient.headers`.

The module is imported when the first transport opens.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httpcore2
import httpx2

from trunkline._http.common import HTTPErrors
from trunkline.authoring.wire import WireRequest

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
    decoding=httpx2.DecodingError,
    proxy=httpcore2.ProxyError,
    local_protocol=httpcore2.LocalProtocolError,
    invalid_url=(httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpcore2.UnsupportedProtocol),
    transport=_TRANSPORT_ERRORS,
    reading=(*_TRANSPORT_ERRORS, httpx2.StreamError),
)
"""The errors that a `Pool` and a `PoolResponse` raise."""

_METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


class PoolResponse:
    """The `HTTPResponse` of a `Pool`."""

    __slots__ = ("_response", "_stream", "chunks", "http_version", "raw_headers", "status")

    def __init__(self, response: httpcore2.Response) -> None:
        # Its declared type is also that of the library's synchronous API.
        stream: Any = response.stream
        self._stream: AsyncIterable[bytes] = stream
        self.chunks: AsyncIterable[bytes] | None = stream
        self._response = response
        self.status = response.status
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.headers
        self.http_version: object = response.extensions.get("http_version")

    def aclose(self) -> Awaitable[None]:
        """Close the connection, or return it to its pool if the body was read to its end."""
        return self._response.aclose()

    def decoded(self) -> httpx2.Response:
        """Return the same response as an `httpx2.Response`, which decompresses the body."""
        return httpx2.Response(self.status, headers=self.raw_headers, stream=_Body(self._stream, self.aclose))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes], close: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._close = close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        await self._close()


class Pool:
    """A pool of connections, without a limit on the number of connections in use.

    At most `max_idle` idle connections are kept, each for `idle_seconds`. `make_tls_context` is called at the first
    request to an `https:` URL: loading the system's certificates takes tens of milliseconds, which plain HTTP need not
    pay.
    """

    def __init__(self, *, max_idle: int, idle_seconds: float, make_tls_context: Callable[[], ssl.SSLContext]) -> None:
        self._limits: dict[str, Any] = {
            "max_connections": None,
            "max_keepalive_connections": max_idle,
            "keepalive_expiry": idle_seconds,
        }
        self._make_tls_context = make_tls_context
        self._plain = httpcore2.AsyncConnectionPool(**self._limits)
        self._secure: httpcore2.AsyncConnectionPool | None = None
        # The headers that httpx2 sends by default. The encodings in Accept-Encoding are those that it can decompress,
        # which depends on the packages that are installed.
        defaults = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: httpx2.Response(500))).headers
        self._default_headers = {name.lower(): value for name, value in defaults.items()}

    def _build(self, wire_request: WireRequest, timeouts: dict[str, float | None]) -> httpcore2.Request:
        method, content = wire_request.method, wire_request.body
        target, host, login = _target(wire_request.url)
        all_headers = {"host": host, **self._default_headers, **wire_request.headers}
        if login is not None:
            all_headers["authorization"] = login
        if content or method in _METHODS_WITH_BODY:
            all_headers["content-length"] = str(len(content))
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in all_headers.items()]
        return httpcore2.Request(method, target, headers=raw, content=content, extensions={"timeout": timeouts})

    async def send(self, wire_request: WireRequest, timeouts: dict[str, float | None]) -> PoolResponse:
        """Send a request and wait for the headers of the response.

        `timeouts` has the names and units of httpx2. Raises one of `POOL_ERRORS`, or `UnicodeError` for a header that
        is not ASCII.
        """
        request = self._build(wire_request, timeouts)
        pool = self._plain
        if request.url.scheme == b"https":
            # Without an await between the check and the assignment, so that two first calls share one pool.
            if self._secure is None:
                self._secure = httpcore2.AsyncConnectionPool(ssl_context=self._make_tls_context(), **self._limits)
            pool = self._secure
        return PoolResponse(await pool.handle_async_request(request))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._plain.aclose()
        if self._secure is not None:
            await self._secure.aclose()


# A service sends nearly all its requests to a few URLs, and parsing one takes longer than the rest of `build`.
@lru_cache(maxsize=64)
def _target(url: str) -> tuple[httpcore2.URL, str, str | None]:
    """Return the parsed URL, the value of the `Host` header, and that of `Authorization` if the URL has a user."""
    target = httpx2.URL(url)
    if target.is_relative_url:
        raise httpx2.UnsupportedProtocol("the URL has no scheme or no host")
    login = None
    if target.userinfo:
        name, _, password = target.userinfo.decode("ascii").partition(":")
        login = "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")
    parts = httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
    return parts, target.netloc.decode("ascii"), login
