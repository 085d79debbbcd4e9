"""An error answer -> the core's error.

Cohere answers `{"message": …, "id": …}`, sometimes with an `error_type`; a gateway before it may answer anything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from trunkline.authoring.http_errors import retry_after
from trunkline.authoring.json import loads
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
)

_MESSAGE_LIMIT = 1000

_BY_STATUS: dict[int, type[RemoteError]] = {
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
    498: ContentFiltered,  # Cohere's own: the prompt holds a token on its deny list
    499: RemoteError,  # the request was cancelled
    503: Overloaded,
    529: Overloaded,
}

# 408 request timeout, 409 conflict, 424 a failed dependency, 425 too early.
_RETRYABLE = frozenset({408, 409, 424, 425})

_TOO_LONG = re.compile(
    r"too many tokens|maximum context|context (length|window|size)|(prompt|input|messages) (is|are) too long",
    re.IGNORECASE,
)
# A trial key's limit for the month; the one for the minute is worth waiting for.
_NO_QUOTA = re.compile(r"/ ?month|per month|monthly|billing limit|spend(ing)? limit", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})</title", re.IGNORECASE)


def error_from_response(wire_response: WireResponse, *, provider: str) -> RemoteError:
    """The error that a response tells of, whatever its body is. It never raises."""
    text = wire_response.body.decode("utf-8", "replace").strip()
    body: object
    try:
        body = loads(text)
    except (ValueError, RecursionError):
        body = _plain_text(text)
    return error_from_body(body, provider=provider, status=wire_response.status, headers=wire_response.headers)


def error_from_body(
    body: object,
    *,
    provider: str,
    status: int | None = None,
    headers: Mapping[str, str] = {},
    request_id: str | None = None,
    now: Callable[[], float] = time.time,
) -> RemoteError:
    """The error that a decoded body tells of. It never raises.

    For an error inside a stream or inside a 200 answer `status` is `None`: what does not tell more of itself then
    counts as the server's own failure. `request_id` is the answer's id, where the error has none.
    """
    message = " ".join(_message(body).split())[:_MESSAGE_LIMIT]
    told = body if isinstance(body, dict) else {}
    code = next((value for key in ("error_type", "code") if isinstance(value := told.get(key), str) and value), None)
    kind = _kind(message, code, status)
    own_id = told.get("id")
    return kind(
        message or _status_text(status),
        provider=provider,
        status=status,
        code=code,
        request_id=own_id if isinstance(own_id, str) and own_id else request_id or headers.get("x-debug-trace-id"),
        retry_after=_wait(headers, now),
        retryable=_retryable(kind, status),
        body=body if isinstance(body, (dict, list, str, int, float, bool)) else None,
    )


def _kind(message: str, code: str | None, status: int | None) -> type[RemoteError]:
    if code == "TOO_MANY_TOKENS" or (status in (None, 400, 413, 422) and _TOO_LONG.search(message)):
        return ContextTooLong
    if status in (402, 403, 429) and _NO_QUOTA.search(message):
        return QuotaExhausted
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 0, ServerError)
    if status in _RETRYABLE:
        return RemoteError
    return _BY_STATUS.get(status, BadRequest if status >= 400 else RemoteError)


def _retryable(kind: type[RemoteError], status: int | None) -> bool | None:
    if status == 501:
        return False
    return True if kind is RemoteError and status in _RETRYABLE else None


def _wait(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    wait = retry_after(headers)
    if wait is None and "x-ratelimit-reset" in headers:
        # Unix time in seconds, as Cohere's own client reads it.
        try:
            wait = float(headers["x-ratelimit-reset"]) - now()
        except ValueError:
            return None
        return wait if 0 <= wait < float("inf") else None
    return wait


def _message(body: Any, depth: int = 0) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, dict) and depth < 4:
        for key in ("message", "error", "detail", "data"):
            found = _message(body.get(key), depth + 1)
            if found.strip():
                return found
    return ""


def _plain_text(text: str) -> str:
    if not text.startswith("<"):
        return text[:_MESSAGE_LIMIT]
    title = _TITLE.search(text)
    return f"an HTML page, {title.group(1).strip()!r}" if title else "an HTML page"


def _status_text(status: int | None) -> str:
    if status is None:
        return "an error without a description"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return f"status {status} without a description"
    return f"status {status} without a description ({phrase})"
