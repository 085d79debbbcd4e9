"""Parsing the responses of the Messages API: whole bodies, and streams of typed server-sent events.

A stream is `message_start`, then for each content block `content_block_start`, `content_block_delta` … and
`content_block_stop` (see `blocks`), then `message_delta` with the stop reason and the usage, and `message_stop`.
Deltas name their block by its index, so blocks may interleave. `ping` may come at any time, and so may an `error`
event. Only `message_stop` completes a stream: an end of file before it is a truncated response, except after a refusal.

Data without a field in the core's types is kept in the response's `provider_metadata`: each unknown field of the
message and of its events under its name, and each unknown event under its type.

Servers that imitate the API report errors in different forms, so all data that describes an error raises an error. A
response with neither content nor a stop reason is an error as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.event_builder import unnamed_calls
from trunkline.authoring.framing import SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import ErrorReader, error_from_json, error_from_response
from trunkline.authoring.json import (
    JSONValue,
    append_field,
    as_list,
    as_object,
    as_objects,
    as_string,
    bounded,
    decode_object,
    loads,
)
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.repeats import Repeats
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, ServerError, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, UsageReported
from trunkline.fold import Fold
from trunkline.response import CallWarning, ChatResponse, FinishReason
from trunkline.secrets import Headers, HeaderValues
from trunkline.settings import Settings

from trunkline_anthropic.blocks import OWNERS, Block, OpaqueBlock, ResponseState, TextBlock, new_block
from trunkline_anthropic.errors import describes_error, error_from_body
from trunkline_anthropic.usage import later_usage, usage_from

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
    # The request asked for a summary of the conversation, which is the response.
    "compaction": FinishReason.STOP,
    # A server tool takes long: sending the conversation with this response appended continues it.
    "pause_turn": FinishReason.PAUSED,
    # Servers that imitate the API pass on stop reasons of other APIs.
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
}

_FAILURES = ("error", "network_error", "server_error")
"""Stop reasons that mean that the model failed. Such a response is never complete."""

_MESSAGE = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage"})
"""The fields of a message that are handled. All others are kept as metadata."""

_UPDATE = _MESSAGE | {"delta", "error", "p"}
"""The handled fields of a message, and of `message_delta` merged with its `delta`."""

_EVENT = frozenset({"type", "index", "message", "content_block", "delta", "usage", "error", "p"})
"""The fields of an event that are handled or carry no information. All others are kept as metadata.

`p` is padding, which hides the length of the text from eavesdroppers (Amazon Bedrock).
"""

_DELTA_EVENT = frozenset({"type", "index", "delta"})

_MAX_FIELDS = 200
"""The maximum number of fields in the usage or in the metadata of a response. The API sends about ten of each, so a
server that sends more than the maximum is broken."""

_MAX_EVENTS = 1000
"""The maximum number of unknown events of one type that are kept."""


class MessagesParser:
    """Parses the responses of the Messages API. A place with other errors overrides `read_error`."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    @staticmethod
    def read_error(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """Return the error that a decoded body or event describes. It never raises."""
        return error_from_body(body, provider=provider, status=status, headers=headers)

    def stream(self) -> tuple[SSEOrJSONFramer, MessagesStreamParser]:
        """Return a new framer and parser for one stream."""
        return SSEOrJSONFramer(), MessagesStreamParser(self._provider, read_error=self.read_error)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed.

        Raises the error that the body describes, whatever the HTTP status, and `ProtocolViolation` if it is no message.
        """
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        if describes_error(data):
            raise error_from_json(data, provider=self._provider, read=self.read_error, headers=wire_response.headers)
        folded = Fold(self._provider)
        parser = MessagesStreamParser(self._provider, read_error=self.read_error)
        for event in parser.whole(data):
            folded.add(event)
        # The core adds the warnings about broken arguments itself.
        return attrs.evolve(folded.response(), warnings=parser.warnings, raw=data)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error that a response with an error status describes."""
        return error_from_response(wire_response, provider=self._provider, read=self.read_error)


def _delta_text(data: dict[str, Any]) -> object:
    return data["delta"]["text"]


Handler: TypeAlias = Callable[["MessagesStreamParser", dict[str, Any], "list[Event]"], None]


class MessagesStreamParser:
    """Turns the frames of one stream into events."""

    def __init__(self, provider: str, *, read_error: ErrorReader = error_from_body) -> None:
        self._provider = provider
        self._read_error = read_error
        self._response = ResponseState(provider)
        self._started = False
        self._blocks: dict[int, Block] = {}
        self._last: int = -1  # the index of the block that started last
        self.repeats = Repeats("text", _delta_text)
        self._text: TextBlock | None = None  # the block of the last delta, if that was text
        self._usage: dict[str, Any] = {}
        self._counted = False  # whether a message_delta has reported usage
        self._stop_reason: str | None = None
        self._metadata = self._response.metadata
        self._failed = False  # an error event without details arrived; the next event may have them

    @property
    def warnings(self) -> tuple[CallWarning, ...]:
        """The warnings about the response."""
        calls = self._response.unnamed
        warnings = (unnamed_calls(len(calls)),) if calls else ()
        return (*warnings, *_transformation_warnings(self._metadata.get("input_transformations")))

    def feed(self, frame: SSEFrame) -> list[Event]:
        """Return the events of one frame. Raises the error that an `error` event describes."""
        text = frame.data
        known = self.repeats.frame_template
        if known is not None and (texts := known.texts(text)) is not None:
            return self.text_events(texts)
        self.repeats.forget()
        if text == b"[DONE]" and self._stop_reason is not None:  # a proxy's terminator instead of message_stop
            events: list[Event] = []
            self._end_message(events)
            return events
        if not text or text in (b"[DONE]", b"null") or text.isspace():
            return []
        if frame.event == "error" or (frame.status or 0) >= 400:
            self._error(_error_data(text), [], status=frame.status)
            return []
        data = decode_object(text, "an event of the stream", provider=self._provider)
        kind = data.get("type")
        if type(kind) is not str:
            kind = "error" if describes_error(data) else frame.event
        handler = _HANDLERS.get(kind)
        events = []
        if handler is not None:
            handler(self, data, events)
        else:
            self._unknown(kind, data)
        if not self._started and events:
            self._started = True
            if type(events[0]) is not ResponseStarted:
                events.insert(0, ResponseStarted())
        if kind == "content_block_delta" and "type" in data and self._text is not None:
            self.repeats.learn(text, data)
        return events

    def text_events(self, texts: list[str]) -> list[Event]:
        """Return the events of text deltas that differ from the last one only in their texts."""
        assert self._text is not None
        return [self._text.more(text) for text in texts]

    def finish(self) -> list[Event]:
        """Complete a refusal. Raises an error for any other response, since the stream ended before `message_stop`.

        A refusal is complete without `message_stop`: no content follows it, and a retry returns the same.
        """
        if self._failed:
            raise error_from_json({"type": "error"}, provider=self._provider, read=self._read_error)
        reason = _REASONS.get(self._stop_reason or "", FinishReason.OTHER)
        if reason is FinishReason.CONTENT_FILTER:
            events: list[Event] = []
            self._end_message(events)
            return events
        if self._stop_reason is None:
            raise StreamInterrupted("the stream ended before message_stop", provider=self._provider)
        # Only message_stop is missing, so the response is probably complete, and a retry would cost tokens again.
        message = f"the stream ended before message_stop, after the stop reason {self._stop_reason!r}"
        error = StreamInterrupted(message, provider=self._provider, retryable=False)
        error.finish_reason, error.raw_finish_reason = reason, self._stop_reason
        raise error

    def whole(self, message: dict[str, Any]) -> list[Event]:
        """Return the events of a message that arrived whole."""
        events: list[Event] = []
        self._whole(message, events)
        return events

    # Blocks

    def _delta(self, data: dict[str, Any], events: list[Event]) -> None:
        index = data.get("index")
        delta = data.get("delta")
        if type(delta) is not dict:
            raise ProtocolViolation("a content_block_delta has no delta", provider=self._provider)
        kind = as_string(delta.get("type"))
        block = self._blocks.get(index if type(index) is int else self._last)
        if block is None or (kind not in block.deltas and not isinstance(block, OpaqueBlock)):
            block = self._block_for(block, index, kind, events)
        block.delta(kind, delta, events)
        is_plain = (len(data) == 3 and "type" in data and "index" in data) or data.keys() <= _DELTA_EVENT
        if not is_plain:
            self._keep(data, _EVENT)
        self._text = (
            block if is_plain and kind == "text_delta" and len(delta) == 2 and isinstance(block, TextBlock) else None
        )

    def _block_for(self, block: Block | None, index: object, kind: str | None, events: list[Event]) -> Block:
        """Return the block of a delta whose index has no block, or a block of a different type.

        Some servers do not start a block for text and thinking. Others use one index for all blocks.
        """
        owner = OWNERS.get(kind or "")
        if owner is None:
            if block is not None:
                return block
            return self._begin(index, {"type": (kind or "unknown").removesuffix("_delta")}, events)
        last = self._blocks.get(self._last)
        if last is not None and kind in last.deltas:
            return last
        return self._begin(index, {"type": owner}, events)

    def _begin(self, index: object, data: object, events: list[Event]) -> Block:
        key = index if type(index) is int else self._last + 1
        self._end(key, events)
        block = self._blocks[key] = new_block(self._response, data)
        self._last = key
        block.start(events)
        return block

    def _end(self, key: int, events: list[Event]) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            block.stop(events)

    def _block_start(self, data: dict[str, Any], events: list[Event]) -> None:
        self._begin(data.get("index"), data.get("content_block"), events)
        self._keep(data, _EVENT)

    def _block_stop(self, data: dict[str, Any], events: list[Event]) -> None:
        index = data.get("index")
        self._end(index if type(index) is int else self._last, events)
        self._keep(data, _EVENT)

    # The message

    def _message_start(self, data: dict[str, Any], events: list[Event]) -> None:
        message = data.get("message")
        if describes_error(data):
            self._error(data, events)
        if self._started or not isinstance(message, dict):
            return
        self._start(message, events)
        self._keep(data, _EVENT)
        # The output tokens in message_start are a placeholder; message_delta has the real count.
        if (usage := usage_from(self._usage)) is not None and usage.input_tokens:
            events.append(UsageReported(usage=attrs.evolve(usage, output_tokens=None, total_tokens=None)))

    def _start(self, message: dict[str, Any], events: list[Event]) -> None:
        if not self._started:
            self._response.response_id = as_string(message.get("id"))
            events.append(ResponseStarted(id=self._response.response_id, model=as_string(message.get("model"))))
        self._update(message)
        for index, block in enumerate(as_list(message.get("content"))):
            self._end(index - 1, events)
            self._begin(index, block, events)

    def _message_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        if describes_error(data):
            self._error(data, events)
        self._update({**data, **as_object(data.get("delta"))}, is_total=True)
        if (usage := usage_from(self._usage)) is not None:
            events.append(UsageReported(usage=usage))

    def _update(self, fields: dict[str, Any], *, is_total: bool = False) -> None:
        """Keep the stop reason, the usage and the metadata of a message, or of a message_delta if `is_total`."""
        self._stop_reason = as_string(fields.get("stop_reason")) or self._stop_reason
        self._keep(fields, _UPDATE)
        usage = fields.get("usage")
        if isinstance(usage, dict):
            self._usage = later_usage(self._usage, usage, both_total=is_total and self._counted)
            self._counted = self._counted or is_total
            self._check_size(self._usage, "usage")

    def _keep(self, fields: dict[str, Any], known: frozenset[str]) -> None:
        """Keep unknown fields in the metadata. A later value replaces an earlier value."""
        others = sorted(fields.keys() - known)
        if not others:
            return
        for name in others:
            if (value := fields[name]) is not None:
                self._metadata[name] = value
        self._check_size(self._metadata, "metadata")

    def _unknown(self, kind: str, data: dict[str, Any]) -> None:
        """Keep an unknown event under its type. Raises an error if the event describes one."""
        if describes_error(data):
            self._error(data, [])
        others = {name: value for name, value in data.items() if name != "type" and value is not None}
        if others:
            if len(as_list(self._metadata.get(kind))) < _MAX_EVENTS:
                append_field(self._metadata, kind, others)
            self._check_size(self._metadata, "metadata")

    def _check_size(self, fields: dict[str, Any], what: str) -> None:
        if len(fields) > _MAX_FIELDS:
            raise ProtocolViolation(f"the {what} has more than {_MAX_FIELDS} fields", provider=self._provider)

    def _ping(self, data: dict[str, Any], events: list[Event]) -> None:
        self._unknown("ping", data)  # some servers add a price to the event

    def _whole(self, data: dict[str, Any], events: list[Event]) -> None:
        if describes_error(data):
            self._error(data, events)
        content = data.get("content")
        if not isinstance(content, list) and (content is not None or "stop_reason" not in data):
            raise ProtocolViolation("the response is not a message: it has no content", provider=self._provider)
        self._start(data, events)
        if (usage := usage_from(self._usage)) is not None:
            events.append(UsageReported(usage=usage))
        self._end_message(events)

    def _message_stop(self, data: dict[str, Any], events: list[Event]) -> None:
        if describes_error(data):
            self._error(data, events)
        self._keep(data, _EVENT)
        self._end_message(events)

    def _end_message(self, events: list[Event]) -> None:
        for key in list(self._blocks):
            self._end(key, events)
        raw = self._stop_reason
        if self._failed or raw in _FAILURES:
            message = f"the model stopped with the reason {raw!r}" if raw else None
            data: JSONValue = {"type": "error", "error": {"type": raw, "message": message}}
            raise error_from_json(data, provider=self._provider, read=self._read_error)
        if self._response.is_empty and raw in (None, "tool_use"):
            problem = (
                "neither content nor a stop reason" if raw is None else f"no tool call, but the stop reason {raw!r}"
            )
            raise ServerError(f"the response has {problem}, and no error explains why", provider=self._provider)
        if self._response.unnamed:
            self._metadata["tool_calls"] = self._response.unnamed
        reason = _REASONS.get(raw or "")
        if (
            self._response.has_calls
            and reason in (None, FinishReason.STOP)
            and raw not in ("stop_sequence", "compaction")
        ):
            reason = FinishReason.TOOL_CALLS
        events.append(
            Finished(
                reason=reason or FinishReason.OTHER,
                raw_reason=raw,
                usage=usage_from(self._usage),
                warnings=self.warnings,
                provider_metadata={self._provider: self._metadata} if self._metadata else {},
            )
        )

    def _error(self, data: JSONValue, events: list[Event], *, status: int | None = None) -> None:
        if status is not None:
            raise self._read_error(bounded(data), provider=self._provider, status=status)
        if isinstance(data, dict) and not describes_error({**data, "type": None}) and not self._failed:
            # This event only reports that an error occurred. The next event may describe the error.
            self._failed = True
            return
        raise error_from_json(data, provider=self._provider, read=self._read_error)


def _error_data(text: bytes) -> JSONValue:
    """Return the decoded data of an `error` event, or its text if the data is not JSON."""
    try:
        data: JSONValue = loads(text)
    except (ValueError, RecursionError):
        return text.decode("utf-8", "replace")
    return data


def _transformation_warnings(reports: object) -> tuple[CallWarning, ...]:
    """Return warnings for the thinking that the API removed from the request.

    Newer models only accept thinking that the same model wrote in the same conversation. The reports need the beta
    `thinking-binding-controls-2026-08-01`.
    """
    warnings = Warnings()
    for report in as_objects(reports):
        if report.get("type") == "thinking_dropped":
            why = f"the API left out thinking in the history ({report.get('reason')})"
            warnings.mended("reasoning", why)
    return warnings.all()


_HANDLERS: dict[str, Handler] = {
    "content_block_delta": MessagesStreamParser._delta,
    "content_block_start": MessagesStreamParser._block_start,
    "content_block_stop": MessagesStreamParser._block_stop,
    "message_start": MessagesStreamParser._message_start,
    "message_delta": MessagesStreamParser._message_delta,
    "message_stop": MessagesStreamParser._message_stop,
    "message": MessagesStreamParser._whole,
    "ping": MessagesStreamParser._ping,
    "error": MessagesStreamParser._error,
}
