"""Change the JSON Schemas of tools and answers into a form that a provider accepts. For translators. Pure.

Applications get schemas from many sources: a tool server that leaves `type` out, a library that puts a union or a
reference at the root. Most providers refuse these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from trunkline._json import JSONObject, JSONValue, json_text
from trunkline.authoring.warnings import Warnings
from trunkline.request import Tool

_UNIONS = ("anyOf", "oneOf")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def tool_parameters(tool: Tool, warnings: Warnings) -> JSONObject:
    """Return the schema of a tool's arguments with `type: object` at its root, and no union or reference there.

    A union at the root becomes one object with the properties of all its alternatives; those that all of them require
    stay required. The alternatives are repeated in the description, where the model can read them. A schema that needs
    no change is returned as it is.
    """
    schema = object_schema(tool.parameters)
    if schema is not tool.parameters:
        why = "the schema of its arguments was changed: at its root must be 'type': 'object', and no union or reference"
        warnings.add("changed", f"tool {tool.name}", why, lossy=False)
    return schema


def object_schema(schema: JSONObject) -> JSONObject:
    """Return the schema of an object as `tool_parameters` does. A schema of anything else is returned as it is."""
    if schema.get("type") == "object" and not any(name in schema for name in (*_UNIONS, "allOf", "$ref")):
        return schema
    changed = _resolved(schema, schema)
    kind = changed.get("type", "object")
    if kind != "object" and not (isinstance(kind, (list, tuple)) and "object" in kind):
        return schema
    for name in ("allOf", *_UNIONS):
        alternatives = changed.get(name)
        if isinstance(alternatives, (list, tuple)):
            changed = _merged(changed, name, [_resolved(one, schema) for one in alternatives if isinstance(one, dict)])
    return {"type": "object", **{name: value for name, value in changed.items() if name != "type"}}


def without_keywords(
    schema: JSONObject, refuses: Callable[[str, JSONValue], bool]
) -> tuple[JSONObject, tuple[str, ...]]:
    """Return the schema without the keywords that `refuses(keyword, value)` is true for, and their names.

    They are moved into the description of their schema, where the model can read them.
    """
    moved: dict[str, None] = {}
    return _without(schema, refuses, moved), tuple(moved)


def _without(schema: JSONObject, refuses: Callable[[str, JSONValue], bool], moved: dict[str, None]) -> JSONObject:
    def inner(value: JSONValue) -> JSONValue:
        return _without(value, refuses, moved) if isinstance(value, dict) else value

    result: dict[str, JSONValue] = {}
    removed: list[str] = []
    for keyword, value in schema.items():
        if refuses(keyword, value):
            removed.append(f"{keyword}: {json_text(value)}")
            moved[keyword] = None
        elif keyword in _NAMED and isinstance(value, Mapping):
            result[keyword] = {name: inner(one) for name, one in value.items()}
        elif keyword in _LISTS and isinstance(value, (list, tuple)):
            result[keyword] = [inner(one) for one in value]
        else:
            result[keyword] = inner(value) if keyword in _SINGLE else value
    return _described(result, "; ".join(removed)) if removed else result


def _described(schema: JSONObject, text: str) -> JSONObject:
    before = schema.get("description")
    return {**schema, "description": f"{before} ({text})" if isinstance(before, str) and before else f"({text})"}


def _resolved(schema: JSONObject, root: JSONObject) -> JSONObject:
    """Return the schema with the definition that its reference names, if that is in the same document."""
    seen: set[str] = set()
    while isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/") and reference not in seen:
        seen.add(reference)
        found: JSONValue = root
        for step in reference[2:].split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            break
        schema = {**{name: value for name, value in schema.items() if name != "$ref"}, **found}
    return schema


def _merged(schema: JSONObject, keyword: str, alternatives: Sequence[JSONObject]) -> JSONObject:
    """Return an object schema with the properties of the alternatives under `keyword`."""
    properties: dict[str, list[JSONValue]] = {}
    every = [schema, *alternatives]
    for one in every:
        for name, value in _mapping(one.get("properties")).items():
            kinds = properties.setdefault(name, [])
            if value not in kinds:
                kinds.append(value)
    required = [set(_names(one.get("required"))) for one in alternatives]
    shared: set[str] = set()
    if required:
        shared = set.union(*required) if keyword == "allOf" else set.intersection(*required)
    result: dict[str, JSONValue] = {name: value for name, value in schema.items() if name != keyword}
    if properties:
        result["properties"] = {
            name: kinds[0] if len(kinds) == 1 else {"anyOf": kinds} for name, kinds in properties.items()
        }
    needed = [name for name in properties if name in shared or name in _names(schema.get("required"))]
    if needed:
        result["required"] = cast("list[JSONValue]", needed)
    if keyword in _UNIONS and len(alternatives) > 1:
        return _described(result, f"The arguments follow one of these schemas: {json_text(list(alternatives))}")
    return result


def _mapping(value: JSONValue) -> Mapping[str, JSONValue]:
    return value if isinstance(value, dict) else {}


def _names(value: JSONValue) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, (list, tuple)) else []
