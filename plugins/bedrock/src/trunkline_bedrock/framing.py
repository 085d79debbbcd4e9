"""The AWS event stream (`application/vnd.amazon.eventstream`): bytes to messages, checked and decoded by botocore.

A message is 4 bytes of total length, 4 of the headers' length, their CRC-32, the headers, the payload, and a CRC-32.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from botocore.eventstream import EventStreamBuffer, ParserError  # type: ignore[import-untyped]
from trunkline.errors import ProtocolViolation
from trunkline.framing import frames_before

_PRELUDE = 12
_SHORTEST = 16


class EventStreamFrame(NamedTuple):
    """A message of the stream: `kind` (`event`, `exception` or `error`), the `name` of its type, and its payload.

    For an `error` the name is its code and `message` what it says.
    """

    kind: str
    name: str
    data: bytes
    message: str = ""


class EventStreamFramer:
    """Cuts bytes into messages, at any split.

    Strategy: the bytes of one message are kept as pieces until its announced length is there, and are handed to
    botocore's buffer whole, so that a long message in small reads costs linear time. Its prelude is checked as soon as
    it is there, so that garbage is not waited for.

    Text in place of a stream (a JSON answer, a page of a proxy) is passed over: it is read at the end of the file.
    """

    def __init__(self) -> None:
        self._left = b""
        self._pieces: list[bytes] = []
        self._missing = 0
        self._at_start = True
        self._text = False
        self._buffer: Any = EventStreamBuffer()

    def feed(self, data: bytes) -> list[EventStreamFrame]:
        """The messages that `data` completes. Raises `ProtocolViolation` for a broken one."""
        if self._text or (self._at_start and _is_text(self._left + data)):
            self._text = True
            return []
        frames: list[EventStreamFrame] = []
        try:
            self._cut(data, frames)
        except ProtocolViolation as error:
            return frames_before(frames, error)
        return frames

    def _cut(self, data: bytes, frames: list[EventStreamFrame]) -> None:
        at, size = 0, len(data)
        if self._missing:
            if size < self._missing:
                self._pieces.append(data)
                self._missing -= size
                return
            at = self._missing
            self._pieces.append(data[:at])
            frames.append(self._frame(b"".join(self._pieces)))
            self._pieces, self._missing = [], 0
        elif self._left:
            data, self._left = self._left + data, b""
            size = len(data)
        while size - at >= _PRELUDE:
            self._at_start = False
            length = int.from_bytes(data[at : at + 4], "big")
            if length < _SHORTEST:
                raise ProtocolViolation(f"a message of the event stream says that it is {length} bytes long")
            if size - at < length:
                self._begin(data[at:], length)
                return
            frames.append(self._frame(data[at : at + length]))
            at += length
        self._left = data[at:]

    def finish(self) -> list[EventStreamFrame]:
        """Nothing. Raises `ProtocolViolation` in the middle of a message."""
        if self._left or self._missing or self._text:
            raise ProtocolViolation("the event stream ends in the middle of a message")
        return []

    def _begin(self, data: bytes, length: int) -> None:
        self._decode(data[:_PRELUDE])
        self._pieces, self._missing = [data[_PRELUDE:]], length - len(data)

    def _frame(self, data: bytes) -> EventStreamFrame:
        message = self._decode(data)
        if message is None:
            raise ProtocolViolation("a message of the event stream is shorter than it says")
        headers = message.headers
        kind = headers.get(":message-type", "event")
        if kind == "error":
            return EventStreamFrame(
                "error", str(headers.get(":error-code", "")), message.payload, str(headers.get(":error-message", ""))
            )
        name = headers.get(":exception-type" if kind == "exception" else ":event-type", "")
        return EventStreamFrame(str(kind), str(name), message.payload)

    def _decode(self, data: bytes) -> Any:
        try:
            self._buffer.add_data(data)
            return next(self._buffer, None)
        except ParserError as error:
            raise ProtocolViolation(f"a message of the event stream is broken: {error}") from None
        except (struct.error, ValueError, KeyError, IndexError) as error:
            raise ProtocolViolation(
                f"the headers of a message of the event stream are broken: {type(error).__name__}"
            ) from None


def _is_text(data: bytes) -> bool:
    # As a length these would announce more than half a gigabyte, which no message may have.
    return data.lstrip()[:1] in (b"{", b"[", b"<")
