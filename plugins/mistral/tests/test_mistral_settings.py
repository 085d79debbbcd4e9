"""The settings, the provider's value, and the operations besides chat."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import Provider, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ConfigurationError, ProtocolViolation, RemoteError
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import Capability, ModelInfo, Usage
from trunkline.secrets import Secret
from trunkline.settings import json_schema, setting_infos
from trunkline_mistral import MistralSettings, mistral


def context(**fields: Any) -> ServiceContext[MistralSettings]:
    settings = MistralSettings(**{"api_key": Secret("canary"), **fields})
    return ServiceContext(name="mine", provider="mistral", settings=settings)


def response(value: object) -> WireResponse:
    return WireResponse(status=200, body=value if isinstance(value, bytes) else json.dumps(value).encode())


def test_the_entry_point_is_the_provider() -> None:
    [found] = entry_points(group="trunkline.providers", name="mistral")
    assert found.load() is mistral
    assert isinstance(mistral, Provider)
    assert mistral.name == MistralSettings.provider == "mistral"


def test_importing_the_package_imports_no_step() -> None:
    code = "import sys, trunkline_mistral; print([n for n in sys.modules if n.startswith('trunkline_')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for step in ("translate", "parse", "operations", "history", "errors"):
        assert f".{step}'" not in found


def test_the_settings_of_the_design() -> None:
    infos = {info.name: info for info in setting_infos(MistralSettings)}
    assert list(infos)[:2] == ["api_key", "api_url"]
    assert (infos["api_key"].required, infos["api_key"].secret) == (True, True)
    assert infos["api_key"].environment == ("MISTRAL_API_KEY",)
    assert json_schema(MistralSettings)["required"] == ["api_key", "default_model"]
    assert MistralSettings(api_key=Secret("k")).api_url == "https://api.mistral.ai"


@pytest.mark.parametrize(
    ("name", "value"), [("api_url", "ftp://x"), ("api_url", 7), ("api_key", ""), ("api_key", "a\nb")]
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        MistralSettings(**{"api_key": "k", name: value})


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("https://api.mistral.ai", "https://api.mistral.ai/v1/chat/completions"),
        ("https://api.mistral.ai/", "https://api.mistral.ai/v1/chat/completions"),
        ("https://api.mistral.ai/v1", "https://api.mistral.ai/v1/chat/completions"),
        ("https://api.mistral.ai/v1/chat/completions", "https://api.mistral.ai/v1/chat/completions"),
        ("proxy.example.com/mistral/v1/", "https://proxy.example.com/mistral/v1/chat/completions"),
    ],
)
def test_urls_as_people_paste_them(pasted: str, url: str) -> None:
    translator = open_steps(mistral, context(api_url=pasted)).translator
    assert translator.translate(ChatRequest(messages="q", model="m"), stream=False).wire_request.url == url


def test_the_key_is_a_bearer_token() -> None:
    auth = mistral.auth(context())
    assert auth.sign(WireRequest(url="https://x"), None).headers["authorization"] == "Bearer canary"
    own = mistral.auth(context(headers={"Authorization": "Basic x"}))
    assert "authorization" not in own.sign(WireRequest(url="https://x"), None).headers


def test_models_are_listed() -> None:
    operation = mistral.operations(context()).list_models
    assert operation is not None
    request = operation.build(context(), None)
    assert (request.method, request.url) == ("GET", "https://api.mistral.ai/v1/models")
    card = {
        "id": "mistral-medium-latest",
        "created": 5,
        "name": "mistral-medium-2508",
        "capabilities": {"vision": True},
    }
    models, cursor = operation.parse(context(), response({"object": "list", "data": [card]}))
    vision = frozenset[Capability]({"vision"})
    assert models == (
        ModelInfo(id="mistral-medium-latest", name="mistral-medium-2508", created=5, capabilities=vision),
    )
    assert models[0].raw == card
    assert cursor is None


def test_texts_are_embedded() -> None:
    operation = mistral.operations(context()).embed
    assert operation is not None
    request = EmbedRequest(
        inputs=["a", "b"],
        model="mistral-embed",
        dimensions=2,
        user_id="u",
        provider_options={"mistral": {"output_dtype": "int8"}},
    )
    translation = operation.build(context(), request)
    assert translation.wire_request.url == "https://api.mistral.ai/v1/embeddings"
    assert json.loads(translation.wire_request.body) == {
        "model": "mistral-embed",
        "input": ["a", "b"],
        "encoding_format": "float",
        "output_dimension": 2,
        "output_dtype": "int8",
    }
    assert [warning.subject for warning in translation.warnings] == ["user_id"]
    data = [{"object": "embedding", "index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1.0, 2.5]}]
    found = operation.parse(
        context(), response({"data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    )
    assert found.embeddings == ((1.0, 2.5), (3.0, 4.0))
    assert (found.model, found.usage) == ("m", Usage(input_tokens=3, total_tokens=3))


@pytest.mark.parametrize("value", [b"", {}, {"data": [7]}, {"object": "error", "message": "m", "error": {"code": 1}}])
def test_what_is_no_embedding_is_an_error(value: object) -> None:
    operation = mistral.operations(context()).embed
    assert operation is not None
    with pytest.raises(RemoteError):
        operation.parse(context(), response(value))


def test_there_is_no_token_counting() -> None:
    assert mistral.operations(context()).count_tokens is None


def test_what_is_no_list_of_models_is_a_protocol_violation() -> None:
    operation = mistral.operations(context()).list_models
    assert operation is not None
    with pytest.raises(ProtocolViolation):
        operation.parse(context(), response({}))
