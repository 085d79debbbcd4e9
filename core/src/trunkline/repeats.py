"""Frames that repeat the one before but for a text, as nearly all frames of a streamed answer do.

A parser that has decoded one such frame reads the next at a glance: where its bytes before and after the text are the
same, it says the same, and the text is all that need be decoded. Without I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from trunkline.jsonvalue import decode_string, loads

_STRING = rb'"(?:[^"\\]|\\.)*+"'
_MARK = "\N{OBJECT REPLACEMENT CHARACTER}trunkline\N{OBJECT REPLACEMENT CHARACTER}"
_ENCODED_MARK = b'"%s"' % _MARK.encode()
_TRIES = 8
"""Frames that are learned from without one that repeats them; a stream whose frames never do is then left alone."""


@lru_cache(maxsize=64)
def _members(names: tuple[str, ...]) -> re.Pattern[bytes]:
    named = b"|".join(re.escape(name.encode()) for name in names)
    return re.compile(rb'"(?:%s)"\s*:\s*(%s)' % (named, _STRING), re.DOTALL)


class Repeats:
    """The frames of one stream.

    `field` is the name of the JSON member that holds the text, and `read` gives it from a decoded frame. `padding` names
    members of letters and digits that say nothing, with which some providers hide how long a text is.
    """

    __slots__ = ("_field", "_head", "_middle", "_padding", "_read", "_size", "_tail", "_tail_size", "_tries")

    def __init__(self, field: str, read: Callable[[Any], object], *, padding: tuple[str, ...] = ()) -> None:
        self._field = (field,)
        self._padding = padding
        self._read = read
        self._head: bytes | None = None
        self._middle: bytes | None = None
        self._tail = b""
        self._size = self._tail_size = 0
        self._tries = _TRIES

    def text(self, data: bytes) -> str | None:
        """The text of a frame that says what the learned one said, with a text of its own; else `None`."""
        head, size = self._head, self._size
        if head is None or data[:size] != head or not data.endswith(self._tail):
            return None
        middle, end = self._middle, len(data) - self._tail_size
        if middle is not None:
            at = data.find(middle, size)
            padded = data[at + len(middle) : end]
            if at < 0 or not (padded.isalnum() or not padded):
                return None
            end = at
        try:
            text = decode_string(data[size:end])
        except ValueError:
            return None
        self._tries = _TRIES
        return text

    def learn(self, data: bytes, value: object) -> None:
        """Take a frame, and what its JSON says, as the one that the next are held against."""
        self._head = None
        if not self._tries:
            return
        self._tries -= 1
        for found in _members(self._field).finditer(data):
            head, tail = data[: found.start(1)], data[found.end(1) :]
            if self._holds_the_text(head, tail, value):
                self._keep(head, tail)
                return

    def forget(self) -> None:
        """Another kind of frame came between: the next is to be decoded."""
        self._head = None

    def _holds_the_text(self, head: bytes, tail: bytes, value: object) -> bool:
        # The name may stand anywhere, in a text of the model's too: what another text in its place says decides.
        try:
            marked = loads(head + _ENCODED_MARK + tail)
            return self._read(marked) == _MARK and _replaced(marked, self._read(value)) == value
        except (ValueError, RecursionError):
            return False

    def _keep(self, head: bytes, tail: bytes) -> None:
        self._head, self._size, self._middle = head, len(head), None
        padding = _members(self._padding).search(tail) if self._padding else None
        if padding is not None:
            start, end = padding.span(1)
            self._middle, tail = tail[: start + 1], tail[end - 1 :]
        self._tail, self._tail_size = tail, len(tail)


def _replaced(value: object, text: object) -> object:
    """A decoded value with the text in the place of the mark."""
    if isinstance(value, dict):
        return {key: _replaced(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, text) for item in value]
    return text if value == _MARK else value
