"""One operation as telemetry sees it: a span and its measurements, from the start to exactly one end.

The life of an operation:

- It starts when the middleware gets the call, or when a stream is entered.
- The middleware *leaves* it when the call has ended, when a stream has been read to its end or raised, or when its
  block is left. Leaving it again does nothing.
- It ends at once if its result is known then. The reason of a cancellation is not: the application cancelled the call,
  `total_timeout` passed, or the service was closed. The core notifies the observers of a cancelled call to the provider
  when the whole call has ended, so the operation ends when the last such call has been *settled*.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry.context import Context, create_key, get_current, set_value
from opentelemetry.metrics import Histogram, MeterProvider, get_meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer, set_span_in_context
from trunkline import (
    Call,
    ChatRequest,
    ChatResponse,
    EmbedResponse,
    Message,
    ToolCall,
    ToolResult,
    TrunklineError,
    Usage,
)
from trunkline.authoring.provider import Hop

from trunkline_otel import __version__, conventions as names
from trunkline_otel.content import Content

Value: TypeAlias = str | bool | int | float | Sequence[str] | Sequence[int]
Attributes: TypeAlias = Mapping[str, Value]

_NO_SPAN = Context()

_CANCELLATIONS = ("CancelledError", "Cancelled", "GeneratorExit")
"""The names of the exceptions that cancel a call on asyncio and on trio, and that close a coroutine."""


class Instruments:
    """The tracer and the metrics. Providers that are `None` are the global ones, also if they are set later."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, *, chunk_times: bool
    ) -> None:
        meter = get_meter("trunkline-otel", __version__, meter_provider)

        def histogram(metric: names.Histogram) -> Histogram:
            return meter.create_histogram(
                metric.name,
                metric.unit,
                metric.description,
                explicit_bucket_boundaries_advisory=metric.buckets,
            )

        self.key = create_key("trunkline-otel-operation")
        """The key of the running `Operation` in a context of OpenTelemetry."""
        self.tracer = get_tracer("trunkline-otel", __version__, tracer_provider)
        self.token_usage = histogram(names.TOKEN_USAGE)
        self.duration = histogram(names.OPERATION_DURATION)
        self.first_chunk = histogram(names.FIRST_CHUNK)
        self.output_chunk = histogram(names.OUTPUT_CHUNK) if chunk_times else None
        self.agent_duration = histogram(names.AGENT_DURATION)
        self.tool_duration = histogram(names.TOOL_DURATION)


class TimedSpan:
    """A span with the same start, end and duration as a measurement in a histogram."""

    __slots__ = ("_duration", "_started", "_started_at", "context", "span")

    def __init__(
        self,
        instruments: Instruments,
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: Context | None = None,
    ) -> None:
        self._started = time.perf_counter()
        self._started_at = time.time_ns()
        self.span: Span = instruments.tracer.start_span(
            name, parent, kind=kind, attributes=dict(attributes), start_time=self._started_at
        )
        self.context = set_span_in_context(self.span, parent)
        self._duration: float | None = None

    @property
    def elapsed(self) -> float:
        """The seconds since the start."""
        return time.perf_counter() - self._started

    def stop(self) -> None:
        """Take the time of the end, if it was not taken yet."""
        if self._duration is None:
            self._duration = self.elapsed

    def end(self, histogram: Histogram, attributes: Attributes, error: str | None, text: str | None = None) -> None:
        """End the span, with the class of an `error` if there was one, and record its duration."""
        self.stop()
        duration = self._duration or 0.0
        if error is not None:
            attributes = {**attributes, names.ERROR_TYPE: error}
            self.span.set_attribute(names.ERROR_TYPE, error)
            self.span.set_status(Status(StatusCode.ERROR, text))
        # With the context of the span, so that an exemplar can refer to it.
        histogram.record(duration, attributes, self.context)
        self.span.end(self._started_at + int(duration * 1e9))


class Operation(TimedSpan):
    """A call of a service: `chat`, a stream, `embed` or another operation."""

    __slots__ = (
        "_abandoned",
        "_agent",
        "_chunk_attributes",
        "_content",
        "_ended",
        "_error",
        "_first_chunk",
        "_instruments",
        "_last_chunk",
        "_left",
        "_metric_attributes",
        "_open",
        "_retries",
    )

    def __init__(
        self,
        instruments: Instruments,
        name: str,
        attributes: Attributes,
        metric_attributes: Attributes,
        *,
        content: Content | None,
        parent: Context | None,
        agent: AgentSpan | None,
    ) -> None:
        super().__init__(instruments, name, attributes, kind=SpanKind.CLIENT, parent=parent)
        self.context = set_value(instruments.key, self, self.context)
        self._instruments = instruments
        self._content = content
        self._agent = agent
        self._metric_attributes = dict(metric_attributes)
        self._chunk_attributes: Attributes | None = None
        self._open: set[Call] = set()  # the calls to the provider that have started and are not settled
        self._retries = 0
        self._first_chunk: float | None = None
        self._last_chunk: float | None = None
        self._left = False
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None

    # What the observer notices of the calls to the provider

    def started(self, call: Call, request: object) -> None:
        """A call to the provider starts."""
        self._open.add(call)
        if self._content is not None and isinstance(request, ChatRequest) and self.span.is_recording():
            self.span.set_attributes(self._content.request(request))

    def retried(self, error: TrunklineError, delay: float) -> None:
        """An attempt failed, and another one follows."""
        self._retries += 1
        self.span.add_event(names.RETRY_EVENT, {names.ERROR_TYPE: error_type(error), names.RETRY_DELAY: delay})

    def first_event(self) -> None:
        """The first content of a stream has arrived."""
        if self._first_chunk is None:
            self._first_chunk = self.elapsed

    def settled(
        self, call: Call, result: object, error: BaseException | None = None, *, abandoned: bool = False
    ) -> None:
        """A call to the provider has ended: with a response, with an error, or because the stream was left."""
        self._open.discard(call)
        self._note_result(result, whole=error is None and not abandoned)
        # The extension `prices` has put it there.
        cost = getattr(call.state.get("trunkline-prices.cost"), "total", None)
        if cost is not None and not self._ended:
            self.span.set_attribute(names.COST, float(cost))
        if not self._left or self._ended:
            return
        if self._is_cancelled or self._abandoned:
            self._error, self._abandoned = error, abandoned
        if not self._open:
            self._end()

    # What the middleware notices

    def hopped(self, hop: Hop, error: TrunklineError) -> None:
        """A composed service makes this call because of the `error` of another one."""
        facts: dict[str, Value] = {
            names.HOP_SERVICE: hop.service,
            names.HOP_KIND: hop.kind,
            names.HOP_NUMBER: hop.number,
            names.ERROR_TYPE: error_type(error),
        }
        self.span.add_event(names.HOP_EVENT, facts)

    def responded(self, model: str | None) -> None:
        """A stream has started: `model` answers."""
        if model is not None:
            self._metric_attributes[names.RESPONSE_MODEL] = model

    def chunk(self) -> None:
        """A piece of the response has arrived in a stream."""
        histogram = self._instruments.output_chunk
        if histogram is None:
            return
        now = time.perf_counter()
        if self._last_chunk is None:
            self._chunk_attributes = dict(self._metric_attributes)
        else:
            # Without a span: looking for an exemplar would take a quarter of the time, for each chunk.
            histogram.record(now - self._last_chunk, self._chunk_attributes, _NO_SPAN)
        self._last_chunk = now

    def leave(self, error: BaseException | None = None, *, abandoned: bool = False) -> None:
        """The call has ended, or its stream was left."""
        if self._left:
            return
        self._left = True
        self.stop()
        self._error, self._abandoned = error, abandoned
        if not self._open or not (self._is_cancelled or abandoned):
            self._end()

    @property
    def _is_cancelled(self) -> bool:
        return self._error is not None and not isinstance(self._error, Exception)

    def _note_result(self, result: object, *, whole: bool) -> None:
        model, usage = getattr(result, "model", None), getattr(result, "usage", None)
        model = model if isinstance(model, str) else None
        self.responded(model)
        if isinstance(usage, Usage):
            self._record_usage(usage)
        if self._agent is not None and isinstance(result, ChatResponse):
            self._agent.add(result, whole=whole)
        if self._ended or not self.span.is_recording():
            return
        found: dict[str, Value] = {} if model is None else {names.RESPONSE_MODEL: model}
        if isinstance(usage, Usage):
            found |= _usage(usage, embeddings=isinstance(result, EmbedResponse))
        if isinstance(result, ChatResponse):
            if whole:  # otherwise the provider has given no reason
                found[names.FINISH_REASONS] = [str(result.finish_reason)]
            if result.id is not None:
                found[names.RESPONSE_ID] = result.id
            if self._content is not None and (whole or result.parts):
                found |= self._content.response(result)
        self.span.set_attributes(found)

    def _record_usage(self, usage: Usage) -> None:
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens is not None:
                attributes = {**self._metric_attributes, names.TOKEN_TYPE: kind}
                self._instruments.token_usage.record(tokens, attributes, self.context)

    def _end(self) -> None:
        self._ended = True
        attributes = self._metric_attributes
        if self._first_chunk is not None:
            self.span.set_attribute(names.TIME_TO_FIRST_CHUNK, self._first_chunk)
            self._instruments.first_chunk.record(self._first_chunk, attributes, self.context)
        if self._retries:
            self.span.set_attribute(names.RETRIES, self._retries)
        if self._abandoned:
            self.span.set_attribute(names.ABANDONED, True)
        error = self._error
        kind = None if error is None else error_type(error)
        text = self._content.error(error) if self._content is not None else None
        # The frames of its traceback hold the request. The span may be kept for long.
        self._error = None
        self.end(self._instruments.duration, attributes, kind, text)


def error_type(error: BaseException) -> str:
    """Return the class of an error as the attribute `error.type`: a name, or `cancelled`."""
    name = type(error).__name__
    return "cancelled" if name in _CANCELLATIONS else name


def _usage(usage: Usage, *, embeddings: bool) -> dict[str, int]:
    counts = {names.INPUT_TOKENS: usage.input_tokens}
    if not embeddings:
        counts |= {
            names.OUTPUT_TOKENS: usage.output_tokens,
            names.CACHE_READ_TOKENS: usage.cache_read_tokens,
            names.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
            names.REASONING_TOKENS: usage.reasoning_tokens,
        }
    return {name: count for name, count in counts.items() if count is not None}


class AgentSpan(TimedSpan):
    """A group of calls, such as one run of tools: the parent of their spans, and of those of the tools."""

    __slots__ = ("_attributes", "_counts", "_finish_reason", "_instruments", "label", "name")

    def __init__(self, instruments: Instruments, name: str | None, model: str | None, label: str | None) -> None:
        self.name = name
        self.label = label
        self._instruments = instruments
        self._attributes: dict[str, Value] = {} if name is None else {names.AGENT_NAME: name}
        if model:
            self._attributes[names.REQUEST_MODEL] = model
        self._counts: dict[str, int] = {}
        self._finish_reason: str | None = None
        title = f"{names.INVOKE_AGENT} {name}" if name else names.INVOKE_AGENT
        attributes = {names.OPERATION: names.INVOKE_AGENT, **self._attributes}
        if label is not None:
            attributes[names.LABEL] = label
        super().__init__(instruments, title, attributes, parent=get_current())

    def around(self, context: Context) -> Context:
        """Return a context whose current span is this one."""
        return set_span_in_context(self.span, context)

    def add(self, response: ChatResponse, *, whole: bool) -> None:
        """Add the tokens of a response, or of the part of one that arrived, to those of the group."""
        self._finish_reason = str(response.finish_reason) if whole else None
        for name, count in _usage(response.usage or Usage(), embeddings=False).items():
            if name != names.REASONING_TOKENS:  # the conventions have no such attribute for agents
                self._counts[name] = self._counts.get(name, 0) + count

    def ended(self, error: BaseException | None) -> None:
        """The group has ended."""
        self.span.set_attributes(self._counts)
        if self._finish_reason is not None:
            self.span.set_attribute(names.FINISH_REASONS, [self._finish_reason])
        self.end(self._instruments.agent_duration, self._attributes, None if error is None else error_type(error))


class ToolSpan(TimedSpan):
    """One run of a tool."""

    __slots__ = ("_attributes", "_content", "_instruments")

    def __init__(
        self, instruments: Instruments, call: ToolCall, agent: AgentSpan | None, *, content: Content | None
    ) -> None:
        self._instruments = instruments
        self._content = content
        self._attributes: dict[str, Value] = {names.TOOL_NAME: call.name, names.TOOL_TYPE: names.FUNCTION}
        if agent is not None and agent.name is not None:
            self._attributes[names.AGENT_NAME] = agent.name
        attributes = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL_CALL_ID: call.id, **self._attributes}
        if agent is not None and agent.label is not None:
            attributes[names.LABEL] = agent.label
        if content is not None:
            attributes |= content.arguments(call)
        current = get_current()
        parent = current if agent is None else agent.around(current)
        super().__init__(instruments, f"{names.EXECUTE_TOOL} {call.name}", attributes, parent=parent)

    def returned(self, result: object) -> None:
        """The tool has returned a result, which may tell the model about a failure."""
        if self._content is not None:
            self.span.set_attributes(self._content.result(result))
        self._end(names.TOOL_ERROR if _is_error(result) else None)

    def failed(self, error: BaseException) -> None:
        """The tool has raised an exception."""
        self._end(error_type(error), self._content.error(error) if self._content is not None else None)

    def _end(self, error: str | None, text: str | None = None) -> None:
        self.end(self._instruments.tool_duration, self._attributes, error, text)


def _is_error(result: object) -> bool:
    parts = result.parts if isinstance(result, Message) else (result,)
    return any(isinstance(part, ToolResult) and part.is_error for part in parts)
