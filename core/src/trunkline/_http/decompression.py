"""Decompress bodies in bounded steps, without I/O.

HTTP clients decompress what they have received at once, or in pieces of a megabyte. A hostile server can make that
megabytes of output from a kilobyte, and with two layers gigabytes of work without any output. Each step here takes at
most `PIECE` bytes and returns at most about as many, so that timeouts and other tasks can act between two steps.

A body may consist of several members of gzip, or of several frames of zstd, one after the other: a server that
compresses each event separately sends that (RFC 1952, section 2.2; RFC 8878, section 3.1).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

PIECE = 64 * 1024
"""How many bytes a step takes and returns at most. A step of brotli may return twice as many."""

MAX_LAYERS = 3
"""How many compressions of one body are undone. Servers use one; two are the mistake of a proxy."""

_ZSTD_WINDOW = 23
"""The largest window of zstd, as a power of two: 8 MiB, the limit in HTTP (RFC 9659). A window is allocated at once."""


class DecodingError(Exception):
    """A body is not in its encoding."""


class Decompressor(Protocol):
    """Undoes a compression, step by step."""

    more: bool
    """Whether `feed(b"")` may return more. While it is true, `feed` must get no data."""

    def feed(self, data: bytes) -> bytes:
        """Take at most `PIECE` bytes and return the next bytes, if any. Raises `DecodingError`."""
        ...


class _Zlib:
    """gzip, and deflate with or without the header of zlib. Bytes that follow and start no member are ignored."""

    def __init__(self, window_bits: int, *, has_members: bool) -> None:
        self._window_bits = window_bits
        self._has_members = has_members
        self._decompress: Any = zlib.decompressobj(window_bits)
        self._rest = b""
        self.more = False

    def feed(self, data: bytes) -> bytes:
        decompress, data = self._decompress, data or self._rest
        if decompress.eof:
            if not (self._has_members and data.startswith(b"\x1f")):
                self.more, self._rest = False, b""
                return b""
            decompress = self._decompress = zlib.decompressobj(self._window_bits)
        try:
            piece: bytes = decompress.decompress(data, PIECE)
        except zlib.error as error:
            raise DecodingError from error
        self._rest = decompress.unused_data if decompress.eof else decompress.unconsumed_tail
        # zlib may hold more output although it has taken all input.
        self.more = bool(self._rest) if decompress.eof else len(piece) == PIECE
        return piece


class _Deflate:
    """`deflate` is the format of zlib. Some servers send it without the header (RFC 9110, section 8.4.1.2)."""

    more = False

    def __init__(self) -> None:
        self._zlib: _Zlib | None = None

    def feed(self, data: bytes) -> bytes:
        decompressor = self._zlib
        if decompressor is None:
            if not data:
                return b""
            has_header = data[0] & 0xF == 8  # without a header, this would be a block with wrong padding
            decompressor = self._zlib = _Zlib(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS, has_members=False)
        piece = decompressor.feed(data)
        self.more = decompressor.more
        return piece


class _Brotli:
    def __init__(self, module: Any) -> None:
        self._error: type[Exception] = module.error
        self._decompressor: Any = module.Decompressor()
        self.more = False

    def feed(self, data: bytes) -> bytes:
        decompressor = self._decompressor
        if decompressor.is_finished():
            self.more = False
            return b""
        try:
            piece: bytes = decompressor.process(data, output_buffer_limit=PIECE)
        except self._error as error:
            raise DecodingError from error
        self.more = bool(piece)  # only an empty piece says that it has nothing left
        return piece


class _Zstd:
    def __init__(self, module: Any) -> None:
        self._error: type[Exception] = module.ZstdError
        self._new: Callable[[], Any] = lambda: module.ZstdDecompressor(
            options={module.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
        )
        self._decompressor = self._new()
        self._rest = b""
        self.more = False

    def feed(self, data: bytes) -> bytes:
        decompressor, data = self._decompressor, data or self._rest
        if decompressor.eof:
            decompressor, self._rest = self._new(), b""
            self._decompressor = decompressor
        try:
            piece: bytes = decompressor.decompress(data, PIECE)
        except self._error as error:
            raise DecodingError from error
        if decompressor.eof:
            self._rest = decompressor.unused_data
            self.more = bool(self._rest)
        else:
            self.more = not decompressor.needs_input
        return piece


class _Layers:
    """Several compressions, in the order in which they are undone."""

    def __init__(self, layers: Sequence[Decompressor]) -> None:
        self._layers = layers
        self.more = False

    def feed(self, data: bytes) -> bytes:
        # The last layer that holds something is emptied first, so that none holds more than one piece.
        layers = self._layers
        start = max((place for place, layer in enumerate(layers) if layer.more), default=0)
        for layer in layers[start:]:
            data = layer.feed(data)
            if not data:
                break
        self.more = any(layer.more for layer in layers)
        return data


def _brotli_module() -> ModuleType | None:
    """Return the package for brotli, if it can limit the size of its output: brotli or brotlicffi, from 1.2 on."""
    module = _first_module("brotli", "brotlicffi")
    return module if module is not None and hasattr(module.Decompressor, "can_accept_more_data") else None


def _first_module(*names: str) -> ModuleType | None:
    """Return the first of some modules that is installed."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


@cache
def _factories() -> dict[str, Callable[[], Decompressor]]:
    found: dict[str, Callable[[], Decompressor]] = {
        "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16, has_members=True),
        "deflate": _Deflate,
    }
    brotli, zstd = _brotli_module(), _first_module("compression.zstd", "backports.zstd")
    if brotli is not None:
        found["br"] = lambda: _Brotli(brotli)
    if zstd is not None:
        found["zstd"] = lambda: _Zstd(zstd)
    return found


def supported() -> tuple[str, ...]:
    """Return the compressions that can be undone. `br` and `zstd` need packages."""
    return tuple(_factories())


def decompressor(encoding: str) -> Decompressor:
    """Return a decompressor for the compressions in a `Content-Encoding`, which are `supported`.

    Raises `DecodingError` if there are too many.
    """
    names = encoding.split(", ")
    if len(names) > MAX_LAYERS:
        raise DecodingError(f"it is compressed more than {MAX_LAYERS} times")
    layers = [_factories()[name]() for name in reversed(names)]
    return layers[0] if len(layers) == 1 else _Layers(layers)
