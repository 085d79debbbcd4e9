"""Framers: they cut a stream of bytes into frames, at any split, without I/O.

`feed` takes bytes and gives the frames that they complete; `finish`, at the end of the file, gives the frames that
were whole but for their last line ending. What arrives does not depend on how the bytes were cut: where a framer finds
something broken behind whole frames, these are given first. Fault classes 13 and 14 live here; how large a frame may
be is for `trunkline.authoring.decoder` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from trunkline._json import loads
from trunkline.errors import ProtocolViolation

BARE = "bare"
"""The event type of a JSON object that stood outside any event."""

Frame = TypeVar("Frame")

_BARE_LIMIT = 4 * 1024 * 1024
_NAMES = 64
_BRACE = re.compile(rb"[\r\n]\{")
_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


def frames_before(frames: list[Frame], error: ProtocolViolation) -> list[Frame]:
    """For a framer that found something broken behind whole frames: `error` is raised once these are taken."""
    if not frames:
        raise error
    return _FramesBefore(frames, error)


class _FramesBefore(list[Frame]):
    def __init__(self, frames: list[Frame], error: ProtocolViolation) -> None:
        super().__init__(frames)
        self._error = error

    def __iter__(self) -> Iterator[Frame]:
        yield from super().__iter__()
        raise self._error


class SSEFrame(NamedTuple):
    """A server-sent event: its `data`, undecoded, and its type (`message` where the stream names none)."""

    data: bytes
    event: str = "message"


_frame = tuple.__new__  # a named tuple's own constructor costs as much as all the rest of an event


class SSEFramer:
    """Server-sent events, as in the WHATWG HTML standard, section 9.2.6.

    Lines end with LF, CR or CRLF; a byte order mark at the start is passed over; comments and the fields `id` and
    `retry` have no use here. Strategy: bytes are cut into lines as they come. An unfinished line grows in a buffer, so
    that a long event in small reads costs linear time and little memory beyond its size. A CR at the end of a read ends
    its line at once; an LF that opens the next read then belongs to it.

    Departing from the standard, the last event counts at the end of the file without its blank line, since servers
    are seen that close right after `data: [DONE]`; an event cut in the middle shows as broken JSON or as a missing
    terminator.
    """

    def __init__(self) -> None:
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._event = ""
        self._skip_lf = False
        self._at_start = True
        self._start = b""
        self.at_boundary: bool = False
        self._names: dict[bytes, str] = {}

    def feed(self, data: bytes) -> list[SSEFrame]:
        """The events that `data` completes."""
        frames = self.whole_events(data)
        if frames is None:
            frames = self._lines(data)
            self.at_boundary = not (self._tail or self._data or self._event or self._skip_lf or self._at_start)
        return frames

    def whole_events(self, data: bytes) -> list[SSEFrame] | None:
        """The events of bytes that are whole events of the usual form, nearly all that a server sends; else `None`."""
        if not self.at_boundary or data[-2:] != b"\n\n" or b"\r" in data:
            return None
        end, at = len(data) - 2, data.find(b"\n")
        if at != end and data.find(b"\n", at + 1) != end:
            return self._several(data)
        frame = self._one(data[:end], at)
        return None if frame is None else [frame]

    def _several(self, data: bytes) -> list[SSEFrame] | None:
        frames: list[SSEFrame] = []
        for block in data[:-2].split(b"\n\n"):
            at = block.find(b"\n")
            if block.find(b"\n", at + 1) > at > 0:
                return None
            frame = self._one(block, at)
            if frame is None:
                return None
            frames.append(frame)
        return frames

    def _one(self, block: bytes, at: int) -> SSEFrame | None:
        """The event of one line, or of two with the first line's end at `at`."""
        name, start = "message", 0
        if 0 < at < len(block):
            told = self._names.get(block[:at]) or self._name(block[:at])
            if told is None:
                return None
            name, start = told, at + 1
        if block.startswith(b"data: ", start):
            return _frame(SSEFrame, (block[start + 6 :], name))
        if block.startswith(b"data:", start):
            return _frame(SSEFrame, (block[start + 5 :], name))
        return None

    def _name(self, line: bytes) -> str | None:
        if not line.startswith(b"event:"):
            return None
        name = line[6:].decode("utf-8", "replace").removeprefix(" ") or "message"
        if len(self._names) < _NAMES:
            self._names[line] = name
        return name

    def _lines(self, data: bytes) -> list[SSEFrame]:
        if self._at_start:
            data = self._start + data
            if len(data) < 3 and b"\xef\xbb\xbf".startswith(data):
                self._start = data
                return []
            self._at_start = False
            self._start = b""
            if data.startswith(b"\xef\xbb\xbf"):
                data = data[3:]
        if self._skip_lf and data:
            self._skip_lf = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        frames: list[SSEFrame] = []
        if len(lines) > 1 and self._tail:
            self._tail += lines[0]
            lines[0] = bytes(self._tail)
            self._tail.clear()
        tail = lines.pop()
        for line in lines:
            if not line:
                if self._data:
                    frames.append(self._frame())
                self._event = ""
                continue
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[6:].decode("utf-8", "replace").removeprefix(" ")
            elif line == b"data":
                self._data.append(b"")
        if tail:
            self._tail += tail
        return frames

    def finish(self) -> list[SSEFrame]:
        """The last event, where only its blank line is missing."""
        return self.feed(b"\n\n") if not self._at_start else []

    def _frame(self) -> SSEFrame:
        data = self._data
        value = data[0] if len(data) == 1 else b"\n".join(data)
        self._data = []
        return SSEFrame(value, self._event or "message")


class SSEOrJSONFramer:
    """An `SSEFramer` that does not pass over a JSON object which stands where an event was due.

    Some gateways put bare JSON in place of an event when they fail (fault class 19). A line that begins with a brace is
    no field of an event. From there the braces are counted, up to 4 MiB; a whole JSON object is one frame of the type
    `bare`, in its place among the events. What begins like one and is none comes at the end.
    """

    def __init__(self) -> None:
        self._framer = SSEFramer()
        self._bare: _Braces | None = None
        self._broken: bytes | None = None
        self._at_line_start = True

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins an event."""
        return self._bare is None and self._framer.at_boundary

    def feed(self, data: bytes) -> list[SSEFrame]:
        """The events that `data` completes."""
        if self._bare is None:
            whole = self._framer.whole_events(data)
            if whole is not None:
                self._at_line_start = True
                return whole
        if self._bare is not None or self._brace(data, 0) >= 0:
            return self._with_bare(data)
        if data:
            self._at_line_start = data.endswith((b"\n", b"\r"))
        return self._framer.feed(data)

    def finish(self) -> list[SSEFrame]:
        """The last frames, at the end of the file."""
        text = self._broken if self._broken is not None or self._bare is None else bytes(self._bare.text)
        last = [SSEFrame(text, BARE)] if text is not None else []
        return [*self._framer.finish(), *last]

    def _with_bare(self, data: bytes) -> list[SSEFrame]:
        frames: list[SSEFrame] = []
        at = 0
        while True:
            start = at if self._bare is not None else self._brace(data, at)
            if start < 0:
                break
            if self._bare is None:
                self._bare = _Braces()
            end = self._bare.feed(data, start)
            if end < 0:
                break
            frames += self._framer.feed(data[at:end])
            text, self._bare, at = bytes(self._bare.text), None, end
            self._at_line_start = False
            if _is_object(text):
                frames.append(SSEFrame(text, BARE))
            else:
                self._broken = self._broken or text
        frames += self._framer.feed(data[at:])
        if at < len(data):
            self._at_line_start = data.endswith((b"\n", b"\r"))
        return frames

    def _brace(self, data: bytes, at: int) -> int:
        """Where a line that begins with a brace begins, from `at` on; -1 where none does."""
        if at == 0 and self._at_line_start and data.startswith(b"{"):
            return 0
        # Nearly all reads have none, which this tells sooner than the pattern.
        if b"\n{" not in data and b"\r{" not in data:
            return -1
        found = _BRACE.search(data, at)
        return found.end() - 1 if found is not None else -1


class _Braces:
    """A text that begins with a brace, up to the brace that closes it."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes, start: int) -> int:
        """Take the data from `start`; gives where the text ends, or -1. What is over the limit is not kept."""
        if len(self.text) >= _BARE_LIMIT:
            return -1
        end = self._end(data, start)
        self.text += data[start : end if end >= 0 else start + _BARE_LIMIT - len(self.text)]
        return end

    def _end(self, data: bytes, at: int) -> int:
        if self._escaped and at < len(data):
            self._escaped = False
            at += 1
        while (found := (_INSIDE if self._in_string else _OUTSIDE).search(data, at)) is not None:
            at, character = found.end(), found.group()
            if character == b'"':
                self._in_string = not self._in_string
            elif character == b"\\":
                self._escaped = at == len(data)
                at += 1
            else:
                self._depth += 1 if character == b"{" else -1
                if self._depth == 0:
                    return at
        return -1


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(loads(data), dict)
    except (ValueError, RecursionError):
        return False


class JSONLinesFramer:
    """JSON lines (NDJSON): one JSON text a line; blank lines are passed over."""

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        lines = data.split(b"\n")
        if len(lines) > 1 and self._tail:
            self._tail += lines[0]
            lines[0] = bytes(self._tail)
            self._tail.clear()
        self._tail += lines.pop()
        return [stripped for line in lines if (stripped := line.strip())]

    def finish(self) -> list[bytes]:
        """The last line, where only its line ending is missing."""
        return self.feed(b"\n")


class BodyFramer:
    """No framing: the whole body is one frame, at the end of the file."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing yet."""
        self._body += data
        return []

    def finish(self) -> list[bytes]:
        """The body, unless it is empty."""
        return [bytes(self._body)] if self._body else []
