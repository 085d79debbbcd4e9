"""JSON Schemas in the subset that the API takes where it holds the model to them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The provider's page on structured outputs: no bounds on numbers, lengths and sizes; `minItems` of 0 or 1 alone.
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
    """The schema with every object closed, and the keywords that the API refuses, which went into descriptions.

    The API wants `additionalProperties: false` on each object; where it is missing it is added.
    """
    moved: dict[str, None] = {}
    return _closed(schema, moved), tuple(moved)


def _closed(schema: Mapping[str, Any], moved: dict[str, None]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    told: list[str] = []
    for keyword, value in schema.items():
        if _is_refused(keyword, value):
            told.append(f"{keyword}: {value}")
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
    if told:
        description = result.get("description")
        said = f"{description} " if isinstance(description, str) and description else ""
        result["description"] = f"{said}({'; '.join(told)})"
    return result


def _any(value: Any, moved: dict[str, None]) -> Any:
    return _closed(value, moved) if isinstance(value, Mapping) else value


def _is_refused(keyword: str, value: object) -> bool:
    if keyword == "minItems":
        return value not in (0, 1)
    if keyword == "format":
        return value not in _FORMATS
    return keyword in _REFUSED
