"""Fold the events of a stream into a response, and unfold a response into events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Never, TypeGuard

import attrs

from trunkline._field_types import type_name
from trunkline._json import NESTING_LIMIT, JSONObject, is_deeper, loads_finite
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.events import (
    Event,
    Finished,
    PartAdded,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    ResponseStarted,
    ResumePoint,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    UsageReported,
    is_event,
)
from trunkline.messages import Audio, Citation, Document, Image, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob, Usage


def decode_arguments(text: str) -> tuple[JSONObject, str | None]:
    """Decode a tool call's arguments. Returns the object and `None`, or `{}` and the text if it is not a JSON object.

    Empty text and `null` give an empty object: several providers send them for a tool without parameters. If an
    object follows `{}`, the second object wins: a call of Anthropic's API starts with an empty `input`, and a proxy
    translated this input as well as the pieces after it. Text that is nested deeper than 128 levels, which a `ToolCall`
    refuses, is not decoded.
    """
    if text.strip() in ("", "null"):
        return {}, None
    if text.count("{") + text.count("[") > NESTING_LIMIT and is_deeper(
        text.encode("utf-8", "surrogatepass"), NESTING_LIMIT
    ):
        return {}, text
    try:
        arguments = loads_finite(text)
    except (ValueError, RecursionError):
        if not text.startswith("{}{"):
            return {}, text
        try:
            arguments = loads_finite(text[2:])
        except (ValueError, RecursionError):
            return {}, text
    return (arguments, None) if isinstance(arguments, dict) else ({}, text)


def response_warnings(parts: Sequence[Part], reason: FinishReason) -> tuple[CallWarning, ...]:
    """Return the warnings about a response that do not depend on the provider.

    They report tool calls whose arguments are not a JSON object, and an output limit that left no room for an answer.
    """
    warnings = [
        CallWarning(
            kind="invalid_arguments",
            subject=f"tool call {part.name}",
            message="the model's arguments are no JSON object that can be read; the text is in invalid_arguments",
            lossy=False,
        )
        for part in parts
        if isinstance(part, ToolCall) and part.invalid_arguments is not None
    ]
    if reason is FinishReason.LENGTH and not any(isinstance(part, (Text, ToolCall, Audio)) for part in parts):
        reasoned = any(isinstance(part, Reasoning) for part in parts)
        cause = "reasoning used up the output limit" if reasoned else "the output limit was reached before any output"
        message = f"{cause}; raise the limit"
        warnings.append(CallWarning(kind="other", subject="max_output_tokens", message=message, lossy=False))
    return tuple(warnings)


def with_family(parts: tuple[Part, ...], family: str | None) -> tuple[Part, ...]:
    """Return the parts of a response with the family of the model that made them.

    The family is set in parts with data that only their model understands: reasoning, opaque parts, and parts with
    `provider_metadata`. A family that a parser set is kept.
    """
    if family is None or not any(_is_marked(part) for part in parts):
        return parts
    return tuple(attrs.evolve(part, family=family) if _is_marked(part) else part for part in parts)


def _is_marked(part: Part) -> TypeGuard[Text | Image | Document | Audio | Reasoning | ToolCall | Opaque]:
    if isinstance(part, (Citation, ToolResult)) or part.family is not None:
        return False
    return isinstance(part, (Reasoning, Opaque)) or bool(part.provider_metadata)


class Fold:
    """Folds events one at a time, so that a stream can return what has arrived so far."""

    __slots__ = (
        "_finished",
        "_logprobs",
        "_open",
        "_parts",
        "_provider",
        "_response",
        "_service",
        "_started",
        "_usage",
        "refusals",
    )

    def __init__(self, provider: str | None = None, service: str | None = None) -> None:
        self._provider = provider
        self._service = service
        self._started = ResponseStarted()
        self._finished: Finished | None = None
        self._response: ChatResponse | None = None
        self._usage: Usage | None = None
        self._logprobs: list[TokenLogprob] = []
        # In the order of arrival. A part with an index stays an `_OpenPart` until `response` is called.
        self._parts: list[Part | _OpenPart] = []
        self._open: dict[int, _OpenPart] = {}
        self.refusals: set[int] = set()
        """The indexes of the texts that are refusals."""

    def add(self, event: Event) -> None:
        """Add an event. Raises `ProtocolViolation` if the event is out of order or a field of it has a wrong type."""
        try:
            if type(event) is TextDelta and self._finished is None:  # the fast path: nearly all events are text deltas
                part = self._open.get(event.index)
                if part is not None:
                    deltas = part.deltas
                    deltas.append(event.text)
                    if len(deltas) == _JOINED_AT_ONCE:
                        part.join()
                    if event.logprobs:
                        self._logprobs.extend(event.logprobs)
                    return
            self._add(event)
        except TypeError as error:
            raise self._violation(f"a field of {type_name(event)} has a wrong type: {error}") from None

    def _add(self, event: Event) -> None:
        if self._finished is not None:
            raise self._violation(f"{type(event).__name__} after Finished")
        if isinstance(event, TextDelta):
            raise self._no_part(event.index)
        if isinstance(event, ReasoningDelta):
            self._part(event.index).add(event.text)
        elif isinstance(event, ToolCallDelta):
            self._part(event.index).add(event.arguments)
        elif isinstance(event, (TextStart, ReasoningStart, ToolCallStart)):
            if event.index in self._open:
                raise self._violation(f"two parts have the index {event.index}")
            part = self._open[event.index] = _OpenPart(event)
            self._parts.append(part)
            if isinstance(event, TextStart) and event.refusal:
                self.refusals.add(event.index)
        elif isinstance(event, (TextEnd, ReasoningEnd, ToolCallEnd)):
            self._part(event.index).end = event
        elif isinstance(event, Citation):
            self._parts.append(event)
        elif isinstance(event, PartAdded):
            self._parts.append(event.part)
        elif isinstance(event, UsageReported):
            self._usage = event.usage
        elif isinstance(event, ResponseStarted):
            self._started = event
        elif isinstance(event, ResumePoint):
            pass  # nothing of the response
        elif isinstance(event, Finished):
            self._finished = event
            self._usage = event.usage or self._usage
        else:
            raise self._no_event(event)

    def _no_event(self, event: Never) -> ProtocolViolation:
        return self._violation(f"{type_name(event)} is no event")

    def _part(self, index: int) -> _OpenPart:
        try:
            return self._open[index]
        except KeyError:
            raise self._no_part(index) from None

    def _no_part(self, index: int) -> ProtocolViolation:
        return self._violation(f"no part has the index {index}")

    def _violation(self, message: str) -> ProtocolViolation:
        return ProtocolViolation(message, provider=self._provider, service=self._service)

    @property
    def finished(self) -> bool:
        """Whether `Finished` was added."""
        return self._finished is not None

    def response(self) -> ChatResponse:
        """Return the response so far. Before `Finished` its finish reason is `error`.

        Raises `ProtocolViolation` if a field of an event has a wrong type.
        """
        if self._response is not None:
            return self._response
        try:
            response = self._folded()
        except (TypeError, AttributeError, InvalidRequest) as error:
            raise self._violation(f"a field of an event has a wrong type: {error}") from None
        if self._finished is not None:
            self._response = response
        return response

    def _folded(self) -> ChatResponse:
        provider = self._started.provider or self._provider
        parts = tuple(part.part(provider) if isinstance(part, _OpenPart) else part for part in self._parts)
        parts = with_family(parts, self._started.family)
        finished = self._finished or Finished(reason=FinishReason.ERROR)
        warnings = response_warnings(parts, finished.reason) if self._finished is not None else ()
        return ChatResponse(
            parts=parts,
            finish_reason=finished.reason,
            raw_finish_reason=finished.raw_reason,
            usage=self._usage,
            warnings=(*self._started.warnings, *finished.warnings, *warnings),
            logprobs=tuple(self._logprobs),
            id=self._started.id,
            model=self._started.model,
            provider=provider,
            service=self._started.service or self._service,
            rate_limits=self._started.rate_limits,
            provider_metadata=finished.provider_metadata,
            raw=finished.raw,
        )


_JOINED_AT_ONCE = 1024
"""The number of deltas after which a part joins them into one string."""


class _OpenPart:
    __slots__ = ("_joined", "deltas", "end", "start")

    def __init__(self, start: TextStart | ReasoningStart | ToolCallStart) -> None:
        self.start = start
        self.deltas: list[str] = []
        self.end: TextEnd | ReasoningEnd | ToolCallEnd | None = None
        self._joined: list[str] = []

    def add(self, text: str) -> None:
        self.deltas.append(text)
        if len(self.deltas) == _JOINED_AT_ONCE:
            self.join()

    def join(self) -> None:
        # A short string takes about fifteen times the memory of its characters. Joining the deltas as they arrive keeps
        # the memory of a long response near the size of its text.
        self._joined.append("".join(self.deltas))
        self.deltas.clear()

    def _text(self) -> str:
        self.join()
        text = "".join(self._joined)
        self._joined = [text]
        return text

    def part(self, provider: str | None) -> Part:
        start, end, text = self.start, self.end, self._text()
        if isinstance(start, TextStart):
            metadata = end.provider_metadata if end is not None else {}
            return Text(text=text, refusal=start.refusal, provider_metadata=metadata)
        if isinstance(start, ToolCallStart):
            arguments, invalid = decode_arguments(text)
            metadata = end.provider_metadata if end is not None else {}
            return ToolCall(
                id=start.id, name=start.name, arguments=arguments, invalid_arguments=invalid, provider_metadata=metadata
            )
        if not isinstance(end, ReasoningEnd):
            return Reasoning(text=text, provider=provider)  # interrupted
        return Reasoning(
            text=text,
            provider=end.provider,
            signature=end.signature,
            encrypted=end.encrypted,
            redacted=end.redacted,
            provider_metadata=end.provider_metadata,
        )


def fold(events: Iterable[Event], provider: str | None = None) -> ChatResponse:
    """Return the response that the events of a complete stream make.

    Its parts, tool calls, finish reason and usage equal those of the same call without streaming. Raises
    `ProtocolViolation` if the events are out of order, end without `Finished` or have fields of a wrong type, and
    `InvalidRequest` for other values than events.
    """
    folded = Fold(provider)
    for position, event in enumerate(events):
        if not is_event(event):
            raise InvalidRequest(f"events[{position}] must be an event, not {type_name(event)}")
        folded.add(event)
    if not folded.finished:
        raise ProtocolViolation("the events end without Finished", provider=provider)
    return folded.response()


def unfold(response: ChatResponse) -> list[Event]:
    """Return the events of a stream that folds to `response`.

    Used when a provider answers a streamed request with a complete body, and to stream a response that was kept.
    """
    family = next(
        (part.family for part in response.parts if not isinstance(part, (Citation, ToolResult)) and part.family), None
    )
    folded = response_warnings(response.parts, response.finish_reason)  # which folding adds again
    events: list[Event] = [
        ResponseStarted(
            id=response.id,
            model=response.model,
            family=family,
            warnings=tuple(warning for warning in response.warnings if warning not in folded),
            provider=response.provider,
            service=response.service,
            rate_limits=response.rate_limits,
        )
    ]
    logprobs = response.logprobs  # of all texts together: the first one gets them
    for index, part in enumerate(response.parts):
        if isinstance(part, Text):
            events.append(TextStart(index=index, refusal=part.refusal))
            events.append(TextDelta(index=index, text=part.text, logprobs=logprobs))
            logprobs = ()
            events.append(TextEnd(index=index, provider_metadata=part.provider_metadata))
        elif isinstance(part, Reasoning):
            events.append(ReasoningStart(index=index))
            events.append(ReasoningDelta(index=index, text=part.text))
            events.append(
                ReasoningEnd(
                    index=index,
                    provider=part.provider,
                    signature=part.signature,
                    encrypted=part.encrypted,
                    redacted=part.redacted,
                    provider_metadata=part.provider_metadata,
                )
            )
        elif isinstance(part, ToolCall):
            events.append(ToolCallStart(index=index, id=part.id, name=part.name))
            events.append(ToolCallDelta(index=index, arguments=part.arguments_json))
            events.append(ToolCallEnd(index=index, provider_metadata=part.provider_metadata))
        elif isinstance(part, Citation):
            events.append(part)
        elif not isinstance(part, ToolResult):
            events.append(PartAdded(part=part))
    if response.usage is not None:
        events.append(UsageReported(usage=response.usage))
    events.append(
        Finished(
            reason=response.finish_reason,
            raw_reason=response.raw_finish_reason,
            usage=response.usage,
            provider_metadata=response.provider_metadata,
            raw=response.raw,
        )
    )
    return events
