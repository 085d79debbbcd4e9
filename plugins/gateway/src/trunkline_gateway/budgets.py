"""What a call is charged: values. `database/budgets.py` reserves and settles them."""

from __future__ import annotations

import attrs

from trunkline_gateway.keys import Budget

NANO = 1_000_000_000
"""Nano-dollars in a US dollar."""


@attrs.frozen(kw_only=True)
class Amount:
    """Tokens, and their cost in nano-dollars. The cost is 0 if the price is not known."""

    tokens: int = 0
    cost: int = 0


@attrs.frozen(kw_only=True)
class Reservation:
    """A part of a key's budget that one call holds until it is settled."""

    id: str
    key_id: int
    amount: Amount


@attrs.frozen(kw_only=True)
class Balance:
    """A key's budget and what is left of it in its present period."""

    budget: Budget
    spent: Amount
    reserved: Amount


class BudgetExceeded(Exception):
    """The budget has less left than the call needs. `resets_after` is in seconds, or `None` if it never does."""

    def __init__(self, message: str, *, resets_after: float | None) -> None:
        super().__init__(message)
        self.resets_after = resets_after
