"""Errors: `{"error": "…"}`, with an HTTP status or as a line of a stream. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trunkline.authoring.http_errors import error_body, status_error
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ContextTooLong, QuotaExhausted, RemoteError

_TOO_LONG = re.compile(r"exceed\w* .{0,40}context|prompt (is )?too long", re.IGNORECASE)
# `you have reached your weekly usage limit`: hours or days, and not worth a retry.
_QUOTA = re.compile(r"usage limit", re.IGNORECASE)


def error_of(wire_response: WireResponse, *, provider: str) -> RemoteError:
    """The error that a response tells of. It never raises."""
    body = error_body(wire_response)
    return error_from(body, provider=provider, status=wire_response.status, headers=wire_response.headers)


def error_from(
    body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
) -> RemoteError:
    """The error that a decoded body, or a line of a stream, tells of. It never raises."""
    error = body.get("error") if isinstance(body, dict) else body
    # Gateways in front of Ollama write an object with a message.
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else ""
    return status_error(
        text,
        provider=provider,
        status=status,
        headers=headers,
        kind=_kind(status, text),
        body=body if isinstance(body, (dict, list, str)) else None,
    )


def _kind(status: int | None, message: str) -> type[RemoteError] | None:
    if status in (None, 400, 413, 500) and _TOO_LONG.search(message):
        return ContextTooLong
    return QuotaExhausted if status == 429 and _QUOTA.search(message) else None
