"""The kit's tests of the core, over the ways to send that no provider's conformance tests use by default.

Those use aiohttp on asyncio and httpx2's connection pool on trio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import kit_toy
import pytest
from trunkline import Service
from trunkline.testing import canary
from trunkline.testing.conformance import TransportTests


class TestPoolOnAsyncio(TransportTests):
    provider = kit_toy.TOY
    settings = {"url": "{url}", "api_key": canary("api_key"), "http_library": "httpx2"}
    wire = kit_toy.WIRE

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"


class TestClient(TransportTests):
    """The application's own client."""

    provider = kit_toy.TOY
    settings = {"url": "{url}", "api_key": canary("api_key")}
    wire = kit_toy.WIRE
    skips = {
        "test_fault_36_neighbours": "a client of the application's keeps its connections when a service closes",
        "test_fault_44_event_loops": "a client of the application's belongs to one event loop",
    }

    @asynccontextmanager
    async def service(self, url: str, *, client: Any = None, **changes: Any) -> AsyncIterator[Service]:
        async with (
            httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None)) as own,
            super().service(url, client=client or own, **changes) as service,
        ):
            yield service
