import json
from typing import Any

import pytest
from strict_types import strict_adapter
from trunkline import messages as m
from trunkline.authoring.json import JSONObject
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.request import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolChoice
from trunkline.secrets import Secret
from trunkline.settings import Settings
from trunkline_openai.profile import PROFILES, Profile, profile_from
from trunkline_openai.settings import OpenAICompatibleSettings, OpenAISettings
from trunkline_openai.translate import ChatTranslator, CompatibleTranslator
from trunkline_openai.urls import default_url

PNG = b"\x89PNG\r\n\x1a\n"
WAV = b"RIFF\x00\x00\x00\x00WAVE"
WEATHER = Tool(name="weather", description="d", parameters={"type": "object", "properties": {}}, strict=True)
CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})


def translate(
    request: ChatRequest | str,
    *,
    profile: Profile | str = "openai",
    provider: str = "openai",
    settings: Settings | None = None,
    stream: bool = False,
    **fields: Any,
) -> Translation:
    if isinstance(request, str):
        request = ChatRequest(**{"messages": request, "model": "gpt-4.1", **fields})
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    context = ServiceContext(
        name="s", provider=provider, settings=settings or OpenAISettings(api_key=Secret("sk-secret"))
    )
    return ChatTranslator(context, profile=chosen, url=default_url).translate(request, stream=stream)


def body_of(translation: Translation) -> dict[str, Any]:
    found = json.loads(translation.wire_request.body)
    assert isinstance(found, dict)
    return found


def kinds(translation: Translation) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translation.warnings]


def conversation(*turns: Message, **options: Any) -> tuple[list[Any], Translation]:
    model = options.pop("model", "gpt-4.1")
    translation = translate(ChatRequest(messages=turns, model=model), **options)
    return body_of(translation)["messages"], translation


CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}

FULL = {
    "bare": ChatRequest(messages="hi", model="gpt-4.1"),
    "everything": ChatRequest(
        model="gpt-4.1",
        messages=[
            system("Be brief."),
            Message(role="user", parts=["Look", Image(data=PNG, detail="low"), Image(url="https://x/y.png")], name="ann"),  # noqa: E501
            Message(role="user", parts=[Audio(data=WAV), Document(data=b"%PDF-1", name="a.pdf"), Document(file_id="f")]),  # noqa: E501
            assistant("Well", Text(text="no", refusal=True)),
            assistant(CALL, Citation(url="u")),
            tool_result(CALL, [Text(text="sun"), Image(data=PNG)], is_error=True),
            Message(role="assistant", parts=Audio(data=b"", transcript="t", provider_metadata={"openai": {"id": "a"}})),
            user("And?"),
        ],
        tools=[WEATHER, Tool(name="sql", provider_options={"openai": {"type": "custom", "custom": {"name": "sql"}}})],
        tool_choice="weather",
        parallel_tool_calls=False,
        response_format=ResponseFormat(schema=CLOSED, name="out", description="d"),
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=["a", "b"],
        seed=1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        top_logprobs=3,
        metadata={"k": "v"},
        user_id="u",
        provider_options={"openai": {"service_tier": "flex", "prompt_cache_key": "k"}, "anthropic": {"x": 1}},
    ),
    "reasoning": ChatRequest(
        messages=[system("s"), user("u")],
        model="gpt-5",
        reasoning=ReasoningOptions(effort="low"),
        response_format=ResponseFormat(type="json"),
        tools=[WEATHER],
        tool_choice="required",
    ),
    "custom call": ChatRequest(
        model="gpt-4.1",
        messages=[
            user("q"),
            assistant(ToolCall(id="c", name="sql", arguments={"input": "S"}, provider_metadata={"openai": {"type": "custom"}})),  # noqa: E501
            tool_result("c", "r"),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FULL)
@pytest.mark.parametrize("stream", [False, True])
def test_bodies_are_what_the_official_client_types_accept(case: str, stream: bool) -> None:
    from openai.types.chat import completion_create_params as params

    kind = params.CompletionCreateParamsStreaming if stream else params.CompletionCreateParamsNonStreaming
    settings = OpenAISettings(api_key=Secret("sk-secret"), send_user_id=True)
    body = body_of(translate(FULL[case], settings=settings, stream=stream))
    strict_adapter(kind).validate_python(body)


def test_the_whole_request_is_on_the_wire() -> None:
    translation = translate(FULL["everything"], settings=OpenAISettings(api_key=Secret("sk-secret"), send_user_id=True))
    body = body_of(translation)
    del body["messages"], body["tools"]
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
        "stop": ["a", "b"],
        "seed": 1,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "logprobs": True,
        "top_logprobs": 3,
        "metadata": {"k": "v"},
        "safety_identifier": "u",
        "service_tier": "flex",
        "prompt_cache_key": "k",
    }
    assert kinds(translation) == [("mended", "tool result"), ("changed", "tool result")]


def test_a_bare_request_sends_no_extras() -> None:
    for profile in ("openai", "generic"):
        assert body_of(translate("hi", profile=profile)) == {
            "model": "gpt-4.1",
            "messages": [{"role": "user", "content": "hi"}],
        }


def test_a_stream_asks_for_usage_where_it_may() -> None:
    assert body_of(translate("hi", stream=True))["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }
    assert body_of(translate("hi", profile="vllm", stream=True))["stream_options"] == {"include_usage": True}
    assert body_of(translate("hi", profile="generic", stream=True))["stream_options"] == {"include_usage": True}
    refusing = profile_from({"base": "generic", "stream_options": False})
    assert "stream_options" not in body_of(translate("hi", profile=refusing, stream=True))


def test_headers_and_url() -> None:
    settings = OpenAISettings(
        api_key=Secret("sk-secret"),
        organization_id="org",
        project_id="proj",
        api_url="https://gate.example/v1?tenant=a",
        headers={"X-Team": "t", "OpenAI-Project": "mine"},
    )
    request = translate("hi", settings=settings, stream=True).wire_request
    assert request.method == "POST"
    assert request.url == "https://gate.example/v1/chat/completions?tenant=a"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "openai-organization": "org",
        "openai-project": "mine",
        "x-team": "t",
    }
    assert translate("hi").wire_request.headers["accept"] == "application/json"


def test_each_part_of_a_users_message_has_its_form() -> None:
    wire, translation = conversation(
        user(
            "a",
            Image(data=PNG, detail="low"),
            Image(url="https://x/y.png"),
            Audio(data=WAV),
            Document(data=b"%PDF-1"),
            Document(file_id="f"),
        )
    )
    assert wire[0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF", "format": "wav"}},
        {
            "type": "file",
            "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"},
        },
        {"type": "file", "file": {"file_id": "f"}},
    ]
    assert translation.warnings == ()


NOT_SENT = [
    (Image(file_id="f"), "openai", ("left_out", "image")),
    (Image(url="https://x/y"), "ollama", ("left_out", "image")),
    (Image(data=PNG), "deepseek", ("left_out", "image")),
    (Image(data=b"??"), "openai", ("changed", "image")),
    (Audio(data=WAV), "generic", ("left_out", "audio")),
    (Audio(url="https://x/y"), "openai", ("left_out", "audio")),
    (Audio(data=b"OggS"), "openai", ("left_out", "audio")),
    (Document(url="https://x/y"), "openai", ("left_out", "document")),
    (Document(data=b"%PDF-1"), "generic", ("left_out", "document")),
    (Document(data=b"words", media_type="text/plain", name="n"), "generic", ("emulated", "document")),
    (Reasoning(text="r", provider="openai"), "openai", ("left_out", "reasoning")),
    (Opaque(provider="other", kind="k", data={}), "openai", ("left_out", "opaque part")),
]


@pytest.mark.parametrize(("part", "profile", "expected"), NOT_SENT)
def test_what_is_not_sent_as_it_is_warns(part: m.Part, profile: str, expected: tuple[str, str]) -> None:
    _, translation = conversation(user("a", part), profile=profile)
    assert kinds(translation) == [expected]


def test_an_assistants_turn_is_replayed() -> None:
    wire, _ = conversation(
        user("q"),
        assistant("Let me see", CALL),
        tool_result(CALL, {"sun": True}),
        assistant("Sunny", Citation(url="u")),
    )
    assert wire[1:] == [
        {
            "role": "assistant",
            "content": "Let me see",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sun":true}'},
        {"role": "assistant", "content": "Sunny"},
    ]


def test_a_turn_of_calls_alone_has_null_content() -> None:
    wire, _ = conversation(user("q"), assistant(CALL), tool_result(CALL, "r"))
    assert wire[1]["content"] is None


def test_results_stand_beside_their_calls_and_media_follow() -> None:
    first, second = ToolCall(id="a", name="weather"), ToolCall(id="b", name="weather")
    wire, translation = conversation(
        user("q"),
        assistant(first, second),
        tool_result(second, Image(data=PNG)),
        user("meanwhile"),
        tool_result(first, "one", is_error=True),
    )
    assert [item["role"] for item in wire] == ["user", "assistant", "tool", "tool", "user"]
    assert wire[2] == {"role": "tool", "tool_call_id": "a", "content": "Error: one"}
    assert (wire[3]["tool_call_id"], wire[3]["content"]) == ("b", "The result follows in the next message.")
    assert wire[4]["content"][0]["type"] == "image_url"
    assert wire[4]["content"][1] == {"type": "text", "text": "meanwhile"}
    assert set(kinds(translation)) == {("mended", "tool result"), ("changed", "tool result")}
    assert not any(warning.lossy for warning in translation.warnings)


def test_repeated_ids_belong_to_the_nearest_call() -> None:
    one = ToolCall(id="call_0", name="weather", arguments={"n": 1})
    two = ToolCall(id="call_0", name="weather", arguments={"n": 2})
    wire, _ = conversation(user("q"), assistant(one), tool_result(one, "1"), assistant(two), tool_result(two, "2"))
    assert [item.get("content") for item in wire] == ["q", None, "1", None, "2"]
    ids = [wire[place]["tool_calls"][0]["id"] for place in (1, 3)]
    assert [wire[place]["tool_call_id"] for place in (2, 4)] == ids
    assert ids[0] != ids[1]


def test_a_result_without_a_call_is_left_out_and_a_call_without_a_result_gets_a_placeholder() -> None:
    wire, translation = conversation(user("q"), tool_result("lost", "r"))
    assert len(wire) == 1
    assert kinds(translation) == [("mended", "tool result")]
    wire, translation = conversation(user("q"), assistant(CALL), user("never mind"))
    assert wire[2] == {"role": "tool", "tool_call_id": "call_1", "content": "Error: No result of this call is known."}
    assert not any(warning.lossy for warning in translation.warnings)


def test_arguments_that_are_not_json_are_sent_as_an_object() -> None:
    call = ToolCall(id="c", name="f", invalid_arguments='{"x": "unterm')
    wire, translation = conversation(user("q"), assistant(call), tool_result(call, "no JSON", is_error=True))
    assert json.loads(wire[1]["tool_calls"][0]["function"]["arguments"]) == {"invalid_arguments": '{"x": "unterm'}
    assert ("mended", "tool call") in kinds(translation)


def test_unknown_fields_of_a_call_are_sent_back_to_their_provider_and_model_family() -> None:
    extra = {"extra_content": {"google": {"thought_signature": "s"}}, "function": {"thought": True}}
    call = ToolCall(id="c", name="f", family="gpt", provider_metadata={"openai": extra, "other": {"x": 1}})
    wire, _ = conversation(user("q"), assistant(call), tool_result(call, "r"))
    sent = wire[1]["tool_calls"][0]
    assert sent["extra_content"] == extra["extra_content"]
    assert sent["function"] == {"name": "f", "arguments": "{}", "thought": True}
    assert "x" not in sent
    foreign = ToolCall(id="c", name="f", family="gemini-3", provider_metadata={"openai": extra})
    wire, translation = conversation(user("q"), assistant(foreign), tool_result(foreign, "r"))
    assert "extra_content" not in wire[1]["tool_calls"][0]
    assert kinds(translation) == [("mended", "tool call")]
    answer = Text(text="a", provider_metadata={"openai": {"extra_content": {"google": {"thought_signature": "t"}}}})
    wire, _ = conversation(user("q"), assistant(answer), user("r"))
    assert wire[1]["extra_content"] == {"google": {"thought_signature": "t"}}


def test_missing_reasoning_is_blank_if_the_model_requires_it_with_calls() -> None:
    profile = Profile(name="p", reasoning_replay="reasoning_content", reasoning_filler=" ")
    turns = (user("q"), assistant(CALL), tool_result(CALL, "r"), assistant("a"), user("q"))
    wire, translation = conversation(*turns, profile=profile)
    assert wire[1]["reasoning_content"] == " "
    assert "reasoning_content" not in wire[3]
    assert kinds(translation) == [("mended", "reasoning")]
    own = assistant(Reasoning(text="hm", provider="openai"), CALL)
    wire, translation = conversation(user("q"), own, *turns[2:], profile=profile)
    assert (wire[1]["reasoning_content"], translation.warnings) == ("hm", ())


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning_details"])
def test_a_call_that_gemini_did_not_make_gets_a_placeholder_signature(field: str) -> None:
    profile = Profile(name="p", reasoning_replay=field, signed_calls=True)
    second = ToolCall(id="b", name="weather")
    wire, translation = conversation(user("q"), assistant(CALL, second), tool_result(CALL, "r"), profile=profile)
    skip = "skip_thought_signature_validator"
    if field == "reasoning_details":
        assert [(item["type"], item["data"]) for item in wire[1][field]] == [("reasoning.encrypted", skip)]
    else:
        assert wire[1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": skip}}
        assert "extra_content" not in wire[1]["tool_calls"][1]
    assert ("mended", "tool call") in kinds(translation)


def test_messages_are_in_an_order_that_the_server_accepts() -> None:
    profile = Profile(name="p", system_messages="first", alternates=True)
    wire, _ = conversation(
        assistant("hello"),
        user("a"),
        user("b"),
        assistant(CALL),
        tool_result(CALL, "r"),
        system("Be brief."),
        user("c"),
        profile=profile,
    )
    roles = ["system", "user", "assistant", "user", "assistant", "tool", "assistant", "user"]
    assert [item["role"] for item in wire] == roles
    assert (
        conversation(user("q"), assistant(CALL), profile=Profile(name="p", null_content=False))[0][1]["content"] == ""
    )


def test_a_conversation_without_content_that_can_be_sent_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no part of the conversation can be sent"):
        conversation(assistant(Reasoning(text="hm", provider="other")))


@pytest.mark.parametrize("call_id", ["x" * 41, "", "with space", "é"])
def test_ids_that_the_wire_refuses_are_replaced_on_both_sides(call_id: str) -> None:
    call = ToolCall(id=call_id, name="weather")
    wire, _ = conversation(user("q"), assistant(call), tool_result(call, "r"))
    sent = wire[1]["tool_calls"][0]["id"]
    assert 1 <= len(sent) <= 40
    assert sent.replace("_", "").isalnum()
    assert wire[2]["tool_call_id"] == sent


def test_a_profile_may_ask_for_short_ids() -> None:
    profile = Profile(name="p", call_id_pattern="[A-Za-z0-9]{9}", call_id_length=9)
    wire, _ = conversation(user("q"), assistant(CALL), tool_result(CALL, "r"), profile=profile)
    assert len(wire[1]["tool_calls"][0]["id"]) == 9
    assert wire[2]["tool_call_id"] == wire[1]["tool_calls"][0]["id"]


def test_reasoning_goes_back_to_its_maker_in_the_profiles_field() -> None:
    mine, other = Reasoning(text="hm", provider="acme"), Reasoning(text="x", provider="other")
    wire, translation = conversation(
        user("q"), assistant(mine, "a", other), user("q"), profile="deepseek", provider="acme"
    )
    assert wire[1] == {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    assert kinds(translation) == [("mended", "reasoning")]


def test_reasoning_details_go_back_unchanged() -> None:
    details: Any = [{"type": "reasoning.encrypted", "data": "e", "index": 0}]
    part = Reasoning(provider="acme", encrypted="e", provider_metadata={"acme": {"reasoning_details": details}})
    wire, translation = conversation(user("q"), assistant(part, "a"), profile="openrouter", provider="acme")
    assert wire[1]["reasoning_details"] == details
    assert translation.warnings == ()


def test_opaque_annotations_go_back_with_their_message() -> None:
    data: Any = {"type": "file", "file": {"hash": "h"}}
    wire, _ = conversation(user("q"), assistant("a", Opaque(provider="openai", kind="annotation.file", data=data)))
    assert wire[1] == {"role": "assistant", "content": "a", "annotations": [data]}


@pytest.mark.parametrize(
    ("model", "role"),
    [
        ("gpt-4.1", "system"),
        ("o3-mini", "developer"),
        ("gpt-5", "developer"),
        ("gpt-5-chat-latest", "system"),
        ("openai/gpt-5.4", "developer"),
        ("gpt-6-sol", "developer"),
    ],
)
def test_openais_reasoning_models_get_a_developer_message(model: str, role: str) -> None:
    wire, _ = conversation(system("s"), user("u"), model=model)
    assert wire[0] == {"role": role, "content": "s"}
    generic, _ = conversation(system("s"), user("u"), model=model, profile="generic")
    assert generic[0]["role"] == "system"


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-4.1", None, True),
        ("gpt-5", None, False),
        ("gpt-5-mini", "low", False),
        ("o4-mini", None, False),
        ("gpt-5.4", None, True),
        ("gpt-5.4", "none", True),
        ("gpt-5.4", "low", False),
        ("gpt-5.6-sol", None, False),
        ("gpt-5.6-sol", "none", True),
        ("gpt-5.5-pro", None, False),
    ],
)
def test_sampling_options_are_left_out_while_a_model_reasons(model: str, effort: Any, sent: bool) -> None:
    reasoning = ReasoningOptions(effort=effort) if effort else None
    translation = translate("hi", model=model, temperature=0.1, stop="x", reasoning=reasoning)
    body = body_of(translation)
    assert ("temperature" in body) == ("stop" in body) == sent
    assert kinds(translation) == ([] if sent else [("unsupported", "temperature"), ("unsupported", "stop")])


def test_the_schema_of_a_strict_tool_is_closed() -> None:
    parameters: JSONObject = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}},
        "required": ["city"],
    }
    translation = translate("hi", tools=[Tool(name="weather", parameters=parameters, strict=True)])
    [sent] = body_of(translation)["tools"]
    assert sent["function"]["strict"] is True
    assert sent["function"]["parameters"] == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    assert kinds(translation) == [("changed", "tool weather")]


def test_a_tool_that_cannot_be_strict_is_sent_as_one_that_is_not() -> None:
    parameters: JSONObject = {
        "type": "object",
        "properties": {"ages": {"type": "object", "additionalProperties": {"type": "integer"}}},
    }
    translation = translate("hi", tools=[Tool(name="weather", parameters=parameters, strict=True)])
    [sent] = body_of(translation)["tools"]
    assert sent["function"] == {"name": "weather", "parameters": parameters, "strict": False}
    [warning] = translation.warnings
    assert (warning.kind, warning.subject, warning.lossy) == ("changed", "tool weather", True)


def test_a_generic_server_gets_what_almost_every_server_takes() -> None:
    translation = translate(
        "hi",
        profile="generic",
        tools=[WEATHER],
        parallel_tool_calls=True,
        reasoning=ReasoningOptions(effort="low", max_tokens=5, summary="auto"),
        max_output_tokens=5,
        top_k=4,
        top_logprobs=1,
        metadata={"a": "b"},
    )
    body = body_of(translation)
    assert set(body) == {"model", "messages", "tools", "max_tokens"}
    assert "strict" not in body["tools"][0]["function"]
    assert kinds(translation) == [
        ("unsupported", "strict tools"),
        ("unsupported", "parallel_tool_calls"),
        ("unsupported", "reasoning.effort"),
        ("unsupported", "reasoning.max_tokens"),
        ("unsupported", "reasoning.summary"),
        ("unsupported", "logprobs"),
        ("unsupported", "top_logprobs"),
        ("unsupported", "top_k"),
        ("unsupported", "metadata"),
    ]


@pytest.mark.parametrize(
    ("choice", "profile", "sent", "tools", "warned"),
    [
        ("auto", "openai", "auto", True, None),
        ("none", "openai", "none", True, None),
        ("required", "openai", "required", True, None),
        ("weather", "openai", {"type": "function", "function": {"name": "weather"}}, True, None),
        ("none", "ollama", None, False, ("emulated", "tool_choice")),
        ("required", "ollama", None, True, ("unsupported", "tool_choice")),
        ("weather", "lm-studio", None, True, ("unsupported", "tool_choice")),
        ("weather", "perplexity", None, False, ("unsupported", "tools")),
    ],
)
def test_tool_choices(choice: str, profile: str, sent: Any, tools: bool, warned: tuple[str, str] | None) -> None:
    translation = translate("hi", profile=profile, tools=[Tool(name="weather")], tool_choice=choice)
    body = body_of(translation)
    assert body.get("tool_choice") == sent
    assert ("tools" in body) == tools
    assert kinds(translation) == ([warned] if warned else [])


def test_without_tools_there_is_no_tool_choice() -> None:
    assert "tool_choice" not in body_of(translate("hi", tool_choice=ToolChoice(mode="none"), parallel_tool_calls=False))


def test_a_server_without_schemas_is_asked_for_any_json_and_told_the_schema() -> None:
    form = ResponseFormat(schema={"type": "object"})
    translation = translate("hi", profile="deepseek", response_format=form)
    assert body_of(translation)["response_format"] == {"type": "json_object"}
    assert kinds(translation) == [("emulated", "response_format")]
    assert '{"type":"object"}' in body_of(translation)["messages"][0]["content"]
    assert "response_format" not in body_of(translate("hi", response_format=ResponseFormat(type="text")))


def test_only_four_stop_sequences_are_taken() -> None:
    translation = translate("hi", stop=list("abcde"))
    assert body_of(translation)["stop"] == list("abcd")
    assert kinds(translation) == [("unsupported", "stop")]
    assert body_of(translate("hi", profile="vllm", stop=list("abcde")))["stop"] == list("abcde")


def test_the_user_id_is_sent_as_the_setting_says() -> None:
    def sent(profile: str, **fields: Any) -> dict[str, Any]:
        settings = OpenAICompatibleSettings(api_url="https://x/v1", **fields)
        body = body_of(translate("hi", profile=profile, settings=settings, user_id="ann"))
        return {key: value for key, value in body.items() if key not in ("model", "messages")}

    assert sent("openai") == {}
    assert sent("openai", send_user_id=True) == {"safety_identifier": "ann"}
    assert sent("generic", send_user_id="true") == {"user": "ann"}
    hashed = sent("generic", send_user_id="hashed", api_key="sk-1")["user"]
    assert len(hashed) == 64
    assert hashed == sent("generic", send_user_id="hashed", api_key="sk-1")["user"]
    assert hashed != sent("generic", send_user_id="hashed", api_key="sk-2")["user"]
    assert hashed != sent("generic", send_user_id="hashed")["user"]
    settings = OpenAICompatibleSettings(api_url="https://x/v1", send_user_id=True)
    assert kinds(translate("hi", profile="llama.cpp", settings=settings, user_id="ann")) == [("unsupported", "user_id")]


def test_provider_options_are_passed_on_where_they_stand() -> None:
    mark = {"openai": {"cache": 1}, "other": {"never": 1}}
    request = ChatRequest(
        model="m",
        messages=[Message(role="user", parts=[Text(text="a", provider_options=mark)], provider_options=mark)],
        tools=[
            Tool(name="f", provider_options=mark),
            Tool(name="search", provider_options={"openai": {"type": "web_search", "depth": 2}}),
        ],
        provider_options={"openai": {"n": 2, "model": "override"}},
    )
    body = body_of(translate(request))
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a", "cache": 1}], "cache": 1}]
    assert body["tools"][0]["cache"] == 1
    assert body["tools"][1] == {"type": "web_search", "depth": 2}
    assert (body["n"], body["model"]) == (2, "override")


@pytest.mark.parametrize(
    "turns",
    [
        [user(CALL)],
        [system(CALL)],
        [Message(role="tool", parts=["text"])],
        [Message(role="tool", parts=[ToolResult(tool_call_id="x"), "text"])],
    ],
)
def test_a_conversation_that_no_wire_could_carry_is_refused(turns: list[Message]) -> None:
    with pytest.raises(InvalidRequest):
        conversation(*turns)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x"])
def test_a_value_that_json_cannot_say_is_refused(value: Any) -> None:
    options: dict[str, Any] = {}
    request = ChatRequest(messages="hi", model="gpt-4o", provider_options={"openai": options})
    options["x"] = value  # a request refuses it when it is made
    with pytest.raises(InvalidRequest, match="JSON"):
        translate(request)


def test_names_of_participants_are_sent_where_they_are_taken() -> None:
    named = Message(role="user", parts="hi", name="ann")
    wire, _ = conversation(named)
    assert wire[0]["name"] == "ann"
    wire, translation = conversation(named, profile=Profile(name="p", takes=()))
    assert "name" not in wire[0]
    assert kinds(translation) == [("left_out", "message name")]


@pytest.mark.parametrize(
    ("model", "wanted", "sent", "lossy"),
    [
        ("gpt-5", "none", "minimal", True),
        ("gpt-5", "xhigh", "high", True),
        ("gpt-5.1", "minimal", "low", False),
        ("gpt-5.4-mini", "max", "xhigh", False),
        ("o4-mini", "minimal", "low", False),
        ("gpt-5-pro", "low", "high", True),
        ("gpt-6-astra", "none", "low", True),
        ("gpt-4o", "low", None, True),
        ("o1-mini", "low", None, True),
    ],
)
def test_an_effort_that_the_model_refuses_is_replaced_by_the_nearest(
    model: str, wanted: Any, sent: str | None, lossy: bool
) -> None:
    translation = translate("hi", model=model, reasoning=ReasoningOptions(effort=wanted))
    assert body_of(translation).get("reasoning_effort") == sent
    (warning,) = translation.warnings
    assert (warning.subject, warning.lossy) == ("reasoning.effort", lossy)


def test_effort_none_is_not_sent_to_a_model_that_never_reasons() -> None:
    translation = translate("hi", model="gpt-4o", reasoning=ReasoningOptions(effort="none"))
    assert "reasoning_effort" not in body_of(translation)
    assert translation.warnings == ()


@pytest.mark.parametrize(
    ("model", "effort", "sent", "lossy"),
    [("gpt-5.6-sol", None, "none", False), ("gpt-5.6-sol", "high", "none", True), ("gpt-6-astra", None, None, None)],
)
def test_a_model_that_refuses_tools_while_it_reasons_gets_them_without_reasoning(
    model: str, effort: Any, sent: str | None, lossy: bool | None
) -> None:
    reasoning = ReasoningOptions(effort=effort) if effort else None
    tool = Tool(name="weather")
    translation = translate("hi", model=model, tools=[tool], reasoning=reasoning)
    assert body_of(translation).get("reasoning_effort") == sent
    assert [warning.lossy for warning in translation.warnings] == ([] if lossy is None else [lossy])


def test_a_parameter_that_the_model_refuses_is_left_out() -> None:
    translation = translate("hi", model="o3", tools=[Tool(name="f")], parallel_tool_calls=False)
    assert "parallel_tool_calls" not in body_of(translation)
    assert kinds(translation) == [("unsupported", "parallel_tool_calls")]


def compatible(profile: str, model: str, *turns: Message, **fields: Any) -> tuple[dict[str, Any], Translation]:
    settings = OpenAICompatibleSettings(api_url="http://x/v1", model_facts=fields.pop("model_facts", {}))
    context = ServiceContext(name="s", provider="openai-compatible", settings=settings)
    translator = CompatibleTranslator(context, profile=PROFILES[profile], url=default_url)
    translation = translator.translate(ChatRequest(messages=turns or "hi", model=model, **fields), stream=False)
    return body_of(translation), translation


def effort(level: Any) -> dict[str, Any]:
    return {"reasoning": ReasoningOptions(effort=level)}


REFUSED: list[tuple[str, str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("xai", "grok-4-0709", {"stop": ["x"], "temperature": 0.1}, {"temperature": 0.1}, ["stop"]),
    ("xai", "grok-4-0709", {"presence_penalty": 0.1}, {}, ["presence_penalty"]),
    ("xai", "grok-4-0709", effort("high"), {}, ["reasoning.effort"]),
    ("xai", "grok-3-mini", effort("high"), {"reasoning_effort": "high"}, []),
    ("xai", "grok-4.5", effort("none"), {"reasoning_effort": "low"}, ["reasoning.effort"]),
    ("xai", "grok-4.20-non-reasoning", {"stop": ["x"]}, {"stop": ["x"]}, []),
    ("generic", "grok-4", {"stop": ["x"]}, {}, ["stop"]),
    ("deepseek", "deepseek-v4-pro", {"temperature": 0.1}, {}, ["temperature"]),
    ("deepseek", "deepseek-chat", {"temperature": 0.1}, {"temperature": 0.1}, []),
    (
        "deepseek",
        "deepseek-v4-pro",
        {"temperature": 0.1, **effort("none")},
        {"temperature": 0.1, "thinking": {"type": "disabled"}},
        [],
    ),
    (
        "deepseek",
        "deepseek-v4-pro",
        {"tools": [WEATHER], "tool_choice": "required"},
        {},
        ["strict tools", "tool_choice"],
    ),
    ("moonshot", "kimi-k2.6", {"temperature": 0.1, "top_p": 0.5}, {}, ["temperature", "top_p"]),
    ("moonshot", "kimi-k3", effort("medium"), {"reasoning_effort": "low"}, ["reasoning.effort"]),
    ("qwen", "qwen-plus", effort("high"), {"reasoning_effort": "high", "enable_thinking": True}, []),
    ("qwen", "qwen3.5-plus", effort("none"), {"enable_thinking": False}, []),
    ("zai", "glm-4.7", effort("none"), {"thinking": {"type": "disabled"}}, []),
    ("groq", "qwen/qwen3-32b", effort("none"), {"reasoning_effort": "none"}, []),
    ("groq", "openai/gpt-oss-20b", effort("max"), {"reasoning_effort": "high"}, ["reasoning.effort"]),
    ("groq", "llama-3.3-70b-versatile", effort("low"), {}, ["reasoning.effort"]),
    ("gemini", "gemini-3-flash-preview", effort("none"), {"reasoning_effort": "minimal"}, ["reasoning.effort"]),
    ("cerebras", "gpt-oss-120b", {"temperature": 0.1}, {"temperature": 0.1}, []),
    ("generic", "openai/gpt-5-mini", {"max_output_tokens": 9}, {"max_completion_tokens": 9}, []),
    ("generic", "o3", {"temperature": 0.1, "stop": ["x"]}, {}, ["temperature", "stop"]),
    ("generic", "gpt-4o", {"max_output_tokens": 9, "temperature": 0.1}, {"max_tokens": 9, "temperature": 0.1}, []),
    ("openai", "gpt-4o-search-preview", {"temperature": 0.1, "seed": 1}, {}, ["temperature", "seed"]),
    ("openai", "gpt-5-search-api", {"top_p": 0.1, **effort("low")}, {}, ["top_p", "reasoning.effort"]),
    ("openai", "o4-mini-deep-research", effort("high"), {"reasoning_effort": "medium"}, ["reasoning.effort"]),
    ("fireworks", "accounts/fireworks/models/kimi-k2p6", {"temperature": 0.1}, {}, ["temperature"]),
]


@pytest.mark.parametrize(("profile", "model", "fields", "sent", "warned"), REFUSED)
def test_options_that_a_model_refuses_are_left_out_or_changed_with_a_warning(
    profile: str, model: str, fields: dict[str, Any], sent: dict[str, Any], warned: list[str]
) -> None:
    body, translation = compatible(profile, model, **fields)
    assert {key: value for key, value in body.items() if key not in ("model", "messages", "tools")} == sent
    assert sorted(warning.subject for warning in translation.warnings) == sorted(warned)


def test_the_setting_model_facts_overrides_the_table() -> None:
    facts: Any = {"grok-4*": {"refuses": frozenset(), "efforts": ("low",)}}
    body, translation = compatible(
        "xai", "grok-4-0709", stop=["x"], reasoning=ReasoningOptions(effort="low"), model_facts=facts
    )
    assert (body["stop"], body["reasoning_effort"], translation.warnings) == (["x"], "low", ())
    settings = OpenAICompatibleSettings(
        api_url="http://x", model_facts={"mine*": {"alternates": True, "refuses": ["stop"]}}
    )
    assert settings.model_facts["mine*"] == {"alternates": True, "refuses": frozenset({"stop"})}


def test_configured_efforts_are_sent_to_an_unknown_server() -> None:
    facts: Any = {"my-reasoner*": {"efforts": ("low", "high")}}
    effort = ReasoningOptions(effort="high")
    body, translation = compatible("generic", "my-reasoner-1", reasoning=effort, model_facts=facts)
    assert (body["reasoning_effort"], translation.warnings) == ("high", ())
    body, translation = compatible("generic", "another", reasoning=effort, model_facts=facts)
    assert "reasoning_effort" not in body
    facts["my-reasoner*"]["refuses"] = frozenset({"reasoning_effort"})
    body, translation = compatible("generic", "my-reasoner-1", reasoning=effort, model_facts=facts)
    assert "reasoning_effort" not in body


def test_reasoning_is_sent_back_only_to_its_model_family() -> None:
    for made_by, asked, kept in (
        ("deepseek", "deepseek-v4-pro", True),
        ("kimi", "deepseek-v4-pro", False),
        (None, "deepseek-v4-pro", True),
    ):
        thought = Reasoning(text="hm", provider="openai-compatible", family=made_by)
        body, translation = compatible("deepseek", asked, user("q"), assistant(thought, CALL), tool_result(CALL, "r"))
        assert body["messages"][1]["reasoning_content"] == ("hm" if kept else " ")
        assert translation.family == "deepseek"
    assert compatible("vllm", "Mine/Model-7B")[1].family == "model-7b"


def test_the_history_needs_no_reasoning_if_reasoning_is_off() -> None:
    turns = (user("q"), assistant(CALL), tool_result(CALL, "r"))
    body, translation = compatible("deepseek", "deepseek-v4-pro", *turns, reasoning=ReasoningOptions(effort="none"))
    assert "reasoning_content" not in body["messages"][1]
    assert translation.warnings == ()


def test_the_schema_of_a_tool_has_an_object_at_its_root() -> None:
    body, translation = compatible("generic", "m", tools=[Tool(name="f", parameters={"properties": {"a": {}}})])
    assert body["tools"][0]["function"]["parameters"]["type"] == "object"
    assert [warning.lossy for warning in translation.warnings] == [False]


def test_items_of_the_responses_api_are_not_sent_to_chat_completions() -> None:
    kept: Any = {"openai": {"id": "fc_1", "status": "completed"}}
    call = ToolCall(id="call_1", name="f", family="gpt", provider_metadata=kept)
    search = Opaque(
        provider="openai", family="gpt", kind="web_search_call", data={"type": "web_search_call", "id": "ws"}
    )
    wire, translation = conversation(user("q"), assistant(search, "a", call), tool_result(call, "r"))
    assert wire[1] == {
        "role": "assistant",
        "content": "a",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert kinds(translation) == [("mended", "opaque part")]


@pytest.mark.parametrize(
    ("profile", "model"),
    [
        ("openrouter", "mistralai/devstral-medium"),
        ("vllm", "mistralai/Mistral-Small-3.2"),
        ("generic", "mistral-large"),
    ],
)
def test_tool_call_ids_have_nine_letters_and_digits_for_mistral_models_on_any_server(profile: str, model: str) -> None:
    body, translation = compatible(profile, model, user("q"), assistant(CALL), tool_result(CALL, "r"))
    sent = body["messages"][1]["tool_calls"][0]["id"]
    assert len(sent) == 9
    assert sent.isalnum()
    assert body["messages"][2]["tool_call_id"] == sent
    assert [warning.subject for warning in translation.warnings] == ["tool call id"]


def schema_for(profile: str, model: str, schema: Any) -> tuple[Any, int]:
    """Return the schema that is sent for a property, and the number of warnings."""
    tool = Tool(name="t", parameters={"type": "object", "properties": {"a": schema}})
    body, translation = compatible(profile, model, tools=[tool])
    return body["tools"][0]["function"]["parameters"]["properties"]["a"], len(translation.warnings)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (
            {
                "type": "object",
                "properties": {"b": {"type": "string"}},
                "anyOf": [{"required": ["b"]}, {"type": "null"}],
            },
            {
                "properties": {"b": {"type": "string"}},
                "anyOf": [{"type": "object", "required": ["b"]}, {"type": "null"}],
            },
        ),
        ({"enum": ["x", "y"]}, {"type": "string", "enum": ["x", "y"]}),
        (
            {"description": "d", "items": {"type": "string"}},
            {"type": "array", "description": "d", "items": {"type": "string"}},
        ),
        ({"type": "string", "enum": ["x"]}, {"type": "string", "enum": ["x"]}),
        ({"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}),
    ],
)
@pytest.mark.parametrize(("profile", "model"), [("moonshot", "kimi-k2.6"), ("generic", "moonshotai/kimi-k3")])
def test_schemas_are_converted_to_moonshots_subset(profile: str, model: str, given: Any, sent: Any) -> None:
    assert schema_for(profile, model, given) == (sent, int(given != sent))
    assert schema_for("openai", "gpt-4.1", given) == (given, 0)


def test_a_schema_without_a_type_allows_all_of_moonshots_types() -> None:
    sent, _ = schema_for("moonshot", "kimi-k2.6", {"description": "Anything."})
    assert [one["type"] for one in sent["anyOf"]] == ["string", "number", "boolean", "object"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"not": {}}, {"description": "(not: {})"}),
        ({"type": "string", "pattern": "[a-z]"}, {"type": "string", "description": '(pattern: "[a-z]")'}),
        ({"type": "string", "pattern": "^\\d+$"}, {"type": "string", "description": '(pattern: "^\\\\d+$")'}),
        ({"type": "string", "pattern": "^[a-z]+$"}, {"type": "string", "pattern": "^[a-z]+$"}),
    ],
)
def test_keywords_that_llama_cpp_does_not_support_move_into_the_description(given: Any, sent: Any) -> None:
    assert schema_for("llama.cpp", "any", given) == (sent, int(given != sent))
    assert schema_for("vllm", "any", given) == (given, 0)


def test_second_system_message_is_merged_for_a_server_that_accepts_one() -> None:
    found, translation = conversation(
        system("a"), system("b"), user("c"), profile="vllm", provider="openai-compatible", model="Qwen/Qwen3.5-9B"
    )
    assert [message["role"] for message in found] == ["system", "user"]
    assert [item["text"] for item in found[0]["content"]] == ["a", "b"]
    assert kinds(translation) == [("mended", "system message")]


@pytest.mark.parametrize("profile", ["xai", "moonshot", "mistral"])
def test_answer_of_citations_or_audio_without_a_transcript_is_not_sent(profile: str) -> None:
    spoken = Audio(data=WAV, provider_metadata={"gemini": {"id": "a"}})
    for part in (Citation(url="u"), spoken):
        found, _ = conversation(user("a"), assistant(part), user("b"), profile=profile, provider="openai-compatible")
        assert [message["role"] for message in found] == ["user", "user"]
