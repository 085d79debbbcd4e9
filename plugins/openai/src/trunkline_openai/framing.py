"""Server-sent events, and the bare JSON that some gateways put in their place when they fail."""

from __future__ import annotations

from trunkline.framing import DEFAULT_FRAME_LIMIT, SSEFrame, SSEFramer
from trunkline.jsonvalue import loads

BARE = "bare"
"""The event type of a JSON object that stood outside any event."""

_BARE_LIMIT = 4 * 1024 * 1024


class ChatFramer:
    """An `SSEFramer` that does not pass over a JSON object which stands where an event was due.

    A line that begins with a brace is no field of an event. From the first one on, the bytes are kept besides (up to
    4 MiB), and given as one frame of the type `bare` as soon as they are a whole JSON object, or at the end.
    """

    def __init__(self, limit: int = DEFAULT_FRAME_LIMIT) -> None:
        self._framer = SSEFramer(limit)
        self._bare: bytearray | None = None
        self._after_newline = True
        self._tries = 0

    def feed(self, data: bytes) -> list[SSEFrame]:
        """The events that `data` completes. Raises `ProtocolViolation` when one grows over the limit."""
        frames = self._framer.feed(data)
        if self._bare is None:
            brace = b"\n{" in data or b"\r{" in data or (self._after_newline and data.startswith(b"{"))
            start = self._start(data) if brace else None
            if data:
                self._after_newline = data.endswith((b"\n", b"\r"))
            if start is None:
                return frames
            self._bare = bytearray(data[start : start + _BARE_LIMIT])
        else:
            self._bare += data[: _BARE_LIMIT - len(self._bare)]
        # A few tries at a brace that may close it; what they miss comes at the end.
        if self._tries < 16 and data.rstrip().endswith(b"}"):
            self._tries += 1
            if _is_object(bytes(self._bare)):
                frames.append(SSEFrame(bytes(self._bare), BARE))
                self._bare = None
        return frames

    def finish(self) -> list[SSEFrame]:
        """The last frames, at the end of the file."""
        frames = self._framer.finish()
        if self._bare:
            frames.append(SSEFrame(bytes(self._bare), BARE))
            self._bare = None
        return frames

    def _start(self, data: bytes) -> int | None:
        if self._after_newline and data.startswith(b"{"):
            return 0
        found = [at + 1 for newline in (b"\n{", b"\r{") if (at := data.find(newline)) >= 0]
        return min(found) if found else None


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(loads(data), dict)
    except (ValueError, RecursionError):
        return False
