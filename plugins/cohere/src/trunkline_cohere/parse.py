"""Answers of the v2 chat API: whole bodies, and streams of typed server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import attrs
from trunkline.authoring.framing import BARE, SSEFrame, SSEOrJSONFramer
from trunkline.authoring.json import loads
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, UsageReported
from trunkline.fold import Fold
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob
from trunkline.settings import Settings

from trunkline_cohere.answer import Answer
from trunkline_cohere.citations import citations_from
from trunkline_cohere.errors import error_from_body, error_from_response
from trunkline_cohere.usage import usage_from

Data: TypeAlias = dict[str, Any]

_REASONS = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
    "ERROR": FinishReason.ERROR,
    "TIMEOUT": FinishReason.ERROR,
}


class CohereParser:
    """Reads the answers of the v2 chat API."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[SSEOrJSONFramer, CohereStreamParser]:
        """A fresh framer and parser, for one stream."""
        return SSEOrJSONFramer(), CohereStreamParser(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed.

        Raises the error that a body tells of in place of a message, whatever its status, and `ProtocolViolation` for
        what is no answer.
        """
        data = _decode(wire_response.body, "the body", self._provider)
        message = data.get("message")
        if isinstance(message, str):
            raise error_from_body(data, provider=self._provider, headers=wire_response.headers)
        if not isinstance(message, dict):
            raise ProtocolViolation("the body has no message", provider=self._provider)
        folded = Fold(self._provider)
        for event in CohereStreamParser(self._provider).whole(data, message):
            folded.add(event)
        response = attrs.evolve(folded.response(), raw=data)
        notice = wire_response.headers.get("x-api-warning")
        if notice:
            told = CallWarning(kind="other", subject="model", message=notice)
            response = attrs.evolve(response, warnings=(*response.warnings, told))
        return response

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error that a response with an error status tells of."""
        return error_from_response(wire_response, provider=self._provider)


def _excerpt(text: bytes) -> str:
    return " ".join(text[:80].decode("utf-8", "replace").split())


def _decode(text: bytes, what: str, provider: str) -> Data:
    try:
        data = loads(text)
    except (ValueError, RecursionError):
        raise ProtocolViolation(f"{what} is not JSON: {_excerpt(text)!r}", provider=provider) from None
    if not isinstance(data, dict):
        raise ProtocolViolation(f"{what} is a JSON {type(data).__name__}, not an object", provider=provider)
    return data


class CohereStreamParser:
    """Turns the events of one stream into ours. `message-end` completes it; what follows is of no account."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._answer = Answer(provider)
        self._started = False
        self._id: str | None = None

    def feed(self, frame: SSEFrame) -> list[Event]:
        """The events of one frame. Raises the error that the stream tells of before anything of an answer came."""
        text = frame.data
        if not text or text == b"[DONE]" or text.isspace():
            return []
        data = _decode(text, "an event of the stream", self._provider)
        kind = data.get("type")
        if not isinstance(kind, str):
            kind = frame.event
        handler = _HANDLERS.get(kind)
        events: list[Event] = []
        if frame.event == BARE and handler is None:
            return self._bare(data, text)
        if handler is not None:
            handler(self, data, events)
        elif kind == "error" or ("delta" not in data and isinstance(data.get("message"), str)):
            raise error_from_body(data, provider=self._provider, request_id=self._id)
        if events and not self._started:
            self._started = True
            events.insert(0, ResponseStarted(id=self._id))
        return events

    def finish(self) -> list[Event]:
        """The end of the file came before `message-end`: raises `StreamInterrupted`."""
        raise StreamInterrupted("the stream ended before message-end", provider=self._provider, request_id=self._id)

    def _bare(self, data: Data, text: bytes) -> list[Event]:
        """An object in the place of an event: an error, or the whole answer."""
        message = data.get("message")
        if isinstance(message, str) or data.get("error"):
            raise error_from_body(data, provider=self._provider, request_id=self._id)
        if not isinstance(message, dict) or self._started:
            self._wrong(f"the stream holds JSON that is no event: {_excerpt(text)!r}")
        return self.whole(data, message)

    def whole(self, data: Data, message: Data) -> list[Event]:
        """The events of an answer that was not streamed: thinking and text, the tool plan, the calls.

        Citations stand after the block that they are of, as in a stream.
        """
        events: list[Event] = []
        self._message_start(data, events)
        content = message.get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
        cited, of_the_plan = _by_block(message.get("citations"), blocks)
        logprobs = data.get("logprobs")
        for position, block in enumerate(blocks):
            if not isinstance(block, dict):
                self._wrong("a content block is not an object")
            mine = _logprobs(logprobs) if block.get("type") == "text" else ()
            logprobs = None if mine else logprobs
            self._answer.content_start(position, block, events, mine)
            for raw in cited.get(position, ()):
                self._cite(raw, events)
            self._answer.content_end(position, events)
        if message.get("tool_plan"):
            self._plan(message["tool_plan"], events)
            self._answer.end_plan(events)
        for raw in (*of_the_plan, *cited.get(-1, ())):
            self._cite(raw, events)
        calls = message.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else []):
            self._answer.call_start(position, call, events)
            self._answer.call_end(position, events)
        self._end(data, events, raw=data)
        return events

    # The events of the wire

    def _message(self, data: Data) -> Data:
        delta = data.get("delta")
        message = delta.get("message") if isinstance(delta, dict) else None
        if not isinstance(message, dict):
            self._wrong(f"{data.get('type')} has no delta.message")
        return message

    def _wrong(self, what: str) -> NoReturn:
        raise ProtocolViolation(what, provider=self._provider, request_id=self._id)

    def _message_start(self, data: Data, events: list[Event]) -> None:
        if self._started:
            return
        told = data.get("id")
        self._id = told if isinstance(told, str) and told else None
        self._started = True
        events.append(ResponseStarted(id=self._id))

    def _content_start(self, data: Data, events: list[Event]) -> None:
        block = self._message(data).get("content")
        if not isinstance(block, dict):
            self._wrong("content-start has no content")
        self._answer.content_start(_index(data), block, events, _logprobs(data.get("logprobs")))

    def _content_delta(self, data: Data, events: list[Event]) -> None:
        block = self._message(data).get("content")
        if isinstance(block, str):
            block = {"text": block}
        if not isinstance(block, dict):
            self._wrong("content-delta has no content")
        logprobs = _logprobs(data["logprobs"]) if "logprobs" in data else ()
        self._answer.content_delta(_index(data), block, events, logprobs)

    def _content_end(self, data: Data, events: list[Event]) -> None:
        self._answer.content_end(_index(data), events)

    def _tool_plan_delta(self, data: Data, events: list[Event]) -> None:
        self._plan(self._message(data).get("tool_plan"), events)

    def _plan(self, plan: object, events: list[Event]) -> None:
        if not isinstance(plan, str):
            self._wrong("a tool plan is not text")
        self._answer.plan(plan, events)

    def _tool_call_start(self, data: Data, events: list[Event]) -> None:
        for call in self._calls(data):
            self._answer.call_start(_index(data), call, events)

    def _tool_call_delta(self, data: Data, events: list[Event]) -> None:
        for call in self._calls(data):
            self._answer.call_delta(_index(data), call, events)

    def _calls(self, data: Data) -> list[Any]:
        # An object, though its name is plural; a list would be no surprise.
        calls = self._message(data).get("tool_calls")
        return calls if isinstance(calls, list) else [calls]

    def _tool_call_end(self, data: Data, events: list[Event]) -> None:
        self._answer.call_end(_index(data), events)

    def _citation_start(self, data: Data, events: list[Event]) -> None:
        raw = self._message(data).get("citations")
        for single in raw if isinstance(raw, list) else [raw]:
            self._cite(single, events)

    def _cite(self, raw: object, events: list[Event]) -> None:
        before = self._answer.text_before(raw.get("content_index") if isinstance(raw, dict) else None)
        events += citations_from(raw, before, self._provider)

    def _message_end(self, data: Data, events: list[Event]) -> None:
        delta = data.get("delta")
        self._end(delta if isinstance(delta, dict) else {}, events)

    def _end(self, data: Data, events: list[Event], raw: Data | None = None) -> None:
        self._answer.finish(events)
        told = data.get("finish_reason")
        raw_reason = told if isinstance(told, str) and told else None
        reason = _REASONS.get(raw_reason or "", FinishReason.OTHER)
        error = {key: data[key] for key in ("error", "error_type") if data.get(key)}
        if reason is FinishReason.ERROR and not self._answer.has_parts:
            # Nothing came of it: a failed call, which may be tried again, and not an answer.
            message = error.get("error") or f"the answer ended with {raw_reason} before it began"
            body = {"message": message, "error_type": error.get("error_type")}
            raise error_from_body(body, provider=self._provider, request_id=self._id)
        if self._answer.has_calls and reason in (FinishReason.STOP, FinishReason.OTHER):
            reason = FinishReason.TOOL_CALLS
        warnings: tuple[CallWarning, ...] = ()
        if reason is FinishReason.ERROR or error:
            text = error.get("error")
            message = text if isinstance(text, str) else "the provider failed before the answer was complete"
            warnings = (CallWarning(kind="other", subject="finish_reason", message=message),)
        usage = usage_from(data.get("usage"))
        if usage is not None:
            events.append(UsageReported(usage=usage))
        events.append(
            Finished(
                reason=reason,
                raw_reason=raw_reason,
                usage=usage,
                warnings=warnings,
                provider_metadata={self._provider: error} if error else {},
                raw=raw,
            )
        )


def _index(data: Data) -> int | None:
    index = data.get("index")
    return index if type(index) is int else None


def _by_block(citations: object, blocks: list[Any]) -> tuple[dict[int, list[Any]], list[Any]]:
    """Citations by the position of the block that they are of (-1 for none), and those of the tool plan."""
    texts = [at for at, block in enumerate(blocks) if isinstance(block, dict) and block.get("type") == "text"]
    found: dict[int, list[Any]] = {}
    of_the_plan: list[Any] = []
    for raw in citations if isinstance(citations, list) else []:
        if not isinstance(raw, dict):
            continue
        at = raw.get("content_index")
        if raw.get("type") == "PLAN":
            of_the_plan.append(raw)
        elif type(at) is int and 0 <= at < len(blocks):
            found.setdefault(at, []).append(raw)
        else:
            found.setdefault(texts[0] if texts else -1, []).append(raw)
    return found, of_the_plan


def _logprobs(value: object) -> tuple[TokenLogprob, ...]:
    """Log probabilities: one entry in a stream, a list in a body. A piece of several tokens has the sum of theirs."""
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


Handler: TypeAlias = Callable[[CohereStreamParser, Data, "list[Event]"], None]

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
    "message-end": CohereStreamParser._message_end,
}
