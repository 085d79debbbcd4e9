"""Read the provider's response to one request: its headers, its status and, for a call without streaming, its body."""

from __future__ import annotations

import math

from trunkline._calls.read_timeout import ReadTimeouts
from trunkline._urls import redact_url
from trunkline.authoring.decoder import check_nesting
from trunkline.authoring.provider import ByteStream, ResponseParser
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ChunkTimeout, ProtocolViolation, UnexpectedRedirect
from trunkline.settings import Settings


def check_headers(response: ByteStream, settings: Settings) -> None:
    """Raise `ProtocolViolation` if the headers are larger than the setting `header_limit`."""
    limit = settings.header_limit
    if limit is not None and sum(len(name) + len(value) for name, value in response.headers.items()) > limit:
        message = f"the headers of the response are larger than header_limit ({limit} bytes)"
        raise ProtocolViolation(message, status=response.status)


async def read_body(response: ByteStream, settings: Settings, read_timeouts: ReadTimeouts) -> WireResponse:
    """Read the whole body.

    Raises `ChunkTimeout` if it stalls, and `ProtocolViolation` if it is larger than `body_limit` or nested deeper than
    `nesting_limit`.
    """
    chunks, size = [], 0
    limit, seconds = settings.body_limit, settings.chunk_timeout
    iterator, read_timeout = response.__aiter__(), read_timeouts.acquire()
    try:
        while True:
            read_timeout.extend(math.inf if seconds is None else seconds)
            with read_timeout:
                chunk = await anext(iterator, None)
            if read_timeout.ended:
                raise chunk_timeout(settings)
            if chunk is None:
                break
            size += len(chunk)
            if limit is not None and size > limit:
                raise ProtocolViolation(
                    f"the response is larger than body_limit ({limit} bytes)", status=response.status
                )
            chunks.append(chunk)
    finally:
        read_timeouts.release(read_timeout)
    body = b"".join(chunks)
    check_nesting(body, settings.nesting_limit, status=response.status)
    return WireResponse(status=response.status, headers=response.headers, body=body)


def raise_for_status(response: WireResponse, parser: ResponseParser) -> WireResponse:
    """Return the response if its status is 2xx. Raises the provider's error for any other status.

    Redirects are not followed, since the credentials would be sent to another address.
    """
    if 200 <= response.status < 300:
        return response
    if 300 <= response.status < 400:
        target = redact_url(response.headers.get("location", "")) or "nowhere"
        raise UnexpectedRedirect(
            f"the provider redirects to {target}, which is not followed, since credentials would go along; "
            f"if that is the right address, set it as api_url",
            status=response.status,
        )
    raise parser.error(response)


def chunk_timeout(settings: Settings) -> ChunkTimeout:
    """Return the error for a response that stalls in the middle."""
    return ChunkTimeout(f"nothing came for longer than chunk_timeout ({settings.chunk_timeout:g} s)")
