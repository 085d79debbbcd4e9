"""Anthropic's Messages, against Anthropic's SDK and against the plugin that calls the API."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from typing import Any

import anthropic as sdk
import attrs
import httpx2
import hypothesis.strategies as st
import pytest
from hypothesis import given
from parser_properties import decode, filled, json_values, texts
from trunkline import (
    ChatRequest,
    ChatResponse,
    Citation,
    Document,
    Event,
    FinishReason,
    Image,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest
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
from trunkline_anthropic import AnthropicSettings, anthropic
from trunkline_anthropic.parse import MessagesParser
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import Reply
from trunkline_gateway.wires.messages import (
    StreamWriter,
    ignored_fields,
    read_count_request,
    read_request,
    write_count,
    write_error,
    write_response,
)

from .gateway_wires import reply_to, stream_of

MODEL = "claude-sonnet-4-6"
CONTEXT = ServiceContext(
    name="test",
    provider="anthropic",
    settings=AnthropicSettings(api_key="REDACTED-KEY", api_version="2023-06-01", send_user_id=True),  # type: ignore[arg-type]  # converted
)
TRANSLATOR = anthropic.translator(CONTEXT)
SAME = Target(name="claude", service="a", model=MODEL, provider="anthropic", wire="anthropic-messages")
OTHER = Target(name="g/gemini", service="g", model="gemini-3", provider="gemini")
PNG = b"\x89PNG\r\n\x1a\n0"


def reply(target: Target, **fields: Any) -> Reply:
    return reply_to(target, **fields)


def stream(events: list[Event], target: Target) -> bytes:
    return stream_of(StreamWriter(reply(target)), events)


def client(body: bytes, kind: str = "text/event-stream") -> sdk.Anthropic:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=body, headers={"content-type": kind})

    return sdk.Anthropic(api_key="k", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))


def streamed(body: bytes) -> dict[str, Any]:
    """The message that the SDK makes of a stream."""
    with (
        client(body) as caller,
        caller.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as events,
    ):
        return json.loads(events.get_final_message().to_json())


def sent(request: ChatRequest) -> dict[str, Any]:
    """The body that the plugin sends for a request."""
    body: dict[str, Any] = json.loads(TRANSLATOR.translate(request, stream=False).wire_request.body)
    return body


def body_with(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **fields}


def returned(response: ChatResponse, target: Target) -> tuple[Message, Message]:
    """A response's message after a client has sent it back, from a body and from a stream."""
    whole = write_response(response, reply(target))["content"]
    live = streamed(stream(unfold(response), target))["content"]
    messages = [
        read_request(body_with(messages=[{"role": "assistant", "content": content}]), target).messages[-1]
        for content in (whole, live)
    ]
    return messages[0], messages[1]


def everything(value: object) -> object:
    """All fields, also those that equality leaves out."""
    return attrs.asdict(value)  # type: ignore[arg-type]  # an attrs class


# Requests

REQUESTS: list[ChatRequest] = [
    ChatRequest(messages="Hi", max_output_tokens=9, temperature=0.5, stop=("END",), user_id="u"),
    ChatRequest(
        messages=[
            Message(role="system", parts=(Text(text="Be brief.", cache="1h"), Text(text="Be kind."))),
            Message(
                role="user",
                parts=(
                    Text(text="See:"),
                    Image(data=PNG, media_type="image/png", cache="5m"),
                    Image(url="https://a.example/b.png"),
                    Image(file_id="file_1"),
                    Document(data=b"%PDF-1", media_type="application/pdf", name="a.pdf"),
                    Document(data="grüße".encode(), media_type="text/plain", name="b"),
                    Document(url="https://a.example/c.pdf", media_type="application/pdf"),
                    Document(file_id="file_2"),
                ),
            ),
        ],
        max_output_tokens=9,
    ),
    ChatRequest(
        messages=[
            Message(role="user", parts="Weather?"),
            Message(
                role="assistant",
                parts=(
                    Reasoning(text="Hm", provider="anthropic", signature="sig"),
                    Reasoning(provider="anthropic", encrypted="enc", redacted=True),
                    Text(text="Looking."),
                    ToolCall(id="toolu_1", name="weather", arguments={"city": "Ulm", "days": None}),
                    ToolCall(id="toolu_2", name="weather", arguments={}),
                ),
            ),
            Message(role="tool", parts=(ToolResult(tool_call_id="toolu_1", name="weather", parts="7 °C", cache="5m"),)),
            Message(
                role="tool",
                parts=(
                    ToolResult(
                        tool_call_id="toolu_2",
                        name="weather",
                        parts=(Text(text="no city"), Image(data=PNG, media_type="image/png")),
                        is_error=True,
                    ),
                ),
            ),
            Message(role="user", parts="And?"),
        ],
        tools=[
            Tool(
                name="weather",
                description="The weather",
                parameters={"type": "object", "properties": {"city": {"type": "string"}}},
                cache="1h",
            )
        ],
        tool_choice=ToolChoice(mode="auto"),
        parallel_tool_calls=False,
        reasoning=ReasoningOptions(effort="medium", summary="auto"),
        max_output_tokens=9000,
    ),
    ChatRequest(
        messages="Hi",
        tools=[Tool(name="a"), Tool(name="b")],
        tool_choice="a",
        reasoning=ReasoningOptions(effort="none"),
        response_format=ResponseFormat(
            schema={
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "additionalProperties": False,
            }
        ),
        max_output_tokens=9,
    ),
    ChatRequest(
        messages="Hi", reasoning=ReasoningOptions(max_tokens=2000), max_output_tokens=9000, tools=[Tool(name="a")]
    ),
    ChatRequest(messages="Hi", tools=[Tool(name="a")], tool_choice="required", max_output_tokens=9),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_that_the_plugin_makes_reads_back_as_the_same_request(request_: ChatRequest) -> None:
    request_ = attrs.evolve(request_, model=MODEL)
    body = sent(request_)
    found = read_request(body, SAME)
    sources = [part for message in request_.messages for part in message.parts if isinstance(part, Document)]
    read = [part for message in found.messages for part in message.parts if isinstance(part, Document)]
    for one, other in zip(sources, read, strict=True):
        object.__setattr__(other, "media_type", one.media_type)  # the API has none for URLs
    assert found == request_
    assert sent(found) == body


def test_fields_that_only_anthropic_knows_pass_through() -> None:
    body = body_with(
        model=MODEL,
        container="c",
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        thinking={"type": "adaptive"},
        output_config={"effort": "new", "task_budget": {"type": "tokens", "total": 9}},
        metadata={"user_id": "u", "other": 1},
        tools=[
            {"type": "web_search_20260209", "name": "web_search", "max_uses": 2},
            {"name": "a", "input_schema": {"type": "object", "properties": {}}, "defer_loading": True},
            {"type": "mcp_toolset", "mcp_server_name": "m"},
        ],
        tool_choice={"type": "tool", "name": "web_search"},
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "container_upload", "file_id": "f"},
                    {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "scope": "global"}},
                    {
                        "type": "document",
                        "source": {"type": "content", "content": "c"},
                        "citations": {"enabled": True},
                    },
                    {
                        "type": "document",
                        "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                        "citations": {"enabled": True},
                        "context": "x",
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}, "caller": None},
                    {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                    {"type": "text", "text": "a", "citations": [{"type": "char_location", "cited_text": "b"}]},
                    {
                        "type": "tool_use",
                        "id": "t",
                        "name": "a",
                        "input": {},
                        "caller": {"type": "code", "tool_id": "s"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "tool_reference", "tool_name": "a"}],
                    }
                ],
            },
        ],
    )
    assert sent(read_request(body, SAME)) == body
    assert ignored_fields(body, SAME) == ()
    found = read_request(body, SAME, betas="a-1, b-2,,a-1")
    headers = TRANSLATOR.translate(found, stream=False).wire_request.headers
    assert dict(headers)["anthropic-beta"] == "a-1,b-2"
    for target in (SAME, OTHER):
        assert read_request(body_with(), target, betas=" ,ä") == read_request(body_with(), target)
    assert read_request(body_with(), OTHER, betas="a-1") == read_request(body_with(), OTHER)


def test_another_provider_gets_what_it_can_understand() -> None:
    body = body_with(
        container="c",
        service_tier="auto",
        cache_control={"type": "ephemeral", "ttl": "1h"},
        thinking={"type": "adaptive"},
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "document", "title": "t", "source": {"type": "content", "content": "c"}, "context": "x"},
                    {"type": "search_result", "title": "s", "source": "u", "content": [{"type": "text", "text": "r"}]},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "foreign"},
                    {"type": "thinking", "thinking": "Hm", "signature": ""},
                    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                ],
            },
        ],
    )
    found = read_request(body, OTHER)
    assert found.cache == "1h"
    assert found.reasoning == ReasoningOptions(effort="high")
    assert found.provider_options == {}
    assert [part.text for part in found.messages[0].parts if isinstance(part, Text)] == ["x", "t", "c", "s\nu\nr"]
    foreign, unsigned, opaque = found.messages[1].parts
    assert isinstance(foreign, Reasoning)
    assert foreign.provider is None
    assert isinstance(unsigned, Reasoning)
    assert unsigned.provider == "gemini"
    assert isinstance(opaque, Opaque)
    assert opaque.provider != "gemini"
    assert ignored_fields(body, OTHER) == ("container",)
    tools = [
        {"name": "f", "input_schema": {}, "defer_loading": defers, "input_examples": []} for defers in (False, True)
    ]
    inner = body_with(tools=tools, output_config={"effort": "low", "task_budget": {"total": 9}})
    assert ignored_fields(inner, OTHER) == ("tools[].defer_loading", "output_config.task_budget")
    assert ignored_fields(inner, SAME) == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "?"}}]}]},
            "messages.0.content.0.source.data",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0.tool_use_id"),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "c"}]}
                ]
            },
            "messages.0.content.0.input",
        ),
        ({"tools": [{"type": "web_search_20260209", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "a"}]}, "tools.0.input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "a"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "new"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"stop_sequences": [1]}, "stop_sequences.0"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream": 1}, "stream"),
    ],
)
def test_a_wrong_request_is_refused_with_the_place_of_its_fault(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        read_request(body_with(**fields), OTHER)
    assert caught.value.problem.param == param
    assert caught.value.problem.status == 400
    assert param.removesuffix(".name") in caught.value.problem.message


def test_tokens_are_counted_without_a_limit() -> None:
    found = read_count_request({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}, SAME)
    assert found == ChatRequest(messages="Hi", model=MODEL)
    assert write_count(7) == {"input_tokens": 7}


NAMES = (
    "type text content source data media_type role id name input tool_use_id thinking signature citations url title "
    "cache_control ttl messages system tools tool_choice output_config format schema max_tokens model metadata"
)
names = st.sampled_from(NAMES.split())
words = st.sampled_from(
    ["text", "user", "assistant", "tool_use", "tool_result", "image", "document", "base64", "tl1.e30"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | words | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
)


@given(st.dictionaries(names, anything, max_size=6), st.sampled_from([SAME, OTHER]))
def test_a_body_of_any_shape_is_read_or_refused(body: dict[str, Any], target: Target) -> None:
    message = {"role": "assistant", "content": [body]}
    for given_ in (
        body,
        body_with(**{**body, "max_tokens": 1}),
        body_with(messages=[message, {**message, "role": "user"}]),
    ):
        with contextlib.suppress(GatewayError, InvalidRequest):
            read_request(given_, target)


# Responses and streams

objects: st.SearchStrategy[Any] = st.dictionaries(texts, json_values, max_size=3)
citations: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.just("char_location"), "cited_text": texts, "document_index": st.integers(0, 3)}
)
blocks: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": filled}),
    st.fixed_dictionaries({"type": st.just("text"), "text": filled, "citations": st.lists(citations, max_size=2)}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts, "signature": filled}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": filled}),
    st.fixed_dictionaries(
        {"type": st.just("tool_use"), "id": filled, "name": filled, "input": objects},
        optional={"caller": st.just({"type": "direct"})},
    ),
    st.fixed_dictionaries({"type": st.just("server_tool_use"), "id": filled, "name": filled, "input": objects}),
)
counts = st.integers(0, 10_000)
answers: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {
        "id": st.just("msg_1"),
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": st.just(MODEL),
        "content": st.lists(blocks, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "refusal", "pause_turn"]),
        "stop_sequence": st.none() | filled,
        "usage": st.fixed_dictionaries(
            {"input_tokens": counts, "output_tokens": counts},
            optional={
                "cache_read_input_tokens": counts,
                "cache_creation_input_tokens": counts,
                "output_tokens_details": st.fixed_dictionaries({"thinking_tokens": counts}),
            },
        ),
    }
)


def parsed(body: object) -> ChatResponse:
    return MessagesParser(CONTEXT).body(WireResponse(status=200, body=json.dumps(body).encode()))


def essence(response: ChatResponse, *, reason: bool = True) -> dict[str, Any]:
    found = attrs.asdict(attrs.evolve(response, id=None, model=None, raw=None, warnings=()))
    if found["usage"] is not None:
        del found["usage"]["raw"]
    if not reason:
        del found["raw_finish_reason"]
    return found


@given(answers)
def test_an_answer_of_anthropic_goes_through_unchanged(answer: dict[str, Any]) -> None:
    response = parsed(answer)
    written = write_response(response, reply(SAME))
    assert essence(parsed(written), reason=False) == essence(response, reason=False)
    live = fold(decode(MessagesParser(CONTEXT), [stream(unfold(response), SAME)]), "anthropic")
    expected = essence(response, reason=False)
    assert essence(attrs.evolve(live, provider=response.provider), reason=False) == expected


def test_the_sdk_accepts_a_response() -> None:
    response = ChatResponse(
        parts=(
            Reasoning(text="Hm", provider="gemini", signature="s", family="gemini-3"),
            Text(text="Sunny [1]"),
            Citation(url="https://a.example", title="A", cited_text="sun", start=0, end=5),
            ToolCall(id="c", name="f", arguments={"a": [1]}),
        ),
        finish_reason=FinishReason.TOOL_CALLS,
        usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=4, cache_write_tokens=1, reasoning_tokens=2),
    )
    body = write_response(response, reply(OTHER))
    message = sdk.types.Message.model_validate(body)
    assert message.model == "g/gemini"
    assert message.stop_reason == "tool_use"
    assert message.usage.input_tokens == 5
    assert message.usage.cache_read_input_tokens == 4
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[1].citations[0].url == "https://a.example"  # type: ignore[union-attr,index]
    live = streamed(stream(unfold(response), OTHER))
    sdk.types.Message.model_validate(live)
    strip = {name: value for name, value in live.items() if name not in ("usage", "stop_details", "container")}
    for block in strip["content"]:
        block.pop("parsed_output", None)
    assert strip == {name: value for name, value in body.items() if name != "usage"}


parts: st.SearchStrategy[Any] = st.one_of(
    st.builds(
        Text,
        text=filled,
        family=st.just("gemini-3"),
        provider_metadata=st.sampled_from([{}, {"gemini": {"thought_signature": "t"}}]),
    ),
    st.just(Text(text="", family="gemini-3", provider_metadata={"gemini": {"thought_signature": "e"}})),
    st.builds(
        Reasoning,
        text=filled,
        provider=st.just("gemini"),
        family=st.just("gemini-3"),
        signature=st.none() | filled,
        encrypted=st.none() | filled,
    ),
    st.just(Reasoning(provider="gemini", family="gemini-3", encrypted="e", redacted=True)),
    st.just(Reasoning(provider="gemini", family="gemini-3", signature="s")),
    st.builds(
        ToolCall,
        id=st.uuids().map(str),
        name=filled,
        arguments=objects,
        family=st.just("gemini-3"),
        provider_metadata=st.sampled_from([{}, {"gemini": {"thought_signature": "t"}}]),
    ),
    st.just(Opaque(provider="gemini", kind="code", data={"a": None}, family="gemini-3", awaits_answer=True)),
)


def comparable(found: tuple[Any, ...]) -> list[Any]:
    """Parts without what Anthropic's format has no place for: the family of a part without data of its provider."""
    return [
        everything(
            part if isinstance(part, (Reasoning, Opaque)) or part.provider_metadata else attrs.evolve(part, family=None)
        )
        for part in found
    ]


@given(st.lists(parts, min_size=1, max_size=5))
def test_what_only_another_provider_understands_survives_a_client(given_: list[Any]) -> None:
    response = ChatResponse(parts=tuple(given_), finish_reason=FinishReason.STOP, provider="gemini")
    whole, live = returned(response, OTHER)
    assert comparable(whole.parts) == comparable(tuple(given_))
    assert comparable(live.parts) == comparable(tuple(given_))


def test_parts_that_overlap_are_written_one_after_another() -> None:
    events: list[Event] = [
        ResponseStarted(),
        ReasoningStart(index=0),
        TextStart(index=1),
        TextDelta(index=1, text="a"),
        ReasoningDelta(index=0, text="h"),
        ToolCallStart(index=2, id="x", name="f"),
        ToolCallStart(index=3, id="y", name="g"),
        ToolCallDelta(index=3, arguments='{"b":'),
        ToolCallDelta(index=2, arguments='{"a":'),
        ReasoningDelta(index=0, text="m"),
        ReasoningEnd(index=0, signature="s"),
        ToolCallDelta(index=2, arguments="1}"),
        TextDelta(index=1, text="b"),
        TextEnd(index=1),
        Citation(url="https://a.example"),
        ToolCallDelta(index=3, arguments="2}"),
        ToolCallEnd(index=3),
        ToolCallEnd(index=2),
        Finished(reason=FinishReason.TOOL_CALLS),
    ]
    body = stream(events, SAME)
    content = streamed(body)["content"]
    assert [block["type"] for block in content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["input"] for block in content[2:]] == [{"a": 1}, {"b": 2}]
    assert (content[0]["thinking"], content[1]["text"]) == ("hm", "ab")
    assert len(content[1]["citations"]) == 1
    kinds = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]
    open_: int | None = None
    for kind in kinds:
        if kind["type"] == "content_block_start":
            assert open_ is None
            open_ = kind["index"]
        elif kind["type"] == "content_block_stop":
            assert open_ == kind["index"]
            open_ = None
        elif kind["type"] == "content_block_delta":
            assert kind["index"] == open_


def test_metadata_of_a_streamed_call_that_comes_too_late_follows_the_call() -> None:
    events: list[Event] = [
        ResponseStarted(family="gemini-3"),
        ToolCallStart(index=0, id="x", name="f"),
        *(ToolCallDelta(index=0, arguments=piece) for piece in ('{"a"', ":1", "}")),
        ToolCallEnd(index=0, provider_metadata={"gemini": {"thought_signature": "t"}}),
        Finished(reason=FinishReason.TOOL_CALLS),
    ]
    content = streamed(stream(events, OTHER))["content"]
    assert [block["type"] for block in content] == ["tool_use", "redacted_thinking"]
    [call] = read_request(body_with(messages=[{"role": "assistant", "content": content}]), OTHER).messages[0].parts
    assert isinstance(call, ToolCall)
    assert (call.arguments, call.family) == ({"a": 1}, "gemini-3")
    assert call.provider_metadata == {"gemini": {"thought_signature": "t"}}


def test_a_stream_tells_the_estimated_input_at_its_start_and_survives_odd_text() -> None:
    writer = StreamWriter(reply(OTHER, input_tokens=12))
    body = writer.write(ResponseStarted()) + writer.heartbeat + writer.write(TextStart(index=0))
    for text in ("", '"\\\n\u2028', "\ud800", "😀"):
        body += writer.write(TextDelta(index=0, text=text))
    body += writer.write(TextEnd(index=0)) + writer.write(Finished(reason=FinishReason.LENGTH))
    assert b'"input_tokens":12' in body.split(b"\n\n")[0]
    found = fold(decode(MessagesParser(CONTEXT), [body]))
    assert found.text.startswith('"\\\n\u2028')
    assert found.text.endswith("😀")
    assert found.finish_reason is FinishReason.LENGTH


def test_a_generated_image_is_a_block_that_can_be_sent_back() -> None:
    response = ChatResponse(parts=(Image(data=PNG, media_type="image/png"),), finish_reason=FinishReason.STOP)
    [block] = write_response(response, reply(OTHER))["content"]  # type: ignore[misc,union-attr]
    [message] = read_request(body_with(messages=[{"role": "assistant", "content": [block]}]), OTHER).messages
    assert message.parts == response.parts
    assert dumps(block) in stream(unfold(response), OTHER)
    assert block["source"]["data"] == b64encode(PNG).decode()  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("authentication", 401, sdk.AuthenticationError),
        ("permission", 403, sdk.PermissionDeniedError),
        ("not_found", 404, sdk.NotFoundError),
        ("rate_limited", 429, sdk.RateLimitError),
        ("context_too_long", 400, sdk.BadRequestError),
        ("upstream", 502, sdk.InternalServerError),
    ],
)
def test_the_sdk_understands_an_error(kind: Any, status: int, expected: type[sdk.APIStatusError]) -> None:
    problem = Problem(kind=kind, status=status, message="No.", code="why")
    body = write_error(problem, "req_1")
    assert body["request_id"] == "req_1"

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, json=body)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    with sdk.Anthropic(api_key="k", max_retries=0, http_client=transport) as caller, pytest.raises(expected) as caught:
        caller.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert "No." in str(caught.value)
    live = StreamWriter(reply(OTHER)).write(ResponseStarted()) + StreamWriter(reply(OTHER)).write_error(problem)
    with pytest.raises(sdk.APIStatusError, match="No"):
        streamed(live)
