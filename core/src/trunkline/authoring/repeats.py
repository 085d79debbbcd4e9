"""Read repeated frames without decoding them. Pure.

Nearly every frame of a streamed response equals the one before it except for its text, so a parser can skip most of the
work. It learns a frame into a `Template`: the bytes before and after the text. To prove that the template is right, it
decodes the frame once more with a mark in place of the text, and looks for the mark in the result. A later frame that
has the same bytes around its text means the same, and only the text is decoded. Any other frame goes the usual way.

The life of a template:

1. The parser decodes the first frames as usual and passes them to `Repeats.learn`. Learning costs as much as decoding
   several frames, so it waits until `_WARM` frames with text have come: a short response never pays for it.
2. `learn` looks for the JSON member `field` in the bytes. The name may also occur inside the model's text, so each
   place that it finds is proven as described above.
3. A frame of any other kind calls `Repeats.forget`. What a delta means may depend on the frame before it (the start of
   a part, for instance), so the next frame is decoded and learned again.
4. If `_TRIES` templates in a row were never used, learning stops: this stream does not repeat its frames.

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
"""The number of frames with text before the first is learned."""

_TRIES = 8
"""The number of templates that may go unused before learning stops."""


@lru_cache(maxsize=64)
def _members(names: tuple[str, ...]) -> re.Pattern[bytes]:
    named = b"|".join(re.escape(name.encode()) for name in names)
    return re.compile(rb'"(?:%s)"\s*:\s*(%s)' % (named, _STRING), re.DOTALL)


class Template:
    """The constant bytes of a frame (or of a read), around its text.

    A frame is `head`, the text as a JSON string, and `tail`. If it has padding, `middle` comes between the text and the
    padding, and `tail` after the padding. `used` is set once the template has matched.
    """

    __slots__ = ("_head", "_middle", "_seam", "_seam_size", "_size", "_tail", "_tail_size", "used")

    def __init__(self, head: bytes, middle: bytes | None, tail: bytes) -> None:
        self._head, self._size = head, len(head)
        self._middle = middle
        self._tail, self._tail_size = tail, len(tail)
        self._seam, self._seam_size = tail + head, len(tail) + len(head)
        self.used: bool = False

    def count(self, data: bytes) -> int:
        """Return an upper bound for how often the template occurs in the bytes.

        It is exact for bytes that consist of nothing but the template.
        """
        return data.count(self._head)

    def span(self, data: bytes) -> tuple[int, int]:
        """Return the part of a read that may consist of the template, as start and end; 0, 0 if there is none.

        A long read usually starts in the middle of a frame and ends in the middle of another one.
        """
        seam = data.find(self._seam)
        return (seam + self._tail_size, data.rfind(self._tail) + self._tail_size) if seam >= 0 else (0, 0)

    def texts(self, data: bytes) -> list[str] | None:
        """Return the texts of bytes that consist of the template, once or repeatedly; `None` for any other bytes.

        None of the texts is empty: an empty text may mean something else to the parser, so such a frame is decoded.
        """
        if data[: self._size] != self._head or not data.endswith(self._tail):
            return None
        body = data[self._size : -self._tail_size]
        try:
            # A JSON string contains neither line endings nor unescaped quotes, so the text of a frame cannot contain
            # the bytes between two texts. Splitting there is safe, and `decode_string` refuses anything that is not
            # one JSON string.
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
            raise ValueError("not padding")
        return text

    def within(self, before: bytes, after: bytes) -> Template:
        """Return this template with more constant bytes around it."""
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
        """Learn the template of a frame. `value` is its decoded JSON."""
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
        """Forget the templates, since a frame of another kind has come. The next frame is decoded again."""
        if self.frame_template is not None:
            if self.frame_template.used or (self.read_template is not None and self.read_template.used):
                self._tries = _TRIES
            self.frame_template = self.read_template = None

    def learn_read(self, data: bytes, frames: Sequence[bytes]) -> None:
        """Learn the template of a read that consists of these frames, all of them complete."""
        if self.frame_template is None or self.frame_template.count(data) != len(frames):
            return
        at = data.rfind(frames[-1])
        if at < 0:  # the data of the frame came in several lines, so it is not in the bytes as it is
            return
        before, after = data[:at], data[at + len(frames[-1]) :]
        if len(frames) > 1:
            # Between two frames are the bytes that follow the first and those that precede the second.
            at = before.rfind(frames[-2])
            seam = before[at + len(frames[-2]) :]
            if at < 0 or not seam.startswith(after):
                return
            before = seam[len(after) :]
        self.read_template = self.frame_template.within(before, after)

    def _holds_the_text(self, head: bytes, tail: bytes, value: object) -> bool:
        # Put the mark in place of the text, decode, and compare: the parser must find the mark, and with the mark
        # replaced by the text again, the value must be the one that was decoded before. So nothing else depends on it.
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
    """Return a decoded value with the mark replaced by the text."""
    if isinstance(value, dict):
        return {key: _replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, text) for item in value]
    return text if value == _MARK else value


@runtime_checkable
class RepeatingParser(Protocol):
    """A parser that learns frames into `repeats`."""

    @property
    def repeats(self) -> Repeats:
        """What the frames of the stream have in common, as far as the parser has learned it."""
        ...

    def text_events(self, texts: list[str], /) -> list[Event]:
        """Return the events of frames that differ from the last learned one only in their texts."""
        ...


@runtime_checkable
class BoundaryFramer(Protocol):
    """A framer that knows whether the next byte starts a frame. A read of complete frames can then bypass it."""

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte starts a frame."""
        ...
