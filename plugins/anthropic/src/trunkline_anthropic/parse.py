"""Parsing the responses of the Messages API: whole bodies, and streams of typed server-sent events.

A stream is `message_start`, then for each content block `content_block_start`, `content_block_delta` … and
`content_block_stop` (see `blocks`), then `message_delta` with the stop reason and the usage, and `message_stop`.
Deltas name their block by its index, so blocks may interleave. `ping` and unknown events are ignored; an `error` event
may come at any time. Only `message_stop` completes a stream: an end of file before it is a truncated response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.framing import SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import as_list, as_object, as_string, decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.repeats import Repeats
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, UsageReported
from trunkline.fold import Fold
from trunkline.response import ChatResponse, FinishReason
from trunkline.settings import Settings

from trunkline_anthropic.blocks import Block, ResponseState, TextBlock, new_block
from trunkline_anthropic.errors import error_from_body
from trunkline_anthropic.usage import usage_from

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
    # A server tool takes long: sending the conversation with this response appended continues it.
    "pause_turn": FinishReason.OTHER,
}

# Fields of a response without a normalised place; they go to `provider_metadata`.
_METADATA = ("stop_sequence", "stop_details", "container", "context_management", "diagnostics")

_MAX_COUNTS = 200
"""The most fields that a usage may have. The API has about ten; a server that keeps adding some is broken."""


class MessagesParser:
    """Parses the responses of the Messages API."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[SSEOrJSONFramer, MessagesStreamParser]:
        """Return a new framer and parser for one stream."""
        return SSEOrJSONFramer(), MessagesStreamParser(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed.

        Raises the error that the body describes, whatever the HTTP status, and `ProtocolViolation` if it is no message.
        """
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        if data.get("error") or data.get("type") == "error":
            raise error_from_json(data, provider=self._provider, read=error_from_body, headers=wire_response.headers)
        folded = Fold(self._provider)
        for event in MessagesStreamParser(self._provider).whole(data):
            folded.add(event)
        # The core adds the warnings about broken arguments itself.
        return attrs.evolve(folded.response(), warnings=(), raw=data)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error that a response with an error status describes."""
        return error_from_response(wire_response, provider=self._provider, read=error_from_body)


def _delta_text(data: dict[str, Any]) -> object:
    return data["delta"]["text"]


Handler: TypeAlias = Callable[["MessagesStreamParser", dict[str, Any], "list[Event]"], None]


class MessagesStreamParser:
    """Turns the frames of one stream into events."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._response = ResponseState(provider)
        self._started = False
        self._blocks: dict[int, Block] = {}
        self._last: int = -1  # the index of the block that started last
        self.repeats = Repeats("text", _delta_text)
        self._text: TextBlock | None = None  # the block of the last delta, if that was text
        self._usage: dict[str, Any] = {}
        self._ending: dict[str, Any] = {}  # the stop reason, and what goes to `provider_metadata`

    def feed(self, frame: SSEFrame) -> list[Event]:
        """Return the events of one frame. Raises the error that an `error` event describes."""
        text = frame.data
        known = self.repeats.frame_template
        if known is not None and (texts := known.texts(text)) is not None:
            return self.text_events(texts)
        self.repeats.forget()
        if not text or text == b"[DONE]" or text.isspace():
            return []
        data = decode_object(text, "an event of the stream", provider=self._provider)
        kind = data.get("type")
        if type(kind) is not str:
            kind = "error" if data.get("error") else frame.event
        handler = _HANDLERS.get(kind)
        if handler is None:
            return []
        events: list[Event] = []
        handler(self, data, events)
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
        """Raise `StreamInterrupted`: the end of file came before `message_stop`."""
        raise StreamInterrupted("the stream ended before message_stop", provider=self._provider)

    def whole(self, message: dict[str, Any]) -> list[Event]:
        """Return the events of a message that arrived whole."""
        events: list[Event] = []
        self._whole(message, events)
        return events

    # Blocks

    def _delta(self, data: dict[str, Any], events: list[Event]) -> None:
        index = data.get("index")
        block = self._blocks.get(index if type(index) is int else self._last)
        delta = data.get("delta")
        if type(delta) is not dict:
            raise ProtocolViolation("a content_block_delta has no delta", provider=self._provider)
        kind = delta.get("type")
        if block is None:
            block = self._unannounced(index, kind, events)
        block.delta(kind, delta, events)
        self._text = block if kind == "text_delta" and isinstance(block, TextBlock) else None

    def _unannounced(self, index: object, kind: object, events: list[Event]) -> Block:
        """Start the block of a delta that no start announced, as some servers send them for text and thinking."""
        block_type = {"text_delta": "text", "thinking_delta": "thinking"}.get(as_string(kind) or "")
        if block_type is None:
            raise ProtocolViolation("a content_block_delta of a block that never started", provider=self._provider)
        return self._begin(index, {"type": block_type}, events)

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

    def _block_stop(self, data: dict[str, Any], events: list[Event]) -> None:
        index = data.get("index")
        self._end(index if type(index) is int else self._last, events)

    # The message

    def _message_start(self, data: dict[str, Any], events: list[Event]) -> None:
        message = data.get("message")
        if self._started or not isinstance(message, dict):
            return
        self._start(message, events)
        # The output tokens in message_start are a placeholder; message_delta has the real count.
        if (usage := usage_from(self._usage)) is not None and usage.input_tokens:
            events.append(UsageReported(usage=attrs.evolve(usage, output_tokens=None, total_tokens=None)))

    def _start(self, message: dict[str, Any], events: list[Event]) -> None:
        if not self._started:
            events.append(ResponseStarted(id=as_string(message.get("id")), model=as_string(message.get("model"))))
        self._update(message, message.get("usage"))
        for index, block in enumerate(as_list(message.get("content"))):
            self._end(index - 1, events)
            self._begin(index, block, events)

    def _message_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        self._update({**data, **as_object(data.get("delta"))}, data.get("usage"))
        if (usage := usage_from(self._usage)) is not None:
            events.append(UsageReported(usage=usage))

    def _update(self, fields: dict[str, Any], usage: object) -> None:
        """Keep what ends up in `Finished`. Counts are totals, so a later count replaces an earlier one."""
        names = ("stop_reason", *_METADATA)
        self._ending.update({name: fields[name] for name in names if fields.get(name) is not None})
        if isinstance(usage, dict):
            self._usage = {**self._usage, **{name: value for name, value in usage.items() if value is not None}}
            if len(self._usage) > _MAX_COUNTS:
                raise ProtocolViolation(f"the usage has more than {_MAX_COUNTS} fields", provider=self._provider)

    def _whole(self, data: dict[str, Any], events: list[Event]) -> None:
        content = data.get("content")
        if not isinstance(content, list) and (content is not None or "stop_reason" not in data):
            raise ProtocolViolation("the response is not a message: it has no content", provider=self._provider)
        self._start(data, events)
        if (usage := usage_from(self._usage)) is not None:
            events.append(UsageReported(usage=usage))
        self._message_stop(data, events)

    def _message_stop(self, data: dict[str, Any], events: list[Event]) -> None:
        for key in list(self._blocks):
            self._end(key, events)
        raw = as_string(self._ending.pop("stop_reason", None))
        reason = _REASONS.get(raw or "")
        if self._response.has_calls and (reason is None or raw == "end_turn"):
            reason = FinishReason.TOOL_CALLS
        events.append(
            Finished(
                reason=reason or FinishReason.OTHER,
                raw_reason=raw,
                usage=usage_from(self._usage),
                provider_metadata={self._provider: self._ending} if self._ending else {},
            )
        )

    def _error(self, data: dict[str, Any], events: list[Event]) -> None:
        raise error_from_json(data, provider=self._provider, read=error_from_body)


_HANDLERS: dict[str, Handler] = {
    "content_block_delta": MessagesStreamParser._delta,
    "content_block_start": MessagesStreamParser._block_start,
    "content_block_stop": MessagesStreamParser._block_stop,
    "message_start": MessagesStreamParser._message_start,
    "message_delta": MessagesStreamParser._message_delta,
    "message_stop": MessagesStreamParser._message_stop,
    "message": MessagesStreamParser._whole,
    "error": MessagesStreamParser._error,
}
