"""The AWS event stream (`application/vnd.amazon.eventstream`): cutting bytes into messages, with checksums verified.

A message, with all numbers in network byte order (https://smithy.io/2.0/aws/amazon-eventstream.html):

    total length   4 bytes, of the whole message      } the prelude
    headers length 4 bytes                            }
    prelude CRC    4 bytes, CRC-32 of the 8 before
    headers        each: length of the name (1 byte), name, type (1 byte), value
    payload        total length - headers length - 16 bytes; JSON here
    message CRC    4 bytes, CRC-32 of everything before

The header `:message-type` is `event`, `exception` (an error with a modelled type) or `error`; `:event-type`,
`:exception-type` or `:error-code` names the type.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple, TypeAlias
from zlib import crc32

from trunkline.errors import ProtocolViolation

_PRELUDE = Struct("!III")
_CRC = Struct("!I")
_SHORTEST = _PRELUDE.size + _CRC.size
_LONGEST = 24 * 1024 * 1024 + 128 * 1024 + _SHORTEST
"""The largest message that AWS allows, in bytes. A larger announced length means that this is no event stream."""

_TEXT = (b"{", b"[", b"<", b" ", b"\t", b"\r", b"\n")
"""The first bytes of JSON or HTML."""

_KNOWN = 64
"""How many sets of headers the cache holds. A stream has about a dozen; the limit bounds memory."""

_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The size of values by header type: true, false, byte, short, integer, long, timestamp, UUID."""
_BYTES, _STRING = 6, 7

_About: TypeAlias = tuple[str, str, str]


class EventStreamFrame(NamedTuple):
    """A message of the stream: its `kind` (`event`, `exception` or `error`), the `name` of its type, and its payload.

    For an `error`, `name` is the error code and `message` its text.
    """

    kind: str
    name: str
    data: bytes
    message: str = ""


class BrokenFrame(EventStreamFrame):
    """Stands for bytes that are no message. `message` says what is wrong with them. Nothing after them can be read."""


_new_frame = tuple.__new__  # a named tuple's own constructor costs as much as a checksum


class EventStreamFramer:
    """Cuts bytes into messages, however the bytes were split.

    There are three states. Between messages, `_left` holds fewer than the 12 bytes of a prelude and its checksum.
    Within a message, `_pieces` holds what arrived of it, and `_missing` is how many bytes are still to come; they are
    joined once, so that a long message in small reads costs linear time. The prelude is verified as soon as it is
    complete, so that nobody waits for the announced length of garbage. In the third state, `_text`, the body is no
    event stream but JSON or HTML, as proxies send it; it is skipped, and reported at the end of file.

    Headers repeat, so each different set of them is decoded once.
    """

    def __init__(self) -> None:
        self._left = b""
        self._pieces: list[bytes] = []
        self._missing = 0
        self._at_start = True
        self._text = False
        self._known: dict[bytes, _About] = {}

    def feed(self, data: bytes) -> list[EventStreamFrame]:
        """Return the messages that `data` completes. A broken message is a `BrokenFrame`, the last one.

        No error is raised here, since the messages before it would be lost.
        """
        if self._text or (self._at_start and _is_text(self._left + data)):
            self._text = True
            return []
        frames: list[EventStreamFrame] = []
        try:
            self._cut(data, frames)
        except ProtocolViolation as error:
            frames.append(BrokenFrame("broken", "", b"", error.message))
        return frames

    def _cut(self, data: bytes, frames: list[EventStreamFrame]) -> None:
        if self._missing:
            self._pieces.append(data)
            if len(data) < self._missing:
                self._missing -= len(data)
                return
            data = b"".join(self._pieces)
            self._pieces, self._missing = [], 0
        elif self._left:
            data, self._left = self._left + data, b""
        at, size = 0, len(data)
        while size - at >= 12:
            total, headers, checksum = _PRELUDE.unpack_from(data, at)
            if crc32(data[at : at + 8]) != checksum:
                raise ProtocolViolation("the prelude of a message of the event stream is broken: its checksum differs")
            if total < headers + _SHORTEST or total > _LONGEST:
                raise ProtocolViolation(
                    f"a message of the event stream announces an impossible length: {total} bytes, {headers} of headers"
                )
            self._at_start = False
            end = at + total
            if end > size:
                self._pieces, self._missing = [data[at:]], end - size
                return
            if crc32(data[at : end - 4]) != _CRC.unpack_from(data, end - 4)[0]:
                raise ProtocolViolation("a message of the event stream is broken: its checksum differs")
            payload_at = at + 12 + headers
            packed = data[at + 12 : payload_at]
            kind, name, message = self._known.get(packed) or self._about(packed)
            frames.append(_new_frame(EventStreamFrame, (kind, name, data[payload_at : end - 4], message)))
            at = end
        self._left = data[at:]

    def finish(self) -> list[EventStreamFrame]:
        """Return no message. Raises `ProtocolViolation` within a message, or if the body is no event stream."""
        if self._left or self._missing or self._text:
            raise ProtocolViolation("the event stream ends in the middle of a message")
        return []

    def _about(self, packed: bytes) -> _About:
        headers = _headers(packed)
        kind = headers.get(":message-type", "event")
        if kind == "error":
            return "error", headers.get(":error-code", ""), headers.get(":error-message", "")
        about = kind, headers.get(":exception-type" if kind == "exception" else ":event-type", ""), ""
        if len(self._known) < _KNOWN:
            self._known[packed] = about
        return about


def _headers(packed: bytes) -> dict[str, str]:
    """Return the headers that are strings. Headers of other types are not needed, but must be well-formed."""
    headers: dict[str, str] = {}
    names: set[bytes] = set()
    at, size = 0, len(packed)
    try:
        while at < size:
            value_at = at + 2 + packed[at]
            name, kind = packed[at + 1 : value_at - 1], packed[value_at - 1]
            if kind in (_BYTES, _STRING):
                value_at += 2
                at = value_at + (packed[value_at - 2] << 8 | packed[value_at - 1])
            else:
                at = value_at + _FIXED[kind]
            if at > size or name in names:
                break
            names.add(name)
            text = name.decode()
            if kind == _STRING:
                headers[text] = packed[value_at:at].decode()
        else:
            return headers
    except (IndexError, KeyError, UnicodeDecodeError):
        pass
    raise ProtocolViolation("the headers of a message of the event stream are broken")


def _is_text(data: bytes) -> bool:
    # As the first byte of a length, each of these would announce more than 150 MB, which no message may have.
    return data[:1] in _TEXT
