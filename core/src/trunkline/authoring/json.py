"""JSON on the wire: encode a request's body and decode what a provider sent."""

from __future__ import annotations

from typing import Any

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
from trunkline.errors import InvalidRequest, ProtocolViolation

__all__ = [
    "as_count",
    "as_list",
    "as_object",
    "as_objects",
    "as_string",
    "JSONObject",
    "JSONValue",
    "ProviderOptions",
    "decode_object",
    "decode_string",
    "dumps",
    "encode_request",
    "json_text",
    "loads",
    "loads_finite",
]


def encode_request(body: object) -> bytes:
    """Encode the body of a request. Raises `InvalidRequest` for what JSON cannot say, as options may hold."""
    try:
        return dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request holds a value that JSON cannot say: {error}") from None


def decode_object(text: bytes | str, what: str, *, provider: str) -> dict[str, Any]:
    """Decode a JSON object that an answer has to be. `what` names it in the error.

    Raises `ProtocolViolation`, with the beginning of the text, for anything else.
    """
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        shown = text[:80] if isinstance(text, str) else text[:80].decode("utf-8", "replace")
        raise ProtocolViolation(f"{what} is not JSON: {' '.join(shown.split())!r}", provider=provider) from None
    if not isinstance(value, dict):
        raise ProtocolViolation(f"{what} is a JSON {type(value).__name__}, not an object", provider=provider)
    return value


def as_string(value: object) -> str | None:
    """The value if it is a string, else `None`. For fields that a provider may send in any form."""
    return value if isinstance(value, str) else None


def as_count(value: object) -> int | None:
    """The value if it counts something, else `None`: a whole number from 0, which may arrive as `3.0`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def as_list(value: object) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def as_object(value: object) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """The JSON objects in a list. Other items are ignored; anything but a list has none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
