"""Choose between httpx2 and aiohttp, and share transports between services.

Both libraries are imported when the first transport opens, so that `import trunkline` stays fast.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import anyio

from trunkline._http.common import HTTPClient, environment_proxies
from trunkline._http.httpx2 import HTTPTransport
from trunkline.authoring.provider import ByteStream, Timeouts, Transport
from trunkline.authoring.wire import WireRequest
from trunkline.settings import Settings, setting_error

MIN_AIOHTTP = (3, 14)
"""The oldest version of aiohttp that is used; the extra `aiohttp` requires the same."""


class HTTPTransports:
    """The HTTP transports of one or more services.

    Services with the same proxy, CA bundle and HTTP library share a transport, and so its connections. `client` is the
    application's own client; if it is given, all services use it.
    """

    def __init__(self, client: HTTPClient | None = None) -> None:
        self._client = client
        self._transports: dict[tuple[str | None, str | None, str], Transport] = {}
        self._resources = AsyncExitStack()
        self._opening = anyio.Lock()

    async def get(self, settings: Settings) -> Transport:
        """Return the open transport for a service with these settings."""
        key: tuple[str | None, str | None, str] = (None, None, "httpx2")
        if self._client is None:
            key = (settings.proxy, settings.ca_bundle, http_library(settings))
        # The lock is held while a transport opens, so that services that start at once share it.
        async with self._opening:
            if key not in self._transports:
                transport = self._make(*key)
                await self._resources.enter_async_context(transport)
                self._transports[key] = transport
        return self._transports[key]

    def _make(self, proxy: str | None, ca_bundle: str | None, library: str) -> Transport:
        if library == "aiohttp":
            from trunkline._http.aiohttp import AiohttpTransport

            return AiohttpTransport(ca_bundle=ca_bundle)
        return HTTPTransport(proxy=proxy, ca_bundle=ca_bundle, client=self._client)

    def shared(self, settings: Settings) -> Transport:
        """Return a `Transport` that opens the shared transport with a service, and leaves it open when that closes."""
        return _SharedTransport(self, settings)

    async def aclose(self) -> None:
        """Close all transports. The application's own client stays open."""
        await self._resources.aclose()


class _SharedTransport:
    """One service's view of a shared transport. Closing it leaves the shared transport open."""

    def __init__(self, transports: HTTPTransports, settings: Settings) -> None:
        self._transports = transports
        self._settings = settings
        self._transport: Transport | None = None

    async def __aenter__(self) -> _SharedTransport:
        self._transport = await self._transports.get(self._settings)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def send(self, wire_request: WireRequest, timeouts: Timeouts) -> AbstractAsyncContextManager[ByteStream]:
        if self._transport is None:
            return self._open_and_send(wire_request, timeouts)
        return self._transport.send(wire_request, timeouts)

    @asynccontextmanager
    async def _open_and_send(self, wire_request: WireRequest, timeouts: Timeouts) -> AsyncIterator[ByteStream]:
        # A service whose provider has its own transport never enters this one. Its `Auth` may still send with it, and
        # the shared transport is opened then.
        transport = await self._transports.get(self._settings)
        async with transport.send(wire_request, timeouts) as response:
            yield response


def http_library(settings: Settings) -> str:
    """Return the HTTP library for a service with these settings: `aiohttp` if it can be used here, else `httpx2`.

    Call it where the service runs, since aiohttp needs a running asyncio loop. Raises `ConfigurationError` if the
    setting asks for aiohttp, but aiohttp cannot be used.
    """
    if settings.http_library == "httpx2":
        return "httpx2"
    obstacle = _aiohttp_obstacle(settings)
    if obstacle is None:
        return "aiohttp"
    if settings.http_library == "aiohttp":
        raise setting_error(
            "http_library", f"is 'aiohttp', but aiohttp cannot be used: {obstacle}", provider=settings.provider
        )
    return "httpx2"


def _aiohttp_version() -> tuple[int, ...]:
    try:
        from trunkline._http.aiohttp import VERSION
    except ImportError:
        return (0,)
    return VERSION


def _aiohttp_obstacle(settings: Settings) -> str | None:
    import asyncio

    try:
        on_asyncio = asyncio.current_task() is not None
    except RuntimeError:
        on_asyncio = False
    if not on_asyncio:
        return "it needs asyncio"
    if settings.proxy is not None or environment_proxies():
        # aiohttp treats NO_PROXY differently and has no SOCKS. A proxy must work the same whatever is installed.
        return "it is not used with a proxy (of the settings or of the environment)"
    if _aiohttp_version() < MIN_AIOHTTP:
        return f"it needs aiohttp {MIN_AIOHTTP[0]}.{MIN_AIOHTTP[1]} or later: pip install 'trunkline[fast]'"
    return None
