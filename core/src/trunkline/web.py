"""Helpers for web servers, which stream a model's answer to their own clients."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import anyio
import attrs

from trunkline._event_loops import start_task
from trunkline.errors import CallError, StreamClosed, StreamInterrupted, TrunklineError
from trunkline.response import ChatResponse
from trunkline.stream import Stream, client_has_left

T = TypeVar("T")

ASGIReceive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
"""The ASGI callable `receive` of one request: `request.receive` in Starlette, FastAPI and Litestar."""

_READ_AHEAD = 64
"""How many events `heartbeats` reads before the application asks for them."""

_TASK = "trunkline.heartbeats"


@attrs.frozen
class Heartbeat:
    """Says that a stream is open, but that nothing has arrived for a while. `heartbeats` gives them between events."""


def heartbeats(
    stream: AbstractAsyncContextManager[AsyncIterable[T]] | AsyncIterable[T],
    seconds: float,
    *,
    receive: ASGIReceive | None = None,
) -> AbstractAsyncContextManager[AsyncIterator[T | Heartbeat], None]:
    """Read a stream, with a `Heartbeat` whenever nothing has arrived for this many seconds.

    `async with trunkline.heartbeats(service.stream(…), 15) as events: async for event in events: …`. A web server
    sends a comment for each heartbeat, so that nothing between it and its client closes a connection that seems idle.

    A stream that has not been entered is entered for you; heartbeats then also come while the stream opens, and an
    error from opening it is raised by the first read. A stream that has been entered is read on from where it is. Other
    asynchronous context managers and iterators of events work in the same way.

    An error of the stream is raised by the read that reaches it, and by every later read. If your code stops waiting
    for the next event, by a timeout for example, the stream is still being read, and the next read returns what has
    arrived. Leaving the block ends the reading and closes the stream. Up to 64 events wait for your code.

    `receive` is the ASGI callable of the request, whose body has been read. With it, the stream is closed at once when
    the client disconnects, and the next read raises `StreamClosed`. Without it, a web framework may drop the generator
    that reads the stream, and the stream is closed only when the garbage collector finds the generator.

    Raises `ValueError` if `seconds` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, not {seconds!r}")
    return _Heartbeats(stream, seconds, receive)


# A background task enters the stream, reads it and leaves it. The application's task only takes events from a queue, so
# a wait that it gives up cancels no read. The background task is a plain task on asyncio and a system task on trio: a
# task group would stay open while the application's code runs, and when that code is an asynchronous generator, the
# block may be left in another task, where neither a task group nor a cancel scope can be closed.
class _Heartbeats(Generic[T]):
    def __init__(
        self,
        stream: AbstractAsyncContextManager[AsyncIterable[T]] | AsyncIterable[T],
        seconds: float,
        receive: ASGIReceive | None,
    ) -> None:
        self._stream: Any = stream
        self._seconds = seconds
        self._receive = receive
        self._task: object = None  # asyncio keeps only a weak reference to its tasks
        self._scope: anyio.CancelScope | None = None
        self._ended: anyio.Event | None = None
        self._arrived: deque[T] = deque()
        self._complete = False
        self._error: Exception | None = None
        self._closed = False
        self._due: float | None = None  # the time of the next heartbeat; it stays when the application stops waiting
        self._news: anyio.Event | None = None  # set while a read of the application waits
        self._room: anyio.Event | None = None  # set while the background task waits, because the queue is full

    async def __aenter__(self) -> Self:
        if self._scope is not None:
            raise CallError("heartbeats can be entered only once; call 'heartbeats' again")
        self._scope, self._ended = anyio.CancelScope(), anyio.Event()
        self._task = start_task(self._run(self._scope, self._ended), _TASK)
        return self

    async def _run(self, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        try:
            with scope:
                if self._receive is None:
                    await self._read()
                elif await until_disconnect(self._read(), receive=self._receive) is None and not self._complete:
                    self._arrived.clear()  # nobody receives the events that wait
                    partial = self._partial()
                    self._error = StreamClosed(
                        "the stream was closed, because the client has disconnected",
                        service=partial.service if partial is not None else None,
                        partial=partial,
                    )
        except Exception as error:
            self._error = error
        finally:
            ended.set()
            self._wake()

    async def _read(self) -> bool:
        async with _entered(self._stream) as events:
            async for event in events:
                self._arrived.append(event)
                self._wake()
                if len(self._arrived) >= _READ_AHEAD:
                    self._room = anyio.Event()
                    await self._room.wait()
                    self._room = None
            self._complete = True
        return True

    def _partial(self) -> ChatResponse | None:
        return self._stream.partial if isinstance(self._stream, Stream) else None

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T | Heartbeat:
        if self._news is not None:
            raise CallError("another task is reading these heartbeats; only one at a time may")
        if not self._arrived:
            ended = self._check_open()
            if not ended.is_set():
                await self._wait()
        if self._arrived:
            self._due = None
            event = self._arrived.popleft()
            if self._room is not None:
                self._room.set()
            return event
        if self._check_open().is_set():
            self._raise_end()
        self._due = None
        return Heartbeat()

    async def _wait(self) -> None:
        """Wait until something has arrived, the stream has ended, or the next heartbeat is due."""
        if self._due is None:
            self._due = anyio.current_time() + self._seconds
        self._news = anyio.Event()
        try:
            with anyio.CancelScope(deadline=self._due):
                await self._news.wait()
        finally:
            self._news = None

    def _check_open(self) -> anyio.Event:
        if self._closed:
            raise CallError("the stream is closed: the block of 'heartbeats' has been left")
        if self._ended is None:
            raise CallError("enter the heartbeats before reading them: async with heartbeats(…) as events")
        return self._ended

    def _raise_end(self) -> None:
        if self._error is None and self._complete:
            raise StopAsyncIteration
        if self._error is None:
            # Other code has cancelled the background task. asyncio.run does so with all tasks when it ends.
            partial = self._partial()
            self._error = StreamInterrupted(
                "the task that reads the stream was cancelled",
                service=partial.service if partial is not None else None,
                provider=partial.provider if partial is not None else None,
                partial=partial,
            )
        error = self._error
        if isinstance(error, TrunklineError):
            with suppress(Exception):  # the class of a plugin may need other arguments
                error = copy.copy(error)  # otherwise each read would add its frames to one traceback
        try:
            raise error
        finally:
            del error  # the traceback refers to this frame

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._arrived.clear()
        self._wake()
        if self._scope is not None and self._ended is not None:
            with anyio.CancelScope(shield=True):
                # Unless the application is cancelled, the stream is closed first, which interrupts a read: observers
                # then hear that the stream was abandoned. The scope ends what closing does not interrupt, such as the
                # opening of the service.
                try:
                    if isinstance(self._stream, Stream) and (
                        error is None or isinstance(error, (Exception, GeneratorExit))
                    ):
                        await self._stream.aclose()
                finally:
                    self._scope.cancel()
                    await self._ended.wait()


def _entered(stream: Any) -> AbstractAsyncContextManager[AsyncIterable[Any]]:
    """Return the context manager in which to read a stream. Leaving it closes the stream."""
    if isinstance(stream, Stream):
        return stream if stream._is_new else aclosing(stream)
    if isinstance(stream, AbstractAsyncContextManager):
        return stream
    return aclosing(stream) if hasattr(stream, "aclose") else nullcontext(stream)


async def until_disconnect(call: Awaitable[T], *, receive: ASGIReceive) -> T | None:
    """Await a call, and cancel it if the client of the web server disconnects. Then the result is `None`.

    `response = await trunkline.until_disconnect(service.chat(…), receive=request.receive)`. `receive` is the ASGI
    callable of the request. Without this helper, most web frameworks go on with a handler whose client has gone.

    Observers hear of a cancelled call as failed. If the call reads a stream, they hear that the stream was abandoned.

    Read the request's body first, or let the framework do so: the call waits for the message that follows the body.
    Raises `CallError` if another message comes, such as a part of the body or a message of a websocket.
    """
    result: T | None = None
    failure: Exception | None = None
    left = False
    outer = client_has_left.get()
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal failure, left
            try:
                await _disconnected(receive)
                left = True
            except Exception as error:
                failure = error
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        client_has_left.set(lambda: left or (outer is not None and outer()))
        try:
            result = await call
        except Exception as error:
            failure = error
        finally:
            client_has_left.set(outer)
        tasks.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure  # here, since the task group would wrap it in an exception group
        finally:
            del failure  # the traceback refers to this frame
    return result


async def _disconnected(receive: ASGIReceive) -> None:
    """Wait for the message that the client has disconnected."""
    while (message := await receive())["type"] != "http.disconnect":
        if message["type"] != "http.request":
            raise CallError(f"receive gave the message {message['type']!r}; pass the receive of an HTTP request")
        # A request without a body has one message with an empty body, which nobody misses.
        if message.get("body") or message.get("more_body"):
            raise CallError("receive gave a part of the request's body; read the body before the call")
