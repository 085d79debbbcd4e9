"""Parse the responses of the v2 chat API: whole bodies, and streams of typed server-sent events.

A stream is `message-start`, then the events of blocks, tool plan, tool calls and citations, then `message-end`. An
error is an event too, or a bare JSON object in an event's place. Parsing does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial
from typing import Any, NoReturn, TypeAlias

import attrs
from trunkline.authoring.event_builder import unnamed_calls
from trunkline.authoring.framing import BARE, SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import append_field, as_list, as_object, as_string, decode_object, unknown_fields
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, UsageReported
from trunkline.fold import Fold
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob
from trunkline.settings import Settings

from trunkline_cohere.citations import citations_from
from trunkline_cohere.errors import error_from_body
from trunkline_cohere.event_builder import CohereEventBuilder
from trunkline_cohere.usage import usage_from

_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
    "ERROR": FinishReason.ERROR,
    "TIMEOUT": FinishReason.ERROR,
    # Finish reasons of version 1 of the API. Private deployments and gateways still send them.
    "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
    "ERROR_LIMIT": FinishReason.LENGTH,
    "USER_CANCEL": FinishReason.ERROR,
}

# The fields that the parser reads, and fields without information. Every other field is kept in `provider_metadata`.
_EVENT_FIELDS = frozenset({"type", "index", "id", "delta", "logprobs"})
_BODY_FIELDS = frozenset({"id", "message", "finish_reason", "usage", "logprobs", "error", "error_type"})
_END_FIELDS = frozenset({"finish_reason", "usage", "error", "error_type"})
_MESSAGE_FIELDS = frozenset({"role", "content", "tool_plan", "tool_calls", "citations"})
_ERROR_FIELDS = ("message", "error", "error_type", "detail")


class CohereParser:
    """Parses the responses of the v2 chat API."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[SSEOrJSONFramer, CohereStreamParser]:
        """Return a new framer and parser for one stream."""
        return SSEOrJSONFramer(), CohereStreamParser(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed.

        Raises the error that the body describes in place of a message, even with status 200, and `ProtocolViolation`
        for a body without a message.
        """
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        message = data.get("message")
        if _is_error(data):
            raise error_from_json(data, provider=self._provider, read=error_from_body, headers=wire_response.headers)
        if not isinstance(message, dict):
            raise ProtocolViolation("the body has no field 'message'", provider=self._provider)
        folded = Fold(self._provider)
        for event in CohereStreamParser(self._provider).whole(data, message):
            folded.add(event)
        response = attrs.evolve(folded.response(), raw=data)
        notice = wire_response.headers.get("x-api-warning")
        if notice:
            warning = CallWarning(kind="other", subject="model", message=notice, lossy=False)
            response = attrs.evolve(response, warnings=(*response.warnings, warning))
        return response

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error of a response with an error status."""
        return error_from_response(wire_response, provider=self._provider, read=error_from_body)


class CohereStreamParser:
    """Turns the events of one stream into the core's. `message-end` completes it; anything after that is ignored."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._builder = CohereEventBuilder(provider)
        self._started = False
        self._id: str | None = None
        self._metadata: dict[str, Any] = {}
        self._logprobs: list[Any] = []  # unchanged, because they contain the token ids

    def feed(self, frame: SSEFrame) -> list[Event]:
        """Return the events of one frame. Raises the error that the frame carries, if it is one."""
        text = frame.data
        if not text or text in (b"[DONE]", b"null") or text.isspace():
            return []
        data = self._decode(frame)
        kind = data.get("type")
        if not isinstance(kind, str):
            kind = frame.event
        handler = _HANDLERS.get(kind)
        events: list[Event] = []
        if frame.event == BARE and handler is None:
            return self._bare(data, text)
        if handler is not None:
            if not data.keys() <= _EVENT_FIELDS:
                self._keep(data, _EVENT_FIELDS)
            handler(self, data, events)
        elif kind == "error" or frame.event == "error" or _is_error(data):
            raise self._failure(data)
        else:
            self._unknown_event(kind, data)
        if events and not self._started:
            self._started = True
            events.insert(0, ResponseStarted(id=self._id))
        return events

    def finish(self) -> list[Event]:
        """Raise `StreamInterrupted`: the stream ended before `message-end`."""
        raise StreamInterrupted("the stream ended before message-end", provider=self._provider, request_id=self._id)

    def _decode(self, frame: SSEFrame) -> dict[str, Any]:
        try:
            return decode_object(frame.data, "an event of the stream", provider=self._provider)
        except ProtocolViolation:
            if frame.event != "error":
                raise
            return {"message": frame.data.decode("utf-8", "replace")}

    def _keep(self, data: dict[str, Any], known: Set[str]) -> None:
        self._metadata |= unknown_fields(data, known)

    def _unknown_event(self, kind: str, data: dict[str, Any]) -> None:
        """Keep an unknown event in a list under the name of its type. If it has no type, keep its fields directly."""
        if "type" not in data and kind == "message":
            self._keep(data, frozenset())
        elif fields := {key: value for key, value in data.items() if key != "type"}:
            append_field(self._metadata, kind, fields)

    def _failure(self, data: dict[str, Any]) -> RemoteError:
        read = partial(error_from_body, request_id=self._id)
        return error_from_json(data, provider=self._provider, read=read)

    def _bare(self, data: dict[str, Any], text: bytes) -> list[Event]:
        """Return the events of a bare JSON object in an event's place: the whole response. Raises if it is an error."""
        message = data.get("message")
        if not isinstance(message, dict) and _is_error(data):
            raise self._failure(data)
        if not isinstance(message, dict) or self._started:
            excerpt = " ".join(text[:80].decode("utf-8", "replace").split())
            self._wrong(f"the stream contains a JSON object that is not an event: {excerpt!r}")
        return self.whole(data, message)

    def whole(self, data: dict[str, Any], message: dict[str, Any]) -> list[Event]:
        """Return the events of a response that was not streamed: blocks, the tool plan, tool calls.

        Citations follow the block that they refer to, as in a stream.
        """
        events: list[Event] = []
        self._message_start(data, events)
        content = message.get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
        cited, cited_in_plan = _citations_by_block(message.get("citations"), blocks)
        self._keep(data, _BODY_FIELDS)
        self._keep(message, _MESSAGE_FIELDS)
        logprobs = self._take_logprobs(data)
        for position, block in enumerate(blocks):
            if not isinstance(block, dict):
                self._wrong("a content block in the response is not an object")
            # A body has one list of log probabilities for all of its text; it goes with the first text block.
            block_logprobs = logprobs if block.get("type") == "text" else ()
            logprobs = () if block_logprobs else logprobs
            self._builder.content_start(position, block, events, block_logprobs)
            for raw in cited.get(position, ()):
                self._cite(raw, events)
            self._builder.content_end(position, events)
        if message.get("tool_plan"):
            self._plan(message["tool_plan"], events)
            self._builder.end_plan(events)
        for raw in (*cited_in_plan, *cited.get(-1, ())):
            self._cite(raw, events)
        for position, call in enumerate(as_list(message.get("tool_calls"))):
            self._builder.call_start(position, call, events)
            self._builder.call_end(position, events)
        self._end(data, events, raw=data)
        return events

    # One method per wire event type; see _HANDLERS.

    def _message(self, data: dict[str, Any]) -> dict[str, Any]:
        delta = data.get("delta")
        message = delta.get("message") if isinstance(delta, dict) else None
        if not isinstance(delta, dict) or not isinstance(message, dict):
            self._wrong(f"{data.get('type')} has no delta.message")
        if len(delta) > 1:
            self._keep(delta, {"message"})
        if len(message) > 1:
            self._keep(message, _MESSAGE_FIELDS)
        return message

    def _take_logprobs(self, data: dict[str, Any]) -> tuple[TokenLogprob, ...]:
        found = data.get("logprobs")
        entries = found if isinstance(found, list) else [found]
        self._logprobs += [entry for entry in entries if isinstance(entry, dict)]
        return _logprobs(entries)

    def _wrong(self, what: str) -> NoReturn:
        raise ProtocolViolation(what, provider=self._provider, request_id=self._id)

    def _message_start(self, data: dict[str, Any], events: list[Event]) -> None:
        if self._started:
            return
        self._id = as_string(data.get("id")) or None
        self._started = True
        events.append(ResponseStarted(id=self._id))
        delta = data.get("delta")
        if isinstance(delta, dict) and isinstance(delta.get("message"), dict):
            self._message(data)

    def _content_start(self, data: dict[str, Any], events: list[Event]) -> None:
        block = self._message(data).get("content")
        if not isinstance(block, dict):
            self._wrong("content-start has no content")
        logprobs = self._take_logprobs(data) if "logprobs" in data else ()
        self._builder.content_start(_index(data), block, events, logprobs)

    def _content_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        block = self._message(data).get("content")
        if isinstance(block, str):
            block = {"text": block}
        if not isinstance(block, dict):
            self._wrong("content-delta has no content")
        logprobs = self._take_logprobs(data) if "logprobs" in data else ()
        self._builder.content_delta(_index(data), block, events, logprobs)

    def _content_end(self, data: dict[str, Any], events: list[Event]) -> None:
        self._keep_of_end(data)
        self._builder.content_end(_index(data), events)

    def _keep_of_end(self, data: dict[str, Any]) -> None:
        # An end event usually has only an index, but some deployments send an empty message with it.
        delta = data.get("delta")
        if isinstance(delta, dict):
            self._keep(delta, {"message"})
            self._keep(as_object(delta.get("message")), _MESSAGE_FIELDS)

    def _tool_plan_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        self._plan(self._message(data).get("tool_plan"), events)

    def _plan(self, plan: object, events: list[Event]) -> None:
        if not isinstance(plan, str):
            self._wrong("the tool plan is not a string")
        self._builder.plan(plan, events)

    def _tool_call_start(self, data: dict[str, Any], events: list[Event]) -> None:
        for call in self._calls(data):
            self._builder.call_start(_index(data), call, events)

    def _tool_call_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        for call in self._calls(data):
            self._builder.call_delta(_index(data), call, events)

    def _calls(self, data: dict[str, Any]) -> list[Any]:
        # Documented as a single object despite the plural name; a list is accepted too.
        calls = self._message(data).get("tool_calls")
        return calls if isinstance(calls, list) else [calls]

    def _tool_call_end(self, data: dict[str, Any], events: list[Event]) -> None:
        self._keep_of_end(data)
        self._builder.call_end(_index(data), events)

    def _citation_start(self, data: dict[str, Any], events: list[Event]) -> None:
        raw = self._message(data).get("citations")
        for single in raw if isinstance(raw, list) else [raw]:
            self._cite(single, events)

    def _citation_end(self, data: dict[str, Any], events: list[Event]) -> None:
        self._keep_of_end(data)

    def _cite(self, raw: object, events: list[Event]) -> None:
        before = self._builder.text_before(raw.get("content_index") if isinstance(raw, dict) else None)
        events += citations_from(raw, before, self._provider)

    def _message_end(self, data: dict[str, Any], events: list[Event]) -> None:
        delta = as_object(data.get("delta"))
        self._id = self._id or as_string(data.get("id")) or None
        if not delta.keys() <= _END_FIELDS:
            self._keep(delta, _END_FIELDS)
        self._end({**{key: data[key] for key in ("error", "error_type") if key in data}, **delta}, events)

    def _end(self, data: dict[str, Any], events: list[Event], raw: dict[str, Any] | None = None) -> None:
        self._builder.finish(events)
        raw_reason = as_string(data.get("finish_reason")) or None
        reason = _REASONS.get(raw_reason or "", FinishReason.OTHER)
        error = {key: data[key] for key in ("error", "error_type") if data.get(key)}
        failed = reason in (FinishReason.ERROR, FinishReason.TOOL_CALLS) or error or raw_reason is None
        if failed and not self._builder.has_parts:
            # Nothing was generated, so this is a failed call, which can be retried, rather than a response.
            message = error.get("error") or f"the response ended with {raw_reason or 'no reason'} before any content"
            body = {"message": message, "error_type": error.get("error_type")}
            raise self._failure(body)
        if self._builder.has_calls and reason in (FinishReason.STOP, FinishReason.OTHER):
            reason = FinishReason.TOOL_CALLS
        warnings: list[CallWarning] = []
        if reason is FinishReason.ERROR or error:
            message = as_string(error.get("error")) or "the provider failed before the response was complete"
            warnings.append(CallWarning(kind="other", subject="finish_reason", message=message, lossy=False))
        self._metadata |= error
        if any("token_ids" in entry for entry in self._logprobs):
            self._metadata["logprobs"] = self._logprobs
        if unnamed := self._builder.unnamed:
            self._metadata["tool_calls"] = unnamed
            warnings.append(unnamed_calls(len(unnamed)))
        usage = usage_from(data.get("usage"))
        if usage is not None:
            events.append(UsageReported(usage=usage))
        events.append(
            Finished(
                reason=reason,
                raw_reason=raw_reason,
                usage=usage,
                warnings=tuple(warnings),
                provider_metadata={self._provider: self._metadata} if self._metadata else {},
                raw=raw,
            )
        )


def _is_error(data: dict[str, Any]) -> bool:
    """Return whether an event of an unknown type, or a body, describes an error in any of the known forms."""
    if isinstance(data.get("message"), dict) or "delta" in data:
        return False
    return any(data.get(key) for key in _ERROR_FIELDS)


def _index(data: dict[str, Any]) -> int | None:
    index = data.get("index")
    return index if type(index) is int else None


def _citations_by_block(citations: object, blocks: list[Any]) -> tuple[dict[int, list[Any]], list[Any]]:
    """Group citations by the position of the block they refer to (-1 for none); return those of the tool plan apart."""
    texts = [index for index, block in enumerate(blocks) if isinstance(block, dict) and block.get("type") == "text"]
    found: dict[int, list[Any]] = {}
    in_plan: list[Any] = []
    for raw in as_list(citations):
        if not isinstance(raw, dict):
            continue
        index = raw.get("content_index")
        if raw.get("type") == "PLAN":
            in_plan.append(raw)
        elif type(index) is int and 0 <= index < len(blocks):
            found.setdefault(index, []).append(raw)
        else:
            found.setdefault(texts[0] if texts else -1, []).append(raw)
    return found, in_plan


def _logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """Return log probabilities: one entry in a stream, a list in a body. An entry of several tokens gets their sum."""
    found = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, dict):
            continue
        text, numbers = entry.get("text"), entry.get("logprobs")
        if not isinstance(text, str) or not isinstance(numbers, list) or not numbers:
            continue
        if all(type(number) in (int, float) for number in numbers):
            found.append(TokenLogprob(token=text, logprob=_sum(numbers)))
    return tuple(found)


def _sum(numbers: list[Any]) -> float:
    try:
        return float(sum(numbers))
    except OverflowError:
        return float("-inf")


Handler: TypeAlias = Callable[[CohereStreamParser, dict[str, Any], "list[Event]"], None]

_HANDLERS: dict[str, Handler] = {
    "message-start": CohereStreamParser._message_start,
    "content-start": CohereStreamParser._content_start,
    "content-delta": CohereStreamParser._content_delta,
    "content-end": CohereStreamParser._content_end,
    "tool-plan-delta": CohereStreamParser._tool_plan_delta,
    "tool-call-start": CohereStreamParser._tool_call_start,
    "tool-call-delta": CohereStreamParser._tool_call_delta,
    "tool-call-end": CohereStreamParser._tool_call_end,
    "citation-start": CohereStreamParser._citation_start,
    "citation-end": CohereStreamParser._citation_end,
    "message-end": CohereStreamParser._message_end,
}
