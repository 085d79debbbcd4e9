"""Read repeated frames without decoding them. Pure.

Nearly every frame of a streamed answer equals the one before it except for its text, so a parser can skip most of the
work. It learns a frame into a `Template`: the bytes before and after the text. To prove that the template is right, it
decodes the frame once more with a mark in place of the text, and looks for the mark in the result. A later frame that
has the same bytes around its text means the same, and only the text is decoded. Any other frame goes the usual way.

Measured with a chunk of Chat Completions, decoding alone: 13.5 µs without templates, 6.1 with those of frames, 2.4 with
those of reads as well (November 2026, Python 3.11, with msgspec).

This works on two levels. `Repeats.frame_template` saves decoding a frame. `Repeats.read_template` describes a read that
holds such frames and nothing else, and saves cutting it into frames as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from trunkline._json import decode_string, loads
from trunkline.events import Event

_STRING = rb'"(?:[^"\\]|\\.)*+"'
_MARK = "\N{OBJECT REPLACEMENT CHARACTER}trunkline\N{OBJECT REPLACEMENT CHARACTER}"
_ENCODED_MARK = b'"%s"' % _MARK.encode()
_WARM = 3
"""Frames with text that come before one is learned from: learning costs as much as decoding several."""

_TRIES = 8
"""Frames that are learned from without one that repeats them; a stream whose frames never do is then left alone."""


@lru_cache(maxsize=64)
def _members(names: tuple[str, ...]) -> re.Pattern[bytes]:
    named = b"|".join(re.escape(name.encode()) for name in names)
    return re.compile(rb'"(?:%s)"\s*:\s*(%s)' % (named, _STRING), re.DOTALL)


class Template:
    """What the bytes have before and after the text."""

    __slots__ = ("_head", "_middle", "_seam", "_seam_size", "_size", "_tail", "_tail_size", "used")

    def __init__(self, head: bytes, middle: bytes | None, tail: bytes) -> None:
        self._head, self._size = head, len(head)
        self._middle = middle
        self._tail, self._tail_size = tail, len(tail)
        self._seam, self._seam_size = tail + head, len(tail) + len(head)
        self.used: bool = False

    def count(self, data: bytes) -> int:
        """How often this may be in the bytes: exactly so often where they are nothing else."""
        return data.count(self._head)

    def span(self, data: bytes) -> tuple[int, int]:
        """Where in the bytes this may begin anew, behind something cut, and where its last end is; 0, 0 for nowhere."""
        seam = data.find(self._seam)
        return (seam + self._tail_size, data.rfind(self._tail) + self._tail_size) if seam >= 0 else (0, 0)

    def texts(self, data: bytes) -> list[str] | None:
        """The texts of bytes that are this once or more, differing in nothing else; `None` for any other bytes.

        None of the texts is empty.
        """
        if data[: self._size] != self._head or not data.endswith(self._tail):
            return None
        body = data[self._size : -self._tail_size]
        try:
            # A JSON string has no line ending and no quote that is not escaped, so each text ends where its piece does.
            if len(body) < self._seam_size:
                texts = [decode_string(self._unpadded(body))]
            else:
                texts = [decode_string(self._unpadded(piece)) for piece in body.split(self._seam)]
        except ValueError:
            return None
        self.used = True
        return texts if all(texts) else None

    def _unpadded(self, piece: bytes) -> bytes:
        middle = self._middle
        if middle is None:
            return piece
        text, found, padding = piece.partition(middle)
        if not found or not (padding.isalnum() or not padding):
            raise ValueError("something else than padding")
        return text

    def within(self, before: bytes, after: bytes) -> Template:
        """The template of the same with other bytes around it."""
        return Template(before + self._head, self._middle, self._tail + after)


class Repeats:
    """What one stream's parser has learned.

    `field` is the name of the JSON member that holds the text, and `read` returns the text of a decoded frame.
    `padding` names members of letters and digits without meaning, with which some providers hide the text's length.
    """

    __slots__ = ("_field", "_padding", "_read", "_seen", "_tries", "frame_template", "read_template")

    def __init__(self, field: str, read: Callable[[Any], object], *, padding: tuple[str, ...] = ()) -> None:
        self._field = (field,)
        self._padding = padding
        self._read = read
        self._seen = 0
        self._tries = _TRIES
        self.frame_template: Template | None = None
        self.read_template: Template | None = None

    def learn(self, data: bytes, value: object) -> None:
        """Take a frame, and what its JSON says, as the one that the next are held against."""
        self._seen += 1
        if self._seen <= _WARM or not self._tries:
            return
        self._tries -= 1
        for found in _members(self._field).finditer(data):
            head, tail = data[: found.start(1)], data[found.end(1) :]
            if self._holds_the_text(head, tail, value):
                self.frame_template = self._template(head, tail)
                return

    def forget(self) -> None:
        """Another kind of frame came between: the next is to be decoded."""
        if self.frame_template is not None:
            if self.frame_template.used or (self.read_template is not None and self.read_template.used):
                self._tries = _TRIES
            self.frame_template = self.read_template = None

    def learn_read(self, data: bytes, frames: Sequence[bytes]) -> None:
        """Take a read that brought these frames, whole ones, as the one that the next are held against."""
        if self.frame_template is None or self.frame_template.count(data) != len(frames):
            return
        at = data.rfind(frames[-1])
        if at < 0:  # it came in several lines
            return
        before, after = data[:at], data[at + len(frames[-1]) :]
        if len(frames) > 1:
            # Between two frames stand what follows the one and what precedes the other.
            at = before.rfind(frames[-2])
            seam = before[at + len(frames[-2]) :]
            if at < 0 or not seam.startswith(after):
                return
            before = seam[len(after) :]
        self.read_template = self.frame_template.within(before, after)

    def _holds_the_text(self, head: bytes, tail: bytes, value: object) -> bool:
        # The name may stand anywhere, in a text of the model's too: what another text in its place says decides.
        try:
            marked = loads(head + _ENCODED_MARK + tail)
            return self._read(marked) == _MARK and _replaced(marked, self._read(value)) == value
        except (ValueError, RecursionError):
            return False

    def _template(self, head: bytes, tail: bytes) -> Template:
        padding = _members(self._padding).search(tail) if self._padding else None
        if padding is None:
            return Template(head, None, tail)
        start, end = padding.span(1)
        return Template(head, tail[: start + 1], tail[end - 1 :])


def _replaced(value: object, text: object) -> object:
    """A decoded value with the text in the place of the mark."""
    if isinstance(value, dict):
        return {key: _replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, text) for item in value]
    return text if value == _MARK else value


@runtime_checkable
class RepeatingParser(Protocol):
    """A parser that takes part: it learns frames into `repeats`, and makes the events of texts that were found so."""

    @property
    def repeats(self) -> Repeats: ...

    def text_events(self, texts: list[str], /) -> list[Event]: ...


@runtime_checkable
class BoundaryFramer(Protocol):
    """A framer that knows whether the next byte begins a frame, so that a read of whole frames can go past it."""

    @property
    def at_boundary(self) -> bool: ...
