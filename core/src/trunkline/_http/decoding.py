"""Decompress bodies with httpx2, whichever library received them, so that both accept and refuse the same encodings.

httpx2 has no public function for this. `Response._get_content_decoder()` returns an object with `decode(data)` and
`flush()`, which return iterators of bytes; `test_core_dependencies.py` checks that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx2

from trunkline._http.failures import unknown_encoding_error

DecodingError = httpx2.DecodingError
"""What reading raises if a body is not in its encoding."""

_MAX_KEPT = 1024 * 1024
_MAX_DECODED_AGAIN = 16 * 1024 * 1024


async def decompressed(encoding: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the body in `chunks`, decompressed as it arrives. `encoding` is its `Content-Encoding`.

    Raises `DecodingError` where the body is not in its encoding, after what comes before that: the end of an answer may
    arrive together with a broken end of its encoding.
    """
    decoder, decoded = _decoder(encoding), 0
    kept: list[bytes] = []
    size = 0
    try:
        while True:
            try:
                chunk = await chunks.__anext__()  # the `__aiter__` of an exchange returns what is decompressed
            except StopAsyncIteration:
                break
            size += len(chunk)
            if size <= _MAX_KEPT:
                kept.append(chunk)
            elif kept:
                kept = []
            for part in decoder.decode(chunk):
                decoded += len(part)
                yield part
    except DecodingError as error:
        failed = error
    else:
        for part in decoder.flush():
            if part:
                yield part
        return
    if kept and decoded <= _MAX_DECODED_AGAIN:
        for part in _up_to_the_error(encoding, kept, decoded):
            yield part
    raise failed


def _up_to_the_error(encoding: str, chunks: Sequence[bytes], decoded: int) -> Iterator[bytes]:
    """Decompress `chunks` again, the last of which is broken, and yield what follows the first `decoded` bytes.

    Where a decoder fails, it drops what it has made of the same chunk. So it gets the last chunk byte by byte, but the
    first two bytes at once: httpx2 recognises the variant of `deflate` by them.
    """
    decoder = _decoder(encoding)
    *complete, broken = chunks
    pieces = (*complete, broken[:2], *(broken[at : at + 1] for at in range(2, len(broken))))
    try:
        for piece in pieces:
            for part in decoder.decode(piece):
                if len(part) > decoded:
                    yield part[decoded:]
                decoded = max(0, decoded - len(part))
    except DecodingError:
        return


def _decoder(encoding: str) -> Any:
    return httpx2.Response(200, headers={"content-encoding": encoding})._get_content_decoder()


class Undecodable:
    """The body of a response in an encoding that was not asked for. Reading it raises `ProtocolViolation`."""

    def __init__(self, url: str, encoding: str) -> None:
        self._error = unknown_encoding_error(url, encoding)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise self._error
