"""Our requests, and those that the conformance tests expect, are what the providers' official clients send.

The `request_wire` of a sample was written by the author of the provider. Here the official client is the judge of it,
and of requests with each option.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import official_clients as clients
import pytest
from trunkline.authoring.wire import WireRequest
from trunkline.messages import Document, Image, ToolCall, assistant, tool_result, user
from trunkline.request import ChatRequest, EmbedRequest, ReasoningOptions, ResponseFormat, ToolChoice
from trunkline.testing import TOOL_HISTORY, WEATHER, ProviderTests

ROOT = Path(__file__).resolve().parents[1]

CLIENTS: dict[str, Callable[..., None]] = {
    "anthropic:TestAnthropic": clients.anthropic,
    "azure-openai:TestAzureOpenAI": clients.openai_chat,
    "azure-openai:TestAzureOpenAIResponses": clients.openai_responses,
    "bedrock:TestBedrock": clients.converse,
    "cohere:TestCohere": clients.cohere,
    "gemini:TestGemini": clients.gemini,
    "mistral:TestMistral": clients.mistral,
    "ollama:TestOllama": clients.ollama,
    "openai:TestOpenAI": clients.openai_chat,
    "openai:TestOpenAICompatible": clients.openai_chat,
    "openai:TestOpenAIResponses": clients.openai_responses,
}
"""The official client for each class of conformance tests that has one. That of llama.cpp is below."""


def conformance_tests(name: str) -> type[ProviderTests]:
    """Return a class of conformance tests. It is loaded by its path, since the folders of tests are no packages."""
    plugin, _, kind = name.partition(":")
    module = f"test_{plugin.replace('-', '_')}_conformance"
    spec = importlib.util.spec_from_file_location(module, ROOT / "plugins" / plugin / "tests" / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    found: type[ProviderTests] = getattr(loaded, kind)
    return found


def expected(name: str, field: str = "request_wire") -> list[WireRequest]:
    """Return the requests that the conformance tests expect."""
    wanted = [getattr(sample, field) for sample in conformance_tests(name).samples]
    found = [request for request in wanted if isinstance(request, WireRequest)]
    assert found
    return found


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of each name of a field that the API defines, in the body of a request."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            # The application or the model writes what is inside of these.
            if name not in (
                "parameters",
                "parametersJsonSchema",
                "input_schema",
                "json",
                "metadata",
                "requestMetadata",
                "arguments",
                "args",
                "response",
            ) and (name != "input" or isinstance(inner, list)):
                yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from paths(inner, (*path, at))


def misspelt(request: WireRequest, path: tuple[str | int, ...]) -> WireRequest:
    """Return the request with an `x` after the name of one field."""
    body = json.loads(request.body)
    at = body
    for step in path[:-1]:
        at = at[step]
    at[f"{path[-1]}x"] = at.pop(path[-1])
    return attrs.evolve(request, body=json.dumps(body).encode())


@pytest.mark.parametrize("field", ["request_wire", "unstreamed_wire"])
@pytest.mark.parametrize("name", CLIENTS)
def test_expected_requests_are_what_the_official_client_sends(name: str, field: str) -> None:
    for request in expected(name, field):
        clients.check(request, CLIENTS[name])


def test_llamacpp_expects_the_official_request_and_one_more_field() -> None:
    # top_k is a field of llama.cpp's server only.
    [wanted] = expected("llamacpp:TestLlamaCpp")
    body = json.loads(wanted.body)
    assert body.pop("top_k") == 37
    url = "{url}" + wanted.url
    clients.check(attrs.evolve(wanted, url=url, body=json.dumps(body).encode()), clients.openai_chat)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_misspelt_field_is_found(name: str) -> None:
    request = max(expected(name), key=lambda request: len(request.body))
    missed = []
    for path in paths(json.loads(request.body)):
        try:
            clients.check(misspelt(request, path), CLIENTS[name])
        except Exception:
            continue
        missed.append(path)
    # The client of Ollama cannot send these. Source: ollama, api/types.go.
    unknown = ("truncate", "shift")
    missed = [path for path in missed if not (name.startswith("ollama") and path[-1] in unknown)]
    assert not missed, missed


PNG = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
PDF = Document(data=b"%PDF-1.7", media_type="application/pdf", name="a")
CALL = ToolCall(id="abcdefgh1", name="weather", arguments={"city": "Oslo"})
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {field.name: getattr(TOOL_HISTORY, field.name) for field in attrs.fields(ChatRequest)},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "image": {"messages": [user("Look.", PNG)]},
    "image URL": {"messages": [user("Look.", Image(url="https://x.example/a.png", media_type="image/png"))]},
    "document": {"messages": [user("Read.", PDF)]},
    "image in a result": {"messages": [user("q"), assistant(CALL), tool_result(CALL, PNG)], "tools": [WEATHER]},
    "JSON": {"messages": "Answer in JSON.", "response_format": ResponseFormat(type="json")},
    "schema": {"response_format": ResponseFormat(schema=SCHEMA, name="city")},
    **{f"tool choice {choice}": {"tools": [WEATHER], "tool_choice": choice} for choice in ("none", "auto", "required")},
    "tool choice by name": {"tools": [WEATHER], "tool_choice": ToolChoice.tool("weather")},
    "one call at a time": {"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False},
    **{f"effort {effort}": {"reasoning": ReasoningOptions(effort=effort)} for effort in ("none", "low", "high")},
    "reasoning tokens": {"reasoning": ReasoningOptions(max_tokens=2000), "max_output_tokens": 4000},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("case", REQUESTS)
@pytest.mark.parametrize("name", CLIENTS)
def test_requests_are_what_the_official_client_sends(name: str, case: str, stream: bool) -> None:
    request = ChatRequest(**{"messages": "Hi", **copy.deepcopy(REQUESTS[case]), "model": "m"})
    translation = conformance_tests(name).open_steps().translator.translate(request, stream=stream)
    clients.check(translation.wire_request, CLIENTS[name])


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("azure-openai:TestAzureOpenAI", clients.openai_embed),
        ("cohere:TestCohere", clients.cohere_embed),
        ("gemini:TestGemini", clients.gemini_embed),
        ("mistral:TestMistral", clients.mistral_embed),
        ("ollama:TestOllama", clients.ollama_embed),
        ("openai:TestOpenAI", clients.openai_embed),
        ("openai:TestOpenAICompatible", clients.openai_embed),
    ],
)
@pytest.mark.parametrize("dimensions", [None, 256])
def test_requests_for_embeddings_are_what_the_official_client_sends(
    name: str, client: Callable[..., None], dimensions: int | None
) -> None:
    tests = conformance_tests(name)
    operation = tests.open_steps().operations.embed
    assert operation is not None
    request = EmbedRequest(inputs=["a", "b"], model="m", dimensions=dimensions)
    clients.check(operation.translation(tests.context(), request).wire_request, client)
    clients.check(tests.operation_requests["embed"], client)


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("anthropic:TestAnthropic", clients.anthropic_count),
        ("bedrock:TestBedrock", clients.converse),
        ("openai:TestOpenAIResponses", clients.openai_count),
    ],
)
def test_requests_that_count_tokens_are_what_the_official_client_sends(name: str, client: Callable[..., None]) -> None:
    tests = conformance_tests(name)
    operation = tests.open_steps().operations.count_tokens
    assert operation is not None
    request = attrs.evolve(TOOL_HISTORY, model=tests.models[0])
    clients.check(operation.translation(tests.context(), request).wire_request, client)
    clients.check(tests.operation_requests["count_tokens"], client)
