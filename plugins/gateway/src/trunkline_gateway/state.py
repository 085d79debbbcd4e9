"""What the parts of a running gateway share: its stores, its services, and the calls that run."""

from __future__ import annotations

import secrets

from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.database.usage import UsageStore
from trunkline_gateway.limits import RateLimiter
from trunkline_gateway.logs import log_call
from trunkline_gateway.metrics import Metrics
from trunkline_gateway.models import Models
from trunkline_gateway.running import RunningCalls
from trunkline_gateway.services import Services
from trunkline_gateway.settings import GatewaySettings
from trunkline_gateway.usage import CallRecord


class GatewayState:
    """The state of a gateway. The stores and services are there once it was entered (`gateway.Gateway`)."""

    database: Database
    services: Services
    keys: KeyStore
    budgets: BudgetStore
    usage: UsageStore
    sessions: SessionStore
    limiter: RateLimiter
    models: Models
    new_admin_key: str | None = None
    """The key to sign in to the console with, if it was made just now. It is not kept."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings: GatewaySettings = settings
        self.instance: str = secrets.token_hex(8)
        self.running: RunningCalls = RunningCalls()
        self.metrics: Metrics = Metrics(lambda: len(self.running))
        self.is_open: bool = False
        """Whether the gateway was entered and not left."""
        self.is_draining: bool = False
        """Whether it takes no more calls."""

    def start_draining(self) -> None:
        """Take no more calls. Those in flight go on."""
        self.is_draining = True

    async def reload(self) -> None:
        """Read services and keys again. Calls in flight go on with the settings that they began with."""
        self.keys.forget()
        await self.services.reload()
        self.models.forget()

    def record(self, record: CallRecord) -> None:
        """Count a call that has ended: in the usage, the metrics and the log."""
        self.usage.record(record)
        self.metrics.count(record)
        log_call(record)
