"""Requests as Converse's bodies: each is checked by botocore's validator, its serializer and a walk of its model."""

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import attrs
import pytest
from trunkline import (
    ChatRequest,
    ReasoningOptions,
    ResponseFormat,
    Tool,
    ToolChoice,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.errors import ConfigurationError, InvalidRequest
from trunkline.messages import Audio, Citation, Document, Image, Message, Opaque, Reasoning, Text, ToolCall
from trunkline_bedrock import BedrockSettings
from trunkline_bedrock.model_facts import ROWS, facts_of
from trunkline_bedrock.translate import ConverseTranslator

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CLAUDE_5 = "us.anthropic.claude-sonnet-5"
NOVA = "amazon.nova-lite-v1:0"
NOVA_2 = "us.amazon.nova-2-lite-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
MISTRAL = "mistral.mistral-large-3-675b-instruct"
WRITER = "us.writer.palmyra-x4-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
R1 = "us.deepseek.r1-v1:0"
KIMI = "moonshotai.kimi-k2.5"
PROFILE = "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/mi1dadi0g15f"
PNG = b"\x89PNG\r\n\x1a\n0"
PDF = b"%PDF-1.7"
WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})
Check = Callable[..., tuple[dict[str, Any], Translation]]


def translator(**settings: Any) -> ConverseTranslator:
    made = BedrockSettings(aws_region="us-east-1", **settings)
    return ConverseTranslator(ServiceContext(name="s", provider="bedrock", settings=made))


@pytest.fixture
def body(oracle: Any) -> Check:
    def check(*messages: Any, stream: bool = False, **options: Any) -> tuple[dict[str, Any], Translation]:
        given = messages[0] if len(messages) == 1 and isinstance(messages[0], str) else messages
        request = ChatRequest(messages=given, **{"model": CLAUDE, **options})
        translation = translator().translate(request, stream=stream)
        wire = translation.wire_request
        operation = "ConverseStream" if stream else "Converse"
        return oracle.check(operation, wire.url, wire.body), translation

    return check


def warnings_of(translation: Translation) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translation.warnings]


def user_text(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


# The request


def test_a_text_is_a_user_message(body: Check) -> None:
    sent, translation = body("Hello")
    assert sent == {"messages": [user_text("Hello")]}
    assert translation.warnings == ()
    assert translation.wire_request.headers == {"accept": "application/json", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (CLAUDE, "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream"),
        (
            PROFILE,
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3A"
            "application-inference-profile%2Fmi1dadi0g15f/converse-stream",
        ),
    ],
)
def test_model_ids_and_arns_are_percent_encoded_in_the_path(body: Check, model: str, path: str) -> None:
    _, translation = body("Hello", model=model, stream=True)
    assert translation.wire_request.url == f"https://bedrock-runtime.us-east-1.amazonaws.com{path}"
    assert translation.wire_request.headers["accept"] == "application/vnd.amazon.eventstream"


def test_sampling_and_limits_go_to_the_inference_config(body: Check) -> None:
    sent, translation = body(
        "x", model=NOVA, max_output_tokens=5, temperature=0.5, top_p=0.25, stop=["END", ""], top_k=7
    )
    assert sent["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]}
    assert sent["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 7}}
    assert warnings_of(translation) == []


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (CLAUDE, {"top_k": 3}, []),
        (LLAMA, {"top_k": 3}, [("unsupported", "top_k")]),
        (PROFILE, {"top_k": 3}, [("unsupported", "top_k")]),
        (CLAUDE_5, {"temperature": 0.1, "top_p": 0.1}, [("unsupported", "temperature"), ("unsupported", "top_p")]),
        (CLAUDE_5, {"top_k": 1}, [("unsupported", "top_k")]),
        (CLAUDE, {"temperature": 0.1, "top_p": 0.1}, [("unsupported", "top_p")]),
        (NOVA, {"temperature": 1.5}, [("changed", "temperature")]),
        (NOVA, {"seed": 1}, [("unsupported", "seed")]),
        (NOVA, {"frequency_penalty": 0.1}, [("unsupported", "frequency_penalty")]),
        (NOVA, {"presence_penalty": 0.1}, [("unsupported", "presence_penalty")]),
        (NOVA, {"logprobs": True, "top_logprobs": 2}, [("unsupported", "logprobs"), ("unsupported", "top_logprobs")]),
        (NOVA, {"user_id": "u"}, [("unsupported", "user_id")]),
        (NOVA, {"response_format": ResponseFormat(type="json")}, [("emulated", "response_format")]),
        (NOVA, {"parallel_tool_calls": False, "tools": [WEATHER]}, [("unsupported", "parallel_tool_calls")]),
        (LLAMA, {"tools": [WEATHER], "tool_choice": "required"}, [("unsupported", "tool_choice")]),
        (LLAMA, {"reasoning": ReasoningOptions(effort="low")}, [("unsupported", "reasoning")]),
        ("xai.grok-4.6", {"stop": ["a"]}, [("unsupported", "stop")]),
        ("xai.grok-4.6", {"temperature": 0.1}, [("unsupported", "temperature")]),
        ("openai.gpt-6-sol", {"max_output_tokens": 5}, [("changed", "max_output_tokens")]),
        (R1, {"stop": list("abcdefghijk")}, [("unsupported", "stop")]),
        (
            NOVA_2,
            {"reasoning": ReasoningOptions(effort="high"), "max_output_tokens": 9, "temperature": 0.1},
            [("unsupported", "max_output_tokens"), ("unsupported", "temperature")],
        ),
        (R1, {"tools": [WEATHER]}, [("unsupported", "tools")]),
        (PROFILE, {"reasoning": ReasoningOptions(effort="low")}, [("unsupported", "reasoning")]),
    ],
)
def test_unsupported_fields_add_warnings(
    body: Check, model: str, options: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    _, translation = body("x", model=model, **options)
    assert warnings_of(translation) == expected


def test_invalid_metadata_is_left_out_with_a_warning(body: Check) -> None:
    sent, translation = body("x", metadata={"team": "a b", "bad": "é", "": "x"})
    assert sent["requestMetadata"] == {"team": "a b"}
    assert warnings_of(translation) == [("left_out", "metadata")]


def test_a_schema_goes_as_a_string(body: Check) -> None:
    schema = {"type": "object", "properties": {"ä": {"type": "string"}}}
    sent, _ = body("x", response_format=ResponseFormat(schema=schema, name="out", description="d"))
    json_schema = sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert json.loads(json_schema.pop("schema")) == {**schema, "additionalProperties": False}
    assert json_schema == {"name": "out", "description": "d"}


def test_provider_options_are_merged_into_the_body_last(body: Check) -> None:
    options = {
        "guardrailConfig": {"guardrailIdentifier": "abc", "guardrailVersion": "DRAFT", "trace": "enabled"},
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "flex"},
        "requestMetadata": {"a": "b"},
        "additionalModelRequestFields": {"anthropic_beta": ["x"]},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
    }
    sent, _ = body("x", reasoning=ReasoningOptions(max_tokens=2000), provider_options={"bedrock": options})
    assert sent["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "anthropic_beta": ["x"],
    }
    for name in ("guardrailConfig", "performanceConfig", "serviceTier", "requestMetadata"):
        assert sent[name] == options[name]


# Reasoning


@pytest.mark.parametrize(
    ("model", "reasoning", "fields", "config", "warned"),
    [
        (CLAUDE, ReasoningOptions(max_tokens=4000), {"thinking": {"type": "enabled", "budget_tokens": 4000}}, None, []),
        (
            CLAUDE,
            ReasoningOptions(effort="high"),
            {"thinking": {"type": "enabled", "budget_tokens": 16384}},
            None,
            [("emulated", "reasoning.effort")],
        ),
        (
            CLAUDE,
            ReasoningOptions(max_tokens=10),
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            None,
            [("changed", "reasoning.max_tokens")],
        ),
        (CLAUDE, ReasoningOptions(effort="none"), {"thinking": {"type": "disabled"}}, None, []),
        (CLAUDE_5, ReasoningOptions(effort="max"), {"thinking": {"type": "adaptive"}}, {"effort": "max"}, []),
        (
            CLAUDE_5,
            ReasoningOptions(summary="auto"),
            {"thinking": {"type": "adaptive", "display": "summarized"}},
            None,
            [],
        ),
        (
            CLAUDE_5,
            ReasoningOptions(effort="minimal", max_tokens=4),
            {"thinking": {"type": "adaptive"}},
            {"effort": "low"},
            [("unsupported", "reasoning.max_tokens"), ("changed", "reasoning.effort")],
        ),
        (
            NOVA_2,
            ReasoningOptions(effort="low"),
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            None,
            [],
        ),
        (NOVA_2, ReasoningOptions(effort="none"), {"reasoningConfig": {"type": "disabled"}}, None, []),
        ("openai.gpt-oss-120b-1:0", ReasoningOptions(effort="medium"), {"reasoning_effort": "medium"}, None, []),
        (
            "qwen.qwen3-32b-v1:0",
            ReasoningOptions(effort="medium"),
            {"reasoning_config": "high"},
            None,
            [("changed", "reasoning.effort")],
        ),
        ("openai.gpt-6-sol", ReasoningOptions(effort="none"), {"reasoning": {"effort": "none"}}, None, []),
        (
            "openai.gpt-6-astra",
            ReasoningOptions(effort="none"),
            {"reasoning": {"effort": "low"}},
            None,
            [("changed", "reasoning.effort")],
        ),
        (
            "zai.glm-5",
            ReasoningOptions(effort="low"),
            {"reasoning_effort": "high"},
            None,
            [("changed", "reasoning.effort")],
        ),
        (
            "us.anthropic.claude-sonnet-5-5",
            ReasoningOptions(effort="none"),
            {"thinking": {"type": "between_tools"}},
            None,
            [],
        ),
        (
            "us.anthropic.claude-opus-5-5",
            ReasoningOptions(effort="none"),
            {"thinking": {"type": "adaptive"}},
            {"effort": "low"},
            [("changed", "reasoning.effort")],
        ),
        (
            "us.anthropic.claude-opus-4-6-v1",
            ReasoningOptions(effort="xhigh"),
            {"thinking": {"type": "adaptive"}},
            {"effort": "max"},
            [("changed", "reasoning.effort")],
        ),
    ],
)
def test_reasoning_is_asked_for_in_the_familys_words(
    body: Check,
    model: str,
    reasoning: ReasoningOptions,
    fields: dict[str, Any],
    config: dict[str, Any] | None,
    warned: list[tuple[str, str]],
) -> None:
    sent, translation = body("x", model=model, reasoning=reasoning)
    assert sent["additionalModelRequestFields"] == fields
    assert sent.get("outputConfig") == config
    assert warnings_of(translation) == warned


def test_thinking_stays_below_the_output_limit(body: Check) -> None:
    sent, translation = body("x", reasoning=ReasoningOptions(max_tokens=9000), max_output_tokens=5000)
    assert sent["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 4999
    assert warnings_of(translation) == [("changed", "reasoning")]
    sent, translation = body("x", reasoning=ReasoningOptions(max_tokens=9000), max_output_tokens=500)
    assert "additionalModelRequestFields" not in sent
    assert warnings_of(translation) == [("unsupported", "reasoning")]


def test_a_model_that_thinks_gets_no_temperature(body: Check) -> None:
    sent, translation = body("x", reasoning=ReasoningOptions(max_tokens=2000), temperature=0.3, top_k=4)
    assert "inferenceConfig" not in sent
    assert warnings_of(translation) == [("unsupported", "temperature"), ("unsupported", "top_k")]


def test_effort_and_a_schema_share_the_output_config(body: Check) -> None:
    sent, _ = body(
        "x", model=CLAUDE_5, reasoning=ReasoningOptions(effort="low"), response_format=ResponseFormat(schema={})
    )
    assert sent["outputConfig"].keys() == {"effort", "textFormat"}


@pytest.mark.parametrize(
    ("model", "family", "reasoning"),
    [
        ("anthropic.claude-v2", "claude", None),
        ("anthropic.claude-instant-v1", "claude", None),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", "claude", None),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "claude", "budget"),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", "claude", "budget"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude", "budget"),
        ("us.anthropic.claude-sonnet-4-6", "claude", "adaptive"),
        ("global.anthropic.claude-opus-4-8", "claude", "adaptive"),
        ("us.anthropic.claude-sonnet-5", "claude", "adaptive"),
        ("us.anthropic.claude-new-7", "claude", "adaptive"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "nova", None),
        (
            "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.amazon.nova-2-lite-v1:0",
            "nova-2",
            "reasoningConfig",
        ),
        ("us-gov.meta.llama3-3-70b-instruct-v1:0", "llama", None),
        ("amazon.titan-text-lite-v1", "titan", None),
        (PROFILE, "mi1dadi0g15f", None),
        ("arn:aws:bedrock:us-east-1:000000000000:custom-model/amazon.nova-lite-v1:0:300k/abcdefghijkl", "nova", None),
        ("arn:aws:bedrock:us-east-1:000000000000:default-prompt-router/anthropic.claude:1", "claude", None),
        ("arn:aws:bedrock:us-east-1:000000000000:provisioned-model/abcdefghijkl", "abcdefghijkl", None),
    ],
)
def test_families_of_models(model: str, family: str, reasoning: str | None) -> None:
    facts = facts_of(model)
    assert (facts.family, facts.reasoning) == (family, reasoning)


def test_each_row_of_the_table_can_match_and_has_a_source() -> None:
    for position, row in enumerate(ROWS):
        name = re.sub(r"\[(.)[^]]*\]", r"\1", row.pattern).replace("*", "")
        first = next(index for index, one in enumerate(ROWS) if fnmatchcase(name, one.pattern))
        assert first == position, row.pattern
        assert row.source


def test_configuration_names_the_model_behind_an_arn_and_changes_its_facts(oracle: Any) -> None:
    facts = {
        "arn:*application-inference-profile/mi1dadi0g15f": {
            "base_model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
        },
        "anthropic.claude-sonnet-4-5*": {"stop_sequences": 1},
    }
    request = ChatRequest(
        messages="x",
        model=PROFILE,
        reasoning=ReasoningOptions(max_tokens=2000),
        stop=["a", "b"],
        max_output_tokens=3000,
    )
    translation = translator(model_facts=facts).translate(request, stream=False)
    sent = oracle.check("Converse", translation.wire_request.url, translation.wire_request.body)
    assert sent["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert sent["inferenceConfig"]["stopSequences"] == ["a"]
    assert translation.family == "claude"
    assert "application-inference-profile%2Fmi1dadi0g15f" in translation.wire_request.url
    with pytest.raises(ConfigurationError, match="unknown fact 'famly'; did you mean 'family'"):
        BedrockSettings(aws_region="us-east-1", model_facts={"x": {"famly": "y"}})


# Tools


def test_tools_and_choices(body: Check) -> None:
    sent, _ = body("x", tools=[WEATHER], tool_choice="weather")
    spec = {
        "name": "weather",
        "description": "Tells the weather.",
        "inputSchema": {"json": WEATHER.parameters},
    }
    assert sent["toolConfig"] == {"tools": [{"toolSpec": spec}], "toolChoice": {"tool": {"name": "weather"}}}
    for mode, wire in (("auto", {"auto": {}}), ("required", {"any": {}})):
        sent, _ = body("x", tools=[WEATHER], tool_choice=mode)
        assert sent["toolConfig"]["toolChoice"] == wire


def test_an_empty_description_is_not_sent_and_strict_is(body: Check) -> None:
    sent, _ = body("x", tools=[Tool(name="t", description="", strict=True)])
    assert sent["toolConfig"]["tools"][0]["toolSpec"].keys() == {"name", "inputSchema", "strict"}


def test_one_call_at_a_time_is_asked_of_claude(body: Check) -> None:
    sent, translation = body("x", tools=[WEATHER], parallel_tool_calls=False, tool_choice="required")
    assert sent["toolConfig"]["toolChoice"] == {"any": {}}
    assert sent["additionalModelRequestFields"] == {"tool_choice": {"disable_parallel_tool_use": True}}
    assert warnings_of(translation) == []
    sent, translation = body("x", tools=[WEATHER], parallel_tool_calls=False)
    assert sent["additionalModelRequestFields"] == {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}


def test_a_system_tool_and_cache_points_are_passed_whole(body: Check) -> None:
    sent, _ = body(
        "x",
        model=NOVA_2,
        tools=[
            Tool(name="g", provider_options={"bedrock": {"systemTool": {"name": "nova_grounding"}}}),
            Tool(name="t", provider_options={"bedrock": {"cachePoint": {"type": "default"}}}),
        ],
    )
    tools = sent["toolConfig"]["tools"]
    assert tools[0] == {"systemTool": {"name": "nova_grounding"}}
    assert tools[1]["toolSpec"]["name"] == "t"
    assert tools[2] == {"cachePoint": {"type": "default"}}


@pytest.mark.parametrize("spec", [{}, {"name": ["x"]}, {"inputSchema": 1}])
def test_tool_that_options_replace_by_one_without_a_name_is_passed_whole(body: Check, spec: dict[str, Any]) -> None:
    tool = Tool(name="t", provider_options={"bedrock": {"toolSpec": spec}})
    translation = translator().translate(ChatRequest(messages="x", model=CLAUDE, tools=[tool]), stream=False)
    assert json.loads(translation.wire_request.body)["toolConfig"]["tools"] == [{"toolSpec": spec}]


def test_forbidden_tools_are_not_sent(body: Check) -> None:
    sent, translation = body("x", tools=[WEATHER], tool_choice="none")
    assert "toolConfig" not in sent
    assert warnings_of(translation) == [("emulated", "tool_choice")]


@pytest.mark.parametrize(
    ("options", "subject"), [({"tools": [WEATHER], "tool_choice": "none"}, "tool_choice"), ({}, "tools")]
)
def test_a_history_with_calls_keeps_its_tools(body: Check, options: dict[str, Any], subject: str) -> None:
    history = user("x"), assistant(CALL), tool_result(CALL, "rain")
    sent, translation = body(*history, model=NOVA, **options)
    assert sent["toolConfig"]["tools"][0]["toolSpec"]["name"] == "weather"
    assert sent["system"] == [{"text": "Answer without calling any tool."}]
    assert warnings_of(translation) == [("emulated", subject)]
    sent, translation = body(*history, **options)
    assert sent["toolConfig"].keys() == {"tools"}
    assert sent["additionalModelRequestFields"] == {"tool_choice": {"type": "none"}}
    assert warnings_of(translation) == []


def test_tool_call_is_forced_in_a_way_that_the_model_supports(body: Check) -> None:
    other = Tool(name="other")
    sent, translation = body("x", model=MISTRAL, tools=[WEATHER, other], tool_choice="other")
    assert sent["toolConfig"]["toolChoice"] == {"any": {}}
    assert [tool["toolSpec"]["name"] for tool in sent["toolConfig"]["tools"]] == ["other"]
    assert warnings_of(translation) == [("emulated", "tool_choice")]
    sent, translation = body("x", model="us.anthropic.claude-opus-5-5", tools=[WEATHER], tool_choice="weather")
    assert sent["toolConfig"]["toolChoice"] == {"auto": {}}
    assert warnings_of(translation) == [("unsupported", "tool_choice")]
    # Reasoning must be turned off for a model that reasons by default.
    sent, translation = body("x", model=CLAUDE_5, tools=[WEATHER], tool_choice="required")
    assert sent["additionalModelRequestFields"] == {"thinking": {"type": "disabled"}}
    assert warnings_of(translation) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"properties": {"a": {"type": "string"}}},
        {"oneOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}},
    ],
)
def test_schemas_of_tools_get_an_object_at_the_root(body: Check, parameters: dict[str, Any]) -> None:
    sent, translation = body("x", tools=[Tool(name="t", parameters=parameters)])
    schema = sent["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    assert schema["type"] == "object"
    assert not schema.keys() & {"oneOf", "anyOf", "allOf", "$ref"}
    assert warnings_of(translation) == [("changed", "tool t")]


def test_strict_schemas_are_sent_in_the_subset_that_bedrock_accepts(body: Check) -> None:
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "enum": [1, 2]},
            "s": {"type": "string", "pattern": "(?=a)b", "minLength": 2},
            "o": {"type": ["object", "null"], "properties": {}, "default": {"type": "object"}},
            "default": {"type": "object", "properties": {}},
        },
    }
    sent, translation = body("x", tools=[Tool(name="t", parameters=parameters, strict=True)])
    closed = sent["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    assert closed == {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "enum": [1, 2], "description": "(minimum: 1)"},
            "s": {"type": "string", "minLength": 2, "description": '(pattern: "(?=a)b")'},
            "o": {
                "type": ["object", "null"],
                "properties": {},
                "default": {"type": "object"},
                "additionalProperties": False,
            },
            "default": {"type": "object", "properties": {}, "additionalProperties": False},
        },
        "additionalProperties": False,
    }
    assert warnings_of(translation) == [("changed", "tool t")]
    form = ResponseFormat(schema=parameters)
    sent, translation = body("x", response_format=form)
    assert json.loads(sent["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]) == closed
    sent, translation = body("x", model=LLAMA, tools=[Tool(name="t", strict=True)], response_format=form)
    assert "strict" not in sent["toolConfig"]["tools"][0]["toolSpec"]
    assert "outputConfig" not in sent
    assert warnings_of(translation) == [("unsupported", "tool t"), ("emulated", "response_format")]


def test_calls_and_results_are_sent_as_text_to_a_model_that_cannot_call_tools(body: Check) -> None:
    sent, translation = body(
        user("x"), assistant("I look.", CALL), tool_result(CALL, "rain"), user("so?"), tools=[WEATHER], model=R1
    )
    assert "toolConfig" not in sent
    assert sent["messages"][1]["content"] == [
        {"text": "I look."},
        {"text": '[Call of the tool weather: {"city":"Oslo"}]'},
    ]
    assert sent["messages"][2]["content"] == [{"text": "[Result of the tool weather: rain]"}, {"text": "so?"}]
    assert warnings_of(translation) == [("mended", "tool call"), ("unsupported", "tools")]


# The conversation


def test_system_messages_go_to_the_top_and_a_late_one_adds_a_warning(body: Check) -> None:
    sent, translation = body(system("Be brief.", ""), user("x"), system("And kind."))
    assert sent["system"] == [{"text": "Be brief."}, {"text": "And kind."}]
    assert warnings_of(translation) == [("mended", "system message")]


def test_late_system_message_stays_if_the_model_accepts_it_there(body: Check) -> None:
    opus = "us.anthropic.claude-opus-4-8"
    sent, translation = body(system("Be brief."), user("x"), system("And kind."), assistant("y"), user("z"), model=opus)
    assert sent["system"] == [{"text": "Be brief."}]
    assert [message["role"] for message in sent["messages"]] == ["user", "system", "assistant", "user"]
    assert warnings_of(translation) == []
    # The system message comes after the user messages, since it cannot follow an answer.
    sent, translation = body(user("x"), system("a"), user("y"), assistant("z"), user("x"), system("b"), model=opus)
    assert [message["role"] for message in sent["messages"]] == ["user", "system", "assistant", "user", "system"]
    assert warnings_of(translation) == []
    sent, translation = body(user("x"), assistant("y"), system("a"), model=opus)
    assert sent["messages"][2] == user_text("a")
    assert warnings_of(translation) == [("mended", "system message")]


def test_tools_are_added_and_removed_by_options_of_a_system_message(body: Check) -> None:
    tool = {"tool": {"name": "search", "type": "tool"}}
    options = {"bedrock": {"toolAddition": [tool, tool], "toolRemoval": tool}}
    sent, translation = body(user("x"), Message(role="system", parts="Now.", provider_options=options))
    assert sent["messages"][1] == {
        "role": "system",
        "content": [{"text": "Now."}, {"toolAddition": tool}, {"toolAddition": tool}, {"toolRemoval": tool}],
    }
    assert warnings_of(translation) == []


def test_system_prompt_moves_to_the_first_user_message_if_the_model_accepts_none(body: Check) -> None:
    sent, translation = body(system("Be brief."), user("x"), model="amazon.titan-text-lite-v1")
    assert sent == {"messages": [{"role": "user", "content": [{"text": "Be brief."}, {"text": "x"}]}]}
    assert warnings_of(translation) == [("emulated", "system message")]


def test_user_message_is_added_after_a_final_answer(body: Check) -> None:
    sent, translation = body(user("x"), assistant("y  "), model=CLAUDE_5)
    assert sent["messages"][1:] == [{"role": "assistant", "content": [{"text": "y"}]}, user_text("Go on.")]
    assert warnings_of(translation) == [("mended", "messages"), ("mended", "messages")]
    sent, translation = body(user("x"), assistant("y"), reasoning=ReasoningOptions(max_tokens=2000))
    assert sent["messages"][-1] == user_text("Go on.")
    sent, translation = body(user("x"), assistant("y"))
    assert sent["messages"][-1]["role"] == "assistant"
    assert warnings_of(translation) == []


def test_cache_points_are_left_out_for_a_model_that_refuses_them(body: Check) -> None:
    point = {"bedrock": {"cachePoint": {"type": "default"}}}
    sent, translation = body(
        user(
            Text(text="a", provider_options=point), Opaque(provider="bedrock", kind="cachePoint", data=point["bedrock"])
        ),
        tools=[attrs.evolve(WEATHER, provider_options=point)],
        model=LLAMA,
    )
    assert "cachePoint" not in json.dumps(sent)
    assert warnings_of(translation) == [("mended", "cache point")]


@pytest.mark.parametrize("model", [LLAMA, MISTRAL, WRITER])
def test_tool_blocks_are_alone_in_a_message_if_the_model_requires_that(body: Check, model: str) -> None:
    sent, translation = body(
        user("x"), assistant("I look.", CALL), tool_result(CALL, "rain"), user("so?"), tools=[WEATHER], model=model
    )
    kinds = [(message["role"], [next(iter(block)) for block in message["content"]]) for message in sent["messages"]]
    assert kinds == [
        ("user", ["text"]),
        ("assistant", ["text"]),
        ("user", ["text"]),
        ("assistant", ["toolUse"]),
        ("user", ["toolResult"]),
        ("assistant", ["text"]),
        ("user", ["text"]),
    ]
    mended = [("mended", "tool call id")] if model == MISTRAL else []
    assert warnings_of(translation) == [*mended, ("mended", "messages"), ("mended", "messages")]


def test_no_blank_stop_sequences_are_sent_to_claude(body: Check) -> None:
    sent, translation = body(user("x"), stop=["\n", "END"], model=CLAUDE)
    assert sent["inferenceConfig"]["stopSequences"] == ["END"]
    assert warnings_of(translation) == [("unsupported", "stop")]
    sent, translation = body(user("x"), stop=["\n"], model=LLAMA)
    assert (sent["inferenceConfig"]["stopSequences"], warnings_of(translation)) == (["\n"], [])


def test_a_cache_point_follows_what_it_is_on(body: Check) -> None:
    point = {"bedrock": {"cachePoint": {"type": "default", "ttl": "1h"}}}
    sent, _ = body(
        Message(role="system", parts="s", provider_options=point),
        user(Text(text="a", provider_options=point), Image(data=PNG, provider_options=point)),
        Message(role="assistant", parts="b", provider_options=point),
        user("c"),
    )
    block = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert sent["system"] == [{"text": "s"}, block]
    first = sent["messages"][0]["content"]
    assert first[0::2][0] == {"text": "a"}
    assert [item for item in first if item == block] == [block, block]
    assert sent["messages"][1]["content"] == [{"text": "b"}, block]


def test_guarded_text(body: Check) -> None:
    sent, _ = body(
        user(Text(text="a", provider_options={"bedrock": {"guardContent": {"qualifiers": ["query"]}}}), "b"),
    )
    assert sent["messages"][0]["content"] == [
        {"guardContent": {"text": {"text": "a", "qualifiers": ["query"]}}},
        {"text": "b"},
    ]


def test_turns_of_one_role_become_one(body: Check) -> None:
    sent, _ = body(user("a"), user("b"), assistant("c"), assistant("d"), user("e"))
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"] == [{"text": "a"}, {"text": "b"}]


def test_empty_texts_and_messages_are_left_out(body: Check) -> None:
    sent, translation = body(user("a", ""), assistant(""), user("b", "  "))
    assert sent["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]
    assert warnings_of(translation) == [("mended", "message"), ("mended", "text")]


def test_a_conversation_with_nothing_in_it_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no message with content that can be sent"):
        translator().translate(ChatRequest(messages="", model=CLAUDE), stream=False)


def test_a_conversation_that_the_model_begins(body: Check) -> None:
    sent, translation = body(assistant("hi"), user("x"), model=NOVA)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert warnings_of(translation) == [("mended", "messages")]
    sent, translation = body(assistant("hi"), user("x"))
    assert sent["messages"][0]["role"] == "assistant"
    assert warnings_of(translation) == []


def test_results_stand_in_the_turn_after_their_calls(body: Check) -> None:
    other = ToolCall(id="call_2", name="weather", arguments={"city": "Rome"})
    sent, translation = body(
        user("x"),
        assistant("I look.", CALL, other),
        tool_result(other, "sun"),
        user("well?"),
        tool_result(CALL, "storm", is_error=True),
        tools=[WEATHER],
    )
    assert sent["messages"][1]["content"] == [
        {"text": "I look."},
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Oslo"}}},
        {"toolUse": {"toolUseId": "call_2", "name": "weather", "input": {"city": "Rome"}}},
    ]
    assert sent["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "storm"}], "status": "error"}},
        {"toolResult": {"toolUseId": "call_2", "content": [{"text": "sun"}]}},
        {"text": "well?"},
    ]
    assert warnings_of(translation) == [("mended", "tool result")]


def test_every_call_is_answered_and_a_result_without_a_call_is_left_out(body: Check) -> None:
    sent, translation = body(user("x"), assistant(CALL), user("go on"), tool_result("other", "y"), tools=[WEATHER])
    result = sent["messages"][2]["content"][0]["toolResult"]
    assert (result["toolUseId"], result["status"]) == ("call_1", "error")
    assert warnings_of(translation) == [("mended", "tool result"), ("mended", "tool result")]


def test_two_results_of_one_call_become_one(body: Check) -> None:
    sent, translation = body(
        user("x"), assistant(CALL), tool_result(CALL, "a"), tool_result(CALL, "b", is_error=True), tools=[WEATHER]
    )
    assert sent["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "a"}, {"text": "b"}], "status": "error"}}
    ]
    assert warnings_of(translation) == [("mended", "tool result")]


def test_results_hold_pictures_documents_and_nothing_empty(body: Check) -> None:
    parts = (
        Text(text="see"),
        Image(data=PNG),
        Document(data=PDF, name="a.pdf"),
        Audio(data=b"ID3", media_type="audio/mpeg"),
    )
    sent, translation = body(user("x"), assistant(CALL), tool_result(CALL, parts), tools=[WEATHER])
    content = sent["messages"][2]["content"][0]["toolResult"]["content"]
    assert [next(iter(block)) for block in content] == ["text", "image", "document"]
    assert warnings_of(translation) == [("left_out", "audio")]
    sent, _ = body(user("x"), assistant(CALL), tool_result(CALL, ""), tools=[WEATHER])
    assert sent["messages"][2]["content"][0]["toolResult"]["content"] == [{"text": "(no output)"}]


@pytest.mark.parametrize(
    ("result", "json_value"),
    [('{"a": 1}', {"a": 1}), ("rain", {"result": "rain"}), ("[1]", {"result": [1]}), ("", {})],
)
def test_mistral_gets_results_as_json(body: Check, result: str, json_value: dict[str, Any]) -> None:
    sent, _ = body(user("x"), assistant(CALL), tool_result(CALL, result), tools=[WEATHER], model=MISTRAL)
    assert sent["messages"][2]["content"][0]["toolResult"]["content"] == [{"json": json_value}]


def test_failed_tool_is_marked_in_text_if_the_model_has_no_status(body: Check) -> None:
    sent, translation = body(
        user("x"), assistant(CALL), tool_result(CALL, "no", is_error=True), tools=[WEATHER], model=WRITER
    )
    assert sent["messages"][2]["content"][0]["toolResult"] == {
        "toolUseId": "call_1",
        "content": [{"text": "Error:"}, {"text": "no"}],
    }
    assert warnings_of(translation) == [("changed", "tool result")]


@pytest.mark.parametrize(
    ("call_id", "model", "kept"),
    [
        ("toolu_bdrk_01", CLAUDE, True),
        ("functions.weather:0", LLAMA, True),
        ("functions.weather:0", CLAUDE, False),
        ("a b", LLAMA, False),
        ("tooluse_bpe71yCfRu2b5i-nKGDr5g", MISTRAL, False),
        ("a", MISTRAL, False),
        ("abcDEF123", MISTRAL, True),
        ("x" * 65, CLAUDE, False),
    ],
)
def test_ids_of_other_providers_are_made_valid_for_call_and_result(
    body: Check, call_id: str, model: str, kept: bool
) -> None:
    call = ToolCall(id=call_id, name="weather", arguments={})
    sent, _ = body(user("x"), assistant(call), tool_result(call, "y"), tools=[WEATHER], model=model)
    sent_id = sent["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert sent["messages"][2]["content"][0]["toolResult"]["toolUseId"] == sent_id
    assert (sent_id == call_id) is kept
    assert model != MISTRAL or re.fullmatch("[a-zA-Z0-9]{9}", sent_id)


def test_names_and_arguments_that_the_wire_does_not_take(body: Check) -> None:
    call = ToolCall(id="", name="a.b", invalid_arguments="{oops")
    sent, translation = body(user("x"), assistant(call), tool_result(call, "y"))
    sent_call = sent["messages"][1]["content"][0]["toolUse"]
    assert (sent_call["name"], sent_call["input"]) == ("a_b", {"invalid_arguments": "{oops"})
    assert sent_call["toolUseId"].startswith("call_")
    assert warnings_of(translation) == [("mended", subject) for subject in ("tool call id", "tool call", "tool call")]


def test_fields_of_calls_and_reasoning_are_sent_back_to_the_same_family(body: Check) -> None:
    new = {"bedrock": {"new": 1, "block": {"beside": 2}}}
    reasoning = Reasoning(text="t", signature="s", provider="bedrock", family="claude", provider_metadata=new)
    call = attrs.evolve(CALL, family="claude", provider_metadata=new)
    messages = user("x"), assistant(reasoning, call), tool_result(call, "y")
    request = ChatRequest(messages=messages, model=CLAUDE, tools=[WEATHER])
    content = json.loads(translator().translate(request, stream=False).wire_request.body)["messages"][1]["content"]
    assert content[0] == {"reasoningContent": {"reasoningText": {"text": "t", "new": 1, "signature": "s"}}}
    assert content[1]["toolUse"] == {"toolUseId": "call_1", "name": "weather", "input": {"city": "Oslo"}, "new": 1}
    sent, translation = body(*messages, tools=[WEATHER], model=NOVA_2)
    assert sent["messages"][1]["content"] == [
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Oslo"}}}
    ]
    assert sorted(warnings_of(translation)) == [("mended", "reasoning"), ("mended", "tool call")]


def test_own_reasoning_is_replayed_unmodified(body: Check) -> None:
    sent, translation = body(
        user("x"),
        assistant(
            Reasoning(text="hm", provider="bedrock", signature="sig"),
            Reasoning(provider="bedrock", encrypted="cmVk", redacted=True),
            Reasoning(provider="bedrock", signature="alone"),
            "y",
        ),
        user("z"),
    )
    assert sent["messages"][1]["content"][:3] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "alone"}}},
    ]
    assert warnings_of(translation) == []


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (CLAUDE, Reasoning(text="a", provider="openai", signature="s")),
        (CLAUDE, Reasoning(text="a", provider="bedrock", family="nova-2")),
        (GPT_OSS, Reasoning(text="a", provider="bedrock", family="claude", signature="s")),
        (GPT_OSS, Reasoning(text="a", provider="bedrock", signature="s")),
        (PROFILE, Reasoning(text="a", provider="bedrock", family="claude", signature="s")),
        (R1, Reasoning(text="a", provider="bedrock", family="deepseek-r1")),
        (NOVA, Reasoning(text="a", provider="bedrock", family="nova")),
        (NOVA_2, Reasoning(text="a", provider="bedrock", family="nova-2")),
        (PROFILE, Reasoning(text="a", provider="bedrock", family="mi1dadi0g15f")),
        (CLAUDE, Reasoning(text="a")),
        (CLAUDE, Reasoning(text="a", provider="bedrock")),
        (LLAMA, Reasoning(text="a", provider="bedrock", signature="s")),
    ],
)
def test_reasoning_that_the_model_does_not_take_is_left_out_with_one_warning(
    body: Check, model: str, part: Reasoning
) -> None:
    sent, translation = body(user("x"), assistant(part, "y"), user("x"), assistant(part, "y"), user("z"), model=model)
    assert all("reasoningContent" not in block for message in sent["messages"] for block in message["content"])
    assert warnings_of(translation) == [("mended", "reasoning")]


def test_claude_reasoning_from_anthropic_is_sent_to_bedrock(body: Check) -> None:
    sent, translation = body(
        user("x"),
        assistant(
            Reasoning(text="hm", provider="anthropic", family="claude", signature="sig"),
            Reasoning(provider="anthropic", family="claude", encrypted="red", redacted=True),
            Reasoning(text="other", provider="anthropic", family="deepseek", signature="no"),
            "y",
        ),
        user("z"),
    )
    assert sent["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"text": "y"},
    ]
    assert warnings_of(translation) == [("mended", "reasoning")]


@pytest.mark.parametrize("model", [CLAUDE, CLAUDE_5])
def test_reasoning_at_the_end_of_a_message_is_left_out(body: Check, model: str) -> None:
    part = Reasoning(text="hm", provider="bedrock", signature="sig")
    sent, translation = body(user("x"), assistant(part), user("z"), model=model)
    assert sent["messages"] == [{"role": "user", "content": [{"text": "x"}, {"text": "z"}]}]
    assert warnings_of(translation) == [("mended", "reasoning"), ("mended", "message")]


@pytest.mark.parametrize(
    ("begins", "thinking"),
    [
        ((), "disabled"),
        ((Reasoning(text="hm", provider="openai"),), "disabled"),
        ((Reasoning(text="hm", provider="bedrock"),), "disabled"),
        (("I look.",), "disabled"),
        ((Reasoning(text="hm", provider="bedrock", signature="s"),), "enabled"),
        ((Reasoning(provider="bedrock", encrypted="cmVk", redacted=True),), "enabled"),
    ],
)
def test_thinking_with_a_budget_is_turned_off_in_a_tool_loop_without_thinking(
    body: Check, begins: tuple[Any, ...], thinking: str
) -> None:
    history = user("x"), assistant(*begins, CALL), tool_result(CALL, "rain")
    sent, translation = body(*history, tools=[WEATHER], reasoning=ReasoningOptions(max_tokens=2000))
    assert sent["additionalModelRequestFields"]["thinking"]["type"] == thinking
    assert (("mended", "reasoning") in warnings_of(translation)) is (thinking == "disabled")
    # Adaptive thinking has no such rule, and a user message starts a new loop.
    sent, _ = body(*history, tools=[WEATHER], model=CLAUDE_5, reasoning=ReasoningOptions(effort="low"))
    assert sent["additionalModelRequestFields"]["thinking"]["type"] == "adaptive"
    sent, _ = body(*history, assistant("rain"), user("y"), tools=[WEATHER], reasoning=ReasoningOptions(max_tokens=2000))
    assert sent["additionalModelRequestFields"]["thinking"]["type"] == "enabled"


def test_unsigned_reasoning_goes_back_to_the_models_that_sign_none(body: Check) -> None:
    part = Reasoning(text="a", provider="bedrock")
    sent, _ = body(user("x"), assistant(part, "y"), user("z"), model=GPT_OSS)
    assert sent["messages"][1]["content"][0] == {"reasoningContent": {"reasoningText": {"text": "a"}}}


def test_cited_text_is_replayed_with_its_citations(body: Check) -> None:
    citations = [{"title": "t", "location": {"documentChar": {"documentIndex": 0, "start": 1, "end": 2}}}]
    text = Text(text="so", provider_metadata={"bedrock": {"citations": citations}})
    sent, _ = body(user("x"), assistant(text, Citation(title="t")), user("z"))
    assert sent["messages"][1]["content"] == [
        {"citationsContent": {"content": [{"text": "so"}], "citations": citations}}
    ]


def test_opaque_blocks_go_back_to_bedrock_alone(body: Check) -> None:
    own = Opaque(
        provider="bedrock",
        kind="toolUse",
        data={"toolUse": {"toolUseId": "a", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}},
    )
    sent, translation = body(
        user("x"), assistant(own, Opaque(provider="openai", kind="k", data={}), "y"), user("z"), model=NOVA_2
    )
    assert sent["messages"][1]["content"] == [dict(own.data), {"text": "y"}]
    assert sent["toolConfig"]["tools"] == [{"systemTool": {"name": "nova_grounding"}}]
    assert warnings_of(translation) == [("mended", "opaque part"), ("emulated", "tools")]
    sent, translation = body(user("x"), assistant(attrs.evolve(own, family="nova-2"), "y"), user("z"))
    assert sent["messages"][1]["content"] == [{"text": "y"}]
    assert warnings_of(translation) == [("mended", "opaque part")]


def test_a_film_goes_as_an_opaque_block_or_as_a_document_of_that_type(body: Check) -> None:
    block = {"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://bucket/a.mp4"}}}}
    sent, _ = body(
        user(
            Opaque(provider="bedrock", kind="video", data=block), Document(data=b"x", media_type="video/mp4"), "what?"
        ),
        model=NOVA,
    )
    assert sent["messages"][0]["content"][0] == block
    assert sent["messages"][0]["content"][1]["video"]["format"] == "mp4"


# Media


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Image(data=PNG), {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgow"}}}),
        (Image(data=b"\xff\xd8\xff"), {"image": {"format": "jpeg", "source": {"bytes": "/9j/"}}}),
        (
            Image(url="s3://bucket/a.webp"),
            {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/a.webp"}}}},
        ),
        (
            Audio(data=b"RIFF0000WAVE"),
            {"audio": {"format": "wav", "source": {"bytes": "UklGRjAwMDBXQVZF"}}},
        ),
    ],
)
def test_media(body: Check, part: Any, block: dict[str, Any]) -> None:
    sent, translation = body(user("see", part), model=PROFILE)
    assert sent["messages"][0]["content"] == [{"text": "see"}, block]
    assert warnings_of(translation) == []


def test_options_of_a_part_are_merged_into_its_block(body: Check) -> None:
    owner = {"bedrock": {"source": {"s3Location": {"bucketOwner": "000000000000"}}}}
    cited = {"bedrock": {"citations": {"enabled": True}, "context": "c"}}
    sent, _ = body(
        user("x", Image(url="s3://bucket/a.png", provider_options=owner), Document(data=PDF, provider_options=cited)),
        model=NOVA,
    )
    _, image, document = sent["messages"][0]["content"]
    assert image["image"]["source"]["s3Location"] == {"uri": "s3://bucket/a.png", "bucketOwner": "000000000000"}
    assert document["document"]["citations"] == {"enabled": True}
    assert document["document"]["context"] == "c"


@pytest.mark.parametrize(
    ("given", "sent_name", "changed"),
    [
        ("report", "report", False),
        ("report.pdf", "report", False),
        ("My report (1) [a]", "My report (1) [a]", False),
        ("a_b.c", "a-b-c", True),
        ("a  b", "a b", True),
        ("報告", "document", True),
        ("x" * 300, "x" * 200, True),
        (None, "document", False),
    ],
)
def test_names_of_documents_are_made_valid(body: Check, given: str | None, sent_name: str, changed: bool) -> None:
    sent, translation = body(user("x", Document(data=PDF, name=given)))
    assert sent["messages"][0]["content"][1]["document"]["name"] == sent_name
    assert warnings_of(translation) == ([("changed", "document name")] if changed else [])


def test_documents_get_unique_names_and_a_text_beside_them(body: Check) -> None:
    sent, translation = body(user(Document(data=PDF), Document(data=b"a,b", media_type="text/csv")))
    first, second, text = sent["messages"][0]["content"]
    assert (first["document"]["name"], second["document"]["name"]) == ("document", "document (2)")
    assert (first["document"]["format"], second["document"]["format"]) == ("pdf", "csv")
    assert text == {"text": "See the document document."}
    assert warnings_of(translation) == [("emulated", "document")]


@pytest.mark.parametrize(
    ("model", "part", "kind"),
    [
        (LLAMA, Image(data=PNG), "image"),
        (CLAUDE, Audio(data=b"RIFF0000WAVE"), "audio"),
        (CLAUDE, Document(data=b"x", media_type="video/mp4"), "video"),
        (CLAUDE, Image(url="s3://bucket/a.png"), "image"),
        (GPT_OSS, Document(data=PDF), "document"),
    ],
)
def test_media_that_the_model_cannot_read_are_left_out(body: Check, model: str, part: Any, kind: str) -> None:
    sent, translation = body(user("x", part), model=model)
    assert sent["messages"] == [user_text("x")]
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == [("left_out", kind, True)]


@pytest.mark.parametrize(
    ("model", "kinds"),
    [(CLAUDE, ["image", "document"]), (NOVA, ["image"]), (MISTRAL, ["document"]), (KIMI, [])],
)
def test_media_that_a_result_cannot_contain_are_sent_after_it(body: Check, model: str, kinds: list[str]) -> None:
    parts = Image(data=PNG), Document(data=PDF)
    sent, _ = body(user("x"), assistant(CALL), tool_result(CALL, parts), tools=[WEATHER], model=model)
    result = sent["messages"][2]["content"][0]["toolResult"]["content"]
    assert [kind for block in result for kind in block if kind in ("image", "document")] == kinds
    assert all(kind in json.dumps(sent) for kind in ('"image"', '"document"'))


@pytest.mark.parametrize("model", [R1, GPT_OSS, "amazon.titan-text-lite-v1"])
def test_media_made_by_a_model_are_left_out_if_the_model_cannot_read_them(body: Check, model: str) -> None:
    sent, translation = body(user("draw"), assistant("Here.", Image(data=PNG)), user("bigger"), model=model)
    assert [message["content"] for message in sent["messages"]] == [
        [{"text": "draw"}],
        [{"text": "Here."}],
        [{"text": "bigger"}],
    ]
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == [("mended", "image", False)]


def test_media_made_by_a_model_are_sent_in_a_user_message(body: Check) -> None:
    sent, translation = body(user("draw"), assistant("Here.", Image(data=PNG)), user("bigger"))
    assert [next(iter(block)) for block in sent["messages"][2]["content"]] == ["text", "image", "text"]
    assert warnings_of(translation) == [("mended", "image")]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (Image(url="https://example.com/a.png"), "unsupported"),
        (Document(url="https://example.com/a.pdf"), "unsupported"),
        (Image(file_id="f"), "left_out"),
        (Image(data=b"x", media_type="image/tiff"), "left_out"),
        (Image(data=b"", media_type="image/png"), "left_out"),
        (Image(data=b"x"), "changed"),
        (Image(data=PNG, detail="low"), "unsupported"),
    ],
)
def test_unsupported_media_add_warnings(body: Check, part: Any, kind: str) -> None:
    _, translation = body(user("x", part))
    assert [warning.kind for warning in translation.warnings] == [kind]
    if getattr(part, "url", None):
        assert "fetch_urls = true" in translation.warnings[0].message


def test_a_history_of_another_provider_is_sent_whole_but_for_what_only_it_understands(body: Check) -> None:
    call = ToolCall(id="call_" + "9" * 70, name="weather", arguments={"city": "Oslo"})
    sent, translation = body(
        Message(role="user", parts="x", name="ada"),
        assistant(
            Reasoning(text="h", provider="openai", encrypted="e"),
            Text(text="no", refusal=True),
            Audio(data=b"x", transcript="spoken", media_type="audio/wav"),
            Opaque(provider="openai", kind="web_search_call", data={}),
            call,
        ),
        tool_result(call, "rain"),
        tools=[WEATHER],
    )
    assert [next(iter(block)) for block in sent["messages"][1]["content"]] == ["text", "text", "toolUse"]
    assert sorted(warnings_of(translation)) == [
        ("changed", "refusal"),
        ("emulated", "audio"),
        ("left_out", "message name"),
        ("mended", "opaque part"),
        ("mended", "reasoning"),
        ("mended", "tool call id"),
    ]


@pytest.mark.parametrize(
    "messages",
    [
        (Message(role="tool", parts="x"),),
        (user("x", CALL),),
    ],
)
def test_a_conversation_that_no_wire_could_carry_is_refused(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidRequest):
        translator().translate(ChatRequest(messages=messages, model=CLAUDE), stream=False)


def test_a_value_that_json_cannot_say_is_refused() -> None:
    options: dict[str, Any] = {}
    request = ChatRequest(messages="x", model=CLAUDE, provider_options={"bedrock": options})
    options["a"] = {1, 2}  # a request refuses it when it is made
    with pytest.raises(InvalidRequest, match="not valid in JSON"):
        translator().translate(request, stream=False)


def test_tokens_are_counted_of_the_same_body(oracle: Any) -> None:
    from trunkline_bedrock.operations import CONVERSE

    assert CONVERSE.count_tokens is not None
    settings = BedrockSettings(aws_region="us-east-1")
    request = ChatRequest(
        messages=[system("s"), user("x")],
        model="anthropic.claude-3-haiku-20240307-v1:0",
        tools=[WEATHER],
        temperature=0.5,
        tool_choice=ToolChoice.tool("weather"),
    )
    context = ServiceContext(name="s", provider="bedrock", settings=settings)
    wire = CONVERSE.count_tokens.build(context, request).wire_request
    sent = oracle.check("CountTokens", wire.url, wire.body)
    assert sent["input"]["converse"].keys() == {"messages", "system", "toolConfig"}


def test_conversation_that_begins_with_media_the_model_cannot_read_still_begins_with_the_user(body: Check) -> None:
    sent, translation = body(user(Image(data=PNG)), assistant("A cat."), user("Sure?"), model=GPT_OSS)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0] == user_text("(The conversation goes on.)")
    assert warnings_of(translation) == [("mended", "messages"), ("left_out", "image")]
