"""What the transports share: options, limits, default headers, and the check of headers."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from trunkline._headers import header_problem
from trunkline._http.decompression import supported
from trunkline._urls import redact_url
from trunkline.errors import ConfigurationError
from trunkline.secrets import Headers, Secret

if TYPE_CHECKING:
    from trunkline._http.proxies import Proxy
    from trunkline.authoring.wire import WireRequest
    from trunkline.settings import Settings


class HTTPClient(Protocol):
    """Your own HTTP client: an `httpx2.AsyncClient`, or an `httpx.AsyncClient`, which has the same API."""

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        ...

    async def aclose(self) -> None:
        """Close the client. Trunkline never calls this: the client belongs to the application."""
        ...

    def build_request(self, method: str, url: str, /) -> object:
        """Build a request with the client's own headers and base URL."""
        ...


class HTTPResponse(Protocol):
    """A response of httpcore2 or of httpx2 whose headers have arrived and whose body has not been read."""

    status: int
    raw_headers: Sequence[tuple[bytes, bytes]]
    """The names and values, in the order of their arrival."""
    http_version: object
    """`b"HTTP/1.1"`, for example."""
    chunks: AsyncIterable[bytes]
    """The body as it arrives."""
    proxy: Proxy | None
    """The proxy that the request went through, if it is known."""
    is_decoded: bool
    """Whether `chunks` are decompressed: an event hook of the application's client has already read the body."""

    def has_unsolicited_bytes(self) -> bool:
        """Whether bytes follow the response. Call this after the response was read to its end."""
        ...

    def refuse_reuse(self) -> None:
        """Let `aclose` close the connection, also if the body was read to its end."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Close the connection, or return it to its pool if the body was read to its end."""
        ...


ErrorTypes: TypeAlias = type[Exception] | tuple[type[Exception], ...]


@attrs.frozen(kw_only=True)
class HTTPErrors:
    """The exception classes of an HTTP library, by their meaning."""

    connect_timeout: ErrorTypes
    pool_timeout: ErrorTypes
    """All connections that an application's client may have were in use for too long."""
    response_timeout: ErrorTypes
    """Sending the request or waiting for the response took too long."""
    decoding: ErrorTypes
    """The body cannot be decompressed."""
    proxy: ErrorTypes
    local_protocol: ErrorTypes
    """The request breaks a rule of HTTP, so the library refuses to send it."""
    remote_protocol: ErrorTypes
    """What the server sent breaks a rule of HTTP, or ends too early."""
    invalid_url: ErrorTypes
    transport: ErrorTypes
    """The connection failed, for any of the reasons above or another."""


class Send(Protocol):
    """Sends a request and waits for the headers of the response.

    `timeouts` holds seconds under httpx's names for them. The function must keep this dict and not a copy: the read
    timeout in it changes after the headers have come. `resend` is that of `SendOptions`.
    """

    def __call__(
        self, wire_request: WireRequest, timeouts: dict[str, float | None], *, resend: bool
    ) -> Awaitable[HTTPResponse]: ...


@attrs.frozen
class Sender:
    """A way to send, with the errors that it raises, and the encodings of bodies that it can decompress.

    `aclose` is `None` for the application's own client.
    """

    send: Send
    errors: HTTPErrors
    encodings: frozenset[str]
    aclose: Callable[[], Awaitable[None]] | None = None


CLOSE_LIMIT = 0.05
"""The longest time, in seconds, to wait for the rest of a finished response, or for a connection to close."""

MAX_IDLE_CONNECTIONS = 100
"""The number of idle connections that are kept open."""

IDLE_SECONDS = 5.0
"""The time, in seconds, for which an idle connection is kept open."""

RESEND_SECONDS = 0.5
"""How soon after a request was sent a reused connection must break for the request to be sent again, in seconds.

If the server has closed the connection, it answers the request with a reset, which arrives after one round trip. That
takes less than 0.4 s, also around the Earth. A connection that breaks later was still open, so the server has read the
request and may have acted on it.
"""

DRAIN_LIMIT = 64 * 1024
"""The most bytes to read after the end of a response so that its connection can be used again."""

MAX_HEAD_SIZE = 512 * 1024
"""How many bytes are read until the headers of a response are complete, with all interim responses (1xx) before it."""

END_OF_HEAD = re.compile(rb"\n\r?\n")
"""The empty line behind the headers of a response. A line may end without a carriage return (RFC 9112, section 2.2)."""


@attrs.frozen(kw_only=True)
class ConnectionOptions:
    """The settings that connections depend on. Services with equal options share their connections."""

    proxy: str | None = attrs.field(default=None, repr=redact_url)
    ca_bundle: str | None = None
    verify: bool = True
    client_certificate: str | None = None
    client_key: str | None = None
    client_key_passphrase: Secret | None = None
    tcp_keepalive: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> ConnectionOptions:
        """Return the options in the settings of a service."""
        return cls(**{field.name: getattr(settings, field.name) for field in attrs.fields(cls)})


def broke_at_once(sent_at: float) -> bool:
    """Whether a connection that has just broken broke at once after a request was sent, at this `time.monotonic()`."""
    return monotonic() - sent_at < RESEND_SECONDS


def keepalive_options(seconds: float | None) -> list[tuple[int, int, int]]:
    """Return the socket options that check an idle TCP connection after `seconds`, and then at the same interval.

    After five checks without an answer the operating system closes the connection.
    """
    if seconds is None:
        return []
    interval = math.ceil(seconds)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Each platform has some of these. macOS calls TCP_KEEPIDLE by another name.
    wanted = (("TCP_KEEPIDLE", interval), ("TCP_KEEPALIVE", interval), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", 5))
    for name, value in wanted:
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


@cache
def user_agent() -> str:
    """Return the `User-Agent` of all requests, unless the settings or the application's own client have another."""
    from importlib.metadata import version

    return f"trunkline/{version('trunkline')}"


@cache
def default_headers() -> dict[str, str]:
    """Return the headers of each request, in lower case. Both libraries send the same."""
    accepted = ", ".join(supported())
    return {"accept": "*/*", "accept-encoding": accepted, "connection": "keep-alive", "user-agent": user_agent()}


def encodings(accept_encoding: str) -> frozenset[str]:
    """Return the values of `Content-Encoding` that the sender of an `Accept-Encoding` header can decompress."""
    return frozenset({"", "identity", *(name.strip().lower() for name in accept_encoding.split(","))})


_ALIASES = {"x-gzip": "gzip", "x-deflate": "deflate"}

_NO_COMPRESSION = frozenset(
    {"", "identity", "none", "aws-chunked", "chunked", "binary", "7bit", "8bit"}
    | {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1"}
)
"""What servers send as `Content-Encoding` that compresses nothing.

Guides tell servers to send `none`, so that proxies do not buffer a stream. Others confuse the header with
`Transfer-Encoding` or with a charset.
"""


def content_encoding(header: str) -> str:
    """Return the compressions in a `Content-Encoding` header, in lower case, or "" if the body is not compressed.

    `x-gzip` is another name for `gzip` (RFC 9110, section 8.4.1.3).
    """
    names = (name.strip().lower() for name in header.split(","))
    return ", ".join(_ALIASES.get(name, name) for name in names if name not in _NO_COMPRESSION)


def unknown_encoding(compressions: str, known: frozenset[str]) -> str | None:
    """Return the first compression of a body that is not one of `known`, or `None`. See `content_encoding`."""
    return next((name for name in compressions.split(", ") if name not in known), None)


def check_request_headers(headers: Headers, url: str) -> None:
    """Raise `ConfigurationError` for a header that HTTP does not allow. Its message shows no value.

    aiohttp would send such a name as it is, and non-ASCII values in UTF-8; httpx2 would refuse them.
    """
    for name, value in headers.items():
        problem = header_problem(name, value)
        if problem is not None:
            raise ConfigurationError(f"a request to {redact_url(url)} cannot be sent: {problem}")
