"""Error answers in AWS's spellings, each with its class, its facts and without the secrets that AWS repeats."""

import json
from typing import Any

import pytest
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline_bedrock.errors import error_from_response, error_name, is_skewed, make_error

URL = ":http://internal.amazon.com/coral/com.amazon.bedrock/"


def error(status: int, body: Any, **headers: str) -> RemoteError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_response(WireResponse(status=status, headers=named, body=data), provider="bedrock")


@pytest.mark.parametrize(
    ("status", "name", "message", "kind", "retryable"),
    [
        (400, "ValidationException", "no", BadRequest, False),
        (400, "ValidationException", "The provided model identifier is invalid.", NotFound, False),
        (400, "ValidationException", "Input is too long for requested model.", ContextTooLong, False),
        (
            400,
            "ValidationException",
            "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum "
            "length. Please update the input to try again.",
            ContextTooLong,
            False,
        ),
        (400, "ValidationException", "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong, False),
        (
            400,
            "ValidationException",
            "Invocation of model ID m with on-demand throughput isn’t supported. Retry your request with the ID or "
            "ARN of an inference profile that contains this model.",
            BadRequest,
            False,
        ),
        (400, "ServiceQuotaExceededException", "m", QuotaExhausted, False),
        (403, "AccessDeniedException", "You don't have access to the model", PermissionDenied, False),
        (403, "AccessDeniedException", "Please make sure your API Key is valid.", AuthenticationError, False),
        (403, None, "Bearer Token has expired", AuthenticationError, False),
        (403, "UnrecognizedClientException", "m", AuthenticationError, False),
        (403, "InvalidSignatureException", "m", AuthenticationError, False),
        (403, "ExpiredTokenException", "m", AuthenticationError, False),
        (403, "MissingAuthenticationTokenException", "m", AuthenticationError, False),
        (404, "ResourceNotFoundException", "m", NotFound, False),
        (408, "ModelTimeoutException", "m", RemoteError, True),
        (424, "ModelErrorException", "m", RemoteError, True),
        (429, "ThrottlingException", "Too many requests", RateLimited, True),
        (429, "ThrottlingException", "Too many tokens per day, please wait", QuotaExhausted, False),
        (429, "ModelNotReadyException", "m", Overloaded, True),
        (500, "InternalServerException", "m", ServerError, True),
        (503, "ServiceUnavailableException", "m", Overloaded, True),
        (400, None, "m", BadRequest, False),
        (401, None, "m", AuthenticationError, False),
        (402, None, "m", QuotaExhausted, False),
        (403, None, "m", PermissionDenied, False),
        (404, None, "m", NotFound, False),
        (409, None, "m", RemoteError, True),
        (418, "NewException", "m", BadRequest, False),
        (429, None, "m", RateLimited, True),
        (501, None, "m", ServerError, False),
        (502, None, "m", ServerError, True),
        (503, None, "m", Overloaded, True),
    ],
)
def test_errors(status: int, name: str | None, message: str, kind: type[RemoteError], retryable: bool) -> None:
    headers = {"x_amzn_errortype": name + URL} if name else {}
    found = error(status, {"message": message}, x_amzn_requestid="id-1", retry_after="3", **headers)
    assert (type(found), found.retryable) == (kind, retryable)
    assert (found.status, found.code, found.request_id, found.retry_after) == (status, name, "id-1", 3.0)
    assert message[:40] in found.message


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("ThrottlingException", "ThrottlingException"),
        ("throttlingException", "ThrottlingException"),
        ("com.amazon.coral.service#ExpiredTokenException", "ExpiredTokenException"),
        ("ValidationException:http://internal/", "ValidationException"),
        ("", None),
        (5, None),
    ],
)
def test_error_names_are_normalised(value: object, name: str | None) -> None:
    assert error_name(value) == name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "a"}, "a"),
        ({"Message": "a"}, "a"),
        ({"__type": "x#ThrottlingException", "message": ""}, "Throttling"),
        ({"error": {"message": "a"}}, "a"),
        (b"plain", "plain"),
        (b"<html><body>", "HTML"),
        (b"", "Bad Request"),
        (b"\xff", "�"),
        ([], "Bad Request"),
    ],
)
def test_messages_are_found_in_any_body(body: Any, message: str) -> None:
    assert message in error(400, body).message


def test_expired_key_is_reported_as_expired() -> None:
    found = error(
        403,
        {"message": "The security token included in the request is expired"},
        x_amzn_errortype="ExpiredTokenException",
    )
    assert "have expired" in found.message


def test_wrong_clock_is_reported() -> None:
    message = "Signature expired: 20251102T171419Z is now earlier than 20251102T171519Z (20251102T172019Z - 5 min.)"
    found = error(403, {"message": message}, x_amzn_errortype="InvalidSignatureException")
    assert isinstance(found, AuthenticationError)
    assert "clock" in found.message


def test_the_request_that_aws_repeats_is_not_shown() -> None:
    message = (
        "The request signature we calculated does not match.\n\n"
        "The Canonical String for this request should have been\n"
        "'POST\n/\n\nx-amz-security-token:CANARY\n'\n\nThe String-to-Sign should have been\n'CANARY'"
    )
    found = error(403, {"message": message}, x_amzn_errortype="InvalidSignatureException")
    assert "does not match" in found.message
    assert "CANARY" not in f"{found} {found.body} {found.args}"


@pytest.mark.parametrize("name", ["RequestTimeTooSkewed", "InvalidSignatureException", "SignatureDoesNotMatch"])
def test_each_error_about_a_wrong_clock_says_so(name: str) -> None:
    error = make_error(name=name, message="Signature expired: 1 is now earlier than 2", status=403, provider="bedrock")
    assert is_skewed(error)
    assert "set this machine's clock" in error.message
