"""A transport for APIs that answer a request with a job, whose result is fetched later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from types import TracebackType

import anyio
import attrs
from anyio import sleep

from trunkline.authoring.http_errors import retry_after
from trunkline.authoring.provider import ByteStream, SendOptions, ServiceContext, Transport
from trunkline.authoring.structure import check_structure
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import CallError, ChunkTimeout, FirstChunkTimeout, ProtocolViolation
from trunkline.secrets import Headers
from trunkline.settings import Settings

CANCEL_LIMIT = 3.0
"""The time limit for the request that cancels a job, in seconds. It is less than closing a stream may take."""

_log = logging.getLogger("trunkline")


class JobState(Enum):
    """What the response to a status request says about a job."""

    RUNNING = "running"
    """The job waits or runs. The transport asks for its state again."""
    DONE = "done"
    """The result is ready. If there is no function `result`, the response to the status request is the result."""
    FAILED = "failed"
    """The job has ended without a result, for example because somebody else cancelled it. The provider's parser gets
    the response to the status request, and creates the error."""


@attrs.frozen(kw_only=True)
class Job:
    """A job that was submitted: the request as it was sent, with its credentials, and the response to it."""

    request: WireRequest
    response: WireResponse


def _is_not_get(wire_request: WireRequest) -> bool:
    return wire_request.method != "GET"


@attrs.frozen(kw_only=True)
class _Steps:
    """The functions that the author of a plugin gives to a `PollingTransport`, and the interval."""

    status: Callable[[Job], WireRequest | None]
    state: Callable[[WireResponse], JobState]
    result: Callable[[Job, WireResponse], WireRequest] | None
    cancel: Callable[[Job], WireRequest] | None
    interval: float


class PollingTransport:
    """A `Transport` for APIs that answer a request with a job: it asks for the job's state until the result is there.

    Return one from the function `transport` of a `Provider`. The translator makes the request that submits the job, and
    the parser reads the result, as if the API had answered directly. All the functions are pure:

    - `submits(wire_request)` says whether a request submits a job. By default, every request does unless it is a GET.
      Other requests, such as one for a list of models, are sent as usual.
    - `status(job)` returns the request for the job's state, or `None` if the response to the first request is already
      the result. The transport reads the whole body of that response first, so `submits` must return false for a
      request whose response is a stream.
    - `state(wire_response)` reads the state from the response to the status request, as a `JobState`.
    - `result(job, wire_response)` returns the request for the result, given the response to the last status request.
      Without `result`, that response is the result.
    - `cancel(job)` returns the request that cancels the job. It is sent if the call ends before the result has been
      read: after a cancellation, a timeout or an error, or when a stream is left early. This delays the end of the call
      by up to 3 s. If cancelling fails, a warning is logged. A job cannot be cancelled before the response to the
      request that submitted it has arrived.

    Each further request is signed with the credentials of the first one (`SendOptions.sign`), and must go to the same
    server. `interval` is the number of seconds to wait before each status request; a `Retry-After` in the previous
    response can only make the wait longer.

    The timeouts of the service apply: the headers of the result must arrive within `first_chunk_timeout` (plus
    `connect_timeout`) from the start. If the status of any response is not 2xx, the parser gets that response and
    creates the error. If the core then retries, it submits a new job, and the old one is cancelled.

    `context` is the service's context. `inner` sends the requests; by default, it is the service's own HTTP transport.
    """

    # The life of a job, which is one `_Exchange`:
    #
    # 1. Entering sends the first request. If its status is 2xx, its body is read and gives the `Job`.
    # 2. From then on, `_job` is set: if the exchange ends early for any reason, the job is cancelled.
    # 3. It sleeps and asks for the state, until the job has ended. All of this happens in one cancel scope, which is
    #    left before the block is entered: no scope may stay open while the caller's code runs.
    # 4. If the response to a status request contains the result or an error, the job has ended, and `_job` is cleared.
    #    While a result is fetched and read, `_job` stays set, since an API may stream the result while the job runs.
    # 5. Leaving closes the response. If the block is left with an exception, the core has not read all of it, and the
    #    job is cancelled.

    def __init__(
        self,
        context: ServiceContext[Settings],
        *,
        status: Callable[[Job], WireRequest | None],
        state: Callable[[WireResponse], JobState],
        result: Callable[[Job, WireResponse], WireRequest] | None = None,
        cancel: Callable[[Job], WireRequest] | None = None,
        submits: Callable[[WireRequest], bool] = _is_not_get,
        interval: float = 1.0,
        inner: Transport | None = None,
    ) -> None:
        self._context = context
        self._steps = _Steps(status=status, state=state, result=result, cancel=cancel, interval=interval)
        self._submits = submits
        self._inner = inner

    async def __aenter__(self) -> PollingTransport:
        if self._inner is not None:  # otherwise, the service opens and closes its transport
            await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> bool | None:
        return None if self._inner is None else await self._inner.__aexit__(*exc_info)

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        """Send a request. If it submits a job, entering waits for the result."""
        transport = self._inner or self._context.transport
        if transport is None:
            raise CallError("the context has no transport, since it does not belong to an open service")
        if not self._submits(wire_request):
            return transport.send(wire_request, options)
        return _Exchange(self._steps, self._context, transport, wire_request, options)


class _Exchange:
    """A request that submits a job, and the job's result as the response to it."""

    def __init__(
        self,
        steps: _Steps,
        context: ServiceContext[Settings],
        transport: Transport,
        wire_request: WireRequest,
        options: SendOptions,
    ) -> None:
        self._steps = steps
        self._context = context
        self._transport = transport
        self._request = wire_request
        self._options = options
        self._job: Job | None = None
        self._open: AbstractAsyncContextManager[ByteStream] | None = None

    async def __aenter__(self) -> ByteStream:
        options = self._options
        limit = None if options.headers is None else options.headers + (options.connect or 0)
        try:
            with anyio.move_on_after(limit):
                return await self._wait()
            raise FirstChunkTimeout(f"the job had no result within first_chunk_timeout ({options.headers:g} s)")
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._close(kind, error, traceback)
        finally:
            job, self._job = self._job, None
            if kind is not None and job is not None:
                await self._cancel(job)

    async def _wait(self) -> ByteStream:
        """Submit the job, wait for its end and return the response with the result, or with an error."""
        steps = self._steps
        response = await self._send(self._request, self._options)
        if not _is_success(response):
            return response
        job = Job(request=self._request, response=await self._read(response))
        self._job, last = job, job.response
        asked = steps.status(job)
        if asked is None:
            self._job = None
            return _WholeResponse(last)
        # A status request may safely be sent twice.
        options = attrs.evolve(self._options, resend=True)
        while True:
            await sleep(max(steps.interval, retry_after(last.headers) or 0))
            response = await self._send(self._options.sign(asked), options)
            if not _is_success(response):
                return response
            last = await self._read(response)
            state = JobState(steps.state(last))
            if state is JobState.DONE and steps.result is not None:
                return await self._send(self._options.sign(steps.result(job, last)), options)
            if state is not JobState.RUNNING:
                self._job = None
                return _WholeResponse(last)

    async def _send(self, wire_request: WireRequest, options: SendOptions) -> ByteStream:
        exchange = self._transport.send(wire_request, options)
        response = await exchange.__aenter__()
        self._open = exchange
        return response

    async def _close(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        exchange, self._open = self._open, None
        if exchange is not None:
            await exchange.__aexit__(kind, error, traceback)

    async def _read(self, response: ByteStream) -> WireResponse:
        """Read a whole body, within the limits of the service, and close the response."""
        settings = self._context.settings
        body, chunks = bytearray(), aiter(response)
        while True:
            chunk = None
            with anyio.move_on_after(settings.chunk_timeout) as scope:
                chunk = await anext(chunks, None)
            if scope.cancelled_caught:
                raise ChunkTimeout(f"nothing came for longer than chunk_timeout ({settings.chunk_timeout:g} s)")
            if chunk is None:
                break
            body += chunk
            if settings.body_limit is not None and len(body) > settings.body_limit:
                message = f"the response is larger than body_limit ({settings.body_limit} bytes)"
                raise ProtocolViolation(message, status=response.status)
        await self._close()
        check_structure(body, settings.nesting_limit, status=response.status)
        return WireResponse(status=response.status, headers=response.headers, body=bytes(body))

    async def _cancel(self, job: Job) -> None:
        """Cancel the job, whatever happens to the call, within `CANCEL_LIMIT`."""
        if self._steps.cancel is None:
            return
        problem = f"there was no response within {CANCEL_LIMIT:g} s"
        with anyio.move_on_after(CANCEL_LIMIT, shield=True):
            try:
                wire_request = self._options.sign(self._steps.cancel(job))
                async with self._transport.send(wire_request, attrs.evolve(self._options, resend=True)) as response:
                    if _is_success(response) or response.status in _ENDED:
                        return
                    problem = f"status {response.status}"
            except Exception as error:  # the call has another error already, or was cancelled
                problem = type(error).__name__  # without the message, which may contain secrets
        _log.warning("service %r: a job was not cancelled: %s", self._context.name, problem)


_ENDED = (404, 409, 410)
"""The statuses with which servers refuse to cancel a job that has ended."""


def _is_success(response: ByteStream) -> bool:
    return 200 <= response.status < 300


class _WholeResponse:
    """A response whose body was read before."""

    def __init__(self, response: WireResponse) -> None:
        self.status: int = response.status
        self.headers: Headers = response.headers
        self._body = response.body

    def __aiter__(self) -> _WholeResponse:
        return self

    async def __anext__(self) -> bytes:
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body
