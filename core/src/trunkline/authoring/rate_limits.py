"""Read rate limits from the headers of a response. A provider only declares the names of its headers:

    RATE_LIMITS = RateLimitHeaders(
        requests=(LimitHeaders(limit="acme-limit", remaining="acme-remaining", reset="acme-reset"),),
    )

and passes them as `rate_limits` to `ProviderParts` or `Provider`. The core calls `read_rate_limits` for each response.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import attrs

from trunkline.authoring.http_errors import LONGEST_WAIT, server_time
from trunkline.response import RateLimit, RateLimits
from trunkline.secrets import HeaderValues

__all__ = ["NO_RATE_LIMITS", "LimitHeaders", "RateLimitHeaders", "parse_reset", "read_rate_limits"]

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|d|h|m|s)")
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern} *)+")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_EPOCH = 1e9
"""A larger number of seconds, which would be 31 years, is a Unix timestamp."""
_EPOCH_MILLISECONDS = 1e11
"""A larger number is a Unix timestamp in milliseconds."""

_DIGITS = 15
"""A number with more digits means that there is no limit. Servers send 2 to the power of 63, or about that."""
_VALUE_LIMIT = 200
"""A longer value of a header, in characters, is ignored. Every valid form is shorter."""
_RAW_LIMIT = 64
"""How many headers `raw` has at most."""


@attrs.frozen(kw_only=True)
class LimitHeaders:
    """The names of the headers that describe one limit, in lower case. `None` if the provider has no such header.

    `reset` may have any form that `parse_reset` reads.
    """

    limit: str | None = None
    remaining: str | None = None
    reset: str | None = None


@attrs.frozen(kw_only=True)
class RateLimitHeaders:
    """The names of the headers in which a provider reports each of the `RateLimits`.

    Servers that speak the same API may have different headers. So each field is a tuple: the first `LimitHeaders` of
    which any header was sent is used.
    """

    requests: tuple[LimitHeaders, ...] = ()
    tokens: tuple[LimitHeaders, ...] = ()
    input_tokens: tuple[LimitHeaders, ...] = ()
    output_tokens: tuple[LimitHeaders, ...] = ()


NO_RATE_LIMITS = RateLimitHeaders()
"""For a provider that reports no limits in headers."""


def read_rate_limits(
    headers: HeaderValues, names: RateLimitHeaders, *, now: Callable[[], float] = time.time
) -> RateLimits | None:
    """Return the rate limits that the headers of a response report, or `None` if there are none.

    `headers` must have lower-case names. A value that is missing or cannot be read is `None`. Headers whose names
    contain `limit` are in `raw`, also those that `names` lacks, unless the name says that it is a key. `now` is the
    time in seconds since the epoch; it is used only if a reset is a date and the response has no header `Date`. It
    never raises.
    """
    raw = {
        name: value
        for name, value in headers.items()
        if "limit" in name and "key" not in name and len(value) <= _VALUE_LIMIT
    }
    if not raw:
        return None
    if len(raw) > _RAW_LIMIT:
        raw = dict(list(raw.items())[:_RAW_LIMIT])
    sent: list[float] = []

    def server_now() -> float:
        if not sent:
            sent.append(server_time(headers, now=now))
        return sent[0]

    def read(kinds: tuple[LimitHeaders, ...]) -> RateLimit | None:
        for kind in kinds:
            limit, remaining, reset = raw.get(kind.limit or ""), raw.get(kind.remaining or ""), None
            if kind.reset is not None:
                reset = raw.get(kind.reset)
            if limit is None and remaining is None and reset is None:
                continue
            found = RateLimit(
                limit=_count(limit), remaining=_count(remaining), reset_after=parse_reset(reset, now=server_now)
            )
            return None if found == _UNKNOWN else found
        return None

    return RateLimits(
        requests=read(names.requests),
        tokens=read(names.tokens),
        input_tokens=read(names.input_tokens),
        output_tokens=read(names.output_tokens),
        raw=raw,
    )


_UNKNOWN = RateLimit()


def _count(value: str | None) -> int | None:
    if value is None:
        return None
    value = value.strip()
    # Azure sends -1 for "unknown".
    return int(value) if len(value) <= _DIGITS and value.isascii() and value.isdigit() else None


def parse_reset(value: str | None, *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds until a limit resets, between 0 and `LONGEST_WAIT`, or `None` for a value of another form.

    `value` is a number of seconds (`3.5`), a duration (`1m6.5s`, `6ms`), a Unix timestamp in seconds or milliseconds,
    or a date (RFC 3339, or as in HTTP). `now` returns the time by the server's clock; dates and timestamps are compared
    with it. A time in the past gives 0. It never raises.
    """
    if value is None or len(value) > _VALUE_LIMIT:
        return None
    value = value.strip()
    seconds: float | None
    if _NUMBER.fullmatch(value):
        seconds = float(value)
        if seconds >= _EPOCH:
            seconds = (seconds / 1000 if seconds >= _EPOCH_MILLISECONDS else seconds) - now()
    elif _DURATIONS.fullmatch(value):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(value))
    else:
        moment = _moment(value)
        seconds = None if moment is None else moment - now()
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


def _moment(value: str) -> float | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            when = read(value)
            return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, IndexError, TypeError):
            continue
    return None
