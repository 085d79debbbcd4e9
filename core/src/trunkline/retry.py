"""What is retried, when, and how long to wait. The one owner of retries; deciding is pure.

A call is retried only before its first event, only for errors that say they are `retryable`, and at most `max_retries`
times. The wait is what the provider asks for (`Retry-After` in its forms, up to a cap), else it grows exponentially
with full jitter, so that many callers who failed together do not return together.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import attrs

from trunkline.errors import RemoteError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """The wait, in seconds, that a response's headers (names in lower case) ask for, or `None`.

    Read in this order: `retry-after-ms` (OpenAI, Azure), `retry-after` in seconds, as a duration (`1m2.5s`) or as an
    HTTP date (RFC 9110, section 10.2.3). What cannot be read, and a time that has passed, asks for nothing.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = _duration(value)
    if seconds is None:
        seconds = _until(value, now)
    return seconds


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


def _duration(value: str) -> float | None:
    matches = _DURATION.findall(value.strip())
    if not matches or "".join(number + unit for number, unit in matches) != value.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in matches)


def _until(value: str, now: Callable[[], float]) -> float | None:
    try:
        when: datetime = parsedate_to_datetime(value)
    except (ValueError, OverflowError, IndexError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    wait = when.timestamp() - now()
    return wait if wait >= 0 else None


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a service retries. Times are in seconds.

    A provider that asks for more than `longest_retry_after` is not waited for: the error reaches the caller, with
    `retry_after` on it, since a wait of that length is the application's to decide.
    """

    max_retries: int = 2
    first_delay: float = 0.5
    longest_delay: float = 8.0
    longest_retry_after: float = 60.0

    def delay(
        self, failures: int, error: Exception, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> float | None:
        """How long to wait after the `failures`-th failed attempt (from 1), or `None` to give up."""
        if failures > self.max_retries or not isinstance(error, RemoteError) or not error.retryable:
            return None
        if error.retry_after is not None:
            if error.retry_after > self.longest_retry_after:
                return None
            # Never before the time that was asked for; a little after it, spread.
            return error.retry_after + uniform(0, min(1.0, 0.1 + 0.1 * error.retry_after))
        longest: float = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        return uniform(0.1, 1) * longest
