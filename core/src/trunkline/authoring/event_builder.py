"""The events of one answer, built from what a wire tells piece by piece. For parsers that need no way of their own.

A parser says what came (`text`, `reasoning`, `tool_call` …) and takes the events; starts, ends, indexes and the one
`Finished` at the end are kept here. Pieces of text that follow one another are one part, and so are those of reasoning;
whatever else comes ends it.
"""

from __future__ import annotations

from collections.abc import Hashable
from hashlib import sha256

from trunkline._json import JSONValue, ProviderOptions, json_text
from trunkline.errors import ProtocolViolation
from trunkline.events import (
    Event,
    Finished,
    PartAdded,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    ResponseStarted,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    UsageReported,
)
from trunkline.messages import Audio, Citation, Document, Image, Opaque
from trunkline.response import CallWarning, FinishReason, TokenLogprob, Usage


class _Call:
    __slots__ = ("arguments", "id", "index", "metadata", "name")

    def __init__(self, call_id: str | None) -> None:
        self.id = call_id
        self.name = ""
        self.arguments: list[str] = []
        self.index: int | None = None
        self.metadata: ProviderOptions = {}


class EventBuilder:
    """Builds the events of one answer of `provider`. Methods add events; `take` gives those that were added since."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events: list[Event] = []
        self._parts = 0
        self._text: int | None = None
        self._reasoning: int | None = None
        self._signature: str | None = None
        self._calls: list[_Call] = []
        self._by_key: dict[Hashable, _Call] = {}
        self._begun = 0  # how many of the calls have started
        self._usage: Usage | None = None
        self._seed: str | None = None
        self.started: bool = False
        """Whether `start` has been called."""
        self.finished: bool = False
        """Whether `finish` has been called."""

    @property
    def has_calls(self) -> bool:
        """Whether the answer calls a tool."""
        return bool(self._calls)

    @property
    def is_empty(self) -> bool:
        """Whether no part has begun."""
        return not self._parts and not self._calls

    def take(self) -> list[Event]:
        """The events since the last time."""
        events, self._events = self._events, []
        return events

    def start(self, response_id: str | None = None, model: str | None = None, *, seed: str | None = None) -> None:
        """The answer begins. Told again, as by wires that repeat it in each chunk, it is passed over.

        The ids of tool calls that have none are made from the answer's id; where the wire has no such id, `seed` is
        what tells this answer from others (a time, say).
        """
        if not self.started:
            self.started = True
            self._seed = response_id or seed
            self._events.append(ResponseStarted(id=response_id, model=model))

    def text(
        self, text: str, *, logprobs: tuple[TokenLogprob, ...] = (), metadata: ProviderOptions | None = None
    ) -> None:
        """More text. An empty one adds nothing, unless it has `metadata`; that is the part's, and ends it.

        `logprobs` may come with an empty text once text has begun.
        """
        if not text and not metadata and (not logprobs or self._text is None):
            return
        if self._text is None:
            self._end_reasoning()
            self._text = self._next()
            self._events.append(TextStart(index=self._text))
        if text or logprobs:
            self._events.append(TextDelta(index=self._text, text=text, logprobs=logprobs))
        if metadata:
            self._end_text(metadata)

    def reasoning(self, text: str, *, signature: str | None = None) -> None:
        """More reasoning. A `signature` is what the provider needs to accept it back; it ends the part."""
        if not text and signature is None:
            return
        if self._reasoning is None:
            self._end_text()
            self._reasoning = self._next()
            self._events.append(ReasoningStart(index=self._reasoning))
        if text:
            self._events.append(ReasoningDelta(index=self._reasoning, text=text))
        if signature is not None:
            self._signature = signature
            self._end_reasoning()

    def tool_call(
        self,
        key: Hashable,
        *,
        call_id: str | None = None,
        name: str = "",
        arguments: JSONValue = "",
        metadata: ProviderOptions | None = None,
    ) -> None:
        """A tool call, or more of one: `key` tells the calls of an answer apart (their index on the wire, say).

        The name may come in pieces, up to the first arguments. `arguments` are a piece of JSON text, or, as anything
        but a string, the whole of them, decoded. An id other than that of the call under `key` begins another call, so
        that two are never fused. A call without an id gets one.
        """
        self._end_text()
        self._end_reasoning()
        call = self._by_key.get(key)
        if call is None or (call_id and call.id and call_id != call.id):
            call = self._by_key[key] = _Call(call_id)
            self._calls.append(call)
        call.id = call.id or call_id
        if metadata:
            call.metadata = metadata
        if name and call.index is None and name != call.name:
            call.name += name
        text = self._argument_text(arguments)
        if not text:
            return
        call.arguments.append(text)
        if call.index is not None:
            self._events.append(ToolCallDelta(index=call.index, arguments=text))
        elif call.name:
            self._start_calls(call)

    def add(self, part: Audio | Image | Document | Opaque | Citation) -> None:
        """A part that comes whole."""
        if not isinstance(part, Citation):
            self._end_text()
            self._end_reasoning()
            self._parts += 1
            self._events.append(PartAdded(part=part))
        else:
            self._events.append(part)

    def usage(self, usage: Usage | None) -> None:
        """What has been used so far; the last report is the true one. `None` and a repetition add nothing."""
        if usage is not None and (usage != self._usage or self._usage is None):
            self._usage = usage
            self._events.append(UsageReported(usage=usage))

    def finish(
        self,
        reason: FinishReason,
        *,
        raw_reason: str | None = None,
        warnings: tuple[CallWarning, ...] = (),
        raw: JSONValue = None,
    ) -> None:
        """The answer is complete: what is open ends, and `Finished` follows.

        An answer that calls tools and stopped gives `tool_calls`, whatever the wire says. Raises `ProtocolViolation`
        for a call without a name.
        """
        self._end_text()
        self._end_reasoning()
        if self._calls:
            self._start_calls(self._calls[-1])
            for call in self._calls:
                assert call.index is not None
                self._events.append(ToolCallEnd(index=call.index, provider_metadata=call.metadata))
            if reason is FinishReason.STOP:
                reason = FinishReason.TOOL_CALLS
        self.finished = True
        self._events.append(
            Finished(reason=reason, raw_reason=raw_reason, usage=self._usage, warnings=warnings, raw=raw)
        )

    def _next(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _end_text(self, metadata: ProviderOptions | None = None) -> None:
        if self._text is not None:
            self._events.append(TextEnd(index=self._text, provider_metadata=metadata or {}))
            self._text = None

    def _end_reasoning(self) -> None:
        if self._reasoning is not None:
            end = ReasoningEnd(index=self._reasoning, provider=self._provider, signature=self._signature)
            self._events.append(end)
            self._reasoning = self._signature = None

    def _start_calls(self, last: _Call) -> None:
        # Parts stand in the order of their starts: calls that came earlier start earlier.
        while self._begun < len(self._calls):
            call = self._calls[self._begun]
            if not call.name:
                raise ProtocolViolation("the answer calls a tool without a name", provider=self._provider)
            call.index = self._next()
            call_id = call.id or self._make_id(self._begun)
            self._begun += 1
            self._events.append(ToolCallStart(index=call.index, id=call_id, name=call.name))
            if text := "".join(call.arguments):
                self._events.append(ToolCallDelta(index=call.index, arguments=text))
            if call is last:
                return

    def _argument_text(self, arguments: JSONValue) -> str:
        if arguments is None or isinstance(arguments, str):
            return arguments or ""
        try:
            return json_text(arguments)
        except RecursionError:
            raise ProtocolViolation("a tool call's arguments are nested too deep", provider=self._provider) from None

    def _make_id(self, position: int) -> str:
        # The same for an answer however it is read, and another for each answer.
        return "call_" + sha256(f"{self._seed}/{position}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
