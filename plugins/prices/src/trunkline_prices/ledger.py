"""What was spent of each budget, in the memory of this process.

Before a call, the amount that it may cost at most is reserved. After it, the reservation is replaced by what the call
has cost. As long as no call costs more than was reserved for it, what was spent never exceeds the budget, whatever
number of tasks, threads and event loops make calls at the same time.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from weakref import WeakSet

import attrs

from trunkline_prices.values import BudgetExceeded, Charge, Period, Spending, in_usd


def utc_now() -> datetime.datetime:
    """Return the time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


@attrs.define
class _Account:
    """What was spent of one budget in its current period. `reserved` is for calls of any period."""

    period: str
    spent: Decimal = Decimal()
    estimated: Decimal = Decimal()
    reserved: Decimal = Decimal()
    unpriced: int = 0


@attrs.frozen(kw_only=True, eq=False)
class Reservation:
    """What is held for one call, in USD. `labels` has the label of each budget that it is held of."""

    amount: Decimal
    labels: tuple[str | None, ...]


class Ledger:
    """The budgets of an extension. May be used in several threads at once.

    `budget` is that of all calls, `label_budget` that of each label, and `label_budgets` that of single labels. What is
    spent is recorded for all calls and for each label, with or without a budget.

    `on_charge` is called with the charge of each call. `services` counts the open services that use shared budgets.
    """

    def __init__(
        self,
        *,
        budget: Decimal | None = None,
        label_budget: Decimal | None = None,
        label_budgets: Mapping[str, Decimal] | None = None,
        period: Period = "total",
        now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self.budget = budget
        self.label_budget = label_budget
        self.label_budgets = dict(label_budgets or {})
        self.period: Period = period
        self.on_charge: Callable[[Charge], None] | None = None
        self.services = 0
        self._now = now
        self._lock = threading.Lock()
        self._latest_period = ""
        self._accounts: dict[str | None, _Account] = {}
        self._outstanding: set[Reservation] = set()
        _ledgers.add(self)

    def begin_anew(self) -> None:
        """Hold nothing for the calls of the parent of a fork, which never end in the child.

        Another thread of the parent may have held the lock at the moment of the fork.
        """
        self._lock = threading.Lock()
        self._outstanding = set()
        for account in self._accounts.values():
            account.reserved = Decimal()

    def limit(self, label: str | None) -> Decimal | None:
        """Return the budget of a label, or that of all calls."""
        return self.budget if label is None else self.label_budgets.get(label, self.label_budget)

    def has_limit(self, label: str | None) -> bool:
        """Return whether a call with this label has a budget."""
        return self.budget is not None or (label is not None and self.limit(label) is not None)

    def spent(self, label: str | None = None) -> Spending:
        """Return what was spent of the budget of a label, or of that of all calls."""
        with self._lock:
            return self._spending(label)

    def labels(self) -> tuple[str, ...]:
        """Return the labels that calls were made with, or that have a budget of their own."""
        with self._lock:
            return tuple(
                dict.fromkeys((*self.label_budgets, *(label for label in self._accounts if label is not None)))
            )

    def reserve(self, label: str | None, amount: Decimal, *, service: str | None = None) -> Reservation:
        """Hold an amount for a call. Raises `BudgetExceeded` if it is more than is left of a budget."""
        labels = (None,) if label is None else (None, label)
        with self._lock:
            for one in labels:
                limit, account = self.limit(one), self._account(one)
                if limit is not None and amount > 0 and account.spent + account.reserved + amount > limit:
                    raise _exceeded(self._spending(one), amount, service)
            for one in labels:
                self._account(one).reserved += amount
            reservation = Reservation(amount=amount, labels=labels)
            self._outstanding.add(reservation)
            return reservation

    def settle(
        self, reservation: Reservation, amount: Decimal, *, is_estimate: bool = False, is_unpriced: bool = False
    ) -> tuple[Spending, ...]:
        """Replace a reservation by what the call has cost, and return the state of its budgets.

        Settling a reservation again does nothing.
        """
        with self._lock:
            if reservation in self._outstanding:
                self._outstanding.remove(reservation)
                for label in reservation.labels:
                    account = self._account(label)
                    account.reserved -= reservation.amount
                    account.spent += amount
                    account.estimated += amount if is_estimate else 0
                    account.unpriced += is_unpriced
            return tuple(self._spending(label) for label in reservation.labels)

    def add(self, amount: Decimal, label: str | None = None) -> None:
        """Record what was spent elsewhere: before the process started, or in another one. Raises `ValueError`."""
        if not isinstance(amount, Decimal) or not amount.is_finite() or amount < 0:
            raise ValueError(f"an amount that was spent is a Decimal of at least 0, not {amount!r}")
        with self._lock:
            for one in (None,) if label is None else (None, label):
                self._account(one).spent += amount

    def _current_period(self) -> str:
        now = self._now().astimezone(datetime.UTC)
        period = {"total": "", "day": f"{now:%Y-%m-%d}", "month": f"{now:%Y-%m}"}[self.period]
        # A clock that is set back over midnight starts neither the old day nor, later, the new one again.
        self._latest_period = max(period, self._latest_period)
        return self._latest_period

    def _account(self, label: str | None) -> _Account:
        period = self._current_period()
        account = self._accounts.setdefault(label, _Account(period))
        if account.period != period:
            # Old accounts would fill the memory if there is a label for each user.
            self._accounts = {one: old for one, old in self._accounts.items() if old.period == period or old.reserved}
            account = self._accounts[label] = _Account(period, reserved=account.reserved)
        return account

    def _spending(self, label: str | None) -> Spending:
        # Reading makes no account, so that asking for the budget of anybody does not fill the memory.
        account = self._account(label) if label in self._accounts else _Account(self._current_period())
        return Spending(
            label=label,
            period=self.period,
            limit=self.limit(label),
            spent=account.spent,
            reserved=account.reserved,
            estimated=account.estimated,
            unpriced=account.unpriced,
        )


_ledgers: WeakSet[Ledger] = WeakSet()


def _begin_anew() -> None:
    for ledger in tuple(_ledgers):
        ledger.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _exceeded(budget: Spending, worst_case: Decimal, service: str | None) -> BudgetExceeded:
    assert budget.limit is not None
    state = f"{in_usd(budget.spent)} of {in_usd(budget.limit)} are spent"
    running = f", and {in_usd(budget.reserved)} are reserved for calls that are running" if budget.reserved else ""
    if budget.spent >= budget.limit:
        message = f"{budget.name} is used up: {state}{running}"
    else:
        message = (
            f"{budget.name} is too small for this call, which may cost up to {in_usd(worst_case)}: {state}{running}; "
            "a lower max_output_tokens makes the call cheaper"
        )
    return BudgetExceeded(message, service=service, budget=budget, worst_case=worst_case)
