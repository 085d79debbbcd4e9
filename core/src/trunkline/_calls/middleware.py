"""Calls through the middlewares of a service.

The middlewares are nested: the first one is the outermost. Each is behind a border, as the steps of a provider are:
what it raises names its extension, and what it passes on or returns has the right type. A middleware that does not
override a method is left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

import anyio
import attrs

from trunkline._calls.observed import ServiceCall
from trunkline._calls.provider_stream import CLOSING_LIMIT, ENTERED_TWICE, ProviderStream
from trunkline._calls.read_timeout import TimedReader
from trunkline._plugins.hook_results import OwnedMiddleware
from trunkline.authoring.middleware import EventStream, Middleware
from trunkline.authoring.results import check_result
from trunkline.batches import Batch
from trunkline.errors import CallError, PluginError, ProtocolViolation, RemoteError, RequestTimeout, TrunklineError
from trunkline.events import Event, Finished, is_event
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, ModelInfo

T = TypeVar("T")
V = TypeVar("V")


async def chat_through(
    call: ServiceCall, request: ChatRequest, send: Callable[[ChatRequest], Awaitable[ChatResponse]]
) -> ChatResponse:
    """Make a call of `Service.chat` through the middlewares; `send` makes it without them."""
    for owned in _overriding(call, "chat"):
        send = _guarded(_Border(call, owned, "chat"), (call.call,), send, ChatRequest, ChatResponse)
    return _named(call, await send(request))


async def run_through(
    call: ServiceCall,
    value: V,
    send: Callable[[V], Awaitable[T]],
    value_class: type = object,
    result_class: type = object,
) -> T:
    """Make a call of another operation through the middlewares; `send` makes it without them.

    The classes are those of the operation's value and result.
    """
    for owned in _overriding(call, "run"):
        arguments = (call.call, call.call.operation)
        send = _guarded(_Border(call, owned, "run"), arguments, send, value_class, result_class)
    return await send(value)


async def perform_through(call: ServiceCall, value: V, send: Callable[[V], Awaitable[T]], result_class: type[T]) -> T:
    """Make a call of an operation of the provider through the middlewares; `send` makes it without them."""
    return _named(call, await run_through(call, value, send, type(value), result_class))


def _named(call: ServiceCall, response: T) -> T:
    """Return a response with the names of the service and the provider, which one made by a middleware may lack."""
    context = call.call.context
    names = {"provider": context.provider, "service": context.name}
    missing = {name: value for name, value in names.items() if getattr(response, name, "") is None}
    return attrs.evolve(cast(Any, response), **missing) if missing else response


def _overriding(call: ServiceCall, method: str) -> Sequence[OwnedMiddleware]:
    """Return the middlewares that override a method, the innermost first."""
    default = getattr(Middleware, method)
    found = call.pipeline.steps.middlewares
    # A method may also be set on the instance, such as a mock in a test.
    methods = [(owned, getattr(owned.middleware, method)) for owned in reversed(found)]
    return [owned for owned, function in methods if getattr(function, "__func__", None) is not default]


@attrs.frozen
class _Border:
    """The border between the core and one method of one middleware."""

    call: ServiceCall
    owned: OwnedMiddleware
    method: str

    def crossed(self, error: BaseException) -> BaseException:
        """Return the exception to raise for one that the middleware raised."""
        return self.call.pipeline.at_border(error, "middlewares", owner=self.owned.owner)

    def error(self, problem: str) -> TrunklineError:
        """Return the error for a mistake of the middleware."""
        error = self.crossed(TypeError(f"{type(self.owned.middleware).__name__}.{self.method} {problem}"))
        return cast(PluginError, error)

    def check(self, value: object, wanted: type, what: str) -> None:
        """Raise `PluginError` if the middleware passes on or returns a value of a wrong type."""
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise self.error(f"{what} {_described(value)}, not a value of type {wanted.__name__}")

    def check_result(self, request: object, response: object) -> None:
        """Raise `PluginError` if the response of the middleware does not fit the request that it was given."""
        try:
            return check_result(request, response)
        except (ProtocolViolation, TypeError) as error:
            failed = self.error(f"returned a wrong result: {error}")
        raise failed


def _described(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _guarded(
    border: _Border,
    arguments: tuple[object, ...],
    inner: Callable[[V], Awaitable[T]],
    value_class: type,
    result_class: type,
) -> Callable[[V], Awaitable[T]]:
    """Return a function that calls one method of a middleware around `inner`.

    `arguments` are those before the value.
    """

    async def proceed(value: V) -> T:
        border.check(value, value_class, "calls proceed with")
        return await inner(value)

    async def guarded(value: V) -> T:
        try:
            result = await getattr(border.owned.middleware, border.method)(*arguments, value, proceed)
        except BaseException as error:
            failed = border.crossed(error)
        else:
            border.check(result, result_class, "returned")
            if result_class is tuple:
                kind = Batch if border.call.call.operation == "list_batches" else ModelInfo
                for item in cast("tuple[object, ...]", result):
                    border.check(item, kind, "returned a tuple with")
            border.check_result(value, result)
            return cast(T, result)
        raise failed

    return guarded


class _GuardedStream:
    """The stream of one middleware."""

    __slots__ = ("_border", "_entered", "_inner", "_request", "_was_entered")

    def __init__(self, border: _Border, inner: Callable[[ChatRequest], EventStream], request: ChatRequest) -> None:
        self._border = border
        self._inner = inner
        self._request = request
        self._entered: EventStream | None = None
        self._was_entered = False

    def _proceed(self, request: ChatRequest) -> EventStream:
        self._border.check(request, ChatRequest, "calls proceed with")
        return self._inner(request)

    async def __aenter__(self) -> AsyncIterator[Event]:
        if self._was_entered:
            raise CallError(ENTERED_TWICE)
        self._was_entered = True
        border = self._border
        try:
            stream = border.owned.middleware.stream(border.call.call, self._request, self._proceed)
            if not hasattr(stream, "__aexit__"):
                if isinstance(stream, Coroutine):
                    stream.close()  # otherwise Python warns that it was never awaited
                raise border.error(
                    f"returned {_described(stream)}, not an async context manager; "
                    "decorate it with @contextlib.asynccontextmanager"
                )
            events = await stream.__aenter__()
            self._entered = stream
            if not hasattr(events, "__aiter__"):
                raise border.error(f"yielded {_described(events)}, not an async iterator of events")
            return _GuardedEvents(border, events.__aiter__())
        except BaseException as error:
            failed = border.crossed(error)
        if self._entered is not None:
            await self.__aexit__(type(failed), failed, None)
        raise failed

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        stream, self._entered = self._entered, None
        if stream is None:
            return None
        try:
            return await stream.__aexit__(kind, error, traceback)
        except BaseException as raised:
            if raised is error:
                return False
            failed = self._border.crossed(raised)
        raise failed


class _GuardedEvents:
    """The events of one middleware: events, of which the last is `Finished`."""

    __slots__ = ("_border", "_events", "_finished")

    def __init__(self, border: _Border, events: AsyncIterator[Event]) -> None:
        self._border = border
        self._events = events
        self._finished = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            if self._finished:
                raise
            failed: BaseException = self._border.error("ended the events without Finished")
        except BaseException as error:
            failed = self._border.crossed(error)
            if isinstance(failed, RemoteError):
                failed.partial = None  # of events that the middleware may have changed
        else:
            if is_event(event) and not self._finished:
                self._finished = type(event) is Finished
                return event
            failed = self._border.error(
                f"gave {_described(event)} after Finished" if self._finished else f"gave {_described(event)}, no event"
            )
        raise failed


class MiddlewareReader(TimedReader):
    """The events of the outermost middleware, read for a `Stream` as an `EventReader` reads those of a response.

    The time limit of a read is around everything that the middlewares do in it, so `total_timeout` and `Stream.aclose`
    end that too.
    """

    __slots__ = ("_call", "_events", "_owners", "_stream")

    def __init__(self, call: ServiceCall, request: ChatRequest) -> None:
        self._call = call
        stream: Callable[[ChatRequest], EventStream] = partial(ProviderStream, call)
        overriding = _overriding(call, "stream")
        self._owners = ", ".join(owned.owner for owned in reversed(overriding))
        for owned in overriding:
            stream = partial(_GuardedStream, _Border(call, owned, "stream"), stream)
        self._stream = stream(request)
        super().__init__(call.pipeline.read_timeouts)

    async def open(self) -> None:
        """Enter the stream, which normally sends the request and waits for the first content."""
        try:
            self._events = await self._stream.__aenter__()
        except BaseException:
            self._read_timeouts.release(self._read_timeout)
            self._call.is_closing = True
            await self._close_opened()
            raise

    def timeout_error(self) -> RequestTimeout:
        """Return the error for a read that took too long."""
        return self._call.deadline.timeout_error()

    async def next(self) -> list[Event] | None:
        """Return the next event, in a list. Returns `None` if the read was ended; raises what a middleware raises.

        Before `Finished` is returned, the events are read to their end: what a middleware does after the last event
        belongs to the call.
        """
        read_timeout, deadline = self._read_timeout, self._call.deadline
        deadline.read_started = started = read_timeout.extend(max(deadline.left, 0))
        try:
            with read_timeout:
                event = await self._events.__anext__()
                if type(event) is Finished:
                    async for _ in self._events:  # there are no more: raises if there are
                        pass
        finally:
            deadline.left -= read_timeout.time() - started
            deadline.read_started = None
        return None if read_timeout.ended else [event]

    def complete(self, error: BaseException) -> None:
        """Do nothing: the stream of the provider has completed its errors."""

    def out_of_order(self, violation: TrunklineError) -> TrunklineError:
        """Return the error to raise if the events have an impossible order. Those of the provider were checked."""
        failed = self._call.pipeline.at_border(TypeError(str(violation)), "middlewares", owner=self._owners)
        return cast(PluginError, failed)

    async def aclose(self, error: BaseException | None = None) -> None:
        """Leave the streams of the middlewares, because the application left or because of an `error`."""
        self._read_timeouts.release(self._read_timeout)
        self._call.is_closing = True
        try:
            with anyio.move_on_after(CLOSING_LIMIT):
                if error is None:
                    await self._stream.__aexit__(None, None, None)
                else:  # with its traceback, which a context manager sets again
                    await self._stream.__aexit__(type(error), error, error.__traceback__)
        except BaseException as raised:
            if raised is not error:
                raise
        finally:
            await self._close_opened()

    async def _close_opened(self) -> None:
        """Close what a middleware has left open, for example in a generator that was dropped."""
        async with AsyncExitStack() as stack:  # closes the others if closing one fails
            for opened in self._call.open_streams:
                stack.push_async_exit(opened)
