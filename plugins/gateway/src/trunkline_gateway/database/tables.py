"""The tables, and the functions of SQL that SQLite and PostgreSQL write differently."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UTCDateTime(TypeDecorator[datetime.datetime]):
    """A time in UTC. SQLite stores it without a time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: Dialect) -> datetime.datetime | None:
        """Convert to UTC. A time without a zone is taken as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)

    def process_result_value(self, value: datetime.datetime | None, dialect: Dialect) -> datetime.datetime | None:
        """Add the zone."""
        return None if value is None else value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value


BigId = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database counts up. SQLite does so for `INTEGER` only, which has 64 bits there."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)

named_values = Table(
    "named_values",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("value", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("subject", Text, nullable=False),
    Column("csrf", Text, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False, index=True),
)

services = Table(
    "services",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("settings", Text, nullable=False),
    Column("secrets", Text, nullable=True),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("target", Text, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("prefix", String(32), nullable=False),
    Column("name", String(200), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("expires_at", UTCDateTime, nullable=True),
    Column("requests_per_minute", BigInteger, nullable=True),
    Column("tokens_per_minute", BigInteger, nullable=True),
    Column("created_at", UTCDateTime, nullable=False),
    Column("revoked_at", UTCDateTime, nullable=True),
)

# A budget that is taken from a key stays, without limits and not `active`: calls in flight still settle theirs, and
# giving the budget back does not forget what was spent.
budgets = Table(
    "budgets",
    metadata,
    Column("key_id", BigInteger, ForeignKey("keys.id"), primary_key=True, autoincrement=False),
    Column("active", Boolean, nullable=False),
    Column("period", String(8), nullable=False),
    Column("period_start", String(10), nullable=False),
    Column("limit_tokens", BigInteger, nullable=True),
    Column("limit_cost", BigInteger, nullable=True),
    Column("spent_tokens", BigInteger, nullable=False),
    Column("spent_cost", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("reserved_cost", BigInteger, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("key_id", BigInteger, ForeignKey("budgets.key_id"), nullable=False),
    Column("instance", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("input_cost", BigInteger, nullable=False),
    Column("call", JSON(none_as_null=True), nullable=True),
)

instances = Table(
    "instances",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("beat_at", BigInteger, nullable=False),
)

# `key_id` is 0 for the console's playground: a column of a primary key cannot be null.
usage = Table(
    "usage",
    metadata,
    Column("day", Date, primary_key=True),
    Column("key_id", BigInteger, primary_key=True, autoincrement=False),
    Column("service", String(200), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("key_name", String(200), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("sequence", BigId, primary_key=True),
    Column("id", String(200), nullable=False, index=True),
    Column("key_id", BigInteger, nullable=True),
    Column("key_name", String(200), nullable=False),
    Column("service", String(200), nullable=False),
    Column("model", String(200), nullable=False),
    Column("api", String(200), nullable=False),
    Column("started_at", UTCDateTime, nullable=False, index=True),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("first_token_seconds", Float, nullable=True),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost", BigInteger, nullable=True),
    Column("error", Text, nullable=True),
    Column("request", Text, nullable=True),
    Column("response", Text, nullable=True),
    Index("ix_log_key_id_sequence", "key_id", "sequence"),
)


class epoch(FunctionElement[int]):
    """The database's clock, in whole seconds since 1970."""

    type = BigInteger()
    inherit_cache = True


class utc_day(FunctionElement[str]):
    """The day by the database's clock in UTC: `2026-01-31`."""

    type = String()
    inherit_cache = True


class utc_month(FunctionElement[str]):
    """The month by the database's clock in UTC: `2026-01`."""

    type = String()
    inherit_cache = True


@compiles(epoch, "sqlite")
def _(element: epoch, compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(strftime('%s', 'now') AS INTEGER)"


@compiles(epoch, "postgresql")
def _(element: epoch, compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(floor(extract(epoch FROM statement_timestamp())) AS BIGINT)"


@compiles(utc_day, "sqlite")
def _(element: utc_day, compiler: SQLCompiler, **_: Any) -> str:
    return "strftime('%Y-%m-%d', 'now')"


@compiles(utc_day, "postgresql")
def _(element: utc_day, compiler: SQLCompiler, **_: Any) -> str:
    return "to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(utc_month, "sqlite")
def _(element: utc_month, compiler: SQLCompiler, **_: Any) -> str:
    return "strftime('%Y-%m', 'now')"


@compiles(utc_month, "postgresql")
def _(element: utc_month, compiler: SQLCompiler, **_: Any) -> str:
    return "to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM')"
