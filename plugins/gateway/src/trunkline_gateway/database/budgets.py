"""The stored budgets: reserved before a call, settled after it."""

from __future__ import annotations

from trunkline_gateway.budgets import Amount, Balance, Reservation
from trunkline_gateway.database.engine import Database
from trunkline_gateway.keys import Key


class BudgetStore:
    """The budgets of keys. Each decision is one atomic step of the database.

    Each instance writes a heartbeat. `recover` settles the reservations of instances that have died, at what they
    estimated for the input, exactly once.
    """

    def __init__(self, database: Database, *, instance: str) -> None: ...

    async def reserve(self, key: Key, amount: Amount, *, input_amount: Amount) -> Reservation | None:
        """Reserve an amount of the key's budget, or return `None` for a key without one. Raises `BudgetExceeded`.

        `input_amount` is the part of `amount` for the request's input, which is charged if this instance dies.
        """
        raise NotImplementedError

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        """Replace the reservation by what the call used. Settling it again does nothing."""
        raise NotImplementedError

    async def balance(self, key: Key) -> Balance | None:
        """Return what is left of a key's budget, or `None` for a key without one."""
        raise NotImplementedError

    async def beat(self) -> None:
        """Write this instance's heartbeat."""
        raise NotImplementedError

    async def recover(self) -> int:
        """Settle the reservations of dead instances, and return how many they were."""
        raise NotImplementedError
