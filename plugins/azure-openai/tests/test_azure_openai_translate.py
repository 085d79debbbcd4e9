"""Requests: where they go, what is sent on each surface, and that the official client's own types take it."""

from __future__ import annotations

import importlib
import importlib.util
import json
from typing import Any

import pytest
from strict_types import strict_adapter
from trunkline._plugins.registry import Steps, open_steps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.request import ChatRequest, EmbedRequest, ReasoningOptions, ResponseFormat, Tool
from trunkline_azure_openai import AzureOpenAISettings, azure_openai
from trunkline_azure_openai.model_facts import model_of

RESOURCE = "https://r.openai.azure.com"
V1 = f"{RESOURCE}/openai/v1"
CLASSIC = f"{RESOURCE}/openai/deployments"
NEWER = f"{RESOURCE}/openai?api-version=2025-04-01-preview"
PATH = "/chat/completions"
INFERENCE = "https://r.services.ai.azure.com/models"

PNG = b"\x89PNG\r\n\x1a\n"
WEATHER = Tool(name="weather", description="d", parameters={"type": "object", "properties": {}}, strict=True)
CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})


def context(api_url: str = V1, **fields: Any) -> ServiceContext[AzureOpenAISettings]:
    settings = AzureOpenAISettings(api_url=api_url, api_key="key-REDACTED", **fields)  # type: ignore[arg-type]
    return ServiceContext(name="mine", provider="azure-openai", settings=settings)


def steps(api_url: str = V1, **fields: Any) -> Steps:
    return open_steps(azure_openai, context(api_url, **fields))


def translate(
    *messages: Message, api_url: str = V1, settings: dict[str, Any] | None = None, stream: bool = False, **request: Any
) -> tuple[dict[str, Any], Translation]:
    chat = ChatRequest(messages=messages or (user("Hi"),), **{"model": "gpt-4.1", **request})
    translation = steps(api_url, **(settings or {})).translator.translate(chat, stream=stream)
    body: dict[str, Any] = json.loads(translation.wire_request.body)
    return body, translation


def warnings_of(translation: Translation) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translation.warnings]


# Where a request goes


@pytest.mark.parametrize(
    ("api_url", "fields", "url"),
    [
        (V1, {}, f"{V1}/chat/completions"),
        (V1, {"api": "responses"}, f"{V1}/responses"),
        (CLASSIC, {}, f"{CLASSIC}/my%20dep{PATH}?api-version=2024-10-21"),
        (CLASSIC, {"api_version": "2025-01-01-preview"}, f"{CLASSIC}/my%20dep{PATH}?api-version=2025-01-01-preview"),
        (NEWER, {"api": "responses"}, f"{RESOURCE}/openai/responses?api-version=2025-04-01-preview"),
        (INFERENCE, {}, f"{INFERENCE}/chat/completions?api-version=2024-05-01-preview"),
    ],
)  # fmt: skip
def test_the_model_is_the_deployment(api_url: str, fields: dict[str, Any], url: str) -> None:
    body, translation = translate(api_url=api_url, settings=fields, model="my dep")
    assert translation.wire_request.url == url
    assert body["model"] == "my dep"
    assert translation.warnings == ()


def test_the_headers_of_the_settings_go_along_and_no_credential_yet() -> None:
    _, translation = translate(settings={"headers": {"x-ms-client-request-id": "1"}}, stream=True)
    assert dict(translation.wire_request.headers) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "x-ms-client-request-id": "1",
    }


# What is sent on each surface

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}

FULL: dict[str, Any] = {
    "messages": [
        system("Be brief."),
        Message(role="user", parts=["Look", Image(data=PNG, detail="low"), Image(url="https://x/y.png")], name="ann"),
        assistant("Well", Text(text="no", refusal=True)),
        assistant(CALL),
        tool_result(CALL, [Text(text="sun"), Image(data=PNG)], is_error=True),
        user("And?"),
    ],
    "tools": [WEATHER],
    "tool_choice": "weather",
    "parallel_tool_calls": False,
    "response_format": ResponseFormat(schema=CLOSED, name="out", description="d"),
    "max_output_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["a", "b"],
    "seed": 1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "top_logprobs": 3,
    "metadata": {"k": "v"},
    "user_id": "u",
    "provider_options": {"azure-openai": {"prompt_cache_key": "k"}, "openai": {"x": 1}},
}


def full(**changed: Any) -> ChatRequest:
    return ChatRequest(**{"model": "gpt-4.1", **FULL, **changed})


REASONING = ChatRequest(
    messages=[system("s"), user("u")],
    model="o4-mini",
    reasoning=ReasoningOptions(effort="low"),
    max_output_tokens=9,
    tools=[WEATHER],
    tool_choice="required",
)


def adapter(module: str, name: str) -> Any:
    return strict_adapter(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "request_", [ChatRequest(messages="hi", model="m"), full(), REASONING], ids=["bare", "full", "reasoning"]
)
@pytest.mark.parametrize("api_url", [V1, CLASSIC, NEWER, INFERENCE])
def test_chat_bodies_are_what_the_official_client_types_accept(
    api_url: str, request_: ChatRequest, stream: bool
) -> None:
    kind = "CompletionCreateParamsStreaming" if stream else "CompletionCreateParamsNonStreaming"
    translation = steps(api_url, send_user_id=True).translator.translate(request_, stream=stream)
    adapter("openai.types.chat.completion_create_params", kind).validate_json(translation.wire_request.body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "request_", [ChatRequest(messages="hi", model="m"), full(), REASONING], ids=["bare", "full", "reasoning"]
)
@pytest.mark.parametrize("api_url", [V1, NEWER])
def test_responses_bodies_are_what_the_official_client_types_accept(
    api_url: str, request_: ChatRequest, stream: bool
) -> None:
    kind = "ResponseCreateParamsStreaming" if stream else "ResponseCreateParamsNonStreaming"
    translation = steps(api_url, send_user_id=True, api="responses").translator.translate(request_, stream=stream)
    body = json.loads(translation.wire_request.body)
    adapter("openai.types.responses.response_create_params", kind).validate_python(body)


# The properties of a request in the published specification of 2024-10-21.
IN_2024_10_21 = frozenset(
    [
        "data_sources",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "messages",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
    ]
)


def test_the_default_version_is_sent_only_what_its_specification_has() -> None:
    request = full(provider_options={})
    translation = steps(CLASSIC, send_user_id=True).translator.translate(request, stream=True)
    body = json.loads(translation.wire_request.body)
    # The model is the official client's habit; the service ignores it.
    assert body.keys() - IN_2024_10_21 == {"model"}
    assert body["stream_options"] == {"include_usage": True}
    assert {item["role"] for item in body["messages"]} == {"system", "user", "assistant", "tool"}
    assert ("unsupported", "metadata") in warnings_of(translation)


def test_the_whole_request_is_on_the_wire_of_the_v1_surface() -> None:
    translation = steps(V1, send_user_id=True).translator.translate(full(), stream=False)
    body = json.loads(translation.wire_request.body)
    messages = body.pop("messages")
    assert body.pop("tools")[0]["function"]["strict"] is True
    assert body == {
        "model": "gpt-4.1",
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "out", "schema": CLOSED, "description": "d", "strict": True},
        },
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 3,
        "stop": ["a", "b"],
        "seed": 1,
        "metadata": {"k": "v"},
        "user": "u",
        "prompt_cache_key": "k",
    }
    assert [item["role"] for item in messages] == ["system", "user", "assistant", "assistant", "tool", "user"]
    # What the dialect cannot say: a failed tool, and a picture in its result.
    assert {kind for kind, _ in warnings_of(translation)} == {"changed", "mended"}


@pytest.mark.parametrize(
    ("api_url", "model", "field"),
    [
        (V1, "gpt-4.1", "max_completion_tokens"),
        (V1, "my-deployment", "max_completion_tokens"),
        (V1, "mistral-large-2411", "max_tokens"),
        (V1, "Codestral-2501", "max_tokens"),
        (NEWER, "gpt-4.1", "max_completion_tokens"),
        (CLASSIC, "gpt-4o", "max_tokens"),
        (CLASSIC, "my-deployment", "max_tokens"),
        (CLASSIC, "o3-mini", "max_completion_tokens"),
        (CLASSIC, "gpt-5-chat", "max_completion_tokens"),
        (INFERENCE, "grok-4", "max_tokens"),
        (INFERENCE, "gpt-5", "max_completion_tokens"),
        (INFERENCE, "Mistral-Nemo", "max_tokens"),
    ],
)
def test_the_output_limit_has_the_name_that_the_model_takes(api_url: str, model: str, field: str) -> None:
    body, translation = translate(api_url=api_url, model=model, max_output_tokens=7)
    assert {name: body.get(name) for name in ("max_tokens", "max_completion_tokens")} == {
        "max_tokens": None,
        "max_completion_tokens": None,
        field: 7,
    }
    assert translation.warnings == ()


@pytest.mark.parametrize(
    ("api_url", "subjects"),
    [
        (V1, set()),
        (CLASSIC, {"metadata"}),
        (INFERENCE, {"metadata", "user_id", "parallel_tool_calls", "strict tools", "logprobs", "top_logprobs"}),
    ],
)
def test_what_a_surface_does_not_take_is_left_out_with_a_warning(api_url: str, subjects: set[str]) -> None:
    translation = steps(api_url, send_user_id=True).translator.translate(full(), stream=False)
    assert {subject for kind, subject in warnings_of(translation) if kind == "unsupported"} == subjects


def test_a_reasoning_model_gets_the_effort_and_no_sampling() -> None:
    body, translation = translate(model="o3", reasoning=ReasoningOptions(effort="high"), temperature=1, stop=["x"])
    assert body["reasoning_effort"] == "high"
    assert not body.keys() & {"temperature", "stop"}
    assert warnings_of(translation) == [("unsupported", "temperature"), ("unsupported", "stop")]


def test_documents_are_left_out_but_for_text() -> None:
    body, translation = translate(
        Message(role="user", parts=["Read", Document(data=b"%PDF-1", name="a.pdf"), Document(file_id="f")]),
        Message(role="user", parts=[Document(data=b"plain", name="a.txt", media_type="text/plain")]),
    )
    assert [item["content"] for item in body["messages"]] == ["Read", "a.txt\n\nplain"]
    assert warnings_of(translation) == [("left_out", "document"), ("emulated", "document")]


def test_audio_goes_to_the_surfaces_that_take_it() -> None:
    spoken = Message(role="user", parts=[Text(text="Hear"), Audio(data=b"RIFF\x00\x00\x00\x00WAVE")])
    assert translate(spoken)[0]["messages"][0]["content"][1]["type"] == "input_audio"
    assert warnings_of(translate(spoken, api_url=CLASSIC)[1]) == [("left_out", "audio")]


def test_reasoning_of_the_history_is_left_out_with_one_warning() -> None:
    body, translation = translate(
        user("q"),
        assistant(Reasoning(text="hm", provider="azure-openai"), "a"),
        user("q"),
        assistant(Reasoning(text="hm", provider="other", signature="s"), Opaque(provider="x", kind="k", data={}), "b"),
        user("q"),
    )  # fmt: skip
    assert [item["content"] for item in body["messages"]] == ["q", "a", "q", "b", "q"]
    assert warnings_of(translation) == [("mended", "reasoning"), ("mended", "opaque part")]


def test_ids_of_another_provider_are_made_valid_alike_for_call_and_result() -> None:
    call = ToolCall(id="toolu_" + "x" * 60, name="weather", arguments={})
    body, _ = translate(user("q"), assistant(call), tool_result(call, ""), tools=[WEATHER])
    _, calling, result = body["messages"]
    assert calling["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) <= 40


def test_provider_options_reach_the_body_messages_parts_and_tools() -> None:
    mine = {"azure-openai": {"x": 1}}
    body, _ = translate(
        Message(role="user", parts=[Text(text="q", provider_options=mine), "r"], provider_options=mine),
        tools=[Tool(name="t", provider_options=mine)],
        provider_options={"azure-openai": {"data_sources": [{"type": "azure_search"}]}, "openai": {"y": 1}},
    )
    assert body["messages"][0]["x"] == body["messages"][0]["content"][0]["x"] == body["tools"][0]["x"] == 1
    assert body["data_sources"] == [{"type": "azure_search"}]
    assert "y" not in body


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        translate(provider_options={"azure-openai": {"x": object()}})


@pytest.mark.parametrize(("send", "sent"), [(False, None), (True, "u")])
def test_the_user_s_id_goes_as_user_on_both_apis(send: bool, sent: str | None) -> None:
    for api in ("chat", "responses"):
        body, _ = translate(settings={"send_user_id": send, "api": api}, user_id="u")
        assert body.get("user") == sent
        assert "safety_identifier" not in body


def test_the_user_s_id_can_be_hashed() -> None:
    body, _ = translate(settings={"send_user_id": "hashed"}, user_id="u")
    assert len(body["user"]) == 64


# Responses


@pytest.mark.parametrize(
    ("model", "reasoning", "asked"),
    [
        ("gpt-5", None, True),
        ("o3", None, True),
        ("my-deployment", ReasoningOptions(effort="low"), True),
        ("my-deployment", None, False),
        ("gpt-4.1", None, False),
    ],
)
def test_encrypted_reasoning_is_asked_for_where_the_model_is_to_reason(
    model: str, reasoning: ReasoningOptions | None, asked: bool
) -> None:
    body, _ = translate(settings={"api": "responses"}, model=model, reasoning=reasoning, stream=True)
    assert ("include" in body) is asked
    assert body["store"] is False
    assert "stream_options" not in body


def test_log_probabilities_stay_among_what_is_included() -> None:
    body, _ = translate(settings={"api": "responses"}, model="my-deployment", logprobs=True)
    assert body["include"] == ["message.output_text.logprobs"]


# Embeddings and models


@pytest.mark.parametrize(
    ("api_url", "url"),
    [
        (V1, f"{V1}/embeddings"),
        (CLASSIC, f"{CLASSIC}/ada/embeddings?api-version=2024-10-21"),
        (INFERENCE, f"{INFERENCE}/embeddings?api-version=2024-05-01-preview"),
    ],
)
def test_texts_are_embedded_by_a_deployment(api_url: str, url: str) -> None:
    here = context(api_url)
    operation = azure_openai.operations(here).embed
    assert operation is not None
    wire = operation.build(here, EmbedRequest(inputs=["a"], model="ada", dimensions=2)).wire_request
    assert wire.url == url
    assert json.loads(wire.body) == {"model": "ada", "input": ["a"], "encoding_format": "float", "dimensions": 2}
    answer = {"data": [{"index": 0, "embedding": [0.5, 1]}], "model": "ada", "usage": {"prompt_tokens": 1}}
    assert operation.parse(here, WireResponse(status=200, body=json.dumps(answer).encode())).embeddings == ((0.5, 1.0),)


def test_models_are_listed_where_the_surface_lists_them() -> None:
    for api_url, url in [(V1, f"{V1}/models"), (CLASSIC, f"{RESOURCE}/openai/models?api-version=2024-10-21")]:
        here = context(api_url)
        operation = azure_openai.operations(here).list_models
        assert operation is not None
        assert operation.build(here, None).url == url
        body = {"data": [{"id": "gpt-4.1", "created_at": 5, "lifecycle_status": "generally-available"}]}
        [model], cursor = operation.parse(here, WireResponse(status=200, body=json.dumps(body).encode()))
        assert (model.id, model.created, cursor) == ("gpt-4.1", 5, None)
    assert azure_openai.operations(context(INFERENCE)).list_models is None
    assert azure_openai.operations(context(V1)).count_tokens is None


# Facts about the deployment's model


@pytest.mark.parametrize(
    ("deployment", "model"),
    [
        ("gpt-5-mini", "gpt-5-mini"),
        ("team-gpt-5-2025-08-07-global", "gpt-5-2025-08-07-global"),
        ("gpt5-nano", "gpt-5-nano"),
        ("prod_gpt-5-1", "gpt-5.1"),
        ("FW-DeepSeek-V4-Pro", "deepseek-v4-pro"),
        ("my-o3-mini", "o3-mini"),
        ("o4mini", "o4-mini"),
        ("prod_gpt_5_mini", "gpt-5-mini"),
        ("gpt5mini-eu", "gpt-5-mini-eu"),
        ("gpt51", "gpt-5.1"),
        ("gpt41-mini", "gpt-4.1-mini"),
        ("gpt-35-turbo", "gpt-35-turbo"),
        ("gpt-5.6-luna", "gpt-5.6-luna"),
        ("photo3", "photo3"),
        ("chat", "chat"),
    ],
)
def test_model_is_recognised_in_the_deployment_name(deployment: str, model: str) -> None:
    assert model_of(deployment) == model


@pytest.mark.parametrize("api_url", [V1, CLASSIC, NEWER, INFERENCE])
@pytest.mark.parametrize(
    ("model", "limit", "stream_options"),
    [
        ("gpt-5-mini", "max_completion_tokens", True),
        ("my-o4-mini-eu", "max_completion_tokens", True),
        ("gpt-5-chat", "max_completion_tokens", True),
        ("Mistral-Large-3", "max_tokens", False),
        ("Ministral-3B", "max_tokens", False),
        ("Phi-4", None, False),
        ("DeepSeek-V4-Pro", None, True),
        ("gpt-4.1", None, True),
    ],
)
def test_a_model_gets_the_fields_that_it_accepts_on_each_surface(
    api_url: str, model: str, limit: str | None, stream_options: bool
) -> None:
    body, translation = translate(api_url=api_url, model=model, max_output_tokens=9, stream=True)
    limits = {"max_tokens", "max_completion_tokens"} & body.keys()
    assert len(limits) == 1
    assert limit is None or limits == {limit}
    assert ("stream_options" in body) == stream_options
    assert translation.warnings == ()


def test_stream_options_are_not_sent_with_data_sources() -> None:
    options = {"azure-openai": {"data_sources": [{"type": "azure_search"}]}}
    body, _ = translate(stream=True, provider_options=options)
    assert "stream_options" not in body


@pytest.mark.parametrize("api_url", [V1, CLASSIC, NEWER, INFERENCE])
@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("gpt-5", {"temperature", "top_p", "stop", "frequency_penalty"}),
        ("o3", {"temperature", "top_p", "stop", "frequency_penalty"}),
        ("grok-4-fast-reasoning", {"stop", "frequency_penalty"}),
        ("grok-4-1-fast-non-reasoning", set()),
        ("gpt-4.1", set()),
    ],
)
def test_a_parameter_that_the_model_refuses_is_left_out_with_a_warning(
    api_url: str, model: str, refused: set[str]
) -> None:
    wanted = {"temperature": 0.5, "top_p": 0.9, "stop": ["x"], "frequency_penalty": 0.1}
    body, translation = translate(api_url=api_url, model=model, **wanted)
    assert wanted.keys() - body.keys() == refused
    assert {subject for _, subject in warnings_of(translation)} == refused


@pytest.mark.parametrize(
    ("model", "api", "wanted", "sent"),
    [
        ("gpt-6-astra", "chat", "max", "xhigh"),
        ("gpt-6.1-terra", "responses", "none", "low"),
        ("gpt-5", "responses", "none", "minimal"),
        ("deepseek-v4-pro", "chat", "xhigh", "high"),
        ("deepseek-v4-pro", "responses", "high", None),
        ("o3-mini", "chat", "minimal", "low"),
    ],
)
def test_effort_becomes_a_level_that_the_model_accepts(model: str, api: str, wanted: Any, sent: str | None) -> None:
    body, translation = translate(settings={"api": api}, model=model, reasoning=ReasoningOptions(effort=wanted))
    found = body.get("reasoning_effort") if api == "chat" else body.get("reasoning", {}).get("effort")
    assert found == sent
    assert [subject for _, subject in warnings_of(translation)] == ["reasoning.effort"]


def test_a_deepseek_deployment_gets_its_reasoning_back() -> None:
    turn = assistant(Reasoning(text="hm", provider="azure-openai", family="deepseek"), CALL)
    body, translation = translate(user("Q"), turn, tool_result(CALL, "ok"), model="deepseek-v4-flash")
    assert body["messages"][1]["reasoning_content"] == "hm"
    assert translation.family == "deepseek"
    assert translation.warnings == ()


def test_setting_model_facts_describes_a_deployment() -> None:
    facts = {"my-dep*": {"reasons": "always", "efforts": ["low"], "max_tokens_field": "max_completion_tokens"}}
    body, _ = translate(
        api_url=CLASSIC,
        settings={"model_facts": facts},
        model="my-deployment",
        temperature=0.5,
        max_output_tokens=9,
        reasoning=ReasoningOptions(effort="high"),
    )
    assert (body["max_completion_tokens"], body["reasoning_effort"]) == (9, "low")
    assert "temperature" not in body


# The guide's steps: the root of the resource, the key, and the name of the model. Nothing else is set.

NO_EFFORT = ("o1-mini", "o1-preview")
REASONING = ("o1", *NO_EFFORT, "o3", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano", "team-gpt-5-eu")
SURFACES = (
    RESOURCE,
    f"{RESOURCE}/",
    "https://r.openai.azure.us",
    "https://r.cognitiveservices.azure.com/",
    "https://r.services.ai.azure.com",
    f"{CLASSIC}/d/chat/completions?api-version=2025-01-01-preview",
    f"{CLASSIC}/d/chat/completions?api-version=2024-10-21",
)


@pytest.mark.parametrize("model", REASONING)
@pytest.mark.parametrize("api_url", SURFACES)
def test_reasoning_model_gets_no_parameter_that_it_refuses(api_url: str, model: str) -> None:
    body, translation = translate(
        system("Be brief."),
        user("Hi"),
        api_url=api_url,
        model=model,
        temperature=0.4,
        top_p=0.9,
        max_output_tokens=100,
        stop=("x",),
        frequency_penalty=0.1,
        reasoning=ReasoningOptions(effort="high"),
    )
    wanted = {"model": model, "max_completion_tokens": 100, "reasoning_effort": "high"}
    if model in NO_EFFORT:
        del wanted["reasoning_effort"]
    assert body == {**wanted, "messages": body["messages"]}
    assert {"temperature", "top_p", "stop", "frequency_penalty"} <= {subject for _, subject in warnings_of(translation)}
    assert translation.wire_request.headers.get("authorization") is None


@pytest.mark.parametrize("model", ["o4-mini", "gpt-5", "gpt-4.1"])
@pytest.mark.parametrize(
    ("api_url", "version"), [(RESOURCE, "v1"), (RESOURCE, "2024-10-21"), (RESOURCE, "2025-04-01-preview")]
)
def test_request_is_that_of_the_official_client(api_url: str, version: str, model: str) -> None:
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")
    sent: list[Any] = []

    def answer(request: Any) -> Any:
        sent.append(request)
        return httpx.Response(400, json={"error": {"message": "seen"}})

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    options: dict[str, Any] = {"api_key": "key-REDACTED", "http_client": http_client, "max_retries": 0}
    if version == "v1":
        client = openai.OpenAI(base_url=f"{RESOURCE}/openai/v1/", **options)
    else:
        client = openai.AzureOpenAI(azure_endpoint=RESOURCE, api_version=version, **options)
    with http_client, pytest.raises(openai.BadRequestError):
        limit = "max_tokens" if (version, model) == ("2024-10-21", "gpt-4.1") else "max_completion_tokens"
        messages = [{"role": "user", "content": "Hi"}]
        client.chat.completions.create(model=model, messages=messages, **{limit: 9})
    settings = {} if version == "v1" else {"api_version": version}
    body, translation = translate(api_url=api_url, settings=settings, model=model, max_output_tokens=9)
    auth = steps(api_url, **settings).auth
    ours = auth.sign(translation.wire_request, None)
    [theirs] = sent
    assert ours.url == str(theirs.url)
    assert body == json.loads(theirs.content)
    if version != "v1":  # on v1, the client sends the key as a bearer token, and Azure accepts both
        assert ours.headers["api-key"] == theirs.headers["api-key"]
