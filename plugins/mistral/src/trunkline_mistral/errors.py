"""Turn an error body into the core's error, where Mistral differs from other Chat Completions servers.

Mistral's API sends `{"object": "error", "message", "type", "param", "code", "raw_status_code"}`, also inside a stream.
`message` may be an object with the `detail` of a failed validation, and `code` is a number in a string ("1300": too
many requests). Mistral's gateway sends `{"message", "request_id"}`, and its guardrails send
`{"error": {...}, "guardrails": {...}}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trunkline.authoring.json import JSONValue, as_object, as_string
from trunkline.errors import BadRequest, ContentFiltered, Overloaded, RateLimited, RemoteError, ServerError
from trunkline.secrets import Headers, HeaderValues
from trunkline_openai.errors import error_from_body as chat_completions_error

_NO_CAPACITY = re.compile(r"capacity exceeded", re.IGNORECASE)
_GUARDRAIL = re.compile(r"blocked by (a )?guardrail", re.IGNORECASE)


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """Return the error that a decoded body describes. It never raises."""
    error = chat_completions_error(body, provider=provider, status=status, headers=headers)
    fields = as_object(body)
    kind = _kind(error, fields)
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
    error.request_id = error.request_id or as_string(fields.get("request_id"))
    return error


def _kind(error: RemoteError, body: Mapping[str, object]) -> type[RemoteError]:
    if "guardrails" in body or _GUARDRAIL.search(error.message):
        return ContentFiltered
    if _NO_CAPACITY.search(error.message):
        # The model is out of capacity; the caller did not exceed a rate limit, even if the status is 429.
        return Overloaded
    if type(error) is ServerError and (error.status is None or error.status < 500):
        # An error inside a stream, or inside a response with status 200, without a status of its own.
        if body.get("code") == "1300" or body.get("type") == "rate_limited":
            return RateLimited
        if (as_string(body.get("type")) or "").startswith("invalid_request"):
            return BadRequest
    return type(error)
