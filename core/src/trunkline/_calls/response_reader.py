"""Read the provider's response to one request: its headers, its status and, for a call without streaming, its body."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from trunkline._calls.deadline import CallDeadline
from trunkline._calls.read_timeout import ReadTimeouts
from trunkline._excerpts import cut, single_line
from trunkline._json import ends_too_early, is_json
from trunkline._urls import redact_url
from trunkline.authoring.http_errors import MESSAGE_LIMIT, request_id_from
from trunkline.authoring.provider import ByteStream, ResponseParser
from trunkline.authoring.structure import check_structure
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    ChunkTimeout,
    ProtocolViolation,
    RemoteError,
    StreamInterrupted,
    TrunklineError,
    UnexpectedRedirect,
)
from trunkline.secrets import Headers
from trunkline.settings import Settings

if TYPE_CHECKING:
    from trunkline._http.proxies import Proxy

T = TypeVar("T")

ERROR_BODY_LIMIT = 1024 * 1024
"""How many bytes of the body of an error are read. A provider describes an error in a few kilobytes."""

ERROR_BODY_SECONDS = 5.0
"""How long the body of an error may take to arrive after the headers, in seconds.

The status has arrived, and the body only explains it. Servers send both together, so a longer wait would only delay the
error, or the retry.
"""

_WITHOUT_BODY = (204, 205)

_TARGET_LIMIT = 500
"""How many characters of the target of a redirect are shown. The advice behind it has to stay in the message."""

_OPENING_BRACKET = re.compile(rb"[{\[]")


def check_headers(response: ByteStream, settings: Settings) -> None:
    """Raise `ProtocolViolation` if the headers are larger than the setting `header_limit`."""
    limit = settings.header_limit
    if limit is not None and sum(len(name) + len(value) for name, value in response.headers.items()) > limit:
        message = f"the headers of the response are larger than header_limit ({limit} bytes)"
        raise ProtocolViolation(message, status=response.status)


async def read_body(
    response: ByteStream, settings: Settings, read_timeouts: ReadTimeouts, *, has_lines: bool = False
) -> WireResponse:
    """Read the whole body.

    Raises `ChunkTimeout` if it stalls, and `ProtocolViolation` if it is larger than `body_limit` or nested deeper than
    `nesting_limit`. The nesting is not checked if the body `has_lines`: see `Operation.has_lines`.
    """
    chunks: list[bytes] = []
    size = 0
    limit, seconds = settings.body_limit, settings.chunk_timeout
    iterator, read_timeout = response.__aiter__(), read_timeouts.acquire()
    try:
        while True:
            read_timeout.extend(math.inf if seconds is None else seconds)
            try:
                with read_timeout:
                    chunk = await anext(iterator, None)
            except ProtocolViolation:
                # The body cannot be decompressed. If only the end of its encoding is broken, the answer is complete.
                if not is_json(b"".join(chunks)):
                    raise
                break
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
    if not has_lines and not _is_media(response.headers, body):
        check_structure(body, settings.nesting_limit, status=response.status)
    return WireResponse(status=response.status, headers=response.headers, body=body)


def _is_media(headers: Headers, body: bytes) -> bool:
    """Whether a body is audio or an image, in which brackets mean nothing. No decoder takes it for nested JSON."""
    has_type = headers.get("content-type", "").lower().startswith(("audio/", "image/", "application/octet-stream"))
    return has_type and body.lstrip()[:1] not in (b"[", b"{")


def parse_body(response: WireResponse, parse: Callable[[WireResponse], T]) -> T:
    """Return the result of `parse` for a whole body.

    If the headers state no length, the body ends where the server closes the connection, so HTTP cannot tell a complete
    body from one that breaks off. If such a body is empty or the beginning of JSON, the error of `parse` becomes a
    `StreamInterrupted`.
    """
    try:
        return parse(response)
    except TrunklineError as error:
        has_length = not {"content-length", "transfer-encoding"}.isdisjoint(response.headers)
        if has_length or response.status in _WITHOUT_BODY or not ends_too_early(response.body):
            raise
        message = "the response is empty" if not response.body else "the response ended before it was complete"
        raise StreamInterrupted(message) from error


async def read_error(
    response: ByteStream,
    settings: Settings,
    read_timeouts: ReadTimeouts,
    parser: ResponseParser,
    deadline: CallDeadline,
) -> TrunklineError:
    """Read the body of a response whose status is not 2xx, and return the provider's error.

    The status and the headers have arrived, so nothing that happens to the body replaces them. If the body breaks off,
    stalls, cannot be decompressed, or is larger than a limit, or if the `deadline` of the call passes, the error is
    made from the part that has arrived, and its message says so. Raise the error inside the response's block: that
    closes the connection unless the body has ended.

    Redirects are not followed, since the credentials would be sent to another address. Their body is not read.
    """
    headers = response.headers
    if 300 <= response.status < 400:
        target = single_line(redact_url(headers.get("location", "")), _TARGET_LIMIT)
        return UnexpectedRedirect(
            f"the provider redirects to {target or 'nowhere'}, which is not followed, since credentials would go along",
            advice="if the API has moved there, set it as api_url; a login page means that a gateway, or the network, "
            "wants a login first"
            if target
            else None,
            status=response.status,
            request_id=request_id_from(headers),
        )
    body, problem = await _read_error_body(response, settings, read_timeouts, deadline.suspend())
    try:
        check_structure(body, settings.nesting_limit)
    except ProtocolViolation as too_deep:
        # Without the rest, the body is no valid JSON, and is shown as text.
        excess = next(islice(_OPENING_BRACKET.finditer(body), settings.nesting_limit, None))
        body, problem = body[: excess.start()], too_deep.message
    error = parser.error(WireResponse(status=response.status, headers=headers, body=body))
    if isinstance(error, RemoteError):
        error.status = error.status or response.status
        error.request_id = error.request_id or request_id_from(headers)
        proxy: Proxy | None = getattr(response, "forwarded_by", None)  # of the transport of httpx2
        if proxy is not None and isinstance(error.body, str):  # a web page, or other text
            error.proxy = redact_url(proxy.url)
            direct = "" if proxy.setting else "; if it need not go through the proxy, add its host to NO_PROXY"
            error.advice = error.advice or f"this may be the answer of {proxy}, not of the server{direct}"
        if problem is not None:
            # Within the limit, the reason stays when long messages are cut.
            error.message = f"{cut(error.message, MESSAGE_LIMIT)}; the body of this response is incomplete: {problem}"
            error.args = (error.message,)
    return error


async def _read_error_body(
    response: ByteStream, settings: Settings, read_timeouts: ReadTimeouts, left: float
) -> tuple[bytes, str | None]:
    """Read the body of an error for at most `left` seconds.

    Return what has arrived of it, and why the rest is missing, or `None`.
    """
    body = bytearray()
    limit = min(ERROR_BODY_LIMIT, settings.body_limit or ERROR_BODY_LIMIT)
    seconds = math.inf if settings.chunk_timeout is None else settings.chunk_timeout
    iterator, read_timeout = response.__aiter__(), read_timeouts.acquire()
    deadline = read_timeout.time() + min(ERROR_BODY_SECONDS, left)
    try:
        while True:
            read_timeout.extend(min(seconds, max(0, deadline - read_timeout.time())))
            with read_timeout:
                chunk = await anext(iterator, None)
            if read_timeout.ended:
                return bytes(body), "the rest did not arrive in time"
            if chunk is None:
                return bytes(body), None
            body += chunk
            if len(body) > limit:
                return bytes(body[:limit]), f"only its first {limit} bytes were read"
    except RemoteError as error:
        return bytes(body), error.message
    except Exception as error:
        # Whatever a transport raises. It must not hide the status.
        return bytes(body), f"reading it failed ({type(error).__name__})"
    finally:
        read_timeouts.release(read_timeout)


def chunk_timeout(settings: Settings) -> ChunkTimeout:
    """Return the error for a response that stalls in the middle."""
    return ChunkTimeout(f"nothing came for longer than chunk_timeout ({settings.chunk_timeout:g} s)")
