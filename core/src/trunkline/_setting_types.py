"""The types that a setting may have: which values each accepts, and its JSON Schema."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Literal, Union, get_args, get_origin

from trunkline._json import JSONObject
from trunkline.secrets import Headers, Secret

BOOLEAN_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
"""The texts that are accepted for a boolean, in lower case."""

REFERENCE_KINDS = ("env", "file", "keyring")
"""Where a reference in a configuration file may say that a secret is kept: `{ env = "NAME" }` and so on."""

_REFERENCE: JSONObject = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in REFERENCE_KINDS},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


def without_none(hint: object) -> object:
    """Return the type `X` of the annotation `X | None`; any other annotation is returned unchanged."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


def convert_to(kind: object, value: object) -> object:
    """Convert a configured value to a type. Raises `ValueError` with a noun phrase: what is accepted."""
    origin = get_origin(kind)
    if kind is Secret:
        if isinstance(value, Secret):
            secret = value
        elif isinstance(value, str):
            secret = Secret(value.strip())
        else:
            raise ValueError(f"a string, not {type(value).__name__}")
        if not secret:
            raise ValueError("a string that is not empty")
        if not secret.reveal().isprintable():
            raise ValueError("a string without line breaks or control characters")
        return secret
    if kind is str:
        if isinstance(value, Secret):
            value = value.reveal()
        if not isinstance(value, str) or not value.strip():
            raise ValueError("a string that is not empty")
        return value.strip()
    if kind is bool:
        truth = BOOLEAN_WORDS.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(truth, bool):
            raise ValueError(f"true or false, not {value!r}")
        return truth
    if kind in (int, float):
        return _number(int if kind is int else float, value)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{' or '.join(map(repr, get_args(kind)))}, not {value!r}")
        return value
    if kind is Headers or (origin is not None and issubclass(origin, Mapping)):
        # The values may be secret, so the error does not show them.
        if isinstance(value, Headers):
            return value
        if not isinstance(value, Mapping) or not all(
            isinstance(name, str) and isinstance(text, str) for name, text in value.items()
        ):
            raise ValueError("a table of strings")
        return Headers(value) if kind is Headers else dict(value)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise ValueError("a list of strings")
        return tuple(item.strip() for item in items if item.strip())
    return value


def _number(kind: type[int] | type[float], value: object) -> int | float:
    wanted = "a whole number" if kind is int else "a number of seconds"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{wanted}, not {value!r}")
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{wanted}, not {value!r}") from None
    if number != number or (kind is int and isinstance(value, float) and value != number):
        raise ValueError(f"{wanted}, not {value!r}")
    return number


def schema_of(kind: object) -> JSONObject:
    """Return the JSON Schema of the values that a type accepts in a configuration file."""
    origin = get_origin(kind)
    if kind is Secret:
        return {"anyOf": [{"type": "string"}, _REFERENCE], "writeOnly": True}
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if kind is Headers or (origin is not None and issubclass(origin, Mapping)):
        return {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, _REFERENCE]}}
    if origin is tuple:
        return {"type": "array", "items": {"type": "string"}}
    names: dict[object, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": names[kind]} if kind in names else {}
