"""Decompress bodies as they arrive, so that both libraries accept and refuse the same encodings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

import anyio.lowlevel

from trunkline._http.decompression import PIECE, DecodingError, decompressor
from trunkline._http.failures import unknown_encoding_error

_EMPTY_STEP = 2048
"""How many bytes of output a step of decompression counts as if it has none: it takes time as well."""

_ALWAYS_ALLOWED = 16 * 1024 * 1024
_MAX_RATIO = 200
"""A body may become this many times as large, or as large as `_ALWAYS_ALLOWED`.

Compressed text of models becomes 3 to 30 times as large, and much more only if a model repeats itself.
"""

_MAX_KEPT = 1024 * 1024
_MAX_REPLAYED = 16 * 1024 * 1024


class Decompressed:
    """The body in `chunks`, decompressed as it arrives, in pieces of about `PIECE` bytes.

    Lets other tasks run after each `PIECE` bytes, so that timeouts hold whatever the body decompresses to.

    Raises `DecodingError` where the body is not in its encoding, after what comes before that: the end of an answer may
    arrive together with a broken end of its encoding. Every later read raises it again. The error's text gives the
    reason if the body is compressed too many times, or becomes too large.
    """

    def __init__(self, encoding: str, chunks: AsyncIterator[bytes]) -> None:
        self._encoding = encoding
        self._chunks = chunks
        self._received = self._returned = self._since_pause = 0  # bytes
        self._chunk, self._taken = b"", 0  # the last chunk, and how much of it was decompressed
        self._kept: list[bytes] = []  # all chunks, if they are few
        self._failure: str | None = None
        self._replay: Iterator[bytes] = iter(())
        try:
            self._decompressor = decompressor(encoding)
        except DecodingError as error:
            self._failure = str(error)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._since_pause >= PIECE:
                self._since_pause = 0
                await anyio.lowlevel.checkpoint()
            if self._failure is None:
                decompressor = self._decompressor
                if not decompressor.more and self._taken == len(self._chunk):
                    self._take(await self._chunks.__anext__())
                piece = self._step()
            else:
                found = next(self._replay, None)
                if found is None:
                    raise DecodingError(self._failure)
                piece = found
            self._since_pause += len(piece) or _EMPTY_STEP
            if piece:
                return piece

    def _take(self, chunk: bytes) -> None:
        self._chunk, self._taken = chunk, 0
        self._received += len(chunk)
        if self._received <= _MAX_KEPT:
            self._kept.append(chunk)
        elif self._kept:
            self._kept = []

    def _step(self) -> bytes:
        data = b""
        if not self._decompressor.more:
            chunk, start = self._chunk, self._taken
            data = chunk if len(chunk) <= PIECE else chunk[start : start + PIECE]
            self._taken = start + len(data)
        try:
            piece = self._decompressor.feed(data)
        except DecodingError:
            self._failure = ""
            if self._kept and self._returned <= _MAX_REPLAYED:
                self._replay = _up_to_the_error(self._encoding, self._kept, self._returned)
            return b""
        self._returned += len(piece)
        if self._returned > _ALWAYS_ALLOWED and self._returned > _MAX_RATIO * self._received:
            self._failure = f"it becomes more than {_MAX_RATIO} times as large"
            return b""
        return piece


def _up_to_the_error(encoding: str, chunks: Sequence[bytes], returned: int) -> Iterator[bytes]:
    """Decompress `chunks` again, the last of which is broken, and yield what follows the first `returned` bytes.

    If a decompressor fails, the output of that step is lost. Decompressing the last chunk one byte at a time returns
    all output before the failure.
    """
    again = decompressor(encoding)
    *complete, broken = chunks
    pieces = [chunk[at : at + PIECE] for chunk in complete for at in range(0, len(chunk), PIECE)]
    try:
        for data in (*pieces, *(broken[at : at + 1] for at in range(len(broken)))):
            piece = again.feed(data)
            while True:
                skipped = min(returned, len(piece))
                returned -= skipped
                yield piece[skipped:]
                if not again.more:
                    break
                piece = again.feed(b"")
    except DecodingError:
        return


class Undecodable:
    """The body of a response in an encoding that was not asked for. Reading it raises `ProtocolViolation`."""

    def __init__(self, url: str, encoding: str) -> None:
        self._error = unknown_encoding_error(url, encoding)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise self._error
