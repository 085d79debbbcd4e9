"""Fault class 83: embeddings that are missing, doubled, misnumbered, or not numbers."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from trunkline.authoring.embeddings import check_vectors
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.testing.case import ProviderCase

VECTORS = ([1.0, 0.5], [2.0, 0.5], [3.0, 0.5])
"""The vectors of three texts."""

_MARK = 123456.5  # replaced by what JSON libraries do not write

NO_VECTORS: dict[str, Any] = {
    "empty": [],
    "shorter": [2.0],
    "longer": [2.0, 0.5, 0.5],
    "null": None,
    "object": {},
    "number": 2.0,
    "nested": [[2.0, 0.5], [2.0, 0.5]],
    "strings": ["2.0", "0.5"],
    "nulls": [None, None],
    "booleans": [True, True],
    "text": "?",
    "part of base64": "AAAAP",
    "three bytes": "AAAA",
    "nan in base64": b64encode(struct.pack("<2f", float("nan"), 0.5)).decode(),
}
"""Values in the place of the second vector."""


class EmbeddingFaults(ProviderCase):
    """The tests of class 83."""

    def _parsed(self, vectors: Sequence[Any], indexes: Sequence[int], number: bytes = b"0") -> Sequence[Any]:
        """Return the vectors of a response to a request for `VECTORS`, as `Service.embed` does."""
        operation = self.open_steps().operations.embed
        assert operation is not None
        assert self.wire.embeddings is not None, "the provider embeds texts, so its wire format needs `embeddings`"
        body = self.wire.embeddings(vectors, indexes).replace(str(_MARK).encode(), number)
        found = operation.parse(self.context(), WireResponse(status=200, body=body)).embeddings
        check_vectors(found, len(VECTORS))
        return found

    def _assert_refused(
        self, case: object, vectors: Sequence[Any], indexes: Sequence[int], number: bytes = b""
    ) -> None:
        with pytest.raises(ProtocolViolation):
            self._parsed(vectors, indexes, number)
            pytest.fail(f"{case} is accepted")

    def test_fault_83_embeddings(self) -> None:
        """The vectors are in the order of the texts, whatever the order of the response."""
        expected = tuple(map(tuple, VECTORS))
        assert self._parsed(VECTORS, (0, 1, 2)) == expected
        if self._has_indexes():
            assert self._parsed(VECTORS[::-1], (2, 1, 0)) == expected

    def test_fault_83_embeddings_miscounted(self) -> None:
        """A response that does not have one vector for each text raises `ProtocolViolation`."""
        for indexes in ((), (1, 2), (0, 2), (0, 1)):
            self._assert_refused(f"a response with the vectors {indexes}", [VECTORS[at] for at in indexes], indexes)
        self._assert_refused("a response with a fourth vector", (*VECTORS, VECTORS[0]), (0, 1, 2, 3))

    def test_fault_83_embeddings_misnumbered(self) -> None:
        """Indexes that are not those of the texts raise `ProtocolViolation`."""
        if not self._has_indexes():
            pytest.skip("n/a: the wire format has no indexes")
        for indexes in ((0, 0, 1), (0, 1, 1), (0, 0, 0), (1, 2, 3), (-1, 0, 1), (0, 1, 7)):
            self._assert_refused(f"a response with the indexes {indexes}", VECTORS, indexes)

    def test_fault_83_embeddings_that_are_no_vectors(self) -> None:
        """Vectors of different lengths, and values other than finite numbers, raise `ProtocolViolation`."""
        for name, value in NO_VECTORS.items():
            self._assert_refused(f"{name!r} as a vector", (VECTORS[0], value, VECTORS[2]), (0, 1, 2))
        for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
            vectors = (VECTORS[0], [_MARK, 0.5], VECTORS[2])
            self._assert_refused(f"the number {number.decode()}", vectors, (0, 1, 2), number)

    def _has_indexes(self) -> bool:
        """Whether the wire format has the indexes of the texts."""
        assert self.wire.embeddings is not None, "the provider embeds texts, so its wire format needs `embeddings`"
        return self.wire.embeddings(VECTORS, (0, 1, 2)) != self.wire.embeddings(VECTORS, (0, 1, 3))
