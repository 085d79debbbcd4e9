"""Decide what is retried, and when. Pure, and the only place that decides it.

A call is retried only before its first event, only after an error that is `retryable`, and at most `max_retries` times.
The wait is what the provider asks for (`Retry-After` in its forms, up to a limit). If it asks for nothing, the wait
grows exponentially with jitter, so that callers who failed together do not return together. A retry also needs a token
of the `RetryBudget`, which all calls of a service share. A call never waits for a token: without one, its error is
raised at once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import attrs

from trunkline.authoring.http_errors import LONGEST_WAIT
from trunkline.errors import ConnectTimeout, RateLimited, RemoteError


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a service retries. Times are in seconds.

    If a provider asks for a longer wait than `retry_after_limit`, the call is not retried: the error reaches the caller
    with its `retry_after`, so that the application can decide. `None` waits for any time up to `LONGEST_WAIT`.

    `only_refused` is for requests that must not be sent twice: they are retried only if the provider has certainly not
    accepted them. A lost connection and a 5xx do not tell.
    """

    max_retries: int = 2
    first_delay: float = 0.5
    longest_delay: float = 8.0
    retry_after_limit: float | None = 60.0
    only_refused: bool = False

    def delay(
        self, failures: int, error: Exception, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> float | None:
        """Return the seconds to wait after the `failures`-th failed attempt (counted from 1), or `None` to give up."""
        if failures > self.max_retries or not isinstance(error, RemoteError) or not error.retryable:
            return None
        if self.only_refused and not isinstance(error, (RateLimited, ConnectTimeout)):
            return None
        if self.exceeds_limit(error):
            return None
        if error.retry_after is not None:
            # Not before the requested time, and spread over a while after it.
            return error.retry_after + uniform(0, min(1.0, 0.1 + 0.1 * error.retry_after))
        longest: float = min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 100))
        return uniform(0.75, 1) * longest

    def exceeds_limit(self, error: RemoteError) -> bool:
        """Return whether the provider asks for a longer wait than `retry_after_limit`, or for `LONGEST_WAIT`."""
        limit, asked = self.retry_after_limit, error.retry_after
        return asked is not None and (asked >= LONGEST_WAIT or (limit is not None and asked > limit))


class RetryBudget:
    """How many retries the calls of one service may send, all together. It never makes a call wait.

    A token bucket, as in the AWS SDKs' standard mode. It starts full. A retry takes one token before its wait, and a
    success of any call returns one, up to the capacity. So occasional failures are always retried. If nothing succeeds,
    `capacity` retries are sent, and then each call sends one request and raises its error at once.

    Two retries in a call need no token: the first one whose time the provider named (`Retry-After`), because the
    provider has scheduled it, and the second attempt after a 401.
    """

    # Every event loop and thread that uses the service shares the bucket, and a process may fork at any moment. A deque
    # with a maximum length counts without a lock: `append` and `pop` are atomic, and `append` drops what is too much.
    __slots__ = ("_tokens",)

    def __init__(self, capacity: int = 100) -> None:
        self._tokens = deque([None] * capacity, maxlen=capacity)

    @property
    def tokens(self) -> int:
        """The number of retries that the budget allows now."""
        return len(self._tokens)

    def take(self) -> bool:
        """Take the token for a retry. Returns whether there was one; if not, the retry must not be sent."""
        try:
            self._tokens.pop()
        except IndexError:
            return False
        return True

    def give(self) -> None:
        """Return a token: an attempt of any call succeeded, or a retry that had taken its token was not sent."""
        self._tokens.append(None)
