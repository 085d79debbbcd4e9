"""The sessions of the console, and the values that the gateway keeps (the digest of the admin key)."""

from __future__ import annotations

import datetime

import attrs

from trunkline_gateway.database.engine import Database


@attrs.frozen(kw_only=True)
class Session:
    """A person who is signed in."""

    subject: str
    """`admin`, or the e-mail address from OpenID Connect."""
    csrf: str
    """The token that each form sends back."""
    expires_at: datetime.datetime


class SessionStore:
    """Sessions, found by the SHA-256 of the cookie's random value, and named values."""

    def __init__(self, database: Database) -> None: ...

    async def create(self, subject: str, lifetime: datetime.timedelta) -> tuple[str, Session]:
        """Make a session, and return the value of its cookie with it."""
        raise NotImplementedError

    async def find(self, cookie: str) -> Session | None:
        """Return a session that has not expired."""
        raise NotImplementedError

    async def end(self, cookie: str) -> None:
        """End a session."""
        raise NotImplementedError

    async def end_all(self) -> None:
        """End all sessions."""
        raise NotImplementedError

    async def get_value(self, name: str) -> str | None:
        """Return a named value."""
        raise NotImplementedError

    async def set_value(self, name: str, value: str, *, only_if_absent: bool = False) -> bool:
        """Store a named value. Returns whether it was stored: with `only_if_absent`, one of several instances does."""
        raise NotImplementedError
