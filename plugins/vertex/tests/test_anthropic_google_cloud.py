"""Claude on Google Cloud, as Anthropic manages it: requests are those of Anthropic's SDK; settings and errors.

No recording shows an answer of this place. Answers are taken to be those of Anthropic's own API, which Google's gateway
passes on; the errors of the gateway itself, to be in the form of Google's other services.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import trunkline
from anthropic import AnthropicGoogleCloud
from anthropic_sdk import COUNTED, FIELDS, REQUEST, assert_same, sent_by
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
from trunkline_vertex import AnthropicGoogleCloudSettings, anthropic_google_cloud

ROOT = "https://claude.googleapis.com/v1/projects/my-project/locations/global/workspaces/wrkspc_1/invoke"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variables of Google or of Anthropic."""
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "ANTHROPIC_", "TRUNKLINE_ANTHROPIC")):
            monkeypatch.delenv(name)
    return monkeypatch


def context(**settings: Any) -> ServiceContext[Any]:
    given = {"project": "my-project", "workspace_id": "wrkspc_1", "access_token": Secret("canary-token"), **settings}
    return ServiceContext(
        name="test", provider="anthropic-google-cloud", settings=AnthropicGoogleCloudSettings(**given)
    )


def client(http: Any, **options: Any) -> AnthropicGoogleCloud:
    given = {
        "project": "my-project",
        "workspace_id": "wrkspc_1",
        "token_provider": lambda: "canary-token",
        **options,
    }
    return AnthropicGoogleCloud(max_retries=0, http_client=http, **given)


async def signed(wire: WireRequest, where: ServiceContext[Any]) -> WireRequest:
    auth = anthropic_google_cloud.auth(where)
    return auth.sign(wire, await auth.acquire())


HEADERS = ("authorization", "anthropic-workspace-id", "x-goog-user-project")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("location", [None, "us-east5"])
@pytest.mark.anyio
async def test_a_chat_is_what_the_sdk_sends(stream: bool, location: str | None) -> None:
    where = context(betas=["a"], location=location)
    wire = anthropic_google_cloud.translator(where).translate(REQUEST, stream=stream).wire_request
    fields = {**FIELDS, "stream": True} if stream else FIELDS
    theirs = sent_by(
        lambda http: client(http, location=location).messages.create(**fields, extra_headers={"anthropic-beta": "a"})
    )
    assert_same(await signed(wire, where), theirs, HEADERS)


@pytest.mark.anyio
async def test_counting_and_models_are_what_the_sdk_sends() -> None:
    where = context()
    operations = anthropic_google_cloud.operations(where)

    async def built(operation: Operation[Any, Any] | None, value: Any) -> WireRequest:
        assert operation is not None
        return await signed(operation.translation(where, value).wire_request, where)

    count = sent_by(lambda http: client(http).messages.count_tokens(**COUNTED))
    assert_same(await built(operations.count_tokens, REQUEST), count, HEADERS)
    models = sent_by(lambda http: client(http).models.list(limit=1000))
    assert_same(await built(operations.list_models, None), models, HEADERS)
    model = sent_by(lambda http: client(http).models.retrieve("claude-sonnet-4-6"))
    assert_same(await built(operations.model_info, "claude-sonnet-4-6"), model, HEADERS)


def test_the_variables_of_the_sdk_are_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    environment.setenv("GOOGLE_CLOUD_LOCATION", "us-east5")
    environment.setenv("ANTHROPIC_GOOGLE_CLOUD_WORKSPACE_ID", "wrkspc_1")

    def roots() -> tuple[str, str]:
        settings = trunkline.open_service("anthropic-google-cloud", access_token="t").settings
        assert isinstance(settings, AnthropicGoogleCloudSettings)
        theirs = sent_by(
            lambda http: AnthropicGoogleCloud(
                token_provider=lambda: "t", max_retries=0, http_client=http
            ).messages.create(**FIELDS)
        )
        return f"{settings.root}/v1/messages", str(theirs.url)

    # Google's own variable of the location does not count.
    assert roots() == (f"{ROOT}/v1/messages",) * 2
    environment.setenv("ANTHROPIC_GOOGLE_CLOUD_PROJECT", "other")
    environment.setenv("ANTHROPIC_GOOGLE_CLOUD_LOCATION", "eu")
    ours, theirs = roots()
    assert ours == theirs
    assert "/projects/other/locations/eu/" in ours
    environment.setenv("ANTHROPIC_GOOGLE_CLOUD_BASE_URL", "https://gate.example/claude")
    assert roots() == ("https://gate.example/claude/v1/messages",) * 2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"project": "p", "access_token": "t"}, "workspace_id"),
        ({"project": "p", "access_token": "t", "workspace_id": "my workspace"}, "wrkspc_"),
        ({"access_token": "t", "workspace_id": "w"}, "project"),
        ({"project": "p", "access_token": "t", "credentials_file": "f.json", "workspace_id": "w"}, "both set"),
        ({"project": "p", "access_token": "t", "workspace_id": "w", "headers": {"Anthropic-Beta": "a"}}, "use betas"),
    ],
)
def test_settings_that_are_missing_or_contradict_each_other_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        trunkline.open_service("anthropic-google-cloud", **settings)


def googles(status: str, message: str, code: int) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "advice"),
    [
        (403, googles("PERMISSION_DENIED", "Permission denied on resource", 403), PermissionDenied, "workspace"),
        (401, googles("UNAUTHENTICATED", "invalid authentication credentials", 401), AuthenticationError, ""),
        (404, googles("NOT_FOUND", "Workspace not found", 404), NotFound, "workspace_id"),
        (
            404,
            json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "model: x"}}).encode(),
            NotFound,
            "model",
        ),
    ],
)
def test_errors_of_google_and_of_anthropic_are_read(
    status: int, body: bytes, kind: type[TrunklineError], advice: str
) -> None:
    where = context()
    error = anthropic_google_cloud.response_parser(where).error(WireResponse(status=status, body=body))
    assert type(error) is kind
    found = anthropic_google_cloud.advice(where, error)
    assert advice in (found.text if found is not None else "")


def test_errors_of_google_inside_of_a_stream_are_read() -> None:
    """No recording shows such an error."""
    decoder = StreamDecoder(*anthropic_google_cloud.response_parser(context()).stream())
    error = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}
    with pytest.raises(RateLimited) as caught:
        decoder.feed(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")
    assert caught.value.code == "RESOURCE_EXHAUSTED"
