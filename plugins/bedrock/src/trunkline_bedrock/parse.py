"""Converse's answers: whole bodies, and the events of ConverseStream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.json import JSONObject, loads
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, UsageReported
from trunkline.fold import Fold
from trunkline.response import ChatResponse, FinishReason
from trunkline.settings import Settings

from trunkline_bedrock.blocks import Blocks
from trunkline_bedrock.errors import error_from_facts, error_from_response, message_of, request_id
from trunkline_bedrock.framing import EventStreamFrame, EventStreamFramer
from trunkline_bedrock.usage import usage_from

Data: TypeAlias = dict[str, Any]

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
    "malformed_model_output": FinishReason.ERROR,
    "malformed_tool_use": FinishReason.ERROR,
}
_FACTS = ("metrics", "trace", "performanceConfig", "serviceTier", "additionalModelResponseFields")
"""What of an answer has no normalised place, and goes to `provider_metadata`."""


class ConverseParser:
    """Reads the answers of Converse and ConverseStream."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[EventStreamFramer, ConverseStreamParser]:
        """A fresh framer and parser, for one stream."""
        return EventStreamFramer(), ConverseStreamParser(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed. Raises `ProtocolViolation` for what is none."""
        data = decode(wire_response.body, "the body", self._provider)
        output = data.get("output")
        message = output.get("message") if isinstance(output, dict) else None
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            if "stopReason" not in data and message_of(data):
                # A proxy that answers 200 to everything.
                raise error_from_response(wire_response, provider=self._provider)
            raise ProtocolViolation(
                "the body is no answer of Converse: it has no output.message.content", provider=self._provider
            )
        blocks = Blocks(self._provider)
        events: list[Event] = [ResponseStarted(id=request_id(wire_response.headers), model=_routed(data))]
        for block in message["content"]:
            blocks.whole(block, events)
        _finish(data, blocks, self._provider, events, raw=data)
        folded = Fold(self._provider)
        for event in events:
            folded.add(event)
        # The core warns of the answer itself.
        return attrs.evolve(folded.response(), warnings=())

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error that a response with an error status tells of."""
        return error_from_response(wire_response, provider=self._provider)


def decode(text: bytes, what: str, provider: str) -> Data:
    """A JSON object. Raises `ProtocolViolation` for anything else."""
    try:
        data = loads(text)
    except (ValueError, RecursionError):
        raise ProtocolViolation(f"{what} is not JSON: {text[:80]!r}", provider=provider) from None
    if not isinstance(data, dict):
        raise ProtocolViolation(f"{what} is a JSON {type(data).__name__}, not an object", provider=provider)
    return data


def _routed(data: Mapping[str, Any]) -> str | None:
    """The model that a prompt router chose. Otherwise an answer does not tell its model."""
    trace = data.get("trace")
    router = trace.get("promptRouter") if isinstance(trace, dict) else None
    model = router.get("invokedModelId") if isinstance(router, dict) else None
    return model if isinstance(model, str) else None


def _finish(data: Data, blocks: Blocks, provider: str, events: list[Event], raw: JSONObject) -> None:
    usage = usage_from(data.get("usage"))
    if usage is not None:
        events.append(UsageReported(usage=usage))
    told = data.get("stopReason")
    raw_reason = told if isinstance(told, str) else None
    reason = _REASONS.get(raw_reason or "", FinishReason.OTHER)
    if blocks.has_calls and reason in (FinishReason.STOP, FinishReason.OTHER):
        reason = FinishReason.TOOL_CALLS
    facts = {name: data[name] for name in _FACTS if data.get(name) is not None}
    events.append(
        Finished(
            reason=reason,
            raw_reason=raw_reason,
            usage=usage,
            provider_metadata={provider: facts} if facts else {},
            raw=raw,
        )
    )


Handler: TypeAlias = Callable[["ConverseStreamParser", Data, "list[Event]"], None]


class ConverseStreamParser:
    """Turns the messages of one stream into events. It is complete with `messageStop` and `metadata`, in any order."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._blocks = Blocks(provider)
        self._started = False
        self._stop: Data | None = None
        self._metadata: Data | None = None

    def feed(self, frame: EventStreamFrame) -> list[Event]:
        """The events of one message. Raises the error that an exception or error message tells of."""
        if frame.kind != "event":
            raise self._error(frame)
        handler = _HANDLERS.get(frame.name)
        if handler is None:
            return []
        data = decode(frame.data, f"the event {frame.name}", self._provider)
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(ResponseStarted())
        handler(self, data, events)
        return events

    def finish(self) -> list[Event]:
        """The end of the file came before the end of the stream: raises `StreamInterrupted`."""
        missing = "messageStop" if self._stop is None else "metadata"
        raise StreamInterrupted(f"the stream ended before {missing}", provider=self._provider)

    def _error(self, frame: EventStreamFrame) -> TrunklineError:
        try:
            body = loads(frame.data) if frame.data else None
        except (ValueError, RecursionError):
            body = frame.data[:200].decode("utf-8", "replace")
        status = body.get("originalStatusCode") if isinstance(body, dict) else None
        error = error_from_facts(
            name=frame.name or None,
            message=frame.message or message_of(body),
            status=None,
            provider=self._provider,
            body=body,
        )
        if isinstance(status, int) and status in (408, 429, 503, 529):
            error.retryable = True  # the model's own server said so
        return error

    def _message_start(self, data: Data, events: list[Event]) -> None:
        """Nothing that is not known."""

    def _block_start(self, data: Data, events: list[Event]) -> None:
        self._blocks.start(self._index(data), self._inner(data, "start"), events)

    def _block_delta(self, data: Data, events: list[Event]) -> None:
        self._blocks.delta(self._index(data), self._inner(data, "delta"), events)

    def _block_stop(self, data: Data, events: list[Event]) -> None:
        self._blocks.stop(self._index(data), events)

    def _message_stop(self, data: Data, events: list[Event]) -> None:
        self._blocks.stop_all(events)
        self._stop = data
        self._complete(events)

    def _metadata_event(self, data: Data, events: list[Event]) -> None:
        self._metadata = data
        self._complete(events)

    def _complete(self, events: list[Event]) -> None:
        if self._stop is None or self._metadata is None:
            return
        self._blocks.stop_all(events)
        told = {**self._metadata, **self._stop}
        raw = {key: value for key, value in told.items() if key != "p"}  # padding
        _finish(told, self._blocks, self._provider, events, raw)

    def _index(self, data: Data) -> int:
        index = data.get("contentBlockIndex", 0)
        if type(index) is not int:
            raise ProtocolViolation("a contentBlockIndex is no whole number", provider=self._provider)
        return index

    def _inner(self, data: Data, name: str) -> Data:
        inner = data.get(name)
        if not isinstance(inner, dict):
            raise ProtocolViolation(f"an event of a content block has no {name}", provider=self._provider)
        return inner


_HANDLERS: dict[str, Handler] = {
    "messageStart": ConverseStreamParser._message_start,
    "contentBlockStart": ConverseStreamParser._block_start,
    "contentBlockDelta": ConverseStreamParser._block_delta,
    "contentBlockStop": ConverseStreamParser._block_stop,
    "messageStop": ConverseStreamParser._message_stop,
    "metadata": ConverseStreamParser._metadata_event,
}
