"""Claude in Azure's Foundry: requests are those of Anthropic's SDK; URLs, credentials and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trunkline
from anthropic import AnthropicFoundry
from anthropic_sdk import COUNTED, FIELDS, REQUEST, assert_same, sent_by
from trunkline.authoring.framing import SSEFrame
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import AuthenticationError, ConfigurationError, NotFound, PermissionDenied, TrunklineError
from trunkline.secrets import Secret
from trunkline_azure_openai import AzureAnthropicSettings, azure_anthropic
from trunkline_azure_openai.anthropic_settings import foundry_url
from trunkline_azure_openai.auth import TokenAuth

ROOT = "https://my-resource.services.ai.azure.com/anthropic"
HEADERS = ("x-api-key", "api-key", "authorization")


def context(**settings: Any) -> ServiceContext[Any]:
    key = {} if "token_provider" in settings else {"api_key": Secret("canary-key")}
    given = {"api_url": "https://my-resource.services.ai.azure.com", **key, **settings}
    return ServiceContext(name="test", provider="azure-anthropic", settings=AzureAnthropicSettings(**given))


async def signed(wire: WireRequest, where: ServiceContext[Any]) -> WireRequest:
    auth = azure_anthropic.auth(where)
    return auth.sign(wire, await auth.acquire())


def client(http: Any, **options: Any) -> AnthropicFoundry:
    given = {"resource": "my-resource", "api_key": "canary-key", **options}
    return AnthropicFoundry(max_retries=0, http_client=http, **given)


def token() -> str:
    return "canary-token"


CREDENTIALS = [
    pytest.param({}, {}, id="key"),
    pytest.param({"token_provider": token}, {"api_key": None, "azure_ad_token_provider": token}, id="token"),
]


@pytest.mark.parametrize(("ours", "theirs"), CREDENTIALS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.anyio
async def test_a_chat_is_what_the_sdk_sends(stream: bool, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    where = context(betas=["a"], **ours)
    wire = azure_anthropic.translator(where).translate(REQUEST, stream=stream).wire_request
    fields = {**FIELDS, "stream": True} if stream else FIELDS
    sent = sent_by(lambda http: client(http, **theirs).messages.create(**fields, extra_headers={"anthropic-beta": "a"}))
    assert_same(await signed(wire, where), sent, HEADERS)


@pytest.mark.anyio
async def test_counting_is_what_the_sdk_sends_and_there_are_no_models() -> None:
    where = context()
    operations = azure_anthropic.operations(where)
    assert operations.count_tokens is not None
    wire = operations.count_tokens.translation(where, REQUEST).wire_request
    sent = sent_by(lambda http: client(http).messages.count_tokens(**COUNTED))
    assert_same(await signed(wire, where), sent, HEADERS)
    assert (operations.list_models, operations.model_info) == (None, None)


@pytest.mark.parametrize(
    ("pasted", "root"),
    [
        ("my-resource.services.ai.azure.com", ROOT),
        (f"{ROOT}/", ROOT),
        (f"{ROOT}/v1/messages", ROOT),
        ("https://my-resource.services.ai.azure.com/api/projects/my-project", ROOT),
        ("https://my-resource.services.ai.azure.com/models?api-version=2024-05-01-preview", ROOT),
        ("https://my-resource.openai.azure.com/openai/v1/", "https://my-resource.openai.azure.com/anthropic"),
        ("https://gate.example/claude/v1", "https://gate.example/claude"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_the_url_of_a_resource_is_taken_as_it_is_pasted(pasted: str, root: str) -> None:
    assert foundry_url(pasted)[0] == root
    assert foundry_url(root) == (root, ())
    assert context(api_url=pasted).settings.root == root


def test_the_address_of_the_portal_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not the address of the portal"):
        trunkline.open_service("azure-anthropic", api_url="https://ai.azure.com/build", api_key="k")


def test_the_variables_of_the_sdk_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_FOUNDRY_API_KEY", "canary-key")
    monkeypatch.setenv("ANTHROPIC_FOUNDRY_BASE_URL", "https://gate.example/claude/")
    settings = trunkline.open_service("azure-anthropic").settings
    assert isinstance(settings, AzureAnthropicSettings)
    theirs = sent_by(lambda http: AnthropicFoundry(max_retries=0, http_client=http).messages.create(**FIELDS))
    assert str(theirs.url) == f"{settings.root}/v1/messages" == "https://gate.example/claude/v1/messages"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"api_key": "k"}, "api_url"),
        ({"api_url": "https://x.example"}, "ANTHROPIC_FOUNDRY_API_KEY"),
        ({"api_url": "https://x.example", "api_key": "k", "token_provider": token}, "both set"),
        ({"api_url": "https://x.example", "api_key": "k", "headers": {"X-Api-Key": "k"}}, "contains"),
        ({"api_url": "https://x.example", "api_key": "k", "headers": {"Anthropic-Beta": "a"}}, "use betas"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        trunkline.open_service("azure-anthropic", **settings)


@pytest.mark.anyio
async def test_a_credential_is_asked_for_the_scope_of_foundry() -> None:
    asked: list[str] = []

    class Credential:
        def get_token(self, *scopes: str) -> str:
            asked.extend(scopes)
            return "canary-token"

    for scope in (None, "https://cognitiveservices.azure.com/.default"):
        auth = azure_anthropic.auth(context(token_provider=Credential(), scope=scope))
        assert isinstance(auth, TokenAuth)
        await auth.acquire()
    # The first is in the SDK's lib/foundry.md.
    assert asked == ["https://ai.azure.com/.default", "https://cognitiveservices.azure.com/.default"]


@pytest.mark.parametrize(
    ("status", "error", "kind", "advice"),
    [
        (401, {"code": "401", "message": "Access denied due to invalid subscription key"}, AuthenticationError, "KEY"),
        (401, {"code": "PermissionDenied", "message": "lacks the data action"}, PermissionDenied, ""),
        (404, {"code": "DeploymentNotFound", "message": "does not exist"}, NotFound, "deployment"),
        (404, {"code": "404", "message": "Resource not found"}, NotFound, "api_url"),
        (401, {"type": "authentication_error", "message": "invalid x-api-key"}, AuthenticationError, "KEY"),
    ],
)
def test_errors_of_azure_and_of_anthropic_are_read(
    status: int, error: dict[str, str], kind: type[TrunklineError], advice: str
) -> None:
    where = context()
    body = json.dumps({"error": error}).encode()
    found = azure_anthropic.response_parser(where).error(WireResponse(status=status, body=body))
    assert type(found) is kind
    text = azure_anthropic.advice(where, found)
    assert advice in (text.text if text is not None else "")


def test_a_missing_role_is_told_inside_of_a_stream_too() -> None:
    """No recording shows such an error."""
    event = SSEFrame(data=b'{"error": {"code": "PermissionDenied", "message": "no role"}}', event="error", status=401)
    parser = azure_anthropic.response_parser(context()).stream()[1]
    with pytest.raises(PermissionDenied):
        parser.feed(event)
