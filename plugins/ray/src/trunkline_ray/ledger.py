"""What the workers of a cluster have used of their limits. It does no I/O: the caller passes the time, in seconds.

    wanted ──> granted ── sent ── arrived ── ended
                  └──────────────────────────┘ not sent: it becomes free

A worker sends all that is new in one `Exchange`, and takes the grants from the reply. Until a worker reports that a
granted request was sent, the grant counts without end; from then on, it counts as `RateWindow` says. A worker that
reports nothing for `DEAD_AFTER` seconds counts as dead: its grants count as sent at that moment, and then expire. So
the requests of a dead worker still count against the limits, but not for ever.

Each change is an `Entry`. A ledger that replays the entries of another one has the same state.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import attrs
from trunkline.authoring.limits import LONGEST_PAUSE, TRAVEL, RateWindow, Reservation

DEAD_AFTER = 30.0
"""After how many seconds of silence a worker is dead."""

SILENT_AFTER = 3.0
"""After how many seconds of silence a worker loses its place in the queue."""


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of all workers together. `None` is no limit. `period` is the length of the window, in seconds."""

    requests: int | None = None
    tokens: int | None = None
    concurrency: int | None = None
    period: float = 60.0


@attrs.frozen(kw_only=True)
class Exchange:
    """What a worker reports, and wants. The numbers are those that it gave its requests.

    `wanted` has all requests that wait, with the tokens of each. `held` has those that were granted before the ledger
    was started anew. `ended` has the tokens that each request used; `None` if that is not known. `pause` is for how
    long, in seconds, nobody may send.
    """

    worker: str
    wanted: tuple[tuple[int, int], ...] = ()
    held: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    arrived: tuple[int, ...] = ()
    ended: tuple[tuple[int, int | None], ...] = ()
    pause: float = 0.0


@attrs.frozen(kw_only=True)
class Entry:
    """A change of a ledger: what a worker reported, and what was granted, as worker, number and tokens."""

    time: float
    exchange: Exchange
    granted: tuple[tuple[str, int, int], ...] = ()

    @property
    def changes_something(self) -> bool:
        """Whether it has to be replayed."""
        exchange = self.exchange
        return bool(
            self.granted or exchange.held or exchange.sent or exchange.arrived or exchange.ended or exchange.pause
        )


@attrs.frozen
class _Grant:
    """A granted request, with its parts of the limits."""

    requests: Reservation | None = None
    tokens: Reservation | None = None


class Ledger:
    """What is used of the limits."""

    def __init__(self, limits: Limits) -> None:
        travel = limits.period * TRAVEL
        self.limits = limits
        self.paused_until = -math.inf
        self._requests = None if limits.requests is None else RateWindow(limits.requests, limits.period, travel)
        self._tokens = None if limits.tokens is None else RateWindow(limits.tokens, limits.period, travel)
        self._queue: deque[tuple[str, int]] = deque()  # also requests that are no longer wanted
        self._wanted: dict[str, dict[int, int]] = {}
        self._grants: dict[str, dict[int, _Grant]] = {}
        self._heard: dict[str, float] = {}
        self._running = 0

    @property
    def running(self) -> int:
        """The number of requests that were granted and have not ended."""
        return self._running

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return sum(map(len, self._wanted.values()))

    def used(self, now: float) -> tuple[int, int]:
        """Return the requests and the tokens of the last minute; 0 without such a limit."""
        return (
            0 if self._requests is None else self._requests.used(now),
            0 if self._tokens is None else self._tokens.used(now),
        )

    def exchange(self, now: float, exchange: Exchange) -> tuple[tuple[int, ...], Entry]:
        """Return the numbers of the wanted requests that are granted, and what has changed."""
        worker = exchange.worker
        self._report(now, exchange)
        self._bury(now)
        wanted = self._wanted.setdefault(worker, {})
        grants = self._grants[worker]
        now_wanted = {number: tokens for number, tokens in exchange.wanted if number not in grants}
        self._queue.extend((worker, number) for number in now_wanted if number not in wanted)
        self._wanted[worker] = now_wanted
        granted = tuple(self._grant_next(now))
        numbers = tuple(number for number, _ in exchange.wanted if number in grants)
        return numbers, Entry(time=now, exchange=exchange, granted=granted)

    def replay(self, entry: Entry) -> None:
        """Make a change that another ledger made."""
        self._report(entry.time, entry.exchange)
        for worker, number, tokens in entry.granted:
            self._heard.setdefault(worker, entry.time)
            self._grant(worker, number, tokens)

    def start(self, now: float) -> None:
        """Begin to serve, after a replay: no worker could report in the meantime."""
        self._heard = dict.fromkeys(self._heard, now)

    def _report(self, now: float, exchange: Exchange) -> None:
        self._heard[exchange.worker] = now
        grants = self._grants.setdefault(exchange.worker, {})
        for number in exchange.held:
            if number not in grants:
                grants[number] = _Grant()
                self._running += 1
        for number in exchange.sent:
            if number in grants:
                for window, reservation in self._parts(grants[number]):
                    window.sent(reservation, now)
        for number in exchange.arrived:
            if number in grants:
                for window, reservation in self._parts(grants[number]):
                    window.arrived(reservation, now)
        for number, tokens in exchange.ended:
            grant = grants.pop(number, None)
            if grant is not None:
                self._end(now, grant, tokens)
        if exchange.pause > 0:
            self.paused_until = max(self.paused_until, now + min(exchange.pause, LONGEST_PAUSE))

    def _end(self, now: float, grant: _Grant, tokens: int | None) -> None:
        self._running -= 1
        for window, reservation in self._parts(grant):
            if reservation.sent_at is None:
                window.cancel(reservation)
            elif window is self._tokens and tokens is not None:
                window.settle(reservation, tokens, now)

    def _parts(self, grant: _Grant) -> Iterator[tuple[RateWindow, Reservation]]:
        if self._requests is not None and grant.requests is not None:
            yield self._requests, grant.requests
        if self._tokens is not None and grant.tokens is not None:
            yield self._tokens, grant.tokens

    def _bury(self, now: float) -> None:
        """Forget the workers that are dead."""
        for worker in [worker for worker, heard in self._heard.items() if now - heard > DEAD_AFTER]:
            for grant in self._grants.pop(worker, {}).values():
                self._running -= 1
                for window, reservation in self._parts(grant):
                    window.sent(reservation, now)
            self._wanted.pop(worker, None)
            del self._heard[worker]

    def _grant_next(self, now: float) -> Iterator[tuple[str, int, int]]:
        """Grant what is possible now, in the order in which it was wanted."""
        while self._queue:
            worker, number = self._queue[0]
            tokens = self._wanted.get(worker, {}).get(number)
            if tokens is not None and now - self._heard[worker] > SILENT_AFTER:
                del self._wanted[worker][number]
                tokens = None
            if tokens is not None:
                if not self._fits(now, tokens):
                    return
                del self._wanted[worker][number]
                self._grant(worker, number, tokens)
                yield worker, number, tokens
            self._queue.popleft()

    def _fits(self, now: float, tokens: int) -> bool:
        if now < self.paused_until:
            return False
        if self.limits.concurrency is not None and self._running >= self.limits.concurrency:
            return False
        if self._requests is not None and self._requests.ready_at(now, 1) > now:
            return False
        return self._tokens is None or self._tokens.ready_at(now, tokens) <= now

    def _grant(self, worker: str, number: int, tokens: int) -> None:
        self._running += 1
        self._grants.setdefault(worker, {})[number] = _Grant(
            None if self._requests is None else self._requests.reserve(1),
            None if self._tokens is None else self._tokens.reserve(tokens),
        )
