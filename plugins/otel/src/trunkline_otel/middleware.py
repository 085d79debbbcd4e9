"""The middleware, in which the span of a call is the current one.

The span is attached around each await of what is inside: the whole call, and entering, reading and leaving a stream.
It is never attached while the application's code runs between the reads. A context that is attached across a `yield`
would leak to the application, and could not be detached in another task.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TypeVar

from opentelemetry.context import attach, detach
from trunkline import (
    Call,
    ChatRequest,
    ChatResponse,
    Event,
    Finished,
    Middleware,
    ReasoningDelta,
    ResponseStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)
from trunkline.authoring.middleware import ChatProceed, EventStream, RunProceed, StreamProceed

from trunkline_otel.conventions import EXECUTE_TOOL
from trunkline_otel.operation import Operation
from trunkline_otel.tracer import Tracer

T = TypeVar("T")
V = TypeVar("V")

_CHUNKS = frozenset((TextDelta, ReasoningDelta, ToolCallDelta))


class TracingMiddleware(Middleware):
    """Makes a span of each call, and makes it the current one while the call waits."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        """Trace a call whose response is not streamed."""
        return await self._traced(call, request, proceed)

    def stream(self, call: Call, request: ChatRequest, proceed: StreamProceed) -> EventStream:
        """Trace a call whose response is streamed."""
        return _TracedStream(self._tracer, call, request, proceed)

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        """Trace another operation, or a tool that runs here."""
        if isinstance(value, ToolCall) and operation == EXECUTE_TOOL:
            return await self._run_tool(call, value, proceed)
        return await self._traced(call, value, proceed)

    async def _traced(self, call: Call, value: V, proceed: Callable[[V], Awaitable[T]]) -> T:
        operation = self._tracer.operation(call, value)
        token = attach(operation.context)
        try:
            result = await proceed(value)
        except BaseException as error:
            operation.leave(error)
            raise
        finally:
            detach(token)
        operation.leave()
        return result

    async def _run_tool(self, call: Call, tool_call: ToolCall, proceed: RunProceed) -> object:
        tool_span = self._tracer.tool_span(call, tool_call)
        token = attach(tool_span.context)
        try:
            result = await proceed(tool_call)
        except BaseException as error:
            tool_span.failed(error)
            raise
        finally:
            detach(token)
        tool_span.returned(result)
        return result


class _TracedStream:
    # No generator: it would attach the context across its `yield`.
    def __init__(self, tracer: Tracer, call: Call, request: ChatRequest, proceed: StreamProceed) -> None:
        self._tracer = tracer
        self._call = call
        self._request = request
        self._stream = proceed(request)
        self._operation: Operation | None = None
        self._events: _TracedEvents | None = None

    async def __aenter__(self) -> AsyncIterator[Event]:
        operation = self._operation = self._tracer.operation(self._call, self._request)
        token = attach(operation.context)
        try:
            events = await self._stream.__aenter__()
        except BaseException as error:
            operation.leave(error)
            raise
        finally:
            detach(token)
        self._events = _TracedEvents(operation, events)
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        operation, events = self._operation, self._events
        if operation is None or events is None:
            return None
        token = attach(operation.context)
        try:
            return await self._stream.__aexit__(kind, error, traceback)
        finally:
            detach(token)
            # An exception of the application is no error of the call: it left the stream early.
            cancelled = None if isinstance(error, (Exception, GeneratorExit)) else error
            operation.leave(cancelled, abandoned=cancelled is None and not events.finished)


class _TracedEvents:
    __slots__ = ("_events", "_operation", "finished")

    def __init__(self, operation: Operation, events: AsyncIterator[Event]) -> None:
        self._operation = operation
        self._events = events
        self.finished = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        operation = self._operation
        token = attach(operation.context)
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            operation.leave()
            raise
        except BaseException as error:
            operation.leave(error)
            raise
        finally:
            detach(token)
        kind = type(event)
        if kind in _CHUNKS:
            operation.chunk()
        elif isinstance(event, ResponseStarted):
            operation.responded(event.model)
        elif kind is Finished:
            self.finished = True
        return event
