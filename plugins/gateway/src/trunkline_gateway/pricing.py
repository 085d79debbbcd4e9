"""What calls cost, in nano-dollars, by `trunkline-prices` and by the prices that services set."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import trunkline_prices
from trunkline import ChatResponse, ConfigurationError, EmbedResponse, PluginError, TrunklineError, Usage
from trunkline_prices import Cost, price_list
from trunkline_prices.settings import price_options

from trunkline_gateway.budgets import NANO
from trunkline_gateway.targets import Target


def _nano(cost: Cost) -> int | None:
    return None if cost.total is None else round(cost.total * NANO)


def cost_of(response: ChatResponse | EmbedResponse, target: Target) -> int | None:
    """Return what a response costs, or `None` if its price is not known.

    The service's extension `prices` counts first, then the price of the model that the response names.
    """
    stored = _nano(trunkline_prices.cost(response))
    return _nano(trunkline_prices.cost(response, model=target.model)) if stored is None else stored


def estimated_cost(input_tokens: int, output_tokens: int, targets: Sequence[Target]) -> int | None:
    """Return the most that so many tokens cost at one of the targets, or `None` if the price of one is not known."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    costs = [listed_cost(usage, target) for target in targets]
    known = [cost for cost in costs if cost is not None]
    return max(known) if known and len(known) == len(costs) else None


def listed_cost(used: ChatResponse | EmbedResponse | Usage, target: Target) -> int | None:
    """Return the price of a service's tokens by its extension `prices`, else by the price list, or `None`."""
    if target.prices is None:
        return _nano(trunkline_prices.cost(used, model=target.model, provider=target.provider))
    options = price_options(target.prices)
    now = datetime.datetime.now(datetime.UTC)
    return _nano(
        price_list.cost_of(
            used, requested=target.model, provider=target.provider, date=now, batch=False, options=options
        )
    )


def is_free(error: BaseException) -> bool:
    """Whether a call that failed in this way costs nothing: it was not sent, or the provider refused it."""
    if isinstance(error, ConfigurationError) and not isinstance(error, PluginError):
        return True  # such as a URL that `NetworkGuard` refuses; a plugin may also fail when it reads the answer
    return isinstance(error, TrunklineError) and trunkline_prices.cost(error).total == 0
