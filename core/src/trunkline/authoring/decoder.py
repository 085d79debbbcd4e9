"""Decode a stream: bytes to events, with a provider's framer and parser, within limits, without I/O.

The core decodes with it, and a provider's tests can decode recorded bytes with it in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar, cast

from trunkline._json import NESTING_LIMIT, opening_brackets
from trunkline.authoring.provider import Framer, HasData, Parser
from trunkline.authoring.repeats import BoundaryFramer, RepeatingParser, Repeats, Template
from trunkline.authoring.structure import MAX_CONTAINERS, check_structure
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished

Frame = TypeVar("Frame", bound="bytes | HasData")

FRAME_LIMIT = 64 * 1024 * 1024

_repeating_types: dict[tuple[type, type], bool] = {}


def _can_repeat(framer: object, parser: object) -> bool:
    # Checking an object against a protocol takes longer than the rest of what a stream needs to start, so the result is
    # kept for each pair of types.
    types = type(framer), type(parser)
    known = _repeating_types.get(types)
    if known is None:
        known = isinstance(parser, RepeatingParser) and isinstance(framer, BoundaryFramer)
        _repeating_types[types] = known
    return known


class StreamDecoder(Generic[Frame]):
    """Decode the bytes of one stream into events. What follows `Finished` is ignored.

    `frame_limit` is the largest frame in bytes, and `nesting_limit` the deepest JSON in one; `None` means no limit. A
    frame that grows past the limit is refused at once, not when it is complete. When `feed` or `finish` raises, `late`
    holds the events that the same bytes gave before the error.

    With a `RepeatingParser` and a `BoundaryFramer` (see `trunkline.authoring.repeats`), a read that repeats the one
    before it is decoded without the framer.
    """

    __slots__ = (
        "_boundary",
        "_frame_limit",
        "_framer",
        "_most_brackets",
        "_nesting_limit",
        "_parser",
        "_read_size",
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
        self._repeats: Repeats | None = None
        if _can_repeat(framer, parser):
            self._repeating = cast(RepeatingParser, parser)
            self._boundary = cast(BoundaryFramer, framer)
            self._repeats = self._repeating.repeats
        self._frame_limit: float = math.inf if frame_limit is None else frame_limit
        self._nesting_limit = nesting_limit
        self._most_brackets = min(MAX_CONTAINERS, math.inf if nesting_limit is None else nesting_limit)
        # Each level of JSON takes two bytes, so a frame of this size is within both limits.
        self._small = min(self._frame_limit, 2 * self._most_brackets)
        # An upper bound for the size of the pending frame: the bytes since the read before the one that completed the
        # last frame. `_read_size` is the size of that read.
        self._size = 0
        self._read_size = 0
        self.finished: bool = False
        self.late: list[Event] = []

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes. Raises `ProtocolViolation` if a frame exceeds a limit."""
        template = self._repeats.read_template if self._repeats is not None else None
        if template is None:
            return self._decode(data)
        repeated = self._repeated(template, data)
        if repeated is not None:
            return repeated
        start, end = template.span(data)
        if start >= end:
            return self._decode(data)
        # A long read mostly begins and ends in the middle of a frame; what lies between may still be a repetition.
        events: list[Event] = []
        try:
            events += self._decode(data[:start])
            current = self._repeats.read_template if self._repeats is not None else None
            if current is not None and self._boundary.at_boundary:
                repeated = self._repeated(current, data[start:end])
                if repeated is not None:
                    events += repeated
                    start = end
            events += self._decode(data[start:])
        except TrunklineError:
            self.late = events + self.late
            raise
        return events

    def _repeated(self, template: Template, data: bytes) -> list[Event] | None:
        """Return the events of bytes that consist of repeated frames, or `None` for any other bytes."""
        if self.finished or len(data) > self._frame_limit:
            return None
        texts = template.texts(data)
        if texts is None:
            return None
        self._size = self._read_size = len(data)
        return self._repeating.text_events(texts)

    def _decode(self, data: bytes) -> list[Event]:
        # One list under two names: if parsing raises, `late` has the events so far.
        events = self.late = []
        if self.finished:
            return events
        repeats = self._repeats
        at_boundary = repeats is not None and self._boundary.at_boundary
        frames = self._framer.feed(data)
        if frames:
            self._size = self._read_size = len(data)
            self._parse(frames, events)
            if at_boundary and repeats is not None and repeats.frame_template and self._boundary.at_boundary:
                repeats.learn_read(data, [frame if isinstance(frame, bytes) else frame.data for frame in frames])
        else:
            self._size += len(data)
            if self._size - self._read_size > self._frame_limit:
                self._too_large()
        return events

    def finish(self) -> list[Event]:
        """Return the last events, at the end of the stream.

        Raises `StreamInterrupted` if the stream is not complete, that is, if they do not end with `Finished`.
        """
        events = self.late = []
        if self.finished:
            return events
        try:
            frames = self._framer.finish()
        except ProtocolViolation as error:
            raise self._truncated() from error
        for frame in frames:
            self._check(frame if isinstance(frame, bytes) else frame.data)
        try:
            self._parse(frames, events)
        except ProtocolViolation as error:
            raise self._truncated(error.provider) from error
        if not self._complete(events):
            events += self._parser.finish()
            if not self._complete(events):
                raise StreamInterrupted("the stream ended before it was complete")
        return events

    def _truncated(self, provider: str | None = None) -> StreamInterrupted:
        # The last frame violates the wire format because the connection ended in the middle of it.
        return StreamInterrupted("the stream ended in the middle of an event", provider=provider)

    def _check(self, frame: bytes) -> None:
        if len(frame) > self._frame_limit:
            self._too_large()
        check_structure(frame, self._nesting_limit)

    def _too_large(self) -> None:
        raise ProtocolViolation(f"an event of the stream is larger than frame_limit ({self._frame_limit} bytes)")

    def _complete(self, events: list[Event]) -> bool:
        self.finished = bool(events) and type(events[-1]) is Finished
        return self.finished

    def _parse(self, frames: Sequence[Frame], events: list[Event]) -> None:
        small, larger, most, parse = self._small, self._frame_limit, self._most_brackets, self._parser.feed
        for frame in frames:
            data = frame if isinstance(frame, bytes) else frame.data
            if len(data) > small and (len(data) > larger or opening_brackets(data) > most):
                self._check(data)
            new = parse(frame)
            if new:
                events += new
                if type(new[-1]) is Finished:
                    self.finished = True
                    break
