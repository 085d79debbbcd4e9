"""What both HTTP libraries share: limits, trust, proxies, and the words of an error."""

from __future__ import annotations

import ssl
from typing import Protocol

from trunkline._urls import url_secrets
from trunkline.errors import (
    ConfigurationError,
)


class HTTPClient(Protocol):
    """An application's own HTTP client: an `httpx2.AsyncClient`, or an `httpx.AsyncClient`, which has the same API."""

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


CLOSE_LIMIT = 0.05
"""Seconds that closing may take, for what is left of a finished answer to arrive or a connection to shut down."""

KEEP = 100
"""How many connections that are not used are kept."""

KEEP_ALIVE = 5.0
"""Seconds for which a connection that is not used is kept."""

DRAIN_LIMIT = 64 * 1024
"""Bytes that are read after the end of an answer in the hope of keeping its connection."""


def environment_secrets() -> tuple[str, ...]:
    """What is secret in the URLs of the environment's proxies."""
    from urllib.request import getproxies

    return tuple(secret for url in getproxies().values() for secret in url_secrets(url))


def environment_proxies() -> bool:
    """Whether the environment has a proxy for some address."""
    from urllib.request import getproxies

    proxies = getproxies()
    return any(proxies.get(scheme) for scheme in ("http", "https", "all"))


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """What to trust: the file of the setting `ca_bundle`, or what httpx2 trusts by default."""
    if ca_bundle is None:
        import httpx2

        return httpx2.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"setting 'ca_bundle': {ca_bundle!r} is no readable file of PEM certificates: {error}", setting="ca_bundle"
        ) from None


def reason_of(error: BaseException) -> str:
    """What an error says, with its causes."""
    # "All connection attempts failed" hides what the operating system said, one or two causes down.
    causes = [str(error).strip()]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 4:
        text = str(cause).strip()
        if text and text not in causes[-1]:
            causes.append(text)
        cause = cause.__cause__ or cause.__context__
    return ": ".join(cause for cause in causes if cause) or type(error).__name__
