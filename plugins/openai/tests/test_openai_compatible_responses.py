"""The Responses API of servers that are compatible with OpenAI: what the profiles change in requests.

No recording confirms what Groq, vLLM and LM Studio accept on this API; their documentation does. The server of
llama.cpp is run in `tests/test_real_server.py`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from strict_types import strict_adapter
from trunkline._plugins.registry import Steps, open_steps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.messages import Document, Image, Message, Reasoning, Text, assistant, system, user
from trunkline.request import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolChoice
from trunkline.secrets import Secret
from trunkline_openai import OpenAICompatibleSettings, openai_compatible
from trunkline_openai.profile import PROFILES

WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = ResponseFormat(schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
PIXEL = b"\x89PNG"


def steps(profile: Any, **settings: Any) -> Steps:
    fields = {"api_url": "http://localhost:1/v1", "profile": profile, "api": "responses", **settings}
    made = OpenAICompatibleSettings(**fields)
    return open_steps(openai_compatible, ServiceContext(name="s", provider="openai-compatible", settings=made))


def translated(
    profile: Any, *messages: Message, stream: bool = False, **fields: Any
) -> tuple[dict[str, Any], Translation]:
    """The body for a server with a profile, once OpenAI's own types, made strict, have accepted it."""
    from openai.types.responses import response_create_params as params

    request = ChatRequest(messages=messages or [user("Hi")], **{"model": "m", **fields})
    translation = steps(profile).translator.translate(request, stream=stream)
    body = json.loads(translation.wire_request.body)
    kind = params.ResponseCreateParamsStreaming if stream else params.ResponseCreateParamsNonStreaming
    strict_adapter(kind).validate_python(body)
    return body, translation


def ignored(translation: Translation) -> list[str]:
    return [warning.subject for warning in translation.warnings if warning.kind in ("unsupported", "left_out")]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_each_profile_asks_only_for_what_the_server_accepts(profile: str) -> None:
    takes = PROFILES[profile].responses
    facts = steps(profile).translator.for_model("m").facts  # type: ignore[attr-defined]
    takes -= facts.refuses | ({"reasoning_effort"} if facts.efforts == () else frozenset())
    body, translation = translated(
        profile,
        stream=True,
        tools=[WEATHER],
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=False,
        metadata={"a": "b"},
        cache_key="k",
        reasoning=ReasoningOptions(effort="low", summary="auto"),
        top_p=0.5,
        top_logprobs=2,
    )
    assert translation.wire_request.url == "http://localhost:1/v1/responses"
    sent = {
        "store": "store" in body,
        "encrypted_reasoning": "reasoning.encrypted_content" in body.get("include", ()),
        "stream_options": "stream_options" in body,
        "tools": "tools" in body,
        "tool_choice_required": "tool_choice" in body,
        "parallel_tool_calls": "parallel_tool_calls" in body,
        "metadata": "metadata" in body,
        "cache_key": "prompt_cache_key" in body,
        "reasoning_effort": "effort" in body.get("reasoning", {}),
        "reasoning_summary": "summary" in body.get("reasoning", {}),
        "top_p": "top_p" in body,
        "logprobs": "top_logprobs" in body,
    }
    assert sent == {feature: feature in takes for feature in sent}
    # What is not sent is reported, apart from what nobody asked for.
    asked = {"store", "encrypted_reasoning", "stream_options"}
    assert len(ignored(translation)) >= len([feature for feature in sent if not sent[feature] and feature not in asked])


def test_an_unknown_server_is_asked_to_store_nothing_and_for_no_encrypted_reasoning() -> None:
    body, translation = translated("generic", system("Be brief."), user("Hi"), stream=True)
    assert body == {
        "model": "m",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
        "stream": True,
    }
    assert translation.warnings == ()


def test_later_system_messages_have_the_role_that_the_server_knows() -> None:
    conversation = (user("Hi"), assistant("Hello"), system("Be brief."), user("Go on"))
    roles = [translated(profile, *conversation)[0]["input"][2]["role"] for profile in ("generic", "vllm")]
    assert roles == ["system", "developer"]


def test_a_table_in_the_configuration_adds_features() -> None:
    table = {"base": "generic", "responses": ["tools", "store", "encrypted_reasoning"]}
    body, _ = translated(table, response_format=SCHEMA)
    assert body["include"] == ["reasoning.encrypted_content"]
    assert "text" not in body
    with pytest.raises(Exception, match="unknown features telepathy"):
        translated({"base": "generic", "responses": ["telepathy"]})


def test_a_server_without_schemas_is_asked_for_json_in_the_instructions() -> None:
    body, translation = translated("llama.cpp", response_format=SCHEMA)
    assert "text" not in body
    assert "JSON" in body["instructions"]
    assert [warning.kind for warning in translation.warnings] == ["emulated"]
    enforced, _ = translated("vllm", response_format=SCHEMA)
    assert enforced["text"]["format"]["schema"]["additionalProperties"] is False


def test_forbidden_tool_calls_are_left_out_where_the_server_cannot_forbid_them() -> None:
    body, translation = translated("ollama", tools=[WEATHER], tool_choice=ToolChoice(mode="none"))
    assert "tools" not in body
    assert [(warning.kind, warning.subject) for warning in translation.warnings] == [("emulated", "tool_choice")]


def test_strict_tools_are_sent_as_such_only_where_they_are_enforced() -> None:
    strict = Tool(name="weather", parameters=WEATHER.parameters, strict=True)
    body, translation = translated("generic", tools=[strict])
    assert body["tools"][0]["strict"] is False
    assert ignored(translation) == ["strict tools"]
    enforced, _ = translated("vllm", tools=[strict])
    assert enforced["tools"][0]["strict"] is True


@pytest.mark.parametrize(
    ("profile", "part", "sent"),
    [
        ("generic", Image(url="https://x/a.png"), "input_image"),
        ("ollama", Image(url="https://x/a.png"), None),
        ("ollama", Image(data=PIXEL, media_type="image/png"), "input_image"),
        ("deepseek", Image(data=PIXEL, media_type="image/png"), None),
        ("generic", Image(file_id="file-1"), None),
        ("openrouter", Document(url="https://x/a.pdf"), "input_file"),
        ("generic", Document(url="https://x/a.pdf"), None),
        ("generic", Document(data=b"%PDF", media_type="application/pdf"), None),
        ("generic", Document(data=b"plain", media_type="text/plain", name="a.txt"), "input_text"),
        ("openrouter", Document(data=b"%PDF", media_type="application/pdf"), "input_file"),
    ],
)
def test_media_that_the_server_does_not_accept_are_left_out_with_a_warning(
    profile: str, part: Any, sent: str | None
) -> None:
    body, translation = translated(profile, user("Look", part))
    content = body["input"][0]["content"]
    kinds = [item["type"] for item in content] if isinstance(content, list) else []
    assert (sent in kinds) if sent else (kinds in ([], ["input_text"]))
    assert bool([warning for warning in translation.warnings if warning.lossy]) == (sent is None)
    if sent == "input_text":
        assert content[1]["text"] == "a.txt\n\nplain"


def test_an_unknown_model_gets_only_its_own_reasoning_back() -> None:
    def thought(family: str) -> Message:
        metadata: Any = {"openai-compatible": {"id": "rs_1", "content": [{"type": "reasoning_text", "text": "Hm"}]}}
        own = Reasoning(text="Hm", provider="openai-compatible", family=family, provider_metadata=metadata)
        return assistant(own, Text(text="Hello"))

    for family, kinds in (("zeta9", ["reasoning", "message"]), ("other", ["message"])):
        body, translation = translated("generic", user("Hi"), thought(family), user("Go on"), model="vendor/Zeta9")
        assert [item.get("type") for item in body["input"][1:-1]] == kinds
        assert translation.family == "zeta9"


def test_any_output_limit_is_sent_to_models_that_are_not_openais() -> None:
    assert translated("generic", max_output_tokens=1)[0]["max_output_tokens"] == 1
    assert translated("openrouter", model="openai/gpt-5", max_output_tokens=1)[0]["max_output_tokens"] == 16


def test_the_users_id_has_the_servers_name() -> None:
    request = ChatRequest(messages="Hi", model="m", user_id="me")
    opened = steps("generic", api_key=Secret("k"), send_user_id=True)
    body = json.loads(opened.translator.translate(request, stream=False).wire_request.body)
    assert body["user"]
    assert "safety_identifier" not in body


def test_counting_tokens_needs_a_server_that_counts() -> None:
    assert steps("generic").operations.count_tokens is None
    assert steps("openai").operations.count_tokens is not None
    assert steps("generic").operations.embed is not None
