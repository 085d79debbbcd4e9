"""Requests as Gemini has them, each held to Google's own types, which refuse unknown fields."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import (
    ChatRequest,
    Document,
    Image,
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
from trunkline.secrets import Secret
from trunkline_gemini import GeminiSettings, gemini
from trunkline_gemini.history import UNSIGNED

WEATHER = Tool(name="weather", description="d", parameters={"type": "object", "properties": {}}, strict=True)
OSLO = ToolCall(id="c0", name="weather", arguments={"city": "Oslo"})
ROME = ToolCall(id="c1", name="weather", arguments={"city": "Rome"})
PNG = b"\x89PNG\r\n\x1a\n"


def translated(stream: bool = False, api_url: str | None = None, **fields: Any) -> Translation:
    settings = GeminiSettings(api_key=Secret("k"), **({"api_url": api_url} if api_url else {}))
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
        Reasoning(text="foreign", provider="elsewhere", signature="eA=="),
    )
    translation = translated(messages=[user("q"), turn], model="gemini-3-pro")
    parts = loads(translation.wire_request.body)["contents"][1]["parts"]
    assert parts == [
        {"text": "hm", "thought": True, "thoughtSignature": "dGhvdWdodA=="},
        {"text": "", "thoughtSignature": "c2lnbmVk"},
        {"functionCall": {"id": "c0", "name": "weather", "args": {}}, "thoughtSignature": "c2lnbmVk"},
        {"executableCode": {"code": "1", "language": "PYTHON"}},
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
        ("gemini-2.5-pro", {"effort": "low"}, {"includeThoughts": True, "thinkingBudget": 2048}, ["reasoning.effort"]),
        ("gemini-2.5-flash", {"effort": "none"}, {"includeThoughts": False, "thinkingBudget": 0}, []),
        ("gemini-2.5-flash", {"max_tokens": 9}, {"includeThoughts": True, "thinkingBudget": 9}, []),
        ("gemini-3-pro", {"effort": "low"}, {"includeThoughts": True, "thinkingLevel": "LOW"}, []),
        ("gemini-3-pro", {"effort": "max"}, {"includeThoughts": True, "thinkingLevel": "HIGH"}, ["reasoning.effort"]),
        ("gemini-flash-latest", {"effort": "high"}, {"includeThoughts": True, "thinkingLevel": "HIGH"}, []),
    ],
)
def test_thinking(model: str, options: dict[str, Any], thinking: dict[str, Any], subjects: list[str]) -> None:
    reasoning = ReasoningOptions(**options)
    assert body(model=model, reasoning=reasoning)["generationConfig"]["thinkingConfig"] == thinking
    warnings = translated(model=model, reasoning=reasoning).warnings
    assert [warning.subject for warning in warnings] == subjects


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


def test_hosted_tools_and_options_are_passed_on() -> None:
    search = Tool(name="search", provider_options={"gemini": {"type": "hosted", "googleSearch": {}}})
    options = {"gemini": {"generationConfig": {"candidateCount": 1}, "cachedContent": "cachedContents/1"}}
    made = body(tools=[search, WEATHER], provider_options=options, temperature=0.5)
    assert made["tools"][1] == {"googleSearch": {}}
    assert made["generationConfig"] == {"temperature": 0.5, "candidateCount": 1}
    assert made["cachedContent"] == "cachedContents/1"
