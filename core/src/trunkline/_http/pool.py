"""Connections to servers without a proxy, by httpcore2: the layer below the client of httpx2, whose redirects, cookies
and logins are not wanted here, and which costs a fifth of a call and a tenth of a chunk.

It is imported when the first transport opens.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpcore2
import httpx2

_FAILED = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)

ERRORS: Any = SimpleNamespace(
    **{name: getattr(httpcore2, name) for name in ("ConnectTimeout", "ReadTimeout", "WriteTimeout", "ProxyError")},
    DecodingError=httpx2.DecodingError,
    HTTPError=_FAILED,
    InvalidURL=httpx2.InvalidURL,
    LocalProtocolError=httpcore2.LocalProtocolError,
    StreamError=httpx2.StreamError,
    TransportError=_FAILED,
    UnsupportedProtocol=(httpcore2.UnsupportedProtocol, httpx2.UnsupportedProtocol),
)
"""The errors, by the names that httpx2 has for them."""

_BODY_EXPECTED = ("POST", "PUT", "PATCH")


class Answer:
    """What an `httpx2.Response` is to the transport. `aclose` closes its connection unless it was read whole."""

    __slots__ = ("aclose", "extensions", "headers", "status_code", "stream")

    def __init__(self, response: httpcore2.Response) -> None:
        self.aclose = response.aclose
        self.status_code = response.status
        self.headers = response.headers  # pairs, as they came
        self.extensions = response.extensions
        self.stream: Any = response.stream

    def decoded(self) -> httpx2.Response:
        """The same, for a body with an encoding."""
        return httpx2.Response(
            self.status_code, headers=self.headers, stream=_Body(self.stream), extensions=dict(self.extensions)
        )


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        chunks: AsyncIterator[bytes] = self._stream.__aiter__()
        return chunks

    async def aclose(self) -> None:
        await self._stream.aclose()


class Pool:
    """A pool of connections without a limit of their number.

    `keep` is how many are kept while they are not used, and `seconds` how long. `trust` makes what TLS trusts, when the
    first server wants it.
    """

    def __init__(self, *, keep: int, seconds: float, trust: Callable[[], ssl.SSLContext]) -> None:
        self._limits: dict[str, Any] = {
            "max_connections": None,
            "max_keepalive_connections": keep,
            "keepalive_expiry": seconds,
        }
        self._trust = trust
        self._plain = httpcore2.AsyncConnectionPool(**self._limits)
        self._secure: httpcore2.AsyncConnectionPool | None = None
        # What httpx2 says of itself, and the encodings that it can undo.
        own = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: httpx2.Response(500))).headers
        self._defaults = {name.lower(): value for name, value in own.items()}

    def build(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes, extensions: dict[str, Any]
    ) -> httpcore2.Request:
        """A request. Raises an error of `ERRORS`, or `UnicodeError` for a header that is not ASCII."""
        target, host, login = _target(url)
        told = {"host": host, **self._defaults, **headers}
        if login is not None:
            told["authorization"] = login
        if content or method in _BODY_EXPECTED:
            told["content-length"] = str(len(content))
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in told.items()]
        return httpcore2.Request(method, target, headers=raw, content=content, extensions=extensions)

    async def send(self, request: httpcore2.Request) -> Answer:
        """Send it, up to the headers of the answer."""
        pool = self._plain
        if request.url.scheme == b"https":
            if self._secure is None:
                self._secure = httpcore2.AsyncConnectionPool(ssl_context=self._trust(), **self._limits)
            pool = self._secure
        return Answer(await pool.handle_async_request(request))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._plain.aclose()
        if self._secure is not None:
            await self._secure.aclose()


@lru_cache(maxsize=64)
def _target(url: str) -> tuple[httpcore2.URL, str, str | None]:
    """The URL, the host for its header, and the login that is part of it."""
    target = httpx2.URL(url)
    if target.is_relative_url:
        raise httpx2.UnsupportedProtocol("the URL has no scheme or no host")
    login = None
    if target.userinfo:
        name, _, password = target.userinfo.decode("ascii").partition(":")
        login = "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")
    parts = httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
    return parts, target.netloc.decode("ascii"), login
