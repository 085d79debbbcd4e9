"""A provider's wire format, as the kit needs it: a framing, a few sample exchanges, and the form of errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs

from trunkline._json import JSONObject, JSONValue
from trunkline.authoring.wire import WireRequest
from trunkline.errors import RemoteError, ServerError
from trunkline.messages import Message, Part, Text, ToolCall, ToolResult, assistant, system, user
from trunkline.request import ChatRequest, Tool
from trunkline.response import FinishReason, TokenLogprob, Usage

CANARY = "canary-"
"""The prefix of every canary."""


def canary(name: str) -> str:
    """Return a fake secret. Use one for each secret setting; the kit checks that it is never shown."""
    return f"{CANARY}{name.replace('_', '-')}-5e7fc0de"


class Framing(Protocol):
    """How a wire format divides bytes into frames. The kit uses it to read and write frames."""

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
        """Whether each frame has a checksum, so that every flipped byte is detected."""
        ...

    def frame(self, payload: bytes, name: str = "") -> bytes:
        """Return a new frame with this payload. `name` is its type, if frames have types."""
        ...

    def payload(self, frame: bytes) -> bytes:
        """Return the payload of a frame."""
        ...

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        """Return the same frame with a different payload."""
        ...

    def heartbeat(self) -> bytes:
        """Return bytes that keep the connection alive but are not part of the response."""
        ...

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        """Return other valid encodings of the same stream, by name."""
        ...


@attrs.frozen
class ServerSentEvents:
    """Server-sent events, as in the WHATWG HTML standard. `named` is true if events have an `event:` line."""

    named: bool = False
    name: str = attrs.field(default="server-sent events", init=False)
    content_type: str = attrs.field(default="text/event-stream", init=False)
    checked: bool = attrs.field(default=False, init=False)

    def frame(self, payload: bytes, name: str = "") -> bytes:
        """Return an event with this data."""
        head = b"event: " + name.encode() + b"\n" if self.named else b""
        return head + b"data: " + payload + b"\n\n"

    def payload(self, frame: bytes) -> bytes:
        """Return the data of an event."""
        lines = [line for line in frame.split(b"\n") if line.startswith(b"data:")]
        return b"\n".join(line[5:].removeprefix(b" ") for line in lines)

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        """Return the event with different data."""
        kept = [line for line in frame.split(b"\n") if line and not line.startswith(b"data:")]
        return b"\n".join([*kept, *(b"data: " + line for line in payload.split(b"\n"))]) + b"\n\n"

    def heartbeat(self) -> bytes:
        """Return a comment."""
        return b": keep-alive\n\n"

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        """Return variants that the standard allows: other line endings, comments, data on several lines, and more."""
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
        """Return a line."""
        return payload + b"\n"

    def payload(self, frame: bytes) -> bytes:
        """Return the line without its line ending."""
        return frame.rstrip(b"\r\n")

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        """Return a line with the new payload."""
        return payload + b"\n"

    def heartbeat(self) -> bytes:
        """Return a blank line."""
        return b"\n"

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        """Return variants with other line endings and with blank lines."""
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
"""Server-sent events without an `event:` line."""

NAMED_SSE = ServerSentEvents(named=True)
"""Server-sent events that each have an `event:` line."""

JSON_LINES = JSONLines()
"""JSON lines."""

WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
"""The tool that the responses of the samples call."""

TOOL_HISTORY = ChatRequest(
    messages=[
        system("Be brief."),
        user("What is the weather in Oslo and in Rome?"),
        Message(
            role="assistant",
            parts=[
                Text(text="I will look."),
                ToolCall(id="abcdefgh1", name="weather", arguments={"city": "Oslo"}),
                ToolCall(id="abcdefgh2", name="weather", arguments={"city": "Rome"}),
            ],
        ),
        Message(role="tool", parts=[ToolResult(tool_call_id="abcdefgh1", name="weather", parts="Sun")]),
        Message(role="tool", parts=[ToolResult(tool_call_id="abcdefgh2", name="weather", parts="Down", is_error=True)]),
        assistant("Sun in Oslo."),
        user("Thanks."),
    ],
    tools=[WEATHER],
    tool_choice="auto",
    max_output_tokens=4321,
    temperature=0.25,
    top_p=0.75,
    top_k=37,
    seed=8765,
    frequency_penalty=0.5,
    presence_penalty=1.0,
    stop=["END"],
    metadata={"kit": "metadata"},
)
"""A request with a history of tool calls and with options, for a sample with `request_wire`.

It has system instructions, two parallel calls, a result of each, one of which is of a tool that failed, and an answer.
"""


EMBED_TEXTS = ("Hi", "Good day")
"""The texts of the request for embeddings in `operation_requests`."""

EMBED_DIMENSIONS = 256
"""The length of the vectors that the request for embeddings in `operation_requests` asks for."""


@attrs.frozen(kw_only=True)
class Sample:
    """One exchange with a provider, and the response that a correct parser makes of it.

    `frames` are the frames of the streamed response, byte for byte, including the terminator. `body` is the response
    to the same request without streaming. The other fields are the expected content of both. `call_ids` are the ids
    of the tool calls, if the wire format has ids. `refusal` is the part of `text` that is a refusal. `cited` are the
    parts of `text` that the citations refer to, in the order of the citations; without it, citations are not checked.
    `replays` are texts of the response that the next request must contain, for example a signature. `kept` are texts of
    a content block of a kind that the parser does not know, which must be in the response nevertheless, for example in
    an `Opaque` part. `parts` are the types of the response's parts, in order; without it, the order of parts of
    different types is not checked. `logprobs` are the log probabilities of the tokens, with the alternatives of each.

    `request_wire` is the HTTP request that the API's documentation asks for to stream the response to `request`, with
    the model `m` if the request has none. Its URL contains `{url}` for the address of the kit's server, its body is
    compared as JSON, and further headers may be sent. `unstreamed_wire` is the HTTP request for the same response
    without streaming. At least one sample needs both, with a history of tools as in `TOOL_HISTORY`.
    """

    name: str
    frames: tuple[bytes, ...]
    body: bytes | None = attrs.field(default=None, repr=False)
    request: ChatRequest = attrs.field(factory=lambda: ChatRequest(messages="Hi"), repr=False)
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[tuple[str, JSONObject], ...] = ()
    call_ids: tuple[str, ...] = ()
    refusal: str = ""
    cited: tuple[str, ...] = ()
    replays: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    parts: tuple[type[Part], ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage | None = None
    request_wire: WireRequest | None = attrs.field(default=None, repr=False)
    unstreamed_wire: WireRequest | None = attrs.field(default=None, repr=False)

    @property
    def stream(self) -> bytes:
        """The bytes of the streamed response."""
        return b"".join(self.frames)


@attrs.frozen
class Step:
    """A tool call, a tool result or another message, in the body of a request.

    `id` is the id of the call, or the name of the tool if the format has no ids. `arguments` are the call's arguments,
    as JSON text or decoded.
    """

    kind: Literal["call", "result", "message"]
    id: str = ""
    arguments: JSONValue = None


@attrs.frozen(kw_only=True)
class WireFormat:
    """The wire format of one provider, or one that several providers share.

    `samples` begin with plain text in at least two deltas, and one sample has two tool calls.

    `error_body` returns the body of an HTTP error with a given message. `error_event` returns the frame of an error
    that the provider reports in a stream, which is raised as `error_type`; it is `None` if the format has no such
    frames. `errors` are further error frames, each with the error class that it is raised as.

    `finish` is the finish reason of one of the samples, as it is on the wire. `finish_reasons` maps values that may
    replace `finish` to their meaning. `free_form_fields` names the fields whose objects the model writes, such as the
    arguments of a tool call; the kit adds no unknown fields to them. `signed_reasoning` says that the API accepts
    reasoning in a request only with its signature. `embeddings` returns the body of a response with vectors in this
    order; its second argument are the indexes of their texts, for a format that has them. It is needed if the provider
    embeds texts.

    `steps` returns the tool calls, the results and the other messages in the decoded body of a request, in order. For
    an assistant message with calls, it returns only the calls. The kit uses it to check that each call has one result,
    whatever the conversation's history is. `call_id_pattern` is the pattern of accepted tool call ids; `None` if the
    API accepts any id. `refuses_blank_text` is whether the API refuses texts of white space. `unkept_fields` maps
    objects of responses whose unknown fields the parser need not keep to the reason. The keys are paths such as
    `choices[].delta`. In a stream, a path begins with the type of the event, as in `message_stop:`.

    `request_id_header` is the header of a response with the API's id of the request, which an error has as its
    `request_id`. `merged_options` names the objects of a request's body that `provider_options` extend instead of
    replacing them, such as one with all parameters of the model.
    """

    framing: Framing
    samples: tuple[Sample, ...]
    error_body: Callable[[str], bytes]
    error_event: Callable[[str], bytes] | None
    error_type: type[RemoteError] = ServerError
    finish: str
    free_form_fields: frozenset[str] = frozenset({"arguments", "input"})
    finish_reasons: Mapping[str, FinishReason] = attrs.field(factory=dict)
    signed_reasoning: bool = False
    errors: tuple[tuple[bytes, type[RemoteError]], ...] = ()
    embeddings: Callable[[Sequence[Any], Sequence[int]], bytes] | None = None
    steps: Callable[[Any], Iterable[Step]] | None = None
    call_id_pattern: str | None = None
    refuses_blank_text: bool = False
    unkept_fields: Mapping[str, str] = attrs.field(factory=dict)
    request_id_header: str = "x-request-id"
    merged_options: frozenset[str] = frozenset()

    def edited(self, sample: Sample, edit: Callable[[Any], Any]) -> tuple[bytes, ...]:
        """Return the sample's frames with their JSON changed by `edit`. Frames that are not JSON stay unchanged."""
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
