"""Bytes to events: a framer and a parser as one, without I/O. The pipeline and the tests share it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from trunkline.errors import ProtocolViolation, StreamInterrupted
from trunkline.events import Event, Finished
from trunkline.provider import Framer, Parser

Frame = TypeVar("Frame")


class StreamDecoder(Generic[Frame]):
    """Decodes one stream. After `Finished` what follows is passed over, whatever it is.

    When `feed` or `finish` raises, `late` holds the events that the same bytes gave before the error.
    """

    def __init__(self, framer: Framer[Frame], parser: Parser[Frame]) -> None:
        self._framer = framer
        self._parser = parser
        self.finished = False
        self.late: list[Event] = []

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        return self._parse(self._framer.feed(data)) if not self.finished else []

    def finish(self) -> list[Event]:
        """The last events, at the end of the file. Raises `StreamInterrupted` where `Finished` is not among them."""
        if self.finished:
            return []
        try:
            events = self._parse(self._framer.finish())
        except ProtocolViolation as error:
            # A frame cut in the middle is a truncated stream, not a provider that cannot write its own format.
            raise StreamInterrupted("the stream ended in the middle of an event", provider=error.provider) from error
        self.late = events
        if not self._complete(events):
            events += self._parser.finish()
            if not self._complete(events):
                raise StreamInterrupted("the stream ended before it was complete")
        return events

    def _complete(self, events: list[Event]) -> bool:
        self.finished = bool(events) and type(events[-1]) is Finished
        return self.finished

    def _parse(self, frames: Iterable[Frame]) -> list[Event]:
        events = self.late = []
        for frame in frames:
            events += self._parser.feed(frame)
            if events and type(events[-1]) is Finished:
                self.finished = True
                break
        return events
