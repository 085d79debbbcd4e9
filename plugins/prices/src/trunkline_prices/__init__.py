"""What calls cost, and budgets: `cost` for a response, and the extension `prices` for a service.

Importing this module does not import the price list. The first call of `cost` does, which takes up to half a second;
the extension imports it in a worker thread.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from trunkline import ChatResponse, EmbedResponse, FinishReason, InvalidAnswer, Settings, TrunklineError, Usage
from trunkline.authoring.extension import Extension

from trunkline_prices.extension import Prices, find_prices, made_for
from trunkline_prices.price_list import PriceOptions, TokenPrices, cost_of, load
from trunkline_prices.refusals import was_refused
from trunkline_prices.settings import PricesSettings
from trunkline_prices.stored import stored_cost
from trunkline_prices.values import (
    BudgetExceeded,
    Charge,
    Cost,
    CostPart,
    Period,
    Spending,
    UnknownPrice,
    UnknownReason,
)

if TYPE_CHECKING:
    from trunkline import Service
    from trunkline.batch import RowResponse

__version__ = "0.1.0"

__all__ = [
    "BudgetExceeded",
    "Charge",
    "Cost",
    "CostPart",
    "Period",
    "Prices",
    "PricesSettings",
    "Spending",
    "TokenPrices",
    "UnknownPrice",
    "UnknownReason",
    "__version__",
    "cost",
    "load_prices",
    "prices",
    "prices_of",
    "total_cost",
]

prices = Extension(name="prices", settings=PricesSettings, make=made_for)
"""The object of the entry point `prices`."""


def cost(
    value: RowResponse | Usage | TrunklineError,
    *,
    model: str | None = None,
    provider: str | None = None,
    date: datetime.datetime | None = None,
    batch: bool = False,
) -> Cost:
    """Return what a response costs, in USD, or why that is unknown.

    If the service has the extension `prices`, the cost of a `ChatResponse` is what the extension calculated, with its
    settings.

    - `model` is the model of the request. Pass it for a provider whose responses do not name it (Bedrock, Cohere), and
      for a `Usage`.
    - `provider` names the provider whose prices apply, as Trunkline or the price list names it, such as `groq`. Pass
      it for `openai-compatible` servers, and for a `Usage`.
    - `date` is when the call was made, by default now. One without a time zone is in UTC.
    - `batch` says that the response is from a batch API.

    The cost of a response that is neither of a chat nor of embeddings is unknown.

    A `Usage` may be the sum of several calls. If the price depends on the size of each call, it is unknown.

    The cost of an error is 0 if the provider refused the call, or if the call was not sent. Otherwise it is that of
    the error's `partial` response: unknown, since the provider may charge for a call that timed out or broke off. The
    cost of an `InvalidAnswer` is that of its response. The error of a fallback is that of its last member.
    """
    if isinstance(value, TrunklineError):
        partial = value.response if isinstance(value, InvalidAnswer) else getattr(value, "partial", None)
        partial = (
            partial if isinstance(partial, ChatResponse) else ChatResponse(parts=(), finish_reason=FinishReason.ERROR)
        )
        if was_refused(value) and not partial.parts and partial.usage is None:
            return Cost(total=Decimal(), model=model, price_provider="refused")
        value = partial
    if isinstance(value, ChatResponse) and model is None and provider is None and date is None and not batch:
        stored = stored_cost(value)
        if stored is not None:
            return stored
    if not isinstance(value, (ChatResponse, EmbedResponse, Usage)):
        problem = f"there are no prices for a {type(value).__name__}"
        return Cost(model=model or value.model, reason="operation", problem=problem)
    when = date or datetime.datetime.now(datetime.UTC)
    when = when.replace(tzinfo=datetime.UTC) if when.tzinfo is None else when
    return cost_of(value, requested=model, provider=provider, date=when, batch=batch, options=PriceOptions())


def total_cost(responses: Iterable[ChatResponse | EmbedResponse]) -> Decimal | None:
    """Return what several responses cost together, in USD, or `None` if the cost of one of them is unknown."""
    total = Decimal()
    for response in responses:
        found = cost(response).total
        if found is None:
            return None
        total += found
    return total


def load_prices() -> None:
    """Import the price list, which takes up to half a second.

    The extension imports it in a worker thread before the first call of a service. Without the extension, the first
    call of `cost` imports it, which stops the event loop meanwhile: call this function earlier, before the event loop
    starts or in a worker thread.
    """
    load()


def prices_of(service: Service) -> Prices:
    """Return the extension `prices` of a service that has it in its configuration.

    With it you can read what was spent, and set `on_charge`. For a service that is composed of others, such as a
    fallback, pass one of its members. Raises `LookupError` if the service does not have the extension.
    """
    settings = getattr(service, "settings", None)
    if not isinstance(settings, Settings):
        raise LookupError(f"{service.name!r} is composed of other services; pass one of them to prices_of")
    return find_prices(settings.extensions)
