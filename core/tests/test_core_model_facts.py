"""Tables of facts about models, and the setting that overrides them."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import pytest
from trunkline.authoring.model_facts import ModelFactsSetting, ModelRow, facts_about, model_facts_setting
from trunkline.errors import ConfigurationError
from trunkline.settings import Settings, settings


@attrs.frozen(kw_only=True)
class Facts:
    levels: tuple[Literal["low", "high"], ...] = ()
    budget: tuple[int, int] | None = None
    stop: bool = True


@settings
class ToySettings(Settings):
    provider: ClassVar[str] = "toy"
    model_facts: ModelFactsSetting = model_facts_setting(Facts)


ROWS = (
    ModelRow(pattern="toy-2-pro*", facts=Facts(stop=False), source="test"),
    ModelRow(pattern="toy-2*", facts=Facts(levels=("low",)), source="test"),
)
UNKNOWN = Facts(budget=(1, 2))


@pytest.mark.parametrize(
    ("model", "expected"),
    [("toy-2-pro", Facts(stop=False)), ("TOY-2-mini", Facts(levels=("low",))), ("other", UNKNOWN)],
)
def test_first_matching_row_has_the_facts_about_a_model(model: str, expected: Facts) -> None:
    assert facts_about(model, ROWS, UNKNOWN, {}) == expected


def test_configuration_overrides_single_facts_of_the_models_that_its_patterns_match() -> None:
    configured = ToySettings(
        model_facts={"toy-2*": {"levels": ["low", "high"], "budget": [0, 9]}, "toy-2-pro": {"budget": "none"}}
    )
    found = facts_about("toy-2-pro", ROWS, UNKNOWN, configured.model_facts)
    assert found == Facts(levels=("low", "high"), stop=False)
    assert facts_about("toy-2-mini", ROWS, UNKNOWN, configured.model_facts).budget == (0, 9)
    assert facts_about("toy-1", ROWS, UNKNOWN, configured.model_facts) == UNKNOWN


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x", "table of tables"),
        ({"toy*": 1}, "'toy*' is no table"),
        ({"toy*": {"level": ["low"]}}, "did you mean 'levels'"),
        ({"toy*": {"levels": ["middle"]}}, "one of low, high for levels of 'toy*'"),
        ({"toy*": {"levels": 3}}, "a list for levels"),
        ({"toy*": {"budget": [1]}}, "a list of 2 values for budget"),
        ({"toy*": {"budget": ["a", "b"]}}, "a whole number for budget"),
        ({"toy*": {"stop": "yes"}}, "true or false for stop"),
    ],
)
def test_wrong_facts_are_refused_when_a_service_opens(value: object, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ToySettings(model_facts=value)  # type: ignore[arg-type]
    assert problem in str(caught.value)
