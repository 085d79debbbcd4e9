"""Requests of the Responses API: what is sent, what is left out, and that OpenAI's own types take it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from strict_types import strict_adapter
from trunkline.authoring.json import JSONObject
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest
from trunkline.fold import with_family
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
from trunkline.secrets import Secret
from trunkline_openai.profile import PROFILES
from trunkline_openai.responses_count_tokens import count_tokens, parse_count_tokens
from trunkline_openai.responses_parse import ResponsesParser
from trunkline_openai.responses_translate import ResponsesTranslator
from trunkline_openai.settings import OpenAISettings

MODEL = "gpt-5.4"
PNG = b"\x89PNG\r\n\x1a\n"
WEATHER = Tool(
    name="weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
SEARCH = Tool(name="search", provider_options={"openai": {"type": "web_search", "search_context_size": "low"}})
SHELL = Tool(name="run", description="Runs a script.", provider_options={"openai": {"type": "custom"}})


def context(**settings: Any) -> ServiceContext[OpenAISettings]:
    return ServiceContext(
        name="test", provider="openai", settings=OpenAISettings(api_key=Secret("REDACTED-KEY"), **settings)
    )


def translator(**settings: Any) -> ResponsesTranslator:
    return ResponsesTranslator(context(**settings), profile=PROFILES["openai"])


@pytest.fixture(scope="module")
def accepted() -> Callable[[bytes], dict[str, Any]]:
    """Decodes a request's body, once OpenAI's own types, made strict, have taken it."""
    from openai.types.responses import response_create_params as params

    plain = strict_adapter(params.ResponseCreateParamsNonStreaming)
    streaming = strict_adapter(params.ResponseCreateParamsStreaming)

    def check(body: bytes) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(body)
        (streaming if data.get("stream") else plain).validate_python(data)
        return data

    return check


Translate = Callable[..., tuple[dict[str, Any], Translation]]


@pytest.fixture
def translate(accepted: Callable[[bytes], dict[str, Any]]) -> Translate:
    def run(
        *messages: Message, stream: bool = False, settings: dict[str, Any] | None = None, **request: Any
    ) -> tuple[dict[str, Any], Translation]:
        chat = ChatRequest(messages=messages or (user("Hi"),), **{"model": MODEL, **request})
        translation = translator(**(settings or {})).translate(chat, stream=stream)
        return accepted(translation.wire_request.body), translation

    return run


def warnings_of(translation: Translation) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translation.warnings]


def own(**fields: Any) -> dict[str, dict[str, Any]]:
    return {"openai": fields}


def test_a_plain_request_stores_nothing_and_asks_for_encrypted_reasoning(translate: Translate) -> None:
    body, translation = translate(user("Hi"))
    assert body == {
        "model": MODEL,
        "input": [{"role": "user", "content": "Hi"}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    assert warnings_of(translation) == []


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "ft:gpt-4o:acme", "gpt-5-chat-latest"])
def test_a_model_that_never_reasons_is_neither_asked_for_nor_given_reasoning(translate: Translate, model: str) -> None:
    history = assistant(Reasoning(provider="openai", encrypted="E", provider_metadata=own(id="rs_1")), Text(text="A"))
    body, translation = translate(user("Q"), history, user("Q"), model=model)
    assert "include" not in body
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "user"]
    assert warnings_of(translation) == [("mended", "reasoning")]


@pytest.mark.parametrize(
    "url",
    [
        "https://host/v1",
        "https://host/v1/",
        "https://host",
        "https://host/v1/responses",
        "https:/host/v1/chat/completions",
    ],
)
def test_the_request_goes_to_the_responses_endpoint(translate: Translate, url: str) -> None:
    _, translation = translate(settings={"api_url": url, "organization_id": "org", "project_id": "proj"}, stream=True)
    wire = translation.wire_request
    assert (wire.method, wire.url) == ("POST", "https://host/v1/responses")
    assert wire.headers["openai-organization"] == "org"
    assert wire.headers["openai-project"] == "proj"
    assert wire.headers["accept"] == "text/event-stream"


def test_a_stream_is_asked_for_without_padding(translate: Translate) -> None:
    body, _ = translate(stream=True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_obfuscation": False}


# Messages


def test_a_leading_system_message_is_the_instructions_and_later_ones_are_developer_items(translate: Translate) -> None:
    body, _ = translate(system("Be ", "brief."), user("Hi"), system("Now in French."))
    assert body["instructions"] == "Be brief."
    assert body["input"] == [
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": "Now in French."},
    ]


def test_in_json_mode_instructions_that_ask_for_json_go_where_the_server_looks_for_the_word(
    translate: Translate,
) -> None:
    body, _ = translate(system("Answer in JSON."), user("Hi"), response_format=ResponseFormat(type="json"))
    assert "instructions" not in body
    assert body["input"][0] == {"role": "developer", "content": "Answer in JSON."}
    assert body["text"] == {"format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (Text(text="Hi"), "Hi"),
        (
            Image(data=PNG),
            [{"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw0KGgo="}],
        ),
        (
            Image(url="https://host/a.png", detail="high"),
            [{"type": "input_image", "detail": "high", "image_url": "https://host/a.png"}],
        ),
        (Image(file_id="file_1"), [{"type": "input_image", "detail": "auto", "file_id": "file_1"}]),
        (Document(file_id="file_1"), [{"type": "input_file", "file_id": "file_1"}]),
        (Document(url="https://host/a.pdf"), [{"type": "input_file", "file_url": "https://host/a.pdf"}]),
        (
            Document(data=b"%PDF-", name="a.pdf"),
            [{"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}],
        ),
        (
            Document(data=b"a", media_type="text/plain"),
            [{"type": "input_file", "filename": "document.txt", "file_data": "data:text/plain;base64,YQ=="}],
        ),
        (
            Text(text="Hi", provider_options=own(prompt_cache_breakpoint={"mode": "explicit"})),
            [{"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}],
        ),
    ],
)
def test_a_users_part_in_the_wires_words(translate: Translate, part: Part, content: object) -> None:
    body, translation = translate(user(part))
    assert body["input"] == [{"role": "user", "content": content}]
    assert warnings_of(translation) == []


@pytest.mark.parametrize(
    ("part", "content", "warning"),
    [
        (Audio(data=b"ID3"), None, ("left_out", "audio")),
        (Audio(data=b"ID3", transcript="Hello"), "Hello", ("emulated", "audio")),
        (Citation(url="https://host"), None, None),
        (Reasoning(text="hm", provider="openai"), None, ("left_out", "reasoning")),
        (Opaque(provider="other", kind="block", data={"type": "block"}), None, ("left_out", "opaque part")),
        (
            Image(data=b"?"),
            [{"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,Pw=="}],
            ("changed", "image"),
        ),
        (
            Document(url="https://host/a", name="a"),
            [{"type": "input_file", "file_url": "https://host/a"}],
            ("left_out", "document name"),
        ),
    ],
)
def test_what_the_wire_cannot_say_of_a_users_part_is_told(
    translate: Translate, part: Part, content: object, warning: tuple[str, str] | None
) -> None:
    body, translation = translate(user(part), user("Hi"))
    expected = [{"role": "user", "content": content}] if content is not None else []
    assert body["input"] == [*expected, {"role": "user", "content": "Hi"}]
    assert warnings_of(translation) == ([warning] if warning else [])


def test_a_participants_name_is_left_out_with_a_warning(translate: Translate) -> None:
    _, translation = translate(Message(role="user", parts="Hi", name="Ada"))
    assert warnings_of(translation) == [("left_out", "message name")]


@pytest.mark.parametrize(
    "message",
    [
        Message(role="user", parts=ToolCall(id="1", name="f")),
        Message(role="tool", parts="text"),
    ],
)
def test_a_part_that_its_role_cannot_have_is_refused(message: Message) -> None:
    with pytest.raises(InvalidRequest):
        translator().translate(ChatRequest(messages=message, model=MODEL), stream=False)


def test_options_that_json_cannot_say_are_refused() -> None:
    options: dict[str, Any] = {}
    request = ChatRequest(messages="Hi", model=MODEL, provider_options={"openai": options})
    options["x"] = float("nan")  # a request refuses it when it is made
    with pytest.raises(InvalidRequest):
        translator().translate(request, stream=False)


# History


def test_a_turn_of_this_provider_is_replayed_item_by_item_as_it_came(translate: Translate) -> None:
    output: list[dict[str, Any]] = [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
            "encrypted_content": "OPAQUE",
        },
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "weather"},
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "commentary",
            "content": [
                {"type": "output_text", "text": "Let me", "annotations": []},
                {"type": "output_text", "text": " look.", "annotations": []},
            ],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "weather",
            "arguments": '{"city":"Tromsø"}',
            "status": "completed",
        },
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "run", "input": 'echo "ø"\n'},
    ]
    answer = {"id": "resp_1", "status": "completed", "model": MODEL, "output": output}
    response = ResponsesParser(context()).body(WireResponse(status=200, body=json.dumps(answer).encode()))
    results = [tool_result(call, "ok") for call in response.tool_calls]
    body, translation = translate(user("Q"), response.message, *results, tools=[WEATHER, SHELL])
    assert body["input"][1:6] == output
    assert body["input"][6:] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "ok"},
    ]
    assert warnings_of(translation) == []


def test_a_refusal_of_this_provider_is_replayed_as_one(translate: Translate) -> None:
    refusal = Text(text="No.", refusal=True, provider_metadata=own(id="msg_1", status="completed"))
    body, translation = translate(user("Q"), assistant(refusal), user("Why?"))
    assert body["input"][1]["content"] == [{"type": "refusal", "refusal": "No."}]
    assert warnings_of(translation) == []


def test_a_foreign_turn_is_sent_in_words_and_what_only_its_provider_understands_is_left_out(
    translate: Translate,
) -> None:
    turn = assistant(
        Reasoning(text="hm", provider="anthropic", signature="S"),
        Text(text="Let me", provider_metadata={"anthropic": {"id": "x"}}),
        Citation(url="https://host"),
        Text(text=" look."),
        Opaque(provider="anthropic", kind="server_tool_use", data={"type": "server_tool_use"}),
        ToolCall(id="toolu_1", name="weather", arguments={"city": "Oslo"}),
    )
    body, translation = translate(user("Q"), turn, tool_result("toolu_1", "rain"))
    assert body["input"][1:] == [
        {"type": "message", "role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "toolu_1", "name": "weather", "arguments": '{"city":"Oslo"}'},
        {"type": "function_call_output", "call_id": "toolu_1", "output": "rain"},
    ]
    assert warnings_of(translation) == [("mended", "reasoning"), ("mended", "opaque part")]


@pytest.mark.parametrize(
    ("part", "warning"),
    [
        (Text(text="No.", refusal=True), ("changed", "refusal")),
        (Audio(data=b"ID3", transcript="No."), ("emulated", "audio")),
    ],
)
def test_foreign_words_that_are_not_plain_text_are_sent_as_text(
    translate: Translate, part: Part, warning: tuple[str, str]
) -> None:
    body, translation = translate(user("Q"), assistant(part), user("Q"))
    assert body["input"][1] == {"type": "message", "role": "assistant", "content": "No."}
    assert warnings_of(translation) == [warning]


def test_media_in_an_answer_move_to_the_next_user_message(translate: Translate) -> None:
    body, translation = translate(user("Q"), assistant("A", Image(data=PNG)), user("Q"))
    assert body["input"][1] == {"type": "message", "role": "assistant", "content": "A"}
    assert [part["type"] for part in body["input"][2]["content"]] == ["input_text", "input_image", "input_text"]
    assert warnings_of(translation) == [("mended", "image")]


def reasoned(**reasoning: Any) -> Message:
    return assistant(
        Reasoning(provider="openai", **reasoning),
        Text(text="A", provider_metadata=own(id="msg_1", status="completed", phase="final_answer")),
        ToolCall(id="call_1", name="weather", provider_metadata=own(id="fc_1", status="completed")),
    )


def test_reasoning_without_its_state_is_left_out_and_so_are_the_ids_that_point_to_it(translate: Translate) -> None:
    turn = reasoned(provider_metadata=own(id="rs_1", summary=[]))
    body, translation = translate(user("Q"), turn, tool_result("call_1", "ok"))
    assert body["input"][1:3] == [
        {"type": "message", "role": "assistant", "content": "A", "phase": "final_answer"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}", "status": "completed"},
    ]
    assert warnings_of(translation) == [("mended", "reasoning")]


@pytest.mark.parametrize(
    ("reasoning", "options", "item"),
    [
        (
            {"provider_metadata": own(id="rs_1", summary=[])},
            {"store": True},
            {"type": "reasoning", "id": "rs_1", "summary": []},
        ),
        (
            {
                "text": "hm",
                "provider_metadata": own(id="rs_1", summary=[], content=[{"type": "reasoning_text", "text": "hm"}]),
            },
            {},
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
            },
        ),
        (
            {"encrypted": "E", "provider_metadata": own(id="rs_1", summary=[])},
            {},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"},
        ),
    ],
)
def test_reasoning_that_carries_its_state_or_is_stored_is_replayed(
    translate: Translate, reasoning: dict[str, Any], options: dict[str, Any], item: dict[str, Any]
) -> None:
    body, translation = translate(
        user("Q"), reasoned(**reasoning), tool_result("call_1", "ok"), provider_options={"openai": options}
    )
    assert body["input"][1] == item
    assert body["input"][2]["id"] == "msg_1"
    assert body["input"][3]["id"] == "fc_1"
    assert warnings_of(translation) == []


def test_reasoning_that_nothing_follows_is_left_out(translate: Translate) -> None:
    cut = assistant(Reasoning(provider="openai", encrypted="E", provider_metadata=own(id="rs_1", summary=[])))
    body, translation = translate(user("Q"), cut, user("Go on."))
    assert [item["role"] for item in body["input"]] == ["user", "user"]
    assert warnings_of(translation) == [("mended", "reasoning"), ("mended", "message")]


def test_a_call_id_longer_than_the_wire_takes_is_the_same_in_the_call_and_its_result(translate: Translate) -> None:
    call = ToolCall(id="x" * 100, name="weather")
    body, _ = translate(user("Q"), assistant(call), tool_result(call, "ok"))
    assert body["input"][1]["call_id"] == body["input"][2]["call_id"]
    assert len(body["input"][1]["call_id"]) <= 64


@pytest.mark.parametrize(
    ("result", "output", "warnings"),
    [
        (ToolResult(tool_call_id="1", parts="rain"), "rain", []),
        (ToolResult(tool_call_id="1", parts=[Text(text="a"), Text(text="b")]), "a\nb", []),
        (ToolResult(tool_call_id="1"), "", []),
        (ToolResult(tool_call_id="1", parts="no", is_error=True), "Error: no", [("changed", "tool result")]),
        (
            ToolResult(tool_call_id="1", parts=[Text(text="see"), Image(data=PNG), Document(file_id="f")]),
            [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw0KGgo="},
                {"type": "input_file", "file_id": "f"},
            ],
            [],
        ),
        (
            ToolResult(tool_call_id="1", parts=[Image(file_id="f")], is_error=True),
            [
                {"type": "input_text", "text": "Error:"},
                {"type": "input_image", "detail": "auto", "file_id": "f"},
            ],
            [("changed", "tool result")],
        ),
        (
            ToolResult(tool_call_id="1", parts=[Text(text="a"), Opaque(provider="x", kind="k", data={})]),
            "a",
            [("left_out", "opaque part")],
        ),
    ],
)
def test_a_tool_result_in_the_wires_words(
    translate: Translate, result: ToolResult, output: object, warnings: list[tuple[str, str]]
) -> None:
    call = ToolCall(id="1", name="weather")
    body, translation = translate(user("Q"), assistant(call), Message(role="tool", parts=result))
    assert body["input"][2] == {"type": "function_call_output", "call_id": "1", "output": output}
    assert warnings_of(translation) == warnings


def test_a_result_without_its_call_is_left_out_unless_a_stored_response_holds_the_call(translate: Translate) -> None:
    body, translation = translate(user("Q"), tool_result("call_1", "ok"))
    assert len(body["input"]) == 1
    assert warnings_of(translation) == [("mended", "tool result")]
    body, translation = translate(
        tool_result("call_1", "ok"), provider_options={"openai": {"previous_response_id": "resp_1"}}
    )
    assert body["input"] == [{"type": "function_call_output", "call_id": "call_1", "output": "ok"}]
    assert warnings_of(translation) == []


# Items that need each other


RS: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"}
MSG: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "A", "annotations": []}],
}
FC: dict[str, Any] = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"}
WS: dict[str, Any] = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
DRAWING: dict[str, Any] = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": "iVBORw0KGgo=",
}


def answered(*output: dict[str, Any]) -> Message:
    """Return the parsed message of a response with these items, with the family that the core sets."""
    body = json.dumps({"id": "resp_1", "status": "completed", "model": MODEL, "output": output}).encode()
    message = ResponsesParser(context()).body(WireResponse(status=200, body=body)).message
    return attrs.evolve(message, parts=with_family(message.parts, "gpt"))


def sent(*messages: Message, **request: Any) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    chat = ChatRequest(messages=messages, **{"model": MODEL, **request})
    translation = translator().translate(chat, stream=False)
    items: list[dict[str, Any]] = json.loads(translation.wire_request.body)["input"]
    return items, warnings_of(translation)


def without(message: Message, kind: type[Part]) -> Message:
    return attrs.evolve(message, parts=tuple(part for part in message.parts if not isinstance(part, kind)))


def test_items_lose_their_ids_if_the_application_removed_the_reasoning() -> None:
    turn = without(answered(RS, MSG, FC), Reasoning)
    items, warnings = sent(user("Q"), turn, tool_result("call_1", "ok"))
    assert items[1:3] == [
        {"type": "message", "role": "assistant", "content": "A"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    ]
    assert warnings == []


def test_reasoning_is_left_out_if_the_application_removed_the_item_after_it() -> None:
    items, warnings = sent(user("Q"), without(answered(RS, FC), ToolCall), user("Go on."))
    assert [item["role"] for item in items] == ["user", "user"]
    assert ("mended", "reasoning") in warnings


def test_a_hosted_call_is_left_out_if_its_reasoning_cannot_be_sent() -> None:
    stateless = {name: value for name, value in RS.items() if name != "encrypted_content"}
    items, warnings = sent(user("Q"), answered(stateless, WS, MSG), user("Q"))
    assert items[1:2] == [{"type": "message", "role": "assistant", "content": "A"}]
    assert warnings == [("mended", "reasoning"), ("mended", "opaque part")]


@pytest.mark.parametrize("family", ["gpt", None])
def test_only_reasoning_of_the_same_model_family_is_sent(family: str | None) -> None:
    turn = answered(RS, MSG)
    known = attrs.evolve(turn, parts=with_family([attrs.evolve(part, family=None) for part in turn.parts], family))  # type: ignore[call-arg, type-var]
    assert [item.get("type") for item in sent(user("Q"), known, user("Q"))[0]] == [None, "reasoning", "message", None]
    other = attrs.evolve(turn, parts=tuple(attrs.evolve(part, family="grok") for part in turn.parts))  # type: ignore[call-arg, type-var]
    items, warnings = sent(user("Q"), other, user("Q"))
    assert [item.get("type") for item in items] == [None, "message", None]
    assert "id" not in items[1]
    assert ("mended", "reasoning") in warnings


def test_a_generated_image_is_sent_as_its_item_only_if_the_provider_stored_it() -> None:
    turn = answered(DRAWING, MSG)
    items, _ = sent(user("Q"), turn, user("Bluer."), provider_options={"openai": {"store": True}})
    assert items[1] == DRAWING
    items, warnings = sent(user("Q"), turn, user("Bluer."))
    assert [item.get("type") for item in items] == [None, "message", None]
    assert items[2]["content"][1]["image_url"] == "data:image/png;base64,iVBORw0KGgo="
    assert warnings == [("mended", "image")]


SHELL_CALL: dict[str, Any] = {
    "type": "shell_call",
    "id": "sh_1",
    "call_id": "call_9",
    "action": {"commands": ["ls"]},
    "status": "completed",
}
SHELL_OUTPUT: dict[str, Any] = {
    "type": "shell_call_output",
    "call_id": "call_9",
    "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
}


def own_item(data: dict[str, Any]) -> Opaque:
    return Opaque(provider="openai", kind=data["type"], data=data)


@pytest.mark.parametrize("role", ["user", "tool"])
def test_the_application_answers_an_item_with_an_item(role: Any) -> None:
    turn = answered(RS, {**SHELL_CALL, "created_by": "x"})
    items, warnings = sent(user("Q"), turn, Message(role=role, parts=own_item(SHELL_OUTPUT)))
    assert items[1:] == [RS, SHELL_CALL, SHELL_OUTPUT]
    assert warnings == []


@pytest.mark.parametrize(
    "item",
    [
        SHELL_CALL,
        {
            "type": "computer_call",
            "id": "cu_1",
            "call_id": "call_9",
            "pending_safety_checks": [],
            "status": "completed",
        },
        {"type": "mcp_approval_request", "id": "mcpr_1", "name": "f", "arguments": "{}", "server_label": "s"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_9", "arguments": "{}"},
    ],
)
def test_an_item_without_its_answer_is_left_out_with_its_reasoning(item: dict[str, Any]) -> None:
    items, warnings = sent(user("Q"), answered(RS, item), user("Never mind."))
    assert items == [{"role": "user", "content": "Q"}, {"role": "user", "content": "Never mind."}]
    assert {kind for kind, _ in warnings} == {"mended"}


def test_an_answer_without_its_item_is_left_out_unless_a_stored_response_has_the_item() -> None:
    answer = Message(role="user", parts=own_item(SHELL_OUTPUT))
    items, warnings = sent(user("Q"), answer)
    assert items == [{"role": "user", "content": "Q"}]
    assert warnings == [("mended", "opaque part")]
    items, _ = sent(answer, provider_options={"openai": {"previous_response_id": "resp_1"}})
    assert items == [SHELL_OUTPUT]


def test_a_call_that_the_provider_answered_has_one_result() -> None:
    output = {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": "ok"}
    items, _ = sent(user("Q"), answered(FC, output, MSG), user("Q"))
    assert [item.get("output") for item in items if item.get("type") == "function_call_output"] == ["ok"]


def test_unknown_fields_are_sent_back_with_their_item() -> None:
    reasoning = {**RS, "format": "v1", "status": "completed"}
    items, _ = sent(user("Q"), answered(reasoning, {**FC, "async": True, "hint": 1}), tool_result("call_1", "ok"))
    assert items[1] == {**RS, "format": "v1"}
    assert items[2] == {**FC, "async": True, "hint": 1}


def test_a_call_without_a_result_gets_a_placeholder_and_repeated_ids_are_replaced() -> None:
    first, second = answered(RS, FC), answered({**RS, "id": "rs_2"}, {**FC, "id": "fc_2"})
    items, warnings = sent(user("Q"), first, tool_result("call_1", "ok"), user("Q"), second, user("Never mind."))
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    results = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    assert calls == results
    assert len(set(calls)) == 2
    assert {kind for kind, _ in warnings} == {"mended", "changed"}


def test_repeated_item_ids_are_not_sent() -> None:
    turn = answered(RS, WS, MSG, FC)
    items, warnings = sent(user("Q"), turn, tool_result("call_1", "a"), user("Q"), turn, tool_result("call_1", "b"))
    found = [item["id"] for item in items if "id" in item]
    assert found == ["rs_1", "ws_1", "msg_1", "fc_1"]
    assert {kind for kind, _ in warnings} == {"mended"}


def test_a_message_id_is_sent_once_if_another_item_splits_its_texts() -> None:
    meta = own(id="msg_1")
    parts = [Text(text="A", provider_metadata=meta), own_item(WS), Text(text="B", provider_metadata=meta)]
    reasoning = answered(RS).parts
    items, _ = sent(user("Q"), assistant(*reasoning, *parts), user("Q"))
    assert [item.get("id") for item in items[1:-1]] == ["rs_1", "msg_1", "ws_1", None]


def test_an_id_in_an_unknown_form_is_not_sent() -> None:
    items, _ = sent(user("Q"), answered(RS, {**MSG, "id": "item-7"}, {**FC, "id": "7"}), tool_result("call_1", "ok"))
    assert ["id" in item for item in items[1:4]] == [True, False, False]


def test_invalid_arguments_are_sent_inside_an_object() -> None:
    call = ToolCall(id="call_1", name="weather", invalid_arguments='{"city":')
    items, _ = sent(user("Q"), assistant(call), tool_result(call, "no", is_error=True))
    assert json.loads(items[1]["arguments"]) == {"invalid_arguments": '{"city":'}


def test_the_schema_of_a_tool_has_an_object_at_its_root() -> None:
    tool = Tool(name="f", parameters={"properties": {"a": {"type": "string"}}})
    translation = translator().translate(ChatRequest(messages="Q", model=MODEL, tools=[tool]), stream=False)
    assert json.loads(translation.wire_request.body)["tools"][0]["parameters"]["type"] == "object"


# Tools and everything else


def test_the_schema_of_a_strict_tool_is_closed(translate: Translate) -> None:
    parameters: JSONObject = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 3}},
        "required": ["city"],
    }
    body, translation = translate(tools=[Tool(name="weather", parameters=parameters, strict=True)])
    assert body["tools"][0] == {
        "type": "function",
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == [("changed", "tool weather", False)]


def test_a_tool_that_cannot_be_strict_is_sent_as_one_that_is_not(translate: Translate) -> None:
    parameters: JSONObject = {
        "type": "object",
        "properties": {"ages": {"type": "object", "additionalProperties": {"type": "integer"}}},
    }
    body, translation = translate(tools=[Tool(name="weather", parameters=parameters, strict=True)])
    assert (body["tools"][0]["parameters"], body["tools"][0]["strict"]) == (parameters, False)
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == [("changed", "tool weather", True)]


def test_tools_are_flat_and_say_whether_they_are_strict(translate: Translate) -> None:
    strict = Tool(name="strict", strict=True)
    body, _ = translate(tools=[WEATHER, strict, SEARCH, SHELL])
    assert body["tools"] == [
        {
            "type": "function",
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": WEATHER.parameters,
            "strict": False,
        },
        {
            "type": "function",
            "name": "strict",
            "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
            "strict": True,
        },
        {"type": "web_search", "search_context_size": "low"},
        {"type": "custom", "name": "run", "description": "Runs a script."},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        (ToolChoice.tool("weather"), {"type": "function", "name": "weather"}),
        (ToolChoice.tool("run"), {"type": "custom", "name": "run"}),
        (ToolChoice.tool("search"), {"type": "web_search"}),
    ],
)
def test_a_tool_choice_in_the_wires_words(translate: Translate, choice: object, sent: object) -> None:
    if sent == {"type": "web_search"}:
        # Newer than the names that the SDK's type of this choice lists.
        request = ChatRequest(messages="Hi", model=MODEL, tools=(SEARCH,), tool_choice=ToolChoice.tool("search"))
        body = json.loads(translator().translate(request, stream=False).wire_request.body)
    else:
        body, _ = translate(tools=[WEATHER, SEARCH, SHELL], tool_choice=choice, parallel_tool_calls=False)
        assert body["parallel_tool_calls"] is False
    assert body["tool_choice"] == sent


def test_a_schema_is_sent_flat(translate: Translate) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    form = ResponseFormat(schema=schema, name="out", description="d")
    body, _ = translate(response_format=form, provider_options={"openai": {"text": {"verbosity": "low"}}})
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "out", "schema": schema, "description": "d", "strict": True},
        "verbosity": "low",
    }


def test_reasoning_options_are_sent_and_a_budget_in_tokens_is_told(translate: Translate) -> None:
    body, translation = translate(reasoning=ReasoningOptions(effort="low", summary="auto", max_tokens=100))
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert warnings_of(translation) == [("unsupported", "reasoning.max_tokens")]


@pytest.mark.parametrize(
    ("model", "wanted", "sent"),
    [("o4-mini", "minimal", "low"), ("gpt-5.4", "max", "xhigh"), ("gpt-6-astra", "none", "low")],
)
def test_an_effort_that_the_model_refuses_is_replaced_by_the_nearest(
    translate: Translate, model: str, wanted: Any, sent: str
) -> None:
    body, translation = translate(model=model, reasoning=ReasoningOptions(effort=wanted))
    assert body["reasoning"] == {"effort": sent}
    assert warnings_of(translation) == [("changed", "reasoning.effort")]


def test_the_setting_changes_the_facts_about_a_model(translate: Translate) -> None:
    facts = {"gpt-9-nova": {"reasons": "always", "efforts": ["low"], "family": "nova"}}
    body, translation = translate(
        model="gpt-9-nova",
        temperature=0.5,
        reasoning=ReasoningOptions(effort="high"),
        settings={"model_facts": facts},
    )
    assert body["reasoning"] == {"effort": "low"}
    assert "temperature" not in body
    assert translation.family == "nova"


def test_an_output_limit_below_the_minimum_is_increased(translate: Translate) -> None:
    body, translation = translate(max_output_tokens=1)
    assert body["max_output_tokens"] == 16
    assert warnings_of(translation) == [("changed", "max_output_tokens")]


def test_a_model_that_never_reasons_gets_no_reasoning_options(translate: Translate) -> None:
    body, translation = translate(model="gpt-4o", reasoning=ReasoningOptions(effort="low", summary="auto"))
    assert "reasoning" not in body
    assert warnings_of(translation) == [("unsupported", "reasoning.effort"), ("unsupported", "reasoning.summary")]


def test_the_schema_of_an_answer_has_an_object_at_its_root(translate: Translate) -> None:
    form = ResponseFormat(schema={"properties": {"a": {"type": "string"}}}, name="out")
    body, translation = translate(response_format=form)
    assert body["text"]["format"]["schema"]["type"] == "object"
    assert warnings_of(translation) == [("changed", "response_format")]


def test_a_result_of_a_stored_custom_tool_call_is_sent_as_custom_output(translate: Translate) -> None:
    result = Message(role="tool", parts=ToolResult(tool_call_id="call_1", name="run", parts="ok"))
    body, _ = translate(result, tools=[SHELL], provider_options={"openai": {"previous_response_id": "resp_1"}})
    assert body["input"] == [{"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"}]


def test_sampling_goes_to_a_model_that_does_not_reason_now(translate: Translate) -> None:
    body, translation = translate(
        max_output_tokens=100, temperature=0.5, top_p=0.9, top_logprobs=3, metadata={"run": "7"}
    )
    assert {name: body[name] for name in ("max_output_tokens", "temperature", "top_p", "top_logprobs", "metadata")} == {
        "max_output_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 3,
        "metadata": {"run": "7"},
    }
    assert body["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert warnings_of(translation) == []


@pytest.mark.parametrize(
    ("model", "effort"), [("o3", None), ("gpt-5-mini", None), ("gpt-5.4", "low"), ("gpt-5.6-sol", None)]
)
def test_sampling_is_left_out_with_a_warning_while_a_model_reasons(
    translate: Translate, model: str, effort: Any
) -> None:
    body, translation = translate(
        model=model, temperature=0.5, top_p=0.9, logprobs=True, reasoning=ReasoningOptions(effort=effort)
    )
    assert not {"temperature", "top_p", "top_logprobs"} & body.keys()
    assert body["include"] == ["reasoning.encrypted_content"]
    assert warnings_of(translation) == [("unsupported", name) for name in ("temperature", "top_p", "logprobs")]


@pytest.mark.parametrize(
    "setting",
    [{"stop": "x"}, {"seed": 1}, {"frequency_penalty": 0.0}, {"presence_penalty": 1.0}, {"top_k": 5}],
)
def test_what_the_api_has_no_word_for_is_told(translate: Translate, setting: dict[str, Any]) -> None:
    body, translation = translate(**setting)
    assert not setting.keys() & body.keys()
    assert warnings_of(translation) == [("unsupported", next(iter(setting)))]


def test_the_users_id_goes_only_where_the_setting_says_so(translate: Translate) -> None:
    sent = {
        send: translate(user_id="ada", settings={"send_user_id": send})[0].get("safety_identifier")
        for send in (False, True, "hashed")
    }
    assert sent[False] is None
    assert sent[True] == "ada"
    assert sent["hashed"] not in (None, "ada")


def test_request_options_are_passed_on_and_add_to_lists(translate: Translate) -> None:
    options = {
        "store": True,
        "include": ["web_search_call.action.sources"],
        "tools": [{"type": "web_search"}],
        "reasoning": {"summary": "concise"},
        "service_tier": "flex",
    }
    body, _ = translate(
        tools=[WEATHER],
        reasoning=ReasoningOptions(effort="low"),
        provider_options={"openai": options, "other": {"x": 1}},
    )
    assert body["store"] is True
    assert body["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    assert [tool["type"] for tool in body["tools"]] == ["function", "web_search"]
    assert body["reasoning"] == {"effort": "low", "summary": "concise"}
    assert body["service_tier"] == "flex"
    assert "x" not in body


def test_message_and_part_options_reach_their_items(translate: Translate) -> None:
    turn = Message(role="assistant", parts="A", provider_options=own(phase="commentary"))
    call = ToolCall(id="1", name="f", provider_options=own(namespace="n"))
    result = ToolResult(tool_call_id="1", parts="ok", provider_options=own(status="completed"))
    body, translation = translate(user("Q"), turn, assistant(call), Message(role="tool", parts=result))
    assert body["input"][1]["phase"] == "commentary"
    assert body["input"][2]["namespace"] == "n"
    assert body["input"][3]["status"] == "completed"
    assert warnings_of(translation) == []


def test_message_options_without_an_item_to_go_to_are_told(translate: Translate) -> None:
    turn = Message(role="assistant", parts=ToolCall(id="1", name="f"), provider_options=own(phase="commentary"))
    _, translation = translate(user("Q"), turn, tool_result("1", "ok"))
    assert warnings_of(translation) == [("left_out", "provider_options")]


# Counting


def test_counting_sends_the_conversation_and_nothing_that_only_shapes_the_answer() -> None:
    from openai.types.responses.input_token_count_params import InputTokenCountParams

    request = ChatRequest(
        messages=[system("Be brief."), user("Hi")],
        model=MODEL,
        tools=(WEATHER,),
        temperature=0.5,
        max_output_tokens=5,
        stop="x",
        metadata={"a": "b"},
    )
    translation = count_tokens(lambda _: translator()).build(context(), request)
    assert isinstance(translation, Translation)
    body = json.loads(translation.wire_request.body)
    strict_adapter(InputTokenCountParams).validate_python(body)
    assert translation.wire_request.url == "https://api.openai.com/v1/responses/input_tokens"
    assert body.keys() == {"model", "instructions", "input", "tools"}
    assert translation.warnings == ()


def test_the_count_is_read() -> None:
    answer = WireResponse(status=200, body=b'{"object":"response.input_tokens","input_tokens":51}')
    assert parse_count_tokens(context(), answer) == 51
