"""Requests of the Messages API: what is sent, what is left out, and that the provider's own types take it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Part,
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
from trunkline_anthropic import AnthropicSettings, anthropic
from trunkline_anthropic.parse import MessagesParser

MODEL = "claude-sonnet-4-6"
PNG = b"\x89PNG\r\n\x1a\n"
PDF = b"%PDF-1.7"
WEATHER = Tool(
    name="weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = Tool(name="clock")
SEARCH = Tool(
    name="search",
    provider_options={"anthropic": {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}},
)
CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})
THOUGHT = Reasoning(text="hm", provider="anthropic", signature="SIGNED")
EPHEMERAL = {"type": "ephemeral"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def context(**settings: Any) -> ServiceContext[AnthropicSettings]:
    return ServiceContext(
        name="test", provider="anthropic", settings=AnthropicSettings(**{"api_key": "REDACTED-KEY", **settings})
    )


Translate = Callable[..., tuple[dict[str, Any], Translation]]


@pytest.fixture
def translate(accepted: Callable[[bytes], dict[str, Any]]) -> Translate:
    def run(
        *messages: Message, stream: bool = False, settings: dict[str, Any] | None = None, **request: Any
    ) -> tuple[dict[str, Any], Translation]:
        chat = ChatRequest(messages=messages or (user("Hi"),), **{"model": MODEL, **request})
        translation = anthropic.translator(context(**(settings or {}))).translate(chat, stream=stream)
        return accepted(translation.wire_request.body), translation

    return run


def warnings_of(translation: Translation) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translation.warnings]


def own(**fields: Any) -> dict[str, dict[str, Any]]:
    return {"anthropic": fields}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def result(call_id: str, content: Any = None, **fields: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call_id, **fields}
    return block if content is None else {**block, "content": content}


# The whole


def test_the_smallest_request(translate: Translate) -> None:
    body, translation = translate()
    assert body == {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8192}
    wire = translation.wire_request
    assert (wire.method, wire.url) == ("POST", "https://api.anthropic.com/v1/messages")
    assert wire.headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "anthropic-version": "2026-10-21",
    }
    assert translation.warnings == ()


def test_a_stream_is_asked_for(translate: Translate) -> None:
    body, translation = translate(stream=True)
    assert body["stream"] is True
    assert translation.wire_request.headers["accept"] == "text/event-stream"


def test_a_conversation_with_everything_in_it(translate: Translate) -> None:
    body, translation = translate(
        system("Be brief."),
        user("Weather here?", Image(data=PNG)),
        assistant(THOUGHT, "I look.", CALL),
        tool_result(CALL, "timeout", is_error=True),
        tools=[WEATHER],
        parallel_tool_calls=False,
        response_format=ResponseFormat(schema=SCHEMA),
        reasoning=ReasoningOptions(effort="low", summary="auto"),
        max_output_tokens=512,
        stop=["END"],
        user_id="ann",
        settings={"send_user_id": True},
        provider_options=own(service_tier="auto"),
    )
    assert body == {
        "model": MODEL,
        "max_tokens": 512,
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    text("Weather here?"),
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "SIGNED"},
                    text("I look."),
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
                ],
            },
            {"role": "user", "content": [result("call_1", "timeout", is_error=True)]},
        ],
        "tools": [{"name": "weather", "description": WEATHER.description, "input_schema": WEATHER.parameters}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {
            "effort": "low",
            "format": {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}},
        },
        "stop_sequences": ["END"],
        "metadata": {"user_id": "ann"},
        "service_tier": "auto",
    }
    assert translation.warnings == ()


# The output limit


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        ("claude-haiku-4-5", None, 8192),
        ("claude-3-haiku-20240307", None, 4096),
        ("claude-3-5-haiku-latest", None, 8192),
        ("claude-sonnet-5", None, 20_480),
        ("claude-sonnet-5", ReasoningOptions(effort="none"), 8192),
        ("claude-opus-4-7", None, 8192),
        ("claude-opus-4-7", ReasoningOptions(effort="max"), 20_480),
        ("claude-haiku-4-5", ReasoningOptions(max_tokens=2000), 10_192),
        ("claude-haiku-4-5", ReasoningOptions(effort="max"), 20_480),
        ("some-local-model", None, 8192),
    ],
)
def test_an_output_limit_is_sent_where_none_is_set(
    translate: Translate, model: str, reasoning: ReasoningOptions | None, expected: int
) -> None:
    assert translate(model=model, reasoning=reasoning)[0]["max_tokens"] == expected


def test_output_limit_is_lowered_to_the_models_maximum(translate: Translate) -> None:
    body, translation = translate(model="claude-3-haiku-20240307", max_output_tokens=60_000)
    assert body["max_tokens"] == 4096
    assert [(warning.kind, warning.lossy) for warning in translation.warnings] == [("changed", False)]
    longer = own(betas=["output-128k-2025-02-19"])
    body, translation = translate(model="claude-3-7-sonnet-latest", max_output_tokens=100_000, provider_options=longer)
    assert (body["max_tokens"], translation.warnings) == (100_000, ())
    assert translate(max_output_tokens=0)[0]["max_tokens"] == 0


# Messages


def test_turns_of_the_same_role_are_one_message(translate: Translate) -> None:
    body, translation = translate(user("One."), user("Two.", "Three."), assistant("A"), assistant("B"), user("Four."))
    assert body["messages"] == [
        {"role": "user", "content": [text("One."), text("Two."), text("Three.")]},
        {"role": "assistant", "content": [text("A"), text("B")]},
        {"role": "user", "content": "Four."},
    ]
    assert translation.warnings == ()


def test_system_messages_at_the_beginning_are_the_system_prompt(translate: Translate) -> None:
    body, translation = translate(system("One."), system("Two."), user("Hi"))
    assert body["system"] == [text("One."), text("Two.")]
    assert translation.warnings == ()


def test_a_system_message_in_the_middle_is_moved_with_a_warning(translate: Translate) -> None:
    body, translation = translate(user("Hi"), assistant("Ho"), system("Be brief."), user("Go on"))
    assert body["system"] == "Be brief."
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert warnings_of(translation) == [("mended", "system message")]


def test_system_message_in_the_middle_stays_if_the_model_follows_it(translate: Translate) -> None:
    reminder = system("Be brief.")
    body, translation = translate(
        system("Hello"), user("Hi"), reminder, assistant("Ho"), user("?"), model="claude-opus-5"
    )
    assert [message["role"] for message in body["messages"]] == ["user", "system", "assistant", "user"]
    assert (body["system"], translation.warnings) == ("Hello", ())
    body, translation = translate(
        user("Hi"), assistant(CALL), tool_result(CALL, "x"), reminder, model="claude-opus-5-5"
    )
    assert ([message["role"] for message in body["messages"]][-1], translation.warnings) == ("system", ())


@pytest.mark.parametrize(
    "messages",
    [
        (user("Hi"), assistant("Ho"), system("Be brief."), user("?")),  # after an answer
        (user("Hi"), system("Be brief."), user("?")),  # before another user message
    ],
)
def test_system_message_in_a_wrong_place_is_moved_for_any_model(
    translate: Translate, messages: tuple[Message, ...]
) -> None:
    body, translation = translate(*messages, model="claude-opus-5")
    assert body["system"] == "Be brief."
    assert warnings_of(translation) == [("mended", "system message")]


def test_system_message_stays_in_the_middle_on_request(translate: Translate) -> None:
    in_place = Message(role="system", parts="Be brief.", provider_options=own(role="system"))
    body, translation = translate(user("Hi"), in_place, assistant("Ho"), user("Go on"))
    assert body["messages"][1] == {"role": "system", "content": "Be brief."}
    assert "system" not in body
    assert translation.warnings == ()


def test_empty_texts_and_messages_are_not_sent(translate: Translate) -> None:
    body, translation = translate(
        system(""), user("", " \n", "Hi"), assistant(), user(Text(text="there")), assistant(Text(text="")), user("?")
    )
    assert body["messages"] == [{"role": "user", "content": [text("Hi"), text("there"), text("?")]}]
    assert "system" not in body
    assert {(warning.kind, warning.lossy) for warning in translation.warnings} == {("mended", False)}


@pytest.mark.parametrize("messages", [(user(""),), (system("Be brief."),), (user(" "), assistant(""))])
def test_a_conversation_without_content_is_refused(messages: tuple[Message, ...]) -> None:
    with pytest.raises(InvalidRequest, match="content"):
        anthropic.translator(context()).translate(ChatRequest(messages=messages, model=MODEL), stream=False)


def test_a_conversation_that_the_assistant_begins_gets_a_users_turn_before_it(translate: Translate) -> None:
    body, translation = translate(assistant("Hello, how can I help?"), user("Hi"))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert warnings_of(translation) == [("mended", "messages")]


def test_white_space_at_the_end_of_a_prefill_is_taken_off(translate: Translate) -> None:
    body, translation = translate(user("Name one."), assistant("The answer is "), model="claude-haiku-4-5")
    assert body["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    assert warnings_of(translation) == [("mended", "messages")]


def test_model_without_prefill_gets_a_user_message_at_the_end(translate: Translate) -> None:
    body, translation = translate(user("Name one."), assistant("The answer is"))
    assert body["messages"][1:] == [
        {"role": "assistant", "content": "The answer is"},
        {"role": "user", "content": "Continue."},
    ]
    assert warnings_of(translation) == [("mended", "messages")]


def test_paused_turn_continues_from_the_assistant_message(translate: Translate) -> None:
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}}
    paused = assistant(Opaque(provider="anthropic", kind="server_tool_use", data=block))
    body, translation = translate(user("Hi"), paused)
    assert body["messages"][-1] == {"role": "assistant", "content": [block]}
    assert translation.warnings == ()


def test_a_name_of_a_participant_is_left_out_with_a_warning(translate: Translate) -> None:
    _, translation = translate(Message(role="user", parts="Hi", name="ann"))
    assert warnings_of(translation) == [("left_out", "message name")]


@pytest.mark.parametrize(
    "message", [user(CALL), system(CALL), Message(role="tool", parts=(Text(text="x"),))], ids=["user", "system", "tool"]
)
def test_a_part_that_its_role_cannot_have_is_refused(message: Message) -> None:
    with pytest.raises(InvalidRequest):
        anthropic.translator(context()).translate(
            ChatRequest(messages=(user("Hi"), message), model=MODEL), stream=False
        )


# Media


IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
MEDIA: list[tuple[Part, dict[str, Any] | None, list[tuple[str, str]]]] = [
    (Image(data=PNG), {"type": "image", "source": IMAGE}, []),
    (Image(url="https://host/a.png"), {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}, []),
    (Image(file_id="file_1"), {"type": "image", "source": {"type": "file", "file_id": "file_1"}}, []),
    (
        Image(data=b"?", media_type="image/jpg"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "Pw=="}},
        [],
    ),
    (Image(data=b"?", media_type="image/tiff"), None, [("left_out", "image")]),
    (
        Image(data=b"?"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "Pw=="}},
        [("changed", "image")],
    ),
    (Image(data=PNG, detail="high"), {"type": "image", "source": IMAGE}, [("unsupported", "image detail")]),
    (
        Document(data=PDF, name="a.pdf"),
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjc="},
            "title": "a.pdf",
        },
        [],
    ),
    (
        Document(data=b"one,two", media_type="text/csv"),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "one,two"}},
        [],
    ),
    (
        Document(data=b"{}", media_type="application/json; charset=utf-8"),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "{}"}},
        [],
    ),
    (
        Document(data=b"\xff", media_type="text/plain"),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "\ufffd"}},
        [("changed", "document")],
    ),
    (
        Document(url="https://host/a.pdf"),
        {"type": "document", "source": {"type": "url", "url": "https://host/a.pdf"}},
        [],
    ),
    (Document(url="https://host/a.txt", media_type="text/plain"), None, [("left_out", "document")]),
    (Document(file_id="file_1"), {"type": "document", "source": {"type": "file", "file_id": "file_1"}}, []),
    (Document(data=b"PK", media_type="application/zip"), None, [("left_out", "document")]),
    (
        Document(data=b"?"),
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "Pw=="}},
        [("changed", "document")],
    ),
    (Audio(data=b"RIFF0000WAVE"), None, [("left_out", "audio")]),
    (Audio(data=b"RIFF0000WAVE", transcript="Hello"), text("Hello"), [("emulated", "audio")]),
    (Text(text="No.", refusal=True), text("No."), []),
    (Citation(url="https://host"), None, []),
    (
        Text(text="x", provider_options=own(type="search_result", source="s", title="t", content=[text("found")])),
        {"type": "search_result", "source": "s", "title": "t", "content": [text("found")]},
        [],
    ),
    (
        Opaque(provider="anthropic", kind="search_result", data={"type": "container_upload", "file_id": "file_1"}),
        {"type": "container_upload", "file_id": "file_1"},
        [],
    ),
    (Opaque(provider="openai", kind="web_search_call", data={}), None, [("left_out", "opaque part")]),
]


@pytest.mark.parametrize(("part", "block", "warnings"), MEDIA)
def test_a_part_of_a_users_message(
    translate: Translate, part: Part, block: dict[str, Any] | None, warnings: list[tuple[str, str]]
) -> None:
    body, translation = translate(user(part, "What is it?"))
    expected = [text("What is it?")] if block is None else [block, text("What is it?")]
    assert body["messages"][0]["content"] == (expected if block else "What is it?")
    assert warnings_of(translation) == warnings


def test_options_of_parts_are_merged_into_their_blocks(translate: Translate) -> None:
    body, translation = translate(
        system(Text(text="Be brief.", provider_options=own(cache_control={**EPHEMERAL, "ttl": "1h"}))),
        user(
            Document(data=PDF, provider_options=own(citations={"enabled": True}, context="A letter.")),
            Text(text="Who wrote it?", provider_options={**own(cache_control=EPHEMERAL), "openai": {"x": 1}}),
        ),
        tools=[Tool(name="clock", provider_options=own(cache_control=EPHEMERAL, input_examples=[{}]))],
    )
    assert body["system"] == [text("Be brief.", cache_control={"type": "ephemeral", "ttl": "1h"})]
    document, question = body["messages"][0]["content"]
    assert (document["citations"], document["context"]) == ({"enabled": True}, "A letter.")
    assert question == text("Who wrote it?", cache_control=EPHEMERAL)
    assert body["tools"][0]["cache_control"] == EPHEMERAL
    assert translation.warnings == ()


def test_options_of_a_message_go_to_its_last_block(translate: Translate) -> None:
    marked = own(cache_control=EPHEMERAL)
    body, translation = translate(
        Message(role="system", parts=("One.", "Two."), provider_options=marked),
        Message(role="user", parts=("Three.", "Four."), provider_options=marked),
        Message(role="assistant", parts=(CALL,), provider_options=marked),
        Message(role="tool", parts=ToolResult(tool_call_id="call_1", parts="12 °C"), provider_options=marked),
    )
    assert body["system"] == [text("One."), text("Two.", cache_control=EPHEMERAL)]
    contents = [message["content"] for message in body["messages"]]
    assert [block.get("cache_control") for content in contents for block in content] == [None, *[EPHEMERAL] * 3]
    assert translation.warnings == ()


def test_options_that_have_no_block_to_go_to_give_a_warning(translate: Translate) -> None:
    marked = own(cache_control=EPHEMERAL)
    _, translation = translate(
        user("Hi"),
        Message(role="assistant", parts=(THOUGHT,), provider_options=marked),
        user(Text(text="", provider_options=marked), "Go on"),
    )
    subjects = [("mended", "reasoning"), ("mended", "message"), ("left_out", "provider_options")]
    assert warnings_of(translation) == subjects


# Tool calls and results


def test_results_stand_at_the_start_of_the_turn_after_their_calls(translate: Translate) -> None:
    other = ToolCall(id="call_2", name="clock")
    body, translation = translate(
        user("Hi"), assistant(CALL, other), user("Hurry!"), tool_result(other, "noon"), tool_result(CALL, "12 °C")
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][-1]["content"] == [result("call_1", "12 °C"), result("call_2", "noon"), text("Hurry!")]
    assert warnings_of(translation) == [("mended", "tool result")]


def test_text_after_a_call_moves_before_it(translate: Translate) -> None:
    body, translation = translate(user("Hi"), assistant(CALL, "I look."), tool_result(CALL, "x"))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use"]
    assert warnings_of(translation) == [("mended", "tool call")]


def test_a_call_without_a_result_is_answered_with_an_error(translate: Translate) -> None:
    body, translation = translate(user("Hi"), assistant(CALL), user("Never mind."))
    answer, words = body["messages"][-1]["content"]
    assert (answer["tool_use_id"], answer["is_error"], words) == ("call_1", True, text("Never mind."))
    assert warnings_of(translation) == [("mended", "tool result")]


def test_a_result_without_a_call_is_left_out(translate: Translate) -> None:
    body, translation = translate(user("Hi"), tool_result("call_9", "x"))
    assert body["messages"] == [{"role": "user", "content": "Hi"}]
    assert warnings_of(translation) == [("mended", "tool result")]


def test_two_results_of_one_call_are_sent_as_one(translate: Translate) -> None:
    body, translation = translate(user("Hi"), assistant(CALL), tool_result(CALL, "a"), tool_result(CALL, "b"))
    assert body["messages"][-1]["content"] == [result("call_1", [text("a"), text("b")])]
    assert warnings_of(translation) == [("mended", "tool result")]


@pytest.mark.parametrize("call_id", ["functions.weather:0", "", "å", "call 1", "x" * 20 + "|fc_1"])
def test_an_id_that_the_api_refuses_is_mapped_for_call_and_result(translate: Translate, call_id: str) -> None:
    call = ToolCall(id=call_id, name="weather")
    body, translation = translate(user("Hi"), assistant(call), tool_result(call, "x"))
    (used,), (answer,) = body["messages"][1]["content"], body["messages"][2]["content"]
    assert used["id"] == answer["tool_use_id"] != call_id
    assert used["id"].replace("_", "").isalnum()
    assert warnings_of(translation) == [("mended", "tool call id")]


def test_the_same_id_in_several_calls_is_made_unique_and_each_keeps_its_result(translate: Translate) -> None:
    one, two = ToolCall(id="call_0", name="weather"), ToolCall(id="call_0", name="clock")
    body, _ = translate(
        user("Hi"),
        assistant(one, two),
        tool_result(one, "first"),
        tool_result(two, "second"),
        assistant(one),
        tool_result(one, "third"),
    )
    ids = [block["id"] for message in body["messages"] for block in message["content"] if "input" in block]
    results = [block for message in body["messages"][1:] for block in message["content"] if "tool_use_id" in block]
    assert len(set(ids)) == 3
    assert [(block["tool_use_id"], block["content"]) for block in results] == list(
        zip(ids, ["first", "second", "third"], strict=True)
    )


def test_a_result_holds_media_and_search_results(translate: Translate) -> None:
    found = Opaque(
        provider="anthropic",
        kind="search_result",
        data={"type": "search_result", "source": "s", "title": "t", "content": [text("x")]},
    )
    foreign = Opaque(provider="openai", kind="x", data={})
    body, translation = translate(
        user("Hi"),
        assistant(CALL),
        tool_result(CALL, [Image(data=PNG), Document(data=PDF), found, foreign]),
    )
    kinds = [block["type"] for block in body["messages"][-1]["content"][0]["content"]]
    assert kinds == ["image", "document", "search_result"]
    assert warnings_of(translation) == [("left_out", "opaque part")]


@pytest.mark.parametrize(
    ("answer", "is_error", "expected"),
    [
        ("", False, result("call_1")),
        ("", True, result("call_1", "Error", is_error=True)),
        ({"degrees": 12}, False, result("call_1", '{"degrees":12}')),
    ],
)
def test_results_that_say_little(translate: Translate, answer: Any, is_error: bool, expected: dict[str, Any]) -> None:
    body, translation = translate(user("Hi"), assistant(CALL), tool_result(CALL, answer, is_error=is_error))
    assert body["messages"][-1]["content"] == [expected]
    assert translation.warnings == ()


def test_arguments_that_are_no_object_are_put_into_one(translate: Translate) -> None:
    call = ToolCall(id="call_1", name="weather", invalid_arguments='{"city":')
    body, translation = translate(user("Hi"), assistant(call), tool_result(call, "x"))
    assert body["messages"][1]["content"][0]["input"] == {"invalid_arguments": '{"city":'}
    assert warnings_of(translation) == [("mended", "tool call")]


# Reasoning and other blocks of the provider's


def test_reasoning_is_replayed_unmodified_and_in_its_place(translate: Translate) -> None:
    body, translation = translate(
        user("Hi"),
        assistant(
            Reasoning(text="", provider="anthropic", signature="A"),
            Reasoning(provider="anthropic", encrypted="HIDDEN", redacted=True),
            "One.",
            Reasoning(text="two\n", provider="anthropic", signature="B"),
            CALL,
        ),
        tool_result(CALL, "x"),
    )
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "", "signature": "A"},
        {"type": "redacted_thinking", "data": "HIDDEN"},
        text("One."),
        {"type": "thinking", "thinking": "two\n", "signature": "B"},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
    ]
    assert translation.warnings == ()


def test_reasoning_that_cannot_be_replayed_is_left_out_with_one_warning(translate: Translate) -> None:
    body, translation = translate(
        user("Hi"),
        assistant(Reasoning(text="a", provider="openai", encrypted="X"), "One."),
        user("Go on"),
        assistant(Reasoning(text="c", provider="anthropic"), "Two."),
        user("?"),
    )
    assert [message["content"] for message in body["messages"]] == ["Hi", "One.", "Go on", "Two.", "?"]
    (warning,) = translation.warnings
    assert (warning.kind, warning.subject, warning.count, warning.lossy) == ("mended", "reasoning", 2, False)


def test_media_from_a_model_moves_to_the_next_user_message(translate: Translate) -> None:
    turn = assistant("Here.", Image(data=PNG), Document(data=PDF))
    body, translation = translate(user("Hi"), turn, user("?"))
    assert body["messages"][1]["content"] == "Here."
    assert [block["type"] for block in body["messages"][2]["content"]] == ["text", "image", "document", "text"]
    assert warnings_of(translation) == [("mended", "image"), ("mended", "document")]
    body, translation = translate(user("Hi"), turn, user("?"), settings={"api_version": "2023-06-01"})
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "document"]
    assert warnings_of(translation) == [("mended", "image")]


SUMMARIZED = ReasoningOptions(summary="auto")


def of(family: str | None, **fields: Any) -> Reasoning:
    return Reasoning(**{"text": "hm", "provider": "anthropic", "family": family, **fields})


@pytest.mark.parametrize(
    ("model", "thought", "sent"),
    [
        ("claude-opus-4-6", of("claude", signature="S"), {"signature": "S"}),
        ("claude-opus-4-6", of(None, signature="S"), {"signature": "S"}),
        ("claude-opus-4-6", of("claude"), None),
        ("claude-opus-4-6", of("kimi", signature="S"), None),
        ("claude-opus-4-6", of("kimi"), None),
        (
            "claude-opus-4-6",
            Reasoning(text="hm", provider="bedrock", family="claude", signature="S"),
            {"signature": "S"},
        ),
        ("claude-opus-4-6", Reasoning(text="hm", provider="bedrock", family="deepseek", signature="S"), None),
        ("kimi-for-coding", of("kimi"), {"signature": ""}),
        ("kimi-for-coding", of("kimi", signature="S"), {"signature": "S"}),
        ("kimi-for-coding", of("claude", signature="S"), None),
        ("deepseek-v4", of("deepseek", signature="91cfbb94"), {"signature": "91cfbb94"}),
        ("some-local-model", of(None), {"signature": ""}),
    ],
)
def test_thinking_is_sent_back_only_to_its_model_family(
    translate: Translate, model: str, thought: Reasoning, sent: dict[str, Any] | None
) -> None:
    body, translation = translate(user("Hi"), assistant(thought, "Ho"), user("?"), model=model)
    content = body["messages"][1]["content"]
    if sent is None:
        assert content == "Ho"
        assert warnings_of(translation) == [("mended", "reasoning")]
    else:
        assert content == [{"type": "thinking", "thinking": "hm", **sent}, text("Ho")]
        assert translation.warnings == ()


@pytest.mark.parametrize("model", ["kimi-k2.6", "deepseek-v4-pro"])
def test_turn_with_calls_gets_placeholder_thinking_if_required(translate: Translate, model: str) -> None:
    conversation = (user("Hi"), assistant("Look.", CALL), tool_result(CALL, "x"))
    body, translation = translate(*conversation, model=model)
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": " ", "signature": ""}
    assert warnings_of(translation) == [("mended", "reasoning")]
    body, translation = translate(*conversation, model=model, reasoning=ReasoningOptions(effort="none"))
    assert body["thinking"] == {"type": "disabled"}
    assert body["messages"][1]["content"][0] == text("Look.")
    assert translation.warnings == ()


def test_translation_has_the_family_of_the_model(translate: Translate) -> None:
    families = [translate(model=model)[1].family for model in ("us.anthropic.claude-opus-5", "kimi-k2", "smollm2")]
    assert families == ["claude", "kimi", None]


def test_unknown_fields_of_an_answer_are_sent_back_to_its_model_family() -> None:
    parts = (
        Text(text="Hi", family="claude", provider_metadata=own(new=1)),
        Reasoning(provider="anthropic", family="claude", signature="S", provider_metadata=own(new=2)),
        ToolCall(id="call_1", name="weather", family="claude", provider_metadata=own(new=3)),
    )
    for model, expected in (("claude-opus-4-6", [1, 2, 3]), ("kimi-k2", [None, None, None])):
        request = ChatRequest(messages=(user("?"), assistant(*parts), tool_result("call_1", "x")), model=model)
        body = json.loads(anthropic.translator(context()).translate(request, stream=False).wire_request.body)
        blocks = [block for block in body["messages"][1]["content"] if block.get("thinking") != " "]
        assert [block.get("new") for block in blocks] == expected[: len(blocks)]


BINDING = "thinking-binding-controls-2026-08-01"
DROP = {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}


@pytest.mark.parametrize(
    ("model", "thought", "options", "thinking"),
    [
        ("claude-opus-5-5", THOUGHT, {}, DROP),
        (
            "claude-opus-5-5",
            THOUGHT,
            {"reasoning": ReasoningOptions(summary="auto")},
            {**DROP, "display": "summarized"},
        ),
        ("claude-opus-5-5", Text(text="-"), {}, None),
        ("claude-opus-5", THOUGHT, {}, None),
        ("claude-haiku-5-5", THOUGHT, {"reasoning": ReasoningOptions(effort="none")}, {"type": "disabled"}),
        (
            "claude-opus-5-5",
            THOUGHT,
            {"provider_options": own(thinking={"type": "adaptive", "block_binding": {}})},
            {"type": "adaptive", "block_binding": {}},
        ),
    ],
)
def test_api_may_drop_thinking_of_a_changed_conversation(
    model: str, thought: Part, options: dict[str, Any], thinking: dict[str, Any] | None
) -> None:
    request = ChatRequest(messages=(user("Hi"), assistant(thought, "Ho"), user("?")), model=model, **options)
    wire = anthropic.translator(context()).translate(request, stream=False).wire_request
    assert json.loads(wire.body).get("thinking") == thinking
    assert (wire.headers.get("anthropic-beta") == BINDING) == (
        thinking is not None and DROP.items() <= thinking.items()
    )


def test_a_refusal_of_another_provider_is_plain_text(translate: Translate) -> None:
    body, translation = translate(user("Hi"), assistant(Text(text="No.", refusal=True)), user("?"))
    assert body["messages"][1]["content"] == "No."
    assert warnings_of(translation) == [("mended", "refusal")]


ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "SIGNED"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "title": "T", "url": "https://h", "encrypted_content": "E"}],
        },
        text(
            "Found.",
            citations=[
                {
                    "type": "web_search_result_location",
                    "url": "https://h",
                    "title": "T",
                    "cited_text": "c",
                    "encrypted_index": "I",
                },
                {
                    "type": "char_location",
                    "cited_text": "c",
                    "document_index": 0,
                    "document_title": None,
                    "start_char_index": 0,
                    "end_char_index": 1,
                    "file_id": None,
                },
            ],
        ),
        {
            "type": "tool_use",
            "id": "toolu_1",
            "name": "weather",
            "input": {"city": "Oslo"},
            "caller": {"type": "direct"},
        },
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def test_an_answer_is_sent_back_as_it_came(translate: Translate) -> None:
    answer = MessagesParser(context()).body(WireResponse(status=200, body=json.dumps(ANSWER).encode()))
    body, translation = translate(user("Hi"), answer.message, tool_result(answer.tool_calls[0], "12 °C"))
    expected = json.loads(json.dumps(ANSWER["content"]))
    del expected[3]["citations"][1]["file_id"]
    assert body["messages"][1]["content"] == expected
    assert translation.warnings == ()


# Tools


def test_tools_are_functions_or_passed_whole(translate: Translate) -> None:
    bare = Tool(name="bare", parameters={"properties": {}})
    body, translation = translate(tools=[WEATHER, CLOCK, bare, SEARCH])
    assert body["tools"] == [
        {"name": "weather", "description": WEATHER.description, "input_schema": WEATHER.parameters},
        {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
        {"name": "bare", "input_schema": {"type": "object", "properties": {}}},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
    ]
    assert "tool_choice" not in body
    assert warnings_of(translation) == [("changed", "tool bare")]


def test_root_union_of_a_schema_becomes_one_object(translate: Translate) -> None:
    either = [{"type": "object", "properties": {name: {"type": "string"}}, "required": [name]} for name in ("a", "b")]
    body, translation = translate(tools=[Tool(name="f", parameters={"anyOf": either})])
    schema = body["tools"][0]["input_schema"]
    assert (schema["type"], set(schema["properties"]), "anyOf" in schema) == ("object", {"a", "b"}, False)
    assert warnings_of(translation) == [("changed", "tool f")]


def test_a_strict_tool_has_closed_objects(translate: Translate) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "description": "A number."}},
    }
    body, translation = translate(tools=[Tool(name="f", parameters=schema, strict=True)])
    assert body["tools"][0] == {
        "name": "f",
        "strict": True,
        "input_schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "description": "A number. (minimum: 1)"}},
            "additionalProperties": False,
        },
    }
    assert warnings_of(translation) == [("changed", "tool f")]
    assert "minimum" in translation.warnings[0].message


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        ("auto", None, {"type": "auto"}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice.tool("clock"), True, {"type": "tool", "name": "clock"}),
        ("search", None, {"type": "tool", "name": "web_search"}),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_a_tool_choice(
    translate: Translate, choice: Any, parallel: bool | None, expected: dict[str, Any] | None
) -> None:
    body, translation = translate(tools=[CLOCK, SEARCH], tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == expected
    assert translation.warnings == ()


def test_a_tool_choice_without_tools_is_not_sent(translate: Translate) -> None:
    assert "tool_choice" not in translate(tool_choice="auto", parallel_tool_calls=False)[0]


def test_a_model_that_can_be_forced_to_no_tool_is_left_the_choice(translate: Translate) -> None:
    body, translation = translate(model="claude-fable-5-1", tools=[CLOCK], tool_choice="required")
    assert body["tool_choice"] == {"type": "auto"}
    assert warnings_of(translation) == [("changed", "tool_choice")]


# Structured output


def test_a_schema_is_sent_with_its_objects_closed_and_its_bounds_in_words(translate: Translate) -> None:
    schema: dict[str, Any] = {
        "$defs": {"A": {"type": ["object", "null"], "properties": {"when": {"type": "string", "format": "date"}}}},
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1, "maxItems": 3},
            "one": {"oneOf": [{"type": "string", "minLength": 2, "format": "regex"}, {"type": "null"}]},
        },
        "additionalProperties": True,
    }
    form = ResponseFormat(schema=schema, description="The answer.")
    body, translation = translate(response_format=form)
    assert body["output_config"]["format"]["schema"] == {
        "$defs": {
            "A": {
                "type": ["object", "null"],
                "properties": {"when": {"type": "string", "format": "date"}},
                "additionalProperties": False,
            }
        },
        "type": "object",
        "description": "The answer.",
        "properties": {
            "list": {
                "type": "array",
                "items": {"$ref": "#/$defs/A"},
                "minItems": 1,
                "description": "(maxItems: 3)",
            },
            "one": {
                "anyOf": [{"type": "string", "description": '(minLength: 2; format: "regex")'}, {"type": "null"}],
            },
        },
        "additionalProperties": False,
    }
    assert warnings_of(translation) == [("changed", "response_format")]


def test_a_keyword_that_the_api_does_not_know_moves_without_a_loss(translate: Translate) -> None:
    number = {"type": "integer", "examples": [1], "x-unit": "m"}
    schema: dict[str, Any] = {"type": "object", "properties": {"a": number}, "required": ["a"]}
    body, translation = translate(response_format=ResponseFormat(schema=schema))
    sent = body["output_config"]["format"]["schema"]["properties"]["a"]
    assert sent == {"type": "integer", "description": '(examples: [1]; x-unit: "m")'}
    assert [warning.lossy for warning in translation.warnings] == [False]


def wide(optional: int = 0, unions: int = 0) -> dict[str, Any]:
    """A schema with so many optional properties, in an object inside it, and required ones that may be null."""
    inner = {"type": "object", "properties": {f"o{number}": {"type": "string"} for number in range(optional)}}
    maybe = {f"u{number}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for number in range(unions)}
    properties = {**maybe, "list": {"type": "array", "items": {"$ref": "#/$defs/Inner"}}}
    return {"type": "object", "properties": properties, "required": list(properties), "$defs": {"Inner": inner}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (wide(optional=24, unions=16), None),
        (wide(optional=25), "24 optional properties"),
        (wide(unions=17), "16 unions"),
    ],
)
def test_an_answer_beyond_the_limits_of_strict_schemas_is_asked_for_in_words(
    translate: Translate, schema: dict[str, Any], words: str | None
) -> None:
    body, translation = translate(response_format=ResponseFormat(schema=schema))
    assert ("output_config" in body) == (words is None)
    assert warnings_of(translation) == ([("emulated", "response_format")] if words else [])
    assert all(str(words) in warning.message for warning in translation.warnings)


def test_tools_beyond_the_limits_of_strict_schemas_are_not_strict(translate: Translate) -> None:
    form = ResponseFormat(schema=wide(optional=20))
    tools = [Tool(name=f"t{optional}", parameters=wide(optional=optional), strict=True) for optional in (5, 4, 1, 0)]
    body, translation = translate(tools=tools, response_format=form)
    assert "output_config" in body
    assert ["strict" in tool for tool in body["tools"]] == [False, True, False, True]
    assert warnings_of(translation) == [("changed", "tool t5"), ("changed", "tool t1")]
    many = [Tool(name=f"t{number}", parameters=wide(), strict=True) for number in range(21)]
    body, translation = translate(tools=many)
    assert ["strict" in tool for tool in body["tools"]] == [True] * 20 + [False]
    assert "20 strict tools" in translation.warnings[0].message


@pytest.mark.parametrize(
    ("model", "form"),
    [(MODEL, ResponseFormat(type="json")), ("claude-3-5-sonnet-latest", ResponseFormat(schema=SCHEMA))],
)
def test_json_that_the_wire_cannot_ask_for_is_asked_for_in_words(
    translate: Translate, model: str, form: ResponseFormat
) -> None:
    body, translation = translate(system("Be brief."), user("Hi"), model=model, response_format=form)
    assert "output_config" not in body
    first, asked = body["system"]
    assert first == text("Be brief.")
    assert "JSON" in asked["text"]
    assert ('"answer"' in asked["text"]) == (form.schema is not None)
    assert warnings_of(translation) == [("emulated", "response_format")]


def test_free_text_needs_no_format(translate: Translate) -> None:
    assert "output_config" not in translate(response_format=ResponseFormat(type="text"))[0]


# Sampling and the rest

SAMPLING = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}


@pytest.mark.parametrize(
    ("version", "model", "reasoning", "wanted", "sent", "subjects"),
    [
        ("2026-10-21", "claude-haiku-4-5", None, SAMPLING, {}, ["temperature", "top_p", "top_k"]),
        ("2023-06-01", "claude-3-7-sonnet-latest", None, SAMPLING, SAMPLING, []),
        ("2023-06-01", "claude-haiku-4-5", None, SAMPLING, {"temperature": 0.5, "top_k": 40}, ["top_p"]),
        ("2023-06-01", "claude-opus-4-7", None, SAMPLING, {}, ["temperature", "top_p", "top_k"]),
        ("2023-06-01", "gpt-oss", None, {"temperature": 0}, {"temperature": 0}, []),
        ("2023-06-01", "gpt-oss", None, {"temperature": 1.7}, {"temperature": 1}, ["temperature"]),
        (
            "2023-06-01",
            "claude-3-7-sonnet-latest",
            ReasoningOptions(max_tokens=1024),
            {"temperature": 0.5, "top_p": 0.97, "top_k": 4},
            {"top_p": 0.97},
            ["temperature", "top_k"],
        ),
    ],
)
def test_sampling_goes_by_the_version_and_the_model(
    translate: Translate,
    version: str,
    model: str,
    reasoning: ReasoningOptions | None,
    wanted: dict[str, Any],
    sent: dict[str, Any],
    subjects: list[str],
) -> None:
    body, translation = translate(model=model, reasoning=reasoning, settings={"api_version": version}, **wanted)
    assert {name: body[name] for name in SAMPLING if name in body} == sent
    assert [warning.subject for warning in translation.warnings] == subjects
    assert translation.wire_request.headers["anthropic-version"] == version


@pytest.mark.parametrize(
    ("option", "subject"),
    [
        ({"seed": 7}, "seed"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"stop": ["\n", "END"]}, "stop"),
    ],
)
def test_what_the_wire_has_no_word_for_gives_a_warning(
    translate: Translate, option: dict[str, Any], subject: str
) -> None:
    _, translation = translate(**option)
    assert warnings_of(translation) == [("unsupported", subject)]


def test_the_users_id_is_sent_as_the_setting_says(translate: Translate) -> None:
    assert "metadata" not in translate(user_id="ann")[0]
    hashed = translate(user_id="ann", settings={"send_user_id": "hashed"})[0]["metadata"]["user_id"]
    assert len(hashed) == 64
    assert hashed == translate(user_id="ann", settings={"send_user_id": "hashed"})[0]["metadata"]["user_id"]
    assert "metadata" not in translate(settings={"send_user_id": True})[0]


def test_options_of_the_request_are_merged_last(translate: Translate) -> None:
    body, translation = translate(
        tools=[CLOCK],
        reasoning=ReasoningOptions(effort="low"),
        user_id="ann",
        settings={"send_user_id": True, "betas": ["b", "a"]},
        provider_options=own(
            betas=["c", "a"],
            thinking={"type": "between_tools"},
            output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
            tools=[{"type": "bash_20250124", "name": "bash"}],
            max_tokens=7,
            metadata={"user_id": "bob"},
        ),
    )
    assert body["thinking"] == {"type": "between_tools"}
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert [tool["name"] for tool in body["tools"]] == ["clock", "bash"]
    assert (body["max_tokens"], body["metadata"]) == (7, {"user_id": "bob"})
    assert "betas" not in body
    assert translation.wire_request.headers["anthropic-beta"] == "b,a,c"


@pytest.mark.parametrize("betas", [7, [1], ["é"], {"a": 1}])
def test_beta_features_that_are_no_names_are_refused(betas: Any) -> None:
    request = ChatRequest(messages="Hi", model=MODEL, provider_options=own(betas=betas))
    with pytest.raises(InvalidRequest, match="betas"):
        anthropic.translator(context()).translate(request, stream=False)


def test_a_value_that_json_cannot_say_is_refused() -> None:
    options = own(speed=1)
    request = ChatRequest(messages="Hi", model=MODEL, provider_options=options)
    options["anthropic"]["speed"] = float("nan")  # a request refuses it when it is made
    with pytest.raises(InvalidRequest, match="JSON"):
        anthropic.translator(context()).translate(request, stream=False)


def test_a_schema_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {"type": "object"}
    form = ResponseFormat(schema=endless)
    endless["properties"] = {"again": endless}  # a format refuses it when it is made
    with pytest.raises(InvalidRequest):
        anthropic.translator(context()).translate(
            ChatRequest(messages="Hi", model=MODEL, response_format=form), stream=False
        )


# Operations


def test_counting_sends_what_counts_and_nothing_else(countable: Callable[[bytes], dict[str, Any]]) -> None:
    count = anthropic.operations(context()).count_tokens
    assert count is not None
    request = ChatRequest(
        messages=[system("Be brief."), user("Hi", Audio(data=b"x"))],
        model=MODEL,
        tools=[WEATHER],
        reasoning=ReasoningOptions(effort="low"),
        max_output_tokens=9,
        stop="END",
        seed=3,
        provider_options=own(service_tier="auto", betas=["a"]),
    )
    translation = count.translation(context(api_url="localhost:8080/v1"), request)
    body = countable(translation.wire_request.body)
    assert set(body) == {"model", "messages", "system", "tools", "thinking", "output_config"}
    assert translation.wire_request.url == "http://localhost:8080/v1/messages/count_tokens"
    assert translation.wire_request.headers["anthropic-beta"] == "a"
    assert warnings_of(translation) == [("left_out", "audio")]
    assert count.parse(context(), WireResponse(status=200, body=b'{"input_tokens":14}')) == 14


def test_count_tokens_sends_the_fields_of_betas() -> None:
    count = anthropic.operations(context()).count_tokens
    assert count is not None
    added: dict[str, Any] = {
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "mcp_servers": [{"type": "url", "name": "m", "url": "https://host"}],
        "compaction": {"type": "enabled"},
    }
    options = own(betas=["context-management-2025-06-27"], **added)
    request = ChatRequest(messages="Hi", model=MODEL, provider_options=options)
    wire = count.translation(context(betas=["b"]), request).wire_request
    assert json.loads(wire.body) == {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **added}
    assert wire.headers["anthropic-beta"] == "b,context-management-2025-06-27"


def test_models_are_listed_page_by_page() -> None:
    listing = anthropic.operations(context()).list_models
    assert listing is not None
    first = listing.build(context(), None)
    assert (first.method, first.url) == ("GET", "https://api.anthropic.com/v1/models?limit=1000")
    assert first.headers["anthropic-version"] == "2026-10-21"
    page = {
        "data": [
            {"type": "model", "id": "a", "display_name": "A", "created_at": "2025-11-24T00:00:00Z"},
            {"type": "model", "id": "b", "created_at": "?"},
            {"id": "c", "created": 7},
            {"no": "id"},
        ],
        "has_more": True,
        "last_id": "b/1",
    }
    models, cursor = listing.parse(context(), WireResponse(status=200, body=json.dumps(page).encode()))
    assert [(model.id, model.name, model.created) for model in models] == [
        ("a", "A", 1763942400),
        ("b", None, None),
        ("c", None, 7),
    ]
    assert cursor == "b/1"
    following = listing.build(context(api_url="https://gate.example/anthropic?team=1"), cursor)
    assert following.url == "https://gate.example/anthropic/v1/models?team=1&limit=1000&after_id=b%2F1"
    last = {**page, "has_more": False}
    assert listing.parse(context(), WireResponse(status=200, body=json.dumps(last).encode()))[1] is None


def test_there_are_no_embeddings() -> None:
    assert anthropic.operations(context()).embed is None


def test_white_space_before_a_final_system_message_is_removed(translate: Translate) -> None:
    body, translation = translate(user("Count."), assistant("1, 2, "), system("Be brief."))
    assert body["messages"][1] == {"role": "assistant", "content": "1, 2,"}
    assert warnings_of(translation)[:2] == [("mended", "messages"), ("mended", "system message")]
