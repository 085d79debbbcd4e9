"""How to connect to each kind of database, and the errors of doing so."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 10.0
"""The seconds that SQLite waits for another process that writes, and that a call waits for a free connection."""
COMMAND_SECONDS = 30.0
"""The seconds that a statement may take on PostgreSQL."""
IDLE_SECONDS = 60.0
"""The seconds after which PostgreSQL ends a transaction that sends no more statements."""


class DatabaseError(Exception):
    """The database cannot do what was asked of it. Says why, and what to do; never a password."""


def parse_url(url: str) -> URL:
    """Read the URL of a database. Raises `DatabaseError`."""
    try:
        checked = make_url(url)
    except (ArgumentError, ValueError):
        # The text of the error may have the password.
        raise DatabaseError("the URL of the database is not one: give sqlite:///path or postgresql://…") from None
    if checked.drivername not in {"sqlite", "postgresql", "postgres"}:
        raise DatabaseError(f"there is no database {checked.drivername!r}: give sqlite:///path or postgresql://…")
    if checked.drivername == "sqlite" and checked.database in {None, "", ":memory:"}:
        raise DatabaseError("a database in memory is lost at the end: give sqlite:///path")
    return checked


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file of SQLite, not a PostgreSQL server."""
    return url.drivername == "sqlite"


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Raise what a driver raises as a `DatabaseError`."""
    try:
        yield
    except DBAPIError as error:
        raise _error(url, error.orig or error) from error
    except (SQLAlchemyError, OSError, sqlite3.Error) as error:
        raise _error(url, error) from error
    except Exception as error:
        # asyncpg, which is optional, raises errors of many classes from connecting.
        if type(error).__module__.partition(".")[0] == "asyncpg":
            raise _error(url, error) from error
        raise


def _error(url: URL, error: BaseException) -> DatabaseError:
    # SQLAlchemy writes the class of the driver's error before its text.
    reason = str(error).rpartition(">: ")[2].partition("\n")[0] or type(error).__name__
    place = url.set(query={}).render_as_string(hide_password=True)
    hint = ""
    if isinstance(error, sqlite3.OperationalError) and "unable to open" in reason:
        hint = "; does its folder exist, and may this user write there?"
    elif isinstance(error, OSError) or "password" in reason:
        hint = "; is its server running, and are the address, the user and the password right?"
    return DatabaseError(f"the database {place}: {reason}{hint}")


def sqlite_engine(url: URL, **options: object) -> Engine:
    """Make SQLAlchemy's engine for a file. The execution option `writes` says that a transaction will write."""
    assert url.database is not None
    path = url.database
    engine = create_engine(URL.create("sqlite", database=path), hide_parameters=True, **options)

    @event.listens_for(engine, "do_connect")
    def make_file(*_: object) -> None:
        # SQLite would give it the mode of the umask. Its other files take the mode of this one.
        # SQLite reports what is wrong with the path. A file that is there must not be opened: closing it would end the
        # locks that this process's other connections hold on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)
        # Python's driver begins transactions where it sees fit, and none for DDL.
        connection.isolation_level = None
        # Waiting first: setting the mode needs a lock.
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit survives the end of the process. That of the machine may lose the last ones, but not the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads and then writes would fail at once if another has written in between.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def postgresql_engine(dsn: str, **options: object) -> AsyncEngine:
    """Make SQLAlchemy's engine for a server. Raises `DatabaseError` if asyncpg is not installed."""
    # It imports SQLAlchemy's ORM, which nothing else here needs.
    from sqlalchemy.ext.asyncio import create_async_engine

    try:
        import asyncpg  # type: ignore[import-untyped]
    except ImportError:
        raise DatabaseError(
            'PostgreSQL needs the package asyncpg: pip install "trunkline-gateway[postgresql]"'
        ) from None

    async def connect() -> Any:
        # asyncpg reads the parameters of the URL as libpq does (`sslmode`, `host=/run/postgresql`).
        connection = await asyncpg.connect(dsn, timeout=int(BUSY_SECONDS), command_timeout=COMMAND_SECONDS)
        # If this machine vanishes in the middle of a transaction, the server would hold its locks for hours. It is no
        # parameter of connecting, since PgBouncer refuses those.
        try:
            await connection.execute(f"SET idle_in_transaction_session_timeout = {int(IDLE_SECONDS * 1000)}")
        except BaseException:  # SQLAlchemy does not know the connection yet, so nothing else would close it
            connection.terminate()
            raise
        return connection

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)
