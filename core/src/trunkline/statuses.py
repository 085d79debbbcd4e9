"""The error that an HTTP status tells of, for providers whose statuses mean what RFC 9110 says."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from trunkline.errors import (
    AuthenticationError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline.jsonvalue import JSONValue, loads
from trunkline.retry import retry_after
from trunkline.wire import WireResponse

MESSAGE_LIMIT = 1000
"""How much of a body an error's message quotes, in characters."""

_KINDS: Mapping[int, type[RemoteError]] = {
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}

# A timeout, a conflict, too early: the same request may succeed.
_RETRYABLE = frozenset({408, 409, 425})


def kind_of(status: int | None) -> type[RemoteError]:
    """The class of error for a status; `None` is an error inside an answer, which is the provider's own failure."""
    if status is None or status >= 500:
        return _KINDS.get(status or 0, ServerError)
    if status in _RETRYABLE or status < 400:
        return RemoteError
    return _KINDS.get(status, InvalidRequest)


def status_error(
    message: str,
    *,
    provider: str,
    status: int | None = None,
    headers: Mapping[str, str] = {},
    kind: type[RemoteError] | None = None,
    code: str | None = None,
    wait: float | None = None,
    body: JSONValue = None,
) -> RemoteError:
    """The error for a status, or of the class `kind` where the provider says more. It never raises.

    `headers` have names in lower case; `wait` is the time in seconds that the body asks for, where no header does. An
    empty message becomes the status's own phrase.
    """
    asked = retry_after(headers)
    return (kind or kind_of(status))(
        " ".join(message.split())[:MESSAGE_LIMIT] or _phrase(status),
        provider=provider,
        status=status,
        code=code,
        retry_after=wait if asked is None else asked,
        retryable=True if kind is None and status in _RETRYABLE else None,
        body=body,
    )


def error_body(wire_response: WireResponse) -> JSONValue:
    """The body of an error, decoded, or its text (at most 1,000 characters) where it is not JSON. It never raises."""
    try:
        body: JSONValue = loads(wire_response.body)
    except (ValueError, RecursionError):
        return wire_response.body[: 4 * MESSAGE_LIMIT].decode("utf-8", "replace")[:MESSAGE_LIMIT].strip()
    return body


def _phrase(status: int | None) -> str:
    if status is None:
        return "an error without a description"
    try:
        return f"status {status} without a description ({HTTPStatus(status).phrase})"
    except ValueError:
        return f"status {status} without a description"
