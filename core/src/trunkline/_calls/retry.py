"""Decide what is retried, and when. Pure, and the only place that decides it.

A call is retried only before its first event, only after an error that is `retryable`, and at most `max_retries` times.
The wait is what the provider asks for (`Retry-After` in its forms, up to a limit). If it asks for nothing, the wait
grows exponentially with jitter, so that callers who failed together do not return together. After the wait, a retry
also needs a token of the `RetryBudget`, which all calls of a service share.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import attrs

from trunkline.errors import RemoteError

REWARD = 2
"""The tokens that a success returns. With two, each round of successes doubles the number of retries."""


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a service retries. Times are in seconds.

    If a provider asks for a longer wait than `retry_after_limit`, the call is not retried: the error reaches the caller
    with its `retry_after`, so that the application can decide. `None` waits for any time.
    """

    max_retries: int = 2
    first_delay: float = 0.5
    longest_delay: float = 8.0
    retry_after_limit: float | None = 60.0

    def delay(
        self, failures: int, error: Exception, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> float | None:
        """Return the seconds to wait after the `failures`-th failed attempt (counted from 1), or `None` to give up."""
        if failures > self.max_retries or not isinstance(error, RemoteError) or not error.retryable:
            return None
        if error.retry_after is not None:
            if self.retry_after_limit is not None and error.retry_after > self.retry_after_limit:
                return None
            # Not before the requested time, and spread over a while after it.
            return error.retry_after + uniform(0, min(1.0, 0.1 + 0.1 * error.retry_after))
        longest: float = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        return uniform(0.1, 1) * longest


class RetryBudget:
    """How many retries the calls of one service may send, all together. Pure: the time is passed in, in seconds.

    A token bucket, as in the AWS SDKs' standard mode and in gRPC's retry throttling. It starts full. A retry takes one
    token, and a success of any call returns two, up to the capacity. So a few failures among many successes are retried
    at once. If nothing succeeds, the tokens run out, and single retries ("probes") are sent after pauses that double
    from `first_pause` to `longest_pause`. When a probe succeeds, its two tokens allow two retries, which allow four:
    the waiting calls return as fast as the provider answers, not all at once. If a probe is due and no call asks for it
    for `longest_pause`, nothing is failing any more, and the bucket is filled.

    The first attempt of a call is always free.
    """

    __slots__ = ("_longest_pause", "_next_probe", "_pause", "_shortest_pause", "_tokens", "_uniform", "capacity")

    def __init__(
        self,
        *,
        capacity: int = 5,
        first_pause: float = 0.5,
        longest_pause: float = 8.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.capacity = capacity
        self._tokens = capacity
        self._shortest_pause = self._pause = first_pause
        self._longest_pause = longest_pause
        self._next_probe = math.inf
        self._uniform = uniform

    @property
    def full(self) -> bool:
        """Whether no token is missing."""
        return self._tokens == self.capacity

    @property
    def next_probe(self) -> float:
        """When `take` allows the next probe; infinite while there are tokens."""
        return self._next_probe

    def take(self, now: float) -> bool:
        """Take a token. Returns whether a retry may be sent now."""
        if now - self._next_probe > self._longest_pause:
            self._tokens = self.capacity
            self._next_probe, self._pause = math.inf, self._shortest_pause
        if self._tokens:
            self._tokens -= 1
            if not self._tokens:
                self._set_pause(now)
            return True
        if now < self._next_probe:
            return False
        self._pause = min(2 * self._pause, self._longest_pause)
        self._set_pause(now)
        return True

    def give(self, tokens: int) -> None:
        """Return tokens: the `REWARD` of a success, or the token of a retry that was not sent."""
        self._tokens = min(self.capacity, self._tokens + tokens)
        self._next_probe = math.inf

    def succeeded(self) -> None:
        """An attempt of any call succeeded."""
        self.give(REWARD)
        self._pause = self._shortest_pause

    def _set_pause(self, now: float) -> None:
        # Random, so that the processes of one application do not probe at the same moment.
        self._next_probe = now + self._uniform(0.75, 1.25) * self._pause
