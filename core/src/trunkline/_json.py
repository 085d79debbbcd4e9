"""JSON as Python values: the types, and the one place that encodes and decodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    JSONValue: TypeAlias = Union[str, int, float, bool, "Sequence[JSONValue]", "Mapping[str, JSONValue]", None]
    """Anything that JSON can hold."""
else:
    # A recursive alias cannot be resolved outside this module, as cattrs does for the classes that use it.
    JSONValue = Any

JSONObject: TypeAlias = Mapping[str, JSONValue]
"""A JSON object."""

ProviderOptions: TypeAlias = Mapping[str, JSONObject]
"""What is passed on as it is (or comes back), by provider name."""


def _decoder() -> Callable[[bytes | str], Any]:
    try:
        from msgspec.json import decode  # the extra `fast`
    except ImportError:
        return json.loads
    return decode


_decode = _decoder()


def _string_decoder() -> Callable[[bytes], str]:
    try:
        from msgspec.json import Decoder
    except ImportError:
        return _scanned
    return Decoder(str).decode


_scan = json.JSONDecoder().raw_decode


def _scanned(data: bytes) -> str:
    text = str(data, "utf-8")
    value, end = _scan(text)
    if not isinstance(value, str) or end != len(text):
        raise ValueError("no JSON string")
    return value


decode_string = _string_decoder()
"""Decode a JSON string. Raises `ValueError` for anything else, and for the rare string that only `loads` takes."""


def loads(data: bytes | str) -> Any:
    """Decode as `json.loads` does, whichever decoder is installed.

    Raises `ValueError` (`UnicodeDecodeError` among them) or `RecursionError`.
    """
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        # What one decoder refuses, the standard library may take: NaN, lone surrogates, UTF-16, numbers that overflow.
        return json.loads(data)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"{text} is no number of JSON")
    return number


loads_finite = json.JSONDecoder(parse_float=_finite, parse_constant=_finite).decode
"""Decode what must be sent again: raises `ValueError` for NaN and what is beyond any float, which `dumps` refuses."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dumps(value: object) -> bytes:
    """Encode compactly, as UTF-8.

    Raises `ValueError` for what JSON has no word for (NaN, infinities) and `TypeError` for other objects. A lone
    surrogate, which UTF-8 cannot hold, is sent as its escape.
    """
    text = _encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def json_text(value: object) -> str:
    """The JSON text of a decoded value, to be decoded again: NaN, which `loads` lets pass, comes out as it went in.

    Raises `RecursionError` for what is nested too deep.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
