"""Let calls wait until the limits of a service allow them to be sent.

The life of a call:

    admit ──> waiting ──> admitted (a `Ticket`) ── attempt, answered or failed, … ──> end

- Calls are admitted in the order in which they came. The first one that waits holds up all others, so that one with
  many tokens is not overtaken for ever. Only further attempts of calls that were admitted go before them: these hold a
  place among the `concurrency`, which would otherwise never become free.
- A call that is cancelled while it waits leaves the queue, and gives back what it was granted at the same moment.
- Calls may wait in several event loops and threads. One lock guards the state, and is held for a moment only; waiters
  are woken with the loop's own thread-safe function. Whoever changes the state grants what has become possible
  (`_grant`). Only the first waiter sleeps until a certain time; the others wait to be woken.
- The end of a call may be reported by the garbage collector, in any thread and at any point, also while that thread
  holds the lock. So `_end` never waits for the lock: it adds to `_ended`, and whoever holds the lock looks there after
  releasing it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import attrs

from trunkline._calls.options import TimeLimit
from trunkline._event_loops import is_closed, running_loop
from trunkline._forks import begin_anew_after_fork
from trunkline._masking import quoted
from trunkline.authoring.limits import LONGEST_PAUSE, TRAVEL, RateWindow, Reservation
from trunkline.errors import LimitTimeout, RemoteError, ServiceClosed
from trunkline.response import RateLimits


@attrs.frozen(kw_only=True)
class LimitStatus:
    """The current state of a limited service.

    `running` is the number of calls that were admitted and have not ended, and `waiting` is the number of calls that
    wait. `requests` and `tokens` are those of the last minute, including what is reserved for running calls; each is 0
    if the service has no such limit. `overshoot` is the number of tokens that all calls so far used beyond their
    reservations. `paused_for` is the number of seconds for which no call is sent, because the provider has said that
    its own limit is used up.
    """

    running: int
    waiting: int
    requests: int
    tokens: int
    overshoot: int
    paused_for: float


class _Waiter:
    """A call that waits. `ticket` is the one that is renewed for a further attempt, or `None` for a new call."""

    __slots__ = ("event", "granted", "loop", "ticket", "tokens", "wakes_at")

    def __init__(self, tokens: int, ticket: Ticket | None) -> None:
        self.tokens = tokens
        self.ticket = ticket
        self.granted: Ticket | None = None
        self.loop: Any = running_loop()
        self.event: anyio.Event | None = None  # only while the call sleeps
        self.wakes_at = math.inf

    def wake(self) -> bool:
        """Wake the waiting task, from any thread. Returns whether its event loop still runs."""
        if self.event is None:
            return True  # it is awake
        try:
            schedule = getattr(self.loop, "call_soon_threadsafe", None) or self.loop.run_sync_soon
            schedule(self.event.set)
        except RuntimeError:  # of a loop that has ended; trio's `RunFinishedError` is one
            return False
        return True


class Ticket:
    """The place of one call within the limits. A `Gate`."""

    __slots__ = ("_admission", "_ended", "_era", "_is_sent", "_limit", "_request", "_reserved", "_tokens")

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission = admission
        self._era = admission._era
        self._limit: TimeLimit | None = None
        self._tokens = tokens
        self._is_sent = False
        self._ended = False
        self._request: Reservation | None = None
        self._reserved: Reservation | None = None

    async def attempt(self) -> None:
        if self._is_sent:
            await self._admission._admit_again(self, self._tokens, self._limit)
            self._is_sent = False

    def sent(self) -> None:
        self._is_sent = True
        self._admission._sent(self)

    def answered(self, limits: RateLimits | None) -> None:
        self._admission._arrived(self)
        if limits is not None and self._admission.heeds_provider:
            self._admission._pause(pause_of_limits(limits))

    def failed(self, error: RemoteError) -> None:
        if isinstance(error, LimitTimeout):
            return  # of this limit or another one: nothing was sent
        self._admission._arrived(self)
        if was_refused(error):
            self._admission._settle(self, 0)
        if self._admission.heeds_provider:
            self._admission._pause(pause_of_error(error))

    def end(self, tokens: int | None = None) -> None:
        """Give the place back. `tokens` is what the call used; if that is not known, the estimate stays.

        Ending it again does nothing. It never waits, so that a finalizer may call it.
        """
        if not self._ended:
            self._ended = True
            self._admission._end(self, tokens)


def was_refused(error: RemoteError) -> bool:
    """Return whether the provider refused the request, so that it used no tokens."""
    return error.status is not None and error.status >= 400 and error.partial is None


def pause_of_error(error: RemoteError) -> float:
    """Return the seconds for which the provider asks to send nothing, with an error."""
    if error.retry_after is not None:
        return error.retry_after
    return 0.0 if error.rate_limits is None else pause_of_limits(error.rate_limits)


def pause_of_limits(limits: RateLimits) -> float:
    """Return the seconds until all limits that are used up have reset."""
    every = (limits.requests, limits.tokens, limits.input_tokens, limits.output_tokens)
    return max((limit.reset_after or 0.0 for limit in every if limit is not None and limit.remaining == 0), default=0.0)


class Admission:
    """The limits of one service, and the calls that wait for them. `None` is no limit; `period` is in seconds.

    `name` is the service's name, for errors. `heeds_provider` is whether no call is sent while the provider says that
    its own limit is used up. `clock` returns seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        requests: int | None = None,
        tokens: int | None = None,
        heeds_provider: bool = True,
        period: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self.heeds_provider = heeds_provider
        self._concurrency = concurrency
        self._limits = requests, tokens, period
        self._closed = False
        self._clock = clock
        self.begin_anew()
        begin_anew_after_fork(self)

    def begin_anew(self) -> object:
        """Start without any call. In the child of a fork, those of the parent never end."""
        inherited = vars(self).copy()
        requests, tokens, period = self._limits
        travel = period * TRAVEL
        self._requests = None if requests is None else RateWindow(requests, period, travel)
        self._tokens = None if tokens is None else RateWindow(tokens, period, travel)
        self._era = object()  # a fork starts another era, in which older tickets count nothing
        self._running = 0
        self._paused_until = -math.inf
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._queued_tokens = 0
        self._further: deque[_Waiter] = deque()  # further attempts, which go first
        self._ended: deque[tuple[Ticket, int | None]] = deque()
        return inherited

    @property
    def tokens_limit(self) -> int | None:
        """The limit of tokens."""
        return self._limits[1]

    def status(self) -> LimitStatus:
        """Return the current state."""
        with self._locked() as now:
            return LimitStatus(
                running=self._running,
                waiting=len(self._queue) + len(self._further),
                requests=0 if self._requests is None else self._requests.used(now),
                tokens=0 if self._tokens is None else self._tokens.used(now),
                overshoot=0 if self._tokens is None else self._tokens.overshoot,
                paused_for=max(self._paused_until - now, 0.0),
            )

    async def admit(self, tokens: int, limit: TimeLimit | None) -> Ticket:
        """Wait until a call may be sent that will use about so many tokens.

        Raises `LimitTimeout` when the time of `limit` has passed, or at once if it certainly will have passed, and
        `ServiceClosed` if the service is closed.
        """
        return await self._wait(_Waiter(tokens, None), self._queue, limit)

    def close(self) -> None:
        """Make all waiting calls and all later ones raise `ServiceClosed`."""
        with self._locked():
            self._closed = True
            for waiter in (*self._further, *self._queue):
                waiter.wake()

    async def _admit_again(self, ticket: Ticket, tokens: int, limit: TimeLimit | None) -> None:
        await self._wait(_Waiter(tokens, ticket), self._further, limit)

    async def _wait(self, waiter: _Waiter, queue: deque[_Waiter], limit: TimeLimit | None) -> Ticket:
        with self._locked():
            self._drop_dead()
            queue.append(waiter)
            self._queued_tokens += self._queued_weight(waiter)
        try:
            while True:
                with self._locked() as now:
                    if self._closed:
                        raise ServiceClosed(f"service {self._name!r} is closed", service=self._name)
                    self._grant(now, waiter)
                    if waiter.granted is not None:
                        waiter.granted._limit = limit
                        return waiter.granted
                    left = math.inf
                    if limit is not None:
                        left = limit.left
                        if (error := self._error(waiter, now, left, limit)) is not None:
                            raise error
                    waiter.wakes_at = self._ready_at(waiter, now) if self._first() is waiter else math.inf
                    waiter.event = event = anyio.Event()
                # At least a moment, since an event loop may wake a task too early by this clock.
                with anyio.move_on_after(min(max(waiter.wakes_at - now, 0.001), max(left, 0.0))):
                    await event.wait()
        except BaseException:
            with self._locked() as now:
                self._forget(waiter, queue)
                self._grant(now)
            raise

    # What follows runs with the lock.

    @contextmanager
    def _locked(self) -> Iterator[float]:
        with self._lock:
            yield self._clock()
        if self._ended:
            self._settle_ended()

    def _first(self) -> _Waiter | None:
        return self._further[0] if self._further else self._queue[0] if self._queue else None

    def _ready_at(self, waiter: _Waiter, now: float) -> float:
        """Return the time from which a waiter may be granted what it waits for, as far as that is known."""
        if waiter.ticket is None and self._concurrency is not None and self._running >= self._concurrency:
            return math.inf
        ready = max(now, self._paused_until)
        if self._requests is not None:
            ready = max(ready, self._requests.ready_at(now, 1))
        if self._tokens is not None:
            ready = max(ready, self._tokens.ready_at(now, waiter.tokens))
        return ready

    def _grant(self, now: float, current: _Waiter | None = None) -> None:
        """Grant what is possible now, in order, and wake those whose turn it is, but not the `current` one."""
        while (waiter := self._first()) is not None:
            ready = self._ready_at(waiter, now)
            if ready > now:
                if waiter is current or ready >= waiter.wakes_at:
                    return
                waiter.wakes_at = ready
                if waiter.wake():
                    return
                self._pop(waiter)
                continue
            self._pop(waiter)
            ticket = waiter.ticket or Ticket(self, waiter.tokens)
            if waiter.ticket is None:
                self._running += 1
            if self._requests is not None:
                ticket._request = self._requests.reserve(1)
            if self._tokens is not None:
                ticket._reserved = self._tokens.reserve(waiter.tokens)
            waiter.granted = ticket
            if waiter is not current and not waiter.wake():
                self._forget(waiter, self._queue)

    def _queue_of(self, waiter: _Waiter) -> deque[_Waiter]:
        return self._queue if waiter.ticket is None else self._further

    def _drop_dead(self) -> None:
        """Drop waiters at the front whose event loop was closed without ending its tasks."""
        while (waiter := self._first()) is not None and is_closed(waiter.loop):
            self._pop(waiter)

    def _pop(self, first: _Waiter) -> None:
        self._queue_of(first).popleft()
        self._queued_tokens -= self._queued_weight(first)

    def _queued_weight(self, waiter: _Waiter) -> int:
        """Return how many tokens of a waiter count in `_queued_tokens`, the sum for all waiters in `_queue`."""
        return 0 if self._tokens is None or waiter.ticket is not None else min(waiter.tokens, self._tokens.limit)

    def _forget(self, waiter: _Waiter, queue: deque[_Waiter]) -> None:
        if waiter.granted is None:
            queue.remove(waiter)
            if queue is self._queue:  # otherwise it is the one of the parent of a fork
                self._queued_tokens -= self._queued_weight(waiter)
        elif waiter.ticket is None:
            waiter.granted._ended = True
            self._give_back(waiter.granted)
        else:
            self._cancel_reservations(waiter.granted)

    def _give_back(self, ticket: Ticket) -> None:
        if ticket._era is self._era:
            self._running -= 1
        self._cancel_reservations(ticket)

    def _cancel_reservations(self, ticket: Ticket) -> None:
        """Free what was reserved for a request that was not sent."""
        for window, reservation in self._reservations(ticket):
            window.cancel(reservation)

    def _reservations(self, ticket: Ticket) -> Iterator[tuple[RateWindow, Reservation]]:
        """Yield each window with the ticket's last reservation in it. After a fork, the child ignores older tickets."""
        if ticket._era is self._era:
            if self._requests is not None and ticket._request is not None:
                yield self._requests, ticket._request
            if self._tokens is not None and ticket._reserved is not None:
                yield self._tokens, ticket._reserved

    def _error(self, waiter: _Waiter, now: float, left: float, limit: TimeLimit) -> LimitTimeout | None:
        """Return the error if the time of a call has passed, or certainly will pass before it is admitted."""
        name, ready = self._reason(waiter, now)
        what = f"{name} of service {quoted(self._name)}"
        if left <= 0:
            message = f"not sent within total_timeout ({limit.total:g} s), because of {what}"
        elif ready - now > left:
            message = (
                f"not sent: {what} allows it in {math.ceil(ready - now)} s at the earliest, "
                f"later than total_timeout ({limit.total:g} s) allows"
            )
        else:
            return None
        wait = ready - now
        error = LimitTimeout(message, service=self._name, retry_after=wait if wait > 0 else None)
        error.limit = name.partition(" ")[0]
        return error

    def _reason(self, waiter: _Waiter, now: float) -> tuple[str, float]:
        """Return the limit that a waiter waits for longest, with its value, and the time before which it must wait.

        That time is certain, unless calls that came before it are cancelled. What is reserved for tokens may become
        free at any moment while calls run.
        """
        requests, tokens = 1, waiter.tokens if self._tokens is None else min(waiter.tokens, self._tokens.limit)
        queue = self._queue_of(waiter)
        if queue is self._queue and queue and queue[-1] is waiter:
            # A new call. Many calls may wait before it, so the sum of their tokens is kept, and not added up here.
            requests, tokens = len(queue), self._queued_tokens
        else:
            for other in queue:
                if other is waiter:
                    break
                requests += 1
                tokens += other.tokens if self._tokens is None else min(other.tokens, self._tokens.limit)
        name, longest, certain = f"concurrency ({self._concurrency})", now, now
        if self._tokens is not None and (until := self._tokens.no_earlier_than(now, tokens)) > longest:
            name, longest = f"tokens_per_minute ({self._tokens.limit})", until
            certain = until if self._running == 0 else now
        if self._requests is not None and (until := self._requests.no_earlier_than(now, requests)) > now:
            if until > longest:
                name, longest = f"requests_per_minute ({self._requests.limit})", until
            certain = max(certain, until)
        if self._paused_until > now:
            if self._paused_until > longest:
                name = "rate_limits (the provider's own limit)"
            certain = max(certain, self._paused_until)
        return name, certain

    # What a ticket reports

    def _sent(self, ticket: Ticket) -> None:
        with self._locked() as now:
            for window, reservation in self._reservations(ticket):
                window.sent(reservation, now)
            self._grant(now)

    def _arrived(self, ticket: Ticket) -> None:
        with self._locked() as now:
            for window, reservation in self._reservations(ticket):
                window.arrived(reservation, now)
            self._grant(now)

    def _settle(self, ticket: Ticket, tokens: int) -> None:
        with self._locked() as now:
            self._settle_tokens(ticket, tokens, now)
            self._grant(now)

    def _settle_tokens(self, ticket: Ticket, tokens: int, now: float) -> None:
        for window, reservation in self._reservations(ticket):
            if window is self._tokens:
                window.settle(reservation, tokens, now)

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with self._locked() as now:
                self._paused_until = max(self._paused_until, now + min(seconds, LONGEST_PAUSE))

    def _end(self, ticket: Ticket, tokens: int | None) -> None:
        self._ended.append((ticket, tokens))
        self._settle_ended()

    def _settle_ended(self) -> None:
        while self._ended and self._lock.acquire(blocking=False):
            try:
                now = self._clock()
                while self._ended:
                    ticket, tokens = self._ended.popleft()
                    self._give_back(ticket)
                    if tokens is not None and ticket._is_sent:
                        self._settle_tokens(ticket, tokens, now)
                self._grant(now)
            finally:
                self._lock.release()
