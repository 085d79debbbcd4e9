"""How much of a limit is used within a sliding window of time. Pure: the caller passes the time, in seconds.

The window is exact: no interval of `period` seconds contains more than `limit`, wherever it begins. A fixed window
would allow twice as much around its border, and a token bucket as much more as it can hold.

    reserve ──> pending ── sent(now) ──> counted until now + period ──> expired

A reservation counts from the moment at which it is made. Its period begins when the request is sent: until then, other
calls must not take its place, however long the request takes to be prepared.
"""

from __future__ import annotations

import math
from collections import deque


class Reservation:
    """A part of a window that one request uses."""

    __slots__ = ("is_counted", "sent_at", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.sent_at: float | None = None
        self.is_counted = True


class RateWindow:
    """At most `limit` within any `period` seconds. Times that are passed must not decrease by much; they are clamped.

    `overshoot` is how much more than their reservations all requests used together.
    """

    __slots__ = ("_now", "_sent", "_used", "limit", "overshoot", "period")

    def __init__(self, limit: int, period: float = 60.0) -> None:
        self.limit = limit
        self.period = period
        self.overshoot = 0
        self._used = 0
        self._sent: deque[Reservation] = deque()  # in the order in which they were sent
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
        for reservation in self._sent:
            missing -= reservation.weight
            if missing <= 0:
                return _expiry(reservation, self.period)
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
        """The request of a reservation is being sent: its period begins."""
        if reservation.sent_at is None and reservation.is_counted:
            reservation.sent_at = self._advance(now)
            self._sent.append(reservation)

    def settle(self, reservation: Reservation, weight: int, now: float) -> None:
        """Replace the weight of a request that was sent, now that it is known what the request used.

        If that is more than was reserved, the difference counts from now on.
        """
        self._advance(now)
        more = weight - reservation.weight
        if more > 0:
            self.overshoot += more
            self.sent(self.reserve(more), now)
        elif reservation.is_counted:
            self._used += more
            reservation.weight = weight

    def cancel(self, reservation: Reservation) -> None:
        """Free the reservation of a request that is not sent."""
        if reservation.is_counted and reservation.sent_at is None:
            reservation.is_counted = False
            self._used -= reservation.weight

    def _advance(self, now: float) -> float:
        # Threads may read the clock in one order and arrive here in another.
        now = self._now = max(now, self._now)
        while self._sent and _expiry(self._sent[0], self.period) <= now:
            expired = self._sent.popleft()
            expired.is_counted = False
            self._used -= expired.weight
        return now


def _expiry(reservation: Reservation, period: float) -> float:
    # Always this sum: `now - period` may differ from it in the last bit.
    return (reservation.sent_at or 0.0) + period
