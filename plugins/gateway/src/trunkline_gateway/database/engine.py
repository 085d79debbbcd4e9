"""The connection to the database, and its migrations.

Each store writes its work as a plain function of a SQLAlchemy connection, and `Database.read` and `Database.write` run
it in one transaction. On PostgreSQL it runs on the event loop, over asyncpg. On SQLite it runs in a thread, from BEGIN
to COMMIT: handing each statement to a thread, as asynchronous drivers of SQLite do, costs several times as much.
"""

from __future__ import annotations

import asyncio
import copy
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

import anyio
from sqlalchemy import Connection, Engine, create_engine, event, select, text, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from trunkline_gateway.database import tables

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

HEAD = "0002"
"""The newest migration. Alembic, which is slow to import, is needed only if the database is not there yet."""

BUSY_SECONDS = 10.0
"""The seconds that SQLite waits for another process that writes, and that a call waits for a free connection."""
COMMAND_SECONDS = 30.0
"""The seconds that a statement may take on PostgreSQL."""
CONNECTIONS = 10
"""The number of connections to PostgreSQL that an instance keeps; it opens as many more under load."""

MOST_TOGETHER = 100
"""The largest number of writes in one transaction of SQLite."""

_MIGRATION_LOCK = 0x74726E6B6C6E6777
"""The number of PostgreSQL's advisory lock."""

# Alembic keeps the migration that runs in a variable of a module.
_migrating = threading.Lock()


class DatabaseError(Exception):
    """The database cannot do what was asked of it. Says why, and what to do; never a password."""


class InvalidValueError(DatabaseError, ValueError):
    """A value cannot be stored, or what it names does not exist."""


class Database:
    """An open database. `async with await Database.open(url) as database: …`.

    `url` is `sqlite:///path` or `postgresql://…` (asyncpg). Opening it migrates it to the newest version, once at a
    time over all instances. SQLite runs in WAL mode.
    """

    def __init__(self, backend: _SQLite | _PostgreSQL) -> None:
        self._backend = backend
        self._is_closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open and migrate. Raises `DatabaseError` that says what to do, also if a newer version has migrated it."""
        checked = _parse(url)
        backend = _SQLite(checked) if _is_sqlite(checked) else _PostgreSQL(checked, url)
        try:
            if await backend.run(_current, writes=False) != HEAD:
                await anyio.to_thread.run_sync(migrate, url)
            if isinstance(backend, _SQLite):
                await backend.mark_dead()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await backend.aclose()
            raise
        return cls(backend)

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """The kind of database."""
        return self._backend.dialect

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a function that only reads, in a transaction. Raises `DatabaseError`."""
        self._check_open()
        return await self._backend.run(work, writes=False)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run a function in a transaction, and commit it. Raises `DatabaseError`. A cancellation waits for its end.

        It may be run again after a rollback, so it changes nothing but the database.
        """
        self._check_open()
        with anyio.CancelScope(shield=True):
            return await self._backend.run(work, writes=True)
        raise AssertionError("a shield swallows no error")

    def _check_open(self) -> None:
        if self._is_closed:
            raise DatabaseError("the database is closed")

    async def aclose(self) -> None:
        """End the reads and writes that have begun, and close all connections. Later ones are refused."""
        if self._is_closed:
            return
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            await self._backend.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def revision(self) -> int:
        """Return a number that grows with each change of services, aliases and keys, by any instance.

        Each instance asks for it every second, and reads again what has changed.
        """
        return await self.read(lambda connection: int(connection.execute(_REVISION).scalar_one()))

    async def ping(self) -> None:
        """Raise `DatabaseError` if the database cannot be reached. For `/readyz`."""
        await self.read(lambda connection: connection.execute(_ONE).scalar_one())


_ONE = select(text("1"))
_REVISION = select(tables.revision.c.number).where(tables.revision.c.id == 1)
_GROW = update(tables.revision).where(tables.revision.c.id == 1).values(number=tables.revision.c.number + 1)


def grow_revision(connection: Connection) -> None:
    """Count a change, in the transaction that makes it."""
    connection.execute(_GROW)


def check_name(name: str, what: str) -> str:
    """Return a name that can be stored: 1 to 200 characters, none of them a control character."""
    if not name.strip():
        raise InvalidValueError(f"the name of {what} is empty")
    if len(name) > 200:
        raise InvalidValueError(f"the name of {what} has {len(name)} characters; at most 200 are possible")
    if not name.isprintable():
        raise InvalidValueError(f"the name of {what} has a control character: {name!a}")
    return name


def check_text(value: str, what: str) -> str:
    """Return a text that can be stored: without NUL, which PostgreSQL refuses, and half surrogates."""
    if clean(value) != value:
        raise InvalidValueError(f"{what} has a NUL or half a surrogate pair")
    return value


def clean(value: str, length: int | None = None) -> str:
    """Return a text with what cannot be stored replaced by U+FFFD, cut to a length."""
    cut = value if length is None else value[:length]
    if "\0" in cut:
        cut = cut.replace("\0", "\ufffd")
    try:
        cut.encode()
    except UnicodeEncodeError:
        cut = cut.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut


def migrate(url: str, revision: str = "head") -> None:
    """Migrate a database forward or back, to `head`, `base` or a migration's number. Raises `DatabaseError`.

    One process at a time does so; others wait. It blocks: asynchronous code calls it in a thread.
    """
    checked = _parse(url)

    def work(connection: Connection) -> None:
        _migrate(connection, revision)

    with _migrating, _errors(checked):
        if _is_sqlite(checked):
            engine = _sqlite_engine(checked, poolclass=NullPool)
            try:
                # Copying a table must not delete what refers to it. The setting does nothing in a transaction.
                with engine.connect() as connection, connection.execution_options(writes=True).begin():
                    work(connection)
            finally:
                engine.dispose()
        else:
            asyncio.run(_migrate_postgresql(url, work))


async def _migrate_postgresql(url: str, work: Callable[[Connection], None]) -> None:
    engine = _postgresql_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config()
    config.attributes["connection"] = connection
    # The newest first.
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    current = _current(connection)
    if current is not None and current not in known:
        raise DatabaseError(
            f"the database was migrated by a newer trunkline-gateway: it is at {current}, and this version knows up "
            f"to {known[0]}. Install the newer version, or with it migrate back: trunkline gateway migrate {known[0]}"
        )
    if revision not in {"head", "base", *known}:
        raise DatabaseError(f"there is no migration {revision!r}: give head, base or one of {', '.join(known[::-1])}")
    target = known[0] if revision == "head" else revision
    if current is not None and (target == "base" or known.index(target) > known.index(current)):
        command.downgrade(config, target)
    elif target != "base":
        command.upgrade(config, target)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # Alembic reads a `%` as the beginning of a variable.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _parse(url: str) -> URL:
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


def _is_sqlite(url: URL) -> bool:
    return url.drivername == "sqlite"


@contextmanager
def _errors(url: URL) -> Iterator[None]:
    """Raise what a driver raises as a `DatabaseError`."""
    try:
        yield
    except DBAPIError as error:
        raise _error(url, error.orig or error) from error
    except (SQLAlchemyError, OSError, sqlite3.Error) as error:
        raise _error(url, error) from error
    except Exception as error:
        # asyncpg raises its own errors from connecting.
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


class _SQLite:
    """A file, by threads: one that writes, and two that read."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, url: URL) -> None:
        self._url = url
        self._writer = ThreadPoolExecutor(1, "trunkline-gateway-write")
        self._readers = ThreadPoolExecutor(2, "trunkline-gateway-read")
        self._engine = _sqlite_engine(url, pool_size=3, max_overflow=0)
        self._writing = self._engine.execution_options(writes=True)
        self._lock: int | None = None
        self._waiting: list[tuple[Callable[[Connection], Any], asyncio.Future[Any]]] = []
        self._batch: asyncio.Future[list[Callable[[], Any]]] | None = None

    async def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        loop = asyncio.get_running_loop()
        if not writes:

            def in_thread() -> T:
                with _errors(self._url), self._engine.begin() as connection:
                    return work(connection)

            return await loop.run_in_executor(self._readers, in_thread)
        result: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, result))
        if self._batch is None:
            self._start_batch(loop)
        return await result

    # What waits while the thread writes is then written in one transaction: beginning and committing one, and handing
    # it to the thread, costs more than what a call writes. Its order is kept.

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = [one for one in self._waiting[:MOST_TOGETHER] if not one[1].done()]  # others were cancelled
        del self._waiting[:MOST_TOGETHER]
        self._batch = loop.run_in_executor(self._writer, self._write, [work for work, _ in batch])

        def end(done: asyncio.Future[list[Callable[[], Any]]]) -> None:
            self._batch = None
            try:
                for (_, result), outcome in zip(batch, done.result(), strict=True):
                    if not result.done():
                        try:
                            result.set_result(outcome())
                        except Exception as error:
                            result.set_exception(error)
            except BaseException as error:
                # Whatever it was, no caller may wait forever, and the next writes have to be made.
                failure = DatabaseError(f"a write was broken off: {error!r}")
                failure.__cause__ = error
                for _, result in batch:
                    if not result.done():
                        result.set_exception(failure)
            if self._waiting:
                self._start_batch(loop)

        self._batch.add_done_callback(end)

    def _write(self, batch: Sequence[Callable[[Connection], Any]]) -> list[Callable[[], Any]]:
        """Run functions in one transaction, and return for each a function that returns or raises what it did.

        If one of them fails, all are rolled back, and each is run again in a separate transaction.
        """
        has_failed = False
        values: list[Any] = []
        try:
            with _errors(self._url), self._writing.begin() as connection:
                for work in batch:
                    has_failed = True
                    values.append(work(connection))
                    has_failed = False
        except Exception as error:
            if has_failed and len(batch) > 1:
                return [outcome for work in batch for outcome in self._write((work,))]
            return [partial(_raise, error) for _ in batch]
        return [partial(_same, value) for value in values]

    async def mark_dead(self) -> None:
        """Mark the reservations in the file as left behind, if no other process has it open.

        Each process holds a shared lock on a file beside the database. One that gets the exclusive lock is alone. The
        system ends the lock of a process that was killed.
        """
        if fcntl is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._mark_dead)

    def _mark_dead(self) -> None:
        with _errors(self._url):
            assert fcntl is not None
            self._lock = os.open(f"{self._url.database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                with self._writing.begin() as connection:
                    connection.execute(update(tables.reservations).values(created_at=0))
                    connection.execute(update(tables.instances).values(beat_at=0))
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    async def aclose(self) -> None:
        def close() -> None:
            self._readers.shutdown()
            self._engine.dispose()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

        while self._batch is not None:
            await asyncio.wait([self._batch])
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, close)
        finally:
            self._writer.shutdown(wait=False)


def _same(value: T) -> T:
    return value


def _raise(error: Exception) -> NoReturn:
    raise copy.copy(error) from error.__cause__


def _sqlite_engine(url: URL, **options: object) -> Engine:
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


class _PostgreSQL:
    """A server, by asyncpg and a bounded pool. A connection is tested before use: servers restart."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(self, url: URL, dsn: str) -> None:
        self._url = url
        self._running = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        with _errors(url):
            self._engine = _postgresql_engine(
                dsn, pool_size=CONNECTIONS, max_overflow=CONNECTIONS, pool_timeout=BUSY_SECONDS, pool_pre_ping=True
            )

    async def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        self._running += 1
        self._is_idle.clear()
        try:
            with _errors(self._url):
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
        finally:
            self._running -= 1
            if not self._running:
                self._is_idle.set()

    async def aclose(self) -> None:
        # The engine leaves connections that are in use open.
        await self._is_idle.wait()
        with _errors(self._url):
            await self._engine.dispose()


def _postgresql_engine(dsn: str, **options: object) -> AsyncEngine:
    # It imports SQLAlchemy's ORM, which nothing else here needs.
    from sqlalchemy.ext.asyncio import create_async_engine

    try:
        import asyncpg  # type: ignore[import-untyped]
    except ImportError:
        raise DatabaseError(
            'PostgreSQL needs the package asyncpg: pip install "trunkline-gateway[postgresql]"'
        ) from None

    async def connect() -> object:
        # asyncpg reads the parameters of the URL as libpq does (`sslmode`, `host=/run/postgresql`).
        connection: object = await asyncpg.connect(dsn, timeout=int(BUSY_SECONDS), command_timeout=COMMAND_SECONDS)
        return connection

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)
