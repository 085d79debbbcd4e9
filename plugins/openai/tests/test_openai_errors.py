import json

import pytest
from hypothesis import given, strategies as st
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
from trunkline_openai.errors import error_from_body


def answer(status: int, body: object = b"", **headers: str) -> RemoteError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_response(
        WireResponse(status=status, headers=named, body=data), provider="acme", read=error_from_body
    )


def envelope(message: str = "no", **fields: object) -> dict[str, object]:
    return {"error": {"message": message, **fields}}


BY_STATUS = [
    (400, BadRequest, False),
    (401, AuthenticationError, False),
    (402, QuotaExhausted, False),
    (403, PermissionDenied, False),
    (404, NotFound, False),
    (408, RemoteError, True),
    (409, RemoteError, True),
    (413, BadRequest, False),
    (422, BadRequest, False),
    (425, RemoteError, True),
    (429, RateLimited, True),
    (498, BadRequest, False),
    (500, ServerError, True),
    (501, ServerError, False),
    (502, ServerError, True),
    (503, Overloaded, True),
    (504, ServerError, True),
    (529, Overloaded, True),
]


@pytest.mark.parametrize(("status", "kind", "retryable"), BY_STATUS)
def test_the_status_tells_the_class(status: int, kind: type[RemoteError], retryable: bool) -> None:
    error = answer(status, envelope())
    assert type(error) is kind
    assert error.retryable is retryable
    assert (error.status, error.message, error.provider) == (status, "no", "acme")


BY_CODE = [
    (400, envelope(code="context_length_exceeded"), ContextTooLong),
    (400, envelope(type="exceed_context_size_error", code=400, n_ctx=8), ContextTooLong),
    (400, envelope("This model's maximum context length is 8 tokens."), ContextTooLong),
    (400, envelope("Please reduce the length of the messages or completion."), ContextTooLong),
    (400, {"error": {"code": 400, "message": "This endpoint's maximum context length is 9 tokens"}}, ContextTooLong),
    (500, envelope("the request exceeds the available context size"), ContextTooLong),
    (429, envelope("Rate limit reached. Please reduce the length of the messages"), RateLimited),
    (400, envelope(code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}), ContentFiltered),
    (400, envelope(inner_error={"code": "ResponsibleAIPolicyViolation"}), ContentFiltered),
    (400, envelope(code="content_policy_violation"), ContentFiltered),
    (403, {"error": {"code": 403, "message": "x", "metadata": {"raw": '{"error":"Content violates usage guidelines"}'}}}, ContentFiltered),  # noqa: E501
    (429, envelope(type="insufficient_quota", code="insufficient_quota"), QuotaExhausted),
    (429, envelope("You exceeded your current quota, please check your plan."), QuotaExhausted),
    (402, envelope("Insufficient Balance", code="invalid_request_error"), QuotaExhausted),
    (400, {"code": "invalid-argument", "error": "Incorrect API key provided."}, AuthenticationError),
    (400, envelope(code="model_not_found"), NotFound),
    (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}, NotFound),
    (401, envelope(type="invalid_request_error"), AuthenticationError),
    (404, envelope(code="DeploymentNotFound"), NotFound),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind"), BY_CODE)
def test_a_code_or_a_wording_is_more_exact_than_the_status(status: int, body: object, kind: type[RemoteError]) -> None:
    assert type(answer(status, body)) is kind


BODIES = [
    ({"error": {"message": "why", "code": "c"}}, "why"),
    ({"error": "why"}, "why"),
    ([{"error": {"message": "why"}}], "why"),
    ({"detail": "why"}, "why"),
    ({"detail": [{"loc": ["body", "model"], "msg": "why", "input": "the prompt"}]}, "body.model: why"),
    ({"object": "error", "message": {"detail": [{"msg": "why"}]}}, "why"),
    ({"message": "why"}, "why"),
    ({"statusCode": 401, "message": "why"}, "why"),
    ({"errors": [{"message": "why", "code": 7}]}, "why"),
    ("why", "why"),
    (b"why", "why"),
    (b"<html><head><title>502 Bad Gateway</title></head></html>", "an HTML page, '502 Bad Gateway'"),
    (b"", "status 418 without a description (I'm a Teapot)"),
    ({}, "status 418 without a description (I'm a Teapot)"),
    (None, "status 418 without a description (I'm a Teapot)"),
    (b"\xff\xfe\x00", "\ufffd\ufffd\\x00"),
    (b"[" * 100_000, "[" * 950 + "… (99050 more bytes)"),
]


@pytest.mark.parametrize(("body", "message"), BODIES, ids=range(len(BODIES)))
def test_the_message_is_found_in_any_body(body: object, message: str) -> None:
    error = answer(418, body)
    assert error.message == message
    assert str(error).startswith("acme: ")


def test_an_upstream_error_is_quoted_with_its_provider() -> None:
    raw = json.dumps({"error": {"message": "too hot"}})
    body = {
        "error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": raw, "provider_name": "X"}}
    }
    error = answer(400, body)
    assert error.message == "Provider returned error: X: too hot"
    assert error.code == "400"


def test_the_headers_give_request_id_and_wait() -> None:
    error = answer(429, envelope(), x_request_id="r1", cf_ray="c", retry_after="7")
    assert (error.request_id, error.retry_after) == ("r1", 7.0)
    assert answer(500, b"", cf_ray="c").request_id == "c"
    assert answer(500, b"", apim_request_id="a", cf_ray="c").request_id == "a"
    assert answer(429, b"", x_github_request_id="g").request_id == "g"


@pytest.mark.parametrize(
    ("status", "wish", "retryable"), [(500, "false", False), (400, "true", True), (429, "x", True)]
)
def test_x_should_retry_overrides(status: int, wish: str, retryable: bool) -> None:
    assert answer(status, envelope(), x_should_retry=wish).retryable is retryable


IN_STREAM = [
    ({"error": {"message": "m", "code": 502}}, ServerError, True, 502),
    ({"error": {"message": "m", "code": 400}}, BadRequest, False, 400),
    ({"error": {"message": "m", "code": "429"}}, RateLimited, True, 429),
    ({"error": {"message": "m", "type": "server_error"}}, ServerError, True, None),
    ({"error": {"message": "m", "type": "overloaded_error"}}, Overloaded, True, None),
    ({"error": {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed"}}, BadRequest, False, None),
    ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, RateLimited, True, None),
    ({"error": {"message": "m", "code": "insufficient_quota"}}, QuotaExhausted, False, None),
    ({"error": {"message": "m", "code": "bio_policy"}}, ContentFiltered, False, None),
    ({"error": {"message": "m", "code": "invalid_image_format"}}, BadRequest, False, None),
    ({"error": {"message": "m", "code": "image_too_large"}}, BadRequest, False, None),
    ({"error": {"message": "m", "code": "data_residency_mismatch"}}, BadRequest, False, None),
    ({"error": {"message": "m"}}, ServerError, True, None),
    ({"error": {}}, ServerError, True, None),
    (None, ServerError, True, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "retryable", "status"), IN_STREAM)
def test_an_error_inside_a_stream_is_classified_without_a_status(
    body: object, kind: type[RemoteError], retryable: bool, status: int | None
) -> None:
    error = error_from_body(body, provider="acme")
    assert type(error) is kind
    assert (error.retryable, error.status) == (retryable, status)
    assert error.message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["error", "1", "429"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "code", "type", "status", "metadata", "raw", "msg", "loc", "errors"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(body=JSON, status=st.none() | st.integers(100, 599))
def test_no_body_makes_it_raise(body: object, status: int | None) -> None:
    error = error_from_body(body, provider="acme", status=status)
    assert isinstance(error, RemoteError)
    assert error.message.strip()


def test_a_message_nested_without_end_is_given_up() -> None:
    body: dict[str, object] = {"msg": "never found"}
    for _ in range(100_000):
        body = {"message": {"detail": body}}
    assert error_from_body(body, provider="acme", status=500).message
