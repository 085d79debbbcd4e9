"""Fetch images, documents and audio given by URL, for providers that accept only bytes.

Fetching is off by default (setting `fetch_urls`), since a URL in a conversation may come from anyone and could point
into a private network. Only public addresses are reached, and the address that was checked is the one that is dialled
(see `_http/dialling.py`). Each redirect is checked again. No credentials or cookies are sent. Scheme,
media type, size, time, number and sum are limited.

No proxy is used, whether from the settings or the environment: the proxy would resolve the name itself, so the address
could not be checked. Where a proxy is the only way out, a fetch fails, and the application has to fetch the media.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urljoin, urlsplit

import anyio
import attrs

from trunkline._excerpts import single_line
from trunkline._http import dialling
from trunkline._http.common import user_agent
from trunkline._http.dialling import Address, is_public
from trunkline._urls import redact_url
from trunkline.authoring.provider import MediaClass
from trunkline.errors import FetchFailed
from trunkline.messages import Audio, Document, Image, Message, Part, ToolResult, ToolResultPart
from trunkline.request import ChatRequest

_STORAGE = ("s3://", "gs://")
_TYPES: dict[MediaClass, tuple[str, ...]] = {
    Image: ("image/",),
    Audio: ("audio/",),
    Document: ("application/", "text/"),
}


@attrs.frozen(kw_only=True)
class FetchLimits:
    """Limits of fetching. Sizes are in bytes.

    `size`, `seconds` and `redirects` limit one fetch. `count` and `total_size` limit the media of one request: most
    providers accept no more, and a server that passes on the messages of its users needs little memory.
    """

    size: int = 20 * 1024 * 1024
    seconds: float = 30.0
    redirects: int = 3
    count: int = 100
    total_size: int = 100 * 1024 * 1024


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
            target = _redirected(url, target, media)
        raise _failed(url, f"it redirects more than {limits.redirects} times")
    raise _failed(url, f"it took longer than {limits.seconds:g} s")


def _failed(url: str, why: str) -> FetchFailed:
    return FetchFailed(f"{single_line(redact_url(url), 300)} was not fetched: {why}")


def _redirected(url: str, target: str, location: str) -> str:
    """Return the URL that the header `Location` of a response leads to."""
    try:
        return urljoin(target, location)
    except ValueError as error:
        raise _failed(url, f"it redirects to a URL that is not valid: {error}") from None


async def _get(
    url: str, accepted: tuple[str, ...], limits: FetchLimits, allowed: Callable[[Address], bool]
) -> tuple[bytes, str] | str:
    """Return the bytes and their media type, or the target of a redirect."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _failed(url, f"it is not a valid URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise _failed(url, "it must be an http or https URL with a host and without user information")
    if not (url.isascii() and url.isprintable()) or " " in url:
        problem = "spaces and characters outside of printable ASCII must be percent-encoded, or in Punycode"
        raise _failed(url, f"it is not a valid URL: {problem}")
    headers = [("Host", parts.netloc), ("Accept-Encoding", "identity"), ("User-Agent", user_agent())]
    try:
        async with dialling.get(url, headers, allowed=allowed) as response:
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


async def fetch_parts(
    request: ChatRequest,
    kinds: tuple[MediaClass, ...],
    *,
    limits: FetchLimits = FetchLimits(),
    allowed: Callable[[Address], bool] = is_public,
) -> ChatRequest:
    """Return the request with all media of these kinds that are given by URL fetched, one after the other.

    URLs of a provider's own storage (`s3:`, `gs:`) are not fetched; the translator may pass them on. A URL that occurs
    several times is fetched once. Raises `FetchFailed` if any of the media cannot be fetched, or if there are too many.
    """
    fetched: dict[str, tuple[bytes, str]] = {}
    count = size = 0

    async def media(value: ToolResultPart) -> ToolResultPart:
        nonlocal count, size
        if not isinstance(value, (Image, Document, Audio)) or not isinstance(value, kinds) or value.url is None:
            return value
        if value.url.lower().startswith(_STORAGE):
            return value
        count += 1
        if count > limits.count:
            raise FetchFailed(f"the request has more than {limits.count} media to fetch")
        if value.url not in fetched:
            fetched[value.url] = await fetch(value.url, _TYPES[type(value)], limits=limits, allowed=allowed)
        data, media_type = fetched[value.url]
        size += len(data)  # each part is sent, also if several have the same bytes
        if size > limits.total_size:
            raise FetchFailed(f"the media to fetch for the request are larger than {limits.total_size} bytes together")
        return attrs.evolve(value, data=data, url=None, media_type=value.media_type or media_type)

    async def part(value: Part) -> Part:
        if isinstance(value, ToolResult):
            return attrs.evolve(value, parts=tuple([await media(item) for item in value.parts]))
        return await media(value) if isinstance(value, (Image, Document, Audio)) else value

    async def message(value: Message) -> Message:
        return attrs.evolve(value, parts=tuple([await part(item) for item in value.parts]))

    return attrs.evolve(request, messages=tuple([await message(value) for value in request.messages]))
