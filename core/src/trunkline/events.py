"""The events of a streamed response, and `fold`, which makes of them the response that a plain call would give.

Every stream is `ResponseStarted`, then parts, then exactly one `Finished`. A part has a start, any number of deltas and
an end, told apart by `index`; parts may overlap, and stand in the response in the order of their starts. What comes
whole (`Citation`, `PartAdded`) has no start and no end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, Union, assert_never

import attrs

from trunkline.errors import ProtocolViolation
from trunkline.jsonvalue import JSONObject, JSONValue, ProviderOptions, loads_finite
from trunkline.messages import Audio, Citation, Document, Image, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob, Usage


@attrs.frozen(kw_only=True)
class ResponseStarted:
    """The provider began to answer. `warnings` are those of the request's translation."""

    id: str | None = None
    model: str | None = None
    warnings: tuple[CallWarning, ...] = ()


@attrs.frozen(kw_only=True)
class TextStart:
    """A text begins; `refusal` says that it declines to answer."""

    index: int
    refusal: bool = False


@attrs.frozen(kw_only=True)
class TextDelta:
    """More of a text, with the log probabilities of its tokens where they were asked for."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


_members: Any = TextDelta
_new, _set_index, _set_text, _set_logprobs = (
    object.__new__,
    _members.index.__set__,
    _members.text.__set__,
    _members.logprobs.__set__,
)


def text_delta(index: int, text: str) -> TextDelta:
    """A `TextDelta` without log probabilities, at half the cost of its constructor: for parsers, which make so many."""
    event = _new(TextDelta)
    _set_index(event, index)
    _set_text(event, text)
    _set_logprobs(event, ())
    return event


@attrs.frozen(kw_only=True)
class TextEnd:
    """A text is complete."""

    index: int
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class ReasoningStart:
    """Reasoning begins."""

    index: int


@attrs.frozen(kw_only=True)
class ReasoningDelta:
    """More of the reasoning's text."""

    index: int
    text: str


@attrs.frozen(kw_only=True)
class ReasoningEnd:
    """Reasoning is complete; the fields are those of `Reasoning`."""

    index: int
    provider: str | None = None
    signature: str | None = attrs.field(default=None, repr=False)
    encrypted: str | None = attrs.field(default=None, repr=False)
    redacted: bool = False
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class ToolCallStart:
    """The model begins to call a tool."""

    index: int
    id: str
    name: str


@attrs.frozen(kw_only=True)
class ToolCallDelta:
    """More of the arguments' JSON text."""

    index: int
    arguments: str


@attrs.frozen(kw_only=True)
class ToolCallEnd:
    """A tool call is complete; its arguments are the deltas, joined and decoded."""

    index: int
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class PartAdded:
    """A part that comes whole: sound, a picture, a hosted tool's block."""

    part: Audio | Image | Document | Opaque


@attrs.frozen(kw_only=True)
class UsageReported:
    """What has been used so far. The last report is the true one; `Finished` repeats it."""

    usage: Usage


@attrs.frozen(kw_only=True)
class Finished:
    """The response is complete. Always the last event, and never sent for a stream that was cut off."""

    reason: FinishReason
    raw_reason: str | None = None
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)
    raw: JSONValue = attrs.field(default=None, repr=False)


Event: TypeAlias = Union[
    ResponseStarted,
    TextStart,
    TextDelta,
    TextEnd,
    ReasoningStart,
    ReasoningDelta,
    ReasoningEnd,
    ToolCallStart,
    ToolCallDelta,
    ToolCallEnd,
    Citation,
    PartAdded,
    UsageReported,
    Finished,
]
"""The closed union of stream events."""


def decode_arguments(text: str) -> tuple[JSONObject, str | None]:
    """Decode a tool call's arguments: the object, or `{}` and the text as it came where that is not a JSON object.

    An empty text is an empty object, since several providers send that for a tool without parameters.
    """
    if not text.strip():
        return {}, None
    try:
        arguments = loads_finite(text)
    except (ValueError, RecursionError):
        return {}, text
    return (arguments, None) if isinstance(arguments, dict) else ({}, text)


def answer_warnings(parts: Sequence[Part], reason: FinishReason) -> tuple[CallWarning, ...]:
    """What an application should know of any provider's answer.

    Tool calls whose arguments are not a JSON object, and an output limit that left no room for an answer.
    """
    warnings = [
        CallWarning(
            kind="invalid_arguments",
            subject=f"tool call {part.name}",
            message="the model's arguments are not a JSON object; the text is in invalid_arguments",
        )
        for part in parts
        if isinstance(part, ToolCall) and part.invalid_arguments is not None
    ]
    if reason is FinishReason.LENGTH and not any(isinstance(part, (Text, ToolCall, Audio)) for part in parts):
        spent = "reasoning used up" if any(isinstance(part, Reasoning) for part in parts) else "nothing came within"
        warnings.append(
            CallWarning(kind="other", subject="max_output_tokens", message=f"{spent} the output limit; raise it")
        )
    return tuple(warnings)


class Fold:
    """Folds events one by one, so that a stream can tell what it holds at any moment."""

    __slots__ = ("_finished", "_logprobs", "_open", "_parts", "_provider", "_response", "_started", "_usage")

    def __init__(self, provider: str | None = None) -> None:
        self._provider = provider
        self._started = ResponseStarted()
        self._finished: Finished | None = None
        self._response: ChatResponse | None = None
        self._usage: Usage | None = None
        self._logprobs: list[TokenLogprob] = []
        # By arrival. An open part is its start event, its deltas and, at last, its end event.
        self._parts: list[Part | _OpenPart] = []
        self._open: dict[int, _OpenPart] = {}

    def add(self, event: Event) -> None:
        """Take one more event. Raises `ProtocolViolation` for one that cannot stand where it stands."""
        if type(event) is TextDelta and self._finished is None:  # nearly all there is
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

    def _add(self, event: Event) -> None:
        if self._finished is not None:
            raise ProtocolViolation(f"{type(event).__name__} after Finished", provider=self._provider)
        if isinstance(event, TextDelta):
            raise self._no_part(event.index)
        if isinstance(event, ReasoningDelta):
            self._part(event.index).add(event.text)
        elif isinstance(event, ToolCallDelta):
            self._part(event.index).add(event.arguments)
        elif isinstance(event, (TextStart, ReasoningStart, ToolCallStart)):
            if event.index in self._open:
                raise ProtocolViolation(f"two parts have the index {event.index}", provider=self._provider)
            part = self._open[event.index] = _OpenPart(event)
            self._parts.append(part)
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
        elif isinstance(event, Finished):
            self._finished = event
            self._usage = event.usage or self._usage
        else:
            assert_never(event)

    def _part(self, index: int) -> _OpenPart:
        try:
            return self._open[index]
        except KeyError:
            raise self._no_part(index) from None

    def _no_part(self, index: int) -> ProtocolViolation:
        return ProtocolViolation(f"no part has the index {index}", provider=self._provider)

    @property
    def finished(self) -> bool:
        """Whether `Finished` has come."""
        return self._finished is not None

    def response(self) -> ChatResponse:
        """What has arrived so far; before `Finished` its finish reason is `error`."""
        if self._response is not None:
            return self._response
        response = self._folded()
        if self._finished is not None:
            self._response = response
        return response

    def _folded(self) -> ChatResponse:
        parts = tuple(part.part() if isinstance(part, _OpenPart) else part for part in self._parts)
        finished = self._finished or Finished(reason=FinishReason.ERROR)
        told = answer_warnings(parts, finished.reason) if self._finished is not None else ()
        return ChatResponse(
            parts=parts,
            finish_reason=finished.reason,
            raw_finish_reason=finished.raw_reason,
            usage=self._usage,
            warnings=(*self._started.warnings, *finished.warnings, *told),
            logprobs=tuple(self._logprobs),
            id=self._started.id,
            model=self._started.model,
            provider=self._provider,
            provider_metadata=finished.provider_metadata,
            raw=finished.raw,
        )


_JOINED_AT_ONCE = 1024
"""How many deltas of a part are kept before they become one string."""


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
        # A short string takes fifteen times the memory of its letters, so they are joined as they come.
        self._joined.append("".join(self.deltas))
        self.deltas.clear()

    def _text(self) -> str:
        self.join()
        text = "".join(self._joined)
        self._joined = [text]
        return text

    def part(self) -> Part:
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
            return Reasoning(text=text)
        return Reasoning(
            text=text,
            provider=end.provider,
            signature=end.signature,
            encrypted=end.encrypted,
            redacted=end.redacted,
            provider_metadata=end.provider_metadata,
        )


def fold(events: Iterable[Event], provider: str | None = None) -> ChatResponse:
    """The response that the events of a whole stream make.

    It equals the response of the same call without streaming in parts, tool calls, finish reason and usage. Raises
    `ProtocolViolation` where the events are out of order, or where `Finished` is not among them.
    """
    folded = Fold(provider)
    for event in events:
        folded.add(event)
    if not folded.finished:
        raise ProtocolViolation("the events end without Finished", provider=provider)
    return folded.response()


def unfold(response: ChatResponse) -> list[Event]:
    """The events of a stream that would make `response`: for a provider that answers whole where a stream was due."""
    events: list[Event] = [ResponseStarted(id=response.id, model=response.model)]
    for index, part in enumerate(response.parts):
        if isinstance(part, Text):
            events.append(TextStart(index=index, refusal=part.refusal))
            events.append(TextDelta(index=index, text=part.text))
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
