"""Error bodies of OpenAI and compatible servers -> the core's errors. Pure.

The gateways of these servers answer in many forms: the envelope `{"error": {...}}`, `{"error": "text"}`, FastAPI's
`{"detail": ...}`, API Management's `{"statusCode": ...}`, Venice's `{"error_type": ..., "error_message": ...}`, a list
around one of these, HTML, or nothing. A code takes precedence over the status, because several servers send 400 for
everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from trunkline.authoring.http_errors import error_class, error_from_json, request_id_from, status_error
from trunkline.authoring.json import JSONValue, decode_object, loads
from trunkline.authoring.provider import ServiceContext
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
from trunkline.secrets import Headers, HeaderValues

# Before the ids of a proxy in front of the server.
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "mistral-correlation-id")

# Codes and types that mean the same with any status, in lower case.
_DECISIVE: dict[str, type[RemoteError]] = {
    "context_length_exceeded": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    "too_many_prompt_tokens": ContextTooLong,  # Perplexity
    "content_filter": ContentFiltered,
    "content_filtered": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "responsibleaipolicyviolation": ContentFiltered,
    "moderation_blocked": ContentFiltered,
    "invalid_prompt": ContentFiltered,
    "bio_policy": ContentFiltered,
    "misalignment_policy_violation": ContentFiltered,
    "data_residency_mismatch": BadRequest,
    "failed_to_download_image": BadRequest,
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "insufficient_balance": QuotaExhausted,
    # The Codex endpoint of the Responses API (codex-rs/codex-api/src/sse/responses.rs in github.com/openai/codex)
    "usage_limit_reached": QuotaExhausted,
    "cyber_policy": ContentFiltered,
    # DashScope, https://www.alibabacloud.com/help/en/model-studio/error-code (read in November 2026)
    "arrearage": QuotaExhausted,
    "data_inspection_failed": ContentFiltered,
    "datainspectionfailed": ContentFiltered,
}

# Codes and types that decide if the status is 400 (which many servers send for everything) or missing.
_BY_CODE: dict[str, type[RemoteError]] = {
    "invalid_api_key": AuthenticationError,
    "authentication_error": AuthenticationError,
    "invalid_authentication": AuthenticationError,
    "unauthorized": AuthenticationError,
    "permission_error": PermissionDenied,
    "permission_denied": PermissionDenied,
    "forbidden": PermissionDenied,
    "model_not_found": NotFound,
    "not_found_error": NotFound,
    "not_found": NotFound,
    "deploymentnotfound": NotFound,
    "invalid_model": NotFound,
    "model_decommissioned": NotFound,  # Groq
    "rate_limit_exceeded": RateLimited,
    "rate_limit_error": RateLimited,
    "ratelimitreached": RateLimited,
    "too_many_requests": RateLimited,
    "overloaded_error": Overloaded,
    "overloaded": Overloaded,
    "service_unavailable": Overloaded,
    "unavailable_error": Overloaded,
    "engine_overloaded": Overloaded,
    "server_is_overloaded": Overloaded,  # OpenAI's Codex endpoint, as the next code
    "slow_down": Overloaded,
    "server_error": ServerError,
    "internal_error": ServerError,
    "internal_server_error": ServerError,
    "api_error": ServerError,
    "invalid_request_error": BadRequest,
    "tool_use_failed": BadRequest,
    "provider_unavailable": Overloaded,  # OpenRouter
    "invalidapikey": AuthenticationError,  # DashScope, with the next four
    "accessdenied": PermissionDenied,
    "modelnotfound": NotFound,
    "invalidparameter": BadRequest,
    "internalerror": ServerError,
    # Zhipu and Z.ai, https://docs.z.ai/api-reference/api-code
    "1113": QuotaExhausted,
    "1211": NotFound,
    "1261": ContextTooLong,
    "1301": ContentFiltered,
    "1302": RateLimited,
    "1303": RateLimited,
    "1304": QuotaExhausted,
    "1305": Overloaded,
    "1308": QuotaExhausted,
}

# The fields that describe an error, at the top level of a body or chunk. A field of the first row means an error even
# next to choices. A field of the second row means an error only if there are no choices.
_ERROR_FIELDS = ("error", "errors", "error_message", "error_msg", "errorMessage")
_DESCRIPTIONS = ("message", "detail", "msg", "code", "error_type", "error_code", "errorCode", "fault")

ERROR_FIELDS = frozenset({*_ERROR_FIELDS, *_DESCRIPTIONS, "base_resp", "success", "Successful"})
"""A body or chunk without these fields is not an error."""

# Messages of OpenAI, vLLM, llama.cpp, Groq, DeepSeek, OpenRouter, Together, LM Studio and their like.
_TOO_LONG = re.compile(
    r"maximum context length|context[ _]length[ _]exceeded|exceeds? the (available |model'?s? )?context|"
    r"context (window|size|length) (is )?(exceeded|too small|limit)|larger than the (maximum|model'?s?) context|"
    r"reduce the length of the (messages|prompt|input)|(prompt|input|messages) (is|are) too long|"
    r"exceeds? the (model'?s? )?(maximum|max) (context|input|prompt|sequence)|"
    r"total length of all messages is too long|max(imum)? prompt length|tokens? to keep from the initial prompt",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content management policy|content violates usage guidelines|violat\w+ (of )?our usage polic|"
    r"input was flagged|rejected (as a result of|by) (our|the) safety system",
    re.IGNORECASE,
)
_NO_QUOTA = re.compile(
    r"exceeded your current quota|insufficient (balance|credits?|funds)|used all available credits|"
    r"monthly spending limit|requires more credits|credit balance is too low",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(r"rate limit|too many requests|throttl", re.IGNORECASE)
_BAD_KEY = re.compile(r"(incorrect|invalid) api key", re.IGNORECASE)
_NO_MODEL = re.compile(r"^(model not found|invalid model)\b", re.IGNORECASE)
_DEPTH = 4
"""How many levels of nested messages are searched."""


@attrs.frozen(kw_only=True)
class _Facts:
    message: str
    codes: tuple[str, ...]
    number: int | None


def error_from_body(
    body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
) -> RemoteError:
    """The error that a decoded body describes. It never raises.

    For an error inside a stream or a 200 response, `status` is `None` or 200. The code, the type or a status number in
    the body then decide the class, and that number becomes the error's `status`. An error that gives no reason counts
    as the server's own failure.
    """
    facts = _facts(body)
    effective = status if status is not None and status >= 400 else facts.number
    return status_error(
        facts.message,
        provider=provider,
        status=status if effective is None else effective,
        headers=headers,
        kind=_kind(facts, effective),
        code=facts.codes[0] if facts.codes else None,
        request_id=request_id_from(headers, *_REQUEST_ID_HEADERS) or headers.get("cf-ray"),
        body=body,
    )


def _kind(facts: _Facts, status: int | None) -> type[RemoteError]:
    codes = [code.lower() for code in facts.codes]
    for code in codes:
        if code in _DECISIVE:
            return _DECISIVE[code]
        if code.startswith(("image_", "invalid_image")):  # the Responses API has a dozen of these
            return BadRequest
    client_error = status in (None, 400, 403, 413, 422)
    if (client_error or status == 500) and _TOO_LONG.search(facts.message):
        return ContextTooLong
    if client_error and _FILTERED.search(facts.message):
        return ContentFiltered
    if (client_error or status in (402, 429)) and _NO_QUOTA.search(facts.message):
        return QuotaExhausted
    if status in (None, 400):
        if _BAD_KEY.search(facts.message):
            return AuthenticationError
        if _NO_MODEL.search(facts.message):
            return NotFound
        for code in codes:
            if code in _BY_CODE:
                return _BY_CODE[code]
            if code.partition(".")[0] in _BY_CODE or code.startswith("throttling"):
                return _BY_CODE.get(code.partition(".")[0], RateLimited)
        if _TOO_MANY.search(facts.message):
            return RateLimited
    return error_class(status)


def is_error(body: Mapping[str, Any], *, alone: bool) -> bool:
    """Whether a decoded body or chunk describes an error. `alone` is whether it has no choices.

    MiniMax sends the status zero in each successful response: https://platform.minimax.io/docs/api-reference/errorcode.
    """
    status = body.get("base_resp")
    if any(body.get(field) for field in _ERROR_FIELDS) or (isinstance(status, dict) and status.get("status_code")):
        return True
    if body.get("success") is False or body.get("Successful") is False:
        return alone
    return alone and any(body.get(field) for field in _DESCRIPTIONS)


def _facts(body: object) -> _Facts:
    message = ""
    codes: list[str] = []
    number: int | None = None
    for level in _levels(body):
        if isinstance(level, str):
            message = message or level
            continue
        message = message or _message(level)
        for key in ("code", "type", "error_code", "errorCode", "error_type"):
            value = level.get(key)
            if isinstance(value, str) and value and value != "error":
                codes.append(value)
        for key in ("code", "status", "statusCode", "status_code", "raw_status_code", "error_code", "HttpStatusCode"):
            number = number or _status_number(level.get(key))
        if not codes and isinstance(level.get("code"), int) and not isinstance(level["code"], bool):
            codes.append(str(level["code"]))
        if isinstance(level.get("metadata"), dict):
            inner = _upstream(level["metadata"])
            message = f"{message}: {inner}" if inner and message else message or inner
    return _Facts(message=message, codes=tuple(codes), number=number)


def _levels(body: object) -> Iterator[Any]:
    # The innermost description first, because it is the most exact.
    found: list[object] = []
    level = body
    for _ in range(6):
        if isinstance(level, list):
            level = level[0] if level and isinstance(level[0], (dict, str)) else None
        if isinstance(level, str):
            found.append(level)
            break
        if not isinstance(level, dict):
            break
        found.append(level)
        level = next(
            (
                level[key]
                for key in ("error", "errors", "innererror", "inner_error", "fault", "base_resp")
                if level.get(key)
            ),
            None,
        )
    described = [level for level in found if level]
    # An inner error of Azure has only a code. The message is then found in the outer one.
    yield from reversed(described)


_MESSAGES = (
    "message",
    "detail",
    "details",
    "msg",
    "error_message",
    "error_msg",
    "errorMessage",
    "status_msg",
    "error_description",
)


def _message(level: Mapping[str, Any], depth: int = 0) -> str:
    for key in _MESSAGES:
        value = level.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, dict) and depth < _DEPTH and (inner := _message(value, depth + 1)):
            return inner
        if isinstance(value, list):
            problems = [text for item in value[:5] if (text := _validation(item))]
            if problems:
                return "; ".join(problems)
    return ""


def _validation(item: object) -> str:
    # FastAPI's form. Its field `input` is left out, because it repeats the request, prompt included.
    if isinstance(item, str):
        return item
    if not isinstance(item, dict) or not isinstance(item.get("msg"), str):
        return ""
    where = item.get("loc")
    path = ".".join(str(step) for step in where if isinstance(step, (str, int))) if isinstance(where, list) else ""
    return f"{path}: {item['msg']}" if path else str(item["msg"])


def _upstream(metadata: Mapping[str, Any]) -> str:
    # OpenRouter's message is "Provider returned error"; the provider's own body is in metadata.raw.
    raw, name = metadata.get("raw"), metadata.get("provider_name")
    if not isinstance(raw, str) or not raw.strip():
        return ""
    try:
        decoded = loads(raw)
    except (ValueError, RecursionError):
        decoded = None
    inner = ""
    for level in _levels(decoded):
        inner = inner or (level if isinstance(level, str) else _message(level))
    return f"{name}: {inner or raw}" if isinstance(name, str) else inner or raw


def _status_number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None


def response_body(context: ServiceContext[Any], wire_response: WireResponse) -> Any:
    """Return the JSON object or list of a response. Raises the error that it describes, and `ProtocolViolation`."""
    try:
        body = loads(wire_response.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and body.get("error"):
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    if not isinstance(body, (dict, list)):
        return decode_object(wire_response.body, "the response", provider=context.provider)  # says what it is
    return body
