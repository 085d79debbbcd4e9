"""What the transports share: limits, TLS settings, proxies of the environment, and the text of errors."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Awaitable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from trunkline._urls import url_secrets
from trunkline.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx2


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
    chunks: AsyncIterable[bytes] | None
    """The body as it arrives. `None` if an event hook of the application's client has already read it."""

    def aclose(self) -> Awaitable[None]:
        """Close the connection, or return it to its pool if the body was read to its end."""
        ...

    def decoded(self) -> httpx2.Response:
        """Return the same response in the form that decompresses the body."""
        ...


ErrorTypes: TypeAlias = type[Exception] | tuple[type[Exception], ...]


@attrs.frozen(kw_only=True)
class HTTPErrors:
    """The exception classes of an HTTP library, by their meaning."""

    connect_timeout: ErrorTypes
    response_timeout: ErrorTypes
    """Sending the request or waiting for the response took too long."""
    decoding: ErrorTypes
    """The body cannot be decompressed."""
    proxy: ErrorTypes
    local_protocol: ErrorTypes
    """The request breaks a rule of HTTP, so the library refuses to send it."""
    invalid_url: ErrorTypes
    transport: ErrorTypes
    """The connection failed, for any of the reasons above or another."""
    reading: ErrorTypes
    """Everything that reading a body raises."""


CLOSE_LIMIT = 0.05
"""The longest time, in seconds, to wait for the rest of a finished response, or for a connection to close."""

MAX_IDLE_CONNECTIONS = 100
"""The number of idle connections that are kept open."""

IDLE_SECONDS = 5.0
"""The time, in seconds, for which an idle connection is kept open."""

DRAIN_LIMIT = 64 * 1024
"""The most bytes to read after the end of a response so that its connection can be used again."""


def environment_secrets() -> tuple[str, ...]:
    """Return the secrets in the URLs of the environment's proxies."""
    from urllib.request import getproxies

    return tuple(secret for url in getproxies().values() for secret in url_secrets(url))


def environment_proxies() -> bool:
    """Whether the environment sets a proxy for any address."""
    from urllib.request import getproxies

    proxies = getproxies()
    return any(proxies.get(scheme) for scheme in ("http", "https", "all"))


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Create the TLS context: with the certificates in the file `ca_bundle`, or with httpx2's default.

    Raises `ConfigurationError` if the file cannot be read.
    """
    if ca_bundle is None:
        import httpx2

        return httpx2.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"setting 'ca_bundle': {ca_bundle!r} is not a readable file of PEM certificates: {error}",
            setting="ca_bundle",
        ) from None


def reason_of(error: BaseException) -> str:
    """Return the message of an error, followed by the messages of its causes."""
    # The libraries raise "All connection attempts failed"; the operating system's reason is one or two causes below.
    causes = [str(error).strip()]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 4:
        text = str(cause).strip()
        if text and text not in causes[-1]:
            causes.append(text)
        cause = cause.__cause__ or cause.__context__
    return ": ".join(cause for cause in causes if cause) or type(error).__name__
