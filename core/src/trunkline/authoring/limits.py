"""Limits that several processes share, and the sliding window that they need.

A program that runs in several processes has one limit at a provider. `trunkline.limit(service, limiter=…)` asks a
`SharedLimiter` before each request: a client of whatever keeps the limits for all processes, such as an actor of Ray or
a Redis server.

    acquire ──> Lease ── sent ── arrived ── end
                  └───── end (the request was not sent)

`RateWindow` counts what is used of a limit within a sliding window of time. It is pure: the caller passes the time, in
seconds. It is exact: no interval of `period` seconds contains more than `limit`, wherever it begins. A fixed window
would allow twice as much around its border, and a token bucket as much more as it can hold.

    reserve ──> pending ── sent ──> travelling ── arrived, or `travel` seconds ──> counted for `period` ──> expired

A reservation counts from the moment at which it is made. Its period begins when the request has surely reached the
server, whose clock decides: when the response arrives, but at the latest `travel` seconds after it was sent. Until
then, other calls must not take its place. Otherwise a request that took long to arrive and one that is sent a period
later on an open connection would meet in one window of the server.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

__all__ = ["LONGEST_PAUSE", "TRAVEL", "Lease", "RateWindow", "Reservation", "SharedLimiter"]

LONGEST_PAUSE = 300.0
"""How long, in seconds, no call is sent after the provider has said that its own limit is used up. Then one more may
find out that it still is."""

TRAVEL = 1 / 30
"""How long a request may take to reach the server, as a part of the window: 2 s of a minute. See `RateWindow`."""


class Lease(Protocol):
    """The permission to send one request.

    No method waits, and none raises: a finalizer may call `end` in any thread.
    """

    def sent(self) -> None:
        """The request is being sent."""

    def arrived(self) -> None:
        """The response has begun, so the request has reached the provider."""

    def end(self, tokens: int | None) -> None:
        """The request is over. `tokens` is what it used; `None` if that is not known, and the estimate stays.

        If the request was not sent, all of the lease becomes free. Ending it again does nothing.
        """


class SharedLimiter(Protocol):
    """Limits that several processes share, as `trunkline.limit` asks for them.

    One object may be used by all calls of a service at once.
    """

    @property
    def tokens_per_minute(self) -> int | None:
        """The limit of tokens. If it is `None`, tokens are not estimated, and `acquire` is called with 0."""

    async def acquire(self, tokens: int, timeout: float | None) -> Lease:
        """Wait until a request may be sent that will use about so many tokens, and return the lease for it.

        It is called before each request of a call, retries included. `timeout` is the time in seconds after which the
        caller cancels it. If the wait certainly takes longer, `LimitTimeout` may be raised at once; its `retry_after`
        is the number of seconds after which to try again. A wait that is cancelled must leave nothing reserved.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Grant no lease for so many seconds, since the provider has asked for it. It does not wait or raise."""


class Reservation:
    """A part of a window that one request uses. Times are `None` until they are known."""

    __slots__ = ("begins_at", "is_counted", "sent_at", "weight")

    def __init__(self, weight: int) -> None:
        self.weight: int = weight
        self.sent_at: float | None = None
        self.begins_at: float | None = None
        self.is_counted: bool = True


class RateWindow:
    """At most `limit` within any `period` seconds. Times that are passed must not decrease by much; they are clamped.

    `overshoot` is how much more than their reservations all requests used together.
    """

    __slots__ = ("_begun", "_now", "_travelling", "_used", "limit", "overshoot", "period", "travel")

    def __init__(self, limit: int, period: float = 60.0, travel: float = 0.0) -> None:
        self.limit: int = limit
        self.period: float = period
        self.travel: float = travel
        self.overshoot: int = 0
        self._used = 0
        self._travelling: deque[Reservation] = deque()  # in the order in which they were sent
        self._begun: deque[Reservation] = deque()  # in the order in which their periods began
        self._now = -math.inf

    def used(self, now: float) -> int:
        """Return how much is used at a time."""
        self._advance(now)
        return self._used

    def ready_at(self, now: float, weight: int) -> float:
        """Return the time from which `weight` fits, or infinity if that depends on requests that were not sent yet.

        A weight above the limit fits if nothing else is used: such a request is alone in its window.
        """
        now = self._advance(now)
        missing = self._used + min(weight, self.limit) - self.limit
        if missing <= 0:
            return now
        for reservation in self._begun:
            missing -= reservation.weight
            if missing <= 0:
                return self._expiry(reservation)
        for reservation in self._travelling:
            if reservation.begins_at is None:
                missing -= reservation.weight
                if missing <= 0:
                    return self._latest_begin(reservation) + self.period
        return math.inf

    def no_earlier_than(self, now: float, weight: int) -> float:
        """Return a time before which several requests of `weight` together cannot all have been sent."""
        ready = self.ready_at(now, min(weight, self.limit))
        if ready == math.inf:
            ready = now  # what was not sent yet may be cancelled
        return max(ready, now + self.period * (math.ceil(weight / self.limit) - 1))

    def reserve(self, weight: int) -> Reservation:
        """Reserve `weight`, whether it fits or not."""
        self._used += weight
        return Reservation(weight)

    def sent(self, reservation: Reservation, now: float) -> None:
        """The request of a reservation is being sent."""
        if reservation.sent_at is None and reservation.is_counted:
            reservation.sent_at = self._advance(now)
            self._travelling.append(reservation)
            self._advance(now)

    def arrived(self, reservation: Reservation, now: float) -> None:
        """The request of a reservation has reached the server: its period begins, unless it has begun already."""
        now = self._advance(now)
        if reservation.sent_at is not None and reservation.begins_at is None:
            self._begin(reservation, now)

    def settle(self, reservation: Reservation, weight: int, now: float) -> None:
        """Replace the weight of a request that was sent, now that it is known what the request used.

        If that is more than was reserved, the difference counts from now on.
        """
        self._advance(now)
        more = weight - reservation.weight
        if more > 0:
            self.overshoot += more
            self._begin(self.reserve(more), self._now)
        elif reservation.is_counted:
            self._used += more
            reservation.weight = weight

    def cancel(self, reservation: Reservation) -> None:
        """Free the reservation of a request that is not sent."""
        if reservation.is_counted and reservation.sent_at is None:
            reservation.is_counted = False
            self._used -= reservation.weight

    def _begin(self, reservation: Reservation, when: float) -> None:
        # `when` never decreases: `_advance` has let all periods begin whose time is before `now`.
        reservation.begins_at = when
        self._begun.append(reservation)

    def _advance(self, now: float) -> float:
        # Threads may read the clock in one order and arrive here in another.
        now = self._now = max(now, self._now)
        while self._travelling:
            reservation = self._travelling[0]
            if reservation.begins_at is None:
                latest = self._latest_begin(reservation)
                if latest > now:
                    break
                self._begin(reservation, latest)
            self._travelling.popleft()
        while self._begun and self._expiry(self._begun[0]) <= now:
            expired = self._begun.popleft()
            expired.is_counted = False
            self._used -= expired.weight
        return now

    def _latest_begin(self, reservation: Reservation) -> float:
        return (reservation.sent_at or 0.0) + self.travel

    def _expiry(self, reservation: Reservation) -> float:
        # Always this sum: `now - period` may differ from it in the last bit.
        return (reservation.begins_at or 0.0) + self.period
