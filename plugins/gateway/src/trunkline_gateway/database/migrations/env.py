"""Alembic's environment. The connection, in a transaction, is given by `database/migrate.py`."""

from __future__ import annotations

from alembic import context

from trunkline_gateway.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most of a table: Alembic then copies it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
