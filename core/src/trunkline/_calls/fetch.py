"""Fetch images, documents and sound by URL, safely, for providers that accept only bytes.

It happens only where the setting `fetch_urls` allows it, since a URL in a conversation may come from anyone. A host is
resolved here, its addresses are checked, and the connection goes to an address that was checked: a name that resolves
to something else a moment later (DNS rebinding) gains nothing. Only public addresses are reached, each redirect is
checked again, no credentials and no cookies are sent, and the scheme, type, size and time are limited.

No proxy is used, neither that of the settings nor that of the environment: a proxy resolves the name itself, so its
address could not be checked. Where a proxy is the only way out, the fetch fails, and the application has to fetch.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import urljoin, urlsplit

import anyio
import attrs
import httpcore2

from trunkline._urls import redact_url
from trunkline.errors import FetchFailed
from trunkline.messages import Audio, Document, Image, Message, Part, ToolResult, ToolResultPart

if TYPE_CHECKING:
    from trunkline.request import ChatRequest

Address: TypeAlias = IPv4Address | IPv6Address

# Not public, though `is_global` of some Python versions says so. From RFC 6890 and the IANA registries it set up.
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")))
_UNICAST = ip_network("2000::/3")  # the global unicast addresses
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_ISATAP = 0x5EFE  # RFC 5214: in front of an IPv4 address in the last 32 bits
_STORAGE = ("s3://", "gs://")
_TYPES: dict[type, tuple[str, ...]] = {
    Image: ("image/",),
    Audio: ("audio/",),
    Document: ("application/", "text/"),
}


@attrs.frozen(kw_only=True)
class FetchLimits:
    """The limits of one fetch: `size` in bytes, `seconds` in total, and the number of redirects."""

    size: int = 20 * 1024 * 1024
    seconds: float = 30.0
    redirects: int = 3


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet: not private, shared, loopback, link-local, multicast or reserved.

    An IPv6 address that contains an IPv4 address (mapped, NAT64) counts as that address. Tunnels (6to4, Teredo, ISATAP)
    are refused, since nobody publishes an image behind one.
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


async def fetch(
    url: str,
    accepted: Iterable[str] = (),
    *,
    limits: FetchLimits = FetchLimits(),
    allowed: Callable[[Address], bool] = is_public,
) -> tuple[bytes, str]:
    """Fetch a URL and return its bytes and their media type, which must begin with one of `accepted`.

    Raises `FetchFailed` with the reason for everything that goes wrong.
    """
    accepted = tuple(accepted)
    with anyio.move_on_after(limits.seconds):
        target = url
        for _ in range(limits.redirects + 1):
            answer = await _get(target, accepted, limits, allowed)
            if not isinstance(answer, str):
                return answer
            target = urljoin(target, answer)
        raise _failed(url, f"it redirects more than {limits.redirects} times")
    raise _failed(url, f"it took longer than {limits.seconds:g} s")


def _failed(url: str, why: str) -> FetchFailed:
    return FetchFailed(f"{redact_url(url)} was not fetched: {why}")


async def _get(
    url: str, accepted: tuple[str, ...], limits: FetchLimits, allowed: Callable[[Address], bool]
) -> tuple[bytes, str] | str:
    """Return the bytes and their media type, or the target of a redirect."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise _failed(url, "it takes an http or https URL with a host and without user information")
    if not url.isascii():
        raise _failed(
            url, "it is no URL that can be fetched: what is not ASCII must be percent-encoded, or in Punycode"
        )
    headers = [("Host", parts.netloc), ("Accept-Encoding", "identity"), ("User-Agent", "trunkline")]
    try:
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=ssl.create_default_context(), network_backend=_GuardedBackend(url, allowed)
            ) as pool,
            pool.stream("GET", url, headers=headers) as response,
        ):
            headers_received = {name.lower().decode(): value.decode("latin-1") for name, value in response.headers}
            if 300 <= response.status < 400 and "location" in headers_received:
                return headers_received["location"]
            if response.status != 200:
                raise _failed(url, f"the server answered with status {response.status}")
            media_type = headers_received.get("content-type", "").partition(";")[0].strip().lower()
            if accepted and not media_type.startswith(accepted):
                raise _failed(url, f"it is {media_type or 'of an unknown type'}, not {' or '.join(accepted)}…")
            if headers_received.get("content-encoding", "identity") != "identity":
                raise _failed(url, "it is compressed, although the request did not accept that")
            return await _read(url, response, limits), media_type
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, ssl.SSLError) as error:
        raise _failed(url, str(error) or type(error).__name__) from None
    except (httpcore2.UnsupportedProtocol, ValueError, UnicodeError) as error:
        raise _failed(url, f"it is no URL that can be fetched: {error}") from None


async def _read(url: str, response: httpcore2.Response, limits: FetchLimits) -> bytes:
    data, chunks = bytearray(), response.aiter_stream()
    async for chunk in chunks:
        data += chunk
        if len(data) > limits.size:
            break
    else:
        return bytes(data)
    await response.aclose()
    with contextlib.suppress(httpcore2.NetworkError, httpcore2.ProtocolError):
        # The generators within are ended by reading on from the closed connection, not by the garbage collector.
        async for _ in chunks:
            pass
    raise _failed(url, f"it is larger than {limits.size} bytes")


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """A network backend that resolves the host itself and connects to an address that it has checked."""

    def __init__(self, url: str, allowed: Callable[[Address], bool]) -> None:
        self._url = url
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
        address = await _resolve(self._url, host, port, self._allowed)
        return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)


async def _resolve(url: str, host: str, port: int, allowed: Callable[[Address], bool]) -> str:
    try:
        found = await anyio.getaddrinfo(host, port)
    except OSError as error:
        raise _failed(url, f"{host} cannot be resolved: {error}") from None
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    refused = [address for address in addresses if not allowed(address)]
    if refused or not addresses:
        raise _failed(url, f"{host} resolves to {', '.join(map(str, refused)) or 'nothing'}, which is not public")
    return str(addresses[0])


async def fetch_parts(
    request: ChatRequest,
    kinds: tuple[type[Image] | type[Document] | type[Audio], ...],
    *,
    limits: FetchLimits = FetchLimits(),
    allowed: Callable[[Address], bool] = is_public,
) -> ChatRequest:
    """Return the request with the media of these kinds fetched, one after the other, where they have a URL.

    A URL of a provider's own storage (`s3:`, `gs:`) is left for the translator, which may pass it on.
    """
    fetched: dict[str, tuple[bytes, str]] = {}

    async def part(value: Part) -> Part:
        if isinstance(value, ToolResult):
            parts = [await part(item) for item in value.parts]
            return attrs.evolve(value, parts=tuple(item for item in parts if isinstance(item, _ANY_RESULT)))
        if not isinstance(value, (Image, Document, Audio)) or not isinstance(value, kinds) or value.url is None:
            return value
        if value.url.lower().startswith(_STORAGE):
            return value
        if value.url not in fetched:
            fetched[value.url] = await fetch(value.url, _TYPES[type(value)], limits=limits, allowed=allowed)
        data, media_type = fetched[value.url]
        return attrs.evolve(value, data=data, url=None, media_type=value.media_type or media_type)

    async def message(value: Message) -> Message:
        return attrs.evolve(value, parts=tuple([await part(item) for item in value.parts]))

    return attrs.evolve(request, messages=tuple([await message(value) for value in request.messages]))


_ANY_RESULT = ToolResultPart.__args__  # type: ignore[attr-defined]  # the members of the union
