"""The open database.

Each store writes its work as a plain function of a SQLAlchemy connection, and `Database.read` and `Database.write` run
it in one transaction. On PostgreSQL it runs on the event loop, over asyncpg. On SQLite it runs in a thread, from BEGIN
to COMMIT: handing each statement to a thread, as asynchronous drivers of SQLite do, costs several times as much.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self, TypeAlias, TypeVar

import anyio
from sqlalchemy import Connection, select, text, update
from sqlalchemy.engine import URL

from trunkline_gateway.database import tables
from trunkline_gateway.database.connecting import (
    BUSY_SECONDS,
    DatabaseError,
    database_errors,
    is_sqlite,
    parse_url,
    postgresql_engine,
    sqlite_engine,
)
from trunkline_gateway.database.migrate import HEAD, current_migration, migrate

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

CONNECTIONS = 10
"""The number of connections to PostgreSQL that an instance keeps; it opens as many more under load."""

MOST_TOGETHER = 100
"""The largest number of writes in one transaction of SQLite."""


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
        checked = parse_url(url)
        backend = _SQLite(checked) if is_sqlite(checked) else _PostgreSQL(checked, url)
        try:
            if await backend.run(current_migration, writes=False) != HEAD:
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


_Outcome: TypeAlias = tuple[Any, Exception | None]
"""What a write has returned, or the error that it has raised."""


class _SQLite:
    """A file, by threads: one that writes, and two that read."""

    dialect: Literal["sqlite"] = "sqlite"

    def __init__(self, url: URL) -> None:
        self._url = url
        self._writer = ThreadPoolExecutor(1, "trunkline-gateway-write")
        self._readers = ThreadPoolExecutor(2, "trunkline-gateway-read")
        self._engine = sqlite_engine(url, pool_size=3, max_overflow=0)
        self._writing = self._engine.execution_options(writes=True)
        self._lock: int | None = None
        self._waiting: list[tuple[Callable[[Connection], Any], asyncio.Future[Any]]] = []
        self._batch: asyncio.Future[list[_Outcome]] | None = None

    async def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        loop = asyncio.get_running_loop()
        if not writes:

            def in_thread() -> T:
                with database_errors(self._url), self._engine.begin() as connection:
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

        def end(done: asyncio.Future[list[_Outcome]]) -> None:
            self._batch = None
            try:
                for (_, result), (value, raised) in zip(batch, done.result(), strict=True):
                    if result.done():
                        continue
                    if raised is None:
                        result.set_result(value)
                    else:
                        result.set_exception(raised)
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

    def _write(self, batch: Sequence[Callable[[Connection], Any]]) -> list[_Outcome]:
        """Run functions in one transaction, and return what each has returned or raised.

        If one of them fails, all are rolled back, and each is run again in a separate transaction.
        """
        has_failed = False
        values: list[Any] = []
        try:
            with database_errors(self._url), self._writing.begin() as connection:
                for work in batch:
                    has_failed = True
                    values.append(work(connection))
                    has_failed = False
        except Exception as error:  # whatever it is, it is raised where the write was asked for
            if len(batch) == 1:
                return [(None, error)]
            if has_failed:
                return [outcome for work in batch for outcome in self._write((work,))]
            return [(None, _copy(error)) for _ in batch]
        return [(value, None) for value in values]

    async def mark_dead(self) -> None:
        """Mark the reservations in the file as left behind, if no other process has it open.

        Each process holds a shared lock on a file beside the database. One that gets the exclusive lock is alone. The
        system ends the lock of a process that was killed.
        """
        if fcntl is not None:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._mark_dead)

    def _mark_dead(self) -> None:
        with database_errors(self._url):
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


def _copy(error: Exception) -> Exception:
    """Return an error for one of several tasks, since raising it changes it."""
    found = copy.copy(error)
    found.__cause__ = error.__cause__
    return found


class _PostgreSQL:
    """A server, by asyncpg and a bounded pool. A connection is tested before use: servers restart."""

    dialect: Literal["postgresql"] = "postgresql"

    def __init__(self, url: URL, dsn: str) -> None:
        self._url = url
        self._running = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        with database_errors(url):
            self._engine = postgresql_engine(
                dsn, pool_size=CONNECTIONS, max_overflow=CONNECTIONS, pool_timeout=BUSY_SECONDS, pool_pre_ping=True
            )

    async def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        self._running += 1
        self._is_idle.clear()
        try:
            with database_errors(self._url):
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
        finally:
            self._running -= 1
            if not self._running:
                self._is_idle.set()

    async def aclose(self) -> None:
        # The engine leaves connections that are in use open.
        await self._is_idle.wait()
        with database_errors(self._url):
            await self._engine.dispose()
