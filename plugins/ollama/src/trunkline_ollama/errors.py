"""Turn an error response into the core's error.

The body is `{"error": "…"}`. In a stream, such an object takes the place of a line.
"""

from __future__ import annotations

import re

from trunkline.authoring.http_errors import status_error
from trunkline.authoring.json import JSONValue, as_object, as_string
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RemoteError,
)
from trunkline.secrets import Headers, HeaderValues

_TOO_LONG = re.compile(r"exceed\w* .{0,40}context|prompt (is )?too long", re.IGNORECASE)
# `you have reached your weekly usage limit`: it resets after hours or days, so a retry is no use.
_QUOTA = re.compile(r"usage limit", re.IGNORECASE)

# Messages of errors without a status, in a stream or in a body with status 200. The texts are from the server's
# routes.go and sched.go (August 2026).
_BY_MESSAGE: tuple[tuple[re.Pattern[str], type[RemoteError]], ...] = (
    (_QUOTA, QuotaExhausted),
    (re.compile(r"too many requests|rate limit", re.IGNORECASE), RateLimited),
    (re.compile(r"server busy|overloaded", re.IGNORECASE), Overloaded),
    (re.compile(r"^unauthorized", re.IGNORECASE), AuthenticationError),
    (re.compile(r"^model .{1,200} not found", re.IGNORECASE), NotFound),
    (re.compile(r"does not support|is not supported|invalid (image|format|model)", re.IGNORECASE), BadRequest),
)
_TEXTS = ("message", "detail", "error", "errors")
_STATUS_FIELDS = ("status", "status_code", "StatusCode", "code")


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """Return the error that a decoded body, or a line of a stream, describes. It never raises."""
    fields = as_object(body)
    error = fields.get("error") if isinstance(body, dict) else body
    # Gateways in front of Ollama send an object with a message instead of a string, or use other field names.
    inner = error if isinstance(error, dict) else {}
    found = (error, *(inner.get(key) for key in _TEXTS), *(fields.get(key) for key in _TEXTS))
    message = next((text for value in found if (text := as_string(value))), "")
    if status is None or status < 400:
        stated = (level.get(key) for level in (inner, fields) for key in _STATUS_FIELDS)
        status = next((number for value in stated if (number := _status(value))), status)
    return status_error(
        message,
        provider=provider,
        status=status,
        headers=headers,
        kind=_kind(status, message),
        body=body,
    )


def _kind(status: int | None, message: str) -> type[RemoteError] | None:
    if status in (None, 400, 413, 500) and _TOO_LONG.search(message):
        return ContextTooLong
    if status is None or status < 400:
        return next((kind for pattern, kind in _BY_MESSAGE if pattern.search(message)), None)
    return QuotaExhausted if status == 429 and _QUOTA.search(message) else None


def _status(value: object) -> int | None:
    return value if type(value) is int and 400 <= value <= 599 else None
