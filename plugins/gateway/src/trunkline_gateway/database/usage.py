"""The stored usage and the log of calls."""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import anyio
from sqlalchemy import Connection, Row, delete, func, insert, select

from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.tables import log, usage
from trunkline_gateway.database.upserts import upsert
from trunkline_gateway.database.values import bounded, clean
from trunkline_gateway.usage import CallRecord, UsageRow

logger = logging.getLogger("trunkline_gateway")

WRITE_SECONDS = 1.0
"""The seconds between two writes."""

PRUNE_SECONDS = 3600.0
"""The seconds after which old rows of the log are looked for again when none are left."""

MOST_QUEUED = 10_000
"""The number of rows of the log that wait while the database is away. Then the oldest are lost; usage never is."""

_ROWS = 500
"""The number of rows in one statement."""

_DELETED = 1000
"""The most rows of the log that are deleted between two writes."""

_COUNTED = ("requests", "errors", "input_tokens", "output_tokens", "cost", "unpriced")
_LOGGED = tuple(column.name for column in log.c if column.name != "sequence")


class UsageStore:
    """Usage by day, key, service and model, and the log of calls.

    `record` only queues. `run` writes what is queued about once a second, many calls in one transaction; `flush` at
    once. A `kill -9` loses the usage of the last second, but budgets are not affected.
    """

    def __init__(self, database: Database, *, log_days: int) -> None:
        self._database = database
        self._log_days = log_days
        self._queue: deque[CallRecord] = deque()
        # What is added to usage, by its primary key: the name of the key, and what is counted.
        self._counts: dict[tuple[datetime.date, int, str, str], tuple[str, list[int]]] = {}
        self._rows: deque[dict[str, Any]] = deque(maxlen=MOST_QUEUED)
        self._lock = anyio.Lock()

    def record(self, record: CallRecord) -> None:
        """Queue a call. Never waits and never raises."""
        self._queue.append(record)
        if len(self._queue) > MOST_QUEUED:
            self._count()

    async def run(self) -> None:
        """Write what is queued, until cancelled. Deletes rows of the log that are older than `log_days`."""
        pruned_at = -PRUNE_SECONDS
        while True:
            await self.flush()
            if anyio.current_time() - pruned_at >= PRUNE_SECONDS:
                try:
                    if await self.prune() < _DELETED:  # otherwise there may be more
                        pruned_at = anyio.current_time()
                except DatabaseError as error:
                    logger.warning("old rows of the log could not be deleted: %s", error)
            await anyio.sleep(WRITE_SECONDS)

    async def flush(self) -> None:
        """Write what is queued now. If that fails, it stays queued, and a warning is logged."""
        async with self._lock:
            self._count()
            if not self._counts:
                return
            counts, self._counts = self._counts, {}
            rows = list(self._rows)
            self._rows.clear()
            try:
                await self._database.write(lambda connection: _write(connection, counts, rows))
            except BaseException as error:
                for identity, (key_name, values) in counts.items():
                    self._add(identity, key_name, values)
                newer = list(self._rows)
                self._rows.clear()
                # The oldest are lost if there are too many.
                self._rows.extend([*rows, *newer])
                if not isinstance(error, DatabaseError):
                    raise
                logger.warning("usage is written later: %s", error)

    async def prune(self) -> int:
        """Delete some rows of the log that are older than `log_days`, and return how many they were."""
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=self._log_days)
        # Not all at once: SQLite lets nothing else write meanwhile, and calls write to reserve and to settle. Usage is
        # written between the parts, and the gateway can end.
        some = select(log.c.sequence).where(log.c.started_at < before).order_by(log.c.started_at).limit(_DELETED)
        statement = delete(log).where(log.c.sequence.in_(some))
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def usage(
        self, since: datetime.date, until: datetime.date, *, key_id: int | None = None
    ) -> Sequence[UsageRow]:
        """Return the usage of days from `since` to `until`, both included."""
        statement = select(usage).where(usage.c.day.between(since, until))
        if key_id is not None:
            statement = statement.where(usage.c.key_id == key_id)
        ordered = statement.order_by(usage.c.day, usage.c.key_id, usage.c.service, usage.c.model)
        rows = await self._database.read(lambda connection: connection.execute(ordered).all())
        return [_usage_row(row) for row in rows]

    async def log(self, *, limit: int = 100, before: str | None = None, key_id: int | None = None) -> list[CallRecord]:
        """Return calls, the newest first; `before` is the id of the last one of the page before."""
        statement = select(log).order_by(log.c.sequence.desc()).limit(limit)
        if key_id is not None:
            statement = statement.where(log.c.key_id == key_id)
        if before is not None:
            last = select(func.max(log.c.sequence)).where(log.c.id == clean(before, 200)).scalar_subquery()
            statement = statement.where(log.c.sequence < last)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_record(row) for row in rows]

    def _count(self) -> None:
        while self._queue:
            record = self._queue.popleft()
            values: dict[str, Any] = {
                name: clean(value) if isinstance(value, str) else value for name, value in _values(record)
            }
            for name in ("id", "key_name", "service", "model", "api"):
                values[name] = values[name][:200]
            for name in ("input_tokens", "output_tokens", "cost"):
                if values[name] is not None:
                    values[name] = bounded(values[name])
            day = record.started_at.astimezone(datetime.UTC).date()
            counted = [
                1,
                int(record.outcome != "ok"),
                values["input_tokens"],
                values["output_tokens"],
                values["cost"] or 0,
                int(record.cost is None),
            ]
            identity = (day, record.key_id or 0, values["service"], values["model"])
            self._add(identity, values["key_name"], counted)
            if self._log_days > 0:
                self._rows.append(values)

    def _add(self, identity: tuple[datetime.date, int, str, str], key_name: str, values: Sequence[int]) -> None:
        _, sums = self._counts.get(identity, ("", [0] * len(_COUNTED)))
        self._counts[identity] = (key_name, [sum(pair) for pair in zip(sums, values, strict=True)])


def _values(record: CallRecord) -> Sequence[tuple[str, Any]]:
    return [(name, getattr(record, name)) for name in _LOGGED]


def _write(
    connection: Connection,
    counts: dict[tuple[datetime.date, int, str, str], tuple[str, list[int]]],
    rows: Sequence[dict[str, Any]],
) -> None:
    statement = upsert(connection, usage)
    added = {name: usage.c[name] + statement.excluded[name] for name in _COUNTED}
    adding = statement.on_conflict_do_update(
        index_elements=["day", "key_id", "service", "model"],
        set_={"key_name": statement.excluded.key_name, **added},
    )
    # In one order, so that two instances do not wait for each other.
    values = [
        dict(zip(("day", "key_id", "service", "model"), identity, strict=True))
        | {"key_name": key_name}
        | dict(zip(_COUNTED, sums, strict=True))
        for identity, (key_name, sums) in sorted(counts.items())
    ]
    for start in range(0, len(values), _ROWS):
        connection.execute(adding, values[start : start + _ROWS])
    for start in range(0, len(rows), _ROWS):
        connection.execute(insert(log), list(rows[start : start + _ROWS]))


def _record(row: Row[Any]) -> CallRecord:
    return CallRecord(**{name: getattr(row, name) for name in _LOGGED})


def _usage_row(row: Row[*tuple[Any, ...]]) -> UsageRow:
    return UsageRow(
        day=row.day,
        key_id=row.key_id or None,
        key_name=row.key_name,
        service=row.service,
        model=row.model,
        requests=row.requests,
        errors=row.errors,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=row.cost,
        unpriced=row.unpriced,
    )
