"""What each provider sends for `cache` and `cache_key`, judged by the providers' official clients."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import official_clients as clients
import pytest
from hypothesis import given, settings, strategies as st
from trunkline import (
    CallWarning,
    ChatRequest,
    Document,
    Image,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    assistant,
    system,
    tool_result,
    user,
)

_spec = importlib.util.spec_from_file_location("portability", Path(__file__).parents[1] / "docs" / "portability.py")
assert _spec is not None
assert _spec.loader is not None
portability = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(portability)

PNG = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")
PDF = Document(data=b"%PDF-1.7", media_type="application/pdf", name="a")
CALL = ToolCall(id="abcdefgh1", name="weather", arguments={"city": "Oslo"})
TOOL = Tool(name="weather", description="The weather.", parameters={"type": "object", "properties": {}})

BREAKPOINT = ("cache_control", "cachePoint", "prompt_cache_breakpoint")
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"

SERVICES: dict[str, tuple[str, str, Any]] = {
    "anthropic": ("anthropic", "claude-opus-5", clients.anthropic),
    "bedrock": ("bedrock", CLAUDE, clients.converse),
    "nova": ("bedrock", "us.amazon.nova-pro-v1:0", clients.converse),
    "llama": ("bedrock", "us.meta.llama3-3-70b-instruct-v1:0", clients.converse),
    "gpt-4.1": ("openai (chat)", "gpt-4.1", clients.openai_chat),
    "gpt-6": ("openai (chat)", "gpt-6", clients.openai_chat),
    "gpt-5.4, responses": ("openai (responses)", "gpt-5.4", clients.openai_responses),
    "gpt-6, responses": ("openai (responses)", "gpt-6", clients.openai_responses),
    "azure": ("azure-openai", "gpt-6", clients.openai_chat),
    "gemini": ("gemini", "gemini-2.5-flash", clients.gemini),
    "mistral": ("mistral", "mistral-medium-3-5", clients.mistral),
    "cohere": ("cohere", "command-a-plus-05-2026", clients.cohere),
    "ollama": ("ollama", "qwen3", clients.ollama),
}
"""A service of `docs/portability.py`, a model, and the official client."""


def sent(name: str, request: ChatRequest, *, stream: bool = True) -> tuple[dict[str, Any], tuple[CallWarning, ...]]:
    """Return the body that a service sends, and the warnings. The official client checks the body."""
    service, model, client = SERVICES[name]
    made = portability.translate(service, request, model=model, stream=stream)
    clients.check(made.wire_request, client)
    body: dict[str, Any] = json.loads(made.wire_request.body)
    return body, made.warnings


def breakpoints(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each breakpoint in a body."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in BREAKPOINT:
                yield path, inner
            else:
                yield from breakpoints(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from breakpoints(inner, f"{path}[{at}]")


CONVERSATION = [system("Be brief."), user("Weather?"), assistant(CALL), tool_result(CALL, "Rain."), user("And Rome?")]


def request(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(messages=messages or CONVERSATION, **{"tools": [TOOL], **fields})


USUAL, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
POINT, POINT_HOUR = {"type": "default"}, {"type": "default", "ttl": "1h"}
EXPLICIT = {"mode": "explicit"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("lifetime", ["auto", "5m", "1h"])
@pytest.mark.parametrize("name", SERVICES)
def test_official_clients_accept_a_cached_request_and_nothing_is_lossy(name: str, lifetime: Any, stream: bool) -> None:
    cached = Text(text="Long.", cache=lifetime)
    messages = [
        system(cached, "Be brief."),
        user(cached, attrs.evolve(PNG, cache=lifetime) if name not in ("llama", "gpt-4.1") else cached, "Weather?"),
        assistant(CALL),
        tool_result(CALL, [cached], cache=lifetime),
        user("And Rome?"),
    ]
    made = request(*messages, tools=[attrs.evolve(TOOL, cache=lifetime)], cache=lifetime, cache_key="conversation 7")
    _, warnings = sent(name, made, stream=stream)
    assert not [warning for warning in warnings if warning.lossy and warning.subject not in ("image", "system message")]


@pytest.mark.parametrize(
    ("name", "lifetime", "places"),
    [
        ("anthropic", "auto", {"": USUAL, "tools[0]": USUAL, "system[0]": USUAL}),
        ("anthropic", "5m", {"": USUAL, "tools[0]": USUAL, "system[0]": USUAL}),
        ("anthropic", "1h", {"": HOUR, "tools[0]": HOUR, "system[0]": HOUR}),
        ("bedrock", "auto", {"toolConfig.tools[1]": POINT, "system[1]": POINT, "messages[2].content[2]": POINT}),
        (
            "bedrock",
            "1h",
            {"toolConfig.tools[1]": POINT_HOUR, "system[1]": POINT_HOUR, "messages[2].content[2]": POINT_HOUR},
        ),
        ("nova", "auto", {"system[1]": POINT, "messages[2].content[2]": POINT}),
        ("nova", "1h", {"system[1]": POINT, "messages[2].content[2]": POINT}),
        ("llama", "auto", {}),
        ("gpt-4.1", "auto", {}),
        ("gpt-6", "auto", {"messages[0].content[0]": EXPLICIT}),
        ("gpt-5.4, responses", "auto", {}),
        ("gpt-6, responses", "auto", {"input[0].content[0]": EXPLICIT}),
        ("azure", "auto", {"messages[0].content[0]": EXPLICIT}),
        ("gemini", "auto", {}),
        ("mistral", "auto", {}),
    ],
)
def test_cache_of_a_request_puts_breakpoints_in_the_best_places(name: str, lifetime: Any, places: Any) -> None:
    body, _ = sent(name, request(cache=lifetime))
    assert dict(breakpoints(body)) == places


@pytest.mark.parametrize(
    ("name", "lifetime", "kinds"),
    [
        *[(name, "auto", []) for name in SERVICES if name != "llama"],
        *[(name, "5m", []) for name in SERVICES if name != "llama"],
        ("llama", "auto", ["unsupported"]),
        ("anthropic", "1h", []),
        ("bedrock", "1h", []),
        ("nova", "1h", ["mended"]),
        ("gpt-4.1", "1h", ["unsupported"]),
        ("gpt-6", "1h", ["changed"]),
        ("gpt-5.4, responses", "1h", ["changed"]),
        ("gpt-6, responses", "1h", ["changed"]),
        ("gemini", "1h", ["unsupported"]),
        ("mistral", "1h", ["unsupported"]),
        ("cohere", "1h", ["unsupported"]),
        ("ollama", "1h", ["unsupported"]),
    ],
)
def test_a_lifetime_that_a_provider_lacks_gives_one_warning(name: str, lifetime: Any, kinds: list[str]) -> None:
    _, warnings = sent(name, request(user("Hi"), tools=[], cache=lifetime))
    found = [warning for warning in warnings if warning.subject == "cache"]
    assert [warning.kind for warning in found] == kinds
    assert not any(warning.lossy for warning in found)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        (
            "anthropic",
            {
                "tools[0]": HOUR,
                "system[0]": HOUR,
                "messages[0].content[0]": USUAL,
                "messages[2].content[0]": USUAL,
            },
        ),
        (
            "bedrock",
            {
                "toolConfig.tools[1]": POINT_HOUR,
                "system[1]": POINT_HOUR,
                "messages[0].content[1]": POINT,
                "messages[2].content[1]": POINT,
            },
        ),
        (
            "gpt-6",
            {
                "messages[0].content[0]": EXPLICIT,
                "messages[1].content[0]": EXPLICIT,
                "messages[3].content[0]": EXPLICIT,
            },
        ),
        (
            "gpt-6, responses",
            {"input[0].content[0]": EXPLICIT, "input[1].content[0]": EXPLICIT, "input[3].output[0]": EXPLICIT},
        ),
        ("gpt-4.1", {}),
        ("gemini", {}),
    ],
)
def test_cache_of_parts_and_tools_puts_breakpoints_after_them(name: str, places: Any) -> None:
    made = request(
        system(Text(text="Be brief.", cache="1h")),
        user(Text(text="Weather?", cache="5m")),
        assistant(CALL),
        tool_result(CALL, "Rain.", cache="auto"),
        user("And Rome?"),
        tools=[attrs.evolve(TOOL, cache="1h")],
    )
    body, warnings = sent(name, made)
    assert dict(breakpoints(body)) == places
    assert "trunkline.cache" not in json.dumps(body)
    found = [(warning.kind, warning.lossy) for warning in warnings if warning.subject == "cache"]
    assert found == ([("mended", False)] if name.startswith("gpt-6") else [])


def test_a_breakpoint_inside_a_tool_result_moves_to_its_end() -> None:
    made = request(user("a"), assistant(CALL), tool_result(CALL, [Text(text="Rain.", cache="5m"), Text(text="Cold.")]))
    assert dict(breakpoints(sent("anthropic", made)[0])) == {"messages[2].content[0]": USUAL}
    assert dict(breakpoints(sent("bedrock", made)[0])) == {"messages[2].content[1]": POINT}


def test_requests_without_cache_have_no_breakpoints() -> None:
    for name in SERVICES:
        body, _ = sent(name, request())
        assert dict(breakpoints(body)) == {}


@pytest.mark.parametrize("name", ["anthropic", "bedrock"])
def test_of_too_many_breakpoints_four_are_sent(name: str) -> None:
    turns = [turn for at in range(6) for turn in (user(Text(text=f"q{at}", cache="auto")), assistant("a"))]
    made = request(system(Text(text="s", cache="1h")), *turns, user("q"), cache="5m")
    body, warnings = sent(name, made)
    found = dict(breakpoints(body))
    assert len(found) == 4
    assert [warning.count for warning in warnings if warning.subject == "cache"] == [4]


def test_servers_that_imitate_anthropic_get_no_field_of_the_body() -> None:
    made = portability.translate("anthropic", request(cache="auto"), settings={"api_url": "http://127.0.0.1:9"})
    body = json.loads(made.wire_request.body)
    assert dict(breakpoints(body)) == {
        "tools[0]": USUAL,
        "system[0]": USUAL,
        "messages[2].content[1]": USUAL,
    }


def test_breakpoints_of_provider_options_stay_and_count() -> None:
    own = {"anthropic": {"cache_control": USUAL}}
    texts = [Text(text=f"t{at}", provider_options=own) for at in range(3)]
    body, warnings = sent(
        "anthropic", request(user(*texts, Text(text="a", cache="auto"), Text(text="b", cache="auto")))
    )
    assert list(dict(breakpoints(body))) == [f"messages[0].content[{at}]" for at in (0, 1, 2, 4)]
    assert [warning.kind for warning in warnings] == ["mended"]
    body, _ = sent("anthropic", request(cache="1h", provider_options={"anthropic": {"cache_control": HOUR}}))
    assert dict(breakpoints(body)) == {"": HOUR, "tools[0]": HOUR, "system[0]": HOUR}
    point = {"bedrock": {"cachePoint": POINT}}
    body, _ = sent("bedrock", request(user(Text(text="a", cache="1h", provider_options=point)), cache="auto", tools=[]))
    assert dict(breakpoints(body)) == {"messages[0].content[1]": POINT}


def test_breakpoints_fit_in_with_the_lifetimes_of_provider_options() -> None:
    """Anthropic refuses five minutes before an hour."""
    late = system(Text(text="Be brief.", cache="5m"))
    options = {"anthropic": {"cache_control": HOUR}}
    body, _ = sent("anthropic", request(late, user("Hi"), tools=[], provider_options=options))
    assert dict(breakpoints(body)) == {"": HOUR, "system[0]": HOUR}
    tool = attrs.evolve(TOOL, provider_options={"anthropic": {"cache_control": USUAL}})
    body, warnings = sent("anthropic", request(user(Text(text="Hi", cache="1h")), tools=[tool], cache="1h"))
    assert dict(breakpoints(body)) == {"tools[0]": USUAL, "messages[0].content[0]": USUAL}
    assert [warning.kind for warning in warnings] == ["mended"]
    point = Text(text="a", provider_options={"bedrock": {"cachePoint": POINT_HOUR}})
    body, _ = sent("bedrock", request(late, user(point), tools=[]))
    assert dict(breakpoints(body))["system[1]"] == POINT_HOUR


def test_a_breakpoint_is_not_added_after_a_block_that_cannot_have_one() -> None:
    deferred = Tool(name="late", cache="auto", provider_options={"anthropic": {"defer_loading": True}})
    body, warnings = sent("anthropic", request(tools=[TOOL, deferred], cache="auto"))
    assert [place for place in dict(breakpoints(body)) if place.startswith("tools")] == ["tools[0]"]
    assert [(warning.subject, warning.lossy) for warning in warnings] == [("cache", False)]


def test_bedrock_gets_a_text_between_a_document_and_its_cache_point() -> None:
    made = request(user("Read.", attrs.evolve(PDF, cache="auto"), "Well?"), tools=[])
    body, warnings = sent("bedrock", made)
    assert [next(iter(block)) for block in body["messages"][0]["content"]] == [
        "text",
        "document",
        "text",
        "cachePoint",
        "text",
    ]
    assert [(warning.kind, warning.subject, warning.lossy) for warning in warnings] == [("emulated", "cache", False)]


def test_bedrock_gets_an_automatic_cache_point_before_documents_at_the_end() -> None:
    body, warnings = sent("bedrock", request(user("Read.", PDF), tools=[], cache="auto"))
    assert [next(iter(block)) for block in body["messages"][0]["content"]] == ["text", "cachePoint", "document"]
    assert warnings == ()


def test_nova_does_not_cache_tools() -> None:
    body, warnings = sent("nova", request(tools=[attrs.evolve(TOOL, cache="auto")]))
    assert dict(breakpoints(body)) == {}
    assert [(warning.subject, warning.lossy) for warning in warnings] == [("cache", False)]


def test_a_history_with_breakpoints_gives_a_model_that_does_not_cache_one_warning() -> None:
    made = request(*[user(Text(text=f"q{at}", cache="1h")) for at in range(5)], tools=[])
    _, warnings = sent("llama", made)
    assert [(warning.kind, warning.lossy, warning.count) for warning in warnings] == [("mended", False, 5)]


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("gpt-4.1", "prompt_cache_key"),
        ("gpt-6, responses", "prompt_cache_key"),
        ("azure", "prompt_cache_key"),
        ("mistral", "prompt_cache_key"),
        ("anthropic", None),
        ("bedrock", None),
        ("gemini", None),
    ],
)
def test_the_cache_key_is_sent_where_the_api_has_one(name: str, field: str | None) -> None:
    body, warnings = sent(name, request(user("Hi"), tools=[], cache_key="conversation 7"))
    assert [key for key, value in body.items() if value == "conversation 7"] == ([field] if field else [])
    expected = [] if field else [("unsupported", "cache_key", False)]
    assert [(warning.kind, warning.subject, warning.lossy) for warning in warnings] == expected


def test_mistral_gets_a_key_made_of_the_beginning_of_the_prompt() -> None:
    def key(*messages: Message) -> object:
        return sent("mistral", request(*messages, cache="auto"))[0]["prompt_cache_key"]

    assert key(system("a"), user("b")) == key(system("a"), user("c"), assistant("d"), user("e"))
    assert key(system("a"), user("b")) != key(system("z"), user("b"))
    assert key(user("b")) == key(user("b"), assistant("c"), user("d")) != key(user("c"))


def test_a_long_cache_key_is_sent_as_its_hash() -> None:
    keys = [sent("gpt-6, responses", request(cache_key="k" * length))[0]["prompt_cache_key"] for length in (64, 65, 66)]
    assert [len(key) for key in keys] == [64, 64, 64]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("model", "sent_as"), [("gpt-5.4", "24h"), ("gpt-5.1-codex", "24h"), ("gpt-4.1", None), ("gpt-5.4-mini", None)]
)
def test_retention_is_sent_only_to_models_that_have_it(model: str, sent_as: str | None) -> None:
    for service in ("openai (chat)", "openai (responses)", "azure-openai"):
        made = portability.translate(service, request(cache="1h"), model=model)
        assert json.loads(made.wire_request.body).get("prompt_cache_retention") == sent_as


@pytest.mark.parametrize("model", ["our-deployment", "Kimi-K2.5", "DeepSeek-V4"])
def test_azure_sends_no_cache_key_to_models_that_refuse_it(model: str) -> None:
    made = portability.translate("azure-openai", request(cache_key="k", cache="1h"), model=model)
    body = json.loads(made.wire_request.body)
    assert not {"prompt_cache_key", "prompt_cache_retention"} & body.keys()


@pytest.mark.parametrize(
    ("service", "model", "client"),
    [
        ("anthropic", "claude-opus-5", clients.anthropic_count),
        ("openai (responses)", "gpt-6", clients.openai_count),
        ("bedrock", CLAUDE, clients.converse),
    ],
)
def test_tokens_of_a_cached_request_can_be_counted(service: str, model: str, client: Any) -> None:
    cached = [Text(text="a", cache="1h")]
    made = request(system(*cached), user(*cached), tools=[attrs.evolve(TOOL, cache="1h")], cache="1h", cache_key="k")
    clients.check(portability.count(service, attrs.evolve(made, model=model)), client)


@pytest.mark.parametrize(
    "options",
    [
        {"messages": "x"},
        {"messages": []},
        {"messages": [{"role": "user"}, "x", {"role": "user", "content": [1, "x"]}]},
        {"system": [], "tools": "x", "toolConfig": {"tools": 5}},
        {"system": 5, "tools": {}, "toolConfig": []},
        {"cache_control": None},
        {"input": 5},
    ],
)
@pytest.mark.parametrize("lifetime", [None, "auto"])
@pytest.mark.parametrize("name", ["anthropic", "bedrock", "gpt-6", "gpt-6, responses", "mistral"])
def test_any_provider_options_can_replace_what_is_cached(name: str, lifetime: Any, options: Any) -> None:
    service, model, _ = SERVICES[name]
    provider = portability.SERVICES[service][0]
    made = request(system(Text(text="a", cache="1h")), user("b"), cache=lifetime, provider_options={provider: options})
    body = json.loads(portability.translate(service, made, model=model).wire_request.body)
    assert "trunkline.cache" not in json.dumps(body)


@pytest.mark.parametrize(("key", "sent_as"), [("conversation 7", "conversation 7"), ("ü", None), ("a\nb", None)])
def test_xai_gets_the_cache_key_as_a_header(key: str, sent_as: str | None) -> None:
    settings = {"api_url": "https://api.x.ai/v1"}
    made = portability.translate("openai-compatible", request(cache_key=key), model="grok-4", settings=settings)
    header = made.wire_request.headers["x-grok-conv-id"]
    assert (header == sent_as) if sent_as is not None else (len(header) == 64 and header.isascii())
    assert "prompt_cache_key" not in json.loads(made.wire_request.body)
    assert not [warning for warning in made.warnings if warning.subject == "cache_key"]


@pytest.mark.parametrize("host", ["api.fireworks.ai", "api.moonshot.ai", "api.openai.com"])
def test_compatible_servers_with_a_cache_key_get_it(host: str) -> None:
    settings = {"api_url": f"https://{host}"}
    made = portability.translate("openai-compatible", request(cache_key="k"), model="m", settings=settings)
    assert json.loads(made.wire_request.body)["prompt_cache_key"] == "k"


def test_openrouter_gets_cache_control_on_parts() -> None:
    settings = {"api_url": "https://openrouter.ai/api/v1"}
    made = portability.translate(
        "openai-compatible", request(cache="auto"), model="anthropic/claude-opus-5", settings=settings
    )
    body = json.loads(made.wire_request.body)
    assert dict(breakpoints(body)) == {"messages[0].content[0]": USUAL, "messages[4].content[0]": USUAL}
    turns = [user(Text(text=f"q{at}", cache="1h")) for at in range(6)]
    made = portability.translate("openai-compatible", request(*turns), model="m", settings=settings)
    assert len(dict(breakpoints(json.loads(made.wire_request.body)))) == 4


def test_a_server_of_unknown_kind_gets_no_field_for_caching() -> None:
    made = portability.translate("openai-compatible", request(cache="1h", cache_key="k"), model="openai/gpt-6")
    body = json.loads(made.wire_request.body)
    assert not [name for name in body if "cache" in name]
    assert dict(breakpoints(body)) == {}
    assert {warning.subject: warning.lossy for warning in made.warnings} == {"cache": False, "cache_key": False}


def test_instructions_stay_instructions_when_a_stored_response_is_continued() -> None:
    options = {"openai": {"previous_response_id": "resp_1", "store": True}}
    body, _ = sent("gpt-6, responses", request(system("Be brief."), user("Hi"), cache="auto", provider_options=options))
    assert body["instructions"] == "Be brief."


LIFETIMES = st.sampled_from([None, None, "auto", "5m", "1h"])


@st.composite
def cached_requests(draw: st.DrawFn) -> ChatRequest:
    """A conversation with breakpoints in any places."""

    def part() -> Text | Image | Document:
        kind = draw(st.sampled_from([Text(text="a"), Text(text="b"), PNG, PDF]))
        return attrs.evolve(kind, cache=draw(LIFETIMES))

    messages = [system(*(Text(text="s", cache=draw(LIFETIMES)) for _ in range(draw(st.integers(1, 2)))))]
    for at in range(draw(st.integers(1, 4))):
        call = ToolCall(id=f"call_{at}", name="weather")
        messages += [user(*(part() for _ in range(draw(st.integers(1, 3))))), assistant("c", call)]
        messages.append(tool_result(call, [Text(text="d", cache=draw(LIFETIMES))], cache=draw(LIFETIMES)))
    messages.append(user(*(part() for _ in range(draw(st.integers(0, 2)))), "e"))
    tools = [Tool(name=name, cache=draw(LIFETIMES)) for name in ("weather", "climate")[: draw(st.integers(1, 2))]]
    return ChatRequest(messages=messages, tools=tools, cache=draw(LIFETIMES))


def without_caching(made: ChatRequest) -> ChatRequest:
    def part(one: Any) -> Any:
        one = attrs.evolve(one, parts=[part(inner) for inner in one.parts]) if isinstance(one, ToolResult) else one
        return attrs.evolve(one, cache=None) if hasattr(one, "cache") else one

    messages = [attrs.evolve(message, parts=[part(one) for one in message.parts]) for message in made.messages]
    return attrs.evolve(
        made, messages=messages, tools=[attrs.evolve(tool, cache=None) for tool in made.tools], cache=None
    )


def plain(value: Any) -> Any:
    """Return a body without breakpoints, and with a string where it has a single text."""
    if isinstance(value, list):
        items = [plain(item) for item in value if not (isinstance(item, dict) and item.keys() == {"cachePoint"})]
        items = [item for item in items if not str(item).startswith("{'text': 'See the document")]
        texts = len(items) == 1 and isinstance(items[0], dict) and items[0].keys() == {"type", "text"}
        return items[0]["text"] if texts else items
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in BREAKPOINT}
    return value


def in_order(body: dict[str, Any]) -> list[str]:
    """Return the lifetimes of the breakpoints in the order in which the API reads them."""
    sections = [body.get("tools") or body.get("toolConfig"), body.get("system"), body.get("messages")]
    found = [point for section in sections for _, point in breakpoints(section)]
    found += [body["cache_control"]] if "cache_control" in body else []
    return [point.get("ttl", "5m") for point in found]


@settings(max_examples=100, deadline=None)
@given(made=cached_requests(), name=st.sampled_from(["anthropic", "bedrock", "nova"]))
def test_breakpoints_are_few_and_in_order_and_change_nothing_else(made: ChatRequest, name: str) -> None:
    service, model, _ = SERVICES[name]
    body = json.loads(portability.translate(service, made, model=model).wire_request.body)
    bare = json.loads(portability.translate(service, without_caching(made), model=model).wire_request.body)
    assert plain(body) == plain(bare)
    lifetimes = in_order(body)
    assert len(lifetimes) <= 4
    assert lifetimes == sorted(lifetimes), "a breakpoint of an hour follows one of 5 minutes"
    for message in body["messages"]:
        kinds = [next(iter(block)) for block in message["content"]] if service == "bedrock" else []
        assert ("document", "cachePoint") not in pairwise(kinds)
