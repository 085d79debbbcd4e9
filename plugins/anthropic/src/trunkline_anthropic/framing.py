"""Server-sent events, and the bare JSON that some gateways put in their place when they fail."""

from __future__ import annotations

from trunkline.framing import DEFAULT_FRAME_LIMIT, SSEFrame, SSEFramer
from trunkline.jsonvalue import loads

BARE = "bare"
"""The event type of a JSON object that stood outside any event."""

_BARE_LIMIT = 4 * 1024 * 1024
_TRIES = 16


class MessagesFramer:
    """An `SSEFramer` that does not pass over a JSON object which stands where an event was due.

    A line that begins with a brace is no field of an event. From the first one on, the bytes are kept besides (up to
    4 MiB), and given as one frame of the type `bare` as soon as they are a whole JSON object, or at the end.
    """

    def __init__(self, limit: int = DEFAULT_FRAME_LIMIT) -> None:
        self._framer = SSEFramer(limit)
        self._bare: bytearray | None = None
        self._at_line_start = True
        self._tries = 0

    def feed(self, data: bytes) -> list[SSEFrame]:
        """The events that `data` completes. Raises `ProtocolViolation` when one grows over the limit."""
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
