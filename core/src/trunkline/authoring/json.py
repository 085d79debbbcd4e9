"""Build and encode the JSON body of a request, and decode the JSON that a provider sends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from math import isfinite
from typing import Any

from trunkline._excerpts import bounded
from trunkline._field_types import json_problem
from trunkline._json import (
    JSONObject,
    JSONValue,
    ProviderOptions,
    decode_string,
    dumps,
    json_text,
    loads,
    loads_finite,
)
from trunkline._web_pages import BLANK, PAGE_SEARCHED, describe_page
from trunkline.errors import InvalidRequest, ProtocolViolation

__all__ = [
    "append_field",
    "JSONObject",
    "JSONValue",
    "ProviderOptions",
    "as_count",
    "as_list",
    "as_number",
    "as_object",
    "as_objects",
    "as_string",
    "bounded",
    "decode_object",
    "decode_string",
    "dumps",
    "encode_request",
    "excerpt",
    "json_text",
    "loads",
    "loads_finite",
    "unknown_fields",
    "with_options",
]


def encode_request(body: object) -> bytes:
    """Encode the body of a request. Raises `InvalidRequest` if it contains a value that JSON does not have.

    Such a value can only come from the application, for example in `provider_options`.
    """
    try:
        return dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        problem = json_problem(body) or f": {error}"
        raise InvalidRequest(f"the request contains a value that is not valid in JSON: body{problem}") from None


def with_options(
    value: JSONObject, provider_options: ProviderOptions, provider: str, *, joined: Collection[str] = ()
) -> dict[str, Any]:
    """Return a JSON object of a request (the body, or a part of it) with one provider's options merged in.

    An option replaces the field of the same name. Fields named in `joined` are extended instead, so that an option does
    not silently remove what the request asks for: an object gets the option's fields, and a list gets those items of
    the option that it does not contain yet.
    """
    options = provider_options.get(provider) or {}
    result: dict[str, Any] = {**value, **options}
    for name in options.keys() & joined:
        present, option = value.get(name), options[name]
        if isinstance(present, Mapping) and isinstance(option, Mapping):
            result[name] = {**present, **option}
        elif isinstance(present, (list, tuple)) and isinstance(option, (list, tuple)):
            result[name] = [*present, *(item for item in option if item not in present)]
    return result


def decode_object(text: bytes | str, what: str, *, provider: str) -> dict[str, Any]:
    """Decode a text of the provider that must be a JSON object. `what` names the text in the error.

    Raises `ProtocolViolation`, which quotes the beginning of the text, if it is anything else.
    """
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        raise ProtocolViolation(f"{what} is {_not_json(text)}", provider=provider) from None
    if not isinstance(value, dict):
        raise ProtocolViolation(f"{what} is a JSON {type(value).__name__}, not an object", provider=provider)
    return value


def _not_json(text: bytes | str) -> str:
    start = text[:PAGE_SEARCHED] if isinstance(text, str) else text[:PAGE_SEARCHED].decode("utf-8", "replace")
    if not start.strip(BLANK):
        return "empty"
    return describe_page(start) or f"not JSON: {excerpt(text)}"


def excerpt(text: bytes | str) -> str:
    """Return the beginning of a text (at most 80 characters) on one line and in quotes, for an error message."""
    shown = text[:80] if isinstance(text, str) else text[:80].decode("utf-8", "replace")
    return repr(" ".join(shown.split()))


def as_string(value: object) -> str | None:
    """Return the value if it is a string, else `None`. For fields that a provider may send in any form."""
    return value if isinstance(value, str) else None


def as_count(*values: object) -> int | None:
    """Return the first value that is a whole number of at least 0 (`3.0` counts as one) as an `int`, else `None`.

    A number of 2**53 or more is no count: a `float` does not hold it exactly, and the sum of several may need more than
    the 64 bits that telemetry and databases accept.

    Several values are for counts that servers send under different names.
    """
    for value in values:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value < 2**53:
            return value
    return None


def as_number(value: object) -> float | None:
    """Return the value if it is a finite number that a `float` can hold, else `None`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON has integers larger than any float
        return None
    return number if isfinite(number) else None


def as_list(value: object) -> list[Any]:
    """Return the value if it is a list, else an empty list."""
    return value if isinstance(value, list) else []


def as_object(value: object) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in a list, without its other items. Any other value gives an empty list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def unknown_fields(data: dict[str, Any], known: Set[str]) -> dict[str, Any]:
    """Return the fields of an object that are not `known`, without null, empty texts, empty lists and empty objects.

    A parser keeps these fields in `provider_metadata`. The check is fast if there are none, as in almost every chunk.
    """
    if data.keys() <= known:
        return {}
    return {
        name: value
        for name, value in data.items()
        if name not in known and (value or isinstance(value, (bool, int, float)))
    }


def append_field(fields: dict[str, Any], name: str, value: JSONValue) -> None:
    """Append a value to the list under a name. If something else is there, it becomes the first item of the list.

    A parser keeps unknown events in this way, under their types. A field of the response may have the same name.
    """
    known = fields.setdefault(name, [])
    if isinstance(known, list):
        known.append(value)
    else:
        fields[name] = [known, value]
