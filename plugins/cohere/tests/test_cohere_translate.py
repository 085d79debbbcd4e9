"""Requests in Cohere's wire format. Every body that is made here is checked by the models of the official SDK."""

import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from trunkline import messages as m
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.replay import LEFT_OUT
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
from trunkline_cohere import CohereSettings
from trunkline_cohere.translate import CohereTranslator

MODEL = "command-a-plus-05-2026"
PNG = b"\x89PNG\r\n\x1a\n"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="weather", description="d", parameters=SCHEMA)
CLOCK = Tool(name="clock")
CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})
WIRE_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
PLAN = {"cohere": {"type": "tool_plan"}}


@cache
def sdk() -> tuple[set[str], dict[str, Any]]:
    """The parameters that the SDK's method takes, and pydantic adapters of those that are objects.

    The SDK is slow to import, so it is not imported while tests are collected.
    """
    from cohere import ClientV2
    from cohere.types import ChatMessages, Document, ResponseFormatV2, Thinking, ToolV2
    from pydantic import TypeAdapter

    parameters = set(inspect.signature(ClientV2.chat).parameters) - {"self", "request_options"} | {"stream"}
    return parameters, {
        "messages": TypeAdapter(ChatMessages),
        "tools": TypeAdapter(list[ToolV2]),
        "documents": TypeAdapter(list[str | Document]),
        "response_format": TypeAdapter(ResponseFormatV2),
        "thinking": TypeAdapter(Thinking),
    }


def unknown_keys(value: Any, where: str = "") -> Iterator[str]:
    """The keys that no field of the SDK's models takes; the models themselves let them pass."""
    if hasattr(value, "model_extra"):
        yield from (f"{where}.{key}" for key in value.model_extra or {})
        for name, inner in value:
            yield from unknown_keys(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from unknown_keys(inner, f"{where}[{at}]")


def check(body: dict[str, Any]) -> None:
    parameters, adapters = sdk()
    assert set(body) <= parameters
    for key, adapter in adapters.items():
        if key in body:
            assert not list(unknown_keys(adapter.validate_python(body[key], strict=True), key))
    for at, message in enumerate(body["messages"]):
        if message["role"] == "assistant":
            assert message.get("content") or message.get("tool_calls")
            following = [other.get("tool_call_id") for other in body["messages"][at + 1 :]]
            for position, call in enumerate(message.get("tool_calls", ())):
                json.loads(call["function"]["arguments"])
                assert following[position] == call["id"]
    assert body.get("tool_choice", "NONE") in ("NONE", "REQUIRED")
    assert len(body.get("stop_sequences", ())) <= 5
    assert 0.01 <= body.get("p", 0.5) <= 0.99
    assert 0 <= body.get("k", 0) <= 500
    assert 0 <= body.get("frequency_penalty", 0) <= 1
    assert 0 <= body.get("presence_penalty", 0) <= 1
    assert body.get("thinking", {}).get("token_budget", 1) >= 1
    assert not ("response_format" in body and ("tools" in body or "documents" in body))


def translate(request: Any, *, stream: bool = False, oracle: bool = True, **fields: Any) -> Translation:
    if not isinstance(request, ChatRequest):
        request = ChatRequest(**{"messages": request, "model": MODEL, **fields})
    settings = CohereSettings(api_key=Secret("cohere-secret"), headers={"X-Client-Name": "mine"})
    context = ServiceContext(name="s", provider="cohere", settings=settings)
    translation = CohereTranslator(context).translate(request, stream=stream)
    if oracle:
        check(json.loads(translation.wire_request.body))
    return translation


def body(request: Any, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(translate(request, **fields).wire_request.body)
    return found


def warnings(request: Any, **fields: Any) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translate(request, **fields).warnings]


def test_a_string_is_a_request_to_v2_chat() -> None:
    translation = translate("hi")
    wire = translation.wire_request
    assert (wire.method, wire.url) == ("POST", "https://api.cohere.com/v2/chat")
    assert json.loads(wire.body) == {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    assert wire.headers == {"content-type": "application/json", "accept": "application/json"}
    assert translation.warnings == ()


def test_a_stream_is_asked_for_in_the_body() -> None:
    wire = translate("hi", stream=True).wire_request
    assert json.loads(wire.body)["stream"] is True
    assert wire.headers["accept"] == "text/event-stream"


OPTIONS: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ({"max_output_tokens": 9}, {"max_tokens": 9}, []),
    ({"temperature": 0.0}, {"temperature": 0.0}, []),
    ({"top_p": 0.9}, {"p": 0.9}, []),
    ({"top_p": 1.0}, {"p": 0.99}, [("changed", "top_p")]),
    ({"top_k": 40}, {"k": 40}, []),
    ({"top_k": 900}, {"k": 500}, [("changed", "top_k")]),
    ({"seed": 7}, {"seed": 7}, []),
    ({"stop": "END"}, {"stop_sequences": ["END"]}, []),
    ({"stop": list("abcdef")}, {"stop_sequences": list("abcde")}, [("unsupported", "stop")]),
    ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}, []),
    ({"frequency_penalty": 2}, {"frequency_penalty": 1}, [("changed", "frequency_penalty")]),
    ({"presence_penalty": -1}, {"presence_penalty": 0}, [("changed", "presence_penalty")]),
    ({"logprobs": True}, {"logprobs": True}, []),
    ({"logprobs": False}, {}, []),
    ({"top_logprobs": 0}, {"logprobs": True}, []),
    ({"top_logprobs": 3}, {"logprobs": True}, [("unsupported", "top_logprobs")]),
    ({"user_id": "u"}, {}, [("unsupported", "user_id")]),
    ({"metadata": {"a": "b"}}, {}, [("unsupported", "metadata")]),
    ({"reasoning": ReasoningOptions()}, {}, []),
    ({"reasoning": ReasoningOptions(effort="none")}, {"thinking": {"type": "disabled"}}, []),
    ({"reasoning": ReasoningOptions(max_tokens=0)}, {"thinking": {"type": "disabled"}}, []),
    ({"reasoning": ReasoningOptions(max_tokens=99)}, {"thinking": {"type": "enabled", "token_budget": 99}}, []),
    (
        {"reasoning": ReasoningOptions(max_tokens=99, effort="low")},
        {"thinking": {"type": "enabled", "token_budget": 99}},
        [("unsupported", "reasoning.effort")],
    ),
    (
        {"reasoning": ReasoningOptions(effort="low")},
        {"thinking": {"type": "enabled", "token_budget": 2048}},
        [("emulated", "reasoning.effort")],
    ),
    (
        {"reasoning": ReasoningOptions(effort="high"), "max_output_tokens": 4096},
        {"thinking": {"type": "enabled", "token_budget": 3072}, "max_tokens": 4096},
        [("emulated", "reasoning.effort")],
    ),
    (
        {"reasoning": ReasoningOptions(effort="high"), "max_output_tokens": 10},
        {"thinking": {"type": "enabled", "token_budget": 1}, "max_tokens": 10},
        [("emulated", "reasoning.effort")],
    ),
    (
        {"reasoning": ReasoningOptions(effort="max")},
        {"thinking": {"type": "enabled"}},
        [("emulated", "reasoning.effort")],
    ),
    ({"reasoning": ReasoningOptions(summary="auto")}, {}, [("unsupported", "reasoning.summary")]),
    ({"parallel_tool_calls": False}, {}, []),
    ({"response_format": ResponseFormat(type="text")}, {}, []),
    ({"response_format": ResponseFormat(type="json")}, {"response_format": {"type": "json_object"}}, []),
    (
        {"response_format": ResponseFormat(schema=SCHEMA)},
        {"response_format": {"type": "json_object", "json_schema": SCHEMA}},
        [],
    ),
    (
        {"response_format": ResponseFormat(schema=SCHEMA, description="where")},
        {"response_format": {"type": "json_object", "json_schema": {**SCHEMA, "description": "where"}}},
        [],
    ),
]


@pytest.mark.parametrize(("fields", "expected", "warned"), OPTIONS)
def test_options_are_sent_in_cohere_s_words(
    fields: dict[str, Any], expected: dict[str, Any], warned: list[tuple[str, str]]
) -> None:
    found = body("hi", **fields)
    del found["model"], found["messages"]
    assert found == expected
    assert warnings("hi", **fields) == warned


FUNCTION = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
EMPTY = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}

TOOLS: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ({}, {"tools": [FUNCTION, EMPTY]}, []),
    ({"tool_choice": "auto"}, {"tools": [FUNCTION, EMPTY]}, []),
    ({"tool_choice": "none"}, {"tools": [FUNCTION, EMPTY], "tool_choice": "NONE"}, []),
    ({"tool_choice": "required"}, {"tools": [FUNCTION, EMPTY], "tool_choice": "REQUIRED"}, []),
    ({"tool_choice": "weather"}, {"tools": [FUNCTION], "tool_choice": "REQUIRED"}, [("emulated", "tool_choice")]),
    (
        {"tool_choice": ToolChoice.tool("clock"), "tools": [CLOCK]},
        {"tools": [EMPTY], "tool_choice": "REQUIRED"},
        [],
    ),
    ({"parallel_tool_calls": True}, {"tools": [FUNCTION, EMPTY]}, []),
    ({"parallel_tool_calls": False}, {"tools": [FUNCTION, EMPTY]}, [("unsupported", "parallel_tool_calls")]),
    (
        {"tools": [Tool(name="weather", description="d", parameters=SCHEMA, strict=True)]},
        {"tools": [FUNCTION], "strict_tools": True},
        [],
    ),
    (
        {
            "tools": [
                Tool(name="weather", description="d", parameters=SCHEMA, strict=True),
                Tool(name="weather2", description="d", parameters=SCHEMA, strict=False),
            ]
        },
        {
            "tools": [FUNCTION, {**FUNCTION, "function": {**FUNCTION["function"], "name": "weather2"}}],
            "strict_tools": True,
        },
        [("changed", "strict tools")],
    ),
    # Cohere refuses strict tools of which one has no required parameter.
    (
        {"tools": [Tool(name="weather", description="d", parameters=SCHEMA, strict=True), Tool(name="clock")]},
        {"tools": [FUNCTION, EMPTY]},
        [("changed", "strict tools")],
    ),
    ({"tools": [Tool(name="clock", strict=False)]}, {"tools": [EMPTY]}, []),
    (
        {"response_format": ResponseFormat(schema=SCHEMA)},
        {"tools": [FUNCTION, EMPTY]},
        [("emulated", "response_format")],
    ),
    (
        {"response_format": ResponseFormat(schema=SCHEMA), "tool_choice": "none"},
        {"response_format": {"type": "json_object", "json_schema": SCHEMA}},
        [("emulated", "tools")],
    ),
]


@pytest.mark.parametrize(("fields", "expected", "warned"), TOOLS)
def test_tools_are_sent_in_cohere_s_words(
    fields: dict[str, Any], expected: dict[str, Any], warned: list[tuple[str, str]]
) -> None:
    fields = {"tools": [WEATHER, CLOCK], **fields}
    found = body("hi", **fields)
    del found["model"], found["messages"]
    assert found == expected
    assert warnings("hi", **fields) == warned


def test_a_tool_with_a_type_of_its_own_is_passed_whole() -> None:
    tool = Tool(name="x", provider_options={"cohere": {"type": "web_search", "site": "a"}})
    assert body("hi", tools=[tool], oracle=False)["tools"] == [{"type": "web_search", "site": "a"}]


def test_the_request_s_options_come_last_and_documents_and_tools_join() -> None:
    options = {
        "cohere": {
            "temperature": 0.9,
            "citation_options": {"mode": "FAST"},
            "documents": ["plain"],
            "tools": [EMPTY],
        },
        "other": {"x": 1},
    }
    document = Document(data=b"words", media_type="text/plain")
    found = body([user("hi", document)], temperature=0.1, tools=[WEATHER], provider_options=options)
    assert (found["temperature"], found["citation_options"]) == (0.9, {"mode": "FAST"})
    assert found["documents"] == [{"data": {"text": "words"}}, "plain"]
    assert found["tools"] == [FUNCTION, EMPTY]
    assert "x" not in found


DATA_URL = "data:image/png;base64,iVBORw0KGgo="
MESSAGES: list[tuple[str, list[Message], list[dict[str, Any]], list[tuple[str, str]]]] = [
    (
        "system and user",
        [system("be brief"), user("hi")],
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        [],
    ),
    (
        "several texts stay apart, empty ones go",
        [user("a", "", "b")],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
        [],
    ),
    (
        "messages without content",
        [user(""), user(" \n"), user(), user("hi")],
        [{"role": "user", "content": "hi"}],
        [("mended", "message"), ("mended", "text"), ("mended", "message")],
    ),
    (
        "images by bytes and by URL",
        [user("see", Image(data=PNG), Image(url="https://x/y.png", detail="low"))],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": DATA_URL}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                ],
            }
        ],
        [],
    ),
    (
        "an image of an unknown type",
        [user(Image(data=b"?"))],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,Pw=="}}]}],
        [("changed", "image")],
    ),
    (
        "an image by file id",
        [user("a", Image(file_id="f"))],
        [{"role": "user", "content": "a"}],
        [("unsupported", "image")],
    ),
    (
        "an image in a system turn",
        [system("a", Image(data=PNG)), user("b")],
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
        [("unsupported", "image")],
    ),
    ("sound", [user("a", Audio(data=b"ID3"))], [{"role": "user", "content": "a"}], [("unsupported", "audio")]),
    (
        "sound with its words",
        [user(Audio(data=b"ID3", transcript="words"))],
        [{"role": "user", "content": "words"}],
        [("emulated", "audio")],
    ),
    (
        "a name",
        [Message(role="user", parts="hi", name="ann")],
        [{"role": "user", "content": "hi"}],
        [("left_out", "message name")],
    ),
    (
        "options on message and part",
        [
            Message(
                role="user",
                parts=Text(text="hi", provider_options={"cohere": {"x": 1}}),
                provider_options={"cohere": {"y": 2}, "openai": {"z": 3}},
            )
        ],
        [{"role": "user", "content": [{"type": "text", "text": "hi", "x": 1}], "y": 2}],
        [],
    ),
    (
        "a refusal of another provider",
        [user("a"), assistant(Text(text="no", refusal=True))],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "no"}],
        [("changed", "refusal")],
    ),
    (
        "thinking, text and calls of Cohere",
        [user("a"), assistant(Reasoning(text="hm", provider="cohere"), "so", CALL), tool_result(CALL, "sun")],
        [
            {"role": "user", "content": "a"},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}],
                "tool_calls": [WIRE_CALL],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ],
        [],
    ),
    (
        "a tool plan of Cohere",
        [
            user("a"),
            assistant(Reasoning(text="I will", provider="cohere", provider_metadata=PLAN), CALL),
            tool_result(CALL, "sun"),
        ],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [WIRE_CALL], "tool_plan": "I will"},
            {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        ],
        [],
    ),
    (
        "a tool plan without its calls",
        [user("a"), assistant(Reasoning(text="I will", provider="cohere", provider_metadata=PLAN), "so")],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "so"}],
        [("mended", "reasoning")],
    ),
    (
        "reasoning of others, one warning",
        [
            user("a"),
            assistant(Reasoning(text="x", provider="anthropic", signature="s"), "so"),
            user("b"),
            assistant(Reasoning(provider="openai", encrypted="e"), Reasoning(text="y"), "then"),
        ],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "so"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "then"},
        ],
        [("mended", "reasoning")],
    ),
    (
        "a turn of which nothing is left",
        [user("a"), assistant(Reasoning(text="x", provider="anthropic")), user("b")],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [("mended", "reasoning"), ("mended", "message")],
    ),
    (
        "opaque parts of others and of Cohere",
        [
            user("a"),
            assistant(
                Opaque(provider="openai", kind="web_search_call", data={"id": "1"}),
                Opaque(provider="cohere", kind="text", data={"type": "text", "text": "kept"}),
            ),
        ],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "kept"}],
        [("mended", "opaque part")],
    ),
    (
        "media in the model's turn",
        [user("a"), assistant("so", Image(data=PNG), Document(data=b"x", media_type="text/plain"))],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "so"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "(From the answer above:)"},
                    {"type": "image_url", "image_url": {"url": DATA_URL}},
                ],
            },
        ],
        [("mended", "image"), ("mended", "document")],
    ),
]


@pytest.mark.parametrize(
    ("conversation", "expected", "warned"), [pytest.param(*case[1:], id=case[0]) for case in MESSAGES]
)
def test_conversations(
    conversation: list[Message], expected: list[dict[str, Any]], warned: list[tuple[str, str]]
) -> None:
    assert body(conversation, oracle="y" not in expected[0])["messages"] == expected
    assert warnings(conversation, oracle=False) == warned


SECOND = ToolCall(id="call_2", name="clock")
WIRE_SECOND = {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def results(*messages: Message, calls: tuple[ToolCall, ...] = (CALL,)) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body([user("a"), assistant(*calls), *messages])["messages"][2:]
    return found


def tool_message(content: Any, call_id: str = "call_1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_results_stand_next_to_their_calls_in_the_order_of_the_calls() -> None:
    found = results(tool_result(SECOND, "noon"), user("and?"), tool_result(CALL, "sun"), calls=(CALL, SECOND))
    assert found == [tool_message("sun"), tool_message("noon", "call_2"), {"role": "user", "content": "and?"}]


RESULTS: list[tuple[Message, list[dict[str, Any]], list[tuple[str, str]]]] = [
    (tool_result(CALL, {"t": 3}), [tool_message('{"t":3}')], []),
    (tool_result(CALL, ""), [tool_message("")], []),
    (
        tool_result(CALL, [Text(text="a"), Text(text="b")]),
        [tool_message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])],
        [],
    ),
    (tool_result(CALL, "boom", is_error=True), [tool_message("Error: boom")], [("changed", "tool result")]),
    (
        tool_result(
            CALL,
            Document(data=b"words", media_type="text/plain", name="n.txt", provider_options={"cohere": {"id": "d1"}}),
        ),
        [tool_message([{"type": "document", "document": {"data": {"title": "n.txt", "text": "words"}, "id": "d1"}}])],
        [],
    ),
    (
        tool_result(CALL, Document(data=b'{"t": 3}', media_type="application/json"), is_error=True),
        [tool_message([{"type": "text", "text": "Error:"}, {"type": "document", "document": {"data": {"t": 3}}}])],
        [("changed", "tool result")],
    ),
    (
        tool_result(CALL, [Text(text="see"), Image(data=PNG)]),
        [
            tool_message("see"),
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URL}}]},
        ],
        [("mended", "tool result")],
    ),
    (
        tool_result(CALL, Image(data=PNG)),
        [
            tool_message("The result follows in the next message."),
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URL}}]},
        ],
        [("mended", "tool result")],
    ),
    (tool_result(CALL, Audio(data=b"ID3")), [tool_message(LEFT_OUT)], [("unsupported", "audio")]),
    (tool_result(CALL, Document(data=b"%PDF-1")), [tool_message(LEFT_OUT)], [("unsupported", "document")]),
    (
        user("on"),
        [tool_message("Error: No result of this call is known."), {"role": "user", "content": "on"}],
        [("mended", "tool result"), ("changed", "tool result")],
    ),
    (
        m.Message(
            role="tool",
            parts=ToolResult(
                tool_call_id="call_1",
                parts="x",
                provider_options={"cohere": {"content": [{"type": "text", "text": "own"}]}},
            ),
        ),
        [tool_message([{"type": "text", "text": "own"}])],
        [],
    ),
]


@pytest.mark.parametrize(("message", "expected", "warned"), RESULTS)
def test_tool_results(message: Message, expected: list[dict[str, Any]], warned: list[tuple[str, str]]) -> None:
    assert results(message) == expected
    assert warnings([user("a"), assistant(CALL), message]) == warned


def test_a_result_without_its_call_is_left_out() -> None:
    conversation = [user("a"), tool_result("nobody", "x")]
    assert body(conversation)["messages"] == [{"role": "user", "content": "a"}]
    assert warnings(conversation) == [("mended", "tool result")]


def test_ids_that_are_empty_odd_or_repeated_are_replaced_in_call_and_result_alike() -> None:
    one, two, three, four = (ToolCall(id=name, name="clock") for name in ("", "c", "c", "an odd/id"))
    conversation = [
        user("a"),
        assistant(one),
        tool_result(one, "1"),
        assistant(two),
        tool_result(two, "2"),
        assistant(three, four),
        tool_result(four, "4"),
        tool_result(three, "3"),
    ]
    found = body(conversation)["messages"]
    calls = [call["id"] for message in found for call in message.get("tool_calls", ())]
    answers = {message["tool_call_id"]: message["content"] for message in found if message["role"] == "tool"}
    assert len(set(calls)) == 4
    assert all(re.fullmatch(r"[\w.:-]+", call) for call in calls)
    assert [answers[call] for call in calls] == ["1", "2", "3", "4"]
    assert warnings(conversation) == [("mended", "tool call id")]


def test_parts_of_the_model_are_sent_back_with_their_fields() -> None:
    metadata: Any = {"cohere": {"signature": "s"}, "openai": {"x": 1}}
    function: Any = {"cohere": {"index": 0, "function": {"parameters": None}}}
    answer = assistant(
        Reasoning(text="hm", provider="cohere", provider_metadata=metadata),
        Text(text="so", provider_metadata=metadata),
        ToolCall(id="call_1", name="weather", provider_metadata=function),
    )
    sent = body([user("a"), answer, tool_result(CALL, "sun")], oracle=False)["messages"][1]
    assert sent["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "so", "signature": "s"},
    ]
    [call] = sent["tool_calls"]
    assert call == {
        "id": "call_1",
        "type": "function",
        "index": 0,
        "function": {"name": "weather", "arguments": "{}", "parameters": None},
    }


def test_arguments_that_are_not_an_object_are_sent_as_json() -> None:
    broken = ToolCall(id="call_1", name="weather", invalid_arguments='{"city": "Os')
    conversation = [user("a"), assistant(broken), tool_result(broken, "no JSON", is_error=True)]
    [call] = body(conversation)["messages"][1]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"invalid_arguments": '{"city": "Os'}
    assert ("mended", "tool call") in warnings(conversation)


# Models


FACTS: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, str, bool]]]] = [
    ("command-a-03-2025", {"reasoning": ReasoningOptions(effort="high")}, {}, [("unsupported", "reasoning", True)]),
    ("command-a-03-2025", {"reasoning": ReasoningOptions(effort="none")}, {}, []),
    ("command-a-03-2025", {"reasoning": ReasoningOptions(max_tokens=9)}, {}, [("unsupported", "reasoning", True)]),
    ("command-a-03-2025", {"reasoning": ReasoningOptions(max_tokens=0)}, {}, []),
    ("command-r-08-2024", {"tools": [CLOCK], "tool_choice": "none"}, {}, [("emulated", "tool_choice", False)]),
    (
        "command-r-plus",
        {"tools": [CLOCK], "tool_choice": "required"},
        {"tools": [EMPTY]},
        [("unsupported", "tool_choice", True)],
    ),
    (
        "command-r7b-12-2024",
        {"tools": [CLOCK], "tool_choice": "required"},
        {"tools": [EMPTY], "tool_choice": "REQUIRED"},
        [],
    ),
    ("command-a-vision-07-2025", {"tools": [CLOCK]}, {}, [("unsupported", "tools", True)]),
    (
        "north-9",
        {"reasoning": ReasoningOptions(max_tokens=9)},
        {"thinking": {"type": "enabled", "token_budget": 9}},
        [],
    ),
]


@pytest.mark.parametrize(("model", "fields", "expected", "warned"), FACTS)
def test_options_that_a_model_refuses_are_not_sent(
    model: str, fields: dict[str, Any], expected: dict[str, Any], warned: list[tuple[str, str, bool]]
) -> None:
    translation = translate("hi", model=model, **fields)
    found = json.loads(translation.wire_request.body)
    del found["model"], found["messages"]
    assert found == expected
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == warned


def test_no_images_are_sent_to_a_model_that_cannot_read_images() -> None:
    conversation = [user("a", Image(data=PNG)), assistant(CALL), tool_result(CALL, [Text(text="r"), Image(data=PNG)])]
    translation = translate(conversation, model="command-a-03-2025")
    sent = json.loads(translation.wire_request.body)["messages"]
    assert [message["content"] for message in sent if message["role"] != "assistant"] == ["a", "r"]
    assert {(one.kind, one.subject, one.lossy) for one in translation.warnings} == {("unsupported", "image", True)}
    made = translate([user("draw"), assistant("Here:", Image(data=PNG)), user("b")], model="command-a-03-2025")
    assert [(one.kind, one.subject, one.lossy) for one in made.warnings] == [("mended", "image", False)]
    assert translate(conversation, model="command-a-vision-07-2025").warnings[0].kind == "mended"


def test_configuration_overrides_the_facts_about_a_model() -> None:
    settings = CohereSettings(api_key=Secret("k"), model_facts={"command-a-*": {"reasoning": True, "images": True}})
    context = ServiceContext(name="s", provider="cohere", settings=settings)
    request = ChatRequest(
        messages=user("a", Image(data=PNG)), model="command-a-03-2025", reasoning=ReasoningOptions(max_tokens=9)
    )
    translation = CohereTranslator(context).translate(request, stream=False)
    assert json.loads(translation.wire_request.body)["thinking"] == {"type": "enabled", "token_budget": 9}
    assert translation.warnings == ()


# Schemas


def test_schemas_get_an_object_at_the_root() -> None:
    union = {"anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "string"}}}]}
    translation = translate(
        "hi", tools=[Tool(name="t", parameters={"properties": {"a": {}}}), Tool(name="u", parameters=union)]
    )
    made = [tool["function"]["parameters"] for tool in json.loads(translation.wire_request.body)["tools"]]
    assert [schema["type"] for schema in made] == ["object", "object"]
    assert made[1]["properties"].keys() == {"a", "b"}
    assert [(one.kind, one.lossy) for one in translation.warnings] == [("changed", False), ("changed", False)]
    schema = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    found = body("hi", response_format=ResponseFormat(schema=schema))
    assert found["response_format"]["json_schema"]["type"] == "object"


def test_a_schema_that_cohere_cannot_enforce_is_in_the_prompt() -> None:
    found = body("hi", response_format=ResponseFormat(schema={"properties": {"a": {"type": "string"}}}))
    assert found["response_format"] == {"type": "json_object"}
    assert '"a":{"type":"string"}' in found["messages"][0]["content"]


DOCUMENTS: list[tuple[Document, dict[str, Any] | None]] = [
    (Document(data=b"words", media_type="text/plain"), {"data": {"text": "words"}}),
    (
        Document(data=b"words", media_type="text/markdown; charset=utf-8", name="a.md"),
        {"data": {"title": "a.md", "text": "words"}},
    ),
    (Document(data=b"words"), {"data": {"text": "words"}}),
    (
        Document(data=b'{"title": "T", "text": "x"}', media_type="application/json", name="n"),
        {"data": {"title": "T", "text": "x"}},
    ),
    (Document(data=b"[1]", media_type="application/json"), {"data": {"text": "[1]"}}),
    (Document(data=b"{}", media_type="application/json"), {"data": {"text": "{}"}}),
    (Document(data=b"{", media_type="application/json"), {"data": {"text": "{"}}),
    (Document(data=b"<a/>", media_type="image/svg+xml"), {"data": {"text": "<a/>"}}),
    (
        Document(data=b"w", media_type="text/plain", provider_options={"cohere": {"id": "d"}}),
        {"data": {"text": "w"}, "id": "d"},
    ),
    (Document(data=b"%PDF-1.7"), None),
    (Document(data=b"\xff\xfe\x00"), None),
    (Document(data=b"a\0b"), None),
    (Document(url="https://x/y.txt"), None),
    (Document(file_id="f"), None),
]


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS)
def test_documents_stand_beside_the_messages(document: Document, expected: dict[str, Any] | None) -> None:
    found = body([user("what?", document)])
    assert found["messages"] == [{"role": "user", "content": "what?"}]
    assert found.get("documents") == (None if expected is None else [expected])
    assert warnings([user("what?", document)]) == ([("unsupported", "document")] if expected is None else [])


def test_a_document_by_url_says_how_it_can_be_sent() -> None:
    translation = translate([user("what?", Document(url="https://x/y.txt"))])
    assert "fetch_urls = true" in translation.warnings[0].message


def test_a_turn_of_documents_alone_makes_no_message() -> None:
    found = body([user(Document(data=b"words")), user("what?")])
    assert found["messages"] == [{"role": "user", "content": "what?"}]
    assert found["documents"] == [{"data": {"text": "words"}}]


def test_beside_a_response_format_a_document_is_a_text() -> None:
    document = Document(data=b"words", name="n.txt")
    fields = {"response_format": ResponseFormat(type="json")}
    found = body([user("what?", document)], **fields)
    assert found["messages"][0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "text", "text": "n.txt\n\nwords"},
    ]
    assert warnings([user("what?", document)], **fields) == [("emulated", "document")]
    assert warnings([user("what?", Document(data=b"%PDF-1"))], **fields) == [("unsupported", "document")]


def test_citations_of_cohere_go_back_once_each_and_those_of_others_do_not() -> None:
    raw = {
        "start": 0,
        "end": 2,
        "text": "so",
        "sources": [{"type": "document", "id": "d", "document": {"text": "x"}}],
        "type": "TEXT_CONTENT",
    }
    mine = Citation(start=0, end=2, provider_metadata={"cohere": {"citation": raw}})
    turn = assistant("so", mine, mine, Citation(url="https://other"))
    assert body([user("a"), turn])["messages"][1] == {"role": "assistant", "content": "so", "citations": [raw]}


@pytest.mark.parametrize(
    "conversation",
    [
        [user(CALL)],
        [system(CALL), user("a")],
        [Message(role="tool", parts="x")],
        [user(Document(data=b"words"))],
        [user(Image(file_id="f"))],
    ],
)
def test_what_can_never_be_sent_is_refused(conversation: list[Message]) -> None:
    with pytest.raises(InvalidRequest):
        translate(conversation)


def test_what_json_cannot_say_is_refused() -> None:
    for value in (float("nan"), object()):
        options: dict[str, Any] = {}
        request = ChatRequest(messages="hi", model=MODEL, provider_options={"cohere": options})
        options["x"] = value  # a request refuses it when it is made
        with pytest.raises(InvalidRequest):
            translate(request)


def test_the_oracle_refuses_what_it_should() -> None:
    for wrong in (
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}], "top_p": 1},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "tool_choice": "weather"},
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(wrong)
