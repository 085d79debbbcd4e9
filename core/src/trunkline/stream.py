"""`Stream`, one response as it arrives."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Literal, NoReturn, TypeAlias

import anyio

from trunkline._calls.event_reader import EventReader
from trunkline._calls.observed import ObservedCall
from trunkline._calls.pipeline import Pipeline
from trunkline.errors import CallError, RemoteError, RequestTimeout, ServiceClosed, TrunklineError
from trunkline.events import Event, Finished
from trunkline.fold import Fold
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse

# The life of a stream. Only the class below changes its state:
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
# reading task then finds the state closed and raises `ServiceClosed`. `_interrupt` is the only way to end an await: it
# cancels the call's scope while opening, and the read afterwards. If bytes arrive before the interrupt takes effect,
# their events are delivered.
_StreamState: TypeAlias = Literal["new", "opening", "open", "ended", "closed"]


class Stream:
    """One response as it arrives. An async context manager and an async iterator of events.

    The last event is `Finished`. A stream that is cut off raises instead, and the error carries what had arrived in
    `partial`. Leaving the block, or `aclose`, closes the connection. One task at a time may read.
    """

    __slots__ = (
        "__weakref__",
        "_awaited",
        "_batch",
        "_call",
        "_check_open",
        "_failed",
        "_fold",
        "_interrupt",
        "_open_service",
        "_open_streams",
        "_position",
        "_reader",
        "_request",
        "_service",
        "_state",
    )

    def __init__(
        self,
        request: ChatRequest,
        *,
        service: str,
        provider: str,
        open_service: Callable[[], Awaitable[Pipeline]],
        check_open: Callable[[], None],
        open_streams: set[Stream],
    ) -> None:
        # What a stream needs of its service: to open it, to ask whether it is closed, and to be closed with it.
        self._service = service
        self._open_service = open_service
        self._check_open = check_open
        self._open_streams = open_streams
        self._request = request
        self._state: _StreamState = "new"
        self._call: ObservedCall | None = None
        self._reader: EventReader | None = None
        self._batch: list[Event] = []
        self._position = 0
        self._fold = Fold(provider, service)
        self._failed = False
        self._interrupt: Callable[[], bool] | None = None
        self._awaited: anyio.Event | None = None  # `aclose` waits for it; set when the await has ended

    def __repr__(self) -> str:
        return f"<Stream of the service {self._service!r}>"

    @property
    def response(self) -> ChatResponse:
        """The whole response, once `Finished` has arrived. Raises `CallError` before that."""
        if not self._fold.finished:
            raise CallError("the stream has not finished; read it to its end, or use 'partial'", service=self._service)
        return self._fold.response()

    @property
    def partial(self) -> ChatResponse:
        """What has arrived so far; before `Finished` its finish reason is `error`."""
        return self._fold.response()

    @property
    def _is_closed(self) -> bool:
        return self._state == "closed"

    async def __aenter__(self) -> Stream:
        if self._state != "new":
            raise CallError("a stream can be entered only once; ask the service for another", service=self._service)
        self._state = "opening"
        pipeline = await self._open_service()
        if self._is_closed:
            raise CallError("the stream was closed before it opened", service=self._service)
        call = self._call = ObservedCall(pipeline, "stream", self._request)
        self._open_streams.add(self)
        try:
            await self._open(call, pipeline)
        except BaseException:
            await self.aclose()
            raise
        call.first_event()
        return self

    async def _open(self, call: ObservedCall, pipeline: Pipeline) -> None:
        """Send the request and wait for the first event, in one scope that `aclose` can cancel."""
        outer = sys.exception()
        deadline = call.deadline

        def interrupt() -> bool:
            deadline.scope.cancel()
            return True

        self._interrupt = interrupt
        try:
            with deadline.scope:
                translation = await pipeline.translate(self._request, stream=True)
                self._reader = await pipeline.stream(translation, deadline, call.retried)
        except BaseException as error:
            self._fail(error, outer)
            raise
        finally:
            self._interrupt = None
            self._await_ended()
        if self._reader is None:  # the scope was cancelled
            self._raise_interrupted(deadline.timeout_error)
        if self._state == "opening":  # otherwise `aclose` was called at the moment when it opened
            self._state = "open"
            self._interrupt = self._reader.cancel_read

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        position = self._position
        if position == len(self._batch):
            reader = self._reader
            if self._state != "open" or reader is None or reader.is_reading:
                self._refuse()
            outer = sys.exception()
            try:
                batch = await reader.next()
            except BaseException as error:
                self._fail(error, outer)
                raise
            finally:
                self._await_ended()
            if batch is None:
                self._raise_interrupted(reader.timeout_error)
            self._batch, position = batch, 0
        event = self._batch[position]
        self._position = position + 1
        self._fold.add(event)
        if type(event) is Finished:
            self._finish()
        return event

    def _finish(self) -> None:
        if self._state == "open":
            self._state = "ended"
        if self._call is not None and self._call.observed:
            self._call.finished(self._fold.response())

    def _fail(self, error: BaseException, outer: BaseException | None = None) -> None:
        self._failed = True
        if not self._is_closed:
            self._state = "ended"
        if isinstance(error, RemoteError) and error.partial is None:
            error.partial = self._fold.response()
        if self._call is not None:
            self._call.failed(error, outer)

    def _raise_interrupted(self, timeout_error: Callable[[], RequestTimeout]) -> NoReturn:
        """Raise the error for an await that was interrupted, by `aclose` or because it took too long."""
        error: TrunklineError
        if self._is_closed:
            message = f"a stream of service {self._service!r} was closed while it was being read"
            error = ServiceClosed(message, service=self._service, partial=self._fold.response())
        else:
            error = timeout_error()
        self._fail(error)
        raise error

    def _refuse(self) -> NoReturn:
        """Raise the error for a read in a state in which there is nothing to read."""
        if self._fold.finished or self._failed:
            raise StopAsyncIteration
        if self._is_closed:
            self._check_open()
            raise CallError("the stream is closed", service=self._service)
        if self._state != "open":
            raise CallError(
                "enter the stream before reading it: async with service.stream(…) as stream", service=self._service
            )
        raise CallError("another task is reading this stream; only one at a time may", service=self._service)

    def _await_ended(self) -> None:
        if self._awaited is not None:
            self._awaited.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, in whatever state the stream is. Closing it again does nothing."""
        if self._is_closed:
            return
        self._state = "closed"
        self._open_streams.discard(self)
        with anyio.CancelScope(shield=True):
            self._awaited = anyio.Event()
            if self._interrupt is not None and self._interrupt():
                await self._awaited.wait()
            reader, self._reader = self._reader, None
            if reader is not None:
                await reader.aclose()
        if not self._fold.finished and not self._failed and self._call is not None:
            self._call.failed(CallError("the stream was closed before its end"))
