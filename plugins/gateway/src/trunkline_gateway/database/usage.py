"""The stored usage and the log of calls."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from trunkline_gateway.database.engine import Database
from trunkline_gateway.usage import CallRecord, UsageRow


class UsageStore:
    """Usage by day, key, service and model, and the log of calls.

    `record` only queues. `run` writes what is queued about once a second, many calls in one transaction; `flush` at
    once. A `kill -9` loses the usage of the last second, but nothing of a budget.
    """

    def __init__(self, database: Database, *, log_days: int) -> None: ...

    def record(self, record: CallRecord) -> None:
        """Queue a call. Never waits and never raises."""

    async def run(self) -> None:
        """Write what is queued, until cancelled. Deletes rows of the log that are older than `log_days`."""

    async def flush(self) -> None:
        """Write what is queued now."""

    async def usage(
        self, since: datetime.date, until: datetime.date, *, key_id: int | None = None
    ) -> Sequence[UsageRow]:
        """Return the usage of days from `since` to `until`, both included."""
        raise NotImplementedError

    async def log(self, *, limit: int = 100, before: str | None = None, key_id: int | None = None) -> list[CallRecord]:
        """Return calls, the newest first; `before` is the id of the last one of the page before."""
        raise NotImplementedError
