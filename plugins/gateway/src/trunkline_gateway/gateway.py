"""`Gateway`: the parts of a gateway, and its ASGI application."""

from __future__ import annotations

from typing import Self

from starlette.types import ASGIApp

from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.database.usage import UsageStore
from trunkline_gateway.limits import RateLimiter
from trunkline_gateway.running import RunningCalls
from trunkline_gateway.services import Services
from trunkline_gateway.settings import GatewaySettings


class Gateway:
    """A gateway: `async with Gateway(settings) as gateway: …`, with its ASGI application in `gateway.app`.

    Mount it in an application of your own with `parent.mount("/llm", gateway.app)`, and enter it in the lifespan of
    that application.
    """

    settings: GatewaySettings
    app: ASGIApp
    database: Database
    services: Services
    keys: KeyStore
    budgets: BudgetStore
    usage: UsageStore
    sessions: SessionStore
    limiter: RateLimiter
    running: RunningCalls

    def __init__(self, settings: GatewaySettings | None = None) -> None:
        self.settings = settings or GatewaySettings()

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *exc_info: object) -> None:
        raise NotImplementedError
