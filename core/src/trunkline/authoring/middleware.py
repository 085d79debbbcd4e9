"""`Middleware`, which wraps the calls of a service from the request to the response or its events.

A middleware may change the request and the response, answer without the provider, call the provider several times, or
refuse the call. An extension returns one from the hook `trunkline_middleware`.
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
"""An async context manager over the events of a stream, which is open inside the block."""

ChatProceed: TypeAlias = Callable[[ChatRequest], Awaitable[ChatResponse]]
"""The type of `proceed` in `Middleware.chat`."""

StreamProceed: TypeAlias = Callable[[ChatRequest], EventStream]
"""The type of `proceed` in `Middleware.stream`."""

RunProceed: TypeAlias = Callable[[object], Awaitable[object]]
"""The type of `proceed` in `Middleware.run`."""


class Middleware:
    """Wraps the calls of a service. Override the methods you need; the others pass everything through.

    The middlewares, the observers and the provider of a call share `call.state`. `proceed` continues with the rest of
    the call: the next middleware, and in the end the request to the provider with its retries. You may call it any
    number of times, one after another or at the same time, until the call has ended.

    The rules for all methods:

    - They may wait. The setting `total_timeout` includes that time.
    - Do not suppress a cancellation. After one, wait only in a shielded cancel scope with a time limit.
    - An exception that is not a `TrunklineError` becomes a `PluginError` that names the middleware's extension. To
      refuse a call with an error of your own, raise a subclass of `CallError`.
    """

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        """Wrap a call of `Service.chat`."""
        return await proceed(request)

    def stream(self, call: Call, request: ChatRequest, proceed: StreamProceed) -> EventStream:
        """Wrap a call of `Service.stream`: return an async context manager over the events.

        Entering `proceed(request)` sends the request and waits for the first content. Leaving it closes the connection,
        so always use `async with proceed(request) as events`. Trunkline reads the events to their end before the
        application gets `Finished`, so code after `async for` runs before that. If the stream fails or its block is
        cancelled, your context manager gets the exception.

        No task group and no cancel scope may be open at a `yield`, neither in the context manager nor in an async
        generator of events, because each may be resumed in another task.
        """
        return proceed(request)

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        """Wrap a call of another operation, and return its result.

        `operation` is the name of the operation, and `value` is its argument:

        - `embed` takes an `EmbedRequest` and returns an `EmbedResponse`.
        - `count_tokens` takes a `ChatRequest` and returns an `int`.
        - `list_models` takes `None` and returns a tuple of `ModelInfo`.
        - `rerank`, `transcribe`, `generate_speech`, `generate_images` and `moderate` take and return the types of the
          methods of `Service` with these names.
        - An `Operation` given to `Service.run` takes and returns any value.
        """
        return await proceed(value)


class EventMiddleware(Middleware):
    """A middleware that overrides only `stream`. `Service.chat` passes the events of its response through `stream`.

    The response is made from the events that `stream` yields, and includes warnings and log probabilities.
    """

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        """Wrap a call of `Service.chat` with `stream`."""

        @asynccontextmanager
        async def whole(request: ChatRequest) -> AsyncIterator[AsyncIterator[Event]]:
            yield response_events(await proceed(request))

        folded = Fold(call.context.provider, call.context.name)
        problem = unfinished = "the events end without Finished"
        async with self.stream(call, request, whole) as events:
            async for event in events:
                try:
                    folded.add(event)
                except ProtocolViolation as violation:  # the middleware's mistake: the response was complete
                    problem = violation.message
                    break
            else:
                problem = "" if folded.finished else unfinished
        if problem:
            raise ValueError(problem)
        return folded.response()


def response_events(response: ChatResponse | Iterable[Event]) -> AsyncIterator[Event]:
    """Return the events of a response, for a middleware that has a whole response instead of a stream.

    `response` may also be a list of stored events. You need not close the iterator.
    """
    return _Events(unfold(response) if isinstance(response, ChatResponse) else response)


class _Events:  # not an async generator, which would need closing if it is not read to its end
    def __init__(self, events: Iterable[Event]) -> None:
        self._events = iter(events)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        for event in self._events:
            return event
        raise StopAsyncIteration
