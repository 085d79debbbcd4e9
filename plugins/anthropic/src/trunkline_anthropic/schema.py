"""JSON Schemas in the subset that the API accepts for strict tools and structured output. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# From Anthropic's page on structured outputs: no bounds on numbers, lengths and sizes; `minItems` only as 0 or 1.
_REFUSED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
)
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_SCHEMAS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf")


def closed_schema(schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the schema in the API's subset, and the keywords that were taken out.

    Every object gets `additionalProperties: false`, which the API requires. Keywords that it refuses are moved into
    the description, where the model can read them. Raises `RecursionError` if the schema is nested too deeply.
    """
    moved: dict[str, None] = {}
    return _closed(schema, moved), tuple(moved)


def _closed(schema: Mapping[str, Any], moved: dict[str, None]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    removed: list[str] = []
    for keyword, value in schema.items():
        if _is_refused(keyword, value):
            removed.append(f"{keyword}: {value}")
            moved[keyword] = None
        elif keyword in _SCHEMAS and isinstance(value, Mapping):
            result[keyword] = {name: _any(inner, moved) for name, inner in value.items()}
        elif keyword in _LISTS and isinstance(value, Sequence) and not isinstance(value, str):
            result["anyOf" if keyword == "oneOf" else keyword] = [_any(inner, moved) for inner in value]
        elif keyword == "items":
            result[keyword] = _any(value, moved)
        else:
            result[keyword] = value
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, (list, tuple)) and "object" in kind) or "properties" in schema:
        if result.get("additionalProperties", False) is not False:
            moved["additionalProperties"] = None
        result["additionalProperties"] = False
    if removed:
        description = result.get("description")
        prefix = f"{description} " if isinstance(description, str) and description else ""
        result["description"] = f"{prefix}({'; '.join(removed)})"
    return result


def _any(value: Any, moved: dict[str, None]) -> Any:
    return _closed(value, moved) if isinstance(value, Mapping) else value


def _is_refused(keyword: str, value: object) -> bool:
    if keyword == "minItems":
        return value not in (0, 1)
    if keyword == "format":
        return value not in _FORMATS
    return keyword in _REFUSED
