"""`Stream`, one response as it arrives."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, NoReturn, TypeAlias, TypeVar

import anyio
import attrs

from trunkline._calls.deadline import CallDeadline
from trunkline._calls.event_reader import EventReader
from trunkline._calls.middleware import MiddlewareReader, run_through
from trunkline._calls.observed import ObservedCall, ServiceCall
from trunkline._calls.options import CallOptions
from trunkline._calls.pipeline import Pipeline
from trunkline._event_loops import running_loop
from trunkline._masking import without_keys
from trunkline.authoring.provider import call_variable
from trunkline.errors import (
    CallError,
    RemoteError,
    RequestTimeout,
    ServiceClosed,
    StreamClosed,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.events import Event, Finished, ResumePoint, TextDelta
from trunkline.fold import Fold
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse

T = TypeVar("T")
V = TypeVar("V")

EndCallback: TypeAlias = Callable[[ChatResponse, BaseException | None], None]
"""Called once when a stream has ended, with what has arrived and the error, or `None` if it was left or complete."""

# The life of a `PipelineStream`. Only the class below changes its state:
#
#         __aenter__             first event            Finished, or an error
#   new ─────────────> opening ─────────────> open ─────────────────────────> ended
#                         │                                                     ^
#                         └───────────────────── an error ──────────────────────┘
#
#   any of these ── aclose ──> closed
#
# One task reads. `aclose` may come from that task, when it leaves the block, or from another one, such as the task that
# closes the service. While the reading task awaits (in opening or open), the connection cannot be closed: neither HTTP
# library allows both at once. So `aclose` sets the state to closed, interrupts the await, and waits for `_awaited`. The
# reading task then finds the state closed and raises `StreamClosed` or `ServiceClosed`. `_interrupt` is the only way to
# end an await: it cancels the call's scope while opening, and the read afterwards. If bytes arrive before the interrupt
# takes effect, their events are delivered.
#
# Only a stream that has delivered `Finished` ends the loop that reads it. `_failure` is the reason why any other stream
# ended: the error of a read, or the cancellation of one. After a cancelled read the stream cannot go on: bytes may
# be lost between the connection and the reader. Every later read raises the reason again, as a new exception each time,
# so that a loop that reads on never takes a part of a response for the whole. `_failure` is a copy, since the exception
# that was raised refers to the frames that it passed through, and those to the stream.
CLOSING_LIMIT = 5.0
"""Seconds that closing waits at most for an await that it has interrupted, such as a read or a call."""

client_has_left: ContextVar[Callable[[], bool] | None] = ContextVar("trunkline.client_has_left", default=None)
"""Whether the client of the web server has disconnected, which `until_disconnect` sets for the call that it awaits."""

_StreamState: TypeAlias = Literal["new", "opening", "open", "ended", "closed"]


class Stream(ABC):
    """One response as it arrives. An async context manager and an async iterator of events.

    The last event is `Finished`. A stream that is cut off raises instead, and the error carries what had arrived in
    `partial`. Leaving the block, or `aclose`, closes the connection. One task at a time may read.

    A read that is cancelled, for example by a timeout around it, ends the stream: the next read raises
    `StreamInterrupted`. A stream that raised an error raises it again when it is read on.
    """

    __slots__ = ("__weakref__",)

    @property
    @abstractmethod
    def response(self) -> ChatResponse:
        """The whole response, once `Finished` has arrived. Raises `CallError` before that."""

    @property
    @abstractmethod
    def partial(self) -> ChatResponse:
        """What has arrived so far; before `Finished` its finish reason is `error`."""

    @property
    def text(self) -> AsyncIterator[str]:
        """The text as it arrives, without refusals: `async for text in stream.text`. Other events are skipped.

        Raises what reading the events raises. The response has the other parts, such as reasoning and tool calls.
        """
        return _TextDeltas(self)

    async def finish(self) -> ChatResponse:
        """Read the stream to its end and return the whole response. Raises what reading the events raises."""
        async for _ in self:
            pass
        return self.response

    @abstractmethod
    async def __aenter__(self) -> Stream: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> Stream:
        return self

    @abstractmethod
    async def __anext__(self) -> Event: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection, in whatever state the stream is. Closing it again does nothing.

        A task that is reading the stream gets a `StreamClosed`.
        """

    @property
    @abstractmethod
    def _is_new(self) -> bool:
        """Whether the stream was neither entered nor closed."""

    @property
    @abstractmethod
    def _refusals(self) -> Collection[int]:
        """The indexes of the text parts that are refusals, also of those whose start was read elsewhere."""

    @abstractmethod
    def _on_end(self, callback: EndCallback) -> None:
        """Call `callback` once when the stream has ended: with what has arrived, and the error if it failed."""

    @abstractmethod
    async def _run_locally(
        self, operation: str, value: V, proceed: Callable[[V], Awaitable[T]], result_class: type
    ) -> T:
        """Run what belongs to this call but sends nothing, such as a tool, through the middlewares of the service.

        They see `operation` and `value` in `Middleware.run`. Raises what `proceed` and the middlewares raise.
        """


class PipelineStream(Stream):
    """One response of one provider, read through the pipeline of its service."""

    __slots__ = (
        "_at_end",
        "_awaited",
        "_batch",
        "_call",
        "_closing",
        "_failure",
        "_fold",
        "_get_open_streams",
        "_interrupt",
        "_loop",
        "_open_service",
        "_open_streams",
        "_options",
        "_pipeline",
        "_position",
        "_provider",
        "_reader",
        "_request",
        "_service",
        "_service_is_closed",
        "_state",
        "_total_timeout",
    )

    def __init__(
        self,
        request: ChatRequest | ResumePoint,
        options: CallOptions,
        *,
        service: str,
        provider: str,
        total_timeout: float | None,
        open_streams: Callable[[], set[Stream]],
        open_service: Callable[[], Awaitable[Pipeline]],
        service_is_closed: Callable[[], bool],
    ) -> None:
        # What a stream needs of its service: to be closed with it in the running event loop (`open_streams`, which
        # raises `ServiceClosed`), to open it, and to ask whether it is closed.
        self._service = service
        self._get_open_streams = open_streams
        self._open_streams: set[Stream] = set()
        self._open_service = open_service
        self._service_is_closed = service_is_closed
        self._total_timeout = total_timeout
        self._options = options
        self._pipeline: Pipeline | None = None
        self._at_end: list[EndCallback] = []
        self._loop: object = None  # the event loop that the stream was opened in
        self._request = request
        self._state: _StreamState = "new"
        self._call: ObservedCall | ServiceCall | None = None
        self._reader: EventReader | MiddlewareReader | None = None
        self._batch: list[Event] = []
        self._position = 0
        self._provider = provider
        self._fold = Fold(provider, service)
        self._failure: TrunklineError | None = None
        self._interrupt: Callable[[], bool] | None = None
        self._awaited: anyio.Event | None = None  # `aclose` waits for it; set when the await has ended
        self._closing: anyio.Event | None = None  # set when the closing in progress has ended

    def __repr__(self) -> str:
        return f"<Stream of the service {without_keys(self._service)!r}>"

    @property
    def response(self) -> ChatResponse:
        if not self._fold.finished:
            raise CallError("the stream has not finished; read it to its end, or use 'partial'", service=self._service)
        return self._fold.response()

    @property
    def partial(self) -> ChatResponse:
        return self._fold.response()

    @property
    def _is_new(self) -> bool:
        return self._state == "new"

    @property
    def _refusals(self) -> Collection[int]:
        return self._fold.refusals

    def _on_end(self, callback: EndCallback) -> None:
        self._at_end.append(callback)

    def _notify_end(self, error: BaseException | None) -> None:
        if self._at_end:
            partial = self._fold.response()
            while self._at_end:
                self._at_end.pop(0)(partial, error)

    async def _run_locally(
        self, operation: str, value: V, proceed: Callable[[V], Awaitable[T]], result_class: type
    ) -> T:
        if self._pipeline is None:
            raise CallError("enter the stream first", service=self._service)
        call = ServiceCall(self._pipeline, operation, CallDeadline(None), self._options)
        return await run_through(call, value, proceed, object, result_class)

    @property
    def _is_closed(self) -> bool:
        return self._state == "closed"

    async def __aenter__(self) -> Stream:
        if self._state != "new":
            raise CallError("a stream can be entered only once; ask the service for another", service=self._service)
        self._open_streams = self._get_open_streams()
        self._loop = running_loop()
        self._state = "opening"
        self._open_streams.add(self)
        try:
            call = await self._open()
        except BaseException:
            if not self._is_closed:  # otherwise another task is closing it, and waits for this one
                await self.aclose()
            raise
        call.first_event()
        return self

    async def _open(self) -> ObservedCall | ServiceCall:
        """Send the request and wait for the first event, in one scope that `aclose` can cancel."""
        # Made here, since a cancel scope can be made only where an event loop runs, but a stream anywhere.
        deadline = CallDeadline(self._total_timeout, self._options.time_limit)

        def interrupt() -> bool:
            deadline.scope.cancel()
            return True

        self._interrupt = interrupt
        try:
            with deadline.scope, deadline:
                self._reader = await self._open_reader(deadline)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._interrupt = None
            self._await_ended()
        if self._reader is None or self._call is None:  # the scope was cancelled
            self._raise_interrupted(deadline.timeout_error)
        if self._state == "opening":  # otherwise `aclose` was called at the moment when it opened
            self._state = "open"
            self._interrupt = self._reader.cancel_read
        return self._call

    async def _open_reader(self, deadline: CallDeadline) -> EventReader | MiddlewareReader:
        self._pipeline = pipeline = await self._open_service()
        request = self._request
        resumed = isinstance(request, ResumePoint)
        whole = ServiceCall(pipeline, "resume_stream" if resumed else "stream", deadline, self._options)
        if pipeline.steps.middlewares and isinstance(request, ChatRequest):
            self._call = whole
            reader = MiddlewareReader(whole, request)
            await reader.open()
            return reader
        self._call = call = whole.observed_call(request)
        token = call_variable.set(call.call)
        try:
            if isinstance(request, ResumePoint):
                return await pipeline.resume(request, deadline, call.retried)
            translation = await pipeline.translate(request, deadline, stream=True)
            return await pipeline.stream(translation, deadline, call.retried)
        finally:
            call_variable.reset(token)

    async def __anext__(self) -> Event:
        position = self._position
        if position == len(self._batch):
            reader = self._reader
            if self._state != "open" or reader is None or reader.is_reading:
                self._refuse()
            batch: list[Event] | None = None
            failed: BaseException | None = None
            try:
                batch = await reader.next()
            except BaseException as error:
                failed = error if self._call is None else self._call.at_border(error)
                if isinstance(error, Exception):
                    failed = self._wrong_loop("read") or failed
                reader.complete(failed)
                self._fail(failed)
            finally:
                self._await_ended()
            if failed is not None:
                try:
                    raise failed
                finally:
                    del failed  # it refers to this frame
            if batch is None:
                self._raise_interrupted(reader.timeout_error)
            self._batch, position = batch, 0
        event = self._batch[position]
        self._position = position + 1
        try:
            self._fold.add(event)
        except TrunklineError as error:
            wrong = error if self._reader is None else self._reader.out_of_order(error)
        else:
            if type(event) is Finished:
                self._finish()
            return event
        self._fail(wrong)
        raise wrong

    def _finish(self) -> None:
        if self._state == "open":
            self._state = "ended"
        if self._call is not None and self._call.observed:
            self._call.finished(self._fold.response())
        self._notify_end(None)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, RemoteError) and error.partial is None:
            error.partial = self._partial(error)
        # Closing a stream is no failure of the call, whether the application does it or `until_disconnect`.
        if self._call is not None and (isinstance(error, StreamClosed) or _is_hang_up(error)):
            self._call.abandoned(self._fold.response())
        elif self._call is not None:
            self._call.failed(error)
        what = "opening this stream" if self._state == "opening" else "an earlier read of this stream"
        # Copied when no secret is left in it.
        self._failure = read_failure(error, what, service=self._service, provider=self._provider)
        self._batch, self._position = [], 0
        if not self._is_closed:
            self._state = "ended"
        self._notify_end(error)

    def _partial(self, error: RemoteError) -> ChatResponse:
        response = self._fold.response()
        if isinstance(error, StreamInterrupted) and error.raw_finish_reason is not None:
            response = attrs.evolve(response, raw_finish_reason=error.raw_finish_reason)
        return response

    def _raise_interrupted(self, timeout_error: Callable[[], RequestTimeout]) -> NoReturn:
        """Raise the error for an await that was interrupted, by `aclose` or because it took too long."""
        error: TrunklineError
        if self._is_closed:
            error = self._closed_error("before {} opened" if self._reader is None else "while {} was being read")
        else:
            error = timeout_error()
            error.service, error.provider = self._service, self._provider
            if self._reader is not None:
                self._reader.complete(error)
        self._fail(error)
        raise error

    def _refuse(self) -> NoReturn:
        """Raise the error for a read in a state in which there is nothing to read."""
        if self._fold.finished:
            raise StopAsyncIteration
        if self._failure is not None:
            error = copy.copy(self._failure)
            if isinstance(error, RemoteError) and error.partial is None:
                error.partial = self._partial(error)
            raise error
        if self._is_closed:
            raise self._closed_error("before {} was read to its end")
        if self._state != "open":
            raise CallError(
                "enter the stream before reading it: async with service.stream(…) as stream", service=self._service
            )
        raise CallError("another task is reading this stream; only one at a time may", service=self._service)

    def _closed_error(self, when: str) -> TrunklineError:
        service, partial = self._service, self._fold.response()
        if self._service_is_closed():
            message = f"service {service!r} was closed {when.format('a stream of it')}"
            return ServiceClosed(message, service=service, partial=partial)
        message = f"a stream of service {service!r} was closed {when.format('it')}"
        return StreamClosed(message, service=service, partial=partial)

    def _await_ended(self) -> None:
        if self._awaited is not None:
            self._awaited.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Observers hear of a cancellation as a failure of the call, wherever in the block it arrived, unless the client
        # of a web server has disconnected. Any other way to leave the block early is no failure.
        left = error is None or isinstance(error, (Exception, GeneratorExit)) or _is_hang_up(error)
        await self._close(None if left else error)

    async def aclose(self) -> None:
        await self._close(None)

    async def _close_reader(self, ended: BaseException | None) -> None:
        if self._interrupt is not None and self._interrupt():
            self._awaited = anyio.Event()
            with anyio.move_on_after(CLOSING_LIMIT):
                await self._awaited.wait()
        if self._reader is not None and not self._reader.is_reading:
            reader, self._reader = self._reader, None
            failed: BaseException | None = None
            try:
                await reader.aclose(ended)
            except BaseException as error:
                failed = error if self._call is None else self._call.at_border(error)
            if failed is not None:
                raise failed
        # Otherwise the read could not be interrupted. The connection is closed when the reading task leaves the block.

    def _wrong_loop(self, what: str) -> CallError | None:
        """Return an error if another event loop is running than the one that the stream was opened in."""
        if self._loop is None or self._loop is running_loop():
            return None
        return CallError(f"a stream can be {what} only in the event loop that opened it", service=self._service)

    async def _close(self, cancelled: BaseException | None) -> None:
        if self._is_closed and self._reader is None and self._closing is None:
            return
        if (wrong := self._wrong_loop("closed")) is not None:
            raise wrong
        with anyio.CancelScope(shield=True):
            if self._closing is not None:
                await self._closing.wait()
            if self._is_closed and self._reader is None:
                return
            self._state = "closed"
            self._batch, self._position = [], 0  # a closed stream delivers nothing more
            self._open_streams.discard(self)
            closing = self._closing = anyio.Event()
            try:
                await self._close_reader(self._failure or cancelled)
            finally:
                self._closing = None
                closing.set()
                self._notify_closed(cancelled)
                self._notify_end(cancelled)

    def _notify_closed(self, cancelled: BaseException | None) -> None:
        """Notify the observers that the stream was closed before its end."""
        call = self._call
        if call is None or self._reader is not None or self._fold.finished or self._failure is not None:
            return
        if cancelled is not None:
            call.failed(cancelled)
        elif self._service_is_closed():
            call.failed(self._closed_error("before {} was read to its end"))
        elif call.observed:
            call.abandoned(self._fold.response())


def _is_hang_up(error: BaseException) -> bool:
    """Return whether `until_disconnect` has cancelled the call, because the client of the web server disconnected."""
    if isinstance(error, (Exception, GeneratorExit, KeyboardInterrupt, SystemExit)):
        return False
    has_left = client_has_left.get()
    return has_left is not None and has_left()


def read_failure(error: BaseException, what: str, *, service: str, provider: str | None = None) -> TrunklineError:
    """Return the error that a later read raises after `error` has ended the stream, or cancelled what `what` names."""
    if isinstance(error, TrunklineError):
        return copy.copy(error)
    message = f"{what} was cancelled; a stream cannot be read on after that"
    return StreamInterrupted(message, provider=provider, service=service)


class _TextDeltas:
    """The text of a stream, as it arrives. No generator: one that is dropped halfway would need closing."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> _TextDeltas:
        return self

    async def __anext__(self) -> str:
        while True:
            event = await self._stream.__anext__()
            if type(event) is TextDelta and event.index not in self._stream._refusals:
                return event.text
