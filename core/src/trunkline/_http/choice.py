"""The choice between httpx2 and aiohttp, and the transports that services share.

Either library is imported when the first transport opens, so that `import trunkline` stays light.
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

AIOHTTP = (3, 14)
"""The oldest aiohttp that is used."""


class HTTPTransports:
    """One HTTP transport for all services that reach the network in the same way.

    `client` is an application's own, and is then used for all of them.
    """

    def __init__(self, client: HTTPClient | None = None) -> None:
        self._client = client
        self._transports: dict[tuple[str | None, str | None, str], Transport] = {}
        self._resources = AsyncExitStack()
        self._opening = anyio.Lock()

    async def get(self, settings: Settings) -> Transport:
        """The transport for a service with these settings, open."""
        key: tuple[str | None, str | None, str] = (None, None, "httpx2")
        if self._client is None:
            key = (settings.proxy, settings.ca_bundle, http_library(settings))
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
        """The same as a `Transport` of a service, which opens it with the service and leaves it open at its end."""
        return _SharedTransport(self, settings)

    async def aclose(self) -> None:
        """Close them all, but not an application's own client."""
        await self._resources.aclose()


class _SharedTransport:
    """A service's hold on a transport that it shares. Closing the service leaves the transport open."""

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
        # A provider with a transport of its own never enters this one, but its `Auth` may still send with it.
        transport = await self._transports.get(self._settings)
        async with transport.send(wire_request, timeouts) as answer:
            yield answer


def http_library(settings: Settings) -> str:
    """The library for a service with these settings, called where it runs: `aiohttp` where it can be, else `httpx2`.

    Raises `ConfigurationError` where the setting asks for aiohttp and something stands in the way.
    """
    if settings.http_library == "httpx2":
        return "httpx2"
    obstacle = _aiohttp_obstacle(settings)
    if obstacle is None:
        return "aiohttp"
    if settings.http_library == "aiohttp":
        raise setting_error("http_library", f"is 'aiohttp', which {obstacle}", provider=settings.provider)
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
        return "runs on asyncio alone"
    if settings.proxy is not None or environment_proxies():
        # What httpx2 makes of proxies, NO_PROXY and SOCKS is the promise, and aiohttp makes something else of them.
        return "is not used with a proxy, of the settings or of the environment"
    if _aiohttp_version() < AIOHTTP:
        return f"is not installed in version {AIOHTTP[0]}.{AIOHTTP[1]} or later: pip install 'trunkline[fast]'"
    return None
