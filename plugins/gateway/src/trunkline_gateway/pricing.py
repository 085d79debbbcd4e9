"""What calls cost, in nano-dollars, by `trunkline-prices`."""

from __future__ import annotations

import trunkline_prices
from trunkline import ChatResponse, EmbedResponse, TrunklineError, Usage
from trunkline_prices import Cost

from trunkline_gateway.budgets import NANO
from trunkline_gateway.targets import Target


def _nano(cost: Cost) -> int | None:
    return None if cost.total is None else round(cost.total * NANO)


def cost_of(response: ChatResponse | EmbedResponse, target: Target) -> int | None:
    """Return what a response costs, or `None` if its price is not known."""
    return _nano(trunkline_prices.cost(response, model=response.model or target.model))


def estimated_cost(input_tokens: int, output_tokens: int, target: Target) -> int | None:
    """Return what so many tokens cost, or `None` if the price is not known."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    return _nano(trunkline_prices.cost(usage, model=target.model, provider=target.provider))


def is_free(error: BaseException) -> bool:
    """Whether a call that failed in this way costs nothing: it was not sent, or the provider refused it."""
    return isinstance(error, TrunklineError) and trunkline_prices.cost(error).total == 0
