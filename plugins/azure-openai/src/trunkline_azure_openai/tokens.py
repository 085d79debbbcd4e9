"""The result of a token provider, as a token with its expiry. Pure."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from datetime import datetime

import attrs
from trunkline.authoring.json import loads
from trunkline.secrets import Secret

MARGIN = 300.0
"""Seconds before its expiry at which a token is renewed; at most half of its remaining life."""

UNKNOWN_LIFETIME = 300.0
"""Seconds for which a token of unknown expiry is used."""

LATEST = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch. A later expiry counts as unknown."""


@attrs.frozen(kw_only=True)
class Token:
    """A bearer token. Tokens are equal when their values are.

    Times are seconds of one clock: the wall clock until `on_clock` converts them.
    """

    value: str = attrs.field(repr=False)
    expires_on: float = attrs.field(eq=False)
    refresh_on: float = attrs.field(eq=False)

    def on_clock(self, difference: float) -> Token:
        """Return the token with the times of another clock. `difference` is the other clock minus this one."""
        return attrs.evolve(self, expires_on=self.expires_on + difference, refresh_on=self.refresh_on + difference)


def token_from(given: object, now: float) -> Token:
    """Read a token provider's result: a string, or an object with `token` and perhaps `expires_on` and `refresh_on`.

    `now` and the times are in seconds since the epoch. The expiry of a string is read from the claim `exp`, if it is a
    JSON Web Token. It is not verified, which is up to the service. Raises `ValueError` for anything else.
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
        expires_on = now + UNKNOWN_LIFETIME
        return Token(value=text, expires_on=expires_on, refresh_on=expires_on)
    latest = expires_on - min(MARGIN, max(expires_on - now, 0) / 2)
    requested = _seconds(getattr(given, "refresh_on", None))
    return Token(
        value=text,
        expires_on=expires_on,
        refresh_on=requested if requested is not None and now < requested < latest else latest,
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
