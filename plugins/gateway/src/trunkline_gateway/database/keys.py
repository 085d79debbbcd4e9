"""The stored keys."""

from __future__ import annotations

import datetime
import hmac
import json
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, insert, select, update

from trunkline_gateway.budgets import NANO
from trunkline_gateway.database.engine import Database, grow_revision
from trunkline_gateway.database.tables import budgets, keys
from trunkline_gateway.database.values import InvalidValueError, check_name
from trunkline_gateway.keys import PREFIX, Budget, Key, KeyDraft, digest, new_secret

V = TypeVar("V")

LARGEST = 2**63 - 1
"""The largest number that the database stores."""

_REMEMBERED = 10_000
"""The number of secrets that are remembered, and again that of those that are no key's."""

_LONGEST_SECRET = 200
"""No key has a secret as long as this. Longer ones are not looked up."""

_SELECT = select(keys, budgets.c.active, budgets.c.period, budgets.c.limit_tokens, budgets.c.limit_cost).outerjoin(
    budgets, budgets.c.key_id == keys.c.id
)


class KeyStore:
    """The virtual keys. Found keys are remembered until the database's revision changes (`forget`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[str, tuple[str, Key]] = {}
        self._missing: dict[str, None] = {}
        self._generation = 0

    async def create(self, draft: KeyDraft) -> tuple[Key, str]:
        """Store a new key, and return it with its secret, which is not stored. Raises `InvalidValueError`."""
        values = _values(draft)
        secret, prefix = new_secret()
        created_at = datetime.datetime.now(datetime.UTC)

        def work(connection: Connection) -> int:
            statement = insert(keys).values(digest=digest(secret), prefix=prefix, created_at=created_at, **values)
            key_id = int(connection.execute(statement.returning(keys.c.id)).scalar_one())
            _store_budget(connection, key_id, draft.budget)
            grow_revision(connection)
            return key_id

        key_id = await self._database.write(work)
        self.forget()
        return Key(id=key_id, draft=draft, prefix=prefix, created_at=created_at), secret

    async def list(self) -> list[Key]:
        """Return all keys, the newest first."""
        statement = _SELECT.order_by(keys.c.id.desc())
        return await self._database.read(lambda connection: [_key(row) for row in connection.execute(statement)])

    async def get(self, key_id: int) -> Key | None:
        """Return a key."""
        if not 0 < key_id <= LARGEST:
            return None
        statement = _SELECT.where(keys.c.id == key_id)
        row = await self._database.read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else _key(row)

    async def update(self, key_id: int, draft: KeyDraft) -> None:
        """Replace what was chosen about a key. Raises `InvalidValueError`."""
        values = _values(draft)
        _check_id(key_id)

        def work(connection: Connection) -> None:
            if connection.execute(update(keys).where(keys.c.id == key_id).values(**values)).rowcount == 0:
                raise _no_key(key_id)
            _store_budget(connection, key_id, draft.budget)
            grow_revision(connection)

        await self._database.write(work)
        self.forget()

    async def revoke(self, key_id: int) -> None:
        """End a key. Calls in flight go on. Raises `InvalidValueError`."""
        _check_id(key_id)
        now = datetime.datetime.now(datetime.UTC)

        def work(connection: Connection) -> None:
            if connection.execute(select(keys.c.id).where(keys.c.id == key_id)).first() is None:
                raise _no_key(key_id)
            is_valid = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            connection.execute(update(keys).where(is_valid).values(revoked_at=now))
            grow_revision(connection)

        await self._database.write(work)
        self.forget()

    async def find(self, secret: str) -> Key | None:
        """Return the key with this secret, revoked and expired ones included, or `None`.

        Looks it up by its digest, and compares digests in constant time. Also remembers secrets that are not there, a
        bounded number, so that guessing does not load the database.
        """
        if len(secret) > _LONGEST_SECRET or not secret.startswith(PREFIX):
            return None
        wanted = digest(secret)
        found = self._found.get(wanted)
        if found is not None:
            return found[1] if hmac.compare_digest(found[0], wanted) else None
        if wanted in self._missing:
            return None
        generation = self._generation
        statement = _SELECT.where(keys.c.digest == wanted)
        row = await self._database.read(lambda connection: connection.execute(statement).one_or_none())
        key = None if row is None or not hmac.compare_digest(row.digest, wanted) else _key(row)
        # What was read may be older than a change since.
        if generation == self._generation:
            if key is None:
                _remember(self._missing, wanted, None)
            else:
                _remember(self._found, wanted, (wanted, key))
        return key

    def forget(self) -> None:
        """Read keys anew."""
        self._generation += 1
        self._found.clear()
        self._missing.clear()


def _remember(into: dict[str, V], name: str, value: V) -> None:
    if len(into) >= _REMEMBERED:
        del into[next(iter(into))]
    into[name] = value


def _check_id(key_id: int) -> None:
    if not 0 < key_id <= LARGEST:
        raise _no_key(key_id)


def _no_key(key_id: int) -> InvalidValueError:
    return InvalidValueError(f"there is no key with the id {key_id}")


def _number(value: int | None, what: str) -> int | None:
    if value is not None and not 0 <= value <= LARGEST:
        raise InvalidValueError(f"{what} is {value}; it must be from 0 to {LARGEST}")
    return value


def _values(draft: KeyDraft) -> dict[str, Any]:
    if draft.budget is not None:
        _number(draft.budget.tokens, "the budget in tokens")
        cost = draft.budget.cost
        if cost is not None and not 0 <= cost <= LARGEST:
            raise InvalidValueError(
                f"the budget is {cost / NANO:,.2f} US dollars; it must be from 0 to {LARGEST // NANO}"
            )
    return {
        "name": check_name(draft.name, "the key"),
        "scopes": json.dumps([check_name(scope, "a scope") for scope in draft.scopes]),
        "expires_at": draft.expires_at,
        "requests_per_minute": _number(draft.requests_per_minute, "the limit of requests a minute"),
        "tokens_per_minute": _number(draft.tokens_per_minute, "the limit of tokens a minute"),
    }


def _store_budget(connection: Connection, key_id: int, budget: Budget | None) -> None:
    """Set the limits of a key's budget. What was spent in its period stays; another kind of period begins anew."""
    old = connection.execute(
        select(budgets.c.period).where(budgets.c.key_id == key_id).with_for_update()
    ).scalar_one_or_none()
    if budget is None:
        if old is not None:
            ended = {"active": False, "limit_tokens": None, "limit_cost": None}
            connection.execute(update(budgets).where(budgets.c.key_id == key_id).values(ended))
        return
    limits: dict[str, Any] = {
        "active": True,
        "period": budget.period,
        "limit_tokens": budget.tokens,
        "limit_cost": budget.cost,
    }
    if old is None:
        none = dict.fromkeys(("spent_tokens", "spent_cost", "reserved_tokens", "reserved_cost"), 0)
        connection.execute(insert(budgets).values(key_id=key_id, period_start="", **limits, **none))
        return
    if old != budget.period:
        limits["period_start"] = ""
    connection.execute(update(budgets).where(budgets.c.key_id == key_id).values(limits))


def _key(row: Row[Any]) -> Key:
    budget = None
    if row.active:
        budget = Budget(period=row.period, tokens=row.limit_tokens, cost=row.limit_cost)
    draft = KeyDraft(
        name=row.name,
        scopes=tuple(json.loads(row.scopes)),
        expires_at=row.expires_at,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        budget=budget,
    )
    return Key(id=row.id, draft=draft, prefix=row.prefix, created_at=row.created_at, revoked_at=row.revoked_at)
