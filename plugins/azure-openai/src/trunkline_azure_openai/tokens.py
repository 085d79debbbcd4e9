"""The result of a token provider, as a token with its expiry. Pure."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from datetime import datetime

from trunkline.authoring.auth import Token
from trunkline.authoring.json import loads
from trunkline.secrets import Secret

UNKNOWN_LIFETIME = 600.0
"""Seconds for which a token of unknown expiry is used. It is renewed after half of them."""

LATEST = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch. A later expiry counts as unknown."""


def token_from(given: object, now: float) -> Token:
    """Read a token provider's result: a string, or an object with `token` and perhaps `expires_on` and `refresh_on`.

    `now` and these times are in seconds since the epoch. The expiry of a string is read from the claim `exp`, if it is
    a JSON Web Token. It is not verified, which is up to the service. Raises `ValueError` for anything else.
    """
    value = given if isinstance(given, (str, Secret)) else getattr(given, "token", None)
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"expected a string, or an object with 'token', not {_shape(given)}")
    text = text.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the token contains characters that are not allowed in a token")
    expires_on = _seconds(getattr(given, "expires_on", None))
    if expires_on is None:
        expires_on = _expiry_claim(text)
    if expires_on is None or expires_on <= now:
        # A token that is new and has expired: the clock of this machine is probably wrong. If not, the token is refused
        # with 401 and then renewed.
        return Token(text, UNKNOWN_LIFETIME)
    refresh_on = _seconds(getattr(given, "refresh_on", None))
    return Token(
        text, expires_on - now, renew_in=refresh_on - now if refresh_on is not None and refresh_on > now else None
    )


def _shape(given: object) -> str:
    return "an empty string" if isinstance(given, (str, Secret)) else type(given).__name__


def _seconds(value: object) -> float | None:
    try:
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= LATEST else None


def _expiry_claim(token: str) -> float | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    return _seconds(claims.get("exp")) if isinstance(claims, dict) else None
