"""Turn an error response into the core's error.

The body is `{"error": {"code", "message", "status", "details"}}`, alone or in a list. In a stream, such an object takes
the place of a chunk.
"""

from __future__ import annotations

import re
from typing import Any

from trunkline.authoring.http_errors import parse_wait, status_error
from trunkline.authoring.json import JSONValue, as_objects, as_string
from trunkline.errors import AuthenticationError, ContextTooLong, QuotaExhausted, RemoteError
from trunkline.secrets import Headers, HeaderValues

_TOO_LONG = re.compile(r"exceeds the maximum number of (input )?tokens|input token count .* exceeds", re.IGNORECASE)


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """Return the error that a decoded body, or a chunk of a stream, describes. It never raises.

    A chunk has no HTTP status of its own, so its `code` is used. Gemini sends the delay before a retry in the body
    (`google.rpc.RetryInfo`) rather than in a header.
    """
    first = body[0] if isinstance(body, list) and body else body
    error = first
    if isinstance(first, dict):
        # A gateway may leave out the object around the fields, or use another name for the object.
        error = first.get("error") or first.get("errors") or (first if "message" in first else first.get("detail"))
        error = error[0] if isinstance(error, list) and error else error
    fields: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    message, code = as_string(fields.get("message")) or "", fields.get("code")
    details = as_objects(fields.get("details"))
    if status is None and isinstance(code, int) and 400 <= code < 600:
        status = code
    return status_error(
        message,
        provider=provider,
        status=status,
        headers=headers,
        kind=_kind(status, message, details),
        code=as_string(fields.get("status")) or None,
        wait=_wait(details),
        body=body,
    )


def _kind(status: int | None, message: str, details: list[dict[str, Any]]) -> type[RemoteError] | None:
    if any(item.get("reason") == "API_KEY_INVALID" for item in details) or "API key not valid" in message:
        return AuthenticationError  # sent with status 400
    if _TOO_LONG.search(message) and status in (None, 400, 413):
        return ContextTooLong
    # A daily quota is not worth waiting for; a quota per minute is.
    violations = [item for detail in details for item in as_objects(detail.get("violations"))]
    if status == 429 and any("PerDay" in str(item.get("quotaId")) for item in violations):
        return QuotaExhausted
    return None


def _wait(details: list[dict[str, Any]]) -> float | None:
    for item in details:
        delay = parse_wait(item.get("retryDelay"))
        if delay is not None:
            return delay
    return None
