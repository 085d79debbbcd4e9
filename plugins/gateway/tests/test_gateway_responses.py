"""OpenAI's Responses API as the gateway serves it, seen by OpenAI's SDK and by Trunkline's own client of that API."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import given
from openai import OpenAI, RateLimitError
from openai.types.responses import Response, ResponseStreamEvent
from parser_properties import filled, json_of, json_values, texts
from pydantic import BaseModel, TypeAdapter
from trunkline import (
    Audio,
    ChatRequest,
    ChatResponse,
    Citation,
    Document,
    Event,
    FinishReason,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest, RemoteError
from trunkline.events import (
    Finished,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    ResponseStarted,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from trunkline.fold import fold, unfold
from trunkline.secrets import Secret
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import Reply
from trunkline_gateway.wires.carried import wrap
from trunkline_gateway.wires.chat import write_error
from trunkline_gateway.wires.responses import (
    StreamWriter,
    ignored_fields,
    read_request,
    write_response,
)
from trunkline_openai.profile import PROFILES
from trunkline_openai.responses_parse import ResponsesParser
from trunkline_openai.responses_translate import ResponsesTranslator
from trunkline_openai.settings import OpenAISettings

from .gateway_wires import PNG, problem_of_read, reply_to, stream_of

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

SAME = Target(name="work/gpt", service="work", model="gpt-5.4", provider="openai", wire="openai-responses")
OTHER = Target(name="claude", service="claude", model="claude-opus", provider="anthropic", wire="anthropic-messages")
CONTEXT = ServiceContext(name="test", provider="openai", settings=OpenAISettings(api_key=Secret("REDACTED-KEY")))
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
USAGE = Usage(
    input_tokens=9,
    output_tokens=5,
    total_tokens=14,
    cache_read_tokens=3,
    cache_write_tokens=1,
    reasoning_tokens=2,
)


def reply(target: Target = OTHER, request: ChatRequest | None = None) -> Reply:
    return reply_to(target, request=request)


def read(target: Target = OTHER, **body: Any) -> ChatRequest:
    return read_request({"model": target.name, "input": "Hi", **body}, target)


def refused(target: Target = OTHER, **body: Any) -> Problem:
    return problem_of_read(lambda: read(target, **body))


def answer(*parts: Part, **fields: Any) -> ChatResponse:
    fields = {"finish_reason": FinishReason.STOP, "usage": USAGE, "provider": "anthropic", **fields}
    return ChatResponse(parts=parts, **fields)


def streamed(events: Iterable[Event], to: Reply) -> bytes:
    return stream_of(StreamWriter(to), events)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream. Checks the frames and the sequence numbers."""
    found = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == len(found)
        found.append(event)
    return found


def parsed(stream: bytes) -> ChatResponse:
    """The response that Trunkline's client of the Responses API makes of a stream."""
    decoder = StreamDecoder(*ResponsesParser(CONTEXT).stream())
    return fold([*decoder.feed(stream), *decoder.finish()], "openai")


def parsed_body(body: Any) -> ChatResponse:
    return ResponsesParser(CONTEXT).body(WireResponse(status=200, body=dumps(body)))


def check_stream(stream: bytes) -> dict[str, Any]:
    """Check the events against OpenAI's types, and with each other. Returns the final response object."""
    events = events_of(stream)
    items: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    for event in events:
        EVENTS.validate_python(event)
        index = event.get("output_index")
        match event["type"]:
            case "response.output_item.added":
                assert index == len(items)
                items[index] = event["item"]
            case "response.output_item.done":
                assert index not in done
                done[index] = event["item"]
                assert event["item"]["id"] == items[index]["id"]
            case _ if "item_id" in event:
                assert event["item_id"] == items[index]["id"]
                assert index not in done or event["type"] == "response.output_text.annotation.added"
    last = events[-1]["response"]
    Response.model_validate(last)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert len(items) == len(done) == len(last["output"])
    assert [item["id"] for item in items.values()] == [item["id"] for item in last["output"]]
    for index, item in enumerate(last["output"]):
        late = {**item, "content": without_annotations(item), "status": None}
        assert late == {**done[index], "content": without_annotations(done[index]), "status": None}
    return cast("dict[str, Any]", last)


def without_annotations(item: dict[str, Any]) -> Any:
    return [{**part, "annotations": []} for part in item.get("content", ())]


# Requests


def test_a_string_is_a_message_of_the_user() -> None:
    request = read(instructions="Be brief.", input="Hi", max_output_tokens=50, temperature=0.5, top_p=1)
    assert request == ChatRequest(
        messages=(system("Be brief."), user("Hi")),
        model="claude-opus",
        max_output_tokens=50,
        temperature=0.5,
        top_p=1,
    )


def test_items_become_messages() -> None:
    request = read(
        input=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look:"},
                    {"type": "input_image", "detail": "low", "image_url": "https://example.org/a.png"},
                    {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw0KGgo="},
                    {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,SGk="},
                    {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                    {"type": "input_audio", "input_audio": {"format": "wav", "data": "UklGRg=="}},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Fine.", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'},
            {"type": "function_call", "call_id": "c2", "name": "draw", "arguments": "no JSON"},
            {"type": "function_call_output", "call_id": "c1", "output": "Rain"},
            {
                "type": "function_call_output",
                "call_id": "c2",
                "output": [{"type": "input_image", "detail": "auto", "file_id": "file_1"}],
            },
            {"role": "assistant", "content": "Rain, I think."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
            {"role": "user", "content": "Thanks"},
        ]
    )
    assert request.messages == (
        system("Be brief."),
        user(
            "Look:",
            Image(url="https://example.org/a.png", detail="low"),
            Image(data=PNG),
            Document(data=b"Hi", media_type="text/plain", name="a.txt"),
            Document(url="https://example.org/a.pdf"),
            Audio(data=b"RIFF", media_type="audio/wav"),
        ),
        assistant(
            Reasoning(text="Hm.", provider="openai-responses"),
            "Fine.",
            ToolCall(id="c1", name="weather", arguments={"city": "Oslo"}),
            ToolCall(id="c2", name="draw", invalid_arguments="no JSON"),
        ),
        Message(role="tool", parts=ToolResult(tool_call_id="c1", name="weather", parts="Rain")),
        Message(role="tool", parts=ToolResult(tool_call_id="c2", name="draw", parts=(Image(file_id="file_1"),))),
        assistant("Rain, I think."),
        assistant(Text(text="No more.", refusal=True)),
        user("Thanks"),
    )


def test_tools_and_their_choice_are_read() -> None:
    request = read(tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=False)
    (tool,) = request.tools
    assert tool == Tool(
        name="weather", description="The weather in a city.", parameters=WEATHER["parameters"], strict=True
    )
    assert request.tool_choice == ToolChoice.tool("weather")
    assert request.parallel_tool_calls is False
    assert read(tools=[WEATHER], tool_choice="required").tool_choice == ToolChoice(mode="required")
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    request = read(tools=[WEATHER, {**WEATHER, "name": "other"}], tool_choice=allowed)
    assert request.tools == (tool,)
    assert request.tool_choice == ToolChoice(mode="required")


def test_options_are_read() -> None:
    request = read(
        text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "low", "summary": "auto"},
        top_logprobs=2,
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        safety_identifier="u1",
        user="u2",
        metadata={"a": "b"},
        prompt_cache_key="k",
        store=True,
        stream=True,
        truncation="disabled",
        background=False,
        previous_response_id=None,
    )
    assert request == ChatRequest(
        messages="Hi",
        model="claude-opus",
        response_format=ResponseFormat(schema={"type": "object"}, name="a"),
        reasoning=ReasoningOptions(effort="low", summary="auto"),
        logprobs=True,
        top_logprobs=2,
        user_id="u1",
        metadata={"a": "b"},
        cache_key="k",
    )
    assert read(text={"format": {"type": "json_object"}}).response_format == ResponseFormat(type="json")
    assert read(text={"format": {"type": "text"}}).response_format is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["Hi"]}, "input[0]"),
        ({"input": [{"role": "wizard", "content": "Hi"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": {}}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_smell"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,ä"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "%"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0].arguments"),
        ({"input": [{"type": "reasoning", "encrypted_content": "tl1.damaged"}]}, "input[0].encrypted_content"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": "all"}, "tools"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"reasoning": {"effort": "heroic"}}, "reasoning"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"temperature": True}, "temperature"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ],
)
def test_a_wrong_field_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    assert refused(**body).param == param


def test_a_wrong_field_is_described_as_by_openai() -> None:
    wrong, absent = refused(temperature="hot"), refused(input=None)
    assert wrong.message == "Invalid type for 'temperature': expected a number, but got a string instead."
    assert (wrong.code, absent.code) == ("invalid_type", "missing_required_parameter")


def test_unknown_fields_pass_to_a_provider_with_the_same_format() -> None:
    body: dict[str, Any] = {
        "service_tier": "priority",
        "text": {"verbosity": "low", "format": {"type": "text"}},
        "reasoning": {"effort": "high", "mode": "pro"},
        "include": ["reasoning.encrypted_content", "web_search_call.results"],
        "tools": [{"type": "web_search"}, {"type": "web_search", "search_context_size": "low"}, WEATHER],
        "tool_choice": {"type": "web_search"},
        "stream_options": {"include_obfuscation": False},
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", "new": 1}]}],
    }
    request = read(SAME, **body)
    assert request.provider_options == {
        "openai": {
            "service_tier": "priority",
            "text": {"verbosity": "low"},
            "reasoning": {"mode": "pro"},
            "include": ["web_search_call.results"],
            "tool_choice": {"type": "web_search"},
        }
    }
    assert [tool.name for tool in request.tools] == ["web_search", "web_search_2", "weather"]
    assert request.tools[1].provider_options == {"openai": body["tools"][1]}
    assert request.messages[0].parts[0] == Text(text="Hi", provider_options={"openai": {"new": 1}})
    assert ignored_fields(body, SAME) == ()
    sent = json.loads(
        ResponsesTranslator(CONTEXT, profile=PROFILES["openai"]).translate(request, stream=False).wire_request.body
    )
    assert sent["tools"][:2] == body["tools"][:2]
    assert sent["tool_choice"] == {"type": "web_search"}
    assert sent["text"] == {"verbosity": "low"}
    assert sent["reasoning"] == {"effort": "high", "mode": "pro"}


def test_unknown_fields_are_named_for_another_provider() -> None:
    body: dict[str, Any] = {
        "input": "Hi",
        "service_tier": "priority",
        "text": {"verbosity": "low"},
        "reasoning": {"mode": "pro", "effort": "low"},
        "include": ["web_search_call.results"],
        "truncation": "auto",
        "store": True,
        "max_tool_calls": None,
        "tools": [{"type": "function", "name": "f", "defer_loading": True}],
    }
    assert ignored_fields(body, OTHER) == (
        "service_tier",
        "truncation",
        "text.verbosity",
        "reasoning.mode",
        "include[web_search_call.results]",
        "tools[].defer_loading",
    )
    assert read(**body).provider_options == {}


def test_hosted_items_go_back_to_a_provider_with_the_same_format_only() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    screenshot = {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot"}}
    items = [{"role": "user", "content": "Hi"}, search, screenshot]
    assert read(SAME, input=items).messages == (
        user("Hi"),
        assistant(Opaque(provider="openai", kind="web_search_call", data=search)),
        Message(role="tool", parts=Opaque(provider="openai", kind="computer_call_output", data=screenshot)),
    )
    (part,) = read(OTHER, input=items).messages[1].parts
    assert isinstance(part, Opaque)
    assert part.provider == "openai-responses"


def test_an_earlier_image_of_another_provider_is_an_image() -> None:
    items = [{"role": "user", "content": "Draw"}, {"type": "image_generation_call", "result": "iVBORw0KGgo="}]
    assert read(input=items).messages == (user("Draw"), assistant(Image(data=PNG)))


NAMES = (
    "input instructions type role content text id call_id name arguments output tools tool_choice parameters format "
    "schema strict mode summary encrypted_content image_url file_data file_id detail result reasoning effort include "
    "metadata temperature max_output_tokens data input_audio kind parts phase status prompt_cache_breakpoint"
)
WORDS = (
    "message user assistant developer function_call function_call_output custom_tool_call reasoning input_text refusal "
    "input_image input_file input_audio output_text function custom allowed_tools required json_schema web_search_call "
    "image_generation_call wav {} low auto"
)
WRAPPED = [
    wrap(None, None, parts=[{"call": "c", "family": [], "metadata": 5}, 7, {"text": ""}]),
    wrap("openai", None, kind="x", data=[1]),
    wrap("openai", None, metadata={"openai": {"id": "rs_1"}}),
    wrap(None, None, kind=3),
]
anything = json_of(NAMES, [*WORDS.split(), *WRAPPED])


@pytest.mark.parametrize("target", [SAME, OTHER])
@given(
    st.dictionaries(st.sampled_from(NAMES.split()), anything, max_size=5),
    st.lists(st.dictionaries(st.sampled_from(NAMES.split()), anything, max_size=6), max_size=4),
)
def test_any_json_is_read_or_refused(target: Target, body: dict[str, Any], items: list[Any]) -> None:
    for whole_body in (body, {**body, "input": items}, {"input": "Hi", "tools": items}):
        ignored_fields(whole_body, target)
        with contextlib.suppress(GatewayError, InvalidRequest):
            read_request(whole_body, target)


@given(st.sampled_from(WRAPPED), st.sampled_from(["f", "g"]))
def test_wrapped_data_of_another_form_is_refused_or_ignored(wrapped: str, name: str) -> None:
    items = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes."},
        {"type": "function_call", "call_id": "c", "name": name, "arguments": "{}"},
        {"type": "reasoning", "summary": [], "encrypted_content": wrapped},
    ]
    with contextlib.suppress(GatewayError):
        assert read(input=items).messages[0] == user("Hi")


# Requests of Trunkline's own client


SCHEMA: dict[str, Any] = WEATHER["parameters"]
requests = st.builds(
    ChatRequest,
    model=st.just("gpt-5.4"),
    messages=st.lists(
        st.one_of(
            filled.map(system),
            st.lists(
                st.one_of(
                    filled.map(lambda text: Text(text=text)),
                    st.just(Image(data=PNG)),
                    st.just(Image(url="https://example.org/a.png", detail="high")),
                    st.just(Document(data=b"%PDF-1", name="a.pdf")),
                    st.just(Document(file_id="file_1")),
                ),
                min_size=1,
                max_size=3,
            ).map(lambda parts: user(*parts)),
            filled.map(assistant),
        ),
        max_size=4,
    ).map(lambda messages: (*messages, user("Go on."))),
    tools=st.just((Tool(name="weather", parameters=SCHEMA, strict=True), Tool(name="other", strict=False))),
    tool_choice=st.none() | st.sampled_from([ToolChoice(mode="required"), ToolChoice.tool("weather")]),
    parallel_tool_calls=st.none() | st.booleans(),
    response_format=st.none() | st.just(ResponseFormat(schema=SCHEMA, name="a", description="An answer.")),
    reasoning=st.none() | st.just(ReasoningOptions(effort="low", summary="auto")),
    max_output_tokens=st.none() | st.integers(16, 1000),
    cache_key=st.none() | st.just("k"),
    metadata=st.just({}) | st.just({"a": "b"}),
)


@given(requests)
def test_a_request_of_our_own_client_is_read_back(request: ChatRequest) -> None:
    sent = json.loads(
        ResponsesTranslator(CONTEXT, profile=PROFILES["openai"]).translate(request, stream=True).wire_request.body
    )
    found = read_request({**sent, "model": SAME.name}, SAME)
    assert found == request


def test_a_conversation_of_our_own_client_is_read_back() -> None:
    call = ToolCall(
        id="call_1", name="weather", arguments={"city": "Oslo"}, provider_metadata={"openai": {"id": "fc_1"}}
    )
    custom = ToolCall(
        id="call_2", name="run", arguments={"input": "ls"}, provider_metadata={"openai": {"type": "custom"}}
    )
    thought = Reasoning(
        text="Hm.",
        provider="openai",
        encrypted="secret",
        family="gpt",
        provider_metadata={"openai": {"id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}},
    )
    said = Text(text="Wait.", provider_metadata={"openai": {"id": "msg_1", "phase": "commentary"}})
    request = ChatRequest(
        model="gpt-5.4",
        messages=(
            user("Weather?"),
            assistant(thought, said, call, custom),
            tool_result(call, "Rain"),
            tool_result(custom, [Text(text="See:"), Image(data=PNG)]),
        ),
        tools=(Tool(name="weather"), Tool(name="run", provider_options={"openai": {"type": "custom"}})),
    )
    sent = json.loads(
        ResponsesTranslator(CONTEXT, profile=PROFILES["openai"]).translate(request, stream=True).wire_request.body
    )
    found = read_request({**sent, "model": SAME.name}, SAME)
    assert found.messages == request.messages
    metadata = [part.provider_metadata["openai"] for part in found.messages[1].parts if not isinstance(part, Citation)]
    assert [each.get("id") for each in metadata] == ["rs_1", "msg_1", "fc_1", None]
    assert metadata[1]["phase"] == "commentary"
    again = ResponsesTranslator(CONTEXT, profile=PROFILES["openai"]).translate(found, stream=True).wire_request.body
    assert json.loads(again)["input"] == sent["input"]


# Responses


words = st.builds(Text, text=texts, refusal=st.booleans())
calls = st.builds(ToolCall, id=filled, name=filled, arguments=st.dictionaries(texts, json_values, max_size=2))
thoughts = st.builds(Reasoning, text=texts, provider=st.just("anthropic"), signature=st.none() | filled)
citations = st.builds(Citation, url=filled, title=filled, start=st.integers(0, 20), end=st.integers(20, 40))
any_parts = st.lists(st.one_of(words, calls, thoughts, citations), min_size=1, max_size=6).map(
    lambda parts: [Text(text="First."), *parts]
)
endings = st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTENT_FILTER])


def seen(parts: Sequence[Part]) -> list[object]:
    """What a client sees of parts: all but the data of providers."""
    return [
        ("reasoning", part.text) if isinstance(part, Reasoning) else part
        for part in parts
        if not isinstance(part, Citation)
    ]


def cited(parts: Sequence[Part]) -> list[Part]:
    return sorted((part for part in parts if isinstance(part, Citation)), key=repr)


def check_same(found: ChatResponse, response: ChatResponse, reason: FinishReason) -> None:
    assert seen(found.parts) == seen(response.parts)
    assert cited(found.parts) == cited(response.parts)
    has_calls = bool(response.tool_calls) and reason is FinishReason.STOP
    assert found.finish_reason is (FinishReason.TOOL_CALLS if has_calls else reason)
    assert found.usage == response.usage


@pytest.mark.parametrize("target", [SAME, OTHER])
@given(any_parts, endings)
def test_a_response_is_read_back_by_our_own_client(target: Target, parts: list[Part], reason: FinishReason) -> None:
    response = answer(*parts, finish_reason=reason)
    body = write_response(response, reply(target))
    Response.model_validate(body)
    check_same(parsed_body(body), response, reason)


@pytest.mark.parametrize("target", [SAME, OTHER])
@given(any_parts, endings)
def test_a_stream_is_read_back_by_our_own_client(target: Target, parts: list[Part], reason: FinishReason) -> None:
    response = answer(*parts, finish_reason=reason)
    stream = streamed(unfold(response), reply(target))
    check_stream(stream)
    check_same(parsed(stream), response, reason)


@st.composite
def overlapping(draw: st.DrawFn) -> list[Event]:
    """Events of parts that overlap."""
    waiting: list[list[Event]] = []
    for index, part in enumerate(draw(st.lists(st.one_of(words, calls, thoughts), min_size=1, max_size=5))):
        if isinstance(part, Text):
            deltas = [TextDelta(index=index, text=text) for text in part.text]
            waiting.append([TextStart(index=index, refusal=part.refusal), *deltas, TextEnd(index=index)])
        elif isinstance(part, ToolCall):
            pieces = [ToolCallDelta(index=index, arguments=text) for text in part.arguments_json]
            waiting.append(
                [ToolCallStart(index=index, id=f"call_{index}", name=part.name), *pieces, ToolCallEnd(index=index)]
            )
        else:
            thinking = [ReasoningDelta(index=index, text=text) for text in part.text]
            waiting.append([ReasoningStart(index=index), *thinking, ReasoningEnd(index=index, provider="openai")])
    events: list[Event] = [ResponseStarted(provider="openai")]
    running: list[list[Event]] = []
    while waiting or running:
        if waiting and (not running or draw(st.booleans())):
            running.append(waiting.pop(0))
            chosen = running[-1]
        else:
            chosen = draw(st.sampled_from(running))
        events.append(chosen.pop(0))
        running = [each for each in running if each]
    return [*events, Finished(reason=FinishReason.STOP, usage=USAGE)]


@pytest.mark.parametrize("target", [SAME, OTHER])
@given(overlapping())
def test_parts_that_overlap_are_kept_apart(target: Target, events: list[Event]) -> None:
    stream = streamed(events, reply(target))
    check_stream(stream)
    assert seen(parsed(stream).parts) == seen(fold(events).parts)


def test_a_streamed_response_equals_the_one_that_was_not() -> None:
    response = answer(
        Reasoning(text="Hm.", provider="anthropic", signature="s", family="claude"),
        Text(text="One. "),
        Citation(url="https://example.org", title="Example", start=0, end=3),
        Text(text="Two."),
        Citation(url="https://example.org", title="Example", start=5, end=8),
        ToolCall(id="c1", name="weather", arguments={"city": "Oslo"}),
        finish_reason=FinishReason.TOOL_CALLS,
    )
    body = write_response(response, reply())
    assert check_stream(streamed(unfold(response), reply())) == body
    assert [item["type"] for item in cast("Any", body)["output"]] == ["reasoning", "message", "function_call"]
    first, second = cast("Any", body)["output"][1]["content"]
    assert (first["annotations"][0]["start_index"], second["annotations"][0]["start_index"]) == (0, 0)
    assert body["status"] == "completed"
    assert body["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }


def test_the_events_of_a_text_are_those_of_openai() -> None:
    events = events_of(streamed(unfold(answer(Text(text="Hi"))), reply()))
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        (FinishReason.STOP, "completed", None),
        (FinishReason.PAUSED, "completed", None),
        (FinishReason.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
        (FinishReason.CONTENT_FILTER, "incomplete", {"reason": "content_filter"}),
        (FinishReason.ERROR, "failed", None),
    ],
)
def test_the_finish_reason_becomes_the_status(reason: FinishReason, status: str, details: object) -> None:
    response = answer(Text(text="Hi"), finish_reason=reason)
    body = write_response(response, reply())
    assert (body["status"], body["incomplete_details"]) == (status, details)
    assert check_stream(streamed(unfold(response), reply())) == body


def test_log_probabilities_are_written() -> None:
    token = TokenLogprob(token="Hi", logprob=-0.5, top=(TokenLogprob(token="Ho", logprob=-1.0),))
    response = answer(Text(text="Hi"), logprobs=(token,))
    body = write_response(response, reply())
    assert check_stream(streamed(unfold(response), reply())) == body
    assert parsed_body(body).logprobs == (token,)
    assert parsed(streamed(unfold(response), reply())).logprobs == (token,)


def test_the_response_repeats_the_options_of_the_request() -> None:
    request = read(
        tools=[WEATHER], tool_choice="required", temperature=0.5, metadata={"a": "b"}, reasoning={"effort": "low"}
    )
    sent = attrs.evolve(reply(request=request), instructions="Be brief.")
    body = cast("dict[str, Any]", write_response(answer(Text(text="Hi")), sent))
    assert body["instructions"] == "Be brief."
    assert Response.model_validate(body).tools[0].type == "function"
    assert body["tools"] == [WEATHER]
    assert body["tool_choice"] == "required"
    assert body["temperature"] == 0.5
    assert body["metadata"] == {"a": "b"}
    assert body["model"] == OTHER.name


# Conversations through a client


def echoed(body: Any, target: Target) -> tuple[Part, ...]:
    """The parts of a response that a client sends back."""
    items = [{"role": "user", "content": "Hi"}, *Response.model_validate(body).model_dump(exclude_none=True)["output"]]
    first, *others = read(target, input=items).messages
    assert first == user("Hi")
    return tuple(part for message in others for part in message.parts)


def whole(part: Part) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in attrs.fields(type(part))}


WRITERS: list[Callable[[ChatResponse, Reply], object]] = [
    write_response,
    lambda response, to: events_of(streamed(unfold(response), to))[-1]["response"],
]


@pytest.mark.parametrize("write", WRITERS)
def test_data_of_another_provider_survives_the_way_through_a_client(write: Any) -> None:
    parts = (
        Reasoning(text="Hm.", provider="anthropic", signature="s", family="claude"),
        Reasoning(provider="anthropic", encrypted="e", redacted=True, family="claude"),
        Opaque(
            provider="anthropic", kind="server_tool_use", data={"type": "server_tool_use", "id": "1"}, family="claude"
        ),
        Text(text="One."),
        Text(text="Two.", family="claude", provider_metadata={"anthropic": {"signature": "t"}}),
        ToolCall(id="c0", name="f"),
        ToolCall(id="c1", name="f", family="claude", provider_metadata={"anthropic": {"signature": "u"}}),
    )
    found = echoed(write(answer(*parts), reply()), OTHER)
    assert list(found) == list(parts)
    for part, original in zip(found, parts, strict=True):
        if not isinstance(original, (Text, ToolCall)) or original.provider_metadata:
            assert whole(part) == whole(original)


@pytest.mark.parametrize("write", WRITERS)
def test_data_of_a_provider_with_the_same_format_survives_the_way_through_a_client(write: Any) -> None:
    summary = [{"type": "summary_text", "text": "Hm."}]
    parts = (
        Reasoning(
            text="Hm.",
            provider="openai",
            encrypted="e",
            family="gpt",
            provider_metadata={"openai": {"id": "rs_1", "summary": summary}},
        ),
        Text(text="One.", provider_metadata={"openai": {"id": "msg_1", "phase": "commentary", "status": "completed"}}),
        Opaque(provider="openai", kind="web_search_call", data=WEB_SEARCH),
        ToolCall(id="c1", name="f", provider_metadata={"openai": {"id": "fc_1", "status": "completed"}}),
    )
    found = echoed(write(answer(*parts, provider="openai"), reply(SAME)), SAME)
    assert list(found) == list(parts)
    thought, text = found[0], found[1]
    assert isinstance(thought, Reasoning)
    assert isinstance(text, Text)
    assert thought.provider_metadata["openai"]["id"] == "rs_1"
    assert text.provider_metadata["openai"]["phase"] == "commentary"
    request = ChatRequest(
        model="gpt-5.4", messages=(user("Hi"), Message(role="assistant", parts=found), user("Go on."))
    )
    sent = ResponsesTranslator(CONTEXT, profile=PROFILES["openai"]).translate(request, stream=True)
    items = json.loads(sent.wire_request.body)["input"]
    assert items[1] == {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "e"}
    assert "_gw" not in sent.wire_request.body.decode()


WEB_SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "q", "queries": ["q"]},
}


def test_encrypted_reasoning_of_the_same_format_is_passed_on_as_it_is() -> None:
    thought = Reasoning(provider="openai", encrypted="e", provider_metadata={"openai": {"id": "rs_1", "summary": []}})
    body = cast("Any", write_response(answer(thought, provider="openai"), reply(SAME)))
    assert body["output"] == [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}]


def test_what_a_provider_of_the_same_format_says_of_a_response_passes_through() -> None:
    usage: dict[str, Any] = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0, "new_tokens": 2},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 5},
        "total_tokens": 7,
        "cost": 0.5,
    }
    passed: dict[str, Any] = {
        "instructions": "Be brief.",
        "service_tier": "flex",
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_usage": {"web_search": {"num_requests": 1}},
        "usage": usage,
    }
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [], "status": "completed"}
    theirs = {"id": "resp_theirs", "model": "theirs", "store": True, "prompt_cache_key": "theirs"}
    body = {"object": "response", "created_at": 1, "status": "completed", "output": [message], **theirs, **passed}
    response = ResponsesParser(CONTEXT).body(WireResponse(status=200, body=json.dumps(body).encode()))
    for write in WRITERS:
        found: Any = write(response, reply(SAME, request=read(SAME, prompt_cache_key="ours")))
        assert {name: found[name] for name in passed} == passed
        assert (found["model"], found["store"], found["prompt_cache_key"]) == (SAME.name, False, "ours")
        assert found["id"] != "resp_theirs"
        other: Any = write(response, reply(OTHER, request=read()))
        assert "service_tier" not in other
        assert "cost" not in other["usage"]
        assert other["instructions"] is None


def test_reasoning_that_only_newer_models_have_passes_to_a_provider_of_the_same_format() -> None:
    reasoning = {"effort": "ultra", "summary": "none", "mode": "pro"}
    request = read(SAME, reasoning=reasoning)
    assert request.reasoning is None
    assert request.provider_options == {"openai": {"reasoning": reasoning}}
    assert read(SAME, reasoning={"effort": "low", "summary": "new"}).reasoning == ReasoningOptions(effort="low")


# OpenAI's SDK


@contextlib.contextmanager
def serving(content: bytes, content_type: str, status: int = 200) -> Iterator[OpenAI]:
    """A server on loopback that answers every request in the same way, and a client of it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            with OpenAI(base_url=url, api_key="REDACTED-KEY", max_retries=0) as client:
                yield client
        finally:
            server.shutdown()
            thread.join()


SDK_ANSWER = answer(
    Reasoning(text="Hm.", provider="anthropic", signature="s", family="claude"),
    Text(text='{"city": '),
    Citation(url="https://example.org", title="Example", start=0, end=3),
    Text(text='"Oslo"}'),
    ToolCall(id="c1", name="weather", arguments={"city": "Rome"}),
    finish_reason=FinishReason.TOOL_CALLS,
)


class City(BaseModel):
    city: str


def test_the_sdk_reads_a_response() -> None:
    body = write_response(SDK_ANSWER, reply(request=read(tools=[WEATHER])))
    with serving(dumps(body), "application/json") as client:
        response = client.responses.create(model="claude", input="Hi")
        assert response.output_text == '{"city": "Oslo"}'
        assert response.usage is not None
        assert response.usage.input_tokens_details.cached_tokens == 3
        assert client.responses.parse(model="claude", input="Hi").output[2].type == "function_call"


def test_the_sdk_accumulates_a_stream() -> None:
    stream = streamed(unfold(SDK_ANSWER), reply(request=read(tools=[WEATHER])))
    with serving(stream, "text/event-stream") as client:
        with client.responses.stream(model="claude", input="Hi") as events:
            found = {event.type: event for event in events}
            final = events.get_final_response()
    assert final.output_text == '{"city": "Oslo"}'
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    deltas = cast("Any", found)
    assert deltas["response.function_call_arguments.delta"].snapshot == '{"city":"Rome"}'
    assert deltas["response.output_text.done"].text == '"Oslo"}'


def test_the_sdk_parses_structured_output_of_a_stream() -> None:
    stream = streamed(unfold(answer(Text(text='{"city": "Oslo"}'))), reply())
    with serving(stream, "text/event-stream") as client:
        with client.responses.stream(model="claude", input="Hi", text_format=City) as events:
            assert events.until_done().get_final_response().output_parsed == City(city="Oslo")


def test_the_sdk_raises_the_error_of_a_refused_request() -> None:
    with serving(dumps(write_error(PROBLEM, "req_1")), "application/json", 429) as client:
        with pytest.raises(RateLimitError, match=r"Slow down\.") as caught:
            client.responses.create(model="claude", input="Hi")
    assert caught.value.code == "rate_limit_exceeded"


def test_the_sdk_sees_a_failure_in_the_middle_of_a_stream() -> None:
    writer = StreamWriter(reply())
    stream = writer.write(ResponseStarted()) + writer.write_error(PROBLEM)
    with serving(stream, "text/event-stream") as client:
        with client.responses.create(model="claude", input="Hi", stream=True) as events:
            *_, error, failed = events
    assert error.type == "error"
    assert error.message == "Slow down."
    assert failed.type == "response.failed"


# Custom tools


def test_a_custom_tool_works_with_any_provider() -> None:
    tool = {"type": "custom", "name": "run", "format": {"type": "grammar", "syntax": "lark", "definition": "start: A"}}
    request = read(tools=[tool])
    assert list(request.tools[0].parameters["properties"]) == ["input"]  # type: ignore[call-overload]
    assert "start: A" in (request.tools[0].description or "")
    response = answer(ToolCall(id="c1", name="run", arguments={"input": 'ls "a"\n'}))
    for body in (
        cast("Any", write_response(response, reply(request=request))),
        check_stream(streamed(unfold(response), reply(request=request))),
    ):
        (item,) = body["output"]
        assert (item["type"], item["input"]) == ("custom_tool_call", 'ls "a"\n')
        assert echoed(body, OTHER) == response.parts


@given(
    st.text(), st.booleans(), st.sampled_from(['{"input": %s}', ' {\n"input":%s }', '{"other": 1, "input": %s}', "%s"])
)
def test_the_input_of_a_custom_tool_streams_as_it_arrives(text: str, ascii_only: bool, form: str) -> None:
    arguments = form % json.dumps(text, ensure_ascii=ascii_only)
    events: list[Event] = [
        ResponseStarted(),
        ToolCallStart(index=0, id="c1", name="run"),
        *(ToolCallDelta(index=0, arguments=character) for character in arguments),
        ToolCallEnd(index=0),
        Finished(reason=FinishReason.TOOL_CALLS, usage=USAGE),
    ]
    writer = StreamWriter(reply(request=read(tools=[{"type": "custom", "name": "run"}])))
    stream = b"".join(map(writer.write, events))
    (item,) = check_stream(stream)["output"]
    deltas = [event["delta"] for event in events_of(stream) if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == item["input"] == (arguments if form == "%s" else text)
    if form.startswith('{"input"') and text.isascii() and text.isprintable():
        assert deltas == list(text)


# Generated images, and other parts


def test_a_generated_image_is_an_item() -> None:
    response = answer(Text(text="Look:"), Image(data=PNG), provider="openai")
    body = write_response(response, reply(SAME))
    assert check_stream(streamed(unfold(response), reply(SAME))) == body
    assert parsed_body(body).parts[1] == Image(data=PNG, media_type="image/png")


def test_the_transcript_of_audio_is_a_text() -> None:
    response = answer(Audio(data=b"RIFF", transcript="Hello"), ToolCall(id="c1", name="f"))
    body = write_response(response, reply())
    assert check_stream(streamed(unfold(response), reply())) == body
    assert parsed_body(body).text == "Hello"


# Errors


PROBLEM = Problem(kind="rate_limited", status=429, message="Slow down.", code="rate_limit_exceeded", retry_after=3)


def test_an_error_has_the_form_of_openai() -> None:
    assert write_error(PROBLEM, "req_1") == {
        "error": {
            "message": "Slow down.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }


def test_an_error_in_the_middle_of_a_stream_ends_it() -> None:
    writer = StreamWriter(reply())
    start: list[Event] = [ResponseStarted(), TextStart(index=0), TextDelta(index=0, text="Hi")]
    stream = b"".join(map(writer.write, start)) + writer.write_error(PROBLEM)
    *_, error, failed = events_of(stream)
    assert (error["type"], error["code"], error["message"]) == ("error", "rate_limit_exceeded", "Slow down.")
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "rate_limit_exceeded", "message": "Slow down."}
    assert failed["response"]["output"][0]["content"][0]["text"] == "Hi"
    Response.model_validate(failed["response"])
    with pytest.raises(RemoteError, match="Slow down"):
        parsed(stream)


def test_an_error_before_the_first_event_is_written_too() -> None:
    stream = StreamWriter(reply()).write_error(PROBLEM)
    expected = ["response.created", "error", "response.failed"]
    assert [event["type"] for event in events_of(stream)] == expected
    with serving(stream, "text/event-stream") as client:
        with client.responses.stream(model="claude", input="Hi") as events:
            assert [event.type for event in events] == expected
