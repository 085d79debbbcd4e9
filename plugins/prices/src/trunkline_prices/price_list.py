"""The cost of a response, by the price list of `genai-prices`. No I/O, but the first use imports the list.

The list answers every question with a number: a count that has no price costs nothing in it, and tokens without an own
price cost what the tokens around them cost. So everything is checked here before it calculates.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, TypeGuard

import attrs
from trunkline import ChatResponse, EmbedResponse, FinishReason, Usage
from trunkline.authoring.json import as_number

from trunkline_prices.usage_units import CHARGED_AS_TEXT, Units, conditions, hosted_tools, units
from trunkline_prices.values import Cost, CostPart, UnknownReason

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider
    from genai_prices.units import UnitRegistry

PROVIDERS: Mapping[str, str | None] = {
    "anthropic": "anthropic",
    "azure-openai": "azure",
    "bedrock": "aws",
    "cohere": "cohere",
    "gemini": "google",
    "llamacpp": None,
    "mistral": "mistral",
    "ollama": None,
    "openai": "openai",
    "openai-compatible": None,
    "vertex": "google",
}
"""The providers of Trunkline, and whose prices each has. `None`: that depends on the server."""

_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
}

_TICKS = Decimal(10) ** -10
"""USD in a tick of `cost_in_usd_ticks` (https://docs.x.ai/developers/cost-tracking)."""

LIST_MODULE = "genai_prices.data"

_MOST_TOKENS = 10**9
_MOST_USD = 10**5
"""More than any call has or costs. Charging a number that a broken server made up would use up every budget."""


@attrs.frozen(kw_only=True)
class TokenPrices:
    """Prices of your own for a model, in USD per million tokens. Other usage is not charged.

    Cached tokens without a price cost what the other input costs, and reasoning without one what the output costs.
    """

    input: Decimal
    output: Decimal = Decimal()
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None


@attrs.frozen(kw_only=True)
class PriceOptions:
    """Where prices come from: see the settings of the same names."""

    prices: Mapping[str, TokenPrices] = attrs.field(factory=dict)
    models: Mapping[str, str] = attrs.field(factory=dict)
    provider: str | None = None
    ignored_usage: tuple[str, ...] = ()
    api_url: str | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """The prices of a model, for some conditions and a date."""

    provider: str
    model: str
    prices: ModelPrice
    is_own: bool = False

    def has(self, price: str) -> bool:
        """Return whether there is a price, such as `cache_write_mtok`."""
        return vars(self.prices).get(price) is not None


class Unpriced(Exception):
    """There is no price, or no cost, for a reason."""

    def __init__(self, reason: UnknownReason, problem: str) -> None:
        super().__init__(problem)
        self.reason: UnknownReason = reason
        self.problem = problem


def is_plausible(count: float) -> bool:
    """Return whether a count is a number that a call can have."""
    return 0 <= count <= _MOST_TOKENS


def is_loaded() -> bool:
    """Return whether the price list was imported, which takes up to half a second."""
    return LIST_MODULE in sys.modules and _registry.cache_info().currsize > 0


def load() -> None:
    """Import the price list."""
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()
    _registry()


@cache
def _registry() -> UnitRegistry:
    from genai_prices.data_units import unit_data
    from genai_prices.units import UnitRegistry

    return UnitRegistry(unit_data)


def find_entry(
    model: str,
    provider: str | None,
    options: PriceOptions,
    *,
    requested: str | None = None,
    date: datetime.datetime,
    selected: Mapping[str, str],
) -> Entry:
    """Return the prices of a model. Raises `Unpriced`.

    `requested` is the name in the request, such as that of a deployment. `selected` are the conditions of the price.
    """
    for name in (requested, model):
        if name is not None and (own := options.prices.get(name)) is not None:
            return own_entry(name, own)
    for name in (requested, model):
        if name is not None and name in options.models:
            model = options.models[name]
            if (own := options.prices.get(model)) is not None:
                return own_entry(model, own)
            break
    seller = _provider(provider, options)
    info = _model(seller, model)
    prices = info.get_prices(date)
    if selected:
        _check_variants(seller, info, date, selected)
        prices = info.get_prices(date, selected)
    return Entry(provider=seller.id, model=info.id, prices=prices)


def own_entry(name: str, own: TokenPrices) -> Entry:
    """Return the entry of a price of the setting `prices`."""
    from genai_prices.types import ModelPrice

    given = {key: getattr(own, field) for field, key in _FIELDS.items() if getattr(own, field) is not None}
    if "cache_write_mtok" not in given and "cache_write_1h_mtok" in given:
        given["cache_write_mtok"] = own.input
    return Entry(provider="own", model=name, prices=ModelPrice(**given), is_own=True)


def _provider(name: str | None, options: PriceOptions) -> Provider:
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    if options.provider is None and options.api_url is not None:
        try:
            return snapshot.find_provider(None, None, options.api_url)
        except LookupError:
            pass
    wanted = options.provider or name
    listed = PROVIDERS.get(wanted, wanted) if wanted is not None else None
    found = next((one for one in snapshot.providers if one.id == listed), None)
    if found is not None:
        return found
    which = (
        "the response does not name its provider" if wanted is None else f"the price list has no provider {wanted!r}"
    )
    raise Unpriced(
        "model",
        f"{which}; name the provider whose prices apply (price_provider), or set a price of your own (prices)",
    )


def _model(seller: Provider, model: str) -> ModelInfo:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model.removeprefix("models/"), seller, None, None)[1]
    except LookupError:
        raise Unpriced(
            "model",
            f"the price list has no model {model!r} of {seller.id}; set a price of your own (prices), or name the "
            "model that it is (models)",
        ) from None


def _check_variants(seller: Provider, info: ModelInfo, date: datetime.datetime, selected: Mapping[str, str]) -> None:
    """Raise `Unpriced` if the list has no price for a condition. The list itself would use the standard price."""
    active = [
        variant.when
        for variant in info.price_variants or ()
        if variant.constraint is None or variant.constraint.active(date)
    ]
    matching = [when for when in active if all(selected.get(key) == value for key, value in when.items())]
    missing = [f"{key} {value!r}" for key, value in selected.items() if not any(when.get(key) for when in matching)]
    # Without a variant for all conditions together, the list would apply one of them after the other.
    together = any(when.keys() >= selected.keys() for when in matching)
    # The list ignores conditions for a model that it has of another provider, such as a model of OpenAI on Azure.
    if missing or not together or not any(info is one for one in seller.models):
        what = ", ".join(missing) or ", ".join(f"{key} {value!r}" for key, value in selected.items())
        raise Unpriced("tier", f"the price list has no price of {info.id} of {seller.id} for {what}")


def calculate(entry: Entry, counts: Mapping[str, int | float], *, is_sum: bool = False) -> tuple[CostPart, ...]:
    """Return the cost of each kind of usage. Raises `Unpriced`.

    `is_sum` says that the counts may be those of several calls, whose prices may depend on the size of each.
    """
    from genai_prices.decompose import compute_leaf_values
    from genai_prices.types import TieredPrices, Usage as ListUsage, calc_unit_price

    registry = _registry()
    priced = {
        (unit := registry.unit_for_price_key(key)).usage_key: (unit, price)
        for key, price in vars(entry.prices).items()
        if price is not None
    }
    if not entry.is_own:
        missing = [
            name for name, count in counts.items() if count and name not in priced and name not in CHARGED_AS_TEXT
        ]
        if missing:
            raise Unpriced(
                "no_price", f"the price list has no price of {entry.model} of {entry.provider} for {', '.join(missing)}"
            )
    if wrong := [name for name, count in counts.items() if not is_plausible(count)]:
        raise Unpriced("invalid_usage", f"the provider reported a number that no call can have: {', '.join(wrong)}")
    if counts.get("output_reasoning_tokens", 0) > counts.get("output_tokens", 0):
        raise Unpriced(
            "invalid_usage",
            "the token counts contradict each other: there are more reasoning tokens than output tokens",
        )
    try:
        usage = ListUsage(**counts)
        total = usage.input_tokens
        leaves = compute_leaf_values(
            {name for name in priced if name != "requests"}, usage, {name: unit for name, (unit, _) in priced.items()}
        )
    except ValueError as error:
        raise Unpriced("invalid_usage", f"the token counts contradict each other: {error}") from None
    leaves.update({"requests": 1} if "requests" in priced else {})
    parts: list[CostPart] = []
    for name, count in leaves.items():
        unit, price = priced[name]
        if not count:
            continue
        if is_sum and isinstance(price, TieredPrices) and total > price.tiers[0].start:
            raise Unpriced(
                "tier",
                f"the price of {entry.model} depends on the input of each call, and the usage may be the sum of "
                "several; add up the costs of the calls",
            )
        amount = calc_unit_price(price, count, total, unit.per)
        parts.append(CostPart(usage=name, quantity=Decimal(str(count)), amount=amount))
    order = list(registry.units)
    return tuple(sorted(parts, key=lambda part: order.index(part.usage)))


def reported_cost(usage: Usage) -> Decimal | None:
    """Return the cost in USD that the provider reports, or `None`. Raises `Unpriced`.

    xAI reports it in `cost_in_usd_ticks`, OpenRouter in `cost` beside `is_byok`, and Perplexity in `cost.total_cost`.
    OpenRouter's prices depend on the provider that it chooses: for 24 of 167 recorded responses, the list has others.
    """
    raw = usage.raw
    cost, ticks = raw.get("cost"), raw.get("cost_in_usd_ticks")
    if ticks is not None:
        return _usd(ticks, _TICKS)
    if isinstance(cost, Mapping):
        return _usd(cost.get("total_cost"))
    if raw.get("is_byok") is True:
        raise Unpriced("byok", "OpenRouter used a key of yours; the provider of that key charges for the call")
    return _usd(cost) if "is_byok" in raw else None


def _usd(amount: object, unit: Decimal = Decimal(1)) -> Decimal | None:
    """Return an amount that the provider reported, or `None` if there is none or it is 0. Raises `Unpriced`."""
    if not amount or isinstance(amount, bool) or not isinstance(amount, (int, float)):
        return None
    number = as_number(amount)
    found = None if number is None else Decimal(str(amount)) * unit
    if found is None or not 0 < found <= _MOST_USD:
        raise Unpriced("invalid_usage", "the provider reported a cost that no call can have")
    return found


def cost_of(
    value: ChatResponse | EmbedResponse | Usage,
    *,
    requested: str | None,
    provider: str | None,
    date: datetime.datetime,
    batch: bool,
    options: PriceOptions,
) -> Cost:
    """Return the cost of a response, or of a usage."""
    response = None if isinstance(value, Usage) else value
    usage = value if isinstance(value, Usage) else value.usage
    model = (response.model if response is not None else None) or requested
    if response is not None and provider is None:
        provider = response.provider
    known = Cost(model=model, date=date)
    try:
        if usage is None:
            raise Unpriced("no_usage", "the provider reported no token counts")
        is_own = any(
            name is not None and options.models.get(name, name) in options.prices for name in (requested, model)
        )
        reported = None if is_own else reported_cost(usage)
        if reported is not None:
            return _finished(attrs.evolve(known, total=reported, price_provider="reported"), response)
        if model is None:
            raise Unpriced("model", "the response does not name its model; pass the model of the request")
        selected, problem = conditions(usage, response)
        if batch:
            selected["processing"] = "batch"
        entry = find_entry(
            model, provider, options, requested=requested, date=date, selected={} if is_own else selected
        )
        known = attrs.evolve(known, price_provider=entry.provider, price_model=entry.model)
        counted = units(usage, options.ignored_usage)
        counts = dict(counted.counts)
        if not entry.is_own:
            known = attrs.evolve(known, conditions=selected)
            if problem is not None:
                raise Unpriced("tier", f"the price list has no price for {problem}")
            hosted = hosted_tools(response) if isinstance(response, ChatResponse) else Units(counts={})
            _check_known(counted, hosted)
            counts.update(hosted.counts)
        if not counts.get("input_tokens") or ("output_tokens" not in counts and not isinstance(value, EmbedResponse)):
            raise Unpriced("no_usage", "the provider did not report the numbers of input and output tokens")
        parts = calculate(entry, counts, is_sum=response is None)
    except Unpriced as error:
        if error.reason == "no_usage" and _is_incomplete(response):
            return _finished(known, response)
        return attrs.evolve(known, reason=error.reason, problem=error.problem)
    total = sum((part.amount for part in parts), Decimal())
    return _finished(attrs.evolve(known, total=total, parts=parts), response)


def _check_known(counted: Units, hosted: Units) -> None:
    if counted.unknown:
        raise Unpriced("usage_key", f"the usage counts {', '.join(counted.unknown)}, whose price is not known")
    if hosted.tools:
        raise Unpriced("tool", f"the provider may charge for a tool that it ran: {', '.join(hosted.tools)}")


def _is_incomplete(response: ChatResponse | EmbedResponse | None) -> TypeGuard[ChatResponse]:
    return isinstance(response, ChatResponse) and response.finish_reason is FinishReason.ERROR


def _finished(cost: Cost, response: ChatResponse | EmbedResponse | None) -> Cost:
    """Return a cost, which is unknown if the response is only a part of one."""
    if not _is_incomplete(response):
        return cost
    problem = "the response is incomplete, so its token counts may be too"
    if not response.parts and response.usage is None:
        problem = (
            "no part of the response has arrived; if the provider refused the call, it costs nothing: pass the error "
            "to cost() instead of the response"
        )
    return attrs.evolve(cost, total=None, parts=(), at_least=cost.total, reason="incomplete", problem=problem)
