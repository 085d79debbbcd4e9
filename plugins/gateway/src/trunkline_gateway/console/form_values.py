"""Values of settings as the text of a form's controls, and back. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from trunkline.authoring.json import JSONValue, loads_finite


def mapping_of(value: object) -> Mapping[str, JSONValue]:
    """Return a value of a schema that is an object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def list_of(value: object) -> Sequence[JSONValue]:
    """Return a value of a schema that is a list, or an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def type_of(schema: Mapping[str, JSONValue]) -> str:
    """Return the type of a setting, which is `string` if its schema names none."""
    kinds = schema.get("type", "string")
    first = list_of(kinds)[0] if list_of(kinds) else kinds
    return first if isinstance(first, str) else "string"


def shown(value: JSONValue) -> str:
    """Return a value as the text that a control has for it."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value).removesuffix(".0")
    if isinstance(value, Mapping):
        plain = all(isinstance(item, str) and "\n" not in item for item in value.values()) and not any(
            ":" in name for name in value
        )
        if plain and value:
            return "\n".join(f"{name}: {item}" for name, item in value.items())
    elif all(isinstance(item, str) and not item.startswith(("[", "{")) for item in value):
        return "\n".join(str(item) for item in value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def inline(value: JSONValue) -> str:
    """Return a value as a text in one line, for a hint."""
    return ", ".join(map(shown, list_of(value))) if list_of(value) else shown(value)


def value_of(schema: Mapping[str, JSONValue], text: str) -> JSONValue:
    """Return the value of a text. What is not of the type stays text, which the library refuses.

    Raises `ValueError` that says how to write a list or a table.
    """
    kind, text = type_of(schema), text.strip()
    for branch in map(mapping_of, list_of(schema.get("oneOf"))):
        if "const" in branch and shown(branch["const"]) == text:
            return branch["const"]
    if "oneOf" in schema and text.startswith("{"):
        kind = "object"
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    if kind in ("integer", "number"):
        for number in (int, float):
            try:
                found = number(text)
            except ValueError:
                continue
            # JSON has no infinity. `isfinite` fails for an integer that is too large for a float.
            return text if isinstance(found, float) and not math.isfinite(found) else found
        return text
    if kind == "array":
        if not text.startswith("["):
            return [item.strip() for item in text.splitlines() if item.strip()]
        return _json(text, list, "one entry in each line, or a JSON array")
    if kind == "object" and text:
        if text.startswith("{"):
            return _json(text, dict, "one “Name: value” in each line, or a JSON object")
        table: dict[str, JSONValue] = {}
        for line in text.splitlines():
            name, colon, item = line.partition(":")
            if line.strip() and not colon:
                raise ValueError("must be one “Name: value” in each line, or a JSON object")
            if line.strip():
                table[name.strip()] = item.strip()
        return table
    return text


def _json(text: str, kind: type, accepted: str) -> JSONValue:
    try:
        value: JSONValue = loads_finite(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ValueError(f"must be {accepted}")
    return value
