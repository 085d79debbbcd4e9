"""A cost as JSON, in `provider_metadata` of its response, so that `cost(response)` finds it there."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

import attrs
from trunkline import ChatResponse, JSONValue

from trunkline_prices.values import Cost, CostPart, UnknownReason

KEY = "trunkline-prices"


def cost_to_json(cost: Cost) -> dict[str, JSONValue]:
    """Return a cost as JSON. Amounts are texts, since a number of JSON would lose digits."""
    return {
        name: value
        for name, value in {
            "total": None if cost.total is None else str(cost.total),
            "parts": [[part.usage, str(part.quantity), str(part.amount)] for part in cost.parts],
            "at_least": None if cost.at_least is None else str(cost.at_least),
            "model": cost.model,
            "price_provider": cost.price_provider,
            "price_model": cost.price_model,
            "date": None if cost.date is None else cost.date.isoformat(),
            "conditions": dict(cost.conditions),
            "reason": cost.reason,
            "problem": cost.problem,
        }.items()
        if value
    }


def cost_from_json(data: Mapping[str, Any]) -> Cost | None:
    """Return the cost in what `cost_to_json` has made, or `None` if it is something else."""
    total, least, date, reason = data.get("total"), data.get("at_least"), data.get("date"), data.get("reason")
    if (total is None) == (reason is None) or (reason is not None and reason not in get_args(UnknownReason)):
        return None
    try:
        return Cost(
            total=None if total is None else Decimal(total),
            parts=tuple(
                CostPart(usage=usage, quantity=Decimal(quantity), amount=Decimal(amount))
                for usage, quantity, amount in data.get("parts", ())
            ),
            at_least=None if least is None else Decimal(least),
            model=data.get("model"),
            price_provider=data.get("price_provider"),
            price_model=data.get("price_model"),
            date=None if date is None else datetime.datetime.fromisoformat(date),
            conditions=dict(data.get("conditions", {})),
            reason=reason,
            problem=data.get("problem", ""),
        )
    except (InvalidOperation, TypeError, ValueError):
        return None


def stored_cost(response: ChatResponse) -> Cost | None:
    """Return the cost that the extension has stored in a response, or `None`.

    If a typed answer took several attempts, the cost is stored for the last one only, and the usage is that of all.
    """
    data = response.provider_metadata.get(KEY)
    found = None if data is None else cost_from_json(data)
    if found is None or data is None or found.total is None:
        return found
    counts = data.get("counts")
    if not isinstance(counts, (list, tuple)) or list(counts) == _counts(response):
        return found
    return attrs.evolve(
        found,
        total=None,
        parts=(),
        at_least=found.total,
        reason="incomplete",
        problem="the answer took several attempts; at_least is the cost of the last one, on_charge gets each charge",
    )


def with_cost(response: ChatResponse, cost: Cost) -> ChatResponse:
    """Return a response with its cost."""
    stored = {**cost_to_json(cost), "counts": _counts(response)}
    return attrs.evolve(response, provider_metadata={**response.provider_metadata, KEY: stored})


def _counts(response: ChatResponse) -> list[JSONValue]:
    usage = response.usage
    return [] if usage is None else [usage.input_tokens, usage.output_tokens]
