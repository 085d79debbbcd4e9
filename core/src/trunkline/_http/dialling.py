"""GET requests whose address is chosen by the caller, for fetching media from URLs that nobody vouches for.

httpcore2 dials through a network backend, which can be replaced. The backend here asks `resolve` for the address of a
host and dials exactly that address. So the address that was checked is the address that is used: a name that resolves
to another address a moment later (DNS rebinding) gains nothing. TLS still verifies the certificate of the host's name.

The backend classes are public in httpcore2; `test_core_dependencies.py` checks their signatures.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

import httpcore2

Resolve: TypeAlias = Callable[[str, int], Awaitable[str]]
"""Returns the address to dial for a host and a port, or raises an error of its own to refuse."""


class DiallingError(Exception):
    """No connection, or no valid response. The message gives the reason."""


class DialledResponse:
    """The response to a GET request, whose body has not been read. Names of headers are in lower case."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.lower().decode(): value.decode("latin-1") for name, value in response.headers}

    async def read(self, limit: int) -> bytes | None:
        """Return the body, or `None` if it has more than `limit` bytes; the rest is not read then."""
        data, chunks = bytearray(), self._response.aiter_stream()
        async for chunk in chunks:
            data += chunk
            if len(data) > limit:
                break
        else:
            return bytes(data)
        await self._response.aclose()
        with contextlib.suppress(httpcore2.NetworkError, httpcore2.ProtocolError):
            # httpcore2 nests async generators. Reading on from the closed connection ends all of them here; otherwise
            # the garbage collector would have to, in no particular task.
            async for _ in chunks:
                pass
        return None


@asynccontextmanager
async def get(url: str, headers: Sequence[tuple[str, str]], *, resolve: Resolve) -> AsyncIterator[DialledResponse]:
    """Send a GET request on a connection of its own, without a proxy and without following redirects.

    Raises `DiallingError` if the connection or the response fails, and `ValueError` for a URL that cannot be requested.
    """
    try:
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=ssl.create_default_context(), network_backend=_ResolvingBackend(resolve)
            ) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            yield DialledResponse(response)
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, ssl.SSLError) as error:
        raise DiallingError(str(error) or type(error).__name__) from None
    except httpcore2.UnsupportedProtocol as error:
        raise ValueError(str(error)) from None


class _ResolvingBackend(httpcore2.AsyncNetworkBackend):
    """Dials the address that `resolve` returns for a host."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._network = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = await self._resolve(host, port)
        return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
