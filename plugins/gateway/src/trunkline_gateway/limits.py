"""Requests and tokens a minute of a key: the interface, and the limiter of one process.

Both limiters count in buckets of a second, and look at the last 60 of them. `redis_limits.py` has the one for several
processes.
"""

from __future__ import annotations

from typing import Protocol

import attrs


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

        A request with more tokens than the limit is allowed if nothing else is counted.
        """
        ...

    async def settle(self, grant: Grant, tokens: int) -> None:
        """Correct the tokens of a request to what it used. Never raises; does nothing for a window that has passed."""

    async def aclose(self) -> None:
        """Close connections."""
