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

COMMENT = ""
"""The event type of comments, see `SSEFramer`. No event has this type, since `message` is the type of one without."""

_BARE_LIMIT = 4 * 1024 * 1024
_NAMES = 64
_STATUS = b":HTTP_STATUS/"
_MARK = b"\xef\xbb\xbf"
"""A byte order mark."""

_BLANK = b" \t\r\n"
_JSON_STARTS = (b"{", b"[")
_JSON_LINE = re.compile(rb"[\r\n][{\[]")
_SIGNIFICANT = re.compile(rb"[^ \t\r\n,]")
_LINE_REST = re.compile(rb"[^ \t,]")
_START, _EVENTS, _BRACKET, _OBJECT, _ARRAY, _LINE, _BROKEN = range(7)
"""The states of `SSEOrJSONFramer`."""

_OUTSIDE = re.compile(rb'["{}]')
_INSIDE = re.compile(rb'["\\]')


class SSEFrame(NamedTuple):
    """A server-sent event: its `data`, undecoded, and its type (`message` if the stream names none).

    Other frames have the type `BARE` or `COMMENT`.

    `status` is the HTTP status in the comment `:HTTP_STATUS/429`, which DashScope sends with each event, or `None`.
    """

    data: bytes
    event: str = "message"
    status: int | None = None


_new_frame = tuple.__new__  # the constructor of a named tuple takes as long as everything else for an event


class SSEFramer:
    """Server-sent events, as in the WHATWG HTML standard, section 9.2.6.

    Lines end with LF, CR or CRLF. A byte order mark at the start, comments, and the fields `id` and `retry` are
    ignored.

    With `comments=True`, comments are frames as well, for servers that put something useful into them, such as a place
    in a queue. The comments of an event are one frame of the type `COMMENT`, before the event. Its `data` is their text
    without the colons and one space after each, with a line feed between two of them. Comments that stand alone become
    a frame at the next blank line.

    Two paths give the same events. `_lines` handles any bytes: it cuts them into lines and keeps an unfinished line in
    a buffer. A CR at the end of a read ends its line at once, so that the event is not delayed; if the next read starts
    with LF, that LF is the rest of a CRLF and is skipped. `whole_events` is a shortcut for a read that starts at an
    event boundary and consists of complete events, each a `data:` line with at most an `event:` line before it. Nearly
    all reads are like that.

    There are three deviations from the standard:

    - At the end of the stream, the last event needs no blank line, since some servers close the connection right after
      `data: [DONE]`. An event that was cut off is still detected: its JSON is broken, or the terminator is missing.
    - A field `error` is the data of an event of the type `error`. llama.cpp reported failures in this way until the end
      of 2025 (github.com/ggml-org/llama.cpp/issues/14566).
    - The comment `:HTTP_STATUS/…` is the `status` of its event.
    """

    def __init__(self, *, comments: bool = False) -> None:
        self._with_comments = comments
        self._tail = bytearray()
        self._data: list[bytes] = []
        # They become a frame together with their event, not at once: the decoder measures the pending event from the
        # last frame on, so a frame for each comment between the lines of an event would hide that it is too large.
        self._comments: list[bytes] = []
        self._event = ""
        self._status: int | None = None
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
            self.at_boundary = not (
                self._tail
                or self._data
                or self._comments
                or self._event
                or self._status is not None
                or self._skip_lf
                or self._at_start
            )
        return frames

    def whole_events(self, data: bytes) -> list[SSEFrame] | None:
        """Return the events of bytes that are complete events of the usual form, or `None` for any other bytes."""
        if not self.at_boundary:
            return None
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
            if b"\r" in data:
                return None
        if data[-2:] != b"\n\n":
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
            return _new_frame(SSEFrame, (block[start + 6 :], name, None))
        if block.startswith(b"data:", start):
            return _new_frame(SSEFrame, (block[start + 5 :], name, None))
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
                if self._comments:
                    frames.append(SSEFrame(b"\n".join(self._comments), COMMENT))
                    self._comments = []
                if self._data:
                    frames.append(self._frame())
                self._event, self._status = "", None
                continue
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line.startswith(b"event:"):
                self._event = line[6:].decode("utf-8", "replace").removeprefix(" ")
            elif line == b"data":
                self._data.append(b"")
            elif line.startswith(b":"):
                if line.startswith(_STATUS):
                    self._status = _status(line[len(_STATUS) :].strip())
                if self._with_comments:
                    self._comments.append(line[2:] if line[1:2] == b" " else line[1:])
            elif line.startswith(b"error:"):
                self._data.append(line[6:].removeprefix(b" "))
                self._event = "error"
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
        return SSEFrame(value, self._event or "message", self._status)


def _status(text: bytes) -> int | None:
    return int(text) if len(text) == 3 and text.isdigit() else None


class SSEOrJSONFramer:
    """An `SSEFramer` that also finds JSON in place of events: single objects, JSON lines, or a JSON array.

    With `comments=True`, comments are frames of the type `COMMENT`, as in `SSEFramer`.

    Some gateways send a bare JSON object instead of an event when they fail. The standard would ignore it, and the
    error would be lost. A line that starts with a brace is not a field of an event. From there, braces are counted
    until they are balanced, up to 4 MiB. A valid JSON object is a frame of the type `bare`, at its place among the
    events, and so are the objects that follow it on the same line. Text that starts with a brace but is not a JSON
    object is a `bare` frame at the end of the stream.

    Other servers send the whole stream as a JSON array, such as Gemini's API if it is not asked for events. An array of
    objects may start where a line starts. Each of its objects, of any size, is a frame of the type `message` as soon as
    it is complete. If the array contains anything else, a `bare` frame at the end contains the rest of the stream.

    The state says what the next byte belongs to:

    - start: blank characters before everything else. JSON may be indented here.
    - events: an event, unless a line starts with a brace or a bracket.
    - bracket: what follows a bracket at the start of a line. Only a brace makes it an array: `[DONE]` is none.
    - object: an object.
    - array: the bytes between the objects of an array.
    - line: the rest of a line behind an object or an array.
    - broken: an array that contains something other than objects.
    """

    def __init__(self, *, comments: bool = False) -> None:
        self._framer = SSEFramer(comments=comments)
        self._state = _START
        self._held = b""  # bytes whose meaning depends on the next read
        self._is_first = True  # whether a byte order mark may come
        self._object = _Braces(_BARE_LIMIT)
        self._in_array = False
        self._broken: bytearray | None = None
        self._at_line_start = True

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte starts an event."""
        return self._state == _EVENTS and self._framer.at_boundary

    def feed(self, data: bytes) -> list[SSEFrame]:
        """Return the events that `data` completes."""
        if self._state == _EVENTS:
            whole = self._framer.whole_events(data)
            if whole is not None:
                self._at_line_start = True
                return whole
            if data and self._json_start(data, 0) < 0:
                self._at_line_start = data.endswith((b"\n", b"\r"))
                return self._framer.feed(data)
        elif self._state == _START:
            data = self._skip_blank(data)
        frames: list[SSEFrame] = []
        at = 0
        while at < len(data):
            at = self._step(data, at, frames)
        return frames

    def finish(self) -> list[SSEFrame]:
        """Return the last frames, at the end of the stream."""
        text = self._object.text if self._broken is None and self._state == _OBJECT else self._broken
        last = [SSEFrame(bytes(text), BARE)] if text is not None else []
        return [*self._framer.finish(), *last]

    def _skip_blank(self, data: bytes) -> bytes:
        """Return the data after the blank start of the stream: nothing if the stream is blank so far."""
        data = self._held + data
        if self._is_first:
            if len(data) < len(_MARK) and _MARK.startswith(data):
                self._held = data
                return b""
            self._is_first = False
            data = data.removeprefix(_MARK)
        rest = data.lstrip(_BLANK)
        blank = data[: len(data) - len(rest)]
        # A blank character in front of a field makes it another field, which the `SSEFramer` has to see.
        indent = blank[max(blank.rfind(b"\n"), blank.rfind(b"\r")) + 1 :][:1]
        self._held = b""
        if not rest:
            self._held = indent
            return b""
        self._state = _EVENTS
        if rest[:1] in _JSON_STARTS:
            return rest
        self._at_line_start = not indent
        return indent + rest

    def _step(self, data: bytes, at: int, frames: list[SSEFrame]) -> int:
        """Take the bytes from `at` on that belong to the state, and return where the next state begins."""
        state = self._state
        if state == _EVENTS:
            start = self._json_start(data, at)
            if start < 0:
                frames += self._framer.feed(data[at:])
                self._at_line_start = data.endswith((b"\n", b"\r"))
                return len(data)
            frames += self._framer.feed(data[at:start])
            self._at_line_start = False
            if data[start : start + 1] == b"[":
                self._state, self._held = _BRACKET, b""
                return start + 1
            self._framer.feed(b"{")  # for the framer, the object is a field without meaning
            return self._begin_object(start)
        if state == _OBJECT:
            end = self._object.feed(data, at)
            if end < 0:
                return len(data)
            self._end_object(frames)
            return end
        if state == _BROKEN:
            assert self._broken is not None
            self._broken += data[at : at + _BARE_LIMIT - len(self._broken)]
            return len(data)
        found = (_LINE_REST if state == _LINE else _SIGNIFICANT).search(data, at)
        if state == _BRACKET:
            self._held += data[at : found.start() if found is not None else len(data)]
        if found is None:
            return len(data)
        at, character = found.start(), found.group()
        if character == b"{" and (state != _BRACKET or b"," not in self._held):
            if state == _BRACKET:
                self._framer.feed(b"[")
                self._in_array = True
            return self._begin_object(at)
        if state == _ARRAY:
            self._in_array = False
            self._state = _LINE if character == b"]" else _BROKEN
            if character == b"]":
                return at + 1
            self._broken = bytearray()
        elif state == _LINE and character == b"[":
            self._state, self._held = _BRACKET, b""
            return at + 1
        else:
            self._state = _EVENTS
            self._at_line_start = state == _BRACKET and self._held.endswith((b"\n", b"\r"))
            if state == _BRACKET:
                frames += self._framer.feed(b"[" + self._held)
        return at

    def _begin_object(self, at: int) -> int:
        self._object = _Braces(None if self._in_array else _BARE_LIMIT)
        self._state = _OBJECT
        return at

    def _end_object(self, frames: list[SSEFrame]) -> None:
        text = bytes(self._object.text)
        if self._in_array:
            self._state = _ARRAY
            frames.append(SSEFrame(text))
            return
        self._state = _LINE
        if _is_object(text):
            frames.append(SSEFrame(text, BARE))
        elif self._broken is None:
            self._broken = bytearray(text)

    def _json_start(self, data: bytes, at: int) -> int:
        """Return the position of the first line that starts with a brace or a bracket, from `at` on, or -1."""
        if self._at_line_start and data[at : at + 1] in _JSON_STARTS:
            return at
        # Nearly all reads have none, and these searches are faster than the pattern.
        if b"\n{" not in data and b"\r{" not in data and b"\n[" not in data and b"\r[" not in data:
            return -1
        found = _JSON_LINE.search(data, at)
        return found.end() - 1 if found is not None else -1


class _Braces:
    """Collects text that starts with a brace, up to the brace that closes it; braces in JSON strings do not count.

    Text beyond `limit` is not kept, and never ends.
    """

    def __init__(self, limit: int | None) -> None:
        self.text = bytearray()
        self._limit = limit
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes, start: int) -> int:
        """Take the data from `start` on. Returns where the text ends, or -1."""
        if self._limit is not None and len(self.text) >= self._limit:
            return -1
        end = self._end(data, start)
        limit = len(data) if self._limit is None else start + self._limit - len(self.text)
        self.text += data[start : end if end >= 0 else limit]
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
