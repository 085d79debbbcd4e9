"""HTTP by httpx2.

An application's own client is used without changes and never closed. A plain `httpx` client works as well, since the
two libraries share their API: the exceptions are looked up in the module that the client comes from.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from types import TracebackType
from typing import Any

import anyio

from trunkline._http.common import (
    CLOSE_LIMIT,
    DRAIN_LIMIT,
    KEEP,
    KEEP_ALIVE,
    HTTPClient,
    environment_proxies,
    reason_of,
    tls_context,
)
from trunkline._http.log_filter import guard_logs, sending
from trunkline._urls import redact_url
from trunkline.authoring.provider import ByteStream, Timeouts
from trunkline.authoring.wire import LowerHeaders, WireRequest
from trunkline.errors import (
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    ProtocolViolation,
    RemoteError,
    StreamInterrupted,
)


class HTTPTransport:
    """A `Transport` over HTTP/1.1, on asyncio and trio, with one pool of connections.

    `proxy` and `ca_bundle` are the settings of that name. `client` is an application's own client.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        client: HTTPClient | None = None,
    ) -> None:
        self._proxy = proxy
        self._ca_bundle = ca_bundle
        self._own = client is None
        self._client: Any = client
        self._library: Any = _library(client) if client is not None else None
        self._build: Any = None
        self._send: Any = None

    async def __aenter__(self) -> HTTPTransport:
        if self._client is None:
            if self._proxy is None and not environment_proxies():
                self._open_pool()
            else:
                self._open_client()
            guard_logs("httpx2")
        else:
            self._build, self._send = self._client.build_request, _sender(self._client)
            guard_logs(self._library.__name__)
        return self

    def _open_pool(self) -> None:
        from trunkline._http.pool import ERRORS, Pool

        # A file that cannot be read shows now; what TLS trusts by default takes time to load.
        trusted = tls_context(self._ca_bundle) if self._ca_bundle is not None else None
        pool = Pool(keep=KEEP, seconds=KEEP_ALIVE, trust=lambda: trusted or tls_context(None))
        self._client, self._library, self._build, self._send = pool, ERRORS, pool.build, pool.send

    def _open_client(self) -> None:
        from http.cookiejar import CookieJar, DefaultCookiePolicy

        import httpx2

        verify = tls_context(self._ca_bundle) if self._ca_bundle is not None else True
        try:
            client = httpx2.AsyncClient(
                proxy=self._proxy,
                verify=verify,
                # Connections are for the application to count: each stream holds one for as long as it is read.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEEP, keepalive_expiry=KEEP_ALIVE),
                follow_redirects=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # takes none
            )
        except (ValueError, ImportError, httpx2.InvalidURL) as error:
            proxy = f" {redact_url(self._proxy)}" if self._proxy else " of the environment"
            raise ConfigurationError(f"the proxy{proxy} cannot be used: {error}", setting="proxy") from None
        self._client, self._library = client, httpx2
        self._build, self._send = _builder(httpx2, client.headers), _sender(client)

    async def __aexit__(self, *exc_info: object) -> None:
        if self._own and self._client is not None:
            client, self._client = self._client, None
            with anyio.CancelScope(shield=True):
                await client.aclose()

    def send(self, wire_request: WireRequest, timeouts: Timeouts) -> AbstractAsyncContextManager[ByteStream]:
        """Send; leaving the context manager closes the answer, and its connection unless all of it was read."""
        return _Exchange(self._send, self._library, self._build, wire_request, timeouts)


def _sender(client: Any) -> Any:
    # A header that httpx would choose for itself must not change what a signature covers.
    return partial(client.send, stream=True, auth=None, follow_redirects=False)


def _builder(library: Any, defaults: Mapping[str, str]) -> Any:
    """What `build_request` is for a client without settings of its own, at half the cost."""
    url_of = lru_cache(maxsize=64)(library.URL)

    def build(method: str, url: str, *, headers: Mapping[str, str], content: bytes, extensions: Any) -> Any:
        target = url_of(url)
        if target.is_relative_url:
            raise library.UnsupportedProtocol("the URL has no scheme or no host")
        told = {**defaults, **headers}
        return library.Request(method, target, headers=told, content=content, extensions=extensions)

    defaults = {name.lower(): value for name, value in defaults.items()}
    return build


def _library(client: object) -> Any:
    for base in type(client).__mro__:
        name = base.__module__.partition(".")[0]
        if name in ("httpx2", "httpx") and base.__name__ == "AsyncClient":
            return sys.modules[name]
    raise ConfigurationError(
        f"http_client takes an httpx2.AsyncClient (or an httpx.AsyncClient), not {type(client).__name__}",
        setting="http_client",
    )


class _Held:
    """The undecoded bytes of an answer, which stay open for `_Exchange` to read on and end where decoding fails."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    def __anext__(self) -> Awaitable[bytes]:
        return self._chunks.__anext__()

    async def aclose(self) -> None:
        """Nothing."""


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return LowerHeaders(found)


def _closing() -> anyio.CancelScope:
    return anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_LIMIT)


class _Exchange:
    """One request and the answer to it."""

    __slots__ = (
        "_build",
        "_chunks",
        "_ended",
        "_library",
        "_raw",
        "_request",
        "_response",
        "_send",
        "_timeouts",
        "_url",
        "headers",
    )

    def __init__(self, send: Any, library: Any, build: Any, request: WireRequest, timeouts: Timeouts) -> None:
        self._send = send
        self._build = build
        self._library = library
        self._request: WireRequest | None = request
        self._url = request.url
        self._timeouts = timeouts
        self._response: Any = None
        self.headers: Mapping[str, str] = {}
        self._chunks: Any = None
        self._raw: Any = None
        self._ended = False

    @property
    def status(self) -> int:
        status: int = self._response.status_code
        return status

    async def __aenter__(self) -> ByteStream:
        request, timeouts, self._request = self._request, self._timeouts, None
        assert request is not None
        failed: Exception | None = None
        limits = {"connect": timeouts.connect, "read": timeouts.headers, "write": timeouts.headers, "pool": None}
        sending.set(True)
        try:
            built = self._build(
                request.method,
                request.url,
                headers=dict(request.headers),
                content=request.body,
                extensions={"timeout": limits},
            )
            response = self._response = await self._send(built)
            # The headers are here: how long the body may take is for the pipeline to say.
            limits["read"] = None
            self.headers = _headers(getattr(response.headers, "raw", response.headers))
        except Exception as error:
            failed = self._error(error)
        finally:
            sending.set(False)
        if failed is not None:
            # Raised here, it has no context: reports of errors would show the HTTP client's frames, headers included.
            raise failed
        self._open_body()
        return self

    def _open_body(self) -> None:
        response = self._response
        plain = self.headers.get("content-encoding", "identity").strip().lower() in ("", "identity")
        if plain and not getattr(response, "is_stream_consumed", False):
            # It is read where the library has it: the generators above that cost more than all the rest of a chunk.
            self._raw = self._chunks = response.stream.__aiter__()
            return
        if hasattr(response, "decoded"):
            response = response.decoded()
        self._raw = held = _Held(response.aiter_raw())
        response.aiter_raw = lambda chunk_size=None: held
        self._chunks = response.aiter_bytes()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sending.set(True)
        if self._ended and self._is_kept():
            await self._response.aclose()  # which waits for nothing
            sending.set(False)
            return
        with _closing() as scope:
            unread = kind is None and not self._ended
            if unread and not (await self._drain(self._chunks) and self._is_kept()):
                scope.deadline = anyio.current_time() + CLOSE_LIMIT
            await self._response.aclose()
        if scope.cancelled_caught:
            with _closing():
                await self._response.aclose()
        if not self._ended:
            # httpx nests generators and closes the outer ones only; reading on from the closed connection ends them
            # all, here and not in the garbage collector.
            with _closing():
                await self._drain(self._chunks)
                await self._drain(self._raw)
        sending.set(False)

    def _is_kept(self) -> bool:
        version = self._response.extensions.get("http_version")
        return version == b"HTTP/1.1" and self.headers.get("connection", "").lower() != "close"

    async def _drain(self, chunks: AsyncIterable[bytes]) -> bool:
        """Whether the answer was read to its end."""
        # A connection can be used again once its answer was read to the end. After the terminator that is a few bytes,
        # which have mostly arrived; a server that parks its socket loses it.
        size = 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > DRAIN_LIMIT:
                    return False
        except Exception as error:
            if not isinstance(error, (self._library.HTTPError, self._library.StreamError, OSError)):
                raise
        self._ended = True
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        # What the library logs here holds no headers and no URL.
        try:
            chunk: bytes = await self._chunks.__anext__()
            return chunk
        except StopAsyncIteration:
            self._ended = True
            raise
        except Exception as error:
            self._ended = not isinstance(error, self._library.DecodingError)
            failed = self._error(error)
        raise failed

    def _error(self, error: Exception) -> Exception:
        """Our error for the HTTP library's, whose own text is kept where it holds no headers and no bodies."""
        library = self._library
        where = redact_url(self._url)
        reason = reason_of(error)
        if isinstance(error, library.ConnectTimeout):
            return ConnectTimeout(f"no connection to {where} within {self._timeouts.connect:g} s")
        if self._response is None and isinstance(error, (library.ReadTimeout, library.WriteTimeout)):
            return FirstChunkTimeout(f"no answer from {where} within {self._timeouts.headers:g} s")
        if isinstance(error, library.DecodingError):
            return ProtocolViolation(f"the answer of {where} has a broken content encoding: {reason}")
        if isinstance(error, library.ProxyError):
            return ConnectionFailed(f"the proxy refuses to connect to {where}: {reason}")
        if isinstance(error, library.LocalProtocolError):
            # The library's text shows the header.
            return ConfigurationError(f"a request to {where} cannot be sent: a header holds what HTTP does not allow")
        if isinstance(error, (library.InvalidURL, library.UnsupportedProtocol)):
            return ConfigurationError(f"a request to {where} cannot be sent: {reason}")
        if isinstance(error, library.TransportError):
            if self._response is None:
                return ConnectionFailed(f"cannot reach {where}: {reason}")
            return StreamInterrupted(f"the connection to {where} was lost: {reason}")
        if isinstance(error, UnicodeError):
            return ConfigurationError(f"a request to {where} cannot be sent: a header or the URL is not ASCII")
        if isinstance(error, ssl.SSLError):
            return ConnectionFailed(f"no secure connection to {where}: {reason}", retryable=False)
        return error if not isinstance(error, OSError) else _os_error(where, reason, self._response is None)


def _os_error(where: str, reason: str, before: bool) -> RemoteError:
    return ConnectionFailed(f"cannot reach {where}: {reason}") if before else StreamInterrupted(f"{where}: {reason}")
