"""The arithmetic of budgets."""

from __future__ import annotations

import datetime
import os
import threading
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from trunkline_prices import BudgetExceeded
from trunkline_prices.ledger import Ledger, Reservation

AMOUNTS = st.decimals(0, 3, places=3)
LABELS = st.sampled_from([None, "a", "b"])
LIMIT, LABEL_LIMIT = Decimal(10), Decimal(4)


class Budgets(RuleBasedStateMachine):
    """Calls that reserve, cost more or less than that, and end in any order."""

    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(budget=LIMIT, label_budget=LABEL_LIMIT)
        self.open: dict[Reservation, str | None] = {}
        self.spent: dict[str | None, Decimal] = {None: Decimal(), "a": Decimal(), "b": Decimal()}
        self.overrun = Decimal()  # by how much calls cost more than was reserved

    @rule(target=reservations, label=LABELS, amount=AMOUNTS)
    def reserve(self, label: str | None, amount: Decimal) -> Reservation | None:
        states = [self.ledger.spent(one) for one in {None, label}]
        fits = all(state.limit is None or state.spent + state.reserved + amount <= state.limit for state in states)
        if amount and not fits:
            with pytest.raises(BudgetExceeded):
                self.ledger.reserve(label, amount)
            return None
        reservation = self.ledger.reserve(label, amount)
        self.open[reservation] = label
        return reservation

    @rule(reservation=consumes(reservations), amount=AMOUNTS)
    def settle(self, reservation: Reservation | None, amount: Decimal) -> None:
        if reservation is None:
            return
        label = self.open.pop(reservation)
        for one in {None, label}:
            self.spent[one] += amount
        self.overrun += max(amount - reservation.amount, Decimal())
        self.ledger.settle(reservation, amount, is_estimate=amount > reservation.amount)
        self.ledger.settle(reservation, amount)  # does nothing

    @invariant()
    def what_was_spent_and_reserved_adds_up(self) -> None:
        for label in (None, "a", "b"):
            state = self.ledger.spent(label)
            assert state.spent == self.spent[label]
            held = [one.amount for one, of in self.open.items() if label in (None, of)]
            assert state.reserved == sum(held, Decimal())
            assert 0 <= state.estimated <= state.spent

    @invariant()
    def budgets_are_exceeded_at_most_by_what_calls_cost_more_than_reserved(self) -> None:
        for label, limit in ((None, LIMIT), ("a", LABEL_LIMIT), ("b", LABEL_LIMIT)):
            state = self.ledger.spent(label)
            assert state.spent + state.reserved <= limit + self.overrun


TestBudgets = Budgets.TestCase


def test_threads_spend_no_more_than_the_budget() -> None:
    ledger = Ledger(budget=Decimal(100), label_budget=Decimal(40))
    refused = []

    def calls(label: str) -> None:
        for _ in range(200):
            try:
                reservation = ledger.reserve(label, Decimal(1))
            except BudgetExceeded:
                refused.append(label)
            else:
                ledger.settle(reservation, Decimal(1))

    threads = [threading.Thread(target=calls, args=(label,)) for label in "abc" for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.spent().spent == 100
    assert all(ledger.spent(label).spent <= 40 for label in "abc")
    assert len(refused) == 1200 - 100
    assert ledger.spent().reserved == 0


@pytest.mark.parametrize(
    ("period", "later", "spent"),
    [
        ("day", "2026-11-28T00:00+00:00", 0),
        ("day", "2026-11-27T23:59+00:00", 2),
        ("month", "2026-12-01T00:30+01:00", 2),
    ],
)
def test_budget_of_a_period_starts_again_in_utc(period: str, later: str, spent: int) -> None:
    now = datetime.datetime(2026, 11, 27, 1, tzinfo=datetime.UTC)
    ledger = Ledger(budget=Decimal(5), period=period, now=lambda: now)  # type: ignore[arg-type]
    ledger.settle(ledger.reserve(None, Decimal(1)), Decimal(2))
    running = ledger.reserve(None, Decimal(3))
    now = datetime.datetime.fromisoformat(later)
    assert (ledger.spent().spent, ledger.spent().reserved) == (spent, 3)
    ledger.settle(running, Decimal(3))
    assert (ledger.spent().spent, ledger.spent().reserved) == (spent + 3, 0)


def test_clock_that_is_set_back_over_midnight_starts_no_budget_again() -> None:
    midnight = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
    clock = [midnight]
    ledger = Ledger(budget=Decimal(5), period="day", now=lambda: clock[0])
    ledger.settle(ledger.reserve(None, Decimal(1)), Decimal(1))
    for clock[0] in (midnight - datetime.timedelta(seconds=1), midnight):
        assert ledger.spent().spent == 1


def test_reading_a_budget_makes_no_label() -> None:
    ledger = Ledger(label_budget=Decimal(1))
    assert ledger.spent("ann").left == 1
    assert ledger.labels() == ()


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("Infinity"), Decimal(-1), 0.5])
def test_amount_that_was_spent_before_is_a_number(amount: Decimal) -> None:
    ledger = Ledger(budget=Decimal(1))
    with pytest.raises(ValueError, match="of at least 0"):
        ledger.add(amount)
    assert ledger.spent().left == 1


def test_labels_of_an_earlier_day_are_forgotten() -> None:
    now = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
    ledger = Ledger(period="day", now=lambda: now)
    for label in ("a", "b"):
        ledger.settle(ledger.reserve(label, Decimal(1)), Decimal(1))
    running = ledger.reserve("c", Decimal(1))
    now += datetime.timedelta(days=1)
    ledger.reserve("d", Decimal(1))
    assert ledger.labels() == ("c", "d")
    ledger.settle(running, Decimal(2))
    assert (ledger.spent().spent, ledger.spent().reserved, ledger.spent("c").spent) == (2, 1, 2)


@given(AMOUNTS, AMOUNTS)
def test_what_was_spent_before_counts(before: Decimal, amount: Decimal) -> None:
    ledger = Ledger(budget=Decimal(5), label_budgets={"a": Decimal(2)})
    ledger.add(before, "a")
    assert ledger.spent().spent == ledger.spent("a").spent == before
    if amount and before + amount > 2:
        with pytest.raises(BudgetExceeded):
            ledger.reserve("a", amount)
    else:
        ledger.reserve("a", amount)
    assert ledger.labels() == ("a",)


def test_error_names_the_budget_and_what_was_spent() -> None:
    ledger = Ledger(budget=Decimal(5), label_budget=Decimal(2), period="day")
    ledger.settle(ledger.reserve("a", Decimal(1)), Decimal("1.5"))
    with pytest.raises(BudgetExceeded) as caught:
        ledger.reserve("a", Decimal(1), service="main")
    assert str(caught.value) == (
        "service 'main': the budget of the label 'a' for a day (UTC) is too small for this call, which may cost up to "
        "$1: $1.5 of $2 are spent; a lower max_output_tokens makes the call cheaper"
    )
    assert (caught.value.spent, caught.value.limit, caught.value.worst_case) == (Decimal("1.5"), 2, 1)
    assert (ledger.spent("a").left, ledger.spent().left) == (Decimal("0.5"), Decimal("3.5"))
    ledger.add(Decimal("0.5"), "a")
    with pytest.raises(BudgetExceeded, match=r"used up: \$2 of \$2 are spent"):
        ledger.reserve("a", Decimal(1))
    assert ledger.reserve("a", Decimal()).amount == 0  # a free call is not refused


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_fork_holds_nothing_for_the_calls_of_its_parent() -> None:
    ledger = Ledger(budget=LIMIT)
    ledger.reserve("a", LIMIT - 1)
    ledger.add(Decimal(1))
    with ledger._lock:  # as another thread of the parent may
        child = os.fork()
        if not child:
            try:
                free = ledger._lock.acquire(blocking=False)
                ledger._lock.release()
                ledger.reserve("a", LIMIT - 1)
                os._exit(0 if free and ledger.spent().spent == 1 else 1)
            except BaseException:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ledger.spent().reserved == LIMIT - 1
