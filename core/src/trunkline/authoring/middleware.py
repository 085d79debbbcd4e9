"""`Middleware`, which wraps the calls of a service from the request to the response or its events.

A middleware may change the request and what comes back, answer without the provider, call it several times, or refuse
the call. An extension returns one from the hook `trunkline_middleware`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from trunkline.authoring.provider import Call
from trunkline.errors import ProtocolViolation
from trunkline.events import Event
from trunkline.fold import Fold, unfold
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse

EventStream: TypeAlias = AbstractAsyncContextManager[AsyncIterator[Event]]
"""A stream of events, which is open inside the block of the context manager."""

ChatProceed: TypeAlias = Callable[[ChatRequest], Awaitable[ChatResponse]]
"""The type of `proceed` in `Middleware.chat`."""

StreamProceed: TypeAlias = Callable[[ChatRequest], EventStream]
"""The type of `proceed` in `Middleware.stream`."""

RunProceed: TypeAlias = Callable[[object], Awaitable[object]]
"""The type of `proceed` in `Middleware.run`."""


class Middleware:
    """Wraps the calls of a service. Override the methods you need; the others pass everything through.

    `call` is the call; all that take part in it share `call.state`. `proceed` makes the rest of the call: what the next
    middleware does, and in the end the request to the provider with its retries. It may be called any number of times,
    one after another or at the same time, until the call has ended.

    The rules for all methods:

    - They may wait. The setting `total_timeout` includes that time.
    - A cancellation passes through. After one, nothing waits without a shield and a limit.
    - An exception that is not a `TrunklineError` becomes a `PluginError` that names the middleware's extension. To
      refuse a call with an error of your own, raise a subclass of `CallError`.
    """

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        """Make a call of `Service.chat`."""
        return await proceed(request)

    def stream(self, call: Call, request: ChatRequest, proceed: StreamProceed) -> EventStream:
        """Make a call of `Service.stream`, as an async context manager over the events.

        Entering `proceed(request)` sends the request and waits for the first content. Leaving it closes the connection,
        so leave it on every path: `async with proceed(request) as events`. The events are read to their end before the
        application gets `Finished`, so code after `async for` runs in time. If the stream fails or its block is
        cancelled, the exception is passed to the context manager.

        No task group and no cancel scope may be open at a `yield`, in the context manager or in an async generator of
        events: the two may be resumed in different tasks.
        """
        return proceed(request)

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        """Make a call of another operation, and return its result.

        `operation` is the name of the operation, and `value` is its argument:

        - `embed` takes an `EmbedRequest` and returns an `EmbedResponse`.
        - `count_tokens` takes a `ChatRequest` and returns an `int`.
        - `list_models` takes `None` and returns a tuple of `ModelInfo`.
        - An `Operation` given to `Service.run` takes and returns any value.
        """
        return await proceed(value)


class EventMiddleware(Middleware):
    """A middleware that needs only `stream`: a call of `Service.chat` passes through it as the events of its response.

    The response is that of the events, with its warnings and log probabilities.
    """

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        """Make a call of `Service.chat` by means of `stream`."""

        @asynccontextmanager
        async def whole(request: ChatRequest) -> AsyncIterator[AsyncIterator[Event]]:
            yield response_events(await proceed(request))

        folded = Fold(call.context.provider, call.context.name)
        problem = unfinished = "the events end without Finished"
        async with self.stream(call, request, whole) as events:
            async for event in events:
                try:
                    folded.add(event)
                except ProtocolViolation as violation:  # not the provider's: its response was whole
                    problem = violation.message
                    break
            else:
                problem = "" if folded.finished else unfinished
        if problem:
            raise ValueError(problem)
        return folded.response()


def response_events(response: ChatResponse | Iterable[Event]) -> AsyncIterator[Event]:
    """Return the events of a response, for a middleware that has a whole response instead of a stream.

    `response` may also be events that were kept. The iterator need not be closed.
    """
    return _Events(unfold(response) if isinstance(response, ChatResponse) else response)


class _Events:  # no generator: one that is dropped halfway would need closing
    def __init__(self, events: Iterable[Event]) -> None:
        self._events = iter(events)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for event in self._events:
            return event
        raise StopAsyncIteration
