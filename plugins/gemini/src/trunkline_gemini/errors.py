"""Errors: `{"error": {"code", "message", "status", "details"}}`, alone or in a list, or inside an answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.authoring.http_errors import error_body, kind_of, status_error
from trunkline.authoring.wire import WireResponse
from trunkline.errors import AuthenticationError, ContextTooLong, QuotaExhausted, RemoteError

_TOO_LONG = re.compile(r"exceeds the maximum number of (input )?tokens|input token count .* exceeds", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def error_of(wire_response: WireResponse, *, provider: str) -> RemoteError:
    """The error that a response tells of. It never raises."""
    body = error_body(wire_response)
    return error_from(body, provider=provider, status=wire_response.status, headers=wire_response.headers)


def error_from(
    body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
) -> RemoteError:
    """The error that a decoded body, or a chunk of a stream, tells of. It never raises.

    A chunk's own `code` stands for the status. The wait is in the body (`google.rpc.RetryInfo`), not in a header.
    """
    first = body[0] if isinstance(body, list) and body else body
    error = first.get("error") if isinstance(first, dict) else first
    fields: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    message, told, code = fields.get("message"), fields.get("status"), fields.get("code")
    text = message if isinstance(message, str) else ""
    details = [item for item in _list(fields.get("details")) if isinstance(item, dict)]
    if status is None and isinstance(code, int) and 400 <= code < 600:
        status = code
    return status_error(
        text,
        provider=provider,
        status=status,
        headers=headers,
        kind=_kind(status, text, details),
        code=told if isinstance(told, str) and told else None,
        wait=_wait(details),
        body=body if isinstance(body, (dict, list, str)) else None,
    )


def _kind(status: int | None, message: str, details: list[dict[str, Any]]) -> type[RemoteError] | None:
    if any(item.get("reason") == "API_KEY_INVALID" for item in details) or "API key not valid" in message:
        return AuthenticationError  # with the status 400
    if _TOO_LONG.search(message) and status in (None, 400, 413):
        return ContextTooLong
    # A quota of the day is not worth waiting for; one of the minute is.
    violations = [item for detail in details for item in _list(detail.get("violations")) if isinstance(item, dict)]
    if status == 429 and any("PerDay" in str(item.get("quotaId")) for item in violations):
        return QuotaExhausted
    return kind_of(None) if status is None else None


def _wait(details: list[dict[str, Any]]) -> float | None:
    for item in details:
        delay = item.get("retryDelay")
        if isinstance(delay, str) and (found := _DURATION.fullmatch(delay)):
            return float(found[1])
    return None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
