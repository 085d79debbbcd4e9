"""Which warnings are lossy, provider by provider: what a strict service refuses, and what it sends."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from trunkline import (
    Audio,
    ChatRequest,
    Citation,
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

_spec = importlib.util.spec_from_file_location("portability", Path(__file__).parents[1] / "docs" / "portability.py")
assert _spec is not None
assert _spec.loader is not None
portability = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(portability)

SERVICES = tuple(portability.SERVICES)
TOOL = Tool(name="weather", parameters={"type": "object", "properties": {}})
CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})
BROKEN = ToolCall(id="call_1", name="weather", invalid_arguments="{city")
PNG = b"\x89PNG\r\n\x1a\n"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}


def lossy(service: str, request: ChatRequest) -> dict[str, bool]:
    """Return the subjects of the warnings, and whether each is lossy."""
    found: dict[str, bool] = {}
    for warning in portability.translate(service, request).warnings:
        found[warning.subject] = found.get(warning.subject, False) or warning.lossy
    return found


def talk(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(messages=messages, **fields)


PASS = {
    "system messages in every place": talk(
        system("a"), system("b"), user("c"), assistant("d"), system("e"), user("f"), assistant("g"), user("h")
    ),
    "a failed tool beside one that succeeded": talk(
        user("a"),
        assistant("b", CALL, ToolCall(id="call_2", name="weather", arguments={})),
        tool_result("call_1", "timeout", is_error=True),
        tool_result("call_2", "Sun"),
        tools=[TOOL],
    ),
    "an image that a model made": talk(user("a"), assistant("b", Image(data=PNG, media_type="image/png")), user("c")),
    "an image in a tool result": talk(
        user("a"), assistant(CALL), tool_result(CALL, [Image(data=PNG, media_type="image/png")]), tools=[TOOL]
    ),
    "a call without a result": talk(user("a"), assistant(CALL), user("b"), tools=[TOOL]),
    "a result without its call": talk(user("a"), tool_result("call_9", "Sun"), user("b"), tools=[TOOL]),
    "two results of one call": talk(
        user("a"), assistant(CALL), tool_result(CALL, "Sun"), tool_result(CALL, "Rain"), user("b"), tools=[TOOL]
    ),
    "arguments that are not JSON": talk(user("a"), assistant(BROKEN), tool_result(BROKEN, "what?"), tools=[TOOL]),
    "a tool conversation without its tools": talk(user("a"), assistant(CALL), tool_result(CALL, "Sun"), user("b")),
    "an assistant message first": talk(assistant("Hello"), user("a")),
    "an empty answer": talk(user("a"), assistant(""), user("b")),
    "blank text and trailing white space": talk(user("a"), user(" "), assistant("So "), user("b")),
    "a refusal": talk(user("a"), assistant(Text(text="No.", refusal=True)), user("b")),
    "another provider's reasoning, opaque parts and citations": talk(
        user("a"),
        assistant(
            Reasoning(text="b", provider="elsewhere", signature="c"),
            Opaque(provider="elsewhere", kind="search", data={}),
            "d",
            Citation(url="https://example.com"),
        ),
        user("e"),
    ),
    "reasoning alone": talk(user("a"), assistant(Reasoning(text="b", provider="elsewhere")), user("c")),
    "a spoken answer with its transcript": talk(
        user("a"), assistant(Audio(data=b"RIFF", media_type="audio/wav", transcript="Hello")), user("b")
    ),
    "an image without a media type": talk(user("a", Image(data=PNG))),
    "what happens anyway": talk(user("a"), tools=[TOOL], parallel_tool_calls=True, logprobs=False),
}
"""What every service sends, if need be in another form."""


@pytest.mark.parametrize("title", PASS)
@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_lossy_that_only_takes_another_form(service: str, title: str) -> None:
    assert not [subject for subject, lost in lossy(service, PASS[title]).items() if lost]


REFUSED: list[tuple[str, str, ChatRequest]] = [
    *[
        (service, "message name", talk(Message(role="user", parts=[Text(text="a")], name="Ann")))
        for service in ("openai (responses)", "anthropic", "bedrock", "cohere", "ollama")
    ],
    *[
        (service, "audio", talk(user("a", Audio(data=b"RIFF", media_type="audio/wav", transcript="b"))))
        for service in ("openai (responses)", "anthropic", "cohere", "ollama")
    ],
    *[
        (service, "image detail", talk(user("a", Image(data=PNG, media_type="image/png", detail="high"))))
        for service in ("anthropic", "bedrock", "ollama")
    ],
    *[
        (service, "opaque part", talk(user("a", Opaque(provider="elsewhere", kind="search", data={"a": 1}))))
        for service in (
            "openai (chat)",
            "openai (responses)",
            "anthropic",
            "bedrock",
            "cohere",
            "gemini",
            "mistral",
            "ollama",
        )
    ],
    *[(service, "reasoning", talk(user("a", Reasoning(text="b", provider="elsewhere")))) for service in SERVICES],
    ("bedrock", "response_format", talk(user("a"), response_format=ResponseFormat(type="json"))),
    ("anthropic", "response_format", talk(user("a"), response_format=ResponseFormat(type="json"))),
    ("anthropic", "response_format", talk(user("a"), response_format=ResponseFormat(schema=SCHEMA))),
    ("cohere", "response_format", talk(user("a"), response_format=ResponseFormat(type="json"), tools=[TOOL])),
    ("bedrock", "metadata", talk(user("a"), metadata={"a": "ü"})),
    ("bedrock", "temperature", talk(user("a"), temperature=1.5)),
    ("bedrock", "top_k", talk(user("a"), top_k=3, reasoning=ReasoningOptions(effort="high"))),
    ("bedrock", "reasoning.max_tokens", talk(user("a"), reasoning=ReasoningOptions(max_tokens=5))),
    ("cohere", "top_k", talk(user("a"), top_k=501)),
    ("cohere", "reasoning.summary", talk(user("a"), reasoning=ReasoningOptions(summary="concise"))),
    ("cohere", "stop", talk(user("a"), stop=list("abcdef"))),
    ("gemini", "stop", talk(user("a"), stop=list("abcdef"))),
    ("gemini", "reasoning.summary", talk(user("a"), reasoning=ReasoningOptions(summary="concise"))),
    ("gemini", "strict", talk(user("a"), tools=[Tool(name="t", parameters=SCHEMA, strict=True)])),
    ("gemini", "image", talk(system("a", Image(data=PNG)), user("b"))),
    ("mistral", "reasoning.max_tokens", talk(user("a"), reasoning=ReasoningOptions(max_tokens=2000))),
    ("ollama", "strict", talk(user("a"), tools=[Tool(name="t", parameters=SCHEMA, strict=True)])),
    ("ollama", "tool_choice", talk(user("a"), tools=[TOOL], tool_choice="required")),
    ("ollama", "reasoning.max_tokens", talk(user("a"), reasoning=ReasoningOptions(max_tokens=5))),
    ("openai (chat)", "reasoning.max_tokens", talk(user("a"), reasoning=ReasoningOptions(max_tokens=5))),
    ("openai (chat)", "document", talk(user("a", Document(data=b"\xff", media_type="text/plain")))),
    ("openai (responses)", "reasoning.max_tokens", talk(user("a"), reasoning=ReasoningOptions(max_tokens=5))),
    (
        "openai (responses)",
        "document name",
        talk(user("a", Document(url="https://example.com/a.pdf", name="report.pdf"))),
    ),
    ("openai-compatible", "parallel_tool_calls", talk(user("a"), tools=[TOOL], parallel_tool_calls=False)),
    ("azure-openai", "top_k", talk(user("a"), top_k=3)),
    ("llamacpp", "document", talk(user("a", Document(data=b"%PDF", media_type="application/pdf")))),
]
"""A service, the subject of a lossy warning, and a request that gives it."""


@pytest.mark.parametrize(("service", "subject", "request_"), REFUSED, ids=lambda value: str(value)[:24])
def test_what_is_lost_is_lossy(service: str, subject: str, request_: ChatRequest) -> None:
    assert lossy(service, request_).get(subject) is True


SENT: list[tuple[str, str, ChatRequest]] = [
    *[
        (service, "image", talk(user("a"), assistant("b", Image(data=PNG, media_type="image/png")), user("c")))
        for service in ("openai (chat)", "openai (responses)", "bedrock")
    ],
    ("anthropic", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="minimal"))),
    ("bedrock", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="high"))),
    ("bedrock", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="high", max_tokens=2000))),
    ("bedrock", "tool_choice", talk(user("a"), tools=[TOOL], tool_choice="none")),
    ("bedrock", "document name", talk(user("a", Document(data=b"%PDF", media_type="application/pdf", name="a_b.pdf")))),
    ("cohere", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="high"))),
    (
        "cohere",
        "tool_choice",
        talk(user("a"), tools=[TOOL, Tool(name="other", parameters={})], tool_choice="weather"),
    ),
    ("gemini", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="high"))),
    ("mistral", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="max"))),
    ("ollama", "reasoning.effort", talk(user("a"), reasoning=ReasoningOptions(effort="minimal"))),
    ("openai (chat)", "document", talk(user("a", Document(data=b"text", media_type="text/plain", name="b")))),
]
"""A service, the subject of a warning that is not lossy, and a request that gives it."""


@pytest.mark.parametrize(("service", "subject", "request_"), SENT, ids=lambda value: str(value)[:24])
def test_an_equal_form_is_not_lossy(service: str, subject: str, request_: ChatRequest) -> None:
    assert lossy(service, request_).get(subject) is False
