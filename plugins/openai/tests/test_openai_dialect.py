import base64
import json
import struct
import subprocess
import sys
from typing import Any

import pytest
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import Provider, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation, RemoteError
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import ModelInfo, Usage
from trunkline.secrets import Secret
from trunkline.settings import Settings
from trunkline_openai import (
    OpenAICompatibleSettings,
    OpenAISettings,
    Profile,
    chat_completions,
    openai,
    openai_compatible,
)


def context(provider: Provider, settings: Settings) -> ServiceContext[Settings]:
    return ServiceContext(name="mine", provider=provider.name, settings=settings)


def compatible(**fields: Any) -> OpenAICompatibleSettings:
    return OpenAICompatibleSettings(**{"api_url": "https://x/v1", **fields})


def response(value: object) -> WireResponse:
    return WireResponse(status=200, body=value if isinstance(value, bytes) else json.dumps(value).encode())


def test_importing_the_package_imports_no_step() -> None:
    code = "import sys, trunkline_openai; print([n for n in sys.modules if n.startswith('trunkline_openai.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for step in ("translate", "parse", "operations", "responses"):
        assert f"trunkline_openai.{step}" not in found
    assert "cattrs" not in found


def test_a_variant_is_one_expression() -> None:
    acme = chat_completions(
        name="acme",
        settings=OpenAICompatibleSettings,
        profile=Profile(name="acme", max_tokens_field="max_completion_tokens"),
    )
    steps = open_steps(acme, context(acme, compatible(api_key="sk-secret")))
    wire = steps.translator.translate(ChatRequest(messages="hi", model="m", max_output_tokens=3), stream=False)
    assert json.loads(wire.wire_request.body)["max_completion_tokens"] == 3
    signed = steps.auth.sign(WireRequest(url="https://x"), None)
    assert signed.headers["authorization"] == "Bearer sk-secret"


def test_the_setting_chooses_the_profile() -> None:
    steps = open_steps(openai_compatible, context(openai_compatible, compatible(profile="vllm")))
    wire = steps.translator.translate(ChatRequest(messages="hi", model="m"), stream=True).wire_request
    assert json.loads(wire.body)["stream_options"] == {"include_usage": True}
    assert steps.operations.count_tokens is None
    assert steps.transport is None


@pytest.mark.parametrize(
    ("fields", "signed"),
    [
        ({}, None),
        ({"api_key": "sk-secret"}, "Bearer sk-secret"),
        ({"api_key": "sk-secret", "headers": {"Authorization": "Basic x"}}, None),
    ],
)
def test_the_key_is_a_bearer_token_unless_a_header_says_otherwise(fields: dict[str, Any], signed: str | None) -> None:
    auth = openai_compatible.auth(context(openai_compatible, compatible(**fields)))
    assert auth.sign(WireRequest(url="https://x"), None).headers.get("authorization") == signed
    assert "secret" not in repr(auth)


def test_the_responses_api_is_chosen_by_a_setting() -> None:
    chat = open_steps(openai, context(openai, OpenAISettings(api_key=Secret("k"))))
    responses = open_steps(openai, context(openai, OpenAISettings(api_key=Secret("k"), api="responses")))
    request = ChatRequest(messages="hi", model="m")
    assert chat.translator.translate(request, stream=False).wire_request.url.endswith("/v1/chat/completions")
    assert responses.translator.translate(request, stream=False).wire_request.url.endswith("/v1/responses")
    assert chat.operations.count_tokens is None
    assert responses.operations.count_tokens is not None
    assert responses.operations.embed is not None


@pytest.mark.parametrize(
    ("fields", "noted"),
    [
        ({}, []),
        ({"api_url": "https://x/v1/chat/completions"}, ["/chat/completions"]),
        ({"api_url": "http://gpu.example.com/v1"}, []),
        ({"api_url": "http://gpu.example.com/v1", "api_key": "sk-secret"}, ["plain HTTP"]),
        ({"api_url": "http://localhost:1/v1", "api_key": "sk-secret"}, []),
    ],
)
def test_a_changed_url_and_an_unencrypted_key_are_worth_a_note(fields: dict[str, Any], noted: list[str]) -> None:
    notes = list(compatible(**fields).notes())
    assert [setting for setting, _ in notes] == ["api_url"] * len(noted)
    for (_, note), part in zip(notes, noted, strict=True):
        assert part in note
        assert "secret" not in note


@pytest.fixture
def service() -> ServiceContext[Settings]:
    return context(openai_compatible, compatible(send_user_id=True))


def test_models_are_listed(service: ServiceContext[Settings]) -> None:
    operation = openai_compatible.operations(service).list_models
    assert operation is not None
    request = operation.build(service, None)
    assert (request.method, request.url, request.body) == ("GET", "https://x/v1/models", b"")
    assert operation.build(service, "m1").url == "https://x/v1/models?after=m1"
    data = [{"id": "a", "created": 5, "object": "model"}, {"no": "id"}, {"id": "b", "display_name": "B"}]
    models, cursor = operation.parse(service, response({"data": data}))
    assert models == (ModelInfo(id="a", created=5), ModelInfo(id="b", name="B"))
    assert models[0].raw == data[0]
    assert cursor is None
    assert operation.parse(service, response(data))[0] == models
    assert operation.parse(service, response({"data": data, "has_more": True, "last_id": "b"}))[1] == "b"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (  # OpenRouter
            {
                "context_length": 1_000_000,
                "architecture": {"input_modalities": ["text", "image", "file"], "output_modalities": ["text"]},
                "top_provider": {"context_length": 1_000_000, "max_completion_tokens": 8192},
                "supported_parameters": ["max_tokens", "tools", "structured_outputs", "reasoning"],
            },
            ModelInfo(
                id="m",
                context_window=1_000_000,
                output_token_limit=8192,
                capabilities=frozenset({"chat", "vision", "documents", "tools", "json_schema", "reasoning"}),
            ),
        ),
        (  # Groq
            {
                "context_length": 131072,
                "context_window": 131072,
                "max_completion_tokens": 8192,
                "input_modalities": ["text"],
                "output_modalities": ["text"],
                "supported_features": ["json_mode", "tools"],
            },
            ModelInfo(
                id="m",
                context_window=131072,
                output_token_limit=8192,
                capabilities=frozenset({"chat", "tools"}),
            ),
        ),
        ({"max_model_len": 32768}, ModelInfo(id="m", context_window=32768)),  # vLLM
        ({"meta": {"n_ctx_train": 8192}}, ModelInfo(id="m", context_window=8192)),  # llama.cpp
        ({"meta": {"n_ctx_train": 8192, "n_ctx": 4096}}, ModelInfo(id="m", context_window=4096)),
        (  # Azure OpenAI
            {"capabilities": {"chat_completion": True, "embeddings": False, "fine_tune": True}},
            ModelInfo(id="m", capabilities=frozenset({"chat"})),
        ),
        (
            {"context_length": 0, "context_window": "8192", "top_provider": None, "capabilities": ["vision", {}, 5]},
            ModelInfo(id="m", capabilities=frozenset({"vision"})),
        ),
        (
            {"architecture": [], "supported_parameters": {"tools": "yes"}, "input_modalities": "image", "meta": 1},
            ModelInfo(id="m"),
        ),
    ],
)
def test_limits_and_capabilities_of_a_model_are_read(
    service: ServiceContext[Settings], fields: dict[str, Any], expected: ModelInfo
) -> None:
    operation = openai_compatible.operations(service).list_models
    assert operation is not None
    assert operation.parse(service, response({"data": [{"id": "m", **fields}]}))[0] == (expected,)


def test_texts_are_embedded(service: ServiceContext[Settings]) -> None:
    operation = openai_compatible.operations(service).embed
    assert operation is not None
    request = EmbedRequest(
        inputs=["a", "b"], model="m", dimensions=2, user_id="u", provider_options={"openai-compatible": {"x": 1}}
    )
    wire = operation.build(service, request).wire_request
    assert wire.url == "https://x/v1/embeddings"
    assert json.loads(wire.body) == {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "float",
        "dimensions": 2,
        "user": "u",
        "x": 1,
    }
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    data = [{"index": 1, "embedding": packed}, {"index": 0, "embedding": [1, 2.5]}]
    found = operation.parse(
        service, response({"data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    )
    assert found.embeddings == ((1.0, 2.5), (0.5, -1.0))
    assert (found.model, found.usage) == ("m", Usage(input_tokens=3, total_tokens=3))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"<html>",
        {},
        {"data": 7},
        {"data": [7]},
        {"data": [{"embedding": "!"}]},
        {"data": [{"embedding": "AAA="}]},
        {"data": [{"embedding": ["x"]}]},
        {"data": [{}]},
        {"data": [{"index": 0, "embedding": [10**400]}]},
    ],
)
def test_what_is_no_embedding_is_a_protocol_violation(value: object, service: ServiceContext[Settings]) -> None:
    operation = openai_compatible.operations(service).embed
    assert operation is not None
    with pytest.raises(ProtocolViolation):
        operation.parse(service, response(value))


@pytest.mark.parametrize("value", [b"", {}, {"data": {}}])
def test_what_is_no_list_of_models_is_a_protocol_violation(value: object, service: ServiceContext[Settings]) -> None:
    operation = openai_compatible.operations(service).list_models
    assert operation is not None
    with pytest.raises(ProtocolViolation):
        operation.parse(service, response(value))


def test_an_error_in_a_200_answer_is_raised(service: ServiceContext[Settings]) -> None:
    operations = openai_compatible.operations(service)
    assert operations.embed is not None
    with pytest.raises(RemoteError, match="m"):
        operations.embed.parse(service, response({"error": {"message": "m"}}))
