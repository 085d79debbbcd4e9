"""Requests as Ollama has them, each held to the types of Ollama's own client."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import (
    Audio,
    ChatRequest,
    ConfigurationError,
    Document,
    EmbedRequest,
    Image,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Tool,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.wire import WireResponse
from trunkline_ollama.operations import build_embed, parse_model_info, parse_models
from trunkline_ollama.urls import base_url

WEATHER = Tool(name="weather", description="d", parameters={"type": "object", "properties": {}})
NEWS = Tool(name="news")
OSLO = ToolCall(id="c0", name="weather", arguments={"city": "Oslo"})
ROME = ToolCall(id="c1", name="weather", arguments={"city": "Rome"})
PNG = b"\x89PNG\r\n\x1a\n"
BASE64 = "iVBORw0KGgo="


def context(environ: dict[str, str] | None = None, **arguments: object) -> ServiceContext[Any]:
    settings = make_settings("o", load_provider("ollama"), arguments=arguments, environ=environ or {})
    return ServiceContext(name="o", provider="ollama", settings=settings)


def steps(environ: dict[str, str] | None = None, **arguments: object) -> Steps:
    return open_steps(load_provider("ollama"), context(environ, **arguments))


def translated(settings: dict[str, object] | None = None, *, stream: bool = False, **fields: Any) -> Translation:
    request = ChatRequest(**{"messages": "hi", "model": "qwen3", **fields})
    return steps(**(settings or {})).translator.translate(request, stream=stream)


def body(settings: dict[str, object] | None = None, **fields: Any) -> dict[str, Any]:
    import ollama  # slow to import, so not while tests are collected

    made: dict[str, Any] = loads(translated(settings, **fields).wire_request.body)
    for message in made["messages"]:
        # The client's type of a message knows no ids, and makes base64 of pictures itself.
        known = {name: value for name, value in message.items() if name in ollama.Message.model_fields}
        assert message.keys() - known.keys() <= {"tool_call_id"}
        pictures = [{"value": base64} for base64 in known.get("images", ())]
        ollama.Message.model_validate({**known, "images": pictures})
    ollama.Options(**made.get("options", {}))
    return made


def subjects(**fields: Any) -> list[str]:
    return [warning.subject for warning in translated(**fields).warnings]


@pytest.mark.parametrize(
    ("set_to", "root"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0:11434", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:11434", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("localhost", "http://localhost:11434"),
        ("gpu.lan", "http://gpu.lan:11434"),
        ("gpu.example.com", "http://gpu.example.com:11434"),
        ("192.168.1.5:80/", "http://192.168.1.5:80"),
        ("http://gpu.example.com", "http://gpu.example.com"),
        ("https://gpu.example.com/ollama/", "https://gpu.example.com/ollama"),
        ("http://localhost:11434/api", "http://localhost:11434"),
        ("http://localhost:11434/api/chat", "http://localhost:11434"),
        ("localhost:11434/v1", "http://localhost:11434"),
        ("http://localhost:11434/v1/chat/completions", "http://localhost:11434"),
        ("ollama.com", "https://ollama.com"),
        ("https://ollama.com", "https://ollama.com"),
    ],
)
def test_hosts_are_taken_as_people_set_them(set_to: str, root: str) -> None:
    opened = steps({"OLLAMA_HOST": set_to} if set_to else {})
    url = opened.translator.translate(ChatRequest(messages="hi", model="m"), stream=True).wire_request.url
    assert url == f"{root}/api/chat"


@pytest.mark.parametrize("pasted", ["http://localhost:11434/api/chat", "localhost:11434/v1"])
def test_removing_a_path_gives_a_note(pasted: str) -> None:
    assert base_url(pasted)[1]


@pytest.mark.parametrize("pasted", ["localhost:eleven", "ftp://localhost", "a host", "http://"])
def test_what_is_no_host_names_the_setting(pasted: str) -> None:
    with pytest.raises(ConfigurationError, match="api_url"):
        context(api_url=pasted)


def test_a_key_is_optional() -> None:
    assert type(steps().auth) is NoAuth
    request = translated().wire_request
    signed = steps({"OLLAMA_API_KEY": "k"}).auth.sign(request, None)
    assert signed.headers["authorization"] == "Bearer k"
    assert type(steps(api_key="k", headers={"Authorization": "Basic eA=="}).auth) is NoAuth


def test_what_the_server_would_assume_is_always_said() -> None:
    for stream in (True, False):
        made = body(stream=stream)
        assert made == {
            "model": "qwen3",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": stream,
            "truncate": False,
            "shift": False,
        }
    made = body({"truncate": True})
    assert (made["truncate"], made["shift"]) == (True, True)


@pytest.mark.parametrize(
    ("keep_alive", "sent"), [("5m", "5m"), ("1h30m", "1h30m"), ("0", 0), (-1, -1), ("300", 300), (300, 300)]
)
def test_a_model_s_settings(keep_alive: object, sent: object) -> None:
    made = body({"context_length": 8192, "keep_alive": keep_alive}, temperature=0.5)
    assert made["options"] == {"num_ctx": 8192, "temperature": 0.5}
    assert made["keep_alive"] == sent


@pytest.mark.parametrize("wrong", ["5 minutes", True, 1.5])
def test_a_wrong_keep_alive_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="keep_alive"):
        context(keep_alive=wrong)


def test_a_conversation_with_tools_and_pictures() -> None:
    made = body(
        messages=[
            system("Be brief."),
            user("Weather?", Image(data=PNG)),
            assistant(Reasoning(text="hm", provider="ollama"), "Let me look.", OSLO, ROME),
            tool_result(ROME, "timeout", is_error=True),
            tool_result(OSLO, [Image(data=PNG)]),
        ],
        tools=[WEATHER, NEWS],
    )
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    result = {"role": "tool", "tool_name": "weather"}
    assert made["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "images": [BASE64]},
        {
            "role": "assistant",
            "content": "Let me look.",
            "thinking": "hm",
            "tool_calls": [
                {"id": "c0", **call},
                {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
            ],
        },
        {**result, "content": "", "tool_call_id": "c0", "images": [BASE64]},
        {**result, "content": "Error: timeout", "tool_call_id": "c1"},
    ]
    assert made["tools"] == [
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": WEATHER.parameters}},
        {"type": "function", "function": {"name": "news", "parameters": NEWS.parameters}},
    ]
    import ollama

    for tool in made["tools"]:
        ollama.Tool.model_validate(tool)


def test_unsupported_parts_are_left_out_with_a_warning() -> None:
    turn = user(
        "q",
        Image(url="https://x.example/a.png"),
        Document(data=b"%PDF-1.7"),
        Audio(data=b"ID3"),
        Reasoning(text="foreign", provider="elsewhere", signature="eA=="),
        Opaque(provider="elsewhere", kind="web_search", data={}),
    )
    assert body(messages=turn)["messages"] == [{"role": "user", "content": "q"}]
    found = translated(messages=turn).warnings
    assert [warning.subject for warning in found] == ["reasoning", "opaque part", "image", "document", "audio"]
    assert {warning.kind for warning in found} == {"left_out"}


@pytest.mark.parametrize(
    ("model", "options", "think", "expected"),
    [
        ("qwen3", {}, True, []),
        ("qwen3", {"effort": "none"}, False, []),
        ("new", {"effort": "high"}, "high", []),
        ("new", {"effort": "max"}, "max", []),
        ("new", {"effort": "minimal"}, "low", ["reasoning.effort"]),
        ("new", {"effort": "xhigh"}, "high", ["reasoning.effort"]),
        ("qwen3:4b", {"effort": "low"}, True, ["reasoning.effort"]),
        ("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", {"effort": "low"}, True, ["reasoning.effort"]),
        ("gpt-oss:20b", {"effort": "none"}, "low", ["reasoning.effort"]),
        ("gpt-oss:20b", {"effort": "max"}, "high", ["reasoning.effort"]),
        ("gpt-oss:120b-cloud", {"effort": "medium"}, "medium", []),
        ("qwen3", {"max_tokens": 9}, True, ["reasoning.max_tokens"]),
        ("qwen3", {"summary": "auto"}, True, ["reasoning.summary"]),
    ],
)
def test_thinking(model: str, options: dict[str, Any], think: object, expected: list[str]) -> None:
    fields = {"model": model, "reasoning": ReasoningOptions(**options)}
    assert body(**fields)["think"] == think
    assert subjects(**fields) == expected


@pytest.mark.parametrize(
    ("model", "effort", "lossy"),
    [("llama3.1:8b", "high", [True]), ("qwen3-coder:30b", None, []), ("gemma3:1b", "none", [])],
)
def test_no_thinking_is_requested_from_a_model_that_cannot_think(model: str, effort: Any, lossy: list[bool]) -> None:
    fields = {"model": model, "reasoning": ReasoningOptions(effort=effort)}
    assert "think" not in body(**fields)
    assert [warning.lossy for warning in translated(**fields).warnings] == lossy


def test_no_tools_are_sent_to_a_model_that_cannot_call_tools() -> None:
    assert "tools" not in body(model="gemma3:4b", tools=[WEATHER])
    assert [(one.subject, one.lossy) for one in translated(model="gemma3:4b", tools=[WEATHER]).warnings] == [
        ("tools", True)
    ]


def test_configuration_overrides_the_facts_about_a_model() -> None:
    facts = {"gemma3*": {"tools": True}, "qwen3:*": {"thinking_levels": ["low", "high"]}}
    assert body({"model_facts": facts}, model="gemma3:4b", tools=[WEATHER])["tools"]
    made = body({"model_facts": facts}, model="qwen3:4b", reasoning=ReasoningOptions(effort="max"))
    assert made["think"] == "high"
    with pytest.raises(ConfigurationError, match="model_facts"):
        context(model_facts={"gemma3*": {"tool": True}})


def test_schemas_that_the_server_cannot_decode_are_changed() -> None:
    schema: Any = {"properties": {"a": True, "b": {"type": "object", "properties": {"c": False}}}}
    [tool] = body(tools=[Tool(name="t", parameters=schema)])["tools"]
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {"a": {}, "b": {"type": "object", "properties": {"c": {"not": {}}}}},
    }
    assert subjects(tools=[Tool(name="t", parameters=schema)]) == ["tool t"]


# History


def mended(messages: list[Any], **fields: Any) -> tuple[list[Any], set[tuple[str, str, bool]]]:
    translation = translated(messages=messages, **fields)
    warned = {(one.kind, one.subject, one.lossy) for one in translation.warnings}
    return body(messages=messages, **fields)["messages"], warned


def test_thinking_is_sent_back_only_to_the_family_that_made_it() -> None:
    answer = assistant(Reasoning(text="hm", provider="ollama", family="qwen3"), "Yes.")
    for model in ("qwen3:4b", "library/qwen3:latest"):
        sent, warned = mended([user("q"), answer, user("r")], model=model)
        assert (sent[1]["thinking"], warned) == ("hm", set())
    sent, warned = mended([user("q"), answer, user("r")], model="gpt-oss:20b")
    assert sent[1] == {"role": "assistant", "content": "Yes."}
    assert warned == {("mended", "reasoning", False)}
    assert translated(model="qwen3:4b").family == "qwen3"


def test_invalid_calls_in_the_history_are_changed() -> None:
    broken = ToolCall(id="c0", name="weather", invalid_arguments="{")
    again = ToolCall(id="c0", name="weather", provider_metadata={"ollama": {"confidence": 1}})
    sent, warned = mended([user("q"), assistant(broken), tool_result(broken, "no JSON"), assistant(again)])
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == {"invalid_arguments": "{"}
    assert sent[3]["tool_calls"][0]["confidence"] == 1
    assert sent[3]["tool_calls"][0]["id"] == sent[4]["tool_call_id"] != "c0"
    assert warned == {
        ("mended", "tool call", False),
        ("mended", "tool call id", False),
        ("mended", "tool result", False),
        ("changed", "tool result", False),
    }


def test_images_made_by_a_model_move_to_the_next_user_message() -> None:
    sent, warned = mended([user("draw"), assistant("Here:", Image(data=PNG)), user("larger")])
    assert sent[1] == {"role": "assistant", "content": "Here:"}
    assert sent[2]["images"] == [BASE64]
    assert warned == {("mended", "image", False)}


@pytest.mark.parametrize(
    ("choice", "sent", "expected"),
    [
        ("auto", ["weather", "news"], []),
        ("none", [], []),
        ("required", ["weather", "news"], ["tool_choice"]),
        ("news", ["news"], ["tool_choice"]),
    ],
)
def test_tool_choices(choice: str, sent: list[str], expected: list[str]) -> None:
    fields = {"tools": [WEATHER, NEWS], "tool_choice": choice}
    assert [tool["function"]["name"] for tool in body(**fields).get("tools", ())] == sent
    assert subjects(**fields) == expected


def test_every_option_is_sent_or_gives_a_warning() -> None:
    fields: dict[str, Any] = {
        "max_output_tokens": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["a", "b"],
        "seed": 0,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "top_logprobs": 2,
        "response_format": ResponseFormat(schema={"type": "object"}),
        "user_id": "u",
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tools": [Tool(name="t", strict=True)],
    }
    made = body(**fields)
    assert made["options"] == {
        "num_predict": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 0,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "stop": ["a", "b"],
    }
    assert (made["logprobs"], made["top_logprobs"], made["format"]) == (True, 2, {"type": "object"})
    assert set(subjects(**fields)) == {"user_id", "metadata", "parallel_tool_calls", "strict"}
    assert body(response_format=ResponseFormat(type="json"))["format"] == "json"


def test_options_of_one_s_own_are_merged_last() -> None:
    own = {"ollama": {"options": {"num_ctx": 1, "mirostat": 2}, "keep_alive": 0, "x": 1}}
    made = body({"context_length": 8192, "keep_alive": "5m"}, provider_options=own, seed=7)
    assert made["options"] == {"num_ctx": 1, "seed": 7, "mirostat": 2}
    assert (made["keep_alive"], made["x"]) == (0, 1)


def test_embedding() -> None:
    request = EmbedRequest(inputs=["a", "b"], model="nomic-embed-text", dimensions=64, user_id="u")
    translation = build_embed(context(keep_alive="5m"), request)
    made = loads(translation.wire_request.body)
    assert made == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 64,
        "keep_alive": "5m",
    }
    assert translation.wire_request.url.endswith("/api/embed")
    assert [warning.subject for warning in translation.warnings] == ["user_id"]


@pytest.mark.parametrize(
    ("setting", "parameters", "window"),
    [
        (None, None, 131072),
        (None, 'stop    "<|eot_id|>"\nnum_ctx    8192', 8192),
        (4096, "num_ctx 8192", 4096),
        (1_000_000, "num_ctx 8192", 131072),
    ],
)
def test_context_window_is_what_the_model_runs_with(setting: int | None, parameters: str | None, window: int) -> None:
    shown = {
        "parameters": parameters,
        "model_info": {
            "general.architecture": "llama",
            "llama.context_length": 131072,
            "llama.vision.context_length": 64,
            "llama.block_count": 28,
        },
        "capabilities": ["completion", "tools", "insert"],
    }
    info = parse_model_info(context(context_length=setting), WireResponse(status=200, body=dumps(shown)))
    assert (info.context_window, info.capabilities) == (window, {"chat", "tools"})


@pytest.mark.parametrize("shown", [{}, {"model_info": {"llama.context_length": "8"}, "parameters": 5}])
def test_context_window_that_the_server_does_not_tell_is_none(shown: dict[str, Any]) -> None:
    info = parse_model_info(context(), WireResponse(status=200, body=dumps(shown)))
    assert (info.context_window, info.capabilities) == (None, frozenset())


def test_models() -> None:
    models = b'{"models":[{"name":"qwen3:4b","model":"qwen3:4b","size":1},{"name":"old"},{},7]}'
    found, cursor = parse_models(context(), WireResponse(status=200, body=models))
    assert ([model.id for model in found], cursor) == (["qwen3:4b", "old"], None)
