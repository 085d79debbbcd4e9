"""Migrates the database, with Alembic."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from trunkline_gateway.database.connecting import (
    DatabaseError,
    database_errors,
    is_sqlite,
    parse_url,
    postgresql_engine,
    sqlite_engine,
)

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0002"
"""The newest migration. Alembic, which is slow to import, is needed only if the database is not there yet."""

_MIGRATION_LOCK = 0x74726E6B6C6E6777
"""The number of PostgreSQL's advisory lock."""

# Alembic keeps the migration that runs in a variable of a module.
_migrating = threading.Lock()


def migrate(url: str, revision: str = "head") -> None:
    """Migrate a database forward or back, to `head`, `base` or a migration's number. Raises `DatabaseError`.

    One process at a time does so; others wait. It blocks: asynchronous code calls it in a thread.
    """
    checked = parse_url(url)

    def work(connection: Connection) -> None:
        _migrate(connection, revision)

    with _migrating, database_errors(checked):
        if is_sqlite(checked):
            engine = sqlite_engine(checked, poolclass=NullPool)
            try:
                # Copying a table must not delete what refers to it. The setting does nothing in a transaction.
                with engine.connect() as connection, connection.execution_options(writes=True).begin():
                    work(connection)
            finally:
                engine.dispose()
        else:
            asyncio.run(_migrate_postgresql(url, work))


async def _migrate_postgresql(url: str, work: Callable[[Connection], None]) -> None:
    engine = postgresql_engine(url, poolclass=NullPool)
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
    current = current_migration(connection)
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


def current_migration(connection: Connection) -> str | None:
    """Return the number of the migration that a database is at, or `None` for a new one."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
