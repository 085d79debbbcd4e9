"""Parsing the responses of Converse (whole bodies) and of ConverseStream (event streams).

A stream is `messageStart`, the events of the content blocks (see `blocks`), `messageStop` with the stop reason, and
`metadata` with the usage. `messageStop` and `metadata` come in any order, and both are required: a stream that ends
without one of them was cut off. A message of the type `exception` or `error` ends the stream with an error, and so does
an event with an exception's name.

No field of a response is lost: unknown fields are kept in the `provider_metadata` of the part (see `blocks`) or of the
response. `SILENT` lists the fields without information.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.event_builder import unnamed_calls
from trunkline.authoring.http_errors import error_body, request_id_from
from trunkline.authoring.json import JSONObject, append_field, as_object, as_string, decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, ServerError, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, UsageReported
from trunkline.fold import Fold
from trunkline.response import CallWarning, ChatResponse, FinishReason, Usage
from trunkline.settings import Settings

from trunkline_bedrock.blocks import Blocks
from trunkline_bedrock.credentials import ServerClock
from trunkline_bedrock.errors import (
    REQUEST_ID_HEADER,
    error_from_response,
    error_name,
    make_error,
    message_of,
)
from trunkline_bedrock.framing import BrokenFrame, EventStreamFrame, EventStreamFramer
from trunkline_bedrock.usage import usage_from

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,  # Claude's own stop reason, which botocore's service model does not list
    "malformed_model_output": FinishReason.ERROR,
    "malformed_tool_use": FinishReason.ERROR,
}
SILENT = {
    "p": "padding, so that the lengths of messages do not reveal the text",
    "role": "always `assistant`",
    "contentBlockIndex": "the number of a block in a stream; the parts keep the order of the blocks",
}
"""The fields of a response that are not kept, with the reason."""

_BLOCK_EVENT = frozenset({"contentBlockIndex", "start", "delta", "p"})
_STARTED = frozenset({"role", "p"})
_TYPED = frozenset({"output", "stopReason", "usage", "p"})
"""The fields of a response that have a normalised place. All others go to its `provider_metadata`."""


class ConverseParser:
    """Parses the responses of Converse and ConverseStream."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider
        self._clock = context.keep(ServerClock, ServerClock)

    def stream(self) -> tuple[EventStreamFramer, ConverseStreamParser]:
        """Return a new framer and parser for one stream."""
        return EventStreamFramer(), ConverseStreamParser(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed. Raises `ProtocolViolation` if the body is none."""
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        message = as_object(as_object(data.get("output")).get("message"))
        content = message.get("content")
        if content is None and message and "stopReason" in data:
            content = []
        if not isinstance(content, list):
            if "stopReason" not in data and message_of(data):
                # Some proxies send errors with status 200.
                raise error_from_response(wire_response, provider=self._provider)
            raise ProtocolViolation(
                "the body is not a response of Converse: it has no output.message.content", provider=self._provider
            )
        blocks = Blocks(self._provider)
        events: list[Event] = [
            ResponseStarted(id=request_id_from(wire_response.headers, REQUEST_ID_HEADER), model=_routed(data))
        ]
        for block in content:
            blocks.whole(block, events)
        output = as_object(data.get("output"))
        metadata = {
            "message": {key: value for key, value in as_object(output["message"]).items() if key not in _MESSAGE},
            "output": {key: value for key, value in output.items() if key != "message"},
        }
        _finish(data, blocks, self._provider, events, metadata, raw=data)
        folded = Fold(self._provider)
        for event in events:
            folded.add(event)
        # The core adds the warnings about the response itself.
        return attrs.evolve(folded.response(), warnings=_warnings(blocks))

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error that a response with an error status describes."""
        error = error_from_response(wire_response, provider=self._provider)
        self._clock.correct(error, wire_response)
        return error


_MESSAGE = frozenset({"role", "content"})


def _routed(data: Mapping[str, Any]) -> str | None:
    """Return the model that a prompt router chose. No other response names its model."""
    return as_string(as_object(as_object(data.get("trace")).get("promptRouter")).get("invokedModelId"))


def _finish(
    data: dict[str, Any],
    blocks: Blocks,
    provider: str,
    events: list[Event],
    metadata: dict[str, Any],
    raw: JSONObject,
) -> None:
    """Add the events that end a response. `metadata` contains further fields for its `provider_metadata`.

    Raises `ServerError`, which can be retried, if the response has neither content nor a stop reason that explains the
    missing content.
    """
    raw_reason = as_string(data.get("stopReason"))
    usage = usage_from(data.get("usage"))
    reason = _REASONS.get(raw_reason or "", FinishReason.OTHER)
    if not blocks.has_content and _is_empty(raw_reason, reason, usage):
        raise ServerError(f"the response is empty, with the stop reason {raw_reason}", provider=provider)
    if usage is not None:
        events.append(UsageReported(usage=usage))
    if blocks.has_calls and reason in (FinishReason.STOP, FinishReason.OTHER):
        reason = FinishReason.TOOL_CALLS
    fields = {key: value for key, value in data.items() if key not in _TYPED and value is not None}
    fields |= {
        key: value
        for key, value in (("blocks", blocks.unplaced), ("tool_calls", blocks.unnamed), *metadata.items())
        if value
    }
    events.append(
        Finished(
            reason=reason,
            raw_reason=raw_reason,
            usage=usage,
            warnings=_warnings(blocks),
            provider_metadata={provider: fields} if fields else {},
            raw=raw,
        )
    )


def _warnings(blocks: Blocks) -> tuple[CallWarning, ...]:
    return (unnamed_calls(len(blocks.unnamed)),) if blocks.unnamed else ()


def _is_empty(raw_reason: str | None, reason: FinishReason, usage: Usage | None) -> bool:
    """Return whether a response without content is a failure.

    After a tool result, a model may have nothing to add and stop with `end_turn` after a few tokens. The response is a
    failure if it has no tokens, no stop reason, or the stop reason `tool_use` without a call.
    """
    if not raw_reason or reason is FinishReason.TOOL_CALLS:
        return True
    return reason is FinishReason.STOP and usage is not None and usage.output_tokens == 0


Handler: TypeAlias = Callable[["ConverseStreamParser", dict[str, Any], "list[Event]"], None]


class ConverseStreamParser:
    """Turns the messages of one stream into events."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._blocks = Blocks(provider)
        self._started = False
        self._stop: dict[str, Any] | None = None
        self._metadata: dict[str, Any] | None = None
        self._unknown: dict[str, Any] = {}

    def feed(self, frame: EventStreamFrame) -> list[Event]:
        """Return the events of one message.

        Raises the error that an `exception` or `error` message describes, and `ProtocolViolation` for a broken one.
        """
        if frame.kind != "event":
            raise self._error(frame)
        handler = _HANDLERS.get(frame.name)
        if handler is None:
            return self._other(frame)
        data = decode_object(frame.data, f"the event {frame.name}", provider=self._provider)
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(ResponseStarted())
        handler(self, data, events)
        return events

    def finish(self) -> list[Event]:
        """Raise `StreamInterrupted`: the end of file came before the end of the stream."""
        if self._stop is None:
            raise StreamInterrupted("the stream ended before messageStop", provider=self._provider)
        # Only the usage and the report of a guardrail are missing, so the same request would not give another answer.
        error = StreamInterrupted("the stream ended before metadata", provider=self._provider, retryable=False)
        error.raw_finish_reason = as_string(self._stop.get("stopReason"))
        error.finish_reason = _REASONS.get(error.raw_finish_reason or "", FinishReason.OTHER)
        raise error

    def _other(self, frame: EventStreamFrame) -> list[Event]:
        """Raise the error if an exception was sent as an event. Keep any other unknown event."""
        try:
            payload: Any = decode_object(frame.data, f"the event {frame.name}", provider=self._provider)
        except ProtocolViolation:
            payload = b64encode(frame.data).decode()
        fields = as_object(payload)
        inner = next((name for name in fields if name.endswith("Exception")), None)
        if frame.name.lower().endswith(("exception", "error")) or inner is not None or "__type" in fields:
            raise self._error(frame)
        if fields:
            payload = {key: value for key, value in fields.items() if key not in SILENT}
        if payload and frame.name in self._unknown:
            append_field(self._unknown, frame.name, payload)
        elif payload:
            self._unknown[frame.name] = payload
        return []

    def _error(self, frame: EventStreamFrame) -> TrunklineError:
        if isinstance(frame, BrokenFrame):
            return ProtocolViolation(frame.message, provider=self._provider)
        body = error_body(WireResponse(status=200, body=frame.data))
        name, fields = frame.name, as_object(body)
        if name.lower() in ("", "error", "exception") or frame.kind == "event":
            # Servers that imitate Bedrock name the error in the payload, or wrap the payload in its name.
            inner = next((key for key in fields if key.endswith("Exception")), None)
            if inner is not None:
                fields = as_object(fields[inner])
            names = (inner, fields.get("__type"), fields.get("code"), fields.get("type"))
            name = next(filter(None, map(error_name, names)), name)
        error = make_error(
            name=name or None,
            message=frame.message or message_of(fields) or message_of(body),
            status=None,
            provider=self._provider,
            body=body,
        )
        if as_object(body).get("originalStatusCode") in (408, 429, 503, 529):
            error.retryable = True  # the status of the model's own server, which says that a retry may help
        return error

    def _message_start(self, data: dict[str, Any], events: list[Event]) -> None:
        if not data.keys() <= _STARTED:
            self._unknown["message"] = {key: value for key, value in data.items() if key not in _STARTED}

    def _block_start(self, data: dict[str, Any], events: list[Event]) -> None:
        index = self._index(data)
        # Some servers start a text with an empty start object, or without a start object.
        self._blocks.start(index, self._inner(data, "start") if data.get("start") is not None else {}, events)
        if not data.keys() <= _BLOCK_EVENT:
            self._keep(index, data)

    def _block_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        index = self._index(data)
        self._blocks.delta(index, self._inner(data, "delta"), events)
        if not data.keys() <= _BLOCK_EVENT:
            self._keep(index, data)

    def _block_stop(self, data: dict[str, Any], events: list[Event]) -> None:
        index = self._index(data)
        if not data.keys() <= _BLOCK_EVENT:
            self._keep(index, data)
        self._blocks.stop(index, events)

    def _keep(self, index: int, data: dict[str, Any]) -> None:
        self._blocks.keep(index, {key: value for key, value in data.items() if key not in _BLOCK_EVENT})

    def _message_stop(self, data: dict[str, Any], events: list[Event]) -> None:
        self._blocks.stop_all(events)
        self._stop = data
        self._complete(events)

    def _metadata_event(self, data: dict[str, Any], events: list[Event]) -> None:
        self._metadata = data if self._metadata is None else _merged_metadata(self._metadata, data)
        self._complete(events)

    def _complete(self, events: list[Event]) -> None:
        if self._stop is None or self._metadata is None:
            return
        self._blocks.stop_all(events)
        ending = {**self._metadata, **self._stop}
        raw = {key: value for key, value in ending.items() if key != "p"}
        _finish(ending, self._blocks, self._provider, events, self._unknown, raw)

    def _index(self, data: dict[str, Any]) -> int:
        index = data.get("contentBlockIndex", 0)
        if type(index) is not int:
            raise ProtocolViolation("a contentBlockIndex is not an integer", provider=self._provider)
        return index

    def _inner(self, data: dict[str, Any], name: str) -> dict[str, Any]:
        inner = data.get(name)
        if not isinstance(inner, dict):
            raise ProtocolViolation(f"an event of a content block has no {name}", provider=self._provider)
        return inner


def _merged_metadata(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merge two `metadata` events. The larger token count is correct, because a later event may start again at 0."""
    merged = {**first, **second}
    counts = as_object(first.get("usage"))
    if counts and isinstance(merged.get("usage"), dict):
        later = merged["usage"]
        merged["usage"] = {
            **counts,
            **later,
            **{
                key: max(count, later[key])
                for key, count in counts.items()
                if type(count) is int and type(later.get(key)) is int
            },
        }
    return merged


_HANDLERS: dict[str, Handler] = {
    "messageStart": ConverseStreamParser._message_start,
    "contentBlockStart": ConverseStreamParser._block_start,
    "contentBlockDelta": ConverseStreamParser._block_delta,
    "contentBlockStop": ConverseStreamParser._block_stop,
    "messageStop": ConverseStreamParser._message_stop,
    "metadata": ConverseStreamParser._metadata_event,
}
