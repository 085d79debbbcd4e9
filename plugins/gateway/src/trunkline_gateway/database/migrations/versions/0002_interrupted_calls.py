"""What a reservation's call was, so that the usage and the log have it if its gateway dies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("reservations", sa.Column("call", sa.JSON, nullable=True))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("reservations", "call")
