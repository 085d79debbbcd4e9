"""JSON Schemas in the subset that Bedrock accepts for strict tools and structured output. Pure."""

from __future__ import annotations

import re

from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.authoring.schemas import object_schema, with_subschemas, without_keywords

# pydantic-ai 2.68.0, `providers/bedrock.py`, verified by its authors with live requests from May to October 2026. AWS's
# page on structured outputs lists fewer keywords. It also lists the string lengths, which Bedrock accepts.
_REFUSED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "maxItems", "contains"}
)
_LOOKAROUND = re.compile(r"\(\?(?:=|!|<=|<!|P=)|\\[0-9]")


def strict_schema(schema: JSONObject) -> tuple[JSONObject, tuple[str, ...]]:
    """Return the schema in Bedrock's subset, and the keywords that were moved into descriptions.

    Every object gets `additionalProperties: false`, which Bedrock requires.
    """
    subset, moved = without_keywords(object_schema(schema), _is_refused)
    return _closed(subset), moved


def _is_refused(keyword: str, value: JSONValue) -> bool:
    if keyword == "minItems":
        return value not in (0, 1)
    if keyword == "pattern":
        return isinstance(value, str) and _LOOKAROUND.search(value) is not None
    return keyword in _REFUSED


def _closed(schema: JSONObject) -> JSONObject:
    closed = with_subschemas(schema, lambda inner: _closed(inner) if isinstance(inner, dict) else inner)
    kind = schema.get("type")
    is_object = kind == "object" or (isinstance(kind, (list, tuple)) and "object" in kind)
    return {**closed, "additionalProperties": False} if is_object else closed
