"""What a token provider gives, as a token with the time until which it is good. Pure."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from datetime import datetime

import attrs
from trunkline.authoring.json import loads
from trunkline.secrets import Secret

MARGIN = 300.0
"""How many seconds before it expires a token is renewed; half of its remaining life, where that is less."""

UNKNOWN_LIFETIME = 300.0
"""How many seconds a token is kept that does not tell when it expires."""


@attrs.frozen(kw_only=True)
class Token:
    """A bearer token. Times are in seconds since the epoch. Tokens are equal when their values are."""

    value: str = attrs.field(repr=False)
    expires_on: float = attrs.field(eq=False)
    refresh_on: float = attrs.field(eq=False)


def token_from(given: object, now: float) -> Token:
    """The token in what a provider gave: a string, or an object with `token` and, if it tells, `expires_on`.

    A JSON Web Token that comes as a string tells by its claim `exp`; it is read and not verified, which is the
    service's to do. Raises `ValueError` for what is no token.
    """
    value = given if isinstance(given, (str, Secret)) else getattr(given, "token", None)
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"expected a string, or an object with 'token', not {_shape(given)}")
    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the token holds characters that no token has")
    expires_on = _seconds(getattr(given, "expires_on", None))
    if expires_on is None:
        expires_on = _claimed(text)
    if expires_on is None:
        expires_on = now + UNKNOWN_LIFETIME
        return Token(value=text, expires_on=expires_on, refresh_on=expires_on)
    latest = expires_on - min(MARGIN, max(expires_on - now, 0) / 2)
    wished = _seconds(getattr(given, "refresh_on", None))
    return Token(
        value=text,
        expires_on=expires_on,
        refresh_on=wished if wished is not None and now < wished < latest else latest,
    )


def _shape(given: object) -> str:
    return "an empty string" if isinstance(given, (str, Secret)) else type(given).__name__


def _seconds(value: object) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _claimed(token: str) -> float | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return _seconds(claims.get("exp")) if isinstance(claims, dict) else None
