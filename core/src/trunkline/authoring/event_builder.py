"""Build the events of one response. For parsers.

A parser calls a method for everything that it finds in a frame (`text`, `reasoning`, `tool_call` …) and returns
`take()`. The builder adds what a valid stream needs around that (see `trunkline.events`):

- `ResponseStarted` comes first, and once, even if the wire format repeats the id and the model in each chunk.
- Successive pieces of text are one part, and so are successive pieces of reasoning. Anything else ends that part: text
  ends reasoning, a tool call ends both, and so on. So at most one of the two is open at any time.
- Tool calls may overlap, since some providers send the arguments of several calls in turn. A call starts once its name
  is known to be complete, which is when its first arguments arrive. Calls start in the order in which they were first
  mentioned, whatever the order of their arguments; only a call whose name comes late may start after later calls. All
  of them end when the response finishes. A call that never gets a name cannot be run: it becomes metadata of the
  response, with a warning, and the rest of the response is kept.
- `finish` ends everything that is open and adds `Finished`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from hashlib import sha256

from trunkline._json import JSONValue, ProviderOptions, json_text
from trunkline.errors import ProtocolViolation, ServerError
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
    __slots__ = ("arguments", "id", "index", "metadata", "name", "position")

    def __init__(self, position: int, call_id: str | None) -> None:
        self.position = position
        self.id = call_id
        self.name = ""
        self.arguments: list[str] = []
        self.index: int | None = None
        self.metadata: ProviderOptions = {}


class EventBuilder:
    """Builds the events of one response of `provider`. The methods add events; `take` returns and removes them."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events: list[Event] = []
        self._parts = 0  # the number of parts so far, which is also the next index
        self._text: int | None = None  # the index of the open text part
        self._reasoning: int | None = None  # the index of the open reasoning part
        self._signature: str | None = None
        self._metadata: dict[str, JSONValue] = {}  # of the response
        self._calls: list[_Call] = []  # in the order in which they were first mentioned
        self._by_key: dict[Hashable, _Call] = {}
        self._passed_calls = 0  # how many of the first `_calls` have started or wait for their name
        self._usage: Usage | None = None
        self._seed: str | None = None
        self.started: bool = False
        """Whether `start` has been called."""
        self.finished: bool = False
        """Whether `finish` has been called."""

    @property
    def has_calls(self) -> bool:
        """Whether the response calls a tool. A call whose name has not arrived does not count."""
        return any(call.name for call in self._calls)

    def take(self) -> list[Event]:
        """Return the events that were added since the last call."""
        events, self._events = self._events, []
        return events

    def start(self, response_id: str | None = None, model: str | None = None, *, seed: str | None = None) -> None:
        """Start the response. Further calls do nothing, so a parser may call it for each chunk.

        Tool calls without an id get one that is derived from `response_id`. If the wire format has no such id, `seed`
        is used instead: anything that differs between responses, such as a timestamp.
        """
        if not self.started:
            self.started = True
            self._seed = response_id or seed
            self._events.append(ResponseStarted(id=response_id, model=model))

    def text(
        self, text: str, *, logprobs: tuple[TokenLogprob, ...] = (), metadata: ProviderOptions | None = None
    ) -> None:
        """Add text. Empty text adds nothing, except for its `metadata` and, in an open text part, its `logprobs`.

        `metadata` becomes the `provider_metadata` of the part, and ends the part.
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

    def reasoning(self, text: str, *, signature: str | None = None, metadata: ProviderOptions | None = None) -> None:
        """Add reasoning. `signature` is what the provider needs to accept the reasoning back.

        `metadata` becomes the `provider_metadata` of the part. Passing `signature` or `metadata` ends the part.
        """
        if not text and signature is None and not metadata:
            return
        if self._reasoning is None:
            self._end_text()
            self._reasoning = self._next()
            self._events.append(ReasoningStart(index=self._reasoning))
        if text:
            self._events.append(ReasoningDelta(index=self._reasoning, text=text))
        if signature is not None or metadata:
            self._signature = signature
            self._end_reasoning(metadata)

    def tool_call(
        self,
        key: Hashable,
        *,
        call_id: str | None = None,
        name: str = "",
        arguments: JSONValue = "",
        metadata: ProviderOptions | None = None,
    ) -> None:
        """Start a tool call, or add to one. `key` identifies the call within the response, for example its index.

        `name` may come in pieces, until the first arguments. `arguments` is a piece of JSON text, or the complete
        arguments as a decoded value that is not a string. If `call_id` differs from the id of the call under `key`,
        this is another call: some servers use the same index for all calls. A call without an id gets one. `metadata`
        is merged into the `provider_metadata` of the call.
        """
        self._end_text()
        self._end_reasoning()
        call = self._by_key.get(key)
        if call is None or (call_id and call.id and call_id != call.id):
            call = self._by_key[key] = _Call(len(self._calls), call_id)
            self._calls.append(call)
        call.id = call.id or call_id
        if metadata:
            call.metadata = {
                **call.metadata,
                **{provider: {**call.metadata.get(provider, {}), **fields} for provider, fields in metadata.items()},
            }
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
        """Add a complete part."""
        if not isinstance(part, Citation):
            self._end_text()
            self._end_reasoning()
            self._parts += 1
            self._events.append(PartAdded(part=part))
        else:
            self._events.append(part)

    def usage(self, usage: Usage | None) -> None:
        """Report token counts; a later report replaces an earlier one. `None` and unchanged counts add nothing."""
        if usage is not None and (usage != self._usage or self._usage is None):
            self._usage = usage
            self._events.append(UsageReported(usage=usage))

    def metadata(self, fields: Mapping[str, JSONValue]) -> None:
        """Add fields to the response's `provider_metadata`, under the provider's name. A later value replaces."""
        self._metadata.update(fields)

    def finish(
        self,
        reason: FinishReason,
        *,
        raw_reason: str | None = None,
        warnings: tuple[CallWarning, ...] = (),
        raw: JSONValue = None,
    ) -> None:
        """Finish the response: end all open parts and add `Finished`.

        If the response calls tools and `reason` is `stop`, the reason becomes `tool_calls`, since servers differ in
        which of the two they send. A tool call without a name is kept in the response's `provider_metadata`, under
        `tool_calls`, and a warning is added.

        Raises `ServerError`, which can be retried, if the response has neither content nor a finish reason: servers
        that lose an error in the middle of a response end it in this way.
        """
        if not self._parts and not self._calls and not raw_reason:
            message = "the response has neither content nor a finish reason, and no error explains why"
            raise ServerError(message, provider=self._provider)
        self._end_text()
        self._end_reasoning()
        if self._calls:
            warnings = (*warnings, *self._end_calls())
            if reason is FinishReason.STOP and self.has_calls:
                reason = FinishReason.TOOL_CALLS
        self.finished = True
        self._events.append(
            Finished(
                reason=reason,
                raw_reason=raw_reason,
                usage=self._usage,
                warnings=warnings,
                provider_metadata={self._provider: self._metadata} if self._metadata else {},
                raw=raw,
            )
        )

    def _next(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _end_text(self, metadata: ProviderOptions | None = None) -> None:
        if self._text is not None:
            self._events.append(TextEnd(index=self._text, provider_metadata=metadata or {}))
            self._text = None

    def _end_reasoning(self, metadata: ProviderOptions | None = None) -> None:
        if self._reasoning is not None:
            self._events.append(
                ReasoningEnd(
                    index=self._reasoning,
                    provider=self._provider,
                    signature=self._signature,
                    provider_metadata=metadata or {},
                )
            )
            self._reasoning = self._signature = None

    def _start_calls(self, last: _Call) -> None:
        # Parts are ordered by their start events. So all calls that were mentioned before `last` have to start first,
        # even those whose arguments have not arrived. A call without a name is skipped until its name arrives.
        while self._passed_calls <= last.position:
            call = self._calls[self._passed_calls]
            self._passed_calls += 1
            if call.name:
                self._start_call(call)
        if last.index is None:
            self._start_call(last)

    def _start_call(self, call: _Call) -> None:
        call.index = self._next()
        call_id = call.id or self._make_id(call.position)
        self._events.append(ToolCallStart(index=call.index, id=call_id, name=call.name))
        # Arguments that were held back until now follow as one delta.
        if text := "".join(call.arguments):
            self._events.append(ToolCallDelta(index=call.index, arguments=text))

    def _end_calls(self) -> tuple[CallWarning, ...]:
        unnamed: list[JSONValue] = []
        for call in self._calls:
            if not call.name:
                unnamed.append({"id": call.id, "arguments": "".join(call.arguments)})
            elif call.index is None:
                self._start_call(call)
        for call in self._calls:
            if call.index is not None:
                self._events.append(ToolCallEnd(index=call.index, provider_metadata=call.metadata))
        if not unnamed:
            return ()
        self._metadata["tool_calls"] = unnamed
        return (unnamed_calls(len(unnamed)),)

    def _argument_text(self, arguments: JSONValue) -> str:
        if arguments is None or isinstance(arguments, str):
            return arguments or ""
        try:
            return json_text(arguments)
        except RecursionError:
            raise ProtocolViolation("a tool call's arguments are nested too deeply", provider=self._provider) from None

    def _make_id(self, position: int) -> str:
        # Deterministic, so that a response has the same ids whether it is streamed or not, and unique to the response.
        return "call_" + sha256(f"{self._seed}/{position}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def unnamed_calls(count: int) -> CallWarning:
    """The warning about tool calls without a name, for parsers that assemble the calls of a response themselves."""
    message = "the provider did not name the tool, so the call cannot be run; its arguments are in provider_metadata"
    return CallWarning(kind="other", subject="tool call", message=message, lossy=False, count=count)
