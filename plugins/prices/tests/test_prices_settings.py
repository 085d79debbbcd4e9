"""The settings accept what their schema accepts, and say what is wrong otherwise."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given, strategies as st
from trunkline import ConfigurationError
from trunkline.settings import json_schema
from trunkline_prices import PricesSettings, TokenPrices

SCHEMA = json_schema(PricesSettings)
AMOUNTS = st.one_of(
    st.integers(-3, 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["1_000", "1e3", "٣", "2.", ".5", "1,5", "", "ten", "inf", True, None, [], {}]),
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "budget": AMOUNTS,
        "label_budget": AMOUNTS,
        "label_budgets": st.dictionaries(st.text(), AMOUNTS, max_size=2),
        "budget_period": st.sampled_from(["total", "day", "month", "week"]),
        "prices": st.dictionaries(
            st.text(), st.dictionaries(st.sampled_from(["input", "output", "cached"]), AMOUNTS, max_size=2), max_size=2
        ),
        "unknown_prices": st.sampled_from(["refuse", "allow", "ask"]),
    },
)


@given(VALUES)
def test_schema_accepts_what_the_settings_accept(values: dict[str, Any]) -> None:
    given = {name: value for name, value in values.items() if value not in (None, "")}  # these count as not set
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(given)
    try:
        PricesSettings(**given)
    except ConfigurationError:
        assert not valid
    else:
        assert valid


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": "ten"}, "setting 'budget' must be an amount in USD, such as 10 or 2.50, of at least 0"),
        ({"budget": -1}, "must be an amount in USD"),
        ({"label_budgets": 3}, "'label_budgets' must be a table of amounts in USD"),
        ({"prices": {"m": {"output": 1}}}, "for each model a table with 'input' and, as far as they apply, output"),
        ({"prices": {"m": 1}}, "for each model a table"),
        ({"prices": 1}, "a table of models"),
        ({"budget_period": "week"}, "'total' or 'day' or 'month', not 'week'"),
    ],
)
def test_wrong_setting_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PricesSettings(**values)
    assert message in str(caught.value)


def test_amounts_are_exact() -> None:
    settings = PricesSettings(budget=0.1, label_budgets={"a": "2.50"}, prices={"m": {"input": 0.3}})
    assert (settings.budget, settings.label_budgets) == (Decimal("0.1"), {"a": Decimal("2.50")})
    assert settings.prices == {"m": TokenPrices(input=Decimal("0.3"))}
