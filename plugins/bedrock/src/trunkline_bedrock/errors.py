"""What AWS answers in place of an answer -> the core's error.

The name of an error comes in a header, in the body or in a frame of the stream, with a capital or without, and with a
namespace before it or a URL behind it. It decides before the status does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from trunkline.authoring.http_errors import retry_after
from trunkline.authoring.json import JSONValue, loads
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

# The class of an error, by its name without the ending `Exception`, and the status that the service's model gives it.
_BY_NAME: dict[str, tuple[type[RemoteError], int | None]] = {
    "Validation": (BadRequest, 400),
    "Serialization": (BadRequest, 400),
    "MalformedInput": (BadRequest, 400),
    "Conflict": (BadRequest, 409),
    "AccessDenied": (PermissionDenied, 403),
    "Unauthorized": (AuthenticationError, 401),
    "OptInRequired": (PermissionDenied, 403),
    "SubscriptionRequired": (PermissionDenied, 403),
    "UnrecognizedClient": (AuthenticationError, 403),
    "InvalidClientTokenId": (AuthenticationError, 403),
    "InvalidAccessKeyId": (AuthenticationError, 403),
    "InvalidSignature": (AuthenticationError, 403),
    "SignatureDoesNotMatch": (AuthenticationError, 403),
    "IncompleteSignature": (AuthenticationError, 403),
    "MissingAuthenticationToken": (AuthenticationError, 403),
    "InvalidToken": (AuthenticationError, 403),
    "InvalidIdentityToken": (AuthenticationError, 400),
    "ExpiredToken": (AuthenticationError, 403),
    "TokenRefreshRequired": (AuthenticationError, 403),
    "RequestExpired": (AuthenticationError, 400),
    "ResourceNotFound": (NotFound, 404),
    "UnknownOperation": (NotFound, 404),
    "ServiceQuotaExceeded": (QuotaExhausted, 400),
    "Throttling": (RateLimited, 429),
    "Throttled": (RateLimited, 429),
    "TooManyRequests": (RateLimited, 429),
    "RequestLimitExceeded": (RateLimited, 429),
    "ModelNotReady": (Overloaded, 429),
    "ModelTimeout": (RemoteError, 408),
    "ModelError": (RemoteError, 424),
    "ModelStreamError": (RemoteError, 424),
    "InternalServer": (ServerError, 500),
    "InternalServerError": (ServerError, 500),
    "InternalFailure": (ServerError, 500),
    "ServiceUnavailable": (Overloaded, 503),
}
_BY_STATUS: dict[int, type[RemoteError]] = {
    401: AuthenticationError,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
    503: Overloaded,
}
_RETRYABLE_STATUSES = frozenset({408, 409, 424, 425})

# Wordings of the models' own servers, which Bedrock passes on.
_TOO_LONG = re.compile(
    r"input is too long|input tokens? exceeded|prompt is too long|maximum context length|"
    r"exceeds? (the )?(model'?s? )?(maximum|max|context)( \w+)? ?(length|window|tokens)|exceeds maximum length|"
    r"too many (input )?tokens: |too large for model with \d+ maximum context|"
    r"exceed(s|ed)? (the )?(model'?s? )?context|reduce the length of the (prompt|input|messages)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model identifier is invalid|could not resolve the foundation model", re.IGNORECASE)
_BAD_API_KEY = re.compile(r"api key|bearer token", re.IGNORECASE)
_DAILY = re.compile(r"tokens per day|requests per day|daily", re.IGNORECASE)
_FILTERED = re.compile(r"blocked by (our |the )?content filter", re.IGNORECASE)
# What follows repeats the request that was signed, session token included.
_CANONICAL = re.compile(r"The Canonical String|The String-to-Sign")


def error_name(told: object) -> str | None:
    """The plain name of an error: `com.amazon.x#throttlingException:http://…` is `ThrottlingException`."""
    if not isinstance(told, str):
        return None
    name = told.partition(":")[0].rpartition("#")[2].strip()
    return name[:1].upper() + name[1:] if name else None


def error_from_response(wire_response: WireResponse, *, provider: str) -> RemoteError:
    """The error that a response tells of, whatever its body is. It never raises."""
    text = wire_response.body.decode("utf-8", "replace").strip()
    body: Any
    try:
        body = loads(text)
    except (ValueError, RecursionError):
        body = text[:_MESSAGE_LIMIT] if not text.startswith("<") else "an HTML or XML page"
    headers = wire_response.headers
    fields = body if isinstance(body, dict) else {}
    name = (
        error_name(headers.get("x-amzn-errortype"))
        or error_name(fields.get("__type"))
        or error_name(fields.get("code"))
    )
    return error_from_facts(
        name=name,
        message=message_of(body),
        status=wire_response.status,
        provider=provider,
        request_id=request_id(headers),
        headers=headers,
        body=body,
    )


def message_of(body: object) -> str:
    """What an error's body says, in its spellings."""
    if isinstance(body, str):
        return body
    if isinstance(body, dict):
        for key in ("message", "Message", "errorMessage", "originalMessage", "error"):
            value = body.get(key)
            if isinstance(value, str) and value.strip():
                return value
            if isinstance(value, dict) and isinstance(value.get("message"), str):
                return str(value["message"])
    return ""


def error_from_facts(
    *,
    name: str | None,
    message: str,
    status: int | None,
    provider: str,
    request_id: str | None = None,
    headers: Mapping[str, str] = {},
    body: Any = None,
) -> RemoteError:
    """The error for a name, a message and a status, any of which may be missing. It never raises."""
    message = " ".join(_without_request(message).split())[:_MESSAGE_LIMIT]
    short = (error_name(name) or "").removesuffix("Exception")
    kind, modelled = _BY_NAME.get(short, (None, None))
    told = status if status is not None and status >= 400 else modelled
    kind = _refined(kind or _kind_by_status(told), short, message, told)
    return kind(
        _described(short, message, told if told is not None else status),
        provider=provider,
        status=told if told is not None else status,
        code=error_name(name),
        request_id=request_id,
        retry_after=retry_after(headers),
        retryable=True if kind is RemoteError and told in _RETRYABLE_STATUSES else False if told == 501 else None,
        body=_safe_body(body),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """AWS's id for a request, from a response's headers (names in lower case)."""
    return headers.get("x-amzn-requestid") or headers.get("x-amz-request-id")


def _refined(kind: type[RemoteError], name: str, message: str, status: int | None) -> type[RemoteError]:
    if issubclass(kind, BadRequest) or name in ("ModelError", "ModelStreamError"):
        if _TOO_LONG.search(message):
            return ContextTooLong
        if _NO_MODEL.search(message):
            return NotFound
        if _FILTERED.search(message):
            return ContentFiltered
    # A wrong or expired API key is told as a lack of permission.
    if kind is PermissionDenied and (_BAD_API_KEY.search(message) or "security token" in message):
        return AuthenticationError
    if kind is RateLimited and _DAILY.search(message):
        return QuotaExhausted
    return kind


def _kind_by_status(status: int | None) -> type[RemoteError]:
    if status is None or status >= 500:
        return _BY_STATUS.get(status or 0, ServerError)
    if status in _RETRYABLE_STATUSES:
        return RemoteError
    return _BY_STATUS.get(status, BadRequest if status >= 400 else RemoteError)


def _described(name: str, message: str, status: int | None) -> str:
    if not message:
        try:
            phrase = HTTPStatus(status).phrase if status is not None else ""
        except ValueError:
            phrase = ""
        message = name or (f"status {status} without a description" + (f" ({phrase})" if phrase else ""))
    if name in ("ExpiredToken", "RequestExpired", "TokenRefreshRequired"):
        return f"the AWS credentials have expired: {message}"
    if name == "InvalidSignature" and "Signature expired" in message:
        return f"the request's time is too far from AWS's; set this machine's clock: {message}"
    return message


def _without_request(text: str) -> str:
    found = _CANONICAL.search(text)
    return text[: found.start()].rstrip() if found is not None else text


def _safe_body(body: Any) -> JSONValue:
    if isinstance(body, dict):
        return {key: _without_request(value) if isinstance(value, str) else value for key, value in body.items()}
    if isinstance(body, str):
        return _without_request(body)
    return body if isinstance(body, (list, int, float, bool)) else None
