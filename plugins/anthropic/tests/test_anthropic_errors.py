"""Errors in the forms in which they come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trunkline.authoring.http_errors import error_from_response
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
from trunkline_anthropic.errors import error_from_body


def error_json(kind: str | None, message: str = "Oops", code: str | None = None, **fields: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": "req_body", **fields}


def error(body: object, status: int, **headers: str) -> RemoteError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_response(
        WireResponse(status=status, headers=named, body=data), provider="anthropic", read=error_from_body
    )


CASES: list[tuple[int, object, type[RemoteError], bool]] = [
    # status, body, class, whether it is retryable
    (400, error_json("invalid_request_error"), BadRequest, False),
    (400, error_json("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), ContextTooLong, False),
    (
        400,
        error_json("invalid_request_error", "input length and `max_tokens` exceed context limit"),
        ContextTooLong,
        False,
    ),
    (400, error_json("invalid_request_error", "Your credit balance is too low to access"), QuotaExhausted, False),
    (
        400,
        error_json("invalid_request_error", "You have reached your specified API usage limits."),
        QuotaExhausted,
        False,
    ),
    (400, error_json("invalid_request_error", "Output blocked by content filtering policy"), ContentFiltered, False),
    (400, error_json("invalid_request_error", code="organization_on_hold"), PermissionDenied, False),
    (401, error_json("authentication_error"), AuthenticationError, False),
    (402, error_json("billing_error"), QuotaExhausted, False),
    (402, error_json("billing_error", code="linked_organization_spend_limit_reached"), QuotaExhausted, False),
    (403, error_json("permission_error"), PermissionDenied, False),
    (404, error_json("not_found_error"), NotFound, False),
    (404, error_json("invalid_request_error"), NotFound, False),
    (409, error_json("conflict_error"), RemoteError, True),
    (409, error_json("invalid_request_error"), RemoteError, True),
    (408, error_json(None), RemoteError, True),
    (413, error_json("request_too_large"), BadRequest, False),
    (413, b"<html><title>413 Too Large</title></html>", BadRequest, False),
    (422, error_json("something_new"), BadRequest, False),
    (429, error_json("rate_limit_error"), RateLimited, True),
    (429, error_json("rate_limit_error", code="ramp_limit_exceeded"), RateLimited, True),
    (429, error_json("rate_limit_error", code="enforced_spend_limit_reached"), QuotaExhausted, False),
    (429, error_json("rate_limit_error", code="contract_spend_limit_reached"), QuotaExhausted, False),
    (500, error_json("api_error"), ServerError, True),
    (500, b"", ServerError, True),
    (501, error_json("api_error"), ServerError, False),
    (503, error_json("api_error"), Overloaded, True),
    (503, b"upstream connect error", Overloaded, True),
    (504, error_json("timeout_error"), ServerError, True),
    (529, error_json("overloaded_error"), Overloaded, True),
    (529, b"{}", Overloaded, True),
    (400, {"error": {"code": 400, "message": "too large", "type": "exceed_context_size_error"}}, ContextTooLong, False),
    (400, {"error": "model is required"}, BadRequest, False),
    (401, {"detail": "Unauthorized"}, AuthenticationError, False),
    (400, [error_json("invalid_request_error")], BadRequest, False),
    (400, b"[" * 100_000, BadRequest, False),
    (400, b"7", BadRequest, False),
]


@pytest.mark.parametrize(("status", "body", "kind", "retryable"), CASES)
def test_an_error_has_its_class(status: int, body: object, kind: type[RemoteError], retryable: bool) -> None:
    found = error(body, status)
    assert type(found) is kind
    assert found.retryable is retryable
    assert (found.status, found.provider) == (status, "anthropic")
    assert found.message


STREAMED: list[tuple[object, type[RemoteError], bool]] = [
    (error_json("overloaded_error"), Overloaded, True),
    (error_json("api_error"), ServerError, True),
    (error_json("timeout_error"), ServerError, True),
    (error_json("rate_limit_error"), RateLimited, True),
    (error_json("rate_limit_error", code="enforced_spend_limit_reached"), QuotaExhausted, False),
    (error_json("billing_error"), QuotaExhausted, False),
    (error_json("invalid_request_error"), BadRequest, False),
    (error_json("invalid_request_error", "prompt is too long"), ContextTooLong, False),
    (error_json("authentication_error"), AuthenticationError, False),
    (error_json("permission_error"), PermissionDenied, False),
    (error_json("not_found_error"), NotFound, False),
    (error_json("conflict_error"), RemoteError, True),
    (error_json("something_new"), ServerError, True),
    ({"error": "?"}, ServerError, True),
    ({"type": "error"}, ServerError, True),
]


@pytest.mark.parametrize(("body", "kind", "retryable"), STREAMED)
def test_error_without_a_status_is_classified_by_its_type(
    body: object, kind: type[RemoteError], retryable: bool
) -> None:
    found = error_from_body(body, provider="anthropic")
    assert type(found) is kind
    assert (found.retryable, found.status) == (retryable, None)
    assert found.message


def test_error_carries_the_providers_message_code_and_request_id() -> None:
    body = error_json("rate_limit_error", "Slow\n down.", code="ramp_limit_exceeded")
    found = error(body, 429, request_id="req_header", retry_after="7")
    assert (found.message, found.code, found.retry_after) == ("Slow down.", "ramp_limit_exceeded", 7)
    assert (found.request_id, found.body) == ("req_header", body)
    assert error(error_json("api_error"), 500).request_id == "req_body"
    assert error(error_json("api_error", request_id=None), 500).request_id is None
    assert error({"error": {"type": "api_error"}}, 500).code == "api_error"


@pytest.mark.parametrize(
    ("status", "wish", "retryable"), [(400, "true", True), (529, "false", False), (500, "?", True)]
)
def test_the_provider_may_say_whether_to_retry(status: int, wish: str, retryable: bool) -> None:
    assert error(error_json("api_error"), status, x_should_retry=wish).retryable is retryable


def test_html_page_is_reported_by_its_title() -> None:
    assert "502 Bad Gateway" in error(b"<html><title>502 Bad Gateway</title></html>", 502).message
    assert error(b"<p>", 502).message == "an HTML page"
    assert error(b"", 502).message == "status 502 without a description (Bad Gateway)"
    assert error(b"", 599).message == "status 599 without a description"
