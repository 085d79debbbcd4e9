"""Change the schemas of tools and answers for servers that accept only a subset of JSON Schema. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.authoring.response_formats import SchemaSubset, add_schema_warnings, answer_schema, enforceable
from trunkline.authoring.schemas import tool_parameters, without_keywords
from trunkline.authoring.warnings import Warnings
from trunkline.request import ResponseFormat, Tool

from trunkline_openai.features import AnswerSchemas, SchemaRules

# developers.openai.com, guide on structured outputs, and pydantic-ai 2.68 (`profiles/openai.py`), November 2026.
# `default` is refused ("'default' is not permitted"), and nothing may stand beside `$ref`.
OPENAI_SUBSET = SchemaSubset(
    accepted=frozenset(
        {
            *("type", "title", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions"),
            *("properties", "required", "additionalProperties", "items", "minItems", "maxItems", "pattern", "format"),
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        }
    ),
    removed=frozenset({"default", "discriminator", "$schema", "$id", "$comment"}),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    patterns="plain",
    all_required=True,
    bare_references=True,
    intersections=False,
    untyped=False,
)
"""What OpenAI enforces in the schema of an answer or of a strict tool, in Chat Completions and in Responses."""

SUBSETS: Mapping[AnswerSchemas, SchemaSubset] = {
    "openai": OPENAI_SUBSET,
    # mistralai 3.7 (`rec_strict_json_schema`) closes objects and changes nothing else.
    "closed": SchemaSubset(maps=True, tuples=True),
    "grammar": SchemaSubset(moved=frozenset({"not"}), patterns="grammar", maps=True, tuples=True),
}
"""What servers enforce in the schema of an answer or of a strict tool, by the words of `Profile.answer_schemas`."""


def named_schema(form: ResponseFormat, subset: SchemaSubset, warnings: Warnings) -> dict[str, Any]:
    """Return the name, the description, the schema and `strict` of an answer, as Chat Completions has them.

    A schema that the server cannot enforce is sent as one that is not strict.
    """
    given = form.schema or {}
    enforced = enforceable(given, subset) if form.strict else None
    strict = form.strict
    if enforced is not None and enforced.obstacle is None:
        schema = enforced.schema
        add_schema_warnings(enforced, "response_format", warnings)
    else:
        schema = answer_schema(given)
        if schema != given:
            why = "the schema was changed: its root must have 'type': 'object', and no union or reference"
            warnings.add("changed", "response_format", why, lossy=False)
    if enforced is not None and enforced.obstacle is not None:
        strict = False
        why = f"the provider cannot enforce this schema, because {enforced.obstacle}; it was sent as not strict"
        warnings.add("changed", "response_format", why, lossy=True)
    data: dict[str, Any] = {"name": form.name, "schema": schema}
    if form.description is not None:
        data["description"] = form.description
    if strict is not None:
        data["strict"] = strict
    return data


def strict_schema(
    tool: Tool, schema: JSONObject, subset: SchemaSubset, warnings: Warnings
) -> tuple[JSONObject, bool | None]:
    """Return the schema of a tool, closed if the server is asked to enforce it, and the value of `strict`.

    A tool whose schema the server cannot enforce is sent as one that is not strict.
    """
    if not tool.strict:
        return schema, tool.strict
    enforced = enforceable(schema, subset)
    if enforced.obstacle is not None:
        why = f"the provider cannot enforce its schema, because {enforced.obstacle}; it was sent as not strict"
        warnings.add("changed", f"tool {tool.name}", why, lossy=True)
        return schema, False
    add_schema_warnings(enforced, f"tool {tool.name}", warnings)
    return enforced.schema, True


_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_UNIONS = ("anyOf", "oneOf")
_LISTS = (*_UNIONS, "allOf", "prefixItems")
_ANY_TYPE: list[JSONValue] = [{"type": kind} for kind in ("string", "number", "boolean", "object")]
_TYPES = {bool: "boolean", str: "string", int: "integer", float: "number", type(None): "null"}

# A grammar cannot express `\d`, `\w`, look-around and similar syntax.
_IN_GRAMMAR = re.compile(r"\^(?:[^\\(]|\\[^a-zA-Z0-9]|\((?!\?))*\$")


def accepted_schema(tool: Tool, rules: SchemaRules, warnings: Warnings) -> JSONObject:
    """Return the schema of a tool's arguments, changed to follow a server's rules.

    Keywords that the server does not support move into descriptions, where the model can read them.
    """
    schema = tool_parameters(tool, warnings)
    if rules == "grammar":
        schema, moved = without_keywords(schema, _is_not_in_grammar)
        if moved:
            why = f"this server does not support {', '.join(moved)} in a schema; moved to its description"
            warnings.add("changed", f"tool {tool.name}", why, lossy=False)
    elif rules == "moonshot":
        typed = _typed(schema)
        if typed != schema:
            why = "the schema was changed: this model requires a type in each schema or alternative of a union"
            warnings.add("changed", f"tool {tool.name}", why, lossy=False)
            return typed
    return schema


def _is_not_in_grammar(keyword: str, value: JSONValue) -> bool:
    """Whether llama.cpp cannot turn a keyword into a grammar: "Unrecognized schema", "failed to parse grammar".

    ggml-org/llama.cpp#17574, 2025-11 (`not`); openclaw/openclaw#107430, 2026-07 ("Pattern must start with '^' and end
    with '$'"); lidge-jun/opencodex#2135, 2026-08 (character classes).
    """
    if keyword == "pattern":
        return not isinstance(value, str) or _IN_GRAMMAR.fullmatch(value) is None
    return keyword == "not"


def _typed(schema: JSONObject, kind: JSONValue = None) -> JSONObject:
    """Return the schema in Moonshot's subset. `kind` is the type to use if the schema has none.

    Moonshot's errors are "when using anyOf, type should be defined in anyOf items instead of the parent schema" and
    "type is not defined": MoonshotAI/kimi-code#2661, 2026-08; earendil-works/pi#5822, 2026-06.
    """
    result: dict[str, Any] = {}
    union = next((name for name in _UNIONS if isinstance(schema.get(name), (list, tuple))), None)
    kind = schema.get("type", kind)
    for keyword, value in schema.items():
        if keyword in _NAMED and isinstance(value, Mapping):
            result[keyword] = {name: _typed(one) if isinstance(one, dict) else one for name, one in value.items()}
        elif keyword in _LISTS and isinstance(value, (list, tuple)):
            inner = kind if keyword == union else None
            result[keyword] = [
                _typed(one, inner) if isinstance(one, dict) and keyword != "allOf" else one for one in value
            ]
        elif keyword == "items" and isinstance(value, dict):
            result[keyword] = _typed(value)
        elif keyword != "type":
            result[keyword] = value
    if union is not None:
        return result
    if kind is None:
        kind = _kind(schema)
    if kind is not None:
        return {"type": kind, **result}
    return result if "$ref" in result or "allOf" in result else {**result, "anyOf": _ANY_TYPE}


def _kind(schema: JSONObject) -> str | None:
    """Return the type that the keywords of a schema imply."""
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    values = schema.get("enum", (schema["const"],) if "const" in schema else ())
    kinds = {_TYPES.get(type(value)) for value in values} if isinstance(values, (list, tuple)) else set()
    return kinds.pop() if len(kinds) == 1 else None
