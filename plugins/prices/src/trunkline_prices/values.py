"""What a call costs: `Cost`, its parts, and the errors and states of budgets."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

import attrs
from trunkline import CallError, Usage

UnknownReason: TypeAlias = Literal[
    "no_usage", "incomplete", "model", "usage_key", "tool", "tier", "no_price", "invalid_usage", "byok", "operation"
]
"""Why a cost is unknown:

- `no_usage`: the provider reported no token counts, or not both of them
- `incomplete`: the stream broke off, so the counts are not final; `Cost.at_least` is what was reported. If no
  part of the response has arrived, pass the error to `cost`: it is 0 if the provider refused the call. The reason is
  also given if a typed answer took several attempts; `Cost.at_least` is then the cost of the last one
- `model`: the price list does not have the model, or the response does not say which model or provider it is from
- `usage_key`: the usage has a count that is not known to the price list
- `tool`: the provider ran a tool that it may charge for, and that the usage does not count
- `tier`: the list has no price for the service tier, speed or region that answered
- `no_price`: the list has no price for some of the tokens, such as cached ones
- `invalid_usage`: the counts contradict each other, or a count or a cost is a number that no call can have
- `byok`: OpenRouter used your own key of the provider, which bills you
- `operation`: the price list has no prices for the operation, such as `rerank` or `submit_batch`
"""

Period: TypeAlias = Literal["total", "day", "month"]
"""What a budget is for. Days and months are those of UTC; `total` is since the extension was made."""


def in_usd(amount: Decimal) -> str:
    """Return an amount as people read it, such as `$0.0015`."""
    return f"${amount.normalize():f}"


@attrs.frozen(kw_only=True)
class CostPart:
    """The cost of one kind of usage. `usage` is its name in `genai-prices`, such as `input_tokens`.

    `quantity` counts what is charged at this price: `input_tokens` excludes cached tokens that have a part of their
    own. `amount` is in USD.
    """

    usage: str
    quantity: Decimal
    amount: Decimal


@attrs.frozen(kw_only=True)
class Cost:
    """What a response costs, in USD, or why that is unknown.

    `total` is `None` if the cost is unknown: it is never 0 then. `reason` and `problem` say why, for programs and for
    people. `parts` add up to `total`; they are empty if the provider itself reported the total.

    `model` is the model that the cost is for. `price_provider` and `price_model` are the entry of the price list;
    `price_provider` is `own` for a price of the setting `prices`, `reported` for a cost that the provider reported, and
    `refused` for a call that the provider refused, which costs nothing.
    `date` is the time that the prices are for. `conditions` are what selects a price of the entry, such as
    `{"service_tier": "priority"}`.
    """

    total: Decimal | None = None
    parts: tuple[CostPart, ...] = ()
    at_least: Decimal | None = None
    model: str | None = None
    price_provider: str | None = None
    price_model: str | None = None
    date: datetime.datetime | None = None
    conditions: Mapping[str, str] = attrs.field(factory=dict)
    reason: UnknownReason | None = None
    problem: str = ""

    def __str__(self) -> str:
        return f"unknown: {self.problem}" if self.total is None else in_usd(self.total)

    @property
    def input(self) -> Decimal:
        """The cost of the input tokens that were neither read from a cache nor written to one."""
        return self._sum("input_tokens", "input_text_tokens")

    @property
    def cache_read(self) -> Decimal:
        """The cost of the input tokens that were read from a cache, if they have a price of their own."""
        return sum(
            (part.amount for part in self.parts if part.usage.startswith("cache_") and "_read" in part.usage), Decimal()
        )

    @property
    def cache_write(self) -> Decimal:
        """The cost of the input tokens that were written to a cache, if they have a price of their own."""
        return sum(
            (part.amount for part in self.parts if part.usage.startswith("cache_") and "_write" in part.usage),
            Decimal(),
        )

    @property
    def output(self) -> Decimal:
        """The cost of the output tokens, including reasoning unless it has a price of its own."""
        return self._sum("output_tokens", "output_text_tokens")

    @property
    def reasoning(self) -> Decimal:
        """The cost of reasoning, if it has a price of its own. Most providers charge it as output."""
        return self._sum("output_reasoning_tokens")

    def _sum(self, *names: str) -> Decimal:
        return sum((part.amount for part in self.parts if part.usage in names), Decimal())


@attrs.frozen(kw_only=True)
class Spending:
    """The state of a budget. All amounts are in USD.

    `label` is `None` for the budget of all calls. `spent` includes `estimated`: the part that is an estimate, because a
    call was interrupted or its cost is unknown. `reserved` is held for calls that are running. `unpriced` counts the
    calls of unknown cost that were let through and not charged.
    """

    label: str | None
    period: Period
    limit: Decimal | None
    spent: Decimal
    reserved: Decimal
    estimated: Decimal
    unpriced: int = 0

    @property
    def left(self) -> Decimal | None:
        """What is left for further calls, or `None` without a limit."""
        return None if self.limit is None else max(self.limit - self.spent - self.reserved, Decimal())

    @property
    def name(self) -> str:
        """The name of the budget, as errors show it."""
        whose = "all calls" if self.label is None else f"the label {self.label!r}"
        when = {"total": "", "day": " for a day (UTC)", "month": " for a month (UTC)"}[self.period]
        return f"the budget of {whose}{when}"


@attrs.frozen(kw_only=True)
class Charge:
    """What one call of a service was charged, for the callback `on_charge`.

    `amount` is in USD. `is_estimate` says that it is an estimate, because the call was interrupted, or because its cost
    is unknown. `usage` has the token counts that the provider reported, with estimates of those that it did not report:
    `input_tokens`, `output_tokens` and `total_tokens` are always set. They are 0 if the provider refused the call.

    `model` is the model that answered or, without a response, that of the request. `cost` is that of the response, if
    there is one. `spent` is the state of each budget after the call: first that of all calls, then that of the label.
    """

    service: str
    label: str | None
    model: str | None
    usage: Usage
    amount: Decimal
    is_estimate: bool
    cost: Cost | None
    spent: tuple[Spending, ...]


class BudgetExceeded(CallError):
    """The call was refused: it might cost more than is left of a budget. It was not sent.

    A fallback goes on to the next service.
    """

    another_may_serve = True

    def __init__(self, message: str, *, service: str | None = None, budget: Spending, worst_case: Decimal) -> None:
        super().__init__(message, service=service)
        self.budget = budget
        """The budget, with `spent`, `reserved` and `limit`."""
        self.worst_case = worst_case
        """What the call may cost at most, in USD, by an estimate of its tokens."""

    @property
    def spent(self) -> Decimal:
        """What was spent of the budget, in USD."""
        return self.budget.spent

    @property
    def limit(self) -> Decimal:
        """The budget, in USD."""
        return self.budget.limit or Decimal()


class UnknownPrice(CallError):
    """The call was refused: there is a budget, and what the call would cost is unknown. It was not sent.

    A fallback goes on to the next service.
    """

    another_may_serve = True

    def __init__(self, message: str, *, service: str | None = None, cost: Cost) -> None:
        super().__init__(message, service=service)
        self.cost = cost
        """Why the price is unknown."""
