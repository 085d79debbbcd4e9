"""JSON: the types of decoded values, and the functions that encode and decode."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    JSONValue: TypeAlias = Union[str, int, float, bool, "Sequence[JSONValue]", "Mapping[str, JSONValue]", None]
    """A decoded JSON value."""
else:
    # cattrs resolves the annotations of the classes that use this alias, and cannot resolve a recursive one.
    JSONValue = Any

JSONObject: TypeAlias = Mapping[str, JSONValue]
"""A decoded JSON object."""

ProviderOptions: TypeAlias = Mapping[str, JSONObject]
"""Fields that only one provider understands, under the provider's name."""


def type_tag(cls: type) -> str:
    """Return the `type` that marks an instance of a class in JSON: the class's name in snake case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string in encoded JSON. The last one may lack its end."""


def ends_too_early(data: bytes) -> bool:
    """Whether encoded data is empty, or the beginning of a JSON object or array whose rest is missing."""
    data = data.strip()
    if not data:
        return True
    outside = STRING.sub(b"", data)
    is_open = outside.count(b"{") + outside.count(b"[") > outside.count(b"}") + outside.count(b"]")
    return is_open and outside.startswith((b"{", b"["))


NESTING_LIMIT = 128
"""How deep the values of a request may be nested, and by default the JSON of a response."""

_BRACKETS = b"[{]}"
_STEPS = bytes.maketrans(_BRACKETS, b"\2\2\0\0")
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))


def is_deeper(data: bytes | bytearray, limit: int) -> bool:
    """Return whether JSON is nested deeper than `limit`. Takes linear time, and no stack."""
    # JSON cannot be nested deeper than it has opening brackets. Counting those is fast, and nearly always enough.
    return opening_brackets(data) > limit and depth(brackets(data)) > limit


def opening_brackets(data: bytes | bytearray) -> int:
    """Return the number of opening brackets in JSON, including those in strings."""
    return data.count(b"{") + data.count(b"[")


def brackets(data: bytes | bytearray) -> bytes | bytearray:
    """Return the brackets of JSON outside of strings, for `depth`: 2 for an opening and 0 for a closing one."""
    return STRING.sub(b"", data).translate(_STEPS, _OTHERS)


def depth(steps: bytes | bytearray) -> int:
    """Return how deep JSON is nested that has these `brackets`."""
    # The running sum of these numbers, each minus 1, is the depth.
    return max(accumulate(map((-1).__add__, steps)), default=0)


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
        return _decode_string_slowly
    return Decoder(str).decode


_scan = json.JSONDecoder().raw_decode


def _decode_string_slowly(data: bytes) -> str:
    text = str(data, "utf-8")
    value, end = _scan(text)
    if not isinstance(value, str) or end != len(text):
        raise ValueError("not a JSON string")
    return value


decode_string: Callable[[bytes], str] = _string_decoder()
"""Decode a JSON string. Raises `ValueError` for anything else, and for the rare strings that only `loads` accepts."""


def loads(data: bytes | str) -> Any:
    """Decode JSON. The result does not depend on whether msgspec is installed.

    Raises `ValueError` (also its subclass `UnicodeDecodeError`) or `RecursionError`.
    """
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        # msgspec refuses what `json.loads` accepts: NaN, lone surrogates, UTF-16, and numbers that overflow.
        return json.loads(data)


def is_json(data: bytes) -> bool:
    """Whether the data is a complete JSON value."""
    try:
        loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"{text} is not a JSON number")
    return number


loads_finite: Callable[[str], Any] = json.JSONDecoder(parse_float=_finite, parse_constant=_finite).decode
"""Decode a value that will be encoded again. Raises `ValueError` for NaN and infinities, which `dumps` refuses."""


def _plain(value: object) -> object:
    """Return the dict or list of a mapping or sequence of another class, such as `types.MappingProxyType`."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    raise TypeError(f"an object of type {type(value).__name__} is no JSON value")


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode


def dumps(value: object) -> bytes:
    """Encode a value as compact JSON in UTF-8.

    Lone surrogates, which UTF-8 cannot encode, are escaped. Raises `ValueError` for NaN and infinities, and `TypeError`
    for objects that are not JSON values.
    """
    text = _encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain).encode()


def json_text(value: object) -> str:
    """Encode a value that `loads` returned as JSON text. NaN and infinities stay as they are.

    Raises `RecursionError` for a value that is nested too deeply.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
