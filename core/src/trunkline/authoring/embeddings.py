"""The vectors in the response to an embedding request."""

from __future__ import annotations

import struct
from base64 import b64decode

from trunkline.errors import ProtocolViolation


def decode_vectors(values: object, *, provider: str) -> tuple[tuple[float, ...], ...]:
    """Decode a list of vectors, each a list of numbers or base64 of little-endian 32-bit floats.

    Raises `ProtocolViolation` for anything else.
    """
    if not isinstance(values, list):
        raise ProtocolViolation("the response has no list of embeddings", provider=provider)
    try:
        return tuple(_vector(value) for value in values)
    except (ValueError, OverflowError, struct.error):
        raise ProtocolViolation("an embedding is neither numbers nor base64", provider=provider) from None


def _vector(value: object) -> tuple[float, ...]:
    if isinstance(value, str):
        data = b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise ValueError("not a vector")
    return tuple(float(number) for number in value)
