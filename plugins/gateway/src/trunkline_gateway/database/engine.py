"""The connection to the database, and its migrations."""

from __future__ import annotations

from typing import Self


class Database:
    """An open database. `async with await Database.open(url) as database: …`.

    `url` is `sqlite:///path` or `postgresql://…` (asyncpg). Opening it migrates it to the newest version, once at a
    time over all instances. SQLite runs in WAL mode.
    """

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open and migrate. Raises `DatabaseError` that says what to do, also if a newer version has migrated it."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def revision(self) -> int:
        """Return a number that grows with each change of services, aliases and keys, by any instance.

        Each instance asks for it every second, and reads again what has changed.
        """
        raise NotImplementedError

    async def ping(self) -> None:
        """Raise `DatabaseError` if the database cannot be reached. For `/readyz`."""
        raise NotImplementedError
