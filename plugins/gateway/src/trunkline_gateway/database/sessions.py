"""The sessions of the console, and the values that the gateway keeps (the digest of the admin key)."""

from __future__ import annotations

import datetime
import secrets

import attrs
from sqlalchemy import Connection, delete, insert, select

from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.tables import named_values, sessions
from trunkline_gateway.database.upserts import upsert
from trunkline_gateway.database.values import check_name, check_text
from trunkline_gateway.keys import digest


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

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, subject: str, lifetime: datetime.timedelta) -> tuple[str, Session]:
        """Make a session, and return the value of its cookie with it. Deletes sessions that have expired."""
        cookie = secrets.token_urlsafe(32)
        now = datetime.datetime.now(datetime.UTC)
        session = Session(
            subject=check_text(subject, "the subject of a session"),
            csrf=secrets.token_urlsafe(32),
            expires_at=now + lifetime,
        )

        def work(connection: Connection) -> None:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
            connection.execute(
                insert(sessions).values(
                    digest=digest(cookie), subject=session.subject, csrf=session.csrf, expires_at=session.expires_at
                )
            )

        await self._database.write(work)
        return cookie, session

    async def find(self, cookie: str) -> Session | None:
        """Return a session that has not expired."""
        now = datetime.datetime.now(datetime.UTC)
        statement = select(sessions).where(sessions.c.digest == digest(cookie), sessions.c.expires_at > now)
        row = await self._database.read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else Session(subject=row.subject, csrf=row.csrf, expires_at=row.expires_at)

    async def end(self, cookie: str) -> None:
        """End a session."""
        statement = delete(sessions).where(sessions.c.digest == digest(cookie))
        await self._database.write(lambda connection: connection.execute(statement))

    async def end_all(self) -> None:
        """End all sessions."""
        await self._database.write(lambda connection: connection.execute(delete(sessions)))

    async def get_value(self, name: str) -> str | None:
        """Return a named value."""
        statement = select(named_values.c.value).where(named_values.c.name == name)
        return await self._database.read(lambda connection: connection.execute(statement).scalar_one_or_none())

    async def set_value(self, name: str, value: str, *, only_if_absent: bool = False) -> bool:
        """Store a named value. Returns whether it was stored: with `only_if_absent`, one of several instances does."""
        values = {"name": check_name(name, "a value"), "value": check_text(value, "a value")}

        def work(connection: Connection) -> bool:
            statement = upsert(connection, named_values).values(values)
            if only_if_absent:
                ignoring = statement.on_conflict_do_nothing(index_elements=["name"])
                return connection.execute(ignoring.returning(named_values.c.name)).first() is not None
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})
            )
            return True

        return await self._database.write(work)
