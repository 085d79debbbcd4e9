"""What the guide of the Mattermost Agents plugin says about services, line by line.

`support/mattermost_guide.toml` has the lines, each with the name of the test here that shows it. The tests open a
service from a configuration, as an application does, and look at the requests that a server receives.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trunkline
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from model_server import model
from trunkline import ChatRequest, ReasoningOptions, user
from trunkline._plugins.registry import load_provider
from trunkline.errors import (
    AuthenticationError,
    ChunkTimeout,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    RemoteError,
)
from trunkline.settings import setting_infos
from trunkline.testing import Exchange, LoopbackServer, serve

pytestmark = pytest.mark.anyio

GUIDE: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent / "support" / "mattermost_guide.toml").read_text(encoding="utf-8")
)
ROWS = [(section, row) for section in GUIDE["service"] for row in section["rows"]]
FIELDS = [
    pytest.param(section["provider"], row, id=f"{section['title']}-{row['label']}".replace(" ", "_"))
    for section, row in ROWS
    if section["provider"] and row["setting"]
]

KEY = "k3y-Canary7Canary7Canary7Canary7"
COMPLETE: Mapping[str, Mapping[str, Any]] = {
    "openai": {"api_key": KEY},
    "openai-compatible": {},
    "anthropic": {"api_key": KEY},
    "bedrock": {"aws_region": "us-east-1", "api_key": KEY},
    "cohere": {"api_key": KEY},
    "mistral": {"api_key": KEY},
    "azure-openai": {"api_key": KEY},
    "gemini": {"api_key": KEY},
    "ollama": {},
    "vertex": {"project": "p", "access_token": KEY},
}
"""What each provider needs besides `api_url`, which is the test's server, and `default_model`."""

KEYED = [name for name, settings in COMPLETE.items() if "api_key" in settings]
BLANKS = ["", "  ", "\n", "\ufeff"]
HEADERS = {
    "openai": ("authorization", f"Bearer {KEY}"),
    "anthropic": ("x-api-key", KEY),
    "bedrock": ("authorization", f"Bearer {KEY}"),
    "cohere": ("authorization", f"Bearer {KEY}"),
    "mistral": ("authorization", f"Bearer {KEY}"),
    "azure-openai": ("api-key", KEY),
    "gemini": ("x-goog-api-key", KEY),
}
GUIDE_TYPES = {
    "OpenAI": "openai",
    "OpenAI Compatible": "openai-compatible",
    "Anthropic": "anthropic",
    "AWS Bedrock": "bedrock",
    "Cohere": "cohere",
    "Mistral": "mistral",
    "Azure OpenAI": "azure-openai",
    "Google Gemini": "gemini",
    "Google Vertex AI": "vertex",
}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No keys, proxies or AWS files of whoever runs the tests, and no metadata service."""
    begins, ends = ("TRUNKLINE_", "AWS_", "OPENAI_", "AZURE_", "OLLAMA_"), ("_api_key", "_proxy")
    for name in list(os.environ):
        if name.startswith(begins) or name.lower().endswith(ends):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def configured(provider: str, url: str | None, **settings: Any) -> trunkline.Services:
    """The service `s` of this provider, from a configuration with the settings; `None` leaves a setting out."""
    values = {"api_url": url, "default_model": "m", "max_retries": 0, **COMPLETE[provider], **settings}
    table = {name: value for name, value in values.items() if value is not None}
    return trunkline.open_services({"services": {"s": {"provider": provider, **table}}})


@asynccontextmanager
async def running(provider: str, path: str = "", **settings: Any) -> AsyncIterator[tuple[Any, LoopbackServer]]:
    """The service `s` and the server that it calls."""
    async with serve(model) as server, configured(provider, server.url + path, **settings) as services:
        yield services["s"], server


async def sent(provider: str, request: Any = "Hi", *, path: str = "", **settings: Any) -> Any:
    """Make one call. Returns the request that the server received, with the JSON of its body as `content`."""
    async with running(provider, path, **settings) as (service, server):
        await service.chat(request)
    (received,) = server.requests
    return Received(received)


class Received:
    """A request that a server received."""

    def __init__(self, request: Any) -> None:
        self.target: str = request.target
        self.headers: Mapping[str, str] = request.headers
        self.content: dict[str, Any] = json.loads(request.body)


async def sent_to(url: str, provider: str, **settings: Any) -> Received:
    """Make one call to a host that only a proxy knows. The target of the received request is the whole URL."""
    async with serve(model) as proxy, configured(provider, url, proxy=proxy.url, **settings) as services:
        await services["s"].chat("Hi")
    (received,) = proxy.requests
    return Received(received)


# The table itself


def test_each_named_test_exists() -> None:
    named = {row["test"] for part in (*GUIDE["service"], *GUIDE["statements"]) for row in part["rows"]}
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", __file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    collected = {line.partition("::")[2].partition("[")[0] for line in listed.splitlines() if "::" in line}
    assert named - collected == set()


def test_page_is_generated_from_the_table() -> None:
    page = (Path(__file__).parents[1] / "docs" / "mattermost-guide.md").read_text(encoding="utf-8")
    for part in (*GUIDE["service"], *GUIDE["statements"]):
        assert f"### {part['title']}\n" in page
        for row in part["rows"]:
            assert f"| {row.get('label') or row['says']} |" in page
            assert row["ours"] in page


@pytest.mark.parametrize(("provider", "row"), FIELDS)
def test_label_is_that_of_our_setting(provider: str, row: Mapping[str, Any]) -> None:
    infos = {info.name: info for info in setting_infos(load_provider(provider).settings)}
    assert (infos[row["setting"]].label != row["label"]) is row.get("other_label", False)


@pytest.mark.parametrize(("title", "provider"), GUIDE_TYPES.items())
def test_each_service_type_has_the_provider_of_that_name(title: str, provider: str) -> None:
    assert load_provider(provider).settings.display_name == title
    assert {part["provider"] for part in GUIDE["service"] if part["title"] == title} == {provider}


# Required and blank


@pytest.mark.parametrize("blank", [None, *BLANKS], ids=repr)
@pytest.mark.parametrize(("provider", "row"), [field for field in FIELDS if field.values[1]["required"]])
async def test_required_setting_must_be_set(provider: str, row: Mapping[str, Any], blank: str | None) -> None:
    name = row["setting"]
    if name == "headers":  # Scale AI's key: the provider that it goes through does not know that it is required
        assert "x-api-key" not in (await sent(provider)).headers
    elif row.get("has_default"):
        assert (await sent(provider, **{name: blank})).target
    elif name == "default_model":
        async with running(provider, default_model=blank) as (service, server):
            with pytest.raises(ConfigurationError, match="'default_model' is not set"):
                await service.chat("Hi")
        assert server.requests == []
    else:
        with pytest.raises(ConfigurationError, match=f"setting '{name}'.* is required"):
            configured(provider, **{"url": "http://127.0.0.1:9", name: blank})


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
@pytest.mark.parametrize(("provider", "row"), [field for field in FIELDS if not field.values[1]["required"]])
async def test_optional_setting_may_be_blank(provider: str, row: Mapping[str, Any], blank: str) -> None:
    name = row["setting"]
    own = {"api_url": None} if name == "api_url" else {}
    with_blank = configured(provider, "http://127.0.0.1:9", **{**own, name: blank})
    without = configured(provider, "http://127.0.0.1:9", **{**own, name: None})
    assert getattr(with_blank["s"].settings, name) == getattr(without["s"].settings, name)
    await with_blank.aclose()
    await without.aclose()


# Every service


async def test_services_have_names_and_may_share_a_provider() -> None:
    async with serve(model) as server:
        tables = {
            name: {"provider": "openai", "api_key": f"key-of-{name}", "api_url": server.url, "default_model": name}
            for name in ("fast", "clever")
        }
        async with trunkline.open_services({"services": tables}) as services:
            assert set(services) == {"fast", "clever"}
            for service in services.values():
                await service.chat("Hi")
    assert [json.loads(request.body)["model"] for request in server.requests] == ["fast", "clever"]
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer key-of-fast",
        "Bearer key-of-clever",
    ]


@pytest.mark.parametrize("provider", KEYED)
async def test_api_key_is_sent_in_the_header_of_the_provider(provider: str) -> None:
    header, value = HEADERS[provider]
    request = await sent(provider)
    assert request.headers[header] == value
    carrying = [name for name, text in request.headers.items() if KEY in text]
    assert carrying == [header]
    assert KEY not in request.target


@pytest.mark.parametrize("provider", COMPLETE)
async def test_default_model_is_sent(provider: str) -> None:
    request = await sent(provider, default_model="the-model")
    assert "the-model" in (request.content.get("model"), *request.target.replace(":", "/").split("/"))


@pytest.mark.parametrize("provider", COMPLETE)
async def test_request_may_name_another_model(provider: str) -> None:
    request = await sent(provider, ChatRequest(messages="Hi", model="another"))
    assert "another" in (request.content.get("model"), *request.target.replace(":", "/").split("/"))


async def test_input_token_limit_leaves_out_the_oldest_messages() -> None:
    old = "word " * 2000
    conversation = [user(old), trunkline.assistant("Yes."), user("And now?")]
    async with running("openai", input_token_limit=1000) as (service, server):
        response = await service.chat(conversation)
    (received,) = server.requests
    assert [message["content"] for message in json.loads(received.body)["messages"]] == ["And now?"]
    assert "input_token_limit" in [warning.subject for warning in response.warnings]


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("openai", ("max_completion_tokens",)),
        ("openai-compatible", ("max_tokens",)),
        ("anthropic", ("max_tokens",)),
        ("bedrock", ("inferenceConfig", "maxTokens")),
        ("cohere", ("max_tokens",)),
        ("mistral", ("max_tokens",)),
        ("azure-openai", ("max_completion_tokens",)),
        ("gemini", ("generationConfig", "maxOutputTokens")),
        ("ollama", ("options", "num_predict")),
    ],
)
async def test_output_token_limit_is_sent(provider: str, path: tuple[str, ...]) -> None:
    value: Any = (await sent(provider, output_token_limit=321)).content
    for name in path:
        value = value[name]
    assert value == 321
    request = await sent(provider, ChatRequest(messages="Hi", max_output_tokens=99), output_token_limit=321)
    value = request.content
    for name in path:
        value = value[name]
    assert value == 99


async def test_streaming_timeout_ends_a_silent_stream() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.start()
        delta = {"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}
        await exchange.chunk(b"data: " + json.dumps({"id": "1", "model": "m", "choices": [delta]}).encode() + b"\n\n")
        await exchange.hung_up()

    async with serve(silent) as server, configured("openai", server.url, chunk_timeout=0.05) as services:
        async with services["s"].stream("Hi") as stream:
            with pytest.raises(ChunkTimeout, match="chunk_timeout") as caught:
                async for _ in stream:
                    pass
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Hel"


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("openai", ("safety_identifier",)),
        ("openai-compatible", ("user",)),
        ("azure-openai", ("user",)),
        ("anthropic", ("metadata", "user_id")),
    ],
)
@pytest.mark.parametrize("setting", [None, False, True, "hashed"])
async def test_user_id_is_sent_only_if_the_setting_says_so(
    provider: str, path: tuple[str, ...], setting: bool | str | None
) -> None:
    request = await sent(provider, ChatRequest(messages="Hi", user_id="alice"), send_user_id=setting)
    value: Any = request.content
    for name in path:
        value = value.get(name, {})
    if setting is True:
        assert value == "alice"
    elif setting == "hashed":
        assert len(value) == 64
    else:
        assert value == {}
    assert ("alice" in json.dumps(request.content)) is (setting is True)


async def responses(exchange: Exchange) -> None:
    text = {"type": "output_text", "text": "Hi.", "annotations": []}
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
    body = {"id": "r1", "object": "response", "model": "m", "status": "completed", "output": [message]}
    await exchange.respond(json.dumps(body).encode())


@pytest.mark.parametrize("provider", ["openai", "azure-openai"])
async def test_responses_api_is_used_if_the_setting_says_so(provider: str) -> None:
    async with serve(responses) as server, configured(provider, server.url, api="responses") as services:
        assert (await services["s"].chat("Hi")).text == "Hi."
    assert server.requests[0].target.endswith("/responses")
    assert (await sent(provider)).target.endswith("/chat/completions")


@pytest.mark.parametrize("provider", ["openai", "openai-compatible"])
async def test_responses_api_of_another_server_is_used_if_the_setting_says_so(provider: str) -> None:
    async with serve(responses) as server, configured(provider, f"{server.url}/v1", api="responses") as services:
        await services["s"].chat("Hi")
    assert server.requests[0].target == "/v1/responses"


async def test_proxy_of_the_environment_is_used(environment: pytest.MonkeyPatch) -> None:
    async with serve(model) as proxy:
        environment.setenv("HTTP_PROXY", proxy.url)
        async with configured("openai-compatible", "http://models.example/v1") as services:
            await services["s"].chat("Hi")
        assert [request.target for request in proxy.requests] == ["http://models.example/v1/chat/completions"]


@pytest.mark.parametrize("provider", KEYED)
async def test_errors_show_no_key_and_keep_the_message(provider: str, caplog: pytest.LogCaptureFixture) -> None:
    text = f'The model is on fire. Authorization: Bearer {KEY}, {{"apiKey": "{KEY}"}}'

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(json.dumps({"message": text, "error": {"message": text}}).encode(), status=400)

    caplog.set_level(logging.DEBUG)
    async with serve(refuse) as server, configured(provider, server.url) as services:
        with pytest.raises(RemoteError, match="The model is on fire") as caught:
            await services["s"].chat("Hi")
    shown = f"{caught.value!r} {caught.value} {caught.value.body} {caplog.text}"
    assert KEY not in shown


@pytest.mark.parametrize(
    ("theirs", "ours"), [("apiKey", "api_key"), ("defaultModel", "default_model"), ("sendUserID", "send_user_id")]
)
def test_field_names_of_the_guides_json_are_refused_with_a_hint(theirs: str, ours: str) -> None:
    with pytest.raises(ConfigurationError, match=f"did you mean '{ours}'"):
        configured("openai", None, **{theirs: "x"})


def test_there_is_no_list_of_allowed_hosts() -> None:
    names = {info.name for info in setting_infos(load_provider("openai").settings)}
    assert not {name for name in names if "host" in name or "allow" in name}


# Local models and OpenAI


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_url_of_a_local_server_works_with_and_without_v1(path: str) -> None:
    assert (await sent("openai-compatible", path=path)).target == "/v1/chat/completions"


@pytest.mark.parametrize("blank", [None, *BLANKS], ids=repr)
@pytest.mark.parametrize("provider", ["openai-compatible", "ollama"])
async def test_blank_api_key_sends_no_authorization(provider: str, blank: str | None) -> None:
    request = await sent(provider, api_key=blank)
    assert "authorization" not in request.headers


async def test_what_a_local_server_lacks_becomes_a_warning() -> None:
    async with running("openai-compatible", profile="llama.cpp") as (service, server):
        response = await service.chat(ChatRequest(messages="Hi", metadata={"a": "b"}))
    assert "metadata" not in json.loads(server.requests[0].body)
    assert [warning.subject for warning in response.warnings] == ["metadata"]


@pytest.mark.parametrize("provider", ["openai", "openai-compatible"])
async def test_organization_is_sent_as_a_header(provider: str) -> None:
    assert (await sent(provider, organization_id="org-1")).headers["openai-organization"] == "org-1"
    assert "openai-organization" not in (await sent(provider)).headers


# Scale AI


SCALE = {"x-api-key": {"env": "SCALE_API_KEY"}, "x-selected-account-id": {"env": "SCALE_ACCOUNT_ID"}}


async def test_scale_ai_gets_its_two_headers(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SCALE_API_KEY", KEY)
    environment.setenv("SCALE_ACCOUNT_ID", "account-1")
    request = await sent_to(
        "http://sgp-api.scalegov.com/v5", "openai-compatible", headers=SCALE, default_model="openai/gpt-4o"
    )
    assert request.target == "http://sgp-api.scalegov.com/v5/chat/completions"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["x-selected-account-id"] == "account-1"
    assert "authorization" not in request.headers
    assert request.content["model"] == "openai/gpt-4o"


async def test_scale_ai_works_without_an_account(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SCALE_API_KEY", KEY)
    headers = {"x-api-key": SCALE["x-api-key"]}
    request = await sent_to("http://sgp-api.scale.com/v5", "openai-compatible", headers=headers)
    assert request.headers["x-api-key"] == KEY
    assert "x-selected-account-id" not in request.headers


# AWS Bedrock


@pytest.mark.parametrize("region", ["us-east-1", "us-west-2", "eu-central-1", "us-gov-west-1", "cn-north-1"])
async def test_region_decides_the_host(region: str) -> None:
    # The public endpoint is HTTPS, which this proxy refuses: the request to it names the host.
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(status=403)

    async with serve(refuse) as proxy:
        async with configured("bedrock", None, aws_region=region, proxy=proxy.url) as services:
            with pytest.raises(RemoteError):
                await services["s"].chat("Hi")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        assert {request.target for request in proxy.requests} == {f"bedrock-runtime.{region}.{suffix}:443"}


async def test_custom_endpoint_is_called_instead_of_the_public_one() -> None:
    assert (await sent("bedrock", path="/vpc")).target == "/vpc/model/m/converse"


def signed_with(request: Received) -> str:
    """The access key id in the signature of a request."""
    return request.headers["authorization"].partition("Credential=")[2].partition("/")[0]


IAM = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


async def test_iam_keys_win_over_the_api_key(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHECHAIN")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-chain")
    request = await sent("bedrock", **IAM, api_key=KEY)
    assert signed_with(request) == IAM["aws_access_key_id"]
    assert KEY not in str(request.headers)
    assert (await sent("bedrock", api_key=KEY)).headers["authorization"] == f"Bearer {KEY}"
    assert signed_with(await sent("bedrock", api_key=None)) == "AKIAOFTHECHAIN"


@pytest.mark.parametrize("blank", [None, *BLANKS], ids=repr)
@pytest.mark.parametrize("missing", IAM)
def test_half_an_iam_key_pair_is_an_error(missing: str, blank: str | None) -> None:
    with pytest.raises(ConfigurationError, match=f"'{missing}' is missing"):
        configured("bedrock", "http://127.0.0.1:9", **{**IAM, missing: blank}, api_key=None)


async def test_api_key_may_contain_an_iam_key_pair() -> None:
    pair = f"{IAM['aws_access_key_id']}:{IAM['aws_secret_access_key']}"
    assert signed_with(await sent("bedrock", api_key=pair)) == IAM["aws_access_key_id"]


@pytest.mark.parametrize("key", ["ABSKQmVkcm9ja0FQSUtleS1leGFtcGxl", "bedrock-api-key-YmVkcm9jay5leGFtcGxl"])
async def test_bedrock_api_key_is_sent_as_a_bearer_token(key: str) -> None:
    assert (await sent("bedrock", api_key=f" {key}\n")).headers["authorization"] == f"Bearer {key}"


@pytest.mark.parametrize("name", ["amazon.nova-pro-v1:0", "us.anthropic.claude-sonnet-4-6"])
async def test_bedrock_model_is_part_of_the_path(name: str) -> None:
    assert (await sent("bedrock", default_model=name)).target == f"/model/{name.replace(':', '%3A')}/converse"


async def test_bedrock_calls_converse() -> None:
    async with running("bedrock") as (service, server):
        await service.chat("Hi")
        with pytest.raises(RemoteError):  # the server has no stream for it
            async with service.stream("Hi") as stream:
                async for _ in stream:
                    pass
    assert [request.target.rpartition("/")[2] for request in server.requests] == ["converse", "converse-stream"]


async def fails(provider: str, status: int, message: str, headers: Mapping[str, str]) -> RemoteError:
    async def refuse(exchange: Exchange) -> None:
        body = json.dumps({"message": message}).encode()
        await exchange.respond(body, status=status, headers={"content-type": "application/json", **headers})

    async with serve(refuse) as server, configured(provider, server.url) as services:
        with pytest.raises(RemoteError) as caught:
            await services["s"].chat("Hi")
    return caught.value


async def test_expired_bedrock_key_is_an_authentication_error() -> None:
    header = {"x-amzn-errortype": "AccessDeniedException"}
    error = await fails("bedrock", 403, "Bearer Token has expired", header)
    assert isinstance(error, AuthenticationError)


async def test_missing_permission_is_permission_denied() -> None:
    message = (
        "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: bedrock:InvokeModelWithResponseStream"
    )
    error = await fails("bedrock", 403, message, {"x-amzn-errortype": "AccessDeniedException"})
    assert type(error) is PermissionDenied
    assert "bedrock:InvokeModelWithResponseStream" in str(error)


async def test_wrong_bedrock_model_is_not_found() -> None:
    message = "The provided model identifier is invalid."
    error = await fails("bedrock", 400, message, {"x-amzn-errortype": "ValidationException"})
    assert isinstance(error, NotFound)
    assert message in str(error)


async def test_without_any_credentials_the_error_lists_the_ways() -> None:
    async with running("bedrock", api_key=None) as (service, server):
        with pytest.raises(ConfigurationError) as caught:
            await service.chat("Hi")
    assert server.requests == []
    for way in ("aws_access_key_id", "api_key", "aws_profile", "role"):
        assert way in str(caught.value)


async def metadata(exchange: Exchange) -> None:
    """The metadata service of an EC2 instance with the role `Bedrock`."""
    if exchange.request.method == "PUT":
        await exchange.respond(b"token")
    elif exchange.request.target.endswith("/security-credentials/"):
        await exchange.respond(b"Bedrock")
    else:
        expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        keys = {"AccessKeyId": "ASIAOFTHEROLE", "SecretAccessKey": "s", "Token": "t", "Expiration": expiration}
        await exchange.respond(json.dumps({"Code": "Success", "Type": "AWS-HMAC", **keys}).encode())


@pytest.mark.parametrize("blank", [None, *BLANKS], ids=repr)
async def test_blank_credentials_use_the_role_of_the_instance(
    blank: str | None, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("AWS_EC2_METADATA_DISABLED")
    names = ("aws_access_key_id", "aws_secret_access_key", "api_key")
    async with serve(metadata) as instance:
        environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.url)
        request = await sent("bedrock", **dict.fromkeys(names, blank))
    assert signed_with(request) == "ASIAOFTHEROLE"
    assert request.headers["x-amz-security-token"] == "t"


@pytest.mark.parametrize("excluded", [False, True])
async def test_no_proxy_is_needed_for_the_metadata_service(excluded: bool, environment: pytest.MonkeyPatch) -> None:
    async def unknown(exchange: Exchange) -> None:
        await exchange.respond(status=404)

    environment.delenv("AWS_EC2_METADATA_DISABLED")
    async with serve(metadata) as instance, serve(unknown) as proxy:
        environment.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.url)
        environment.setenv("HTTP_PROXY", proxy.url)
        if excluded:
            environment.setenv("NO_PROXY", "127.0.0.1")
            assert signed_with(await sent("bedrock", api_key=None)) == "ASIAOFTHEROLE"
            assert proxy.requests == []
        else:
            async with running("bedrock", api_key=None) as (service, _):
                with pytest.raises(ConfigurationError, match="no AWS credentials"):
                    await service.chat("Hi")
            assert "/latest/api/token" in proxy.requests[0].target
            assert instance.requests == []


# Azure OpenAI


@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("deployment", ["gpt-4o", "gpt-5-mini"])
async def test_azure_steps_8_to_11(scheme: str, slash: str, deployment: str) -> None:
    base = f"{scheme}house.openai.azure.com{slash}"
    if not scheme:  # without a scheme it is HTTPS, which the proxy of this test cannot read
        async with configured("azure-openai", base, default_model=deployment) as services:
            assert (
                services["s"]
                .settings.surface.url("/chat/completions", deployment)
                .startswith("https://house.openai.azure.com/openai/")
            )
        return
    request = await sent_to(base, "azure-openai", default_model=deployment, output_token_limit=50)
    assert request.target == "http://house.openai.azure.com/openai/v1/chat/completions"
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers
    assert request.content["model"] == deployment
    assert request.content["max_completion_tokens"] == 50  # the only one that a reasoning model accepts


@pytest.mark.parametrize(
    ("target_uri", "path"),
    [
        (
            "/openai/deployments/d-1/chat/completions?api-version=2025-01-01-preview",
            "/openai/deployments/d-1/chat/completions?api-version=2025-01-01-preview",
        ),
        ("/openai/v1/chat/completions", "/openai/v1/chat/completions"),
    ],
)
async def test_azure_target_uri_may_be_pasted_whole(target_uri: str, path: str) -> None:
    request = await sent_to(f"http://house.openai.azure.com{target_uri}", "azure-openai", default_model="d-1")
    assert request.target == f"http://house.openai.azure.com{path}"
    assert request.headers["api-key"] == KEY


# Google


async def test_gemini_thinking_budget_and_level() -> None:
    def thinking(effort: Any = None, budget: int | None = None) -> ChatRequest:
        return ChatRequest(messages="Hi", reasoning=ReasoningOptions(effort=effort, max_tokens=budget))

    async def config(model: str, request: ChatRequest) -> Any:
        return (await sent("gemini", request, default_model=model)).content["generationConfig"]["thinkingConfig"]

    assert (await config("gemini-2.5-pro", thinking(budget=2000)))["thinkingBudget"] == 2000
    assert (await config("gemini-3-pro", thinking(effort="low")))["thinkingLevel"].lower() == "low"
    assert (await config("gemini-2.5-pro", thinking(effort="low")))["thinkingBudget"] > 0


async def test_gemini_web_search_is_a_provider_option() -> None:
    request = ChatRequest(messages="Hi", provider_options={"gemini": {"tools": [{"googleSearch": {}}]}})
    assert (await sent("gemini", request)).content["tools"] == [{"googleSearch": {}}]


async def test_vertex_ai_is_called_with_the_key_of_a_service_account() -> None:
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    async def google(exchange: Exchange) -> None:
        if exchange.request.target == "/token":
            await exchange.respond(b'{"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}')
        else:
            await exchange.respond(
                b'{"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}'
            )

    async with serve(google) as server:
        account = {
            "type": "service_account",
            "project_id": "another-project",
            "client_email": "mattermost@my-project.iam.gserviceaccount.com",
            "private_key": private_key.decode(),
            "token_uri": f"{server.url}/token",
        }
        table = {
            "provider": "vertex",
            "api_url": server.url,
            "project": "my-project",
            "location": "us-east5",
            "credentials_json": json.dumps(account),
            "default_model": "gemini-2.5-pro",
        }
        async with trunkline.open_services({"services": {"s": table}}) as services:
            await services["s"].chat("Hi")
    call = server.requests[1]
    assert call.target.endswith(
        "/projects/my-project/locations/us-east5/publishers/google/models/gemini-2.5-pro:generateContent"
    )
    assert call.headers["authorization"] == "Bearer a-token"
