"""What the kit has to be told of a provider's wire: a framing, a few exchanges, and what its errors look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

from trunkline._json import JSONObject
from trunkline.errors import RemoteError, ServerError
from trunkline.request import ChatRequest, Tool
from trunkline.response import FinishReason, Usage

CANARY = "canary-"
"""How every canary begins."""


def canary(name: str) -> str:
    """A secret that must show up nowhere: give one for each secret setting."""
    return f"{CANARY}{name.replace('_', '-')}-5e7fc0de"


class Framing(Protocol):
    """How frames are cut from bytes, so that the kit can write frames of its own."""

    @property
    def name(self) -> str:
        """The name of the framing."""
        ...

    @property
    def content_type(self) -> str:
        """The `content-type` of a stream in this framing."""
        ...

    @property
    def checked(self) -> bool:
        """Whether each frame carries a checksum, so that a flipped byte is always noticed."""
        ...

    def frame(self, payload: bytes, name: str = "") -> bytes:
        """A new frame with this payload; `name` is its type, where frames have one."""
        ...

    def payload(self, frame: bytes) -> bytes:
        """The payload of a frame."""
        ...

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        """The same frame with another payload."""
        ...

    def heartbeat(self) -> bytes:
        """Bytes that say nothing but that the connection lives."""
        ...

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        """Other ways in which the framing may write the same stream, by name."""
        ...


@attrs.frozen
class ServerSentEvents:
    """Server-sent events, as in the WHATWG HTML standard. `named` where frames have an `event:` line."""

    named: bool = False
    name: str = attrs.field(default="server-sent events", init=False)
    content_type: str = attrs.field(default="text/event-stream", init=False)
    checked: bool = attrs.field(default=False, init=False)

    def frame(self, payload: bytes, name: str = "") -> bytes:
        """An event."""
        head = b"event: " + name.encode() + b"\n" if self.named else b""
        return head + b"data: " + payload + b"\n\n"

    def payload(self, frame: bytes) -> bytes:
        """Its data."""
        lines = [line for line in frame.split(b"\n") if line.startswith(b"data:")]
        return b"\n".join(line[5:].removeprefix(b" ") for line in lines)

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        """The event with other data."""
        kept = [line for line in frame.split(b"\n") if line and not line.startswith(b"data:")]
        return b"\n".join([*kept, *(b"data: " + line for line in payload.split(b"\n"))]) + b"\n\n"

    def heartbeat(self) -> bytes:
        """A comment."""
        return b": keep-alive\n\n"

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        """Line endings, comments, data on several lines, and what else the standard allows."""
        stream = b"".join(frames)
        return {
            "cr": stream.replace(b"\n", b"\r"),
            "crlf": stream.replace(b"\n", b"\r\n"),
            "byte order mark": b"\xef\xbb\xbf" + stream,
            "no space after the colon": stream.replace(b"data: ", b"data:").replace(b"event: ", b"event:"),
            "comments and other fields": b"".join(b": hi\n\n:\n" + b"id: 1\nretry: 9\n" + frame for frame in frames),
            "data on several lines": b"".join(self.replaced(frame, _spread(self.payload(frame))) for frame in frames),
            "no blank line at the end": stream.rstrip(b"\n"),
            "blank lines": b"\n\n" + b"".join(frame + b"\n\n" for frame in frames),
        }


@attrs.frozen
class JSONLines:
    """JSON lines (NDJSON)."""

    name: str = attrs.field(default="JSON lines", init=False)
    content_type: str = attrs.field(default="application/x-ndjson", init=False)
    checked: bool = attrs.field(default=False, init=False)

    def frame(self, payload: bytes, name: str = "") -> bytes:
        """A line."""
        return payload + b"\n"

    def payload(self, frame: bytes) -> bytes:
        """The line without its end."""
        return frame.rstrip(b"\r\n")

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        """Another line."""
        return payload + b"\n"

    def heartbeat(self) -> bytes:
        """A blank line."""
        return b"\n"

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        """Line endings and blank lines."""
        stream = b"".join(frames)
        return {
            "crlf": stream.replace(b"\n", b"\r\n"),
            "blank lines": b"\n" + b"".join(frame + b"\n" for frame in frames),
            "no line ending at the end": stream.rstrip(b"\n"),
        }


def _spread(payload: bytes) -> bytes:
    try:
        return json.dumps(json.loads(payload), indent=1, ensure_ascii=False).encode()
    except ValueError:
        return payload


SSE = ServerSentEvents()
"""Server-sent events without types."""

NAMED_SSE = ServerSentEvents(named=True)
"""Server-sent events with an `event:` line each."""

JSON_LINES = JSONLines()
"""JSON lines."""

WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
"""The tool that the samples' answers call."""


@attrs.frozen(kw_only=True)
class Sample:
    """One exchange, and what it means.

    `frames` are the frames of the streamed answer as they are on the wire, up to the terminator and with it; `body` is
    the answer to the same request without streaming. The other fields say what both mean, so that the kit does not
    take a parser's word for it. `call_ids` are the ids of the calls, where the wire has any; `replays` are texts of the
    answer that the next request has to hold (a signature, say). `same_usage` is false where a wire tells less in one of
    the two.
    """

    name: str
    frames: tuple[bytes, ...]
    body: bytes | None = attrs.field(default=None, repr=False)
    request: ChatRequest = attrs.field(factory=lambda: ChatRequest(messages="Hi"), repr=False)
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[tuple[str, JSONObject], ...] = ()
    call_ids: tuple[str, ...] = ()
    replays: tuple[str, ...] = ()
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage | None = None
    same_usage: bool = True

    @property
    def stream(self) -> bytes:
        """The bytes of the streamed answer."""
        return b"".join(self.frames)


@attrs.frozen(kw_only=True)
class WireFormat:
    """What the kit knows of a dialect, or of one provider's wire.

    `samples` begin with a plain text of two deltas or more; one has two tool calls. `error_body` writes the body of
    an HTTP error with a given message, and `error_event` a frame that tells of a failure of the provider's own, which
    is an `error_type`. `finish` is the finish reason of one of the samples in the wire's own word. `optional_end` is
    the number of frames at a stream's end without which it is complete all the same. `free` names the fields whose
    objects are the model's own, a tool call's arguments, where the kit must not put fields of tomorrow.
    `finish_reasons` are the wire's words that may stand in the place of `finish`, and what they mean.
    `signed_reasoning` says that reasoning is taken back with its signature alone. `errors` are further frames that
    tell of an error, each with the error that it is.
    """

    framing: Framing
    samples: tuple[Sample, ...]
    error_body: Callable[[str], bytes]
    error_event: Callable[[str], bytes] | None
    error_type: type[RemoteError] = ServerError
    finish: str
    optional_end: int = 0
    free: frozenset[str] = frozenset({"arguments", "input"})
    finish_reasons: Mapping[str, FinishReason] = attrs.field(factory=dict)
    signed_reasoning: bool = False
    errors: tuple[tuple[bytes, type[RemoteError]], ...] = ()

    def edited(self, sample: Sample, edit: Callable[[Any], Any]) -> tuple[bytes, ...]:
        """The sample's frames with their JSON changed by `edit`; frames that are not JSON stay as they are."""
        frames = []
        for frame in sample.frames:
            try:
                value = json.loads(self.framing.payload(frame))
            except ValueError:
                frames.append(frame)
            else:
                payload = json.dumps(edit(value), separators=(",", ":"), ensure_ascii=False).encode()
                frames.append(self.framing.replaced(frame, payload))
        return tuple(frames)
