"""Turn an error response into the core's error.

The body is `{"error": "…"}`. In a stream, such an object takes the place of a line.
"""

from __future__ import annotations

import re

from trunkline.authoring.http_errors import status_error
from trunkline.authoring.json import JSONValue, as_string
from trunkline.errors import ContextTooLong, QuotaExhausted, RemoteError
from trunkline.secrets import Headers, HeaderValues

_TOO_LONG = re.compile(r"exceed\w* .{0,40}context|prompt (is )?too long", re.IGNORECASE)
# `you have reached your weekly usage limit`: it resets after hours or days, so a retry is no use.
_QUOTA = re.compile(r"usage limit", re.IGNORECASE)


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """Return the error that a decoded body, or a line of a stream, describes. It never raises."""
    error = body.get("error") if isinstance(body, dict) else body
    # Gateways in front of Ollama send an object with a message instead of a string.
    message = as_string(error.get("message") if isinstance(error, dict) else error) or ""
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
    return QuotaExhausted if status == 429 and _QUOTA.search(message) else None
