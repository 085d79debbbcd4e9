"""Translate the same conversations for every provider, and collect the warnings.

`docs/generate.py` writes the table of `portability.md` from this module.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
from trunkline import (
    ChatRequest,
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
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import load_provider, open_steps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.wire import WireRequest

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 16
PDF = b"%PDF-1.7\n%%EOF\n"

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool(name="weather", description="The weather in a city.", parameters=SCHEMA)
OSLO = ToolCall(id="call_oslo_1", name="weather", arguments={"city": "Oslo"})
ROME = ToolCall(id="call_rome_2", name="weather", arguments={"city": "Rome"})
ANSWER = ResponseFormat(schema=SCHEMA, name="place")

ELSEWHERE = assistant(
    Reasoning(text="The user wants the weather.", provider="elsewhere", signature="c2lnbmVk"),
    Opaque(provider="elsewhere", kind="web_search", data={"query": "weather"}),
    OSLO,
    attrs.evolve(
        ROME, id="an id that / is not (everywhere) valid, and far too long for most of the providers there are"
    ),
)


def _results(turn: Message) -> tuple[Message, ...]:
    oslo, rome = turn.tool_calls
    return tool_result(oslo, "Rain."), tool_result(rome, "timeout", is_error=True)


CONVERSATIONS: dict[str, ChatRequest] = {
    "text": ChatRequest(messages=[system("Be brief."), user("Hello"), assistant("Hello!"), user("Who are you?")]),
    "sampling": ChatRequest(
        messages="Hello",
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        seed=7,
        stop=["END"],
        frequency_penalty=0.1,
        presence_penalty=0.1,
        top_logprobs=2,
    ),
    "image (bytes)": ChatRequest(messages=user("What is this?", Image(data=PNG))),
    "image (URL)": ChatRequest(messages=user("What is this?", Image(url="https://example.com/a.png"))),
    "document (PDF)": ChatRequest(messages=user("Sum it up.", Document(data=PDF, name="report.pdf"))),
    "tools, one forced": ChatRequest(
        messages="Weather in Oslo?", tools=[WEATHER], tool_choice="weather", parallel_tool_calls=False
    ),
    "parallel tools, one failing": ChatRequest(
        messages=[
            user("Weather in Oslo and Rome?"),
            assistant("Let me look.", OSLO, ROME),
            *_results(assistant(OSLO, ROME)),
        ],
        tools=[WEATHER],
    ),
    "tool result with an image": ChatRequest(
        messages=[user("Show Oslo"), assistant(OSLO), tool_result(OSLO, [Text(text="Here:"), Image(data=PNG)])],
        tools=[WEATHER],
    ),
    "structured output": ChatRequest(messages="Where is the Colosseum?", response_format=ANSWER),
    "reasoning": ChatRequest(messages="Think hard.", reasoning=ReasoningOptions(effort="high")),
    "a history from elsewhere": ChatRequest(
        messages=[user("Weather in Oslo and Rome?"), ELSEWHERE, *_results(ELSEWHERE), assistant(""), user("Thanks")],
        tools=[WEATHER],
    ),
    "prompt caching": ChatRequest(
        messages=[system("Be brief."), user(Text(text="A long document.", cache="1h"), "Sum it up.")],
        tools=[WEATHER],
        cache="auto",
        cache_key="conversation 7",
    ),
    "user id and metadata": ChatRequest(messages="Hello", user_id="u-1", metadata={"team": "blue"}),
}

SERVICES: dict[str, tuple[str, dict[str, object]]] = {
    "openai (chat)": ("openai", {"api_key": "k", "default_model": "gpt-4.1", "send_user_id": True}),
    "openai (responses)": (
        "openai",
        {"api_key": "k", "api": "responses", "default_model": "gpt-5.4", "send_user_id": True},
    ),
    "openai-compatible": ("openai-compatible", {"api_url": "http://127.0.0.1:8080", "default_model": "m"}),
    "anthropic": ("anthropic", {"api_key": "k", "default_model": "claude-opus-5", "send_user_id": True}),
    "bedrock": (
        "bedrock",
        {"aws_region": "us-east-1", "api_key": "k", "default_model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0"},
    ),
    "cohere": ("cohere", {"api_key": "k", "default_model": "command-a-plus-05-2026"}),
    "gemini": ("gemini", {"api_key": "k", "default_model": "gemini-2.5-flash"}),
    "vertex": ("vertex", {"api_key": "k", "default_model": "gemini-2.5-flash"}),
    "mistral": ("mistral", {"api_key": "k", "default_model": "mistral-medium-3-5"}),
    "azure-openai": (
        "azure-openai",
        {"api_url": "https://example.openai.azure.com", "api_key": "k", "default_model": "gpt-4.1"},
    ),
    "llamacpp": ("llamacpp", {}),
    "ollama": ("ollama", {"default_model": "qwen3"}),
}
"""The services of the table: a provider and its settings."""


def translate(
    service: str,
    request: ChatRequest,
    *,
    model: str | None = None,
    stream: bool = True,
    settings: Mapping[str, object] | None = None,
) -> Translation:
    """Return the request that a service would send, with its warnings. Does no I/O.

    `model` and `settings` replace those of the table.
    """
    name, arguments = SERVICES[service]
    provider = load_provider(name)
    made = make_settings(name, provider, arguments={**arguments, **(settings or {})}, environ={})
    context = ServiceContext(name=name, provider=name, settings=made)
    # Only the translation is needed. A transport of the provider's own would open files, such as a model.
    pure = attrs.evolve(provider, transport=lambda context: None)
    translator = open_steps(pure, context).translator
    return translator.translate(attrs.evolve(request, model=model or made.default_model), stream=stream)


def count(service: str, request: ChatRequest) -> WireRequest:
    """Return the request that counts the tokens of a request with a model. Does no I/O."""
    name, arguments = SERVICES[service]
    provider = load_provider(name)
    settings = make_settings(name, provider, arguments=arguments, environ={})
    context = ServiceContext(name=name, provider=name, settings=settings)
    counting = open_steps(provider, context).operations.count_tokens
    assert counting is not None
    built = counting.build(context, request)
    return built if isinstance(built, WireRequest) else built.wire_request


def table() -> str:
    """Return a Markdown table with the warnings of each service for each conversation. Lossy ones are bold."""
    services = list(SERVICES)
    rows = ["| | " + " | ".join(services) + " |", "|---" * (len(services) + 1) + "|"]
    for title, request in CONVERSATIONS.items():
        cells = []
        for service in services:
            by_kind: dict[str, dict[str, None]] = {}
            for warning in translate(service, request).warnings:
                subject = f"**{warning.subject}**" if warning.lossy else warning.subject
                by_kind.setdefault(warning.kind.replace("_", " "), {}).setdefault(subject)
            cells.append("; ".join(f"{kind}: {', '.join(subjects)}" for kind, subjects in by_kind.items()) or "whole")
        rows.append(f"| **{title}** | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def replays() -> str:
    """Return Markdown about conversations of every model family, replayed to every other: what was mended.

    The conversations, and the servers that check the requests in the tests, are in `tests/support/strict_servers`.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    from strict_servers.report import report

    text: str = report()
    return text
