"""Schemas of tools in the form that providers accept."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import Tool
from trunkline.authoring.schemas import (
    current_schema,
    object_schema,
    tool_parameters,
    with_subschemas,
    without_keywords,
)
from trunkline.authoring.warnings import Warnings

STRING, INTEGER = {"type": "string"}, {"type": "integer"}
A: dict[str, Any] = {"type": "object", "properties": {"a": STRING}, "required": ["a"]}
B: dict[str, Any] = {
    "type": "object",
    "properties": {"a": INTEGER, "b": {"type": "boolean"}},
    "required": ["a", "b"],
}


def test_schema_of_an_object_is_returned_unchanged_without_a_warning() -> None:
    warnings = Warnings()
    schema: dict[str, Any] = {**A, "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    assert tool_parameters(Tool(name="t", parameters=schema), warnings) is schema
    assert warnings.all() == ()


def test_enum_and_not_of_the_root_move_into_the_description() -> None:
    warnings = Warnings()
    schema: dict[str, Any] = {**A, "description": "d", "enum": [{"a": "x"}], "not": {"required": ["b"]}}
    found = tool_parameters(Tool(name="t", parameters=schema), warnings)
    assert found == {**A, "description": 'd (enum: [{"a":"x"}]; not: {"required":["b"]})'}
    [warning] = warnings.all()
    assert (warning.kind, warning.subject, warning.lossy) == ("changed", "tool t", False)
    assert warning.message == "enum and not moved from the root of its schema to the description"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"type": ["object", "null"], "properties": {}}, {"type": "object", "properties": {}}),
        ({"oneOf": [A]}, A),
        (
            {"allOf": [A, B]},
            {**B, "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "b": {"type": "boolean"}}},
        ),
        ({"$ref": "#/$defs/A", "$defs": {"A": A}}, {**A, "$defs": {"A": A}}),
        ({"anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": A}}, {**A, "$defs": {"A": A}}),
        ({"type": "object", "anyOf": []}, {"type": "object", "properties": {}}),
        ({"type": "object", "$ref": "#/$defs/none"}, {"type": "object", "$ref": "#/$defs/none"}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, None),
    ],
)
def test_root_becomes_an_object(schema: dict[str, Any], expected: dict[str, Any] | None) -> None:
    warnings = Warnings()
    result = tool_parameters(Tool(name="t", parameters=schema), warnings)
    assert result["type"] == "object"
    if expected is not None:
        assert result == expected
    assert [(one.kind, one.subject, one.lossy) for one in warnings.all()] == [("changed", "tool t", False)]
    assert object_schema(result) == result or "$ref" in result


def test_union_requires_properties_that_all_alternatives_require_and_describes_them() -> None:
    result: Any = object_schema({"oneOf": [A, B], "description": "Either."})
    assert result["required"] == ["a"]
    assert list(result["properties"]) == ["a", "b"]
    assert result["description"].startswith("Either. (The arguments follow one of these schemas: [{")
    assert "oneOf" not in result


def test_schema_of_another_type_is_left_to_the_provider() -> None:
    schema: dict[str, Any] = {"type": "string"}
    assert object_schema(schema) is schema


def test_refused_keywords_move_into_the_description_at_every_depth() -> None:
    number = {"type": "integer", "minimum": 1, "description": "How many."}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"minimum": number, "many": {"type": "array", "items": number}},
        "anyOf": [{"minimum": 2}],
    }
    result, moved = without_keywords(schema, lambda keyword, value: keyword == "minimum")
    mended = {"type": "integer", "description": "How many. (minimum: 1)"}
    assert result == {
        "type": "object",
        "properties": {"minimum": mended, "many": {"type": "array", "items": mended}},
        "anyOf": [{"description": "(minimum: 2)"}],
    }
    assert moved == ("minimum",)


@pytest.mark.parametrize(
    ("old", "current"),
    [
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        (
            {"type": "array", "items": [STRING, INTEGER]},
            {"type": "array", "prefixItems": [STRING, INTEGER], "items": {}},
        ),
        (
            {"type": "array", "items": [STRING], "additionalItems": INTEGER},
            {"type": "array", "prefixItems": [STRING], "items": INTEGER},
        ),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 1}),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": False}, {"type": "number", "maximum": 1}),
        ({**A, "required": ["a", "b"]}, {**A, "properties": {"a": STRING, "b": {}}, "required": ["a", "b"]}),
        ({"type": "object", "properties": {"a": {**STRING, "required": True}}}, A),
        (
            {"type": "object", "properties": {"a": {**STRING, "required": False}}, "required": None},
            {**A, "required": 0},
        ),
        ({"type": "string", "enum": None, "default": None}, {"type": "string", "default": None}),
        ({"type": "object", "properties": {"a": True}}, {"type": "object", "properties": {"a": {}}}),
    ],
)
def test_forms_of_older_versions_become_current_ones_at_every_depth(
    old: dict[str, Any], current: dict[str, Any]
) -> None:
    current = {name: value for name, value in current.items() if value != 0}
    assert current_schema(old) == current
    assert current_schema(current) is current
    outer = {"type": "object", "properties": {"x": {"anyOf": [{"type": "array", "items": old}]}}}
    warnings = Warnings()
    result: Any = tool_parameters(Tool(name="t", parameters=outer), warnings)
    assert result["properties"]["x"]["anyOf"][0]["items"] == current
    assert [(one.kind, one.subject, one.lossy) for one in warnings.all()] == [("changed", "tool t", False)]


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    names = ("items", "required", "exclusiveMinimum", "properties", "type", "enum")
    schema: dict[str, Any] = {"type": "object", "properties": dict.fromkeys(names, STRING), "required": ["items"]}
    assert current_schema(schema) is schema


def test_subschemas_are_changed_but_values_are_not() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"default": STRING, "enum": True},
        "anyOf": [STRING, False],
        "items": [STRING],
        "additionalProperties": STRING,
        "default": STRING,
        "enum": [STRING],
        "required": ["default"],
    }
    assert with_subschemas(schema, lambda inner: INTEGER if inner == STRING else inner) == {
        **schema,
        "properties": {"default": INTEGER, "enum": True},
        "anyOf": [INTEGER, False],
        "items": [INTEGER],
        "additionalProperties": INTEGER,
    }
    assert with_subschemas(schema, lambda inner: inner) is schema
