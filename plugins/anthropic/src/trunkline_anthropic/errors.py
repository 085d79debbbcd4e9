"""The error that a response or a stream carries, as the core's error.

Anthropic's documentation says to branch on `details.error_code` first and on the error's `type` second, since messages
may change. Gateways in front of the API, and servers that imitate it, send other forms, so the status counts as well,
and any body is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.authoring.http_errors import error_class, request_id_from, status_error
from trunkline.authoring.json import JSONValue, as_object, as_string
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
from trunkline.secrets import Headers, HeaderValues

# These codes decide alone, whatever the type and the status.
_BY_CODE: dict[str, type[RemoteError]] = {
    "contract_spend_limit_reached": QuotaExhausted,
    "enforced_spend_limit_reached": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "linked_organization_billing_unavailable": QuotaExhausted,
    "ramp_limit_exceeded": RateLimited,
    "organization_on_hold": PermissionDenied,
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    # OpenAI's codes, from servers that offer both APIs
    "context_length_exceeded": ContextTooLong,
    "invalid_api_key": AuthenticationError,
    "insufficient_quota": QuotaExhausted,
    "rate_limit_exceeded": RateLimited,
    # Codes of Alibaba's Model Studio
    "Throttling": RateLimited,
    "Throttling.RateQuota": RateLimited,
    "Throttling.AllocationQuota": RateLimited,
    "Arrearage": QuotaExhausted,
}

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

# Servers use these types for everything, so a status that is more specific wins over them.
_GENERIC = ("invalid_request_error", "api_error")

# The API has no codes for these conditions, only messages.
_BY_MESSAGE: tuple[tuple[re.Pattern[str], type[RemoteError]], ...] = (
    (
        re.compile(
            r"prompt is too long|exceeds? the (available |model'?s? )?context"
            r"|input length and `?max_tokens`? exceed",
            re.IGNORECASE,
        ),
        ContextTooLong,
    ),
    (
        re.compile(r"content filtering policy|blocked by .{0,40}(safety|content) (filter|polic)", re.IGNORECASE),
        ContentFiltered,
    ),
    (
        re.compile(r"credit balance is too low|reached your specified .{0,20}usage limits", re.IGNORECASE),
        QuotaExhausted,
    ),
)


_MARKS = frozenset({"error", "error_type", "error_message", "error_code"})


def describes_error(data: Mapping[str, Any]) -> bool:
    """Return whether a body or an event of a stream describes an error.

    Errors of the API have the type `error`. Other servers send a type such as `overloaded_error`, or only some of the
    fields of an error.
    """
    kind = data.get("type")
    if isinstance(kind, str) and (kind == "error" or kind.endswith("_error")):
        return True
    if not _MARKS.isdisjoint(data) and any(data.get(name) for name in _MARKS):
        return True
    # In the API, `message` is an object, and only events contain it.
    if kind is not None or "content" in data:
        return False
    return bool(data.get("detail")) or isinstance(data.get("message") or data.get("msg"), str)


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """Return the error that a decoded body describes. It never raises.

    An error inside a stream, or in a body with status 200, has the status `None`: its code or type then decides.
    """
    error = _error(body)
    code = _code(error)
    names = [
        name
        for name in (code, error.get("type"), error.get("error_type"))
        if isinstance(name, str) and name and name != "error"
    ]
    message = _message(error, body)
    if status is None and (number := _status(code)) is not None:
        # An error inside a response. Its code is an HTTP status that the server received from upstream.
        kind = _kind(names, message, number)
        retryable = True if kind is RemoteError else None
        return status_error(message, provider=provider, kind=kind, code=str(code), retryable=retryable, body=body)
    kind = _kind(names, message, status)
    return status_error(
        message,
        provider=provider,
        status=status,
        headers=headers,
        kind=kind,
        code=names[0] if names else None,
        request_id=request_id_from(headers, "request-id")
        or headers.get("cf-ray")
        or as_string(as_object(body).get("request_id")),
        # The general class is only chosen for what may succeed later, such as a conflict.
        retryable=True if kind is RemoteError else None,
        body=body,
    )


def _kind(names: list[str], message: str, status: int | None) -> type[RemoteError]:
    for name in names:
        if name in _BY_CODE:
            return _BY_CODE[name]
    named = next((name for name in names if name in _BY_TYPE), None)
    if named in (None, "invalid_request_error", "billing_error", "rate_limit_error") and (status or 400) < 500:
        for pattern, kind in _BY_MESSAGE:
            if pattern.search(message):
                return kind
    by_status = error_class(status)
    is_specific = status is not None and by_status not in (BadRequest, ServerError)
    if named is None or (named in _GENERIC and is_specific):
        return by_status
    return _BY_TYPE[named]


def _status(code: object) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code < 600 else None


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
    return as_object(error.get("details")).get("error_code") or error.get("error_code") or error.get("code")


def _message(error: Mapping[str, Any], body: object) -> str:
    if isinstance(body, str):
        return body
    texts = (as_string(error.get(name)) for name in ("message", "error_message", "detail", "msg"))
    return next((text for text in texts if text and text.strip()), "")
