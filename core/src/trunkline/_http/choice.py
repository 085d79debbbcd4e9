"""Choose between httpx2 and aiohttp, and share transports between services.

Both libraries are imported when the first transport opens, so that `import trunkline` stays fast.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import anyio

from trunkline._event_loops import asyncio_task, is_closed, running_loop
from trunkline._http.common import ConnectionOptions, HTTPClient
from trunkline._http.httpx2 import HTTPTransport
from trunkline._http.own_client import library_of
from trunkline._http.proxies import environment_proxies
from trunkline._http.tls import check_key_log
from trunkline._masking import is_words
from trunkline._urls import redact_url, url_secrets
from trunkline.authoring.provider import ByteStream, SendOptions, Transport
from trunkline.authoring.wire import WireRequest
from trunkline.errors import CallError
from trunkline.secrets import header_secrets
from trunkline.settings import Settings, setting_error

MIN_AIOHTTP = (3, 14)
"""The oldest version of aiohttp that is used; the extra `aiohttp` requires the same."""


_MAX_COOKIES = 50
"""How many cookies for the hosts of a service are secrets. RFC 6265, section 6.1, asks clients to keep 50 a domain."""

_MAX_COOKIE_CHARACTERS = 16 * 1024
"""How many characters these cookies have at most. Few servers accept a longer header."""

_Key: TypeAlias = tuple[ConnectionOptions, str]
"""What services must have in common to share a transport: their connection options and HTTP library."""


class HTTPTransports:
    """The HTTP transports of one or more services.

    Services with the same connection options and HTTP library share a transport, and so its connections. `client` is
    the application's own client; if it is given, all services use it. Each event loop has its own transports. A
    transport opens with the first service that uses it in a loop, and closes with the last one.
    """

    def __init__(self, client: HTTPClient | None = None) -> None:
        if client is not None:
            library_of(client)  # raises if it is something else
        self._client = client
        self._client_loop: Callable[[], object] | None = None  # gives the loop that the client belongs to
        # By process as well: the child of a fork must not use the connections of its parent.
        self._open: dict[tuple[int, object, _Key], _OpenTransport] = {}

    def _key(self, settings: Settings) -> _Key:
        if self._client is not None:
            return (ConnectionOptions(), "httpx2")
        return (ConnectionOptions.of(settings), http_library(settings))

    def shared(self, settings: Settings) -> SharedTransport:
        """Return a `Transport` for one service in the running event loop.

        Entering it opens the shared transport or joins it; leaving it closes the shared transport after the last one.
        """
        return SharedTransport(self, settings)

    async def acquire(self, settings: Settings) -> _OpenTransport:
        """Return the shared transport for a service with these settings, opened. Call `release` once for each call."""
        loop = running_loop()
        self._check_client(loop)
        self._drop_closed_loops()
        place = (os.getpid(), loop, self._key(settings))
        shared = self._open.get(place)
        if shared is None:
            shared = self._open[place] = _OpenTransport(place, self._make(*place[2]))
        shared.users += 1
        try:
            # The lock is held while a transport opens, so that services that start at once share it.
            async with shared.opening:
                if not shared.is_open:
                    await shared.transport.__aenter__()
                    shared.is_open = True
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.release(shared)
            raise
        return shared

    async def release(self, shared: _OpenTransport) -> None:
        """Close a shared transport if nobody else uses it. The application's own client stays open."""
        shared.users -= 1
        if shared.users:
            return
        self._open.pop(shared.place, None)
        if shared.is_open:
            shared.is_open = False
            await shared.transport.__aexit__(None, None, None)

    def _check_client(self, loop: object) -> None:
        if self._client is None:
            return
        if self._client_loop is None:
            try:
                self._client_loop = weakref.ref(loop)
            except TypeError:  # trio's token, which is small
                self._client_loop = lambda: loop
        elif self._client_loop() is not loop:
            raise CallError(
                "http_client belongs to the event loop in which it was first used, and cannot be used in another one; "
                "create a client and its services in each event loop, or leave http_client out"
            )

    def _drop_closed_loops(self) -> None:
        for place in tuple(self._open):
            if is_closed(place[1]):
                self._open.pop(place, None)  # the garbage collector closes its sockets

    def _make(self, options: ConnectionOptions, library: str) -> Transport:
        if library == "aiohttp":
            from trunkline._http.aiohttp import AiohttpTransport

            return AiohttpTransport(options)
        return HTTPTransport(options, client=self._client)

    def secrets(self, hosts: Collection[str] = ()) -> tuple[str, ...]:
        """Return the secrets that the application's own client sends with each request, and its cookies for `hosts`."""
        client: Any = self._client
        if client is None:
            return ()
        cookies = _cookie_secrets(client.cookies.jar, hosts)
        return (*header_secrets(client.headers), *url_secrets(f"//?{client.params}"), *cookies)


def _cookie_secrets(jar: Any, hosts: Collection[str]) -> list[str]:
    """Return the values of the cookies that were sent to one of `hosts`.

    Servers set them, so they are bounded, and words would be removed from the errors of all services of the client.
    """
    values: list[str] = []
    left = _MAX_COOKIE_CHARACTERS
    for cookie in jar:
        value = cookie.value or ""
        if is_words(value) or len(value) > left or not any(_is_sent_to(host, cookie.domain) for host in hosts):
            continue
        values.append(value)
        left -= len(value)
        if len(values) == _MAX_COOKIES:
            break
    return values


def _is_sent_to(host: str, domain: str) -> bool:
    # `http.cookiejar` adds `.local` to a host without a dot. A cookie without a domain goes to all hosts.
    domain = domain.lower().lstrip(".")
    host = host if "." in host or ":" in host else f"{host}.local"
    return not domain or host == domain.strip("[]") or host.endswith(f".{domain}")


class _OpenTransport:
    """A transport that services share in one event loop, and the number of its users."""

    def __init__(self, place: tuple[int, object, _Key], transport: Transport) -> None:
        self.place = place
        self.transport = transport
        self.users = 0
        self.is_open = False
        self.opening: anyio.Lock = anyio.Lock()


class SharedTransport:
    """One service's view of a shared transport, in one event loop.

    A service whose provider has its own transport never enters this one. Its `Auth` may still send with it, and the
    shared transport is opened then. Leaving it is right in both cases.
    """

    def __init__(self, transports: HTTPTransports, settings: Settings) -> None:
        self._transports = transports
        self._settings = settings
        self._shared: _OpenTransport | None = None
        self._hosts: set[str] = set()
        self._last: tuple[str, str] | None = None
        """The method and the URL of the last request. Its body may be large, and is not kept."""

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that the application's own client sent to the servers of this service."""
        return self._transports.secrets(self._hosts)

    @property
    def last_endpoint(self) -> str | None:
        """The method and the URL of the last request, without its query."""
        return None if self._last is None else f"{self._last[0]} {redact_url(self._last[1])}"

    async def __aenter__(self) -> SharedTransport:
        shared = await self._transports.acquire(self._settings)
        if self._shared is None:
            self._shared = shared
        else:  # another task has entered meanwhile
            await self._transports.release(shared)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            await self._transports.release(shared)

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        self._hosts.add(_host(wire_request.url))
        self._last = wire_request.method, wire_request.url
        if self._shared is None:
            return self._open_and_send(wire_request, options)
        return self._shared.transport.send(wire_request, options)

    @asynccontextmanager
    async def _open_and_send(self, wire_request: WireRequest, options: SendOptions) -> AsyncIterator[ByteStream]:
        await self.__aenter__()
        assert self._shared is not None
        async with self._shared.transport.send(wire_request, options) as response:
            yield response


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:  # the library that sends the request says what is wrong
        return ""


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
    check_key_log()
    try:
        from trunkline._http.aiohttp import VERSION
    except ImportError:
        return (0,)
    return VERSION


def _aiohttp_obstacle(settings: Settings) -> str | None:
    if asyncio_task() is None:
        return "it needs asyncio"
    # aiohttp treats NO_PROXY differently and has no SOCKS. A proxy must work the same whatever is installed. Proxies of
    # the environment may be for other addresses: a service that asks for aiohttp fails only if a request needs one.
    if settings.proxy is not None or (settings.http_library == "auto" and environment_proxies()):
        return "the setting 'proxy' is used only with httpx2"
    if _aiohttp_version() < MIN_AIOHTTP:
        return f"it needs aiohttp {MIN_AIOHTTP[0]}.{MIN_AIOHTTP[1]} or later: pip install 'trunkline[fast]'"
    return None
