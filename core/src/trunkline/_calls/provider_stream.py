"""The stream that the innermost middleware gets: one call to the provider, with its observers."""

from __future__ import annotations

from types import TracebackType

import anyio

from trunkline._calls.event_reader import EventReader
from trunkline._calls.observed import ObservedCall, ServiceCall
from trunkline.authoring.provider import call_variable
from trunkline.errors import CallError, RemoteError, TrunklineError
from trunkline.events import Event, Finished
from trunkline.fold import Fold
from trunkline.request import ChatRequest

CLOSING_LIMIT = 5.0
"""Seconds that closing the connection may take while the call is being cancelled."""

ENTERED_TWICE = "a stream can be entered only once; call proceed for another"


class ProviderStream:
    """The events of one streamed call to the provider, inside the block of an async context manager.

    Entering it sends the request and waits for the first content. Its reads are within a read of the outermost stream,
    which limits them by `total_timeout` and which `Stream.aclose` interrupts; only the other timeouts apply here.
    """

    __slots__ = ("_batch", "_call", "_fold", "_has_ended", "_observed", "_position", "_reader", "_request")

    def __init__(self, call: ServiceCall, request: ChatRequest) -> None:
        self._call = call
        self._request = request
        self._reader: EventReader | None = None
        self._observed: ObservedCall | None = None
        context = call.call.context
        self._fold = Fold(context.provider, context.name)
        self._batch: list[Event] = []
        self._position = 0
        self._has_ended = False  # finished, failed or left; the observers have been or will be notified

    async def __aenter__(self) -> ProviderStream:
        if self._observed is not None:
            raise CallError(ENTERED_TWICE)
        self._observed = observed = self._call.observed_call(self._request)
        token = call_variable.set(observed.call)
        try:
            self._reader = await self._open(observed)
        except BaseException as error:
            self._fail(error)
            self._call.deadline.resume()  # a middleware may go on
            raise
        finally:
            call_variable.reset(token)
        self._call.open_streams.append(self)
        observed.first_event()
        return self

    async def _open(self, observed: ObservedCall) -> EventReader:
        pipeline, deadline = self._call.pipeline, self._call.deadline
        # A middleware may begin to call the provider when its first event is read.
        if not deadline.active:
            deadline = deadline.within_read()
        translation = await pipeline.translate(self._request, deadline, stream=True)
        reader = await pipeline.stream(translation, deadline, observed.retried)
        reader.count_no_time()
        return reader

    def __aiter__(self) -> ProviderStream:
        return self

    async def __anext__(self) -> Event:
        if self._position == len(self._batch):
            await self._read()
        event = self._batch[self._position]
        self._position += 1
        try:
            self._fold.add(event)
        except TrunklineError as error:  # the provider sent the events in an impossible order
            if self._reader is not None:
                self._reader.complete(error)
            self._fail(error)
            raise
        if type(event) is Finished:
            self._has_ended = True
            if self._observed is not None and self._observed.observed:
                self._observed.finished(self._fold.response())
        return event

    async def _read(self) -> None:
        """Read the next batch of events, or raise `StopAsyncIteration` at the end."""
        if self._fold.finished:
            raise StopAsyncIteration
        reader = self._reader
        if reader is None or self._has_ended:
            raise CallError("a stream can be read only inside the block of its `async with`, and not after an error")
        if reader.is_reading:
            raise CallError("another task is reading this stream; only one at a time may")
        failed: BaseException
        try:
            batch = await reader.next()
        except BaseException as error:
            failed = self._call.at_border(error)
        else:
            if self._reader is None:
                failed = CallError("another task left the block of this stream while it was being read")
            elif batch is not None:
                self._batch, self._position = batch, 0
                return
            else:
                failed = reader.timeout_error()
        if self._reader is None:  # another task left the block: it notified the observers, and left the closing to us
            await self._close(reader)
        else:
            reader.complete(failed)
            self._fail(failed)
        raise failed

    def _fail(self, error: BaseException) -> None:
        """Notify the observers of an error, or of a cancellation when its reason is known."""
        self._has_ended = True
        observed = self._observed
        assert observed is not None
        if isinstance(error, RemoteError) and error.partial is None:
            error.partial = self._fold.response()
        if isinstance(error, Exception):
            observed.failed(error)
        else:
            self._call.settle_later(self._settle)

    def _settle(self, error: BaseException | None) -> None:
        assert self._observed is not None
        if error is None:
            self._observed.abandoned(self._fold.response())
        else:
            self._observed.failed(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        reader, self._reader = self._reader, None
        if reader is None:
            return
        self._call.open_streams.remove(self)
        if not self._has_ended:
            self._has_ended = True
            if self._call.is_closing or not isinstance(error, (Exception, GeneratorExit, type(None))):
                self._call.settle_later(self._settle)
            else:
                self._settle(None)
        if not reader.cancel_read():  # otherwise the task that is reading closes the connection
            await self._close(reader)

    async def _close(self, reader: EventReader) -> None:
        failed: BaseException | None = None
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSING_LIMIT):
            try:
                await reader.aclose()
            except BaseException as error:
                failed = self._call.at_border(error)
        if failed is not None:
            raise failed
