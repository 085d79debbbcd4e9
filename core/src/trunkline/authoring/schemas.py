"""Change the JSON Schemas of tools and answers into a form that a provider accepts. For translators. Pure.

Applications get schemas from many sources: a tool server that leaves `type` out, a library that puts a union or a
reference at the root. Most providers refuse these.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from trunkline._json import JSONObject, JSONValue, json_text
from trunkline.authoring.warnings import Warnings
from trunkline.request import Tool

_UNIONS = ("anyOf", "oneOf")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_REFUSED_AT_ROOT = ("enum", "not")
_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
_ANY_VALUE = ("default", "const", "example")
_SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("contentSchema", "unevaluatedItems", "unevaluatedProperties"),
)


def tool_parameters(tool: Tool, warnings: Warnings) -> JSONObject:
    """Return the schema of a tool's arguments with `type: object` at its root, and no union or reference there.

    The result has the form of `current_schema`, and `properties`, even if there are none.
    A union at the root becomes one object with the properties of all its alternatives; a property stays required if all
    alternatives require it. The description lists the alternatives for the model. A schema that needs no change is
    returned unchanged. The keywords `enum` and `not` of the root move into its description.
    """
    given = current_schema(tool.parameters)
    schema = _object_schema(given)
    if schema is not tool.parameters:
        why = "its root must have 'type': 'object' and 'properties', and no union or reference"
        if schema is given:
            why = (
                "APIs refuse forms of older versions of JSON Schema, arrays without 'items', and required names "
                "without a property"
            )
        warnings.add("changed", f"tool {tool.name}", f"the schema of its arguments was changed: {why}", lossy=False)
    # OpenAI refuses them at the root, as it refuses unions there (langchain-ai/langchainjs#9804, January 2026).
    refused = [name for name in _REFUSED_AT_ROOT if name in schema]
    if refused and schema.get("type") == "object":
        removed = "; ".join(f"{name}: {json_text(schema[name])}" for name in refused)
        why = f"{' and '.join(refused)} moved from the root of its schema to the description"
        warnings.add("changed", f"tool {tool.name}", why, lossy=False)
        schema = _described({name: value for name, value in schema.items() if name not in refused}, removed)
    return schema


def object_schema(schema: JSONObject) -> JSONObject:
    """Return the schema of an object as `tool_parameters` does. If it describes something else, the root stays."""
    return _object_schema(current_schema(schema))


def current_schema(schema: JSONObject) -> JSONObject:
    """Return the schema in the form of JSON Schema 2020-12, or the same object if it has that form.

    Tool servers send forms of older versions (a list under `items`, boolean bounds, `required` in a property), `null`
    for an unset keyword, arrays without `items`, and required names without a property. OpenAI refuses the array,
    Claude the older forms, Gemini the names: spacelift-io/spacectl#402 (2026-03); Dokploy/mcp#74 and
    kintone/mcp-server#553 (2026-08); "required[0]: property is not defined" (anomalyco/opencode#11889, 2026-02).
    """
    current = with_subschemas(schema, _current)
    changes: dict[str, JSONValue] = {}
    dropped: list[str] = []
    for keyword, value in schema.items():
        if value is None:
            if keyword not in _ANY_VALUE:
                dropped.append(keyword)
        elif keyword == "items" and isinstance(value, (list, tuple)):
            rest = schema.get("additionalItems")
            changes |= {"prefixItems": current["items"], "items": _current(rest) if rest else {}}
            dropped.append("additionalItems")
        elif keyword in _BOUNDS and isinstance(value, bool):
            dropped.append(keyword)
            if value and _BOUNDS[keyword] in schema:
                changes[keyword] = schema[_BOUNDS[keyword]]
                dropped.append(_BOUNDS[keyword])
        elif keyword == "required" and not isinstance(value, (list, tuple)):
            dropped.append(keyword)
    if schema.get("type") == "array" and not isinstance(schema.get("items"), (dict, list, tuple)):
        changes["items"] = {}
        first = schema.get("prefixItems")
        if schema.get("items") is False and isinstance(first, (list, tuple)):
            given = schema.get("maxItems")
            changes["maxItems"] = min(given, len(first)) if type(given) is int else len(first)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        names = _names(schema.get("required"))
        missing: dict[str, JSONValue] = {name: {} for name in names if name not in properties}
        if missing:
            changes["properties"] = {**_mapping(current["properties"]), **missing}
        more = [name for name, one in properties.items() if _mapping(one).get("required") is True and name not in names]
        if more:
            changes["required"] = [*names, *more]
    if not changes and not dropped:
        return current
    kept = {keyword: value for keyword, value in current.items() if keyword not in dropped}
    return {**kept, **changes}


def _current(value: JSONValue) -> JSONValue:
    if isinstance(value, dict):
        return current_schema(value)
    return {} if value is True else value


def with_subschemas(schema: JSONObject, change: Callable[[JSONValue], JSONValue]) -> JSONObject:
    """Return the schema with `change(subschema)` in place of each schema directly inside it.

    Objects that are no schemas, such as the value of `default`, stay. In lists and under the names of properties, a
    schema may also be `true` or `false`. If nothing changes, the same object is returned.
    """
    changes: dict[str, JSONValue] = {}
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, dict):
            named = {name: change(one) for name, one in value.items()}
            if any(named[name] is not value[name] for name in value):
                changes[keyword] = named
        elif keyword in _LISTS and isinstance(value, (list, tuple)):
            several = [change(one) for one in value]
            if any(map(operator.is_not, several, value)):
                changes[keyword] = several
        elif keyword in _SINGLE and isinstance(value, dict):
            changed = change(value)
            if changed is not value:
                changes[keyword] = changed
    return {**schema, **changes} if changes else schema


def _object_schema(schema: JSONObject) -> JSONObject:
    if (
        schema.get("type") == "object"
        and "properties" in schema
        and not any(name in schema for name in (*_UNIONS, "allOf", "$ref"))
    ):
        return schema
    changed = _resolved(schema, schema)
    kind = changed.get("type", "object")
    if kind != "object" and not (isinstance(kind, (list, tuple)) and "object" in kind):
        return schema
    for name in ("allOf", *_UNIONS):
        alternatives = changed.get(name)
        if isinstance(alternatives, (list, tuple)):
            changed = _merged(changed, name, [_resolved(one, schema) for one in alternatives if isinstance(one, dict)])
    properties: JSONObject = {} if "$ref" in changed else {"properties": {}}
    return {"type": "object", **properties, **{name: value for name, value in changed.items() if name != "type"}}


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

    removed = {keyword: value for keyword, value in schema.items() if refuses(keyword, value)}
    moved |= dict.fromkeys(removed)
    kept = {keyword: value for keyword, value in schema.items() if keyword not in removed} if removed else schema
    result = with_subschemas(kept, inner)
    text = "; ".join(f"{keyword}: {json_text(value)}" for keyword, value in removed.items())
    return _described(result, text) if removed else result


def _described(schema: JSONObject, text: str) -> JSONObject:
    before = schema.get("description")
    return {**schema, "description": f"{before} ({text})" if isinstance(before, str) and before else f"({text})"}


def _resolved(schema: JSONObject, root: JSONObject) -> JSONObject:
    """Return the schema with its reference replaced by the definition, if the definition is in the same document."""
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
