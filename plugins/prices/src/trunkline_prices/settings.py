"""The settings of the extension `prices`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, TypeAlias

import attrs
from trunkline import JSONObject
from trunkline.authoring.extension import ExtensionSettings
from trunkline.settings import Converted, setting, settings

from trunkline_prices.price_list import PriceOptions, TokenPrices
from trunkline_prices.values import Period

Amount: TypeAlias = Decimal | float | str
"""An amount in USD, as settings accept it."""

_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_AMOUNT_SCHEMA: JSONObject = {"type": ["number", "string"], "minimum": 0, "pattern": f"^{_DIGITS}$"}


def _amount(value: object) -> Decimal:
    wrong = ValueError("an amount in USD, such as 10 or 2.50, of at least 0")
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise wrong
    if isinstance(value, str) and not re.fullmatch(_DIGITS, value.strip()):
        raise wrong
    amount = Decimal(str(value).strip())
    if not amount.is_finite() or amount < 0:
        raise wrong
    return amount


def _amounts(value: object) -> dict[str, Decimal]:
    if not isinstance(value, Mapping):
        raise ValueError("a table of amounts in USD")
    return {str(name): _amount(amount) for name, amount in value.items()}


def _token_prices(value: object) -> dict[str, TokenPrices]:
    if not isinstance(value, Mapping):
        raise ValueError("a table of models, each with a table of prices")
    return {str(model): one if isinstance(one, TokenPrices) else _one_price(model, one) for model, one in value.items()}


def _one_price(model: object, value: object) -> TokenPrices:
    fields = [field.name for field in attrs.fields(TokenPrices)]
    if not isinstance(value, Mapping) or "input" not in value or any(name not in fields for name in value):
        raise ValueError(f"for each model a table with 'input' and, as far as they apply, {', '.join(fields[1:])}")
    return TokenPrices(**{name: _amount(amount) for name, amount in value.items()})


_PRICE: JSONObject = {
    "type": "object",
    "properties": {field.name: _AMOUNT_SCHEMA for field in attrs.fields(TokenPrices)},
    "required": ["input"],
    "additionalProperties": False,
}


@settings
class PricesSettings(ExtensionSettings):
    """The settings of the extension `prices`. Without any, it calculates costs and refuses nothing."""

    extension = "prices"

    budget: Converted[Decimal | None, Amount | None] = setting(
        "Budget",
        "What all calls of the service may cost in the period, in USD.",
        default=None,
        convert=_amount,
        schema=_AMOUNT_SCHEMA,
        group="Budgets",
        examples=(10,),
    )
    budget_period: Period = setting(
        "Period",
        "How long budgets last: in total, since the service was opened; or each day or month, in UTC.",
        default="total",
        group="Budgets",
        choices={"total": "since the service was opened", "day": "each day (UTC)", "month": "each month (UTC)"},
    )
    label_budget: Converted[Decimal | None, Amount | None] = setting(
        "Budget of a label",
        "What the calls with one label may cost in the period, in USD. The label is Call.state['label'].",
        default=None,
        convert=_amount,
        schema=_AMOUNT_SCHEMA,
        group="Budgets",
    )
    label_budgets: Converted[Mapping[str, Decimal], Mapping[str, Amount]] = setting(
        "Budgets of single labels",
        "Budgets in USD for single labels, instead of label_budget.",
        factory=dict,
        convert=_amounts,
        schema={"type": "object", "additionalProperties": _AMOUNT_SCHEMA},
        group="Budgets",
        advanced=True,
    )
    shared: str | None = setting(
        "Shared budgets",
        "A name of your choice. All services of the process with the same name here share their budgets, which must be "
        "the same for all of them. Without a name, each service has budgets of its own.",
        default=None,
        group="Budgets",
        advanced=True,
        examples=("users",),
    )
    unknown_prices: Literal["refuse", "allow"] = setting(
        "Calls without a known price",
        "With a budget: whether a call whose price is unknown is refused, or allowed with a warning and not charged.",
        default="refuse",
        group="Budgets",
        choices={"refuse": "refuse the call", "allow": "allow it with a warning; it is not charged"},
    )
    budget_output_tokens: int = setting(
        "Reserved output tokens",
        "With a budget: the output tokens that are reserved for a request without max_output_tokens.",
        default=4096,
        minimum=1,
        group="Budgets",
        advanced=True,
    )
    prices: Converted[Mapping[str, TokenPrices], Mapping[str, TokenPrices | Mapping[str, Amount]]] = setting(
        "Own prices",
        "Prices of your own in USD per million tokens, by the model's name: input, output, cache_read, cache_write, "
        "cache_write_1h, reasoning.",
        factory=dict,
        convert=_token_prices,
        schema={"type": "object", "additionalProperties": _PRICE},
        group="Prices",
        advanced=True,
    )
    models: Mapping[str, str] = setting(
        "Models",
        "For names that the price list does not have, such as that of a deployment or of an inference profile: the "
        "model of the price list.",
        factory=dict,
        group="Prices",
        advanced=True,
    )
    price_provider: str | None = setting(
        "Provider of the prices",
        "The provider whose prices apply, by its name in genai-prices, such as groq. By default it follows from the "
        "provider and its URL.",
        default=None,
        group="Prices",
        advanced=True,
    )
    ignored_usage: tuple[str, ...] = setting(
        "Ignored usage",
        "Counts of the provider's usage that cost nothing, although this version does not know them, such as "
        "x_details.*.",
        factory=tuple,
        group="Prices",
        advanced=True,
    )


def price_options(settings: PricesSettings, api_url: str | None = None) -> PriceOptions:
    """Return where prices come from."""
    return PriceOptions(
        prices=settings.prices,
        models=settings.models,
        provider=settings.price_provider,
        ignored_usage=settings.ignored_usage,
        api_url=api_url,
    )
