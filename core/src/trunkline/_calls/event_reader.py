"""The events of one answer as they come: opened up to the first that tells something, then read batch by batch.

It retries nothing and keeps nothing, and shares the pipeline's rule: no cancel scope is open while the application's
code runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import attrs

from trunkline._calls.deadline import CallDeadline
from trunkline.authoring.decoder import StreamDecoder, check_nesting
from trunkline.authoring.provider import ByteStream
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    FirstChunkTimeout,
    ProtocolViolation,
    RemoteError,
    RequestTimeout,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.events import Event, ReasoningStart, ResponseStarted, TextStart, UsageReported
from trunkline.fold import unfold
from trunkline.response import CallWarning

if TYPE_CHECKING:
    from trunkline._calls.pipeline import Pipeline

_NO_CONTENT = (ResponseStarted, UsageReported, TextStart, ReasoningStart)
"""Events that are held back until one comes that tells something of the answer."""

EXCERPT = 200
"""How much of an answer that cannot be understood an error quotes, in characters."""


def _request_id(headers: Mapping[str, str]) -> str | None:
    # Every provider has its own name for it, and all names end alike.
    return next((value for name, value in headers.items() if name.replace("-", "").endswith("requestid")), None)


class EventReader:
    """The events of one answer, in batches as they arrive. It retries nothing and keeps nothing."""

    __slots__ = (
        "_answer",
        "_chunks",
        "_deadline",
        "_decoder",
        "_entered",
        "_error",
        "_exchange",
        "_first",
        "_has_content",
        "_longest",
        "_pipeline",
        "_warnings",
        "read_timeout",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        exchange: AbstractAsyncContextManager[ByteStream],
        deadline: CallDeadline,
        warnings: tuple[CallWarning, ...],
    ) -> None:
        self._pipeline = pipeline
        self._exchange: AbstractAsyncContextManager[ByteStream] | None = exchange
        self._entered = False
        self._deadline = deadline
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
        self.read_timeout = pipeline.read_timeouts.acquire()

    async def open(self) -> None:
        """Send, and read up to the first event that has content, so that an error before it can be retried."""
        pipeline, seconds = self._pipeline, self._pipeline.settings.first_chunk_timeout
        assert self._exchange is not None
        # Connecting has a limit of its own, which comes on top.
        connect = pipeline.settings.connect_timeout
        head, ended, longest = bytearray(), False, pipeline.settings.body_limit
        read_timeout = self.read_timeout
        started = read_timeout.extend(math.inf if seconds is None or connect is None else seconds + connect)
        with read_timeout:
            self._answer = await self._exchange.__aenter__()
            self._entered = True
            pipeline.check_headers(self._answer)
            if seconds is not None:
                left = math.inf if connect is None else started + connect + seconds - read_timeout.time()
                read_timeout.extend(min(left, seconds))
            if not 200 <= self._answer.status < 300:
                pipeline.raise_for_status(await pipeline.read_body(self._answer))
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
        if read_timeout.ended:
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
        return self._deadline.timeout_error() if self._deadline.left <= 0 else self._pipeline.chunk_timeout()

    async def next(self) -> list[Event] | None:
        """The next events, at least one; none at the end. Raises what cuts the stream short.

        Gives `None` where `read_timeout` has ended the read, because it took too long or at the wish of another task.
        """
        if self._first:
            events, self._first = self._first, []
            return self._with_warnings(events)
        if self._error is not None:
            raise self._error
        decoder, read_timeout, longest, deadline = self._decoder, self.read_timeout, self._longest, self._deadline
        if decoder.finished:
            return []
        while True:
            left = deadline.left
            started = read_timeout.extend(longest if longest < left else max(left, 0))
            try:
                with read_timeout:
                    chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                return self._decoded(lambda _: decoder.finish(), b"")
            finally:
                deadline.left -= read_timeout.time() - started
            if read_timeout.ended:
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
        if exchange is not None:
            self._pipeline.read_timeouts.release(self.read_timeout)
        if exchange is not None and self._entered:
            unfinished = None if self._decoder.finished else GeneratorExit()
            await exchange.__aexit__(type(unfinished) if unfinished else None, unfinished, None)
