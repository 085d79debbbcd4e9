"""Requests and tokens a minute of a key: the interface, and the limiter of one process.

Both limiters count in buckets of one second. A bucket counts until 60 s after its end, so no 60 seconds contain more
than the limit, wherever they begin. `redis_limits.py` has the limiter for several processes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

import attrs

WINDOW = 60
"""The seconds over which requests and tokens are counted."""

LIFETIME = WINDOW + 1
"""The seconds from the start of a bucket until it no longer counts: its own second, and the window."""


@attrs.frozen(kw_only=True)
class Window:
    """One limit after a decision. `reset_after` is the seconds until all of it is free again."""

    limit: int
    remaining: int
    reset_after: float


@attrs.frozen(kw_only=True)
class Grant:
    """The permission to send a request. `tokens` were counted for it at `second`, for which `settle` corrects them."""

    key: str
    tokens: int
    second: int
    requests_window: Window | None = None
    tokens_window: Window | None = None


class LimitExceeded(Exception):
    """A limit does not allow a request now. `retry_after` is the seconds after which it does."""

    def __init__(self, limit: str, retry_after: float, *, requests: Window | None, tokens: Window | None) -> None:
        super().__init__(f"{limit} is used up; try again in {retry_after:.0f} s")
        self.limit = limit
        """`requests_per_minute` or `tokens_per_minute`."""
        self.retry_after = retry_after
        self.requests_window = requests
        self.tokens_window = tokens


class LimiterUnavailable(Exception):
    """The limits cannot be counted now, and `redis_failure` is `closed`."""


class RateLimiter(Protocol):
    """Counts the requests and tokens of keys."""

    async def acquire(
        self, key: str, tokens: int, *, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> Grant:
        """Count a request with so many tokens, in one atomic step. Raises `LimitExceeded` or `LimiterUnavailable`.

        A request with more tokens than the limit is allowed if no other tokens are counted. A limit of 0 allows no
        request. Without limits, nothing is counted.
        """
        ...

    async def settle(self, grant: Grant, tokens: int) -> None:
        """Correct the tokens of a request to what it used. Never raises; does nothing for a window that has passed."""

    async def check(self) -> None:
        """Raise `LimiterUnavailable` if what counts cannot be reached now, whatever `redis_failure` is."""

    async def aclose(self) -> None:
        """Close connections."""


class Count(NamedTuple):
    """What is counted for a key after a decision, and the seconds to wait for each limit: 0 if it was granted."""

    second: int
    requests: int
    tokens: int
    reset_after: float
    requests_wait: float = 0.0
    tokens_wait: float = 0.0


def grant_or_refuse(
    key: str, tokens: int, count: Count, *, requests_per_minute: int | None, tokens_per_minute: int | None
) -> Grant:
    """Return the grant that a decision amounts to, or raise `LimitExceeded`."""
    requests_window = _window(requests_per_minute, count.requests, count.reset_after)
    tokens_window = _window(tokens_per_minute, count.tokens, count.reset_after)
    wait = max(count.requests_wait, count.tokens_wait)
    if wait > 0:
        limit = "requests_per_minute" if count.requests_wait >= count.tokens_wait else "tokens_per_minute"
        raise LimitExceeded(limit, wait, requests=requests_window, tokens=tokens_window)
    return Grant(
        key=key, tokens=tokens, second=count.second, requests_window=requests_window, tokens_window=tokens_window
    )


def _window(limit: int | None, used: int, reset_after: float) -> Window | None:
    if limit is None:
        return None
    return Window(limit=limit, remaining=max(0, limit - used), reset_after=reset_after if used else 0.0)


class LocalLimiter:
    """The limiter of one process. `clock` returns seconds and never goes back.

    It needs memory only for keys that were used in the last minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The key that was used last is the last one, so idle keys are at the front.
        self._usages: OrderedDict[str, _Usage] = OrderedDict()

    def __len__(self) -> int:
        """The number of keys in memory."""
        return len(self._usages)

    async def acquire(
        self, key: str, tokens: int, *, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> Grant:
        """See `RateLimiter.acquire`. It does not wait."""
        now = self._clock()
        if requests_per_minute is None and tokens_per_minute is None:
            return Grant(key=key, tokens=tokens, second=int(now))
        usage = self._usage(key, now)
        count = usage.decide(now, tokens, requests_per_minute, tokens_per_minute)
        return grant_or_refuse(
            key, tokens, count, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
        )

    def record(self, key: str, tokens: int) -> Grant:
        """Count a request that another limiter has granted. The result is for `settle`."""
        now = self._clock()
        self._usage(key, now).add(int(now), tokens)
        return Grant(key=key, tokens=tokens, second=int(now))

    async def settle(self, grant: Grant, tokens: int) -> None:
        """See `RateLimiter.settle`. It does not wait."""
        usage = self._usages.get(grant.key)
        if usage is not None:
            usage.settle(int(self._clock()), grant.second, tokens - grant.tokens)

    async def check(self) -> None:
        """Do nothing: this process counts."""

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""

    def _usage(self, key: str, now: float) -> _Usage:
        usages = self._usages
        usage = usages.get(key)
        if usage is None:
            usage = usages[key] = _Usage()
        else:
            usages.move_to_end(key)
        # A new key has no newest second yet, and is the last one.
        while (oldest := next(iter(usages.values()))) is not usage and oldest.newest + LIFETIME <= now:
            usages.popitem(last=False)
        return usage


class _Usage:
    """What one key used, in buckets by second. The sums of all buckets are kept, so a decision does not add them up."""

    __slots__ = ("buckets", "newest", "requests", "tokens")

    def __init__(self) -> None:
        self.buckets: dict[int, list[int]] = {}  # requests and tokens by second, the oldest first
        self.newest = 0
        self.requests = 0
        self.tokens = 0

    def decide(self, now: float, tokens: int, requests_limit: int | None, tokens_limit: int | None) -> Count:
        second = int(now)
        self._expire(second)
        requests_excess = 0 if requests_limit is None else self.requests + 1 - requests_limit
        # A request that is larger than the limit needs all of the limit. A limit of 0 allows nothing.
        tokens_excess = 0 if tokens_limit is None else self.tokens + min(tokens, tokens_limit) - tokens_limit
        tokens_blocked = tokens_limit == 0
        if requests_excess <= 0 and tokens_excess <= 0 and not tokens_blocked:
            self.add(second, tokens)
            return self._count(now)
        return self._count(
            now,
            requests_wait=self._wait(now, 0, requests_excess) if requests_excess > 0 else 0.0,
            tokens_wait=self._wait(now, 1, tokens_excess) if tokens_excess > 0 or tokens_blocked else 0.0,
        )

    def add(self, second: int, tokens: int) -> None:
        self._expire(second)
        bucket = self.buckets.get(second)
        if bucket is None:
            self.buckets[second] = [1, tokens]
            self.newest = second
        else:
            bucket[0] += 1
            bucket[1] += tokens
        self.requests += 1
        self.tokens += tokens

    def settle(self, second: int, counted_at: int, difference: int) -> None:
        self._expire(second)
        bucket = self.buckets.get(counted_at)
        if bucket is not None:
            difference = max(difference, -bucket[1])
            bucket[1] += difference
            self.tokens += difference

    def _expire(self, second: int) -> None:
        buckets = self.buckets
        while buckets and (oldest := next(iter(buckets))) + LIFETIME <= second:
            requests, tokens = buckets.pop(oldest)
            self.requests -= requests
            self.tokens -= tokens

    def _wait(self, now: float, column: int, excess: int) -> float:
        """The seconds until buckets with at least `excess` have expired; a whole lifetime if all have not as much."""
        if excess > 0:
            for second, bucket in self.buckets.items():
                excess -= bucket[column]
                if excess <= 0:
                    return second + LIFETIME - now
        return float(LIFETIME)

    def _count(self, now: float, *, requests_wait: float = 0.0, tokens_wait: float = 0.0) -> Count:
        return Count(
            second=int(now),
            requests=self.requests,
            tokens=self.tokens,
            reset_after=self.newest + LIFETIME - now if self.buckets else 0.0,
            requests_wait=requests_wait,
            tokens_wait=tokens_wait,
        )
