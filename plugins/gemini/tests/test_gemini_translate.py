"""Requests as Gemini has them, each held to Google's own types, which refuse unknown fields."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from trunkline import (
    Audio,
    ChatRequest,
    ConfigurationError,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline._plugins.registry import open_steps
from trunkline.authoring.json import loads
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.replay import GO_ON, OPENING
from trunkline.request import EmbedRequest
from trunkline.secrets import Secret
from trunkline_gemini import GeminiSettings, gemini
from trunkline_gemini.history import UNSIGNED
from trunkline_gemini.operations import build_embed

WEATHER = Tool(name="weather", description="d", parameters={"type": "object", "properties": {}}, strict=True)
OSLO = ToolCall(id="c0", name="weather", arguments={"city": "Oslo"})
ROME = ToolCall(id="c1", name="weather", arguments={"city": "Rome"})
PNG = b"\x89PNG\r\n\x1a\n"


def translated(
    stream: bool = False, api_url: str | None = None, facts: dict[str, Any] | None = None, **fields: Any
) -> Translation:
    settings = GeminiSettings(api_key=Secret("k"), model_facts=facts or {}, **({"api_url": api_url} if api_url else {}))
    steps = open_steps(gemini, ServiceContext(name="g", provider="gemini", settings=settings))
    request = ChatRequest(**{"messages": "hi", "model": "gemini-2.5-flash", **fields})
    return steps.translator.translate(request, stream=stream)


def body(**fields: Any) -> dict[str, Any]:
    from google.genai import types  # slow to import, so not while tests are collected

    made: dict[str, Any] = loads(translated(**fields).wire_request.body)
    for content in made["contents"]:
        types.Content.model_validate(content)
    for tool in made.get("tools", ()):
        types.Tool.model_validate(tool)
    if "toolConfig" in made:
        types.ToolConfig.model_validate(made["toolConfig"])
    types.GenerationConfig.model_validate(made.get("generationConfig", {}))
    return made


def test_where_a_request_goes() -> None:
    root = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash"
    assert translated().wire_request.url == f"{root}:generateContent"
    assert translated(stream=True).wire_request.url == f"{root}:streamGenerateContent?alt=sse"
    assert translated(model="tunedModels/a b").wire_request.url.endswith("/v1beta/tunedModels/a%20b:generateContent")


@pytest.mark.parametrize(
    ("pasted", "root"),
    [
        ("https://gate.example", "https://gate.example/v1beta"),
        ("https://gate.example/v1/", "https://gate.example/v1"),
        ("gate.example/gemini", "https://gate.example/gemini"),
        ("https://gate.example/v1beta/openai/", "https://gate.example/v1beta"),
        ("https://gate.example/v1/models/gemini-2.5-flash:generateContent", "https://gate.example/v1"),
        ("https://gate.example/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "https://gate.example/v1"),
    ],
)
def test_urls_are_taken_as_people_paste_them(pasted: str, root: str) -> None:
    assert translated(api_url=pasted).wire_request.url == f"{root}/models/gemini-2.5-flash:generateContent"


def test_a_conversation_with_tools_and_pictures() -> None:
    made = body(
        messages=[
            system("Be brief."),
            user("Weather?", Image(data=PNG), Document(url="https://x.example/a.pdf", media_type="application/pdf")),
            assistant("Let me look.", OSLO, ROME),
            tool_result(OSLO, "Rain."),
            tool_result(ROME, "timeout", is_error=True),
        ],
        tools=[WEATHER],
        tool_choice="weather",
    )
    assert made["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    question, calls, results = made["contents"]
    assert [next(iter(part)) for part in question["parts"]] == ["text", "inlineData", "fileData"]
    assert calls["role"] == "model"
    assert calls["parts"][1] == {"functionCall": {"id": "c0", "name": "weather", "args": {"city": "Oslo"}}}
    assert [part["functionResponse"]["response"] for part in results["parts"]] == [
        {"output": "Rain."},
        {"error": "timeout"},
    ]
    assert made["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}
    assert made["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == WEATHER.parameters


def test_signatures_go_back_where_they_came_from_and_to_nobody_else() -> None:
    signed = {"gemini": {"thoughtSignature": "c2lnbmVk"}}
    turn = assistant(
        Reasoning(text="hm", provider="gemini", family="gemini-3", signature="dGhvdWdodA=="),
        Text(text="", provider_metadata=signed),
        ToolCall(id="c0", name="weather", provider_metadata=signed),
        Opaque(provider="gemini", kind="executableCode", data={"executableCode": {"code": "1", "language": "PYTHON"}}),
        Opaque(provider="gemini", kind="codeExecutionResult", data={"codeExecutionResult": {"outcome": "OUTCOME_OK"}}),
        Reasoning(text="foreign", provider="elsewhere", signature="eA=="),
    )
    translation = translated(messages=[user("q"), turn], model="gemini-3-pro")
    parts = loads(translation.wire_request.body)["contents"][1]["parts"]
    assert parts == [
        {"text": "hm", "thought": True, "thoughtSignature": "dGhvdWdodA=="},
        {"text": "", "thoughtSignature": "c2lnbmVk"},
        {"functionCall": {"id": "c0", "name": "weather", "args": {}}, "thoughtSignature": "c2lnbmVk"},
        {"executableCode": {"code": "1", "language": "PYTHON"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
    ]
    assert [warning.subject for warning in translation.warnings] == ["reasoning", "tool result"]
    assert {warning.kind for warning in translation.warnings} == {"mended"}


def test_the_first_call_of_a_turn_from_elsewhere_gets_the_signature_that_stands_for_none() -> None:
    made = body(messages=[user("q"), assistant(OSLO, ROME)], model="gemini-3-flash")
    oslo, rome = made["contents"][1]["parts"]
    assert oslo["thoughtSignature"] == UNSIGNED
    assert "thoughtSignature" not in rome


@pytest.mark.parametrize(
    ("model", "options", "thinking", "subjects"),
    [
        ("gemini-2.5-pro", {"effort": "low"}, {"thinkingBudget": 2048}, ["reasoning.effort"]),
        ("gemini-2.5-pro", {"effort": "none"}, {"thinkingBudget": 128}, ["reasoning.effort"]),
        ("gemini-2.5-pro", {"max_tokens": 9}, {"thinkingBudget": 128}, ["reasoning.max_tokens"]),
        ("gemini-2.5-pro", {"max_tokens": 99999}, {"thinkingBudget": 32768}, ["reasoning.max_tokens"]),
        ("models/gemini-2.5-flash", {"effort": "none"}, {"thinkingBudget": 0}, []),
        ("gemini-2.5-flash", {"max_tokens": 9}, {"thinkingBudget": 9}, []),
        ("gemini-2.5-flash-lite", {"max_tokens": 9}, {"thinkingBudget": 512}, ["reasoning.max_tokens"]),
        ("gemini-2.5-flash-lite", {"effort": "none"}, {"thinkingBudget": 0}, []),
        ("gemini-3-pro-preview", {"effort": "low"}, {"thinkingLevel": "LOW"}, []),
        ("gemini-3-pro-preview", {"effort": "none"}, {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-3-pro-preview", {"effort": "minimal"}, {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-3-pro-preview", {"effort": "medium"}, {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-3-pro-preview", {"effort": "max"}, {"thinkingLevel": "HIGH"}, ["reasoning.effort"]),
        ("gemini-3.1-pro-preview", {"effort": "minimal"}, {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-3.1-pro-preview", {"effort": "medium"}, {"thinkingLevel": "MEDIUM"}, []),
        ("gemini-3.1-flash-image", {"effort": "low"}, {"thinkingLevel": "MINIMAL"}, ["reasoning.effort"]),
        ("gemini-3.1-flash-lite", {"effort": "minimal"}, {"thinkingLevel": "MINIMAL"}, []),
        ("gemini-3.1-flash-lite-image", {"effort": "medium"}, {"thinkingLevel": "HIGH"}, ["reasoning.effort"]),
        ("gemini-3-flash-preview", {"effort": "none"}, {"thinkingLevel": "MINIMAL"}, ["reasoning.effort"]),
        ("gemini-3.7-flash", {"effort": "minimal"}, {"thinkingLevel": "LOW"}, ["reasoning.effort"]),
        ("gemini-4-hydrogen", {"effort": "xhigh"}, {"thinkingLevel": "XHIGH"}, []),
        ("gemini-4-hydrogen", {"effort": "max"}, {"thinkingLevel": "XHIGH"}, ["reasoning.effort"]),
        ("gemini-4-argon", {"effort": "xhigh"}, {"thinkingLevel": "HIGH"}, ["reasoning.effort"]),
        ("gemini-flash-latest", {"effort": "high"}, {"thinkingLevel": "HIGH"}, []),
        ("gemini-3-pro", {"max_tokens": 9}, {"thinkingBudget": 9}, []),
    ],
)
def test_thinking(model: str, options: dict[str, Any], thinking: dict[str, Any], subjects: list[str]) -> None:
    reasoning = ReasoningOptions(**options)
    expected = {"includeThoughts": options.get("effort") != "none", **thinking}
    assert body(model=model, reasoning=reasoning)["generationConfig"]["thinkingConfig"] == expected
    warnings = translated(model=model, reasoning=reasoning).warnings
    assert [warning.subject for warning in warnings] == subjects


@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemini-2.5-flash-image", "gemma-3-27b-it"])
def test_no_thinking_configuration_is_sent_to_a_model_that_does_not_think(model: str) -> None:
    translation = translated(model=model, reasoning=ReasoningOptions(effort="low"))
    assert b"thinkingConfig" not in translation.wire_request.body
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == [("unsupported", "reasoning", True)]
    assert translated(model=model, reasoning=ReasoningOptions(effort="none")).warnings == ()


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemma-3-27b-it", "gemini-nano-banana-2.1"])
def test_unsupported_options_are_left_out_with_a_warning(model: str) -> None:
    search = Tool(name="search", provider_options={"gemini": {"type": "hosted", "googleSearch": {}}})
    fields: dict[str, Any] = {
        "model": model,
        "tools": [Tool(name="t", parameters={"type": "object"}), search],
        "tool_choice": "t",
        "response_format": ResponseFormat(type="json"),
    }
    made = body(**fields)
    assert made["tools"] == [{"googleSearch": {}}]
    assert not {"toolConfig", "generationConfig"} & made.keys()
    warnings = translated(**fields).warnings
    assert [one.subject for one in warnings if one.lossy] == ["response_format", "tools"]


def test_configuration_sets_the_facts_about_a_new_model() -> None:
    facts = {"gemini-9*": {"thinking_levels": ["minimal", "xhigh"], "sampling": True, "family": "gemini-9"}}
    fields: dict[str, Any] = {"model": "gemini-9-zinc", "facts": facts, "temperature": 0.5}
    made = body(reasoning=ReasoningOptions(effort="high"), **fields)["generationConfig"]
    assert made == {"temperature": 0.5, "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "XHIGH"}}
    assert translated(**fields).family == "gemini-9"
    assert translated(**{**fields, "facts": None}).family == "gemini-3"
    with pytest.raises(ConfigurationError, match="thinking_levels"):
        translated(**{**fields, "facts": {"gemini-9*": {"thinking_levels": ["much"]}}})


@pytest.mark.parametrize(
    ("model", "ignored"),
    [
        ("gemini-2.5-pro", []),
        ("tunedModels/mine", []),
        ("gemini-3-flash-preview", ["frequency_penalty"]),
        ("gemini-3.8-flash", ["temperature", "top_k", "frequency_penalty"]),
        ("gemini-5-neon", ["temperature", "top_k", "frequency_penalty"]),
    ],
)
def test_sampling_that_a_model_ignores_or_refuses_is_not_sent(model: str, ignored: list[str]) -> None:
    fields: dict[str, Any] = {"temperature": 0.5, "top_k": 3, "frequency_penalty": 0.1}
    translation = translated(model=model, **fields)
    assert [warning.subject for warning in translation.warnings if warning.lossy] == ignored
    assert len(loads(translation.wire_request.body).get("generationConfig", {})) == 3 - len(ignored)


def test_every_option_is_sent_or_gives_a_warning() -> None:
    fields: dict[str, Any] = {
        "max_output_tokens": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": list("abcdef"),
        "seed": 0,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "top_logprobs": 2,
        "response_format": ResponseFormat(schema={"type": "object"}),
        "user_id": "u",
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
    }
    assert body(**fields)["generationConfig"] == {
        "maxOutputTokens": 5,
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 3,
        "seed": 0,
        "frequencyPenalty": 0.1,
        "presencePenalty": 0.2,
        "stopSequences": list("abcde"),
        "responseLogprobs": True,
        "logprobs": 2,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    subjects = {warning.subject for warning in translated(**fields).warnings}
    assert subjects == {"stop", "user_id", "metadata", "parallel_tool_calls"}


def test_options_of_a_function_are_added_to_its_declaration() -> None:
    tool = Tool(name="t", provider_options={"gemini": {"behavior": "NON_BLOCKING"}})
    [declared] = body(tools=[tool])["tools"][0]["functionDeclarations"]
    schema = {"type": "object", "properties": {}}
    assert declared == {"name": "t", "parametersJsonSchema": schema, "behavior": "NON_BLOCKING"}


def test_hosted_tools_and_options_are_passed_on() -> None:
    search = Tool(name="search", provider_options={"gemini": {"type": "hosted", "googleSearch": {}}})
    options = {"gemini": {"generationConfig": {"candidateCount": 1}, "cachedContent": "cachedContents/1"}}
    made = body(tools=[search, WEATHER], provider_options=options, temperature=0.5)
    assert made["tools"][1] == {"googleSearch": {}}
    assert made["generationConfig"] == {"temperature": 0.5, "candidateCount": 1}
    assert made["cachedContent"] == "cachedContents/1"


# Schemas and names of tools

NESTED = {
    "$schema": "https://json-schema.org/draft-07/schema",
    "properties": {
        "size": {"$ref": "#/definitions/Size", "description": "How large."},
        "kind": {"const": "a"},
        "count": {"type": "integer", "exclusiveMinimum": 0, "description": "How many."},
        "single": {"allOf": [{"$ref": "#/definitions/Size"}]},
    },
    "definitions": {"Size": {"enum": ["s", "l"], "examples": ["s"]}},
}


def test_schemas_get_the_form_that_gemini_accepts() -> None:
    fields: dict[str, Any] = {"tools": [Tool(name="t", description="d", parameters=NESTED)]}
    [declared] = body(**fields)["tools"][0]["functionDeclarations"]
    assert declared["parametersJsonSchema"] == {
        "type": "object",
        "properties": {
            "size": {"anyOf": [{"$ref": "#/$defs/Size"}], "description": "How large."},
            "kind": {"enum": ["a"], "type": "string"},
            "count": {"type": "integer", "description": "How many. (exclusiveMinimum: 0)"},
            "single": {"anyOf": [{"$ref": "#/$defs/Size"}]},
        },
        "$defs": {"Size": {"enum": ["s", "l"], "description": '(examples: ["s"])'}},
    }
    warnings = translated(**fields).warnings
    assert {(one.kind, one.subject, one.lossy) for one in warnings} == {("changed", "tool t", False)}
    form = ResponseFormat(schema={"type": "array", "items": {"const": 1}, "uniqueItems": True})
    made = body(response_format=form)["generationConfig"]["responseJsonSchema"]
    assert made == {
        "type": "array",
        "items": {"enum": [1], "type": "number"},
        "description": "(uniqueItems: true)",
    }


def test_schema_that_gemini_accepts_is_sent_unchanged() -> None:
    schema = {
        "type": "object",
        "properties": {"const": {"type": "string", "default": {"not": 1}}, "if": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["const"],
        "additionalProperties": False,
    }
    [declared] = body(tools=[Tool(name="t", parameters=schema)])["tools"][0]["functionDeclarations"]
    assert declared["parametersJsonSchema"] == schema
    assert translated(tools=[Tool(name="t", parameters=schema)]).warnings == ()


def test_names_that_begin_with_a_digit_are_the_same_everywhere_in_a_request() -> None:
    call = ToolCall(id="c", name="2d_plot")
    made = body(
        messages=[user("q"), assistant(call), tool_result(call, "done")],
        tools=[Tool(name="2d_plot", parameters={"type": "object"})],
        tool_choice="2d_plot",
    )
    assert made["tools"][0]["functionDeclarations"][0]["name"] == "__2d_plot"
    assert made["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == ["__2d_plot"]
    assert made["contents"][1]["parts"][0]["functionCall"]["name"] == "__2d_plot"
    assert made["contents"][2]["parts"][0]["functionResponse"]["name"] == "__2d_plot"


# History


def turns(*messages: Message, **fields: Any) -> list[tuple[str, list[str]]]:
    """Return the roles and the kinds of data in their parts. A text is returned itself."""
    made = body(messages=list(messages), **fields)["contents"]
    return [
        (turn["role"], [part.get("text") or next(key for key in part if key != "text") for part in turn["parts"]])
        for turn in made
    ]


def test_turns_are_sent_in_an_order_that_gemini_accepts() -> None:
    assert turns(assistant("a"), assistant(OSLO), user("b"), tool_result(OSLO, "rain"), system("s"), user("c")) == [
        ("user", [OPENING]),
        ("model", ["a", "functionCall"]),
        ("user", ["functionResponse"]),
        ("user", ["b"]),
        ("user", ["c"]),
    ]
    assert turns(system("s")) == [("user", [OPENING])]
    assert turns(user(""), user("a")) == [("user", ["a"])]
    assert turns(user("a"), assistant("b"))[-1] == ("model", ["b"])
    assert turns(user("a"), assistant("b"), model="gemini-3.6-flash")[-1] == ("user", [GO_ON])


def test_each_call_has_one_result_and_each_id_is_used_once() -> None:
    again = attrs.evolve(ROME, id="c0")
    made = body(messages=[user("a"), assistant(OSLO, ROME), tool_result(ROME, "sun"), user("b"), assistant(again)])
    calls = [[part["functionCall"] for part in turn["parts"] if "functionCall" in part] for turn in made["contents"]]
    answers = [
        [part["functionResponse"] for part in turn["parts"] if "functionResponse" in part] for turn in made["contents"]
    ]
    assert [call["id"] for call in calls[1]] == [answer["id"] for answer in answers[2]] == ["c0", "c1"]
    assert [list(answer["response"]) for answer in answers[2]] == [["error"], ["output"]]
    assert [call["id"] for call in calls[4]] == [answer["id"] for answer in answers[5]] != ["c0"]


def test_parts_get_the_placeholder_signatures_that_image_models_require() -> None:
    own = Image(data=PNG, provider_metadata={"gemini": {"thoughtSignature": "c2lnbmVk"}}, family="gemini-3")
    foreign = Image(data=PNG)
    messages = [user("a"), assistant("b", own), user("c"), assistant("d", foreign), user("e")]
    made = body(messages=messages, model="gemini-3-pro-image")["contents"]
    assert [part.get("thoughtSignature") for part in made[1]["parts"]] == [None, "c2lnbmVk"]
    assert [part.get("thoughtSignature") for part in made[3]["parts"]] == [UNSIGNED, UNSIGNED]
    made = body(messages=messages, model="gemini-3-flash-preview")["contents"]
    assert [part.get("thoughtSignature") for part in made[3]["parts"]] == [None, UNSIGNED]
    made = body(messages=messages, model="gemini-2.5-flash-image")["contents"]
    assert all("thoughtSignature" not in part for turn in made for part in turn["parts"])


def test_signatures_of_another_generation_are_replaced() -> None:
    call = attrs.evolve(OSLO, provider_metadata={"gemini": {"thoughtSignature": "c2lnbmVk"}}, family="gemini-2.5")
    messages = [user("a"), assistant(call), tool_result(call, "rain")]
    for model, signature in (("gemini-2.5-pro", "c2lnbmVk"), ("gemini-3-pro", UNSIGNED)):
        [part] = body(messages=messages, model=model)["contents"][1]["parts"]
        assert part["thoughtSignature"] == signature


def test_fields_of_a_part_are_sent_back_with_the_part() -> None:
    metadata = {"gemini": {"partMetadata": {"a": 1}, "inlineData": {"displayName": "p.png"}}}
    image = Image(data=PNG, media_type="image/png", provider_metadata=metadata)
    [part] = body(messages=[user("a"), assistant(image), user("b")])["contents"][1]["parts"]
    assert part["partMetadata"] == {"a": 1}
    assert part["inlineData"] == {"mimeType": "image/png", "data": image.base64, "displayName": "p.png"}


def test_media_of_results_are_sent_where_the_model_can_read_them() -> None:
    result = tool_result(OSLO, [Text(text="map"), Image(data=PNG), Audio(data=b"ID3", media_type="audio/mpeg")])
    messages = [user("a"), assistant(OSLO), result]
    three = body(messages=messages, model="gemini-3-pro")["contents"]
    assert [list(part) for part in three[2]["parts"][0]["functionResponse"]["parts"]] == [["inlineData"]]
    assert [part["inlineData"]["mimeType"] for part in three[3]["parts"]] == ["audio/mpeg"]
    older = body(messages=messages, model="gemini-2.5-pro")["contents"]
    assert "parts" not in older[2]["parts"][0]["functionResponse"]
    assert [part["inlineData"]["mimeType"] for part in older[3]["parts"]] == ["image/png", "audio/mpeg"]


def test_system_message_becomes_the_first_user_message_without_system_instruction() -> None:
    made = body(messages=[system("Be brief."), user("a")], model="gemma-3-27b-it")
    assert "systemInstruction" not in made
    assert [part["text"] for turn in made["contents"] for part in turn["parts"]] == ["Be brief.", "a"]


def test_hosted_call_is_sent_back_only_with_its_result() -> None:
    def hosted(kind: str, **data: str) -> Opaque:
        return Opaque(provider="gemini", kind=kind, data={kind: data})

    code, result = hosted("executableCode", code="1", language="PYTHON"), hosted("codeExecutionResult", output="1")
    first, second = hosted("toolCall", id="a"), hosted("toolCall", id="b")
    answers = (hosted("toolResponse", id="b"), hosted("toolResponse", id="a"))
    for parts, expected in (
        ((code, result, "x"), ["executableCode", "codeExecutionResult", "x"]),
        ((result, "x", code), ["x"]),
        ((code, code, result, "x"), ["executableCode", "codeExecutionResult", "x"]),
        ((first, second, *answers, "x"), ["toolCall", "toolCall", "toolResponse", "toolResponse", "x"]),
        ((first, second, answers[0], "x"), ["toolCall", "toolResponse", "x"]),
    ):
        assert turns(user("a"), assistant(*parts), user("b"))[1] == ("model", expected)


def test_dimensions_are_sent_with_each_text() -> None:
    context = ServiceContext(name="g", provider="gemini", settings=GeminiSettings(api_key=Secret("k")))
    request = EmbedRequest(inputs=["a", "b"], model="gemini-embedding-001", dimensions=256)
    assert loads(build_embed(context, request).wire_request.body) == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 256,
            }
            for text in ("a", "b")
        ]
    }
