"""An error body -> the core's error, where Mistral differs from the dialect.

Mistral's own form is `{"object": "error", "message", "type", "param", "code", "raw_status_code"}`, in a stream as well;
`message` may hold a validation's `detail`. Its gateway answers with `{"message", "request_id"}`, its guardrails with
`{"error": {...}, "guardrails": {...}}`. `code` is a number in a string ("1300": too many requests).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trunkline.errors import BadRequest, ContentFiltered, Overloaded, RateLimited, RemoteError, ServerError
from trunkline_openai.errors import error_from_body as dialect_error

_NO_CAPACITY = re.compile(r"capacity exceeded", re.IGNORECASE)
_GUARDRAIL = re.compile(r"blocked by (a )?guardrail", re.IGNORECASE)


def error_from_body(
    body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
) -> RemoteError:
    """The error that a decoded body tells of. It never raises."""
    error = dialect_error(body, provider=provider, status=status, headers=headers)
    told = body if isinstance(body, dict) else {}
    kind = _kind(error, told)
    if kind is not type(error):
        error = kind(
            error.message,
            provider=error.provider,
            status=error.status,
            code=error.code,
            request_id=error.request_id,
            retry_after=error.retry_after,
            body=error.body,
        )
    if error.request_id is None and isinstance(told.get("request_id"), str):
        error.request_id = told["request_id"]
    return error


def _kind(error: RemoteError, body: Mapping[str, object]) -> type[RemoteError]:
    if "guardrails" in body or _GUARDRAIL.search(error.message):
        return ContentFiltered
    if _NO_CAPACITY.search(error.message):
        # The model's capacity, not the caller's share of it, whatever the status.
        return Overloaded
    if type(error) is ServerError and (error.status is None or error.status < 500):
        # An error in a stream, or in a 200 answer, that tells no status.
        if body.get("code") == "1300" or body.get("type") == "rate_limited":
            return RateLimited
        told = body.get("type")
        if isinstance(told, str) and told.startswith("invalid_request"):
            return BadRequest
    return type(error)
