"""The Claude Platform on AWS: requests are those of Anthropic's SDK, and signatures are those that AWS verifies.

No recording shows an answer of this place. Answers of Anthropic behind it are taken to be those of Anthropic's own API;
the form of AWS's own errors is that of its other services.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
import trunkline
from anthropic import AnthropicAWS
from anthropic_sdk import COUNTED, FIELDS, REQUEST, assert_same, sent_by
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import Operation, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    RateLimited,
    TrunklineError,
)
from trunkline.secrets import Secret
from trunkline.testing import Exchange, serve
from trunkline_bedrock import AnthropicAWSSettings, anthropic_aws

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
KEYS = {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "canary-secret"}


def context(**settings: Any) -> ServiceContext[Any]:
    given = {"aws_region": "us-west-2", "workspace_id": "wrkspc_1", "api_key": Secret("canary-key"), **settings}
    return ServiceContext(name="test", provider="anthropic-aws", settings=AnthropicAWSSettings(**given))


def client(http: Any, **options: Any) -> AnthropicAWS:
    given = {"aws_region": "us-west-2", "workspace_id": "wrkspc_1", "api_key": "canary-key", **options}
    return AnthropicAWS(max_retries=0, http_client=http, **given)


async def signed(wire: WireRequest, where: ServiceContext[Any]) -> WireRequest:
    auth = anthropic_aws.auth(where)
    return auth.sign(wire, await auth.acquire())


HEADERS = ("anthropic-workspace-id", "authorization")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.anyio
async def test_a_chat_with_a_key_is_what_the_sdk_sends(stream: bool) -> None:
    where = context(betas=["a"])
    wire = anthropic_aws.translator(where).translate(REQUEST, stream=stream).wire_request
    fields = {**FIELDS, "stream": True} if stream else FIELDS
    theirs = sent_by(lambda http: client(http).messages.create(**fields, extra_headers={"anthropic-beta": "a"}))
    assert_same(await signed(wire, where), theirs, HEADERS)
    assert wire.url == "https://aws-external-anthropic.us-west-2.api.aws/v1/messages"
    assert theirs.headers["authorization"] == "Bearer canary-key"


@pytest.mark.anyio
async def test_counting_and_models_are_what_the_sdk_sends() -> None:
    where = context()
    operations = anthropic_aws.operations(where)

    async def built(operation: Operation[Any, Any] | None, value: Any) -> WireRequest:
        assert operation is not None
        return await signed(operation.translation(where, value).wire_request, where)

    count = sent_by(lambda http: client(http).messages.count_tokens(**COUNTED))
    assert_same(await built(operations.count_tokens, REQUEST), count, HEADERS)
    models = sent_by(lambda http: client(http).models.list(limit=1000))
    assert_same(await built(operations.list_models, None), models, HEADERS)
    model = sent_by(lambda http: client(http).models.retrieve("claude-sonnet-4-6"))
    assert_same(await built(operations.model_info, "claude-sonnet-4-6"), model, HEADERS)


@pytest.mark.parametrize("token", [None, "canary-token"])
@pytest.mark.anyio
async def test_a_signed_request_is_the_sdks_but_for_the_list_of_signed_headers(token: str | None) -> None:
    where = context(api_key=None, **KEYS, aws_session_token=token)
    wire = anthropic_aws.translator(where).translate(REQUEST, stream=False).wire_request
    ours = await signed(wire, where)
    theirs = sent_by(
        lambda http: client(
            http, api_key=None, aws_access_key="AKIAX", aws_secret_key="canary-secret", aws_session_token=token
        ).messages.create(**FIELDS)
    )
    assert_same(ours, theirs, ("anthropic-workspace-id", "x-amz-security-token"))

    def scope(authorization: str) -> str:
        # Without the day, which may change between the two requests.
        return authorization.partition(",")[0].rpartition("=")[2].partition("/")[2].partition("/")[2]

    assert scope(ours.headers["authorization"]) == "us-west-2/aws-external-anthropic/aws4_request"
    assert scope(theirs.headers["authorization"]) == scope(ours.headers["authorization"])


def verify(request: Any, url: str, secret: str, region: str) -> None:
    """Fail unless the signature of a request that arrived is the one that botocore makes for it."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    again: Any = AWSRequest(
        method=request.method,
        url=f"{url}{request.target}",
        data=request.body,
        headers={name: headers[name] for name in names},
    )
    again.context["timestamp"] = headers["x-amz-date"]
    signer = botocore.auth.SigV4Auth(Credentials("AKIAX", secret), "aws-external-anthropic", region)
    expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert headers["authorization"].endswith(f"Signature={expected}")


@pytest.mark.anyio
async def test_signatures_that_arrive_are_valid() -> None:
    async def handler(exchange: Exchange) -> None:
        page = {"data": [{"id": "m", "type": "model"}], "has_more": False}
        await exchange.respond(json.dumps(page if exchange.request.method == "GET" else ANSWER).encode())

    async with (
        serve(handler) as server,
        trunkline.open_service(
            "anthropic-aws",
            aws_region="eu-west-1",
            workspace_id="wrkspc_1",
            api_url=server.url,
            default_model="claude-sonnet-4-6",
            **KEYS,
        ) as service,
    ):
        assert (await service.chat("Hi")).text == "Hello"
        assert [model.id for model in await service.list_models()] == ["m"]
        assert [urlsplit(request.target).path for request in server.requests] == ["/v1/messages", "/v1/models"]
        for request in server.requests:
            verify(request, server.url, "canary-secret", "eu-west-1")
            with pytest.raises(AssertionError):
                verify(request, server.url, "another-secret", "eu-west-1")
            with pytest.raises(AssertionError):
                verify(request, server.url, "canary-secret", "us-east-1")


@pytest.mark.anyio
async def test_the_default_chain_signs_with_the_keys_of_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    # Bedrock's token is for Bedrock alone.
    environment.setenv("AWS_BEARER_TOKEN_BEDROCK", "canary-bedrock")
    where = context(api_key=None)
    async with anthropic_aws.auth(where) as auth:
        assert auth is not None
    ours = await signed(WireRequest(url="https://x/v1/messages", body=b"{}"), where)
    assert "AKIAX/" in ours.headers["authorization"]


@pytest.mark.anyio
async def test_a_key_of_the_environment_comes_before_the_default_chain(environment: pytest.MonkeyPatch) -> None:
    # As in the SDK, lib/aws/_credentials.py, resolve_auth_mode.
    for name, value in (
        ("ANTHROPIC_AWS_API_KEY", "canary-key"),
        ("ANTHROPIC_AWS_WORKSPACE_ID", "wrkspc_2"),
        ("AWS_REGION", "us-east-2"),
        ("AWS_ACCESS_KEY_ID", "AKIAX"),
        ("AWS_SECRET_ACCESS_KEY", "canary-secret"),
    ):
        environment.setenv(name, value)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(json.dumps(ANSWER).encode())

    async with serve(handler) as server:
        async with trunkline.open_service("anthropic-aws", api_url=server.url, default_model="m") as service:
            await service.chat("Hi")
        async with trunkline.open_service("anthropic-aws", api_url=server.url, default_model="m", **KEYS) as service:
            await service.chat("Hi")
        first, second = server.requests
        assert first.headers["authorization"] == "Bearer canary-key"
        assert first.headers["anthropic-workspace-id"] == "wrkspc_2"
        assert "AKIAX/" in second.headers["authorization"]


def test_a_workspace_is_required_and_must_be_an_id() -> None:
    with pytest.raises(ConfigurationError, match="workspace_id"):
        trunkline.open_service("anthropic-aws", aws_region="us-east-1", api_key="k")
    with pytest.raises(ConfigurationError, match="wrkspc_"):
        trunkline.open_service("anthropic-aws", aws_region="us-east-1", api_key="k", workspace_id="my workspace")
    with pytest.raises(ConfigurationError, match="use workspace_id"):
        trunkline.open_service(
            "anthropic-aws",
            aws_region="us-east-1",
            api_key="k",
            workspace_id="w",
            headers={"Anthropic-Workspace-Id": "v"},
        )


def anthropics(kind: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def awss(message: str) -> bytes:
    return json.dumps({"message": message}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "advice"),
    [
        (401, {}, anthropics("authentication_error", "invalid"), AuthenticationError, "access key"),
        (404, {}, anthropics("not_found_error", "model: x"), NotFound, "model"),
        (429, {}, anthropics("rate_limit_error", "slow"), RateLimited, ""),
        (
            403,
            {"x-amzn-errortype": "AccessDeniedException"},
            awss("User: arn:aws:iam::1:user/x is not authorized to perform: aws-external-anthropic:CreateInference"),
            PermissionDenied,
            "workspace_id",
        ),
        (403, {}, awss("The security token included in the request is invalid."), AuthenticationError, "access key"),
        (
            403,
            {"x-amzn-errortype": "InvalidSignatureException:http://x"},
            awss("Credential should be scoped to a valid region."),
            AuthenticationError,
            "aws_region",
        ),
    ],
)
def test_errors_of_anthropic_and_of_aws_are_read(
    status: int, headers: dict[str, str], body: bytes, kind: type[TrunklineError], advice: str
) -> None:
    where = context(api_key=None, **KEYS)
    error = anthropic_aws.response_parser(where).error(WireResponse(status=status, headers=headers, body=body))
    assert type(error) is kind
    found = anthropic_aws.advice(where, error)
    assert advice in (found.text if found is not None else "")


@pytest.mark.anyio
async def test_a_wrong_clock_is_corrected_by_the_time_of_aws() -> None:
    times: list[str] = []
    later = datetime(2035, 1, 1, tzinfo=UTC)

    async def handler(exchange: Exchange) -> None:
        times.append(exchange.request.headers["x-amz-date"])
        if len(times) == 1:
            await exchange.respond(
                awss("Signature expired: 20261127T000000Z is now earlier than 20350101T000000Z"),
                status=403,
                headers={"x-amzn-errortype": "InvalidSignatureException", "date": format_datetime(later, usegmt=True)},
            )
        else:
            await exchange.respond(json.dumps(ANSWER).encode())

    async with (
        serve(handler) as server,
        trunkline.open_service(
            "anthropic-aws",
            aws_region="us-east-1",
            workspace_id="w",
            api_url=server.url,
            default_model="m",
            **KEYS,
        ) as service,
    ):
        await service.chat("Hi")
    assert times[1].startswith("20350101T")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"api_url": "https://aws-external-anthropic.eu-west-1.api.aws/v1"}, "host of the region eu-west-1"),
        ({"aws_region": "fips-us-east-1"}, "does not have"),
    ],
)
def test_another_region_in_the_url_and_a_region_with_fips_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        context(**settings)


def test_errors_of_aws_inside_of_a_stream_are_read() -> None:
    """No recording shows such an error."""
    decoder = StreamDecoder(*anthropic_aws.response_parser(context()).stream())
    with pytest.raises(RateLimited):
        decoder.feed(b'event: error\ndata: {"__type": "ThrottlingException", "message": "slow"}\n\n')
