"""The vectors in the response to an embedding request."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Sequence
from math import isfinite

from trunkline.errors import ProtocolViolation


def decode_vectors(values: object, *, provider: str, indexes: Sequence[object] = ()) -> tuple[tuple[float, ...], ...]:
    """Decode a list of vectors, each a list of numbers or base64 of little-endian 32-bit floats.

    `indexes` are the positions of the inputs that the vectors belong to, if the API sends them: the result is in the
    order of the inputs. `None` is an index that is missing. If all are missing, the vectors are in order; otherwise a
    missing one is 0, because some servers leave out zeros.

    The core checks that there is one vector for each input. Raises `ProtocolViolation` if the indexes are not those of
    one vector for each input, and for values that are not vectors.
    """
    if not isinstance(values, list):
        raise ProtocolViolation("the response has no list of embeddings", provider=provider)
    try:
        vectors = tuple(_vector(value) for value in values)
    except (ValueError, OverflowError, struct.error):
        raise ProtocolViolation("an embedding is neither numbers nor base64", provider=provider) from None
    if all(index is None for index in indexes):
        return vectors
    positions = [index if type(index) is int else 0 if index is None else -1 for index in indexes]
    if sorted(positions) != list(range(len(vectors))):
        last = len(vectors) - 1
        raise ProtocolViolation(
            f"the indexes of the embeddings are not the numbers from 0 to {last}, each once", provider=provider
        )
    return tuple(vector for _, vector in sorted(zip(positions, vectors, strict=True)))


def check_vectors(vectors: Sequence[Sequence[float]], count: int) -> None:
    """Check that a response has `count` vectors of one length, which contain finite numbers.

    The core calls this for each response to an embedding request. Raises `ProtocolViolation`.
    """
    if len(vectors) != count:
        raise ProtocolViolation(f"the number of embeddings is {len(vectors)}, but the number of inputs is {count}")
    lengths = {len(vector) for vector in vectors}
    if 0 in lengths:
        raise ProtocolViolation("an embedding is empty")
    if len(lengths) > 1:
        raise ProtocolViolation(f"the embeddings have different lengths: {min(lengths)} and {max(lengths)} numbers")
    for vector in vectors:
        # The sum is not finite if a number is not, and it is faster. Finite numbers may have a sum that is too large.
        if not isfinite(sum(vector)) and not all(map(isfinite, vector)):
            raise ProtocolViolation("an embedding contains a number that is not finite")


def _vector(value: object) -> tuple[float, ...]:
    if isinstance(value, str):
        data = b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise ValueError("not a vector")
    return tuple(float(number) for number in value)
