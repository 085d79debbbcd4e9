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
