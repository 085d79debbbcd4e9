"""Every error shape becomes the right error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline._plugins.registry import open_steps
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
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline.secrets import Secret
from trunkline_mistral import MistralSettings, mistral
from trunkline_mistral.errors import error_from_body

PARSER = open_steps(
    mistral, ServiceContext(name="s", provider="mistral", settings=MistralSettings(api_key=Secret("secret")))
).parser


def own(message: Any, kind: str, code: str | None, status: int | None = None) -> dict[str, Any]:
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
    return body if status is None else {**body, "raw_status_code": status}


def answered(status: int, body: object, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PARSER.error(WireResponse(status=status, headers=named, body=data))


DETAIL = [
    {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": "PROMPT"}
]
TOO_LONG = "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"
TABLE: list[tuple[int, object, type[RemoteError], str, str | None]] = [
    (401, {"detail": "Invalid API Key"}, AuthenticationError, "Invalid API Key", None),
    (401, {"message": "Unauthorized", "request_id": "r"}, AuthenticationError, "Unauthorized", None),
    (400, own("Invalid model: x", "invalid_model", "1500", 400), NotFound, "Invalid model: x", "1500"),
    (400, own("Logprobs are not enabled for this model", "invalid_request_invalid_args", "3051", 400), BadRequest, "Logprobs", "3051"),  # noqa: E501
    (400, own(TOO_LONG, "invalid_request_prompt", "3051", 400), ContextTooLong, "40000 tokens", "3051"),
    (422, own({"detail": DETAIL}, "invalid_request_error", None, 422), BadRequest, "body.seed: Extra inputs", "invalid_request_error"),  # noqa: E501
    (422, {"detail": DETAIL}, BadRequest, "body.seed: Extra inputs", None),
    (403, {"detail": "no access"}, PermissionDenied, "no access", None),
    (403, {"error": {"message": "Content blocked by guardrail", "status": 403}, "guardrails": {"results": {}}}, ContentFiltered, "blocked by guardrail", None),  # noqa: E501
    (404, {"detail": "Not Found"}, NotFound, "Not Found", None),
    (429, own("Rate limit exceeded", "rate_limited", "1300", 429), RateLimited, "Rate limit exceeded", "1300"),
    (429, {"message": "Requests rate limit exceeded"}, RateLimited, "Requests rate limit", None),
    (429, own("Service tier capacity exceeded for this model.", "service_tier_capacity_exceeded", "3505", 429), Overloaded, "capacity", "3505"),  # noqa: E501
    (429, own("Service tier capacity exceeded for this model.", "invalid_request_error", None), Overloaded, "capacity", "invalid_request_error"),  # noqa: E501
    (500, own("oops", "internal_server_error", "1000"), ServerError, "oops", "1000"),
    (503, b"<html><title>no upstream</title>", Overloaded, "no upstream", None),
    (502, b"", ServerError, "Bad Gateway", None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "message", "code"), TABLE)
def test_an_error_answer(status: int, body: object, kind: type[RemoteError], message: str, code: str | None) -> None:
    error = answered(status, body, mistral_correlation_id="id", retry_after="7")
    assert type(error) is kind
    assert message in error.message
    assert "PROMPT" not in str(error)
    assert (error.provider, error.status, error.code) == ("mistral", status, code)
    assert (error.request_id, error.retry_after) == ("id", 7.0)
    assert error.retryable is issubclass(kind, (RateLimited, ServerError))


IN_STREAM: list[tuple[object, type[RemoteError], int | None]] = [
    (own("m", "rate_limited", "1300"), RateLimited, None),
    (own("m", "", "1300", 429), RateLimited, 429),
    (own("Service tier capacity exceeded", "x", None), Overloaded, None),
    (own("m", "invalid_request_prompt", "3210"), BadRequest, None),
    (own("Invalid model: x", "invalid_model", "1500"), NotFound, None),
    (own("m", "internal_server_error", None), ServerError, None),
    (own(None, "", None), ServerError, None),
    ({"object": "error"}, ServerError, None),
]


@pytest.mark.parametrize(("body", "kind", "status"), IN_STREAM)
def test_an_error_without_a_status_line(body: object, kind: type[RemoteError], status: int | None) -> None:
    error = error_from_body(body, provider="mistral")
    assert type(error) is kind
    assert error.status == status
    assert error.message


def test_the_request_id_may_stand_in_the_body() -> None:
    assert answered(401, {"message": "Unauthorized", "request_id": "r"}).request_id == "r"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "1300", "rate_limited", "capacity exceeded"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["object", "message", "detail", "type", "code", "raw_status_code", "error", "guardrails", "request_id"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=40), st.sampled_from([400, 401, 403, 422, 429, 500]))
def test_no_body_makes_it_raise(body: object, status: int) -> None:
    assert answered(status, body).message
    if not isinstance(body, bytes):
        assert error_from_body(body, provider="mistral").message
