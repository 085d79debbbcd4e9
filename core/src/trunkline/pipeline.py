"""The whole flow of one call: prepare, translate, sign, send, frame, parse, and when to try again.

No cancel scope is open while the application's code runs: each is entered and left within one await. A scope held
across a yield would corrupt the scope stack on both backends.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Protocol, TypeVar

import anyio
import attrs

from trunkline.decoding import StreamDecoder, check_nesting
from trunkline.errors import (
    AuthenticationError,
    ChunkTimeout,
    ConfigurationError,
    FirstChunkTimeout,
    ProtocolViolation,
    RemoteError,
    RequestTimeout,
    StreamInterrupted,
    TotalTimeout,
    TrunklineError,
    UnexpectedRedirect,
    UnsupportedRequest,
)
from trunkline.events import (
    Event,
    ReasoningStart,
    ResponseStarted,
    TextStart,
    UsageReported,
    answer_warnings,
    unfold,
)
from trunkline.limits import apply_limits
from trunkline.plugins import Steps
from trunkline.provider import ByteStream, ServiceContext, Timeouts, Translation, Transport
from trunkline.reading import Reading
from trunkline.reading import reading as new_reading
from trunkline.request import ChatRequest
from trunkline.response import CallWarning, ChatResponse
from trunkline.retry import RetryPolicy
from trunkline.retryqueue import RetryQueue
from trunkline.secrets import drop_causes_with, forget_locals, scrub, scrub_value
from trunkline.settings import Settings, setting_error
from trunkline.wire import WireRequest, WireResponse, redact_url

T = TypeVar("T")

LONGEST_WAIT = 600.0
"""Seconds that a call may wait for one retry where `total_timeout` is off."""

_NO_CONTENT = (ResponseStarted, UsageReported, TextStart, ReasoningStart)
"""Events that are held back until one comes that tells something of the answer."""

EXCERPT = 200
"""How much of an answer that cannot be understood an error quotes, in characters."""


class Budget:
    """The time that a call may take in all. The time that the application takes to read a stream is left out.

    `left` is the seconds that are left. `scope` is the one scope that the call is sent in. Whoever enters it raises
    `passed()` where it was cancelled by its deadline.
    """

    __slots__ = ("left", "scope", "total")

    def __init__(self, total: float | None) -> None:
        self.left = float("inf") if total is None else total
        self.total = total
        self.scope = anyio.CancelScope()

    @contextmanager
    def spend(self) -> Iterator[anyio.CancelScope]:
        """Count the time of the block; `scope`, which is entered, ends when the budget is used up."""
        started, scope = time.monotonic(), self.scope
        if self.total is not None:
            scope.deadline = anyio.current_time() + max(self.left, 0)
        try:
            yield scope
        finally:
            scope.deadline = math.inf
            self.left -= time.monotonic() - started

    def passed(self) -> TotalTimeout:
        """The error for a budget that is used up."""
        return TotalTimeout(f"not complete within total_timeout ({self.total:g} s)")


_UNKNOWN = object()
"""In place of credentials that are still to be acquired."""


class Tell(Protocol):
    """Tells of a retry."""

    def __call__(self, error: TrunklineError, delay: float) -> None: ...


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(connect=settings.connect_timeout, headers=settings.first_chunk_timeout)


@attrs.frozen(kw_only=True)
class Pipeline:
    """The steps of one service, ready to run calls."""

    context: ServiceContext[Any]
    steps: Steps
    transport: Transport
    policy: RetryPolicy
    retries: RetryQueue = attrs.field(factory=RetryQueue)
    secrets: tuple[str, ...] = attrs.field(repr=False)
    settings: Settings = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: self.context.settings, takes_self=True)
    )
    timeouts: Timeouts = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda self: _timeouts(self.settings), takes_self=True)
    )

    # The two kinds of call

    async def call(self, translation: Translation, read: Callable[[WireResponse], T], budget: Budget, tell: Tell) -> T:
        """Send a request and read the whole answer to it."""

        async def attempt(wire_request: WireRequest) -> T:
            async with self.transport.send(wire_request, self.timeouts) as answer:
                self._check_headers(answer)
                response = await self._body(answer)
            return read(self._checked(response))

        self._refuse_if_strict(translation)
        return await self._attempts(translation.wire_request, attempt, budget, tell)

    async def stream(self, translation: Translation, budget: Budget, tell: Tell) -> EventStream:
        """Send a request and read the answer up to its first event."""

        async def attempt(wire_request: WireRequest) -> EventStream:
            exchange = self.transport.send(wire_request, self.timeouts)
            stream = EventStream(self, exchange, budget, translation.warnings)
            try:
                await stream.open()
            except BaseException:
                await stream.aclose()
                raise
            return stream

        self._refuse_if_strict(translation)
        return await self._attempts(translation.wire_request, attempt, budget, tell)

    # Before the request

    def model(self, requested: str | None) -> str:
        """The model of a request. Raises `ConfigurationError` where none is named anywhere."""
        model = requested or self.settings.default_model
        if not model:
            problem = "is not set, and the request names no model; set either"
            raise setting_error("default_model", problem, service=self.context.name)
        return model

    async def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The wire request, with the warnings of the limits and of the translation."""
        model = self.model(request.model)
        settled = request if request.model == model else attrs.evolve(request, model=model)
        request, warnings = apply_limits(settled, self.settings)
        if self.steps.needs_bytes and self.settings.fetch_urls:
            from trunkline.fetch import fetch_parts

            request = await fetch_parts(request, self.steps.needs_bytes)
        translation = self.steps.translator.translate(request, stream=stream)
        if not warnings:
            return translation
        return attrs.evolve(translation, warnings=(*warnings, *translation.warnings))

    def finish_body(self, response: ChatResponse, warnings: tuple[CallWarning, ...]) -> ChatResponse:
        """A whole answer with what the core knows of it."""
        answer = answer_warnings(response.parts, response.finish_reason)
        # A parser that folds a body has told of the answer already.
        new = tuple(warning for warning in answer if warning not in response.warnings)
        if not warnings and not new and response.provider == self.context.provider:
            return response
        return attrs.evolve(response, provider=self.context.provider, warnings=(*warnings, *response.warnings, *new))

    def _refuse_if_strict(self, translation: Translation) -> None:
        if self.settings.strict and translation.warnings:
            told = "; ".join(str(warning) for warning in translation.warnings)
            raise UnsupportedRequest(
                f"service {self.context.name!r} is strict, and the request cannot be sent whole: {told}"
            )

    # The attempts

    async def _attempts(
        self, wire_request: WireRequest, attempt: Callable[[WireRequest], Awaitable[T]], budget: Budget, tell: Tell
    ) -> T:
        wire_request = wire_request.with_headers(self.settings.headers)
        auth, failures, outer = self.steps.auth, 0, sys.exception()
        credentials: Any = _UNKNOWN
        stale: Any = _UNKNOWN
        refused: TrunklineError | None = None
        with budget.spend() as scope:
            while True:
                try:
                    if credentials is _UNKNOWN:
                        credentials = await self._credentials(stale)
                        if refused is not None and credentials == stale:
                            raise refused  # the same credential again would only fail again
                    result = await attempt(auth.sign(wire_request, credentials))
                except TrunklineError as error:
                    failed = self.dress(error)
                else:
                    self.retries.succeeded()
                    return result
                forget_locals(failed, outer)
                if isinstance(failed, AuthenticationError) and credentials is not _UNKNOWN and refused is None:
                    # A credential that has expired is replaced, once.
                    refused, stale, credentials = failed, credentials, _UNKNOWN
                    continue
                failures += 1
                delay = self.policy.delay(failures, failed)
                if delay is None or anyio.current_time() + delay >= scope.deadline:
                    raise failed
                tell(failed, delay)
                await self._wait(failed, delay, scope, budget)

    async def _credentials(self, stale: object) -> object:
        """The credentials for the next request: others than the `stale` ones, where that is possible."""
        credentials = await self.steps.auth.acquire()
        if stale is not _UNKNOWN and credentials == stale:  # else another call has replaced it since
            credentials = await self.steps.auth.acquire(refresh=True)
        return credentials

    async def _wait(self, failed: TrunklineError, delay: float, scope: anyio.CancelScope, budget: Budget) -> None:
        """Wait `delay` seconds, and then for the retry budget. Raises `failed` when the time of the call is over."""
        started, deadline = anyio.current_time(), scope.deadline
        scope.deadline = math.inf  # the error of this wait tells more than `TotalTimeout`
        longest = LONGEST_WAIT + delay if budget.total is None else deadline - started
        with anyio.move_on_after(longest) as waiting:
            await anyio.sleep(delay)
            await self.retries.turn()
        scope.deadline = deadline
        if waiting.cancelled_caught:
            bound = "" if budget.total is None else f", the end of total_timeout ({budget.total:g} s)"
            told = f"waited {longest:.3g} s for the service's retry budget{bound}"
            if isinstance(failed, RemoteError):
                failed.message = f"{failed.message}; {told}"
                failed.args = (failed.message,)
            raise failed

    # The answer

    async def _body(self, answer: ByteStream) -> WireResponse:
        chunks, size, longest = [], 0, self.settings.body_limit
        iterator, reading = answer.__aiter__(), new_reading()
        allowed = self.settings.chunk_timeout
        try:
            while True:
                reading.allow(math.inf if allowed is None else allowed)
                with reading:
                    chunk = await anext(iterator, None)
                if reading.ended:
                    raise self.chunk_timeout()
                if chunk is None:
                    break
                size += len(chunk)
                if longest is not None and size > longest:
                    told = f"the answer is larger than body_limit ({longest} bytes)"
                    raise ProtocolViolation(told, status=answer.status)
                chunks.append(chunk)
        finally:
            reading.close()
        body = b"".join(chunks)
        check_nesting(body, self.settings.nesting_limit, status=answer.status)
        return WireResponse(status=answer.status, headers=answer.headers, body=body)

    def _check_headers(self, answer: ByteStream) -> None:
        longest = self.settings.header_limit
        if longest is not None and sum(len(name) + len(value) for name, value in answer.headers.items()) > longest:
            told = f"the headers of the answer are larger than header_limit ({longest} bytes)"
            raise ProtocolViolation(told, status=answer.status)

    def _checked(self, response: WireResponse) -> WireResponse:
        if 200 <= response.status < 300:
            return response
        if 300 <= response.status < 400:
            target = redact_url(response.headers.get("location", "")) or "nowhere"
            raise UnexpectedRedirect(
                f"the provider redirects to {target}, which is not followed, since credentials would go along; "
                f"if that is the right place, set it as api_url",
                status=response.status,
            )
        raise self.steps.parser.error(response)

    def chunk_timeout(self) -> ChunkTimeout:
        """The error for a stream that stands still."""
        return ChunkTimeout(f"nothing came for longer than chunk_timeout ({self.settings.chunk_timeout:g} s)")

    def dress(self, error: TrunklineError) -> TrunklineError:
        """Complete an error with the provider's name, and take the service's secrets out of it."""
        clean(error, (*self.secrets, *getattr(self.steps.auth, "secrets", ())))
        if isinstance(error, RemoteError):
            error.provider = error.provider or self.context.provider
            # A traceback shows the cause as well.
            if isinstance(error.__cause__, RemoteError):
                self.dress(error.__cause__)
        elif isinstance(error, ConfigurationError):
            error.service = error.service or self.context.name
        return error


def clean(error: TrunklineError, secrets: tuple[str, ...]) -> None:
    """Take secrets out of an error: out of what it says and holds, and the causes that show one."""
    error.args = tuple(scrub_value(arg, secrets) for arg in error.args)
    if isinstance(error, RemoteError):
        error.message = scrub(error.message, secrets) or type(error).__name__
        error.code = scrub(error.code, secrets) if error.code else error.code
        error.request_id = scrub(error.request_id, secrets) if error.request_id else error.request_id
        try:
            error.body = scrub_value(error.body, secrets)
        except RecursionError:  # where `nesting_limit` is off
            error.body = None
        error.args = (error.message,)
    elif isinstance(error, ConfigurationError):
        for single in error.errors:
            clean(single, secrets)
    drop_causes_with(error, secrets)


def _request_id(headers: Mapping[str, str]) -> str | None:
    # Every provider has its own name for it, and all names end alike.
    return next((value for name, value in headers.items() if name.replace("-", "").endswith("requestid")), None)


class EventStream:
    """The events of one answer, in batches as they arrive. It retries nothing and keeps nothing."""

    __slots__ = (
        "_answer",
        "_budget",
        "_chunks",
        "_decoder",
        "_entered",
        "_error",
        "_exchange",
        "_first",
        "_has_content",
        "_longest",
        "_pipeline",
        "_warnings",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        exchange: AbstractAsyncContextManager[ByteStream],
        budget: Budget,
        warnings: tuple[CallWarning, ...],
    ) -> None:
        self._pipeline = pipeline
        self._exchange: AbstractAsyncContextManager[ByteStream] | None = exchange
        self._entered = False
        self._budget = budget
        self._warnings = warnings
        self._decoder: StreamDecoder[Any] = StreamDecoder(
            *pipeline.steps.parser.stream(),
            frame_limit=pipeline.settings.frame_limit,
            nesting_limit=pipeline.settings.nesting_limit,
        )
        longest = pipeline.settings.chunk_timeout
        self._longest = math.inf if longest is None else longest
        self._first: list[Event] = []
        self._has_content = False
        self._error: TrunklineError | None = None

    async def open(self) -> None:
        """Send, and read up to the first event that has content, so that an error before it can be retried."""
        pipeline, seconds = self._pipeline, self._pipeline.settings.first_chunk_timeout
        assert self._exchange is not None
        # Connecting has a limit of its own, which comes on top.
        connect = pipeline.settings.connect_timeout
        allowed = None if seconds is None or connect is None else seconds + connect
        head, ended, longest = bytearray(), False, pipeline.settings.body_limit
        with anyio.move_on_after(allowed) as scope:
            self._answer = await self._exchange.__aenter__()
            self._entered = True
            pipeline._check_headers(self._answer)
            if seconds is not None:
                scope.deadline = min(scope.deadline, anyio.current_time() + seconds)
            if not 200 <= self._answer.status < 300:
                pipeline._checked(await pipeline._body(self._answer))
            self._chunks = self._answer.__aiter__()
            while not self._has_content:
                if self._error is not None:
                    raise self._error
                if ended:
                    break
                try:
                    chunk = await self._chunks.__anext__()
                except StopAsyncIteration:
                    self._hold(self._decoded(self._at_end, bytes(head)))
                    ended = True
                    continue
                head += chunk if longest is None else chunk[: longest - len(head)]
                self._hold(self._decoded(self._decoder.feed, chunk))
        if scope.cancelled_caught:
            raise self._first_timeout()

    def _hold(self, events: list[Event]) -> None:
        """Keep events until one has content. Of reports of usage that follow each other the last is the true one."""
        for event in events:
            if type(event) is UsageReported and self._first and type(self._first[-1]) is UsageReported:
                self._first[-1] = event
            else:
                self._first.append(event)
            self._has_content = self._has_content or type(event) not in _NO_CONTENT

    def _first_timeout(self) -> FirstChunkTimeout:
        seconds = self._pipeline.settings.first_chunk_timeout
        return FirstChunkTimeout(f"no answer within first_chunk_timeout ({seconds:g} s)")

    def passed(self) -> RequestTimeout:
        """The error for a read that took too long."""
        return self._budget.passed() if self._budget.left <= 0 else self._pipeline.chunk_timeout()

    async def next(self, reading: Reading) -> list[Event] | None:
        """The next events, at least one; none at the end. Raises what cuts the stream short.

        Gives `None` where `reading` has ended the read, because it took too long or at the wish of another task.
        """
        if self._first:
            events, self._first = self._first, []
            return self._with_warnings(events)
        if self._error is not None:
            raise self._error
        decoder, longest, budget = self._decoder, self._longest, self._budget
        if decoder.finished:
            return []
        while True:
            left = budget.left
            started = reading.allow(longest if longest < left else max(left, 0))
            try:
                with reading:
                    chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                return self._decoded(lambda _: decoder.finish(), b"")
            finally:
                budget.left -= reading.time() - started
            if reading.ended:
                return None
            try:
                events = decoder.feed(chunk)
            except TrunklineError as error:
                events = self._until(error)
            if events:
                return events

    def _decoded(self, decode: Callable[[bytes], list[Event]], data: bytes) -> list[Event]:
        """The events that `decode` gives; an error that comes after some of them waits until they are told."""
        self._decoder.late = []
        try:
            return decode(data)
        except TrunklineError as error:
            return self._until(error)

    def _until(self, error: TrunklineError) -> list[Event]:
        """The events that came before an error in the same bytes; where there are none, it is raised."""
        if isinstance(error, RemoteError):
            error.request_id = error.request_id or _request_id(self._answer.headers)
        if not self._decoder.late:
            raise error
        self._error = error
        return self._decoder.late

    def _with_warnings(self, events: list[Event]) -> list[Event]:
        started = events[0] if type(events[0]) is ResponseStarted else None
        rest = events if started is None else events[1:]
        told = started or ResponseStarted()
        return [attrs.evolve(told, warnings=(*self._warnings, *told.warnings)), *rest]

    def _at_end(self, head: bytes) -> list[Event]:
        # Some servers answer a streaming request with a whole answer or a bare error, and a proxy with a page.
        answer = self._answer
        lines = "ndjson" in answer.headers.get("content-type", "")
        if head.lstrip()[:1] in (b"{", b"[", b"<") and not lines:
            check_nesting(head, self._pipeline.settings.nesting_limit, status=answer.status)
            whole = WireResponse(status=answer.status, headers=answer.headers, body=head)
            try:
                events = unfold(self._pipeline.steps.parser.body(whole))
            except ProtocolViolation as error:
                excerpt = head[: EXCERPT * 4].decode("utf-8", "replace")[:EXCERPT]
                raise ProtocolViolation(f"a stream was due, but the answer begins: {excerpt}") from error
            self._decoder.finished = True
            return events
        if not head:
            raise StreamInterrupted("the answer is empty")
        return self._decoder.finish()

    async def aclose(self) -> None:
        """Close the connection; what follows the end of a finished answer is read first, for a moment."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._entered:
            unfinished = None if self._decoder.finished else GeneratorExit()
            await exchange.__aexit__(type(unfinished) if unfinished else None, unfinished, None)
