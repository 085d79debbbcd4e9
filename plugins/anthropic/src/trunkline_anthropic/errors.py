"""An error answer -> the core's error.

The provider asks to branch on `details.error_code`, then on the error's type; its messages may change. Gateways before
it and servers that imitate it answer in other forms, so a status is understood too, and any body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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

_REQUEST_ID_HEADERS = ("request-id", "x-request-id", "apim-request-id", "x-vertex-ai-request-id", "cf-ray")

# Codes that mean the same whatever the type and the status.
_BY_CODE: dict[str, type[RemoteError]] = {
    "contract_spend_limit_reached": QuotaExhausted,
    "enforced_spend_limit_reached": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "linked_organization_billing_unavailable": QuotaExhausted,
    "ramp_limit_exceeded": RateLimited,
    "organization_on_hold": PermissionDenied,
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    "context_length_exceeded": ContextTooLong,
}

# `conflict_error` and its like have no class of their own; the status tells whether they are retried.
_BY_TYPE: dict[str, type[RemoteError]] = {
    "authentication_error": AuthenticationError,
    "billing_error": QuotaExhausted,
    "permission_error": PermissionDenied,
    "not_found_error": NotFound,
    "request_too_large": BadRequest,
    "rate_limit_error": RateLimited,
    "timeout_error": ServerError,
    "overloaded_error": Overloaded,
    "conflict_error": RemoteError,
    "invalid_request_error": BadRequest,
    "api_error": ServerError,
}

# These types are given to everything; a status that says more comes before them.
_GENERIC = ("invalid_request_error", "api_error")

_BY_STATUS: dict[int, type[RemoteError]] = {
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}

# 408 request timeout, 409 conflict, 425 too early.
_RETRYABLE_STATUSES = frozenset({408, 409, 425})

_TOO_LONG = re.compile(
    r"prompt is too long|exceeds? the (available |model'?s? )?context|input length and `?max_tokens`? exceed",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content filtering policy|blocked by .{0,40}(safety|content) (filter|polic)", re.IGNORECASE)
_NO_QUOTA = re.compile(r"credit balance is too low|reached your specified .{0,20}usage limits", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})</title", re.IGNORECASE)


def error_from_response(wire_response: WireResponse, *, provider: str) -> RemoteError:
    """The error that a response tells of, whatever its body is. It never raises."""
    text = wire_response.body.decode("utf-8", "replace").strip()
    body: object
    try:
        body = loads(text)
    except (ValueError, RecursionError):
        body = _page(text)
    return error_from_body(body, provider=provider, status=wire_response.status, headers=wire_response.headers)


def error_from_body(
    body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
) -> RemoteError:
    """The error that a decoded body tells of. It never raises.

    For an error inside a stream or inside a 200 answer `status` is `None`: the code or the type then decides the class.
    """
    error = _error(body)
    kinds = [text for text in (_code(error), error.get("type")) if isinstance(text, str) and text and text != "error"]
    message = " ".join(_message(error, body).split())[:_MESSAGE_LIMIT]
    kind = _kind(kinds, message, status)
    told_id = body.get("request_id") if isinstance(body, dict) else None
    return kind(
        message or _status_text(status),
        provider=provider,
        status=status,
        code=kinds[0] if kinds else None,
        request_id=request_id(headers) or (told_id if isinstance(told_id, str) else None),
        retry_after=retry_after(headers),
        retryable=_retryable(kind, status, headers),
        body=body if isinstance(body, (dict, list, str, int, float, bool)) else None,
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id for a request, from a response's headers (names in lower case)."""
    return next((value for name in _REQUEST_ID_HEADERS if (value := headers.get(name))), None)


def _kind(kinds: list[str], message: str, status: int | None) -> type[RemoteError]:
    for kind in kinds:
        if kind in _BY_CODE:
            return _BY_CODE[kind]
    named = next((kind for kind in kinds if kind in _BY_TYPE), None)
    if named in (None, "invalid_request_error", "billing_error", "rate_limit_error") and (status or 400) < 500:
        # The API has no codes for these.
        for pattern, told in ((_TOO_LONG, ContextTooLong), (_FILTERED, ContentFiltered), (_NO_QUOTA, QuotaExhausted)):
            if pattern.search(message):
                return told
    if named is None or (named in _GENERIC and status in _BY_STATUS):
        return _kind_by_status(status)
    if named in _GENERIC and status in _RETRYABLE_STATUSES:
        return RemoteError
    return _BY_TYPE[named]


def _kind_by_status(status: int | None) -> type[RemoteError]:
    if status in _RETRYABLE_STATUSES:
        return RemoteError
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 0, ServerError)
    return _BY_STATUS.get(status, BadRequest if status >= 400 else RemoteError)


def _retryable(kind: type[RemoteError], status: int | None, headers: Mapping[str, str]) -> bool | None:
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish in ("true", "false"):
        return wish == "true"
    if status == 501:
        return False
    return True if kind is RemoteError else None


def _error(body: object) -> Mapping[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    error = body.get("error")
    if isinstance(error, str):
        return {**body, "message": error}
    return error if isinstance(error, dict) else body


def _code(error: Mapping[str, Any]) -> object:
    details = error.get("details")
    found = details.get("error_code") if isinstance(details, dict) else None
    return found or error.get("error_code") or error.get("code")


def _message(error: Mapping[str, Any], body: object) -> str:
    if isinstance(body, str):
        return body
    found = (error.get(name) for name in ("message", "detail"))
    return next((text for text in found if isinstance(text, str) and text.strip()), "")


def _page(text: str) -> str:
    if not text.startswith("<"):
        return text[:_MESSAGE_LIMIT]
    title = _TITLE.search(text)
    return f"an HTML page, {title.group(1).strip()!r}" if title else "an HTML page"


def _status_text(status: int | None) -> str:
    if status is None:
        return "an error without a description"
    try:
        return f"status {status} without a description ({HTTPStatus(status).phrase})"
    except ValueError:
        return f"status {status} without a description"
