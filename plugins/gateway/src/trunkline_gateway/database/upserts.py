"""INSERT … ON CONFLICT, which SQLite and PostgreSQL both have, and SQLAlchemy has for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert


def upsert(connection: Connection, table: Table) -> Insert:
    """Return an INSERT for the connection's database with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)  # type: ignore[return-value] # The parts that are used are the same.
    return sqlite.insert(table)
