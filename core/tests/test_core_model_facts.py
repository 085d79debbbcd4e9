"""Tables of facts about models, and the setting that overrides them."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import pytest
from jsonschema import Draft202012Validator
from trunkline.authoring.model_facts import (
    ModelFactsSetting,
    ModelRow,
    capabilities_from,
    facts_about,
    model_facts_setting,
    rows_for,
)
from trunkline.errors import ConfigurationError
from trunkline.settings import Settings, setting_infos, settings


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
    ModelRow("toy-2-pro*", Facts(stop=False), "test"),
    *rows_for(Facts(levels=("low",)), "test", "toy-2*", "toy-new"),
)
UNKNOWN = Facts(budget=(1, 2))


@pytest.mark.parametrize(
    ("model", "expected"),
    [("toy-2-pro", Facts(stop=False)), ("TOY-2-mini", Facts(levels=("low",))), ("other", UNKNOWN)],
)
def test_first_matching_row_has_the_facts_about_a_model(model: str, expected: Facts) -> None:
    assert facts_about(model, ROWS, UNKNOWN, {}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "c", 5, None, {}], {"vision"}),
        ({"a": True, "b": "yes", "c": True}, {"vision"}),
        ("ab", set()),
        (None, set()),
    ],
)
def test_capabilities_are_read_by_the_names_that_are_known(value: object, expected: set[str]) -> None:
    assert capabilities_from(value, {"a": "vision", "b": "tools"}) == expected


def test_configuration_overrides_single_facts_of_the_models_that_its_patterns_match() -> None:
    configured = ToySettings(
        model_facts={"toy-2*": {"levels": ["low", "high"], "budget": [0, 9]}, "toy-2-pro": {"budget": "none"}}
    )
    found = facts_about("toy-2-pro", ROWS, UNKNOWN, configured.model_facts)
    assert found == Facts(levels=("low", "high"), stop=False)
    assert facts_about("toy-2-mini", ROWS, UNKNOWN, configured.model_facts).budget == (0, 9)
    assert facts_about("toy-1", ROWS, UNKNOWN, configured.model_facts) == UNKNOWN


def test_patterns_match_the_given_name_and_the_name_in_the_table() -> None:
    for pattern in ("toy-2*", "vendor/*"):
        found = facts_about("vendor/Toy-2-mini", ROWS, UNKNOWN, {pattern: {"stop": False}}, known_as="Toy-2-mini")
        assert found == Facts(levels=("low",), stop=False)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x", 'must be a table or JSON, such as {"name*": {"levels": …}}'),
        (["x"], "must be a table of facts by patterns of model names"),
        ({"toy*": 1}, "the value of 'toy*' is not a table"),
        ({"toy*": {"level": ["low"]}}, "'toy*' has the unknown fact 'level'; did you mean 'levels'?"),
        ({"toy*": {"xyz": 1}}, "'toy*' has the unknown fact 'xyz'; the facts are levels, budget, stop"),
        ({"toy-2": {"5": {"stop": True}}}, "'toy-2' has the table '5'; put quotes around a pattern that has a dot"),
        ({"toy*": {"levels": ["middle"]}}, "the fact 'levels' of 'toy*' must be one of low, high, not ['middle']"),
        ({"toy*": {"levels": 3}}, "must be a list, not 3"),
        ({"toy*": {"budget": [1]}}, "must be a list of 2 values, not [1]"),
        ({"toy*": {"budget": ["a", "b"]}}, "must be a whole number, not ['a', 'b']"),
        ({"toy*": {"stop": "yes"}}, "the fact 'stop' of 'toy*' must be true or false, not 'yes'"),
        ({"qwen3-vl*": {"stop": 1, "level": 2}}, "of 'qwen3-vl*' must be true or false, not 1; 'qwen3-vl*' has the"),
    ],
)
def test_wrong_facts_are_refused_when_a_service_opens(value: object, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ToySettings(model_facts=value)  # type: ignore[arg-type]
    assert problem in str(caught.value)


def test_error_about_a_fact_hides_a_pattern_that_looks_like_a_key() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ToySettings(model_facts={"sk-abcdefghij0123456789": {"stop": "yes"}})
    assert "abcdefghij" not in str(caught.value)


def test_rows_for_several_patterns_have_the_same_facts() -> None:
    assert (
        facts_about("toy-new", ROWS, Facts(), {}) == facts_about("toy-2", ROWS, Facts(), {}) == Facts(levels=("low",))
    )


@attrs.frozen(kw_only=True)
class OtherFacts:
    smells: bool = False


@settings
class SeveralSettings(Settings):
    provider: ClassVar[str] = "several"
    model_facts: ModelFactsSetting = model_facts_setting(Facts, others={"^other": ("other models", OtherFacts)})


def test_pattern_chooses_which_facts_its_table_may_have() -> None:
    given = {"other-1*": {"smells": True}, "toy*": {"stop": False}}
    assert SeveralSettings(model_facts=given).model_facts == given
    with pytest.raises(ConfigurationError, match="'other-1' has the unknown fact 'stop'; the facts are smells"):
        SeveralSettings(model_facts={"other-1": {"stop": True}})
    with pytest.raises(ConfigurationError, match="'toy' has the unknown fact 'smells'"):
        SeveralSettings(model_facts={"toy": {"smells": True}})


def test_schema_knows_the_facts_of_each_kind_of_models() -> None:
    [info] = [info for info in setting_infos(SeveralSettings) if info.name == "model_facts"]
    assert info.schema is not None
    check = Draft202012Validator(info.schema).is_valid
    assert check({"other-1": {"smells": True}, "toy": {"stop": False}})
    assert not check({"other-1": {"stop": True}})
    assert not check({"toy": {"smells": True}})
