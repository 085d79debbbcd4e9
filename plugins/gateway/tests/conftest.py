"""Fixtures of the gateway's tests."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from gateway_servers import PostgresqlServer, postgresql_server
from trunkline_gateway.database.engine import Database


@pytest.fixture
def anyio_backend() -> str:
    """The gateway runs on asyncio: its database library does."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server that the tests share."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return server.database(secrets.token_hex(8))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database, of each kind."""
    async with await Database.open(database_url) as opened:
        yield opened
