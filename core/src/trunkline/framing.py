"""Framers: they cut a stream of bytes into frames, at any split, without I/O.

`feed` takes bytes and gives the frames that they complete; `finish`, at the end of the file, gives the frames that
were whole but for their last line ending. Fault classes 13 and 14 live here; how large a frame may be is for
`trunkline.decoding` to say.
"""

from __future__ import annotations

from typing import NamedTuple

from trunkline.jsonvalue import loads

BARE = "bare"
"""The event type of a JSON object that stood outside any event."""

_BARE_LIMIT = 4 * 1024 * 1024
_TRIES = 16


class SSEFrame(NamedTuple):
    """A server-sent event: its `data`, undecoded, and its type (`message` where the stream names none)."""

    data: bytes
    event: str = "message"


class SSEFramer:
    """Server-sent events, as in the WHATWG HTML standard, section 9.2.6.

    Lines end with LF, CR or CRLF; a byte order mark at the start is passed over; comments and the fields `id` and
    `retry` have no use here. Strategy: bytes are cut into lines as they come. An unfinished line is kept as a list of
    pieces and joined once, so that a long event in small reads costs linear time. A CR at the end of a read ends its
    line at once; an LF that opens the next read then belongs to it.

    Departing from the standard, the last event counts at the end of the file without its blank line, since servers
    are seen that close right after `data: [DONE]`; an event cut in the middle shows as broken JSON or as a missing
    terminator.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._event = ""
        self._skip_lf = False
        self._at_start = True
        self._start = b""

    def feed(self, data: bytes) -> list[SSEFrame]:
        """The events that `data` completes."""
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
        if len(lines) > 1 and self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
        tail = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(value)
            elif not line:
                if self._data:
                    frames.append(self._frame())
                self._event = ""
            elif line.startswith(b"event:"):
                self._event = line[6:].decode("utf-8", "replace").removeprefix(" ")
            elif line == b"data":
                self._data.append(b"")
        if tail:
            self._pieces.append(tail)
        return frames

    def finish(self) -> list[SSEFrame]:
        """The last event, where only its blank line is missing."""
        frames = self.feed(b"\n\n") if not self._at_start else []
        self._pieces.clear()
        return frames

    def _frame(self) -> SSEFrame:
        data = self._data
        value = data[0] if len(data) == 1 else b"\n".join(data)
        self._data = []
        return SSEFrame(value, self._event or "message")


class SSEOrJSONFramer:
    """An `SSEFramer` that does not pass over a JSON object which stands where an event was due.

    Some gateways put bare JSON in place of an event when they fail (fault class 19). A line that begins
    with a brace is no field of an event. From the first one on, the bytes are kept besides (up to 4 MiB), and given as
    one frame of the type `bare` as soon as they are a whole JSON object, or at the end.
    """

    def __init__(self) -> None:
        self._framer = SSEFramer()
        self._bare: bytearray | None = None
        self._at_line_start = True
        self._tries = 0

    def feed(self, data: bytes) -> list[SSEFrame]:
        """The events that `data` completes."""
        frames = self._framer.feed(data)
        if self._bare is None:
            start = self._brace(data)
            if data:
                self._at_line_start = data.endswith((b"\n", b"\r"))
            if start < 0:
                return frames
            self._bare = bytearray()
            data = data[start:]
        self._bare += data[: _BARE_LIMIT - len(self._bare)]
        # A few tries at a brace that may close it; what they miss comes at the end.
        if self._tries < _TRIES and data.rstrip().endswith(b"}"):
            self._tries += 1
            if _is_object(bytes(self._bare)):
                frames += self._taken()
        return frames

    def finish(self) -> list[SSEFrame]:
        """The last frames, at the end of the file."""
        return self._framer.finish() + self._taken()

    def _taken(self) -> list[SSEFrame]:
        bare, self._bare = self._bare, None
        return [SSEFrame(bytes(bare), BARE)] if bare else []

    def _brace(self, data: bytes) -> int:
        if self._at_line_start and data.startswith(b"{"):
            return 0
        if b"\n{" not in data and b"\r{" not in data:
            return -1
        return min(at + 1 for newline in (b"\n{", b"\r{") if (at := data.find(newline)) >= 0)


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(loads(data), dict)
    except (ValueError, RecursionError):
        return False


class JSONLinesFramer:
    """JSON lines (NDJSON): one JSON text a line; blank lines are passed over."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        lines = data.split(b"\n")
        if len(lines) > 1 and self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
        tail = lines.pop()
        if tail:
            self._pieces.append(tail)
        return [stripped for line in lines if (stripped := line.strip())]

    def finish(self) -> list[bytes]:
        """The last line, where only its line ending is missing."""
        return self.feed(b"\n")


class BodyFramer:
    """No framing: the whole body is one frame, at the end of the file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing yet."""
        self._pieces.append(data)
        return []

    def finish(self) -> list[bytes]:
        """The body, unless it is empty."""
        body = b"".join(self._pieces)
        return [body] if body else []
