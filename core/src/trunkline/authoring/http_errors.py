"""Make errors from HTTP responses, for providers that use HTTP statuses as RFC 9110 defines them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

from trunkline._excerpts import bounded, cut, single_line
from trunkline._json import JSONValue, loads
from trunkline._web_pages import WEB_PAGE, describe_page
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
    TrunklineError,
)
from trunkline.secrets import Headers, HeaderValues

MESSAGE_LIMIT = 1000
"""The longest message of an error, in characters, since a message may quote a response body. The rest is counted."""

NAME_LIMIT = 200
"""The longest code and request id of an error, in characters."""

_PARSED_LIMIT = 1024 * 1024
"""The largest body of an error that is decoded, in bytes."""

_PARSED_ITEMS = 20_000
"""About how many values the body of an error that is decoded may contain. 300,000 take a third of a second."""

_KINDS: Mapping[int, type[RemoteError]] = {
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}

# A timeout, a conflict, a failed dependency, too early: the same request may succeed later.
_RETRYABLE = frozenset({408, 409, 424, 425})

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][0-9]+)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_DURATIONS = re.compile(rf"{_DURATION.pattern}(?: *{_DURATION.pattern})*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_TIME_LIMIT = 256
"""A longer text of a delay or a date, in characters, is ignored. Every valid form is shorter, even if repeated."""

LONGEST_WAIT = 365 * 86400.0
"""A server that asks for a longer wait, in seconds, counts as asking for this one. No call waits that long."""


def error_class(status: int | None) -> type[RemoteError]:
    """Return the class of the error for a status. `None` means an error inside a response: a `ServerError`."""
    if status is None or status >= 500:
        return _KINDS.get(status or 0, ServerError)
    if status in _RETRYABLE or status < 400:
        return RemoteError
    return _KINDS.get(status, BadRequest)


def status_error(
    message: str,
    *,
    provider: str,
    status: int | None = None,
    headers: HeaderValues = Headers(),
    kind: type[RemoteError] | None = None,
    code: str | None = None,
    request_id: str | None = None,
    wait: float | None = None,
    retryable: bool | None = None,
    body: JSONValue = None,
) -> RemoteError:
    """Make the error for a status, or one of the class `kind` if the provider is more specific. It never raises.

    `headers` must have lower-case names. `wait` is the delay in seconds that the body asks for; a `Retry-After` header
    takes precedence, and `parse_wait` bounds both. `retryable` is what the body says about retrying; the header
    `x-should-retry` (`true` or `false`) takes precedence, and without either the status and the class decide. Without
    `request_id`, the id is found with `request_id_from`. An empty message is replaced by the status's standard phrase.
    """
    delay = retry_after(headers)
    request_id = request_id or request_id_from(headers)
    kind = kind or error_class(status)
    should_retry = headers.get("x-should-retry", "").strip().lower()
    if should_retry in ("true", "false"):
        retryable = should_retry == "true"
    elif status == HTTPStatus.NOT_IMPLEMENTED:
        retryable = False
    elif kind is RemoteError and status in _RETRYABLE:
        retryable = True
    return kind(
        single_line(message, MESSAGE_LIMIT) or _phrase(status),
        provider=provider,
        status=status,
        code=code and single_line(code, NAME_LIMIT),
        request_id=request_id and single_line(request_id, NAME_LIMIT),
        retry_after=parse_wait(wait) if delay is None else delay,
        retryable=retryable,
        body=bounded(body),
    )


class ErrorReader(Protocol):
    """A provider's function that makes the error that a decoded body describes. It never raises."""

    def __call__(
        self, body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError: ...


def error_from_response(wire_response: WireResponse, *, provider: str, read: ErrorReader) -> RemoteError:
    """Return the error of a response with an error status: `read` gets its decoded body, status and headers."""
    body = error_body(wire_response)
    return read(body, provider=provider, status=wire_response.status, headers=wire_response.headers)


def error_from_json(
    value: JSONValue, *, provider: str, read: ErrorReader, headers: HeaderValues = Headers()
) -> RemoteError:
    """Return the error that decoded JSON describes: an event of a stream, or a body whose status is no error status.

    The JSON may be many megabytes large, in which to search takes seconds. `read` gets an excerpt if it is larger than
    32 KiB: see `trunkline.authoring.json.bounded`.
    """
    return read(bounded(value), provider=provider, headers=headers)


def error_body(wire_response: WireResponse) -> JSONValue:
    """Decode the body of an error. It never raises.

    If it is not JSON, return its text (at most 1,000 characters); for an HTML page, as proxies send, its title. Of JSON
    larger than 32 KiB, return an excerpt: see `trunkline.authoring.json.bounded`. A body larger than 1 MiB, or of
    more than about 20,000 values, counts as text. The excerpt of a text ends with the number of bytes it leaves out.
    """
    data = wire_response.body
    if len(data) <= _PARSED_LIMIT and sum(map(data.count, (b",", b"[", b"{"))) <= _PARSED_ITEMS:
        try:
            body: JSONValue = bounded(loads(data))
        except (ValueError, RecursionError):
            pass
        else:
            return body
    text = data[: 4 * MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    page = describe_page(text)
    if page is not None:
        return page
    if len(text) <= MESSAGE_LIMIT and len(data) <= 4 * MESSAGE_LIMIT:
        return text
    shown = text[: MESSAGE_LIMIT - 50]  # the number has to be a part of the message too
    return cut(shown, MESSAGE_LIMIT, omitted=len(data) - len(shown.encode("utf-8", "replace")), unit="bytes")


def is_web_page(error: TrunklineError) -> bool:
    """Return whether the answer that an error was made from is a web page, as a proxy, a firewall or a login sends."""
    return isinstance(error, RemoteError) and isinstance(error.body, str) and error.body.startswith(WEB_PAGE)


def request_id_from(headers: HeaderValues, *names: str) -> str | None:
    """Return the provider's id of a request, from the headers of its response, or `None`.

    `headers` must have lower-case names. The headers `names` are tried first, then `x-request-id`, `request-id` and any
    other whose name ends with `request-id` or `requestid`, except for ids that the client chose.
    """
    others = (
        name
        for name in headers
        if name.replace("-", "").endswith("requestid") and not name.endswith("client-request-id")
    )
    return next(
        (value for name in (*names, "x-request-id", "request-id", *others) if (value := headers.get(name))), None
    )


def _phrase(status: int | None) -> str:
    if status is None:
        return "an error without a description"
    try:
        return f"status {status} without a description ({HTTPStatus(status).phrase})"
    except ValueError:
        return f"status {status} without a description"


def retry_after(headers: HeaderValues, *, now: Callable[[], float] = time.time) -> float | None:
    """Return the delay, in seconds, that the headers of a response ask for, or `None`.

    `headers` must have lower-case names. `retry-after-ms` wins over `retry-after`, which may have a form that
    `parse_wait` reads, or be an HTTP date (RFC 9110, section 10.2.3). A date is compared with `server_time`, since the
    clock of this machine may be wrong. Invalid values and dates in the past are ignored.
    A header that was sent more than once, as a proxy may do, has several values: the longest delay is returned.
    """
    delay = _longest(headers.get("retry-after-ms"), _milliseconds)
    if delay is not None:
        return delay
    return _longest(headers.get("retry-after"), lambda value: _delay(value, lambda: server_time(headers, now=now)))


def parse_wait(value: object) -> float | None:
    """Return a delay that a server asks for, in seconds: at least 0 and at most `LONGEST_WAIT`, or `None`.

    `value` is the number of seconds, or a text: a number, or a duration (`3.5s`, `1m2.5s`, `1m 2.5s`). Anything else
    gives `None`, as do negative numbers and NaN. It never raises. Use it for a delay in a body or in a header of the
    provider's own; `retry_after` reads the standard headers with it.
    """
    if isinstance(value, str):
        value = _seconds(value.strip()) if len(value) <= _TIME_LIMIT else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None
    return float(min(value, LONGEST_WAIT))


def server_time(headers: HeaderValues, *, now: Callable[[], float] = time.time) -> float:
    """Return the time of a response by the server's clock, from its header `Date`, or `now` without a valid one.

    Times in the response are compared with this one. Both are in seconds since the epoch. The server may send any date
    from the year 1 to the year 9999, so check the result of the comparison, for example with `parse_wait`.
    """
    sent = _timestamp(headers.get("date", ""))
    return now() if sent is None else sent


def _longest(values: str | None, parse: Callable[[str], float | None]) -> float | None:
    """Return the highest of the values of a header, which are joined with commas, or `None` if none is valid.

    An HTTP date contains a comma after its weekday. What follows is also a date; the weekday alone is no valid value.
    """
    if values is None or len(values) > _TIME_LIMIT:
        return None
    parsed = (parse_wait(parse(value.strip())) for value in values.split(","))
    return max((delay for delay in parsed if delay is not None), default=None)


def _delay(value: str, now: Callable[[], float]) -> float | None:
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    when = _timestamp(value)
    return None if when is None else when - now()


def _seconds(value: str) -> float | None:
    seconds = _number(value)
    if seconds is None and _DURATIONS.fullmatch(value):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(value))
    return seconds


def _milliseconds(value: str) -> float | None:
    number = _number(value)
    return None if number is None else number / 1000


def _number(value: str) -> float | None:
    # `float` also accepts other forms, such as `1_000` and digits outside of ASCII.
    return float(value) if _NUMBER.fullmatch(value) else None


def _timestamp(date: str) -> float | None:
    if len(date) > _TIME_LIMIT:
        return None
    try:
        when: datetime = parsedate_to_datetime(date)
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError):
        return None
