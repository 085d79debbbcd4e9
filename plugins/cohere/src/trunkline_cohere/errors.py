"""Turn an error response into the core's error.

Cohere's error body is `{"message": …, "id": …}`, sometimes with an `error_type`. A gateway in front of it may send
anything.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from trunkline.authoring.http_errors import error_from_json, parse_wait, request_id_from, server_time, status_error
from trunkline.authoring.json import JSONValue, as_object, as_string, decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ContentFiltered, ContextTooLong, QuotaExhausted, RemoteError
from trunkline.secrets import Headers, HeaderValues

from trunkline_cohere.settings import CohereSettings

_OWN_STATUSES: Mapping[int | None, type[RemoteError]] = {
    498: ContentFiltered,  # the prompt contains a token on Cohere's deny list
    499: RemoteError,  # the request was cancelled
}

_TOO_LONG = re.compile(
    r"too many tokens|maximum context|context (length|window|size)|(prompt|input|messages) (is|are) too long",
    re.IGNORECASE,
)
# The monthly limit of a trial key. The limit per minute is a `RateLimited`, which is worth waiting for.
_NO_QUOTA = re.compile(r"/ ?month|per month|monthly|billing limit|spend(ing)? limit", re.IGNORECASE)


def error_from_body(
    body: JSONValue,
    *,
    provider: str,
    status: int | None = None,
    headers: HeaderValues = Headers(),
    request_id: str | None = None,
    now: Callable[[], float] = time.time,
) -> RemoteError:
    """Return the error that a decoded body describes. It never raises.

    `status` is `None` for an error inside a stream or inside a response with status 200; unless the body is more
    specific, such an error is the server's own failure. `request_id` is the response's id, used if the error has none.
    """
    message = _message(body)
    fields = as_object(body)
    code = next((value for key in ("error_type", "code") if (value := as_string(fields.get(key)))), None)
    return status_error(
        message,
        provider=provider,
        status=status,
        headers=headers,
        kind=_kind(message, code, status),
        code=code,
        request_id=as_string(fields.get("id")) or request_id or request_id_from(headers, "x-debug-trace-id"),
        wait=_wait(headers, now),
        body=body,
    )


def _kind(message: str, code: str | None, status: int | None) -> type[RemoteError] | None:
    if code == "TOO_MANY_TOKENS" or (status in (None, 400, 413, 422) and _TOO_LONG.search(message)):
        return ContextTooLong
    if status in (402, 403, 429) and _NO_QUOTA.search(message):
        return QuotaExhausted
    return _OWN_STATUSES.get(status)


def _wait(headers: HeaderValues, now: Callable[[], float]) -> float | None:
    # Unix time in seconds, as Cohere's own client reads it.
    try:
        return parse_wait(float(headers["x-ratelimit-reset"]) - server_time(headers, now=now))
    except (KeyError, ValueError):
        return None


def _message(body: Any, depth: int = 0) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, dict) and depth < 4:
        for key in ("message", "error", "detail", "data"):
            found = _message(body.get(key), depth + 1)
            if found.strip():
                return found
    return ""


def response_body(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> dict[str, Any]:
    """Return the JSON object of a response. Raises the error that it describes, and `ProtocolViolation`."""
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    if isinstance(body.get("message"), str):
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    return body
