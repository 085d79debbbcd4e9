"""Answers of the Messages API: bodies, streams, and what servers get wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs
import pytest
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    Overloaded,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    StreamInterrupted,
)
from trunkline.events import Event, Finished, ResponseStarted, TextDelta, ToolCallStart, UsageReported
from trunkline.fold import fold
from trunkline.messages import Citation, Opaque, Reasoning, Text, ToolCall
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline.secrets import Secret
from trunkline_anthropic import AnthropicSettings, anthropic
from trunkline_anthropic.parse import MessagesParser

CONTEXT: ServiceContext[Any] = ServiceContext(
    name="test", provider="anthropic", settings=AnthropicSettings(api_key=Secret("REDACTED-KEY"))
)
OPERATIONS = anthropic.operations(CONTEXT)
USAGE: dict[str, Any] = {
    "input_tokens": 6,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 2,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 5},
}
THINKING: dict[str, Any] = {"type": "thinking", "thinking": "think", "signature": "OPAQUE"}
REDACTED: dict[str, Any] = {"type": "redacted_thinking", "data": "HIDDEN"}
TEXT: dict[str, Any] = {"type": "text", "text": "Hi"}
CALL: dict[str, Any] = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}
SEARCH: dict[str, Any] = {"type": "server_tool_use", "id": "s_1", "name": "web_search", "input": {"query": "q"}}
FOUND: dict[str, Any] = {"type": "web_search_tool_result", "tool_use_id": "s_1", "content": []}
SPAN: dict[str, Any] = {"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": "D"}
PAGE: dict[str, Any] = {"type": "web_search_result_location", "url": "https://h", "title": "T", "cited_text": "c"}


def message(*content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **fields,
    }


def body(data: object) -> ChatResponse:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return MessagesParser(CONTEXT).body(WireResponse(status=200, headers={"request-id": "req_1"}, body=text))


def sse(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event.get("type")).encode(), json.dumps(event).encode()) for event in events
    )


def events_of(stream: bytes) -> list[Event]:
    decoder = StreamDecoder(*MessagesParser(CONTEXT).stream())
    return [*decoder.feed(stream), *decoder.finish()]


def streamed(*events: dict[str, Any]) -> ChatResponse:
    return fold(events_of(sse(events)), "anthropic")


START: dict[str, Any] = {
    "type": "message_start",
    "message": message(stop_reason=None, usage={**USAGE, "output_tokens": 1, "output_tokens_details": None}),
}
STOP: dict[str, Any] = {"type": "message_stop"}
PING: dict[str, Any] = {"type": "ping"}


def began(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def ended(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def last(reason: str | None = "end_turn", usage: Any = None, **fields: Any) -> dict[str, Any]:
    event = {"type": "message_delta", "delta": {"stop_reason": reason, **fields}}
    return event if usage is None else {**event, "usage": usage}


TURN = [
    START,
    began(0, {"type": "thinking", "thinking": "", "signature": ""}),
    PING,
    delta(0, "thinking_delta", thinking="think"),
    delta(0, "signature_delta", signature="OPAQUE"),
    ended(0),
    began(1, {"type": "text", "text": ""}),
    delta(1, "text_delta", text="Hi"),
    ended(1),
    began(2, {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"city":'),
    delta(2, "input_json_delta", partial_json='"Oslo"}'),
    ended(2),
    last("tool_use", {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 5}}, stop_sequence=None),
    STOP,
]
"""The turn of the wire notes: reasoning, text, a call, in a stream."""


def metadata_of(part: Any) -> Any:
    return part.provider_metadata.get("anthropic")


# Bodies


def test_a_body_holds_its_blocks_in_order() -> None:
    data = message(THINKING, REDACTED, SEARCH, FOUND, TEXT, CALL)
    response = body(data)
    assert response.parts == (
        Reasoning(text="think", provider="anthropic", signature="OPAQUE"),
        Reasoning(provider="anthropic", encrypted="HIDDEN", redacted=True),
        Opaque(provider="anthropic", kind="server_tool_use", data=SEARCH),
        Opaque(provider="anthropic", kind="web_search_tool_result", data=FOUND),
        Text(text="Hi"),
        ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"}),
    )
    assert (response.id, response.model, response.provider) == ("msg_1", "m", "anthropic")
    assert response.raw == data


def test_usage_counts_cached_tokens_in() -> None:
    usage = body(message(TEXT)).usage
    assert usage == Usage(
        input_tokens=12,
        output_tokens=20,
        total_tokens=32,
        cache_read_tokens=4,
        cache_write_tokens=2,
        reasoning_tokens=5,
    )
    assert usage is not None
    assert usage.raw == USAGE


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ({}, None),
        ({"input_tokens": 3}, Usage(input_tokens=3)),
        ({"output_tokens": 0}, Usage(output_tokens=0)),
        ({"input_tokens": 0, "output_tokens": 0}, Usage(input_tokens=0, output_tokens=0, total_tokens=0)),
        ({"input_tokens": "7", "output_tokens": True, "output_tokens_details": 4}, Usage()),
    ],
)
def test_missing_usage_is_not_zero(raw: Any, expected: Usage | None) -> None:
    assert body(message(TEXT, usage=raw)).usage == expected


REASONS = [
    ("end_turn", [TEXT], FinishReason.STOP),
    ("stop_sequence", [TEXT], FinishReason.STOP),
    ("max_tokens", [TEXT], FinishReason.LENGTH),
    ("max_tokens", [CALL], FinishReason.LENGTH),
    ("model_context_window_exceeded", [TEXT], FinishReason.LENGTH),
    ("tool_use", [CALL], FinishReason.TOOL_CALLS),
    ("end_turn", [CALL], FinishReason.TOOL_CALLS),
    ("something_new", [CALL], FinishReason.TOOL_CALLS),
    (None, [CALL], FinishReason.TOOL_CALLS),
    ("refusal", [], FinishReason.CONTENT_FILTER),
    ("compaction", [{"type": "compaction", "content": "So far"}], FinishReason.STOP),
    ("end_turn", [], FinishReason.STOP),
    ("max_tokens", [], FinishReason.LENGTH),
    ("content_filter", [TEXT], FinishReason.CONTENT_FILTER),
    ("length", [TEXT], FinishReason.LENGTH),
    ("stop", [CALL], FinishReason.TOOL_CALLS),
    ("pause_turn", [SEARCH], FinishReason.PAUSED),
    ("pause_turn", [SEARCH, CALL], FinishReason.PAUSED),
    ("something_new", [TEXT], FinishReason.OTHER),
    (None, [TEXT], FinishReason.OTHER),
]


@pytest.mark.parametrize(("raw", "content", "reason"), REASONS)
def test_a_stop_reason_becomes_a_finish_reason(raw: str | None, content: list[Any], reason: FinishReason) -> None:
    response = body(message(*content, stop_reason=raw))
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)


def test_other_fields_of_an_answer_are_in_the_metadata() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    response = body(message(stop_reason="refusal", stop_details=details, stop_sequence="END", container={"id": "c"}))
    assert response.provider_metadata == {
        "anthropic": {"stop_sequence": "END", "stop_details": details, "container": {"id": "c"}}
    }


def test_citations_follow_their_text_and_span_it() -> None:
    response = body(message(TEXT, {"type": "text", "text": "there", "citations": [SPAN, PAGE]}, TEXT))
    assert response.parts == (
        Text(text="Hi"),
        Text(text="there"),
        Citation(title="D", cited_text="c", start=2, end=7),
        Citation(url="https://h", title="T", cited_text="c", start=2, end=7),
        Text(text="Hi"),
    )
    assert [citation.provider_metadata["anthropic"] for citation in response.citations] == [SPAN, PAGE]
    assert response.text[2:7] == "there"


def test_what_a_call_has_besides_is_kept_for_its_replay() -> None:
    (call,) = body(message({**CALL, "caller": {"type": "direct"}, "toolset_name": None})).tool_calls
    assert call.provider_metadata == {"anthropic": {"caller": {"type": "direct"}}}


@pytest.mark.parametrize(
    ("given", "arguments", "invalid"),
    [({}, {}, None), (None, {}, None), ('{"a":1}', {"a": 1}, None), ([1], {}, "[1]"), ("?", {}, "?")],
)
def test_input_of_other_forms(given: Any, arguments: dict[str, Any], invalid: str | None) -> None:
    (call,) = body(message({**CALL, "input": given})).tool_calls
    assert (call.arguments, call.invalid_arguments) == (arguments, invalid)


def test_a_message_of_an_imitator_may_have_no_content() -> None:
    assert body({"content": None, "stop_reason": "end_turn"}).parts == ()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Overloaded),
        ({"error": {"type": "authentication_error", "message": "invalid x-api-key"}}, AuthenticationError),
        ({"type": "error"}, ServerError),
        (b"[" * 100_000, ProtocolViolation),
        (b"\xff", ProtocolViolation),
        (
            {"completion": "Hi", "stop_reason": "stop_sequence", "type": "completion", "content": "Hi"},
            ProtocolViolation,
        ),
        ({"id": "chatcmpl-1", "choices": []}, ProtocolViolation),
        (message("Hi"), ProtocolViolation),
        (message({"text": "Hi"}), ProtocolViolation),
        (message({"type": "text", "text": 7}), ProtocolViolation),
        ({"type": "overloaded_error", "message": "Overloaded"}, Overloaded),
        ({"error_type": "rate_limit_error", "error_message": "Slow down"}, RateLimited),
        ({"code": "Throttling.RateQuota", "message": "Slow down", "request_id": "r"}, RateLimited),
        ({"error": {"code": 529, "message": "Busy"}}, Overloaded),
        ({"message": "Internal error"}, ServerError),
        (message(TEXT, stop_reason="error"), ServerError),
        (message(TEXT, stop_reason="network_error"), ServerError),
        (message(stop_reason=None), ServerError),
        (message(stop_reason="tool_use"), ServerError),
        (json.dumps(message({**CALL, "input": {"x": float("nan")}})).encode(), ProtocolViolation),
    ],
)
def test_a_body_that_is_no_answer_raises_a_typed_error(data: object, error: type[RemoteError]) -> None:
    with pytest.raises(error) as raised:
        body(data)
    assert raised.value.provider == "anthropic"


@pytest.mark.parametrize("operation", ["count_tokens", "list_models", "model_info"])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{}", ProtocolViolation),
        (b"?", ProtocolViolation),
        (b"[]", ProtocolViolation),
        (b'{"data":{},"input_tokens":"7"}', ProtocolViolation),
        (b'{"type":"error","error":{"type":"api_error","message":"x"}}', ServerError),
    ],
)
def test_a_count_a_list_or_a_model_that_is_none_raises(operation: str, text: bytes, error: type[RemoteError]) -> None:
    with pytest.raises(error):
        getattr(OPERATIONS, operation).parse(CONTEXT, WireResponse(status=200, body=text))


def test_the_limits_of_one_model_are_read() -> None:
    assert OPERATIONS.model_info is not None
    text = b'{"type":"model","id":"claude-x-1","max_input_tokens":200000,"max_tokens":64000,"capabilities":null}'
    info = OPERATIONS.model_info.parse(CONTEXT, WireResponse(status=200, body=text))
    assert (info.id, info.context_window, info.output_token_limit) == ("claude-x-1", 200_000, 64_000)


# Streams


def test_a_stream_begins_with_the_id_and_ends_with_finished() -> None:
    events = events_of(sse(TURN))
    assert events[0] == ResponseStarted(id="msg_1", model="m")
    assert [type(event) for event in events].count(ResponseStarted) == 1
    assert type(events[-1]) is Finished
    assert events[-1].raw_reason == "tool_use"


def test_usage_of_message_start_has_no_output_tokens() -> None:
    first, second = (event.usage for event in events_of(sse(TURN)) if isinstance(event, UsageReported))
    assert (first.input_tokens, first.output_tokens, first.total_tokens) == (12, None, None)
    assert (second.input_tokens, second.output_tokens, second.total_tokens) == (12, 20, 32)


def test_later_counts_take_the_place_of_earlier_ones() -> None:
    usage = streamed(
        START,
        last(None, {"input_tokens": None, "output_tokens": 7}),
        last("end_turn", {"input_tokens": 9, "output_tokens": 8, "cache_read_input_tokens": 0}),
        STOP,
    ).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (11, 8, 0)


@pytest.mark.parametrize("kind", ["overloaded_error", "rate_limit_error", "invalid_request_error", "api_error"])
def test_error_event_is_classified_by_its_type(kind: str) -> None:
    expected = {
        "overloaded_error": Overloaded,
        "rate_limit_error": RateLimited,
        "invalid_request_error": BadRequest,
        "api_error": ServerError,
    }[kind]
    error = {"type": "error", "error": {"type": kind, "message": "Oops"}, "request_id": "req_7"}
    with pytest.raises(expected) as raised:
        events_of(sse([*TURN[:8], error]))
    assert (raised.value.code, raised.value.message, raised.value.request_id) == (kind, "Oops", "req_7")
    assert raised.value.status is None


@pytest.mark.parametrize("before", [0, 8])
def test_bare_error_outside_any_event_is_raised(before: int) -> None:
    bare = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Oops"}}\n'
    with pytest.raises(Overloaded):
        events_of(sse(TURN[:before]) + bare)


def test_a_whole_message_where_a_stream_was_due_is_the_answer() -> None:
    whole = message(THINKING, SEARCH, TEXT, CALL, stop_reason="tool_use")
    response = streamed(whole)
    assert response.parts == body(whole).parts
    assert (response.finish_reason, response.usage) == (FinishReason.TOOL_CALLS, body(whole).usage)


def test_a_whole_message_after_the_beginning_of_a_stream_is_its_rest() -> None:
    events = events_of(sse([START, message(TEXT)]))
    assert [type(event) for event in events].count(ResponseStarted) == 1
    assert fold(events).text == "Hi"


def test_what_is_unknown_is_passed_over_or_kept() -> None:
    response = streamed(
        START,
        {"type": "message_weather", "cloud": 1},
        began(0, {"type": "hologram", "glow": "a", "size": None}),
        delta(0, "hologram_delta", glow="b", size=3, more="c"),
        ended(0),
        began(1, {"type": "text", "text": ""}),
        delta(1, "sparkle_delta", sparkle="*"),
        delta(1, "text_delta", text="Hi"),
        ended(1),
        last("transcended"),
        STOP,
    )
    assert response.parts == (
        Opaque(provider="anthropic", kind="hologram", data={"type": "hologram", "glow": "ab", "size": 3, "more": "c"}),
        Text(text="Hi"),
    )
    assert metadata_of(response.parts[1]) == {"sparkle": "*"}
    assert response.provider_metadata == {"anthropic": {"message_weather": [{"cloud": 1}]}}
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.OTHER, "transcended")


def test_a_server_tools_call_is_kept_whole_with_its_streamed_input() -> None:
    response = streamed(
        START,
        began(0, {**SEARCH, "input": {}}),
        delta(0, "input_json_delta", partial_json='{"query"'),
        delta(0, "input_json_delta", partial_json=': "q"}'),
        ended(0),
        began(1, FOUND),
        ended(1),
        last("pause_turn"),
        STOP,
    )
    assert response.parts == body(message(SEARCH, FOUND)).parts
    assert response.finish_reason == FinishReason.PAUSED


def test_a_server_tools_call_that_was_cut_off_keeps_what_came() -> None:
    response = streamed(
        START, began(0, SEARCH), delta(0, "input_json_delta", partial_json='{"que'), last("max_tokens"), STOP
    )
    (part,) = response.parts
    assert isinstance(part, Opaque)
    assert part.data["input"] == {"partial_json": '{"que'}


def test_citations_follow_the_end_of_their_text() -> None:
    response = streamed(
        START,
        began(0, {"type": "text", "text": "", "citations": []}),
        delta(0, "citations_delta", citation=SPAN),
        delta(0, "text_delta", text="Hi "),
        delta(0, "text_delta", text="there"),
        delta(0, "citations_delta", citation=PAGE),
        delta(0, "citations_delta", citation="?"),
        ended(0),
        last(),
        STOP,
    )
    assert response.parts == body(message({"type": "text", "text": "Hi there", "citations": [SPAN, PAGE]})).parts
    (part,) = (part for part in response.parts if isinstance(part, Text))
    assert part.provider_metadata == {"anthropic": {"citations": [SPAN, PAGE]}}


def test_thinking_that_is_not_shown_keeps_its_signature() -> None:
    response = streamed(
        START,
        began(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, "signature_delta", signature="OPAQUE"),
        ended(0),
        began(1, REDACTED),
        ended(1),
        last(),
        STOP,
    )
    assert response.parts == (
        Reasoning(provider="anthropic", signature="OPAQUE"),
        Reasoning(provider="anthropic", encrypted="HIDDEN", redacted=True),
    )


NAMED = {"type": "tool_use", "name": "f", "input": {}}
CALLS: list[tuple[list[dict[str, Any]], list[tuple[str, Any]]]] = [
    # no argument at all
    ([began(0, {**NAMED, "id": "a"}), ended(0)], [("a", {})]),
    # all of the input at the start
    ([began(0, {**NAMED, "id": "a", "input": {"x": 1}}), ended(0)], [("a", {"x": 1})]),
    # the input at the start is but a placeholder
    (
        [
            began(0, {**NAMED, "id": "a", "input": {"x": 1}}),
            delta(0, "input_json_delta", partial_json='{"y":2}'),
            ended(0),
        ],
        [("a", {"y": 2})],
    ),
    # interleaved
    (
        [
            began(0, {**NAMED, "id": "a"}),
            began(1, {**NAMED, "id": "b"}),
            delta(1, "input_json_delta", partial_json='{"x":'),
            delta(0, "input_json_delta", partial_json='{"y":'),
            delta(1, "input_json_delta", partial_json="1}"),
            delta(0, "input_json_delta", partial_json="2}"),
            ended(1),
            ended(0),
        ],
        [("a", {"y": 2}), ("b", {"x": 1})],
    ),
    # every index 0, and no stop
    (
        [
            began(0, {**NAMED, "id": "a"}),
            delta(0, "input_json_delta", partial_json='{"x":1}'),
            began(0, {**NAMED, "id": "b"}),
            delta(0, "input_json_delta", partial_json='{"x":2}'),
        ],
        [("a", {"x": 1}), ("b", {"x": 2})],
    ),
    # no index
    (
        [
            {**began(0, {**NAMED, "id": "a"}), "index": None},
            {**delta(0, "input_json_delta", partial_json='{"x":1}'), "index": None},
            {**ended(0), "index": None},
            {**began(0, {**NAMED, "id": "b"}), "index": None},
            {**delta(0, "input_json_delta", partial_json='{"x":2}'), "index": None},
        ],
        [("a", {"x": 1}), ("b", {"x": 2})],
    ),
]


@pytest.mark.parametrize(("events", "calls"), CALLS)
def test_calls_come_out_right_whatever_the_servers_do(
    events: list[dict[str, Any]], calls: list[tuple[str, Any]]
) -> None:
    response = streamed(START, *events, last("tool_use"), STOP)
    assert [(call.id, call.arguments) for call in response.tool_calls] == calls


def test_a_text_that_was_not_announced_is_a_text() -> None:
    response = streamed(delta(0, "text_delta", text="H"), delta(0, "text_delta", text="i"), STOP)
    assert response.parts == (Text(text="Hi"),)
    assert events_of(sse([delta(0, "text_delta", text="H"), STOP]))[0] == ResponseStarted()


def test_content_in_the_first_event_is_not_lost() -> None:
    start = {"type": "message_start", "message": message(SEARCH, TEXT)}
    assert streamed(start, last(), STOP).parts == body(message(SEARCH, TEXT)).parts


def test_events_are_known_by_their_name_where_they_have_no_type() -> None:
    nameless = b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    assert fold(events_of(sse([START]) + nameless + b"event: message_stop\ndata: {}\n\n")).text == "Hi"


def test_a_done_of_another_dialect_is_passed_over() -> None:
    events = events_of(sse([START]) + b"data: [DONE]\n\n: comment\n\n" + sse([last(), STOP]))
    assert type(events[-1]) is Finished


BROKEN: list[bytes] = [
    b"data: []\n\n",
    b"data: 7\n\n",
    sse([{"type": "content_block_delta", "index": 0}]),
    sse([delta(0, "text_delta")]),
    sse([delta(0, "text_delta", text=7)]),
    sse([began(0, CALL), delta(0, "input_json_delta", partial_json={})]),
    sse([{"type": "content_block_start", "index": 0}]),
    sse([began(0, {"type": 3})]),
    sse([{"type": "message"}]),
]


@pytest.mark.parametrize("stream", BROKEN)
def test_what_is_not_in_the_wire_format_is_a_protocol_violation(stream: bytes) -> None:
    decoder = StreamDecoder(*MessagesParser(CONTEXT).stream())
    with pytest.raises(ProtocolViolation):
        decoder.feed(sse([START]) + stream)


def test_a_long_answer_takes_linear_time_and_loses_nothing() -> None:
    pieces = [delta(0, "input_json_delta", partial_json="1," * 50) for _ in range(4000)]
    events = events_of(
        sse(
            [
                START,
                began(0, {**NAMED, "id": "a"}),
                delta(0, "input_json_delta", partial_json='{"x":['),
                *pieces,
                delta(0, "input_json_delta", partial_json="1]}"),
                last("tool_use"),
                STOP,
            ]
        )
    )
    assert sum(type(event) is ToolCallStart for event in events) == 1
    (call,) = fold(events).tool_calls
    values = call.arguments["x"]
    assert isinstance(values, list)
    assert len(values) == 200_001


def test_an_empty_delta_is_no_event() -> None:
    events = events_of(sse([START, began(0, TEXT), delta(0, "text_delta", text=""), STOP]))
    assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta(index=0, text="Hi")]


def test_a_usage_whose_fields_have_no_end_is_a_protocol_violation() -> None:
    reports = [last(None, {f"new_{number}": 1}) for number in range(300)]
    with pytest.raises(ProtocolViolation, match="usage"):
        events_of(sse([START, *reports, STOP]))


def test_the_cursor_of_a_page_is_sent_whatever_it_holds() -> None:
    assert OPERATIONS.list_models is not None
    page = b'{"data":[{"id":"m"}],"has_more":true,"last_id":"\\ud800 \\u0000&"}'
    context: ServiceContext[Any] = attrs.evolve(CONTEXT, settings=AnthropicSettings(api_key=Secret("REDACTED")))
    _, cursor = OPERATIONS.list_models.parse(context, WireResponse(status=200, body=page))
    assert OPERATIONS.list_models.build(context, cursor).url.endswith("&after_id=%3F%20%00%26")


# Unknown fields and events


NEW: dict[str, Any] = {
    "context_management": {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 8}]},
    "input_transformations": [],
    "container": {"id": "c"},
    "tomorrow": {"a": 1},
}
BLOCKS: list[dict[str, Any]] = [
    {**THINKING, "new": 1},
    {**REDACTED, "new": 2},
    {**TEXT, "new": [3]},
    {**CALL, "new": "4"},
    {"type": "compaction", "content": "So far", "encrypted_content": "e", "signature": "s", "tool_changes": []},
]


def test_stream_keeps_the_same_unknown_fields_as_a_body() -> None:
    whole = message(*BLOCKS, **NEW)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**START["message"], "tomorrow": {"a": 0}}}]
    for index, block in enumerate(BLOCKS):
        events += [began(index, block), ended(index)]
    events[-2:-1] = [
        began(4, {**BLOCKS[4], "content": None, "encrypted_content": None}),
        delta(4, "compaction_delta", content="So far", encrypted_content="e"),
    ]
    fields = {name: NEW[name] for name in ("context_management", "input_transformations", "tomorrow")}
    streams = streamed(*events, {**last("end_turn", USAGE, container={"id": "c"}), **fields}, STOP)
    for response in (body(whole), streams):
        assert response.provider_metadata == {"anthropic": NEW}
        assert [metadata_of(part) for part in response.parts[:4]] == [
            {"new": 1},
            {"new": 2},
            {"new": [3]},
            {"new": "4"},
        ]
        assert response.parts[4] == Opaque(provider="anthropic", kind="compaction", data=BLOCKS[4])


def test_unknown_fields_of_events_and_deltas_are_kept() -> None:
    response = streamed(
        {**START, "trace": "t1"},
        {**began(0, {"type": "text", "text": ""}), "p": "padding"},
        {**delta(0, "text_delta", text="H", tokens=[1]), "p": "padd"},
        {**delta(0, "text_delta", text="i", tokens=[2]), "region": "eu"},
        delta(0, "glow_delta", glow="a"),
        delta(0, "glow_delta", glow="b"),
        ended(0),
        {"type": "ping", "cost": "0.1"},
        PING,
        last(),
        {**STOP, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
    )
    assert response.text == "Hi"
    assert metadata_of(response.parts[0]) == {"tokens": [2], "glow": "ab"}
    assert response.provider_metadata["anthropic"] == {
        "trace": "t1",
        "region": "eu",
        "ping": [{"cost": "0.1"}],
        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3},
    }


def test_dropped_thinking_is_reported_as_a_warning() -> None:
    reports = [{"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "prefix_binding_mismatch"}] * 2
    whole = message(TEXT, input_transformations=reports)
    for response in (body(whole), streamed(whole)):
        (warning,) = response.warnings
        assert (warning.kind, warning.subject, warning.count, warning.lossy) == ("mended", "reasoning", 2, False)
        assert response.provider_metadata["anthropic"]["input_transformations"] == reports


def test_fallback_model_is_in_the_metadata() -> None:
    fallback = {"type": "fallback", "from": {"model": "m"}, "to": {"model": "m-2"}, "trigger": {"type": "refusal"}}
    response = streamed(START, began(0, fallback), ended(0), began(1, TEXT), ended(1), last(), STOP)
    assert response.provider_metadata["anthropic"]["model"] == "m-2"
    assert response.parts == (Opaque(provider="anthropic", kind="fallback", data=fallback), Text(text="Hi"))


def test_too_many_unknown_fields_raise_protocol_violation() -> None:
    with pytest.raises(ProtocolViolation, match="metadata"):
        events_of(sse([START, *({"type": f"new_{number}", "x": 1} for number in range(300)), STOP]))


# How responses end


@pytest.mark.parametrize(
    "events",
    [
        [STOP],
        [START, STOP],
        [START, PING, last(None, {"output_tokens": 0}), STOP],
        [START, last("tool_use"), STOP],
    ],
)
def test_empty_stream_raises_server_error(events: list[dict[str, Any]]) -> None:
    with pytest.raises(ServerError, match="no error explains why"):
        events_of(sse(events))


@pytest.mark.parametrize("reason", ["end_turn", "refusal", "max_tokens", "stop_sequence"])
def test_empty_answer_with_a_stop_reason_is_accepted(reason: str) -> None:
    response = streamed(START, last(reason), STOP)
    assert (response.parts, response.raw_finish_reason) == ((), reason)


def test_refusal_is_complete_without_message_stop() -> None:
    response = streamed(START, began(0, TEXT), ended(0), last("refusal", {"output_tokens": 3}))
    assert (response.finish_reason, response.text) == (FinishReason.CONTENT_FILTER, "Hi")


def test_stream_without_message_stop_is_interrupted_and_keeps_its_stop_reason() -> None:
    with pytest.raises(StreamInterrupted, match="'end_turn'") as raised:
        streamed(START, began(0, TEXT), ended(0), last("end_turn"))
    assert not raised.value.retryable
    assert (raised.value.finish_reason, raised.value.raw_finish_reason) == (FinishReason.STOP, "end_turn")


def test_done_after_a_stop_reason_completes_the_stream() -> None:
    data = sse([START, began(0, TEXT), ended(0), last("end_turn")]) + b"data: null\n\ndata: [DONE]\n\n"
    assert fold(events_of(data)).finish_reason is FinishReason.STOP
    with pytest.raises(StreamInterrupted):
        events_of(sse([START, began(0, TEXT), ended(0)]) + b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"detail": "Gone"}, ServerError),
        ({"error": {"message": "Wrong key", "code": "invalid_api_key"}}, AuthenticationError),
    ],
)
def test_errors_of_other_apis_raise_the_matching_class(body: dict[str, Any], kind: type[RemoteError]) -> None:
    with pytest.raises(kind):
        streamed(body)


SLOW: dict[str, Any] = {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow"}}
UNNAMED: dict[str, Any] = {"type": "error", "error": None}
ERRORS: list[tuple[bytes, type[RemoteError], str]] = [
    (b'event: error\n:HTTP_STATUS/429\ndata: {"message":"Slow"}\n\n', RateLimited, "Slow"),
    (b"error: Gone\n\n", ServerError, "Gone"),
    (b"event: error\ndata: upstream timeout\n\n", ServerError, "upstream timeout"),
    (b'event: error\ndata: {"type":"overloaded_error","message":"Busy"}\n\n', Overloaded, "Busy"),
    (b'event: error\ndata: {"code":"Throttling.RateQuota","message":"Slow"}\n\n', RateLimited, "Slow"),
    (b'event: error\ndata: {"code":429,"message":"Slow"}\n\n', RateLimited, "Slow"),
    (b'data: {"type":"overloaded_error","message":"Busy"}\n\n', Overloaded, "Busy"),
    (b'data: {"error_type":"rate_limit_error","error_message":"Slow"}\n\n', RateLimited, "Slow"),
    (b'data: {"message":"Slow","code":"429"}\n\n', RateLimited, "Slow"),
    (sse([{"type": "upstream_failed", "error": {"message": "Gone"}}]), ServerError, "Gone"),
    (sse([{**last("end_turn"), "error": {"type": "overloaded_error", "message": "Busy"}}]), Overloaded, "Busy"),
    (sse([{**STOP, "error": {"message": "Gone"}}]), ServerError, "Gone"),
    (sse([last("network_error"), STOP]), ServerError, "network_error"),
    (sse([last("error"), SLOW]), RateLimited, "Slow"),
    (sse([UNNAMED, SLOW]), RateLimited, "Slow"),
    (sse([UNNAMED, STOP]), ServerError, "without a description"),
    (sse([UNNAMED]), ServerError, "without a description"),
    (sse([{"type": "error", "error": {"type": ["odd"], "message": "Odd"}}]), ServerError, "Odd"),
]


@pytest.mark.parametrize(("stream", "error", "text"), ERRORS)
def test_error_in_any_form_raises_the_matching_class(stream: bytes, error: type[RemoteError], text: str) -> None:
    with pytest.raises(error, match=text):
        events_of(sse([START, began(0, TEXT)]) + stream)


def test_later_counts_of_zero_do_not_replace_earlier_counts() -> None:
    zero = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
    usage = streamed(START, began(0, TEXT), last(None, {"output_tokens": 7}), last("end_turn", zero), STOP).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (12, 7, 4)
    usage = streamed(
        START, began(0, TEXT), last(None, {"output_tokens": 7}), last("end_turn", {"output_tokens": 3}), STOP
    ).usage
    assert usage is not None
    assert usage.output_tokens == 7


# Deltas without their block, and calls without a name or an id


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        ([began(0, THINKING), delta(0, "text_delta", text="x")], [Reasoning, Text]),
        ([began(0, CALL), delta(0, "text_delta", text="x")], [ToolCall, Text]),
        ([delta(3, "signature_delta", signature="x")], [Reasoning]),
        ([delta(3, "citations_delta", citation=SPAN)], [Text, Citation]),
        ([delta(3, "glow_delta", glow="x")], [Opaque]),
        ([began(0, TEXT), delta(0, "text_delta", text=None)], [Text]),
    ],
)
def test_delta_without_a_matching_block_starts_a_new_block(events: list[dict[str, Any]], parts: list[type]) -> None:
    assert [type(part) for part in streamed(START, *events, last(), STOP).parts] == parts


def test_arguments_with_a_wrong_index_belong_to_the_last_call() -> None:
    events = [began(1, {**CALL, "input": {}}), delta(0, "input_json_delta", partial_json='{"city":"Rome"}')]
    (call,) = streamed(START, *events, last("tool_use"), STOP).tool_calls
    assert call.arguments == {"city": "Rome"}


def test_call_without_an_id_gets_the_same_id_in_a_stream_and_a_body() -> None:
    named = {"type": "tool_use", "name": "f", "input": {}}
    first, second = body(message(named, {**named, "id": ""})).tool_calls
    assert first.id != second.id
    (call,) = streamed(START, began(0, named), ended(0), last("tool_use"), STOP).tool_calls
    assert call.id == first.id


def test_call_without_a_name_is_a_warning_and_keeps_the_answer() -> None:
    nameless = {"type": "tool_use", "id": "a", "input": {"x": 1}}
    begun = began(1, {**nameless, "input": {}})
    stream = streamed(
        START, began(0, TEXT), ended(0), begun, delta(1, "input_json_delta", partial_json='{"x":1}'), last(), STOP
    )
    for response in (body(message(TEXT, nameless)), stream):
        assert (response.text, response.tool_calls) == ("Hi", ())
        assert [(warning.kind, warning.subject) for warning in response.warnings] == [("other", "tool call")]
        assert response.provider_metadata["anthropic"]["tool_calls"] == [nameless]


@pytest.mark.parametrize("value", [5, "x", [1], {"a": 1}])
def test_unknown_field_tool_calls_is_not_reported_as_a_call(value: object) -> None:
    body = {"id": "m", "content": [TEXT], "stop_reason": "end_turn", "tool_calls": value}
    response = MessagesParser(CONTEXT).body(WireResponse(status=200, body=json.dumps(body).encode()))
    assert response.warnings == ()
    assert response.provider_metadata["anthropic"]["tool_calls"] == value


def test_unknown_field_tool_calls_does_not_hide_a_call_without_a_name() -> None:
    call = {"type": "tool_use", "input": {"a": 1}}
    body = {"id": "m", "content": [TEXT, call], "stop_reason": "end_turn", "tool_calls": 5}
    response = MessagesParser(CONTEXT).body(WireResponse(status=200, body=json.dumps(body).encode()))
    assert [warning.subject for warning in response.warnings] == ["tool call"]
    assert response.provider_metadata["anthropic"]["tool_calls"] == [call]
