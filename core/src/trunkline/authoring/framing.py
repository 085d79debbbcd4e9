"""Framers: cut a stream of bytes into frames, without I/O.

`feed` takes the next bytes and returns the frames that they complete. `finish`, at the end of the stream, returns
frames that lack only their last line ending.

The frames must not depend on how the network splits the bytes into reads: a read may end in the middle of a character,
of a line ending, or of anything else. That holds for errors as well: a framer that finds something broken must not
raise while it has complete frames to return. It returns a last frame that stands for the broken bytes, and the parser
raises the error. `StreamDecoder` then delivers the events of the frames before it.

Framers do not limit the size of a frame; `trunkline.authoring.decoder` does. Each must take linear time and little more
memory than the frame, even if the frame arrives in many small reads.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from trunkline._json import loads

BARE = "bare"
"""The event type of a JSON object that was found outside any event, see `SSEOrJSONFramer`."""

_BARE_LIMIT = 4 * 1024 * 1024
_NAMES = 64
_BRACE = re.compile(rb"[\r\n]\{")
_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class SSEFrame(NamedTuple):
    """A server-sent event: its `data`, undecoded, and its type (`message` if the stream names none)."""

    data: bytes
    event: str = "message"


_new_frame = tuple.__new__  # the constructor of a named tuple takes as long as everything else for an event


class SSEFramer:
    """Server-sent events, as in the WHATWG HTML standard, section 9.2.6.

    Lines end with LF, CR or CRLF. A byte order mark at the start, comments, and the fields `id` and `retry` are
    ignored.

    Two paths give the same events. `_lines` handles any bytes: it cuts them into lines and keeps an unfinished line in
    a buffer. A CR at the end of a read ends its line at once, so that the event is not delayed; if the next read starts
    with LF, that LF is the rest of a CRLF and is skipped. `whole_events` is a shortcut for a read that starts at an
    event boundary and consists of complete events, each a `data:` line with at most an `event:` line before it. Nearly
    all reads are like that.

    There is one deviation from the standard: at the end of the stream, the last event needs no blank line, since some
    servers close the connection right after `data: [DONE]`. An event that was cut off is still detected: its JSON is
    broken, or the terminator is missing.
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
        """Return the events that `data` completes."""
        frames = self.whole_events(data)
        if frames is None:
            frames = self._lines(data)
            self.at_boundary = not (self._tail or self._data or self._event or self._skip_lf or self._at_start)
        return frames

    def whole_events(self, data: bytes) -> list[SSEFrame] | None:
        """Return the events of bytes that are complete events of the usual form, or `None` for any other bytes."""
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
        """Return the event of a `data:` line, or of an `event:` line that ends at `at` and a `data:` line."""
        name, start = "message", 0
        if 0 < at < len(block):
            event = self._names.get(block[:at]) or self._name(block[:at])
            if event is None:
                return None
            name, start = event, at + 1
        if block.startswith(b"data: ", start):
            return _new_frame(SSEFrame, (block[start + 6 :], name))
        if block.startswith(b"data:", start):
            return _new_frame(SSEFrame, (block[start + 5 :], name))
        return None

    def _name(self, line: bytes) -> str | None:
        if not line.startswith(b"event:"):
            return None
        # A stream has only a few types of events. The limit keeps a hostile one from filling the memory.
        name = line[6:].decode("utf-8", "replace").removeprefix(" ") or "message"
        if len(self._names) < _NAMES:
            self._names[line] = name
        return name

    def _lines(self, data: bytes) -> list[SSEFrame]:
        if self._at_start:
            # A byte order mark may arrive in pieces: hold back bytes that could be the start of one.
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
        """Return the last event, if only its blank line is missing."""
        return self.feed(b"\n\n") if not self._at_start else []

    def _frame(self) -> SSEFrame:
        data = self._data
        value = data[0] if len(data) == 1 else b"\n".join(data)
        self._data = []
        return SSEFrame(value, self._event or "message")


class SSEOrJSONFramer:
    """An `SSEFramer` that also finds a JSON object in place of an event.

    Some gateways send a bare JSON object instead of an event when they fail. The standard would ignore it, and the
    error would be lost. A line that starts with a brace is not a field of an event. From there, braces are counted
    until they are balanced, up to 4 MiB. A valid JSON object is a frame of the type `bare`, at its place among the
    events. Text that starts with a brace but is not a JSON object is a `bare` frame at the end of the stream.
    """

    def __init__(self) -> None:
        self._framer = SSEFramer()
        self._bare: _Braces | None = None
        self._broken: bytes | None = None
        self._at_line_start = True

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte starts an event."""
        return self._bare is None and self._framer.at_boundary

    def feed(self, data: bytes) -> list[SSEFrame]:
        """Return the events that `data` completes."""
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
        """Return the last frames, at the end of the stream."""
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
        """Return the position of the first line that starts with a brace, from `at` on, or -1."""
        if at == 0 and self._at_line_start and data.startswith(b"{"):
            return 0
        # Nearly all reads have none, and these two searches are faster than the pattern.
        if b"\n{" not in data and b"\r{" not in data:
            return -1
        found = _BRACE.search(data, at)
        return found.end() - 1 if found is not None else -1


class _Braces:
    """Collects text that starts with a brace, up to the brace that closes it; braces in JSON strings do not count."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes, start: int) -> int:
        """Take the data from `start` on. Returns where the text ends, or -1. Text beyond the limit is not kept."""
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
    """JSON lines (NDJSON): each line is a JSON text; blank lines are ignored."""

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        lines = data.split(b"\n")
        if len(lines) > 1 and self._tail:
            self._tail += lines[0]
            lines[0] = bytes(self._tail)
            self._tail.clear()
        self._tail += lines.pop()
        return [stripped for line in lines if (stripped := line.strip())]

    def finish(self) -> list[bytes]:
        """Return the last line, if only its line ending is missing."""
        return self.feed(b"\n")


class BodyFramer:
    """No framing: the whole body is one frame, at the end of the stream."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Keep the bytes. Returns no frame."""
        self._body += data
        return []

    def finish(self) -> list[bytes]:
        """Return the body, unless it is empty."""
        return [bytes(self._body)] if self._body else []
