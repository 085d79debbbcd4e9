"""Read the events of one streamed response: open it up to its first content, then read batch by batch.

An `EventReader` retries nothing, folds nothing, and does not know whether the stream is open, failed or closed.
`trunkline.stream.Stream` keeps that state, and decides when to read and when to close.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import attrs

from trunkline._calls.answer import Answer
from trunkline._calls.borders import GuardedParser
from trunkline._calls.deadline import CallDeadline
from trunkline._calls.read_timeout import ReadTimeouts, TimedReader
from trunkline._calls.response_reader import check_headers, chunk_timeout, parse_body, read_error
from trunkline._web_pages import PAGE_SEARCHED, describe_page
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ByteStream, ServiceContext
from trunkline.authoring.structure import check_structure
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    FirstChunkTimeout,
    ProtocolViolation,
    RequestTimeout,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.events import Event, ReasoningStart, ResponseStarted, TextStart, UsageReported
from trunkline.fold import unfold
from trunkline.response import CallWarning
from trunkline.settings import Settings

_NO_CONTENT = (ResponseStarted, UsageReported, TextStart, ReasoningStart)
"""Events without content. They are held back until content arrives, since a call is retried only before that."""

EXCERPT = 200
"""How many characters of a response an error quotes when the response cannot be understood."""


# What a read may leave for a later one:
#
# - `_first` holds the events before the first content. A call may be retried until then, so `open` does not let the
#   application see them. They are delivered by the first `next`.
# - `_error` holds an error that the same bytes brought after some events. The events are delivered first, and the next
#   `next` raises the error. If there were no events, the error is raised at once.
class EventReader(TimedReader):
    """The events of one response, in batches as they arrive. Call `open` first, and `aclose` if `open` succeeded."""

    __slots__ = (
        "_answer",
        "_chunk_seconds",
        "_chunks",
        "_context",
        "_deadline",
        "_decoder",
        "_error",
        "_exchange",
        "_family",
        "_first",
        "_has_content",
        "_parser",
        "_response",
        "_settings",
        "_warnings",
    )

    def __init__(
        self,
        exchange: AbstractAsyncContextManager[ByteStream],
        *,
        context: ServiceContext[Settings],
        parser: GuardedParser,
        deadline: CallDeadline,
        read_timeouts: ReadTimeouts,
        warnings: tuple[CallWarning, ...],
        family: str | None,
        answer: Answer,
    ) -> None:
        self._exchange = exchange
        self._context = context
        self._parser = parser
        self._settings = settings = context.settings
        self._deadline = deadline
        self._warnings = warnings
        self._family = family
        self._answer = answer
        self._decoder: StreamDecoder[Any] = StreamDecoder(
            *parser.stream(), frame_limit=settings.frame_limit, nesting_limit=settings.nesting_limit
        )
        self._chunk_seconds = math.inf if settings.chunk_timeout is None else settings.chunk_timeout
        self._first: list[Event] = []
        self._has_content = False
        self._error: TrunklineError | None = None
        super().__init__(read_timeouts)

    async def open(self) -> None:
        """Send the request and read up to the first event with content, so that an error before it can be retried.

        If that fails, the connection is closed and the error is raised.
        """
        entered = False
        try:
            settings, read_timeout = self._settings, self._read_timeout
            seconds, connect = settings.first_chunk_timeout, settings.connect_timeout
            # `first_chunk_timeout` starts when the connection is made, so `connect_timeout` is added to it.
            started = read_timeout.extend(math.inf if seconds is None or connect is None else seconds + connect)
            with read_timeout:
                self._response = await self._exchange.__aenter__()
                entered = True
                self._answer.arrived(self._response.status, self._response.headers)
                if 200 <= self._response.status < 300:
                    check_headers(self._response, settings)
                    if seconds is not None:
                        left = math.inf if connect is None else started + connect + seconds - read_timeout.time()
                        read_timeout.extend(min(left, seconds))
                    await self._read_head()
            if read_timeout.ended:
                raise FirstChunkTimeout(f"no response within first_chunk_timeout ({seconds:g} s)")
            if not 200 <= self._response.status < 300:
                raise await read_error(self._response, settings, self._read_timeouts, self._parser, self._deadline)
        except BaseException:
            self._read_timeouts.release(self._read_timeout)
            if entered:
                await self._exchange.__aexit__(*sys.exc_info())
            raise

    async def _read_head(self) -> None:
        limit = self._settings.body_limit
        head, ended = bytearray(), False
        self._chunks = self._response.__aiter__()
        while not self._has_content:
            if self._error is not None:
                raise self._error
            if ended:
                return
            try:
                chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                self._hold(self._decoded(partial(self._at_end, bytes(head))))
                ended = True
                continue
            head += chunk if limit is None else chunk[: limit - len(head)]
            self._hold(self._decoded(partial(self._decoder.feed, chunk)))

    def _hold(self, events: list[Event]) -> None:
        """Hold events back until one has content. Of consecutive usage reports, only the last is kept."""
        for event in events:
            if type(event) is UsageReported and self._first and type(self._first[-1]) is UsageReported:
                self._first[-1] = event
            else:
                self._first.append(event)
            self._has_content = self._has_content or type(event) not in _NO_CONTENT

    def timeout_error(self) -> RequestTimeout:
        """Return the error for a read that took too long."""
        return self._deadline.timeout_error() if self._deadline.left <= 0 else chunk_timeout(self._settings)

    async def next(self) -> list[Event] | None:
        """Return the next events: at least one, or an empty list after the last one.

        Returns `None` if the read was ended, because it took too long or because another task called `cancel_read`.
        Raises a `RemoteError` if the stream is cut short.
        """
        if self._first:
            events, self._first = self._first, []
            return self._completed(events)
        if self._error is not None:
            raise self._error
        decoder, read_timeout, seconds, deadline = (
            self._decoder,
            self._read_timeout,
            self._chunk_seconds,
            self._deadline,
        )
        if decoder.finished:
            return []
        while True:
            left = deadline.left
            started = read_timeout.extend(seconds if seconds < left else max(left, 0))
            try:
                with read_timeout:
                    chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                return self._decoded(decoder.finish)
            finally:
                ended = read_timeout.time()
                deadline.left -= ended - started
            if read_timeout.ended:
                return None
            try:
                events = decoder.feed(chunk)
            except Exception as error:
                failed = self._parser.broken(error)
            else:
                # A stream that sends without a pause takes its time here, not in a read.
                deadline.left -= read_timeout.time() - ended
                if events:
                    return events
                if deadline.left <= 0:
                    return None
                continue
            return self._events_before(failed)

    def count_no_time(self) -> None:
        """Do not count the time of reads, because a surrounding `MiddlewareReader` applies `total_timeout`."""
        self._deadline = CallDeadline(None)

    def complete(self, error: BaseException) -> None:
        """Add to an error of the stream what its response's headers say; see `Answer.complete`."""
        self._answer.complete(error)

    def out_of_order(self, violation: TrunklineError) -> TrunklineError:
        """Return the error to raise if the events have an impossible order, which is the provider's mistake."""
        self.complete(violation)
        return violation

    def _decoded(self, decode: Callable[[], list[Event]]) -> list[Event]:
        """Return the events that `decode` returns. An error that follows some of them is raised after them."""
        self._decoder.late = []
        try:
            return decode()
        except Exception as error:
            failed = self._parser.broken(error)
        return self._events_before(failed)

    def _events_before(self, error: TrunklineError) -> list[Event]:
        """Return the events that the same bytes gave before an error. Raises the error now if there are none."""
        if not self._decoder.late:
            raise error
        self._error = error
        return self._decoder.late

    def _completed(self, events: list[Event]) -> list[Event]:
        if type(events[0]) is ResponseStarted:
            started, rest = events[0], events[1:]
        else:
            started, rest = ResponseStarted(), events
        completed = attrs.evolve(
            started,
            warnings=(*self._warnings, *started.warnings),
            family=started.family or self._family,
            provider=self._context.provider,
            service=self._context.name,
            rate_limits=self._answer.rate_limits(),
        )
        return [completed, *rest]

    def _at_end(self, head: bytes) -> list[Event]:
        # Some servers answer a streaming request with a whole body or a bare error, and some proxies with an HTML page.
        response = self._response
        is_json_lines = "ndjson" in response.headers.get("content-type", "")
        if head.lstrip()[:1] in (b"{", b"[", b"<") and not is_json_lines:
            check_structure(head, self._settings.nesting_limit, status=response.status)
            whole = WireResponse(status=response.status, headers=response.headers, body=head)
            try:
                events = unfold(parse_body(whole, self._parser.body))
            except ProtocolViolation as error:
                text = head[:PAGE_SEARCHED].decode("utf-8", "replace")
                page = describe_page(text)
                found = f"the response is {page}" if page else f"the response begins: {text[:EXCERPT]}"
                raise ProtocolViolation(f"expected a stream, but {found}") from error
            self._decoder.finished = True
            return events
        if not head:
            raise StreamInterrupted("the response is empty")
        return self._decoder.finish()

    async def aclose(self, error: BaseException | None = None) -> None:
        """Close the connection. If the response is finished, its last bytes are read first, to reuse the connection.

        `error` is the reason if the stream ends early. It is ignored here; `MiddlewareReader` passes it to middlewares.
        """
        self._read_timeouts.release(self._read_timeout)
        # An exception tells the transport not to read the rest of the response.
        unfinished = None if self._decoder.finished else GeneratorExit()
        await self._exchange.__aexit__(type(unfinished) if unfinished else None, unfinished, None)
