"""GET requests to public addresses only, for fetching media from URLs that nobody vouches for.

httpcore2 dials through a network backend, which can be replaced. The backend here resolves a host, checks its addresses
and dials one of them. So the address that was checked is the address that is used: a name that resolves to another
address a moment later (DNS rebinding) gains nothing. TLS still verifies the certificate of the host's name.

The backend classes are public in httpcore2; `test_core_dependencies.py` checks their signatures.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias, cast

import anyio
import httpcore2

from trunkline._http.common import ConnectionOptions
from trunkline._http.connection import HandshakeStream
from trunkline._http.failures import CUT, protocol_reason, reason_of
from trunkline._http.tls import tls_context

Address: TypeAlias = IPv4Address | IPv6Address

# Networks that `is_global` of some Python versions wrongly reports as public (RFC 6890 and the IANA registries).
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")))
_UNICAST = ip_network("2000::/3")  # the global unicast addresses
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_ISATAP = 0x5EFE  # RFC 5214: in front of an IPv4 address in the last 32 bits


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


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet: not private, shared, loopback, link-local, multicast or reserved.

    For an IPv6 address that contains an IPv4 address (mapped, NAT64), the IPv4 address decides. Tunnels (6to4, Teredo,
    ISATAP) are not public: they lead to an IPv4 address of the sender's choice.
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST or (int(address) >> 32) & 0xFDFFFFFF == _ISATAP:
            return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@asynccontextmanager
async def get(
    url: str, headers: Sequence[tuple[str, str]], *, allowed: Callable[[Address], bool] = is_public
) -> AsyncIterator[DialledResponse]:
    """Send a GET request on a connection of its own, without a proxy and without following redirects.

    The host's addresses are checked, and the connection goes to one of them. Raises `DiallingError` if one is not
    `allowed`, or if the connection or the response fails, `ValueError` for a URL that cannot be requested, and
    `ConfigurationError` for a file of certificates that cannot be used.
    """
    try:
        async with (
            httpcore2.AsyncConnectionPool(
                # Without a context, the pool would use one whose errors name no file.
                ssl_context=tls_context(ConnectionOptions()) if url.startswith("https:") else None,
                network_backend=_CheckedBackend(allowed),
            ) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            yield DialledResponse(response)
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, ssl.SSLError) as error:
        raise DiallingError(reason_of(error, protocol_reason(error, CUT))) from None
    except httpcore2.UnsupportedProtocol as error:
        raise ValueError(str(error)) from None


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves the host itself, and dials an address that it has checked."""

    def __init__(self, allowed: Callable[[Address], bool]) -> None:
        self._allowed = allowed
        self._network = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = await _resolve(host, port, self._allowed)
        return HandshakeStream(await self._network.connect_tcp(address, port, timeout, local_address, socket_options))


async def _resolve(host: str, port: int, allowed: Callable[[Address], bool]) -> str:
    """Return an address of a host. Raises `DiallingError` unless all of its addresses are allowed."""
    try:
        found = await anyio.getaddrinfo(host, port)
    except OSError as error:
        raise DiallingError(f"the name {host} cannot be resolved ({error.strerror})") from None
    except UnicodeError:
        raise DiallingError(f"the name {host} cannot be resolved (it is not valid)") from None
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    refused = [address for address in addresses if not allowed(address)]
    if not addresses:
        raise DiallingError(f"the name {host} cannot be resolved (it has no address)")
    if refused:
        raise DiallingError(f"{host} resolves to {', '.join(map(str, refused))}, which is not public")
    return str(addresses[0])
