"""What protects the console's pages: headers, cookies, and the origin of requests."""

from __future__ import annotations

import hmac
import secrets
from string import ascii_uppercase
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer", browsers would send "Origin: null" with forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""The headers of each response of the console."""

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"


def is_secure(connection: HTTPConnection, public_url: str | None) -> bool:
    """Whether browsers reach the console over HTTPS."""
    scheme = urlsplit(public_url).scheme if public_url else connection.scope.get("scheme", "http")
    return scheme == "https"


def own_origin(connection: HTTPConnection, public_url: str | None) -> str:
    """Return the origin at which browsers reach the console: `https://llm.example.com`."""
    if public_url:
        parts = urlsplit(public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()
    return f"{connection.scope.get('scheme', 'http')}://{connection.headers.get('host', '')}".lower()


def comes_from_here(request: Request, public_url: str | None) -> bool:
    """Whether a request was sent by a page of the console, or by a program without an origin."""
    origin = request.headers.get("origin")
    if origin is not None:
        return origin.lower() == own_origin(request, public_url)
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def same_token(given: object, wanted: str) -> bool:
    """Compare two tokens in constant time. A missing one differs from all."""
    return isinstance(given, str) and bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def folded(address: str) -> str:
    """Return an e-mail address with the letters A to Z in lower case.

    `str.casefold` would make one address of two people's: `straße` and `strasse`.
    """
    return address.translate(_LOWER)


_LOWER = {ord(letter): letter.lower() for letter in ascii_uppercase}


def new_token() -> str:
    """Make a random token of 256 bits."""
    return secrets.token_urlsafe(32)


def cookie_name(name: str, *, secure: bool) -> str:
    """Return the name of a cookie. With `__Host-`, browsers take it from this host over HTTPS only."""
    return f"__Host-{name}" if secure else name


def set_cookie(response: Response, name: str, value: str, *, secure: bool, max_age: int) -> None:
    """Set a cookie that scripts cannot read and that other sites' forms do not send."""
    response.set_cookie(
        cookie_name(name, secure=secure),
        value,
        max_age=max_age,
        path="/",
        secure=secure,
        httponly=True,
        # "Strict" would not send the cookie after the redirect from an OpenID Connect provider.
        samesite="lax",
    )


def delete_cookie(response: Response, name: str, *, secure: bool) -> None:
    """Delete a cookie."""
    response.delete_cookie(cookie_name(name, secure=secure), path="/", secure=secure, httponly=True, samesite="lax")
