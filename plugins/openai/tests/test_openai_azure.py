"""Resources of Azure through `openai-compatible`: each URL that the portal shows works, with the right header."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from trunkline._plugins.registry import Steps, open_steps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.messages import user
from trunkline.request import ChatRequest
from trunkline.secrets import Secret
from trunkline_openai import OpenAICompatibleSettings, openai_compatible
from trunkline_openai.urls import base_url, is_azure

R = "https://r.openai.azure.com"
F = "https://r.services.ai.azure.com"
D = "/openai/deployments/d"


def steps(api_url: str, key: str | Secret = "key-REDACTED", **fields: Any) -> tuple[Any, Steps]:
    settings = OpenAICompatibleSettings(api_url=api_url, api_key=key, **fields)
    context: Any = ServiceContext(name="mine", provider="openai-compatible", settings=settings)
    return context, open_steps(openai_compatible, context)


CASES = [
    # the pasted URL, the URL of a chat, the URL of the list of models, the field of the output limit
    (
        f"{R}{D}/chat/completions?api-version=2025-01-01-preview",
        f"{R}{D}/chat/completions?api-version=2025-01-01-preview",
        f"{R}/openai/models?api-version=2025-01-01-preview",
        "max_completion_tokens",
    ),
    (
        f"{R}{D}/chat/completions?api-version=2024-10-21",
        f"{R}{D}/chat/completions?api-version=2024-10-21",
        f"{R}/openai/models?api-version=2024-10-21",
        "max_tokens",
    ),
    (
        f"https://r.openai.azure.us{D}/chat/completions?api-version=2024-10-21",
        f"https://r.openai.azure.us{D}/chat/completions?api-version=2024-10-21",
        "https://r.openai.azure.us/openai/models?api-version=2024-10-21",
        "max_tokens",
    ),
    (
        f"https://gw.azure-api.net/team{D}/chat/completions?api-version=2025-01-01-preview",
        f"https://gw.azure-api.net/team{D}/chat/completions?api-version=2025-01-01-preview",
        "https://gw.azure-api.net/team/openai/models?api-version=2025-01-01-preview",
        "max_completion_tokens",
    ),
    *(
        (pasted, f"{R}/openai/v1/chat/completions", f"{R}/openai/v1/models", "max_completion_tokens")
        for pasted in (
            R,
            f"{R}/openai",
            f"{R}/openai/v1/chat/completions",
            f"{R}/openai/responses?api-version=2025-04-01-preview",
        )
    ),
    *(
        (
            f"https://r.{name}",
            f"https://r.{name}/openai/v1/chat/completions",
            f"https://r.{name}/openai/v1/models",
            "max_completion_tokens",
        )
        for domain in ("azure.com", "azure.us", "azure.cn")
        for name in (f"openai.{domain}", f"services.ai.{domain}", f"cognitiveservices.{domain}")
    ),
    (
        f"{F}/api/projects/p",
        f"{F}/api/projects/p/openai/v1/chat/completions",
        f"{F}/api/projects/p/openai/v1/models",
        "max_completion_tokens",
    ),
    (
        f"{F}/models/chat/completions?api-version=2024-05-01-preview",
        f"{F}/models/chat/completions?api-version=2024-05-01-preview",
        None,  # this API lists no models
        "max_completion_tokens",
    ),
]


@pytest.mark.parametrize(("pasted", "chat", "models", "limit"), CASES)
def test_target_uri_works_with_the_key_in_its_header(pasted: str, chat: str, models: str | None, limit: str) -> None:
    context, made = steps(pasted)
    request = ChatRequest(messages=user("Hi"), model="gpt-4.1", max_output_tokens=9)
    wire = made.auth.sign(made.translator.translate(request, stream=False).wire_request, None)
    assert wire.url == chat
    assert wire.headers["api-key"] == "key-REDACTED"
    assert "authorization" not in wire.headers
    assert json.loads(wire.body)[limit] == 9
    listing = made.operations.list_models
    assert listing is not None
    assert models is None or cast(WireRequest, listing.build(context, None)).url == models


@pytest.mark.parametrize("model", ["o4-mini", "gpt-5"])
@pytest.mark.parametrize("version", ["2024-10-21", "2025-01-01-preview"])
def test_reasoning_model_gets_the_limit_that_it_accepts(model: str, version: str) -> None:
    _, made = steps(f"{R}/openai/deployments/{model}/chat/completions?api-version={version}")
    request = ChatRequest(messages=user("Hi"), model=model, max_output_tokens=9, temperature=0.5)
    translation = made.translator.translate(request, stream=False)
    body = json.loads(translation.wire_request.body)
    assert body == {"model": model, "messages": body["messages"], "max_completion_tokens": 9}
    assert [warning.subject for warning in translation.warnings] == ["temperature"]


def test_token_of_entra_id_is_sent_as_a_bearer_token() -> None:
    _, made = steps(f"{R}{D}", "eyJhbGciOiJub25l.e30.x")
    headers = made.auth.sign(WireRequest(url="https://x"), None).headers
    assert headers["authorization"] == "Bearer eyJhbGciOiJub25l.e30.x"
    assert "api-key" not in headers


@pytest.mark.parametrize("name", ["api-key", "Authorization"])
def test_header_of_the_settings_replaces_the_key(name: str) -> None:
    _, made = steps(f"{R}{D}", headers={name: "mine"})
    headers = made.auth.sign(WireRequest(url="https://x"), None).headers
    assert not {"authorization", "api-key"} & set(headers)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com",
        "https://openai.azure.com.example.org",
        "https://h.example/openai/v1",
        "http://azure.us",
    ],
)
def test_other_servers_get_a_bearer_token(url: str) -> None:
    assert not is_azure(base_url(url)[0])
    _, made = steps(url)
    assert "authorization" in made.auth.sign(WireRequest(url="https://x"), None).headers
