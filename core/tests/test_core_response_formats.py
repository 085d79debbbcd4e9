"""Schemas of answers in the subset that a provider enforces, and the prompt where it enforces none."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import InvalidRequest, ResponseFormat, system, user
from trunkline.authoring.response_formats import (
    SchemaSubset,
    add_prompt_warning,
    add_schema_warnings,
    enforceable,
    json_instructions,
    with_json_instructions,
)
from trunkline.authoring.warnings import Warnings

STRICT = SchemaSubset(
    moved=frozenset({"minimum", "not"}),
    removed=frozenset({"default", "discriminator"}),
    formats=frozenset({"date"}),
    least_items=frozenset({0, 1}),
    patterns="plain",
    all_required=True,
    bare_references=True,
    recursion=False,
    intersections=False,
    untyped=False,
)


def obj(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


TEXT: dict[str, Any] = {"type": "string"}


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "required": list(schema["properties"]), "additionalProperties": False}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (obj(a=TEXT), closed(obj(a=TEXT))),
        (obj([], a=TEXT), closed(obj(a={"anyOf": [TEXT, {"type": "null"}]}))),
        (obj([], a={"type": ["string", "null"]}), closed(obj(a={"type": ["string", "null"]}))),
        (
            obj([], a={"enum": ["x", None], "description": "It."}, b={"const": 1}),
            closed(
                obj(
                    a={"description": "It.", "anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]},
                    b={"anyOf": [{"type": "integer", "const": 1}, {"type": "null"}]},
                )
            ),
        ),
        (
            obj([], a={**TEXT, "description": "Words.", "default": "x"}),
            closed(obj(a={"description": "Words.", "anyOf": [TEXT, {"type": "null"}]})),
        ),
        (
            obj([], a={"oneOf": [TEXT, {"type": "integer"}], "discriminator": {"propertyName": "t"}}),
            closed(obj(a={"anyOf": [TEXT, {"type": "integer"}, {"type": "null"}]})),
        ),
        (
            {**obj(a={"$ref": "#/$defs/A", "description": "It."}), "$defs": {"A": obj(b=TEXT)}},
            {
                **closed(obj(a={"description": "It.", "anyOf": [{"$ref": "#/$defs/A"}]})),
                "$defs": {"A": closed(obj(b=TEXT))},
            },
        ),
        (
            obj(a={"type": "integer", "minimum": 1}, b={**TEXT, "format": "uri"}, c={**TEXT, "format": "date"}),
            closed(
                obj(
                    a={"type": "integer", "description": "(minimum: 1)"},
                    b={**TEXT, "description": '(format: "uri")'},
                    c={**TEXT, "format": "date"},
                )
            ),
        ),
        (
            obj(a={"type": "array", "items": obj(minimum=TEXT), "minItems": 2}),
            closed(obj(a={"type": "array", "items": closed(obj(minimum=TEXT)), "description": "(minItems: 2)"})),
        ),
        (
            obj(a={**TEXT, "pattern": "^(?=a)"}, b={**TEXT, "pattern": "^a"}),
            closed(obj(a={**TEXT, "description": '(pattern: "^(?=a)")'}, b={**TEXT, "pattern": "^a"})),
        ),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": obj(b=TEXT)}},
            {**closed(obj(b=TEXT)), "$defs": {"A": closed(obj(b=TEXT))}},
        ),
    ],
)
def test_schema_is_closed_as_the_subset_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    enforced = enforceable(given, STRICT)
    assert enforced.obstacle is None
    assert enforced.schema == expected


LIST: dict[str, Any] = {"type": "array", "items": {"$ref": "#/$defs/A"}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (obj(a={"type": "object", "additionalProperties": TEXT}), "any names"),
        (obj(a={"type": "object"}), "any names"),
        ({"type": "object"}, "any names"),
        (obj(a={"type": "array", "prefixItems": [TEXT]}), "tuple"),
        (obj(a={"allOf": [TEXT]}), "intersection"),
        (obj(a={}), "no type"),
        (obj(a={"type": "array", "items": {}}), "no type"),
        ({**obj(a=LIST), "$defs": {"A": obj(b={"$ref": "#/$defs/B"}), "B": obj(c=LIST)}}, "'A' refers to itself"),
    ],
)
def test_obstacle_says_why_a_schema_cannot_be_enforced(given: dict[str, Any], words: str) -> None:
    assert words in str(enforceable(given, STRICT).obstacle)


def test_other_subsets_accept_what_this_one_does_not() -> None:
    loose = SchemaSubset(maps=True, tuples=True)
    schema = {
        **obj([], a={"type": "object", "additionalProperties": TEXT}, b={"type": "array", "prefixItems": [TEXT]}, c={}),
        "$defs": {"A": obj(b=LIST)},
    }
    enforced = enforceable(schema, loose)
    assert enforced.obstacle is None
    assert enforced.schema["required"] == []
    assert enforced.schema["properties"]["a"] == {"type": "object", "additionalProperties": TEXT}  # type: ignore[index]
    assert enforceable({"type": "object"}, loose).schema == {"type": "object"}


def test_keywords_that_are_not_accepted_move_and_only_restrictions_are_lossy() -> None:
    few = SchemaSubset(accepted=frozenset({"type", "properties", "required", "additionalProperties", "description"}))
    for keywords, lossy in (({"examples": ["a"], "x-unit": "m"}, False), ({"examples": ["a"], "pattern": "a"}, True)):
        enforced = enforceable(obj(a={**TEXT, **keywords}), few)
        assert enforced.moved == tuple(keywords)
        assert enforced.schema["properties"]["a"].keys() == {"type", "description"}  # type: ignore[index, union-attr]
        warnings = Warnings()
        add_schema_warnings(enforced, "response_format", warnings)
        assert [warning.lossy for warning in warnings.all()] == [lossy]


def test_closed_tuple_has_no_items_beside_its_places() -> None:
    """llama.cpp reads `items` instead of `prefixItems`, and would accept anything in the places."""
    pair = {"type": "array", "prefixItems": [TEXT, TEXT], "items": False}
    assert enforceable(obj(a=pair), SchemaSubset(tuples=True)).schema["properties"] == {
        "a": {"type": "array", "prefixItems": [TEXT, TEXT], "maxItems": 2}
    }


def test_without_unions_an_optional_property_may_not_be_null() -> None:
    plain = SchemaSubset(unions=False, some_required=True, closed=False)
    optional = {"anyOf": [TEXT, {"type": "null"}], "description": "Words."}
    enforced = enforceable(obj(["a"], a=TEXT, b=optional), plain)
    assert enforced.obstacle is None
    assert enforced.schema == obj(["a"], a=TEXT, b={**TEXT, "description": "Words."})
    assert "union" in str(enforceable(obj(b=optional), plain).obstacle)
    assert "required" in str(enforceable(obj([], a=TEXT), plain).obstacle)


@pytest.mark.parametrize(
    ("pattern", "moved"), [("^[a-z]+$", False), ("[a-z]", True), (r"^\d$", True), (r"^\.$", False), ("^(?:a)$", True)]
)
def test_patterns_that_a_grammar_cannot_express_are_moved(pattern: str, moved: bool) -> None:
    grammar = SchemaSubset(patterns="grammar")
    assert bool(enforceable(obj(a={**TEXT, "pattern": pattern}), grammar).moved) == moved


def test_warnings_name_what_was_changed() -> None:
    warnings = Warnings()
    given = obj([], a={"type": "integer", "minimum": 1}) | {"additionalProperties": True}
    add_schema_warnings(enforceable(given, STRICT), "response_format", warnings)
    add_schema_warnings(enforceable(obj(a=TEXT), STRICT), "response_format", warnings)
    add_prompt_warning("no schemas here", warnings)
    found = [(warning.kind, warning.lossy) for warning in warnings.all()]
    assert found == [("changed", True), ("changed", False), ("emulated", True)]
    assert "minimum, additionalProperties" in warnings.all()[0].message
    assert warnings.all()[1].message.endswith(": a")


def test_schema_that_is_nested_too_deeply_is_refused() -> None:
    deep: dict[str, Any] = TEXT
    for _ in range(5000):
        deep = obj(a=deep)
    with pytest.raises(InvalidRequest, match="deeply"):
        enforceable(deep, STRICT)


def test_application_keeps_its_schema() -> None:
    given = obj([], a={"type": "integer", "minimum": 1})
    enforceable(given, STRICT)
    assert given == obj([], a={"type": "integer", "minimum": 1})


def test_prompt_has_the_schema_and_joins_the_first_system_message() -> None:
    form = ResponseFormat(schema=obj(a=TEXT), description="A letter.")
    assert '"properties":{"a":{"type":"string"}}' in json_instructions(form)
    assert "A letter." in json_instructions(form)
    assert "Schema" not in json_instructions(ResponseFormat(type="json"))
    first, second = with_json_instructions([user("Hi")], form)
    assert (first.role, first.text, second) == ("system", json_instructions(form), user("Hi"))
    joined, *others = with_json_instructions([system("Be brief."), user("Hi")], form)
    assert joined.text == f"Be brief.\n\n{json_instructions(form)}"
    assert others == [user("Hi")]
