"""The stored budgets: reserved before a call, settled after it.

A reservation is a row, and the sum of a key's rows is `reserved` in its budget. Reserving inserts the row and settling
deletes it, each in the transaction that changes the budget, so whatever happens, each is counted once.
"""

from __future__ import annotations

import calendar
import datetime
import logging
import math
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import attrs
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    update,
)

from trunkline_gateway.budgets import NANO, Amount, Balance, BudgetExceeded, Reservation
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.tables import budgets, epoch, instances, reservations, utc_day, utc_month
from trunkline_gateway.database.upserts import upsert
from trunkline_gateway.database.values import bounded
from trunkline_gateway.keys import Budget, Key
from trunkline_gateway.usage import CallRecord

logger = logging.getLogger("trunkline_gateway")

DEAD_SECONDS = 30
"""The seconds without a heartbeat after which an instance may be dead."""

SUSPECT_SECONDS = 10
"""The seconds for which an instance that may be dead is watched: two heartbeats.

After an outage of the database no instance has a recent heartbeat. Each that lives writes one within that time.
"""

_TOGETHER = 500
"""The most calls that are settled in one transaction."""

_key_id = bindparam("a_key", type_=BigInteger)
_tokens = bindparam("a_tokens", type_=BigInteger)
_cost = bindparam("a_cost", type_=BigInteger)

_columns = budgets.c
_now = case((_columns.period == "day", utc_day()), (_columns.period == "month", utc_month()), else_=literal("total"))
# A clock that is set back does not begin a period again.
_is_current = _columns.period_start >= _now
_current = {
    "period_start": case((_is_current, _columns.period_start), else_=_now),
    "spent_tokens": case((_is_current, _columns.spent_tokens), else_=0),
    "spent_cost": case((_is_current, _columns.spent_cost), else_=0),
}


def _has_left(limit: ColumnElement[int | None], spent: str, reserved: ColumnElement[int]) -> ColumnElement[bool]:
    wanted = _tokens if limit is _columns.limit_tokens else _cost
    return or_(limit.is_(None), _current[spent] + reserved + wanted <= limit)


_RESERVE = (
    update(budgets)
    .where(
        _columns.key_id == _key_id,
        _has_left(_columns.limit_tokens, "spent_tokens", _columns.reserved_tokens),
        _has_left(_columns.limit_cost, "spent_cost", _columns.reserved_cost),
    )
    .values(
        **_current,
        reserved_tokens=_columns.reserved_tokens + _tokens,
        reserved_cost=_columns.reserved_cost + _cost,
    )
)
_INSERT = insert(reservations).values(
    id=bindparam("id"),
    key_id=bindparam("key_id"),
    instance=bindparam("instance"),
    created_at=epoch(),
    tokens=bindparam("tokens"),
    cost=bindparam("cost"),
    input_tokens=bindparam("input_tokens"),
    input_cost=bindparam("input_cost"),
    call=bindparam("call", type_=reservations.c.call.type),
)
_TAKE = (
    delete(reservations)
    .where(reservations.c.id == bindparam("a_reservation"))
    .returning(reservations.c.key_id, reservations.c.tokens, reservations.c.cost)
)
_TAKE_ALL = delete(reservations).where(reservations.c.id.in_(bindparam("some", expanding=True))).returning(reservations)
# What is settled counts in the period in which it is settled.
_SETTLE = (
    update(budgets)
    .where(_columns.key_id == _key_id)
    .values(
        period_start=_current["period_start"],
        spent_tokens=_current["spent_tokens"] + bindparam("used_tokens", type_=BigInteger),
        spent_cost=_current["spent_cost"] + bindparam("used_cost", type_=BigInteger),
        reserved_tokens=_columns.reserved_tokens - _tokens,
        reserved_cost=_columns.reserved_cost - _cost,
    )
)
_BALANCE = select(
    _columns.active,
    _columns.period,
    _columns.limit_tokens,
    _columns.limit_cost,
    _columns.reserved_tokens,
    _columns.reserved_cost,
    _current["spent_tokens"].label("spent_tokens"),
    _current["spent_cost"].label("spent_cost"),
    epoch().label("now"),
).where(_columns.key_id == _key_id)

_is_old = epoch() - DEAD_SECONDS
# An instance that was stopped for longer than that makes reservations again before its next heartbeat.
_is_suspect = and_(
    reservations.c.created_at < _is_old,
    ~exists().where(instances.c.id == reservations.c.instance, instances.c.beat_at >= _is_old),
)
_OWN = select(reservations.c.id).where(reservations.c.instance == bindparam("own"), reservations.c.created_at < _is_old)
_beat_at = select(instances.c.beat_at).where(instances.c.id == reservations.c.instance).scalar_subquery()
_SUSPECTS = select(reservations.c.instance, _beat_at.label("beat_at")).where(_is_suspect).distinct()
_DEAD = (
    select(reservations)
    .where(
        _is_suspect,
        # `Database.open` sets 0 if no other process has the file open.
        or_(reservations.c.created_at == 0, reservations.c.instance.in_(bindparam("dead", expanding=True))),
    )
    .order_by(reservations.c.id)
    .with_for_update(skip_locked=True, of=reservations)
)
_FORGET = delete(instances).where(
    instances.c.beat_at < _is_old, ~exists().where(reservations.c.instance == instances.c.id)
)


class BudgetStore:
    """The budgets of keys. Each decision is one atomic step of the database.

    Each instance writes a heartbeat. `recover` settles the reservations of instances that have died, at what they
    estimated for the input, exactly once. `record` then gets what was known of each of their calls.
    """

    def __init__(
        self,
        database: Database,
        *,
        instance: str,
        record: Callable[[CallRecord], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._instance = instance
        self._record_call = record
        self._clock = clock
        # Which instances may be dead, each with its last heartbeat and since when.
        self._suspects: dict[tuple[str, int | None], float] = {}
        self._recovered_at = -math.inf
        # What could not be settled because the database was away.
        self._unsettled: dict[str, Amount] = {}
        # What calls of this instance hold, or what is in `_unsettled`.
        self._held: set[str] = set()

    async def reserve(
        self, key: Key, amount: Amount, *, input_amount: Amount, call: CallRecord | None = None
    ) -> Reservation | None:
        """Reserve an amount of the key's budget, or return `None` for a key without one. Raises `BudgetExceeded`.

        `input_amount` is the part of `amount` for the request's input, which is charged if this instance dies. `call`
        is how the call is then recorded.
        """
        if key.draft.budget is None:
            return None
        amount, input_amount = _bounded(amount), _bounded(input_amount)
        reservation = Reservation(id=secrets.token_hex(16), key_id=key.id, amount=amount)
        values = {
            "id": reservation.id,
            "key_id": key.id,
            "instance": self._instance,
            "tokens": amount.tokens,
            "cost": amount.cost,
            "input_tokens": input_amount.tokens,
            "input_cost": input_amount.cost,
            "call": None if call is None else _stored(call),
        }
        wanted = {"a_key": key.id, "a_tokens": amount.tokens, "a_cost": amount.cost}
        has_begun = False
        self._held.add(reservation.id)

        def work(connection: Connection) -> BudgetExceeded | None:
            nonlocal has_begun
            has_begun = True
            if connection.execute(_RESERVE, wanted).rowcount:
                connection.execute(_INSERT, values)
                return None
            balance = connection.execute(_BALANCE, wanted).one_or_none()
            if balance is None:
                raise DatabaseError(f"the key with the id {key.id} has no budget in the database")
            return _exceeded(_balance(balance), amount, balance.now)

        try:
            exceeded = await self._database.write(work)
        except BaseException as error:
            # Whether it was committed is not known, unless the database could not be reached at all.
            if has_begun or not isinstance(error, Exception):
                self._unsettled[reservation.id] = Amount()
            else:
                self._held.discard(reservation.id)
            if not isinstance(error, Exception):
                with anyio.CancelScope(shield=True):
                    await self._settle_again()
            raise
        if exceeded is not None:
            self._held.discard(reservation.id)
            raise exceeded
        return reservation

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        """Replace the reservation by what the call used. Settling it again does nothing.

        If the database cannot be reached, it is settled by a later heartbeat or by `flush`.
        """
        try:
            await self._settle(reservation.id, _bounded(amount))
        except BaseException as error:
            self._unsettled.setdefault(reservation.id, _bounded(amount))
            if not isinstance(error, DatabaseError):
                raise
            logger.warning("a budget is settled later: %s", error)
        else:
            self._held.discard(reservation.id)

    async def _settle(self, reservation_id: str, amount: Amount) -> None:
        def work(connection: Connection) -> None:
            taken = connection.execute(_TAKE, {"a_reservation": reservation_id}).one_or_none()
            if taken is not None:
                values = {"a_key": taken.key_id, "a_tokens": taken.tokens, "a_cost": taken.cost}
                connection.execute(_SETTLE, values | {"used_tokens": amount.tokens, "used_cost": amount.cost})

        await self._database.write(work)

    async def flush(self) -> None:
        """Settle what could not be settled, as at the end of the gateway. If that fails, a warning is logged."""
        if not await self._settle_again():
            logger.warning(
                "the budgets of %d calls were not settled: another instance, or the next start, charges their input",
                len(self._unsettled),
            )

    async def _settle_again(self) -> bool:
        """Return whether the database could be reached."""
        # Together, since after an outage there may be many, and the next heartbeat waits for them.
        waiting = sorted(self._unsettled.items())
        for start in range(0, len(waiting), _TOGETHER):
            part = dict(waiting[start : start + _TOGETHER])
            try:
                await self._settle_all(part)
            except DatabaseError:
                return False
            for reservation_id in part:
                self._unsettled.pop(reservation_id, None)
                self._held.discard(reservation_id)
        return True

    async def _settle_all(self, amounts: Mapping[str, Amount]) -> None:
        def work(connection: Connection) -> None:
            sums: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
            for taken in connection.execute(_TAKE_ALL, {"some": list(amounts)}).all():
                used = amounts[taken.id]
                _add(sums[taken.key_id], taken.tokens, taken.cost, used.tokens, used.cost)
            _settle_sums(connection, sums)

        await self._database.write(work)

    async def balance(self, key: Key) -> Balance | None:
        """Return what is left of a key's budget, or `None` for a key without one."""
        row = await self._database.read(
            lambda connection: connection.execute(_BALANCE, {"a_key": key.id}).one_or_none()
        )
        return None if row is None or not row.active else _balance(row)

    async def beat(self) -> None:
        """Write this instance's heartbeat, and settle what could not be settled."""

        def work(connection: Connection) -> None:
            statement = upsert(connection, instances).values(id=self._instance, beat_at=epoch())
            connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"beat_at": epoch()}))

        await self._database.write(work)
        await self._settle_again()

    async def recover(self) -> int:
        """Settle the reservations of dead instances, and return how many they were.

        An instance is dead if it had no heartbeat for `DEAD_SECONDS`, and then none while this one called `recover`
        regularly for `SUSPECT_SECONDS`. Also settles what no call of this instance holds now: what was sent over a
        connection that was lost may arrive later, and a server that fails over may lose what was settled last.
        """
        now = self._clock()
        # If this instance could not reach the database meanwhile, others perhaps could not either.
        known = self._suspects if now - self._recovered_at <= DEAD_SECONDS else {}
        suspects: dict[tuple[str, int | None], float] = {}
        orphans = 0

        def work(connection: Connection) -> list[dict[str, Any] | None]:
            nonlocal suspects, orphans
            found = connection.execute(_SUSPECTS).all()
            suspects = {(row.instance, row.beat_at): known.get((row.instance, row.beat_at), now) for row in found}
            names = [name for (name, _), since in suspects.items() if now - since >= SUSPECT_SECONDS]
            dead = connection.execute(_DEAD, {"dead": names}).all()
            sums: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
            for row in dead:
                connection.execute(_TAKE, {"a_reservation": row.id})
                _add(sums[row.key_id], row.tokens, row.cost, row.input_tokens, row.input_cost)
            own = connection.execute(_OWN, {"own": self._instance}).scalars()
            # What is held is read after the rows: a call may have reserved while `recover` waited for the database.
            lost = [name for name in own if name not in self._held][:_TOGETHER]
            taken = connection.execute(_TAKE_ALL, {"some": lost}).all() if lost else ()
            for row in taken:
                _add(sums[row.key_id], row.tokens, row.cost, row.input_tokens, row.input_cost)
            orphans = len(taken)
            _settle_sums(connection, sums)
            connection.execute(_FORGET)
            return [row.call for row in dead]

        recovered = await self._database.write(work)
        self._suspects, self._recovered_at = suspects, now
        if recovered:
            logger.warning("%d calls of instances that have died were charged for their input", len(recovered))
        if orphans:
            logger.warning("%d reservations without a call were charged for their input", orphans)
        if self._record_call is not None:
            for call in filter(None, recovered):  # an older version stored none
                self._record_call(_call_record(call))
        return len(recovered)


def _add(sums: list[int], *values: int) -> None:
    for index, value in enumerate(values):
        sums[index] += value


def _settle_sums(connection: Connection, sums: Mapping[int, list[int]]) -> None:
    """Replace for each key what was reserved, tokens and cost, by what was used."""
    # In the order of the keys, so that two instances do not wait for each other.
    for key_id, (tokens, cost, used_tokens, used_cost) in sorted(sums.items()):
        values = {"a_key": key_id, "a_tokens": tokens, "a_cost": cost}
        connection.execute(_SETTLE, values | {"used_tokens": used_tokens, "used_cost": used_cost})


_FIELDS = tuple(field.name for field in attrs.fields(CallRecord))


def _stored(call: CallRecord) -> dict[str, Any]:
    # `attrs.asdict` takes several times as long, since it looks into the values.
    return {name: getattr(call, name) for name in _FIELDS} | {"started_at": call.started_at.isoformat()}


def _call_record(stored: dict[str, Any]) -> CallRecord:
    """Return what `reserve` stored. A newer version may have stored more."""
    values = {name: stored[name] for name in _FIELDS if name in stored}
    values["started_at"] = datetime.datetime.fromisoformat(stored["started_at"])
    return CallRecord(**values)


def _bounded(amount: Amount) -> Amount:
    return Amount(tokens=bounded(amount.tokens), cost=bounded(amount.cost))


def _balance(row: Row[*tuple[Any, ...]]) -> Balance:
    return Balance(
        budget=Budget(period=row.period, tokens=row.limit_tokens, cost=row.limit_cost),
        spent=Amount(tokens=row.spent_tokens, cost=row.spent_cost),
        reserved=Amount(tokens=row.reserved_tokens, cost=row.reserved_cost),
    )


def _exceeded(balance: Balance, amount: Amount, now: int) -> BudgetExceeded:
    budget, spent, reserved = balance.budget, balance.spent, balance.reserved
    period = {"day": " a day", "month": " a month", "total": ""}[budget.period]
    is_possible = True
    parts = []
    if budget.tokens is not None and spent.tokens + reserved.tokens + amount.tokens > budget.tokens:
        is_possible &= amount.tokens <= budget.tokens
        left = max(budget.tokens - spent.tokens - reserved.tokens, 0)
        parts.append(f"of {budget.tokens} tokens{period}, {left} are left, and the call may need {amount.tokens}")
    if budget.cost is not None and spent.cost + reserved.cost + amount.cost > budget.cost:
        is_possible &= amount.cost <= budget.cost
        left = max(budget.cost - spent.cost - reserved.cost, 0)
        parts.append(
            f"of {_dollars(budget.cost)}{period}, {_dollars(left)} are left, and the call may cost up to "
            f"{_dollars(amount.cost)}"
        )
    message = "the key's budget has too little left: " + "; ".join(parts)
    return BudgetExceeded(message, resets_after=_seconds_left(budget, now) if is_possible else None)


def _dollars(nano: int) -> str:
    return f"${nano / NANO:.6f}".rstrip("0").rstrip(".")


def _seconds_left(budget: Budget, now: int) -> float | None:
    """Return the seconds until the period ends."""
    if budget.period == "total":
        return None
    today = datetime.datetime.fromtimestamp(now, datetime.UTC)
    days = 1 if budget.period == "day" else calendar.monthrange(today.year, today.month)[1] - today.day + 1
    midnight = today.replace(hour=0, minute=0, second=0) + datetime.timedelta(days=days)
    return midnight.timestamp() - now
