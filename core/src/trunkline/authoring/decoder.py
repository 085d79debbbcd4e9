"""Bytes to events: a framer and a parser as one, within limits, without I/O. The pipeline and the tests share it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from trunkline.authoring.provider import Framer, HasData, Parser
from trunkline.authoring.repeats import Repeats
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished

Frame = TypeVar("Frame", bound="bytes | HasData")

FRAME_LIMIT = 64 * 1024 * 1024
NESTING_LIMIT = 128

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = b"[{]}"
_STEPS = bytes.maketrans(_BRACKETS, b"\2\2\0\0")
_OTHERS = bytes(set(range(256)) - set(_BRACKETS))


def check_nesting(data: bytes | bytearray, longest: int | None, *, status: int | None = None) -> None:
    """Raise `ProtocolViolation` where the JSON in `data` is nested deeper than `longest`. Takes linear time."""
    # JSON cannot be deeper than it has brackets, which is seen at once.
    if longest is None or data.count(b"{") + data.count(b"[") <= longest:
        return
    steps = _STRING.sub(b"", data).translate(_STEPS, _OTHERS)
    if max(accumulate(map((-1).__add__, steps)), default=0) > longest:
        told = f"the JSON of the answer is nested deeper than nesting_limit ({longest})"
        raise ProtocolViolation(told, status=status)


class StreamDecoder(Generic[Frame]):
    """Decodes one stream. After `Finished` what follows is passed over, whatever it is.

    `frame_limit` is the largest frame in bytes, and `nesting_limit` the deepest JSON in one; `None` is no limit. A
    frame that goes on past the limit is not waited for. When `feed` or `finish` raises, `late` holds the events that
    the same bytes gave before the error.

    Where the parser has `repeats` (see `trunkline.authoring.repeats`), and the framer knows whether it is `between`
    frames, a read that repeats the one before is understood at a glance.
    """

    __slots__ = (
        "_before",
        "_edge",
        "_frame_limit",
        "_framer",
        "_most_brackets",
        "_nesting_limit",
        "_parser",
        "_repeating",
        "_repeats",
        "_size",
        "_small",
        "finished",
        "late",
    )

    def __init__(
        self,
        framer: Framer[Frame],
        parser: Parser[Frame],
        *,
        frame_limit: int | None = FRAME_LIMIT,
        nesting_limit: int | None = NESTING_LIMIT,
    ) -> None:
        self._framer = framer
        self._parser = parser
        self._repeating: Any = parser
        self._edge: Any = framer
        repeats = getattr(parser, "repeats", None)
        self._repeats = repeats if isinstance(repeats, Repeats) and hasattr(framer, "between") else None
        self._frame_limit: float = math.inf if frame_limit is None else frame_limit
        self._nesting_limit = nesting_limit
        self._most_brackets: float = math.inf if nesting_limit is None else nesting_limit
        # What is small is within both limits, since each level of JSON takes two bytes.
        self._small = min(self._frame_limit, 2 * self._most_brackets)
        # The next frame has at most the bytes since the read before the one of the last frame.
        self._size = 0
        self._before = 0  # the bytes of the read that gave the last frame
        self.finished = False
        self.late: list[Event] = []

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes. Raises `ProtocolViolation` where a frame is over a limit."""
        whole = self._repeats.whole if self._repeats is not None else None
        if whole is None:
            return self._frame(data)
        again = self._again(data)
        if again is not None:
            return again
        start, end = whole.span(data)
        if start >= end:
            return self._frame(data)
        # A long read is mostly cut somewhere at both its ends.
        events: list[Event] = []
        try:
            events += self._frame(data[:start])
            again = self._again(data[start:end]) if self._edge.between else None
            if again is not None:
                events += again
                start = end
            events += self._frame(data[start:])
        except TrunklineError:
            self.late = events + self.late
            raise
        return events

    def _again(self, data: bytes) -> list[Event] | None:
        """The events of bytes that repeat what came before."""
        whole = self._repeats.whole if self._repeats is not None else None
        if whole is None or self.finished or len(data) > self._frame_limit:
            return None
        texts = whole.texts(data)
        if texts is None:
            return None
        self._size = self._before = len(data)
        again: list[Event] = self._repeating.more(texts)
        return again

    def _frame(self, data: bytes) -> list[Event]:
        events = self.late = []
        if self.finished:
            return events
        repeats = self._repeats
        between = repeats is not None and self._edge.between
        frames = self._framer.feed(data)
        if frames:
            self._size = self._before = len(data)
            self._parse(frames, events)
            if between and repeats is not None and repeats.frame is not None and self._edge.between:
                repeats.learn_read(data, [frame if isinstance(frame, bytes) else frame.data for frame in frames])
        else:
            self._size += len(data)
            if self._size - self._before > self._frame_limit:
                self._too_large()
        return events

    def finish(self) -> list[Event]:
        """The last events, at the end of the file. Raises `StreamInterrupted` where `Finished` is not among them."""
        events = self.late = []
        if self.finished:
            return events
        try:
            frames = self._framer.finish()
        except ProtocolViolation as error:
            raise self._cut() from error
        for frame in frames:
            self._check(frame if isinstance(frame, bytes) else frame.data)
        try:
            self._parse(frames, events)
        except ProtocolViolation as error:
            raise self._cut(error.provider) from error
        if not self._complete(events):
            events += self._parser.finish()
            if not self._complete(events):
                raise StreamInterrupted("the stream ended before it was complete")
        return events

    def _cut(self, provider: str | None = None) -> StreamInterrupted:
        # A frame cut in the middle is a truncated stream, not a provider that cannot write its own format.
        return StreamInterrupted("the stream ended in the middle of an event", provider=provider)

    def _check(self, frame: bytes) -> None:
        if len(frame) > self._frame_limit:
            self._too_large()
        check_nesting(frame, self._nesting_limit)

    def _too_large(self) -> None:
        raise ProtocolViolation(f"an event of the stream is larger than frame_limit ({self._frame_limit} bytes)")

    def _complete(self, events: list[Event]) -> bool:
        self.finished = bool(events) and type(events[-1]) is Finished
        return self.finished

    def _parse(self, frames: Sequence[Frame], events: list[Event]) -> None:
        small, larger, brackets, parse = self._small, self._frame_limit, self._most_brackets, self._parser.feed
        for frame in frames:
            data = frame if isinstance(frame, bytes) else frame.data
            if len(data) > small and (len(data) > larger or data.count(b"{") + data.count(b"[") > brackets):
                self._check(data)
            new = parse(frame)
            if new:
                events += new
                if type(new[-1]) is Finished:
                    self.finished = True
                    break
