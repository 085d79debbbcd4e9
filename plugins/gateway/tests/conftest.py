"""Fixtures of the gateway's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The gateway runs on asyncio: its database library does."""
    return "asyncio"
