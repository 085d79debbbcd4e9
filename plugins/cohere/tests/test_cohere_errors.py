"""Error answers become the errors of the core's tree."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline.authoring.http_errors import LONGEST_WAIT, error_from_response
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
from trunkline_cohere.errors import error_from_body

CASES: list[tuple[int, str, type[RemoteError], bool]] = [
    (400, "invalid request: messages must be provided", BadRequest, False),
    (400, "too many tokens: size limit exceeded by 25836 tokens.", ContextTooLong, False),
    (401, "invalid api token", AuthenticationError, False),
    (402, "please add a payment method", QuotaExhausted, False),
    (403, "your key may not use this model", PermissionDenied, False),
    (404, "model 'x' not found, make sure the correct model ID was used", NotFound, False),
    (408, "timeout", RemoteError, True),
    (409, "conflict", RemoteError, True),
    (422, "unprocessable", BadRequest, False),
    (424, "dependency", RemoteError, True),
    (425, "early", RemoteError, True),
    (429, "You are using a Trial key, which is limited to 20 API calls / minute.", RateLimited, True),
    (429, "You are using a Trial key, which is limited to 1000 API calls / month.", QuotaExhausted, False),
    (498, "blocked input: please contact support", ContentFiltered, False),
    (499, "request cancelled", RemoteError, False),
    (500, "internal server error", ServerError, True),
    (501, "not implemented", ServerError, False),
    (503, "unavailable", Overloaded, True),
    (504, "gateway timeout", ServerError, True),
    (529, "overloaded", Overloaded, True),
]


def response(status: int, body: Any, **headers: str) -> WireResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WireResponse(status=status, headers={name.replace("_", "-"): v for name, v in headers.items()}, body=data)


@pytest.mark.parametrize(("status", "message", "kind", "retryable"), CASES)
def test_each_status_has_its_error(status: int, message: str, kind: type[RemoteError], retryable: bool) -> None:
    error = error_from_response(
        response(status, {"id": "req-1", "message": message}), provider="cohere", read=error_from_body
    )
    assert type(error) is kind
    assert (error.message, error.status, error.request_id, error.retryable) == (message, status, "req-1", retryable)
    assert error.body == {"id": "req-1", "message": message}


def test_the_error_type_is_the_code_and_decides() -> None:
    body = {"error_type": "TOO_MANY_TOKENS", "id": "i", "message": "size limit"}
    error = error_from_response(response(400, body), provider="cohere", read=error_from_body)
    assert type(error) is ContextTooLong
    assert error.code == "TOO_MANY_TOKENS"


def test_the_trace_id_stands_in_for_the_request_id() -> None:
    error = error_from_response(response(500, b"", x_debug_trace_id="trace"), provider="cohere", read=error_from_body)
    assert error.request_id == "trace"


BODIES: list[tuple[Any, str]] = [
    (b"", "status 502 without a description (Bad Gateway)"),
    (b"upstream connect error", "upstream connect error"),
    (b"<html><title>502 Bad Gateway</title>", "an HTML page, '502 Bad Gateway'"),
    (b"<html>", "an HTML page"),
    ({"error": {"message": "inner"}}, "inner"),
    ({"data": "from data"}, "from data"),
    ({"detail": "a\n  b"}, "a b"),
    ([], "status 502 without a description (Bad Gateway)"),
    (b"[" * 100_000, "[" * 950 + "… (99050 more bytes)"),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
def test_a_message_is_found_in_any_body(body: Any, message: str) -> None:
    assert error_from_response(response(502, body), provider="cohere", read=error_from_body).message == message


WAITS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "3"}, 3.0),
    ({"retry-after-ms": "250"}, 0.25),
    ({"x-ratelimit-reset": "1030"}, 30.0),
    ({"x-ratelimit-reset": "900"}, None),
    ({"x-ratelimit-reset": "soon"}, None),
    ({"x-ratelimit-reset": "1e300"}, LONGEST_WAIT),
    ({"x-ratelimit-reset": "nan"}, None),
    ({"x-ratelimit-reset": "1030", "retry-after": "2"}, 2.0),
]


@pytest.mark.parametrize(("headers", "wait"), WAITS)
def test_the_wait_comes_from_the_headers(headers: dict[str, str], wait: float | None) -> None:
    error = error_from_body({}, provider="cohere", status=429, headers=headers, now=lambda: 1000.0)
    assert error.retry_after == wait


def test_an_error_without_a_status_counts_as_the_servers_own() -> None:
    error = error_from_body({"message": "m"}, provider="cohere", request_id="r")
    assert (type(error), error.request_id, error.retryable) == (ServerError, "r", True)
    assert error_from_body({}, provider="cohere").message == "an error without a description"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["message", "error", "id", "error_type"]), inner),
)


@given(body=JSON, status=st.none() | st.integers(100, 999))
def test_any_body_gives_an_error_with_a_message(body: Any, status: int | None) -> None:
    assert error_from_body(body, provider="cohere", status=status).message
