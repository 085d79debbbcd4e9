"""Fetch images, documents and audio given by URL, for providers that accept only bytes.

Fetching is off by default (setting `fetch_urls`), since a URL in a conversation may come from anyone and could point
into a private network. Only public addresses are reached. The host is resolved here, and the address that was checked
is the address that is dialled (see `_http/dialling.py`). Each redirect is checked again. No credentials or cookies are
sent. Scheme, media type, size and time are limited.

No proxy is used, whether from the settings or the environment: the proxy would resolve the name itself, so the address
could not be checked. Where a proxy is the only way out, a fetch fails, and the application has to fetch the media.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import urljoin, urlsplit

import anyio
import attrs

from trunkline._http import dialling
from trunkline._urls import redact_url
from trunkline.authoring.provider import MediaClass
from trunkline.errors import FetchFailed
from trunkline.messages import Audio, Document, Image, Message, Part, ToolResult, ToolResultPart
from trunkline.request import ChatRequest

Address: TypeAlias = IPv4Address | IPv6Address

# Networks that `is_global` of some Python versions wrongly reports as public (RFC 6890 and the IANA registries).
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")))
_UNICAST = ip_network("2000::/3")  # the global unicast addresses
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last 32 bits
_ISATAP = 0x5EFE  # RFC 5214: in front of an IPv4 address in the last 32 bits
_STORAGE = ("s3://", "gs://")
_TYPES: dict[MediaClass, tuple[str, ...]] = {
    Image: ("image/",),
    Audio: ("audio/",),
    Document: ("application/", "text/"),
}


@attrs.frozen(kw_only=True)
class FetchLimits:
    """Limits of one fetch: the size in bytes, the total time in seconds, and the number of redirects."""

    size: int = 20 * 1024 * 1024
    seconds: float = 30.0
    redirects: int = 3


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


async def fetch(
    url: str,
    accepted: Iterable[str] = (),
    *,
    limits: FetchLimits = FetchLimits(),
    allowed: Callable[[Address], bool] = is_public,
) -> tuple[bytes, str]:
    """Fetch a URL; return the bytes and their media type.

    The media type must start with one of `accepted`, if there are any. `allowed` decides which addresses may be
    dialled. Raises `FetchFailed`, whose message gives the reason, if anything goes wrong.
    """
    accepted = tuple(accepted)
    with anyio.move_on_after(limits.seconds):
        target = url
        for _ in range(limits.redirects + 1):
            media = await _get(target, accepted, limits, allowed)
            if not isinstance(media, str):
                return media
            target = urljoin(target, media)
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
        raise _failed(url, "it must be an http or https URL with a host and without user information")
    if not url.isascii():
        raise _failed(url, "it is not a valid URL: characters outside of ASCII must be percent-encoded, or in Punycode")
    headers = [("Host", parts.netloc), ("Accept-Encoding", "identity"), ("User-Agent", "trunkline")]

    async def resolve(host: str, port: int) -> str:
        return await _resolve(url, host, port, allowed)

    try:
        async with dialling.get(url, headers, resolve=resolve) as response:
            if 300 <= response.status < 400 and "location" in response.headers:
                return response.headers["location"]
            if response.status != 200:
                raise _failed(url, f"the server answered with status {response.status}")
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if accepted and not media_type.startswith(accepted):
                raise _failed(url, f"it is {media_type or 'of an unknown type'}, not {' or '.join(accepted)}…")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _failed(url, "it is compressed, although the request did not allow that")
            data = await response.read(limits.size)
            if data is None:
                raise _failed(url, f"it is larger than {limits.size} bytes")
            return data, media_type
    except dialling.DiallingError as error:
        raise _failed(url, str(error)) from None
    except ValueError as error:
        raise _failed(url, f"it is not a valid URL: {error}") from None


async def _resolve(url: str, host: str, port: int, allowed: Callable[[Address], bool]) -> str:
    """Return an address of a host. Raises `FetchFailed` unless all of its addresses are allowed."""
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
    kinds: tuple[MediaClass, ...],
    *,
    limits: FetchLimits = FetchLimits(),
    allowed: Callable[[Address], bool] = is_public,
) -> ChatRequest:
    """Return the request with all media of these kinds that are given by URL fetched, one after the other.

    URLs of a provider's own storage (`s3:`, `gs:`) are not fetched; the translator may pass them on. Raises
    `FetchFailed` if any of the media cannot be fetched.
    """
    fetched: dict[str, tuple[bytes, str]] = {}

    async def media(value: ToolResultPart) -> ToolResultPart:
        if not isinstance(value, (Image, Document, Audio)) or not isinstance(value, kinds) or value.url is None:
            return value
        if value.url.lower().startswith(_STORAGE):
            return value
        if value.url not in fetched:
            fetched[value.url] = await fetch(value.url, _TYPES[type(value)], limits=limits, allowed=allowed)
        data, media_type = fetched[value.url]
        return attrs.evolve(value, data=data, url=None, media_type=value.media_type or media_type)

    async def part(value: Part) -> Part:
        if isinstance(value, ToolResult):
            return attrs.evolve(value, parts=tuple([await media(item) for item in value.parts]))
        return await media(value) if isinstance(value, (Image, Document, Audio)) else value

    async def message(value: Message) -> Message:
        return attrs.evolve(value, parts=tuple([await part(item) for item in value.parts]))

    return attrs.evolve(request, messages=tuple([await message(value) for value in request.messages]))
