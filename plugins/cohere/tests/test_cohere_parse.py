"""Answers: streams event by event, whole bodies, and what servers make of either."""

import json
import sys
from typing import Any

import pytest
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import SSEFrame
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ContextTooLong, ProtocolViolation, RemoteError, ServerError, StreamInterrupted
from trunkline.events import (
    Event,
    Finished,
    PartAdded,
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
    UsageReported,
)
from trunkline.fold import fold
from trunkline.messages import Citation, Opaque, Reasoning, Text, ToolCall
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob, Usage
from trunkline.secrets import Secret
from trunkline_cohere import CohereSettings
from trunkline_cohere.parse import CohereParser

PARSER = CohereParser(
    ServiceContext(name="s", provider="cohere", settings=CohereSettings(api_key=Secret("cohere-secret")))
)
PLAN = {"cohere": {"type": "tool_plan"}}
USAGE = {
    "billed_units": {"input_tokens": 5.0, "output_tokens": 20.0},
    "tokens": {"input_tokens": 10.0, "output_tokens": 20.0, "reasoning_tokens": 5},
    "cached_tokens": 4.0,
}
TOLD = Usage(input_tokens=10, output_tokens=20, total_tokens=30, cache_read_tokens=4, reasoning_tokens=5)


def sse(*events: Any) -> bytes:
    frames = []
    for event in events:
        if isinstance(event, bytes):
            frames.append(b"data: %s\n\n" % event)
        else:
            name = str(event.get("type", "message")).encode()
            frames.append(b"event: %s\ndata: %s\n\n" % (name, json.dumps(event).encode()))
    return b"".join(frames)


def message(kind: str, index: int | None = None, **delta: Any) -> dict[str, Any]:
    where = {} if index is None else {"index": index}
    return {"type": kind, **where, "delta": {"message": delta}}


def content(kind: str, index: int | None, **block: Any) -> dict[str, Any]:
    return message(f"content-{kind}", index, content=block)


def call(kind: str, index: int | None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return message(f"tool-call-{kind}", index, tool_calls={**fields, "function": function})


def end(reason: Any = "COMPLETE", **delta: Any) -> dict[str, Any]:
    return {"type": "message-end", "delta": {"finish_reason": reason, **delta}}


START = {
    "type": "message-start",
    "id": "m1",
    "delta": {"message": {"role": "assistant", "content": [], "tool_plan": ""}},
}


def events(*wire: Any, data: bytes | None = None) -> list[Event]:
    decoder = StreamDecoder(*PARSER.stream())
    return [*decoder.feed(sse(*wire) if data is None else data), *decoder.finish()]


def answer(*wire: Any) -> ChatResponse:
    return fold(events(START, *wire), "cohere")


def test_thinking_text_and_a_call_come_as_events() -> None:
    found = events(
        START,
        content("start", 0, type="thinking", thinking=""),
        content("delta", 0, thinking="think"),
        {"type": "content-end", "index": 0},
        content("start", 1, type="text", text=""),
        content("delta", 1, text="Hi"),
        {"type": "content-end", "index": 1},
        call("start", 0, "", id="call_1", type="function", name="weather"),
        call("delta", 0, '{"city":'),
        call("delta", 0, '"Oslo"}'),
        {"type": "tool-call-end", "index": 0},
        end("TOOL_CALL", usage=USAGE),
        b"[DONE]",
    )
    assert found == [
        ResponseStarted(id="m1"),
        ReasoningStart(index=0),
        ReasoningDelta(index=0, text="think"),
        ReasoningEnd(index=0, provider="cohere"),
        TextStart(index=1),
        TextDelta(index=1, text="Hi"),
        TextEnd(index=1),
        ToolCallStart(index=2, id="call_1", name="weather"),
        ToolCallDelta(index=2, arguments='{"city":'),
        ToolCallDelta(index=2, arguments='"Oslo"}'),
        ToolCallEnd(index=2),
        UsageReported(usage=TOLD),
        Finished(reason=FinishReason.TOOL_CALLS, raw_reason="TOOL_CALL", usage=TOLD),
    ]
    assert isinstance(found[-1], Finished)
    assert found[-1].usage is not None
    assert found[-1].usage.raw == USAGE


def test_a_tool_plan_is_reasoning_that_knows_what_it_was() -> None:
    response = answer(
        message("tool-plan-delta", tool_plan="I"),
        message("tool-plan-delta", tool_plan=" will"),
        call("start", 0, "", id="c", name="t"),
        {"type": "tool-call-end", "index": 0},
        end("TOOL_CALL"),
    )
    assert response.parts == (Reasoning(text="I will", provider="cohere"), ToolCall(id="c", name="t"))
    assert isinstance(response.parts[0], Reasoning)
    assert response.parts[0].provider_metadata == PLAN


RAW_CITATION = {
    "start": 0,
    "end": 4,
    "text": "Dock",
    "type": "TEXT_CONTENT",
    "sources": [
        {"type": "document", "id": "d", "document": {"id": "d", "title": "T", "url": "https://x", "text": "words"}},
        {"type": "tool", "id": "c:0", "tool_output": {"content": "out"}},
    ],
}


def test_a_citation_comes_once_for_each_source_with_its_own_words_kept() -> None:
    response = answer(
        content("start", 0, type="text", text=""),
        content("delta", 0, text="Dock Seven"),
        message("citation-start", 0, citations=RAW_CITATION),
        {"type": "citation-end", "index": 0},
        {"type": "content-end", "index": 0},
        end(),
    )
    assert response.parts == (
        Text(text="Dock Seven"),
        Citation(url="https://x", title="T", cited_text="words", start=0, end=4),
        Citation(cited_text="out", start=0, end=4),
    )
    metadata = response.citations[1].provider_metadata["cohere"]
    assert metadata == {"citation": RAW_CITATION, "source": RAW_CITATION["sources"][1]}


CITATIONS: list[tuple[Any, list[Citation]]] = [
    ({"start": 1, "end": 2, "content_index": 0}, [Citation(start=1, end=2)]),
    ({"start": 1, "end": 2, "content_index": 2}, [Citation(start=4, end=5)]),
    ({"start": 1, "end": 2, "content_index": 1, "type": "THINKING_CONTENT"}, [Citation()]),
    ({"start": 1, "end": 2, "type": "PLAN"}, [Citation()]),
    ({"start": "1", "end": -1, "sources": 7}, [Citation()]),
    ({"sources": [7, {"type": "tool", "tool_output": "odd"}]}, [Citation()]),
    ({"sources": [{"document": {"snippet": "s", "title": 7, "url": ""}}]}, [Citation(cited_text="s")]),
    (7, []),
    (None, []),
]


@pytest.mark.parametrize(("raw", "expected"), CITATIONS)
def test_offsets_count_in_the_answer_s_text(raw: Any, expected: list[Citation]) -> None:
    response = answer(
        content("start", 0, type="text", text="abc"),
        {"type": "content-end", "index": 0},
        content("start", 1, type="thinking", thinking="think"),
        {"type": "content-end", "index": 1},
        content("start", 2, type="text", text="def"),
        message("citation-start", 0, citations=raw),
        {"type": "content-end", "index": 2},
        end(),
    )
    assert list(response.citations) == expected


REASONS = [
    ("COMPLETE", "stop"),
    ("STOP_SEQUENCE", "stop"),
    ("MAX_TOKENS", "length"),
    ("TOOL_CALL", "tool_calls"),
    ("ERROR", "error"),
    ("TIMEOUT", "error"),
    ("SOMETHING_NEW", "other"),
    ("", "other"),
    (None, "other"),
    (7, "other"),
]


@pytest.mark.parametrize(("raw", "expected"), REASONS)
def test_finish_reasons(raw: Any, expected: str) -> None:
    response = answer(content("delta", 0, text="a"), end(raw))
    assert response.finish_reason == expected
    assert response.raw_finish_reason == (raw if isinstance(raw, str) and raw else None)


@pytest.mark.parametrize(
    ("raw", "expected"), [("COMPLETE", "tool_calls"), ("NEW", "tool_calls"), ("MAX_TOKENS", "length")]
)
def test_calls_decide_where_the_reason_does_not(raw: str, expected: str) -> None:
    assert answer(call("start", 0, "{}", id="c", name="t"), end(raw)).finish_reason == expected


def test_an_error_after_part_of_an_answer_ends_it_with_a_warning() -> None:
    response = answer(
        message("tool-plan-delta", tool_plan="I will"),
        end("ERROR", error="an invalid tool generation", error_type="INVALID_TOOL_GENERATION", usage={}),
    )
    assert (response.finish_reason, response.text, response.usage) == ("error", "", None)
    assert response.warnings == (
        CallWarning(kind="other", subject="finish_reason", message="an invalid tool generation", lossy=False),
    )
    assert response.provider_metadata["cohere"]["error_type"] == "INVALID_TOOL_GENERATION"


def test_an_error_before_any_answer_is_raised_and_may_be_retried() -> None:
    with pytest.raises(ServerError, match="sorry") as caught:
        answer(end("ERROR", error="sorry", error_type="E"))
    assert (caught.value.code, caught.value.request_id, caught.value.retryable) == ("E", "m1", True)
    with pytest.raises(ServerError, match="TIMEOUT"):
        answer(end("TIMEOUT"))
    with pytest.raises(ContextTooLong):
        answer(end("ERROR", error="too long", error_type="TOO_MANY_TOKENS"))


ERRORS = [
    {"message": "sorry", "id": "e"},
    {"type": "error", "message": "sorry"},
    {"type": "error", "error": {"message": "sorry"}},
]


@pytest.mark.parametrize("event", ERRORS)
def test_an_error_event_is_raised(event: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="sorry"):
        events(START, event)


def test_the_type_may_stand_in_the_event_field_alone() -> None:
    delta = b'{"delta":{"message":{"content":{"text":"a"}}}}'
    data = b"event: content-delta\ndata: %s\n\nevent: message-end\ndata: {}\n\n" % delta
    assert fold(events(data=data)).text == "a"


def test_unknown_fields_and_events_do_not_fail_the_response() -> None:
    response = answer(
        {"type": "debug", "prompt": "p"},
        {"type": "new-event", "delta": 7},
        content("start", 0, type="text", text="a", annotations=[]),
        {"type": "content-end", "index": 0, "extra": 1},
        end("COMPLETE", later=1),
    )
    assert response.parts == (Text(text="a"),)


def test_a_block_of_an_unknown_kind_is_kept_whole() -> None:
    response = answer(
        content("start", 0, type="chart", title="T", size=1),
        content("delta", 0, title="itle", size=2),
        content("delta", 0, size="big"),
        {"type": "content-end", "index": 0},
        end(),
    )
    data = {"type": "chart", "title": "Title", "size": "big"}
    assert response.parts == (Opaque(provider="cohere", kind="chart", data=data),)
    assert any(isinstance(event, PartAdded) for event in events(START, content("start", 0, type="chart"), end()))


T = Text(text="ab")
BLOCKS: list[tuple[str, list[Any], list[Any]]] = [
    ("no start", [content("delta", 0, text="a"), content("delta", 0, text="b")], [T]),
    ("no index", [content("start", None, type="text", text="a"), content("delta", None, text="b")], [T]),
    ("index in the deltas alone", [content("start", None, type="text", text=""), content("delta", 0, text="ab")], [T]),
    ("no end", [content("start", 0, type="text", text="ab")], [T]),
    ("no kind", [content("start", 0), content("delta", 0, text="ab")], [T]),
    ("a kind by its key", [content("start", 0, text="a"), content("delta", 0, text="b")], [T]),
    ("words as a plain string", [message("content-delta", 0, content="ab")], [T]),
    (
        "every index 0",
        [content("start", 0, type="thinking", thinking="x"), content("start", 0, type="text", text="ab")],
        [Reasoning(text="x", provider="cohere"), T],
    ),
    (
        "the kind changes without a start",
        [content("delta", 0, thinking="x"), content("delta", 0, text="ab")],
        [Reasoning(text="x", provider="cohere"), T],
    ),
    (
        "words after the end",
        [
            content("start", 0, type="text", text="a"),
            {"type": "content-end", "index": 0},
            content("delta", 0, text="b"),
        ],
        [Text(text="a"), Text(text="b")],
    ),
    ("an end of nothing", [{"type": "content-end", "index": 3}, content("delta", 0, text="ab")], [T]),
    ("a second start of the message", [content("delta", 0, text="a"), START, content("delta", 0, text="b")], [T]),
    ("an empty block", [content("start", 0, type="text", text="")], [Text(text="")]),
]


@pytest.mark.parametrize(("wire", "expected"), [pytest.param(*case[1:], id=case[0]) for case in BLOCKS])
def test_blocks_come_out_right(wire: list[Any], expected: list[Any]) -> None:
    assert list(answer(*wire, end()).parts) == expected


A, B = ToolCall(id="a", name="t", arguments={"x": 1}), ToolCall(id="b", name="u")
ONE = '{"x":1}'
CALLS: list[tuple[str, list[Any], list[ToolCall]]] = [
    (
        "interleaved",
        [
            call("start", 0, "", id="a", name="t"),
            call("start", 1, "", id="b", name="u"),
            call("delta", 0, ONE),
            call("delta", 1, "{}"),
        ],
        [A, B],
    ),
    (
        "every index 0",
        [
            call("start", 0, id="a", name="t"),
            call("delta", 0, ONE),
            call("start", 0, id="b", name="u"),
            call("delta", 0, "{}"),
        ],
        [A, B],
    ),
    (
        "no index",
        [call("start", None, id="a", name="t"), call("delta", None, ONE), call("start", None, id="b", name="u")],
        [A, B],
    ),
    ("index in the deltas alone", [call("start", None, id="a", name="t"), call("delta", 0, ONE)], [A]),
    ("all in the start", [call("start", 0, ONE, id="a", name="t"), call("start", 1, id="b", name="u")], [A, B]),
    ("arguments as an object", [call("start", 0, {"x": 1}, id="a", name="t")], [A]),
    ("no start", [call("delta", 0, ONE, id="a", name="t")], [A]),
    (
        "another id under an old index",
        [call("start", 0, ONE, id="a", name="t"), call("delta", 0, "{}", id="b", name="u")],
        [A, B],
    ),
    ("the id again in each delta", [call("start", 0, id="a", name="t"), call("delta", 0, ONE, id="a", name="t")], [A]),
    ("the id alone first", [call("start", 0, id="a"), call("delta", 0, name="t"), call("delta", 0, ONE)], [A]),
    (
        "a list in place of an object",
        [message("tool-call-start", 0, tool_calls=[{"id": "a", "function": {"name": "t", "arguments": ONE}}])],
        [A],
    ),
    ("no arguments", [call("start", 0, id="b", name="u"), {"type": "tool-call-end", "index": 0}], [B]),
    ("arguments that are null", [call("start", 0, None, id="b", name="u")], [B]),
]


@pytest.mark.parametrize(("wire", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CALLS])
def test_calls_come_out_right_and_are_never_fused(wire: list[Any], expected: list[ToolCall]) -> None:
    response = answer(*wire, end("TOOL_CALL"))
    assert list(response.tool_calls) == expected
    assert response.warnings == ()


def test_calls_without_an_id_or_with_the_same_get_ids_of_their_own() -> None:
    response = answer(
        call("start", 0, "{}", name="t"), call("start", 1, "{}", name="t"),
        call("start", 2, "{}", id="x", name="t"), call("start", 3, "{}", id="x", name="t"),
        end("TOOL_CALL"),
    )  # fmt: skip
    assert len({found.id for found in response.tool_calls}) == 4
    assert all(found.id for found in response.tool_calls)


def test_arguments_that_are_no_object_are_kept_with_a_warning() -> None:
    response = answer(call("start", 0, "{", id="a", name="t"), end("TOOL_CALL"))
    assert response.tool_calls[0].invalid_arguments == "{"
    assert [warning.kind for warning in response.warnings] == ["invalid_arguments"]


@pytest.mark.parametrize("pieces", [["null"], ["nu", "ll"], [" null", " "], ["", "null"]])
def test_null_arguments_become_an_empty_object(pieces: list[str]) -> None:
    first, *rest = pieces
    found = events(
        START, call("start", 0, first, id="a", name="t"), *[call("delta", 0, piece) for piece in rest], end("TOOL_CALL")
    )
    assert not [event for event in found if isinstance(event, ToolCallDelta)]
    streamed = fold(found, "cohere")
    function = {"name": "t", "arguments": "".join(pieces)}
    whole = body({"message": {"tool_calls": [{"id": "a", "function": function}]}, "finish_reason": "TOOL_CALL"})
    for answer_ in (streamed, whole):
        assert answer_.tool_calls == (ToolCall(id="a", name="t"),)
        assert answer_.warnings == ()


def test_arguments_that_begin_like_null_are_complete() -> None:
    pieces = [call("delta", 0, piece) for piece in ("n", "ul", "x", '"}')]
    response = answer(call("start", 0, "", id="a", name="t"), *pieces, end("TOOL_CALL"))
    assert response.tool_calls[0].invalid_arguments == 'nulx"}'
    white = [call("delta", 0, " ")] * 100
    response = answer(call("start", 0, "", id="a", name="t"), *white, call("delta", 0, '{"a":1}'), end("TOOL_CALL"))
    assert response.tool_calls[0].arguments == {"a": 1}


def test_call_without_a_name_does_not_lose_the_rest_of_the_answer() -> None:
    response = answer(
        content("delta", 0, text="Let me look."),
        call("start", 0, "", id="a"),
        call("delta", 0, '{"city":"Oslo"}'),
        {"type": "tool-call-end", "index": 0},
        call("start", 1, "{}", id="b", name="t"),
        end("TOOL_CALL"),
    )
    assert response.text == "Let me look."
    assert [call.id for call in response.tool_calls] == ["b"]
    assert response.provider_metadata["cohere"]["tool_calls"] == [{"id": "a", "arguments": '{"city":"Oslo"}'}]
    assert [(warning.kind, warning.subject, warning.lossy) for warning in response.warnings] == [
        ("other", "tool call", False)
    ]


def test_name_may_arrive_after_the_arguments() -> None:
    response = answer(
        call("start", 0, '{"a":', id="a"), call("delta", 0, "1}"), call("delta", 0, name="t"), end("TOOL_CALL")
    )
    assert response.tool_calls == (ToolCall(id="a", name="t", arguments={"a": 1}),)


# Unknown fields and events


def test_unknown_fields_are_metadata_in_streams_and_in_bodies() -> None:
    block = {"type": "text", "text": "Hi", "language": "en"}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s1"}
    function = {"name": "t", "arguments": "{}", "parameters": None}
    tool = {"id": "a", "type": "function", "function": function, "index": 0}
    streamed = answer(
        content("start", 0, **{**thinking, "thinking": ""}),
        content("delta", 0, thinking="hm"),
        {"type": "content-end", "index": 0},
        content("start", 1, **{**block, "text": ""}),
        content("delta", 1, text="Hi"),
        {**message("tool-call-start", 0, tool_calls=tool)},
        {"type": "message-end", "id": "m1", "region": "eu", "delta": {"finish_reason": "TOOL_CALL", "tier": "fast"}},
    )
    whole = body(
        {
            "id": "m1",
            "finish_reason": "TOOL_CALL",
            "message": {"role": "assistant", "content": [thinking, block], "tool_calls": [tool]},
            "region": "eu",
            "tier": "fast",
            "meta": {},
        }
    )
    for found in (streamed, whole):
        assert found.provider_metadata == {"cohere": {"region": "eu", "tier": "fast"}}
        assert [part.provider_metadata for part in found.parts if not isinstance(part, Opaque)] == [
            {"cohere": {"signature": "s1"}},
            {"cohere": {"language": "en"}},
            {"cohere": {"index": 0, "function": {"parameters": None}}},
        ]


def test_unknown_fields_of_first_and_later_events_are_metadata() -> None:
    start = {"type": "message-start", "id": "m", "delta": {"message": {"role": "assistant", "seed": 7}, "node": 1}}
    found = fold(events(start, {**content("delta", 0, text="a"), "trace": "t"}, end()), "cohere")
    assert found.provider_metadata == {"cohere": {"seed": 7, "node": 1, "trace": "t"}}


def test_unknown_events_are_metadata() -> None:
    found = answer(
        {"type": "debug", "prompt": "<|START|>"},
        {"type": "search-results", "hits": [1]},
        {"type": "search-results", "hits": [2]},
        {"type": "ping"},
        {"type": "citation-end", "index": 0},
        content("delta", 0, text="a"),
        end(),
    )
    assert found.provider_metadata == {
        "cohere": {"debug": [{"prompt": "<|START|>"}], "search-results": [{"hits": [1]}, {"hits": [2]}]}
    }


def test_token_ids_are_metadata() -> None:
    entries = [
        {"text": "H", "token_ids": [1], "logprobs": [-0.5]},
        {"text": "i!", "token_ids": [2, 3], "logprobs": [-1.0, -2.0]},
    ]
    streamed = answer(
        {**content("delta", 0, text="H"), "logprobs": entries[0]},
        {**content("delta", 0, text="i!"), "logprobs": entries[1]},
        end(),
    )
    whole = body({"message": {"content": [{"type": "text", "text": "Hi!"}]}, "logprobs": entries})
    assert streamed.provider_metadata == whole.provider_metadata == {"cohere": {"logprobs": entries}}


# Endings


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"type": "message-end", "delta": {}}, ServerError),
        ({"type": "message-end", "delta": {"finish_reason": None}}, ServerError),
        ({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "error": "boom"}}, ServerError),
        ({"type": "message-end", "error_type": "TOO_MANY_TOKENS", "delta": {}}, ContextTooLong),
    ],
)
def test_end_without_content_or_reason_raises_an_error(last: dict[str, Any], kind: type[RemoteError]) -> None:
    with pytest.raises(kind):
        answer(last)


def test_body_without_content_or_reason_raises_an_error() -> None:
    with pytest.raises(ServerError):
        body({"id": "m", "message": {"role": "assistant", "content": []}})


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"error": "boom"}\n\n',
        b'data: {"error_type": "X", "detail": "boom"}\n\n',
        b'event: error\ndata: {"detail": "boom"}\n\n',
        b"event: error\ndata: boom\n\n",
        b'event: error\ndata: {"type": "failed", "message": "boom"}\n\n',
        b'{"detail": "boom"}',
    ],
)
def test_error_in_any_form_is_raised(data: bytes) -> None:
    with pytest.raises(RemoteError, match="boom") as caught:
        events(data=sse(START) + data)
    assert not isinstance(caught.value, ProtocolViolation)


VIOLATIONS: list[tuple[str, list[Any]]] = [
    ("no object", [b"[]"]),
    ("nested too deep", [b"[" * 100_000]),
    ("no delta", [{"type": "content-delta", "index": 0}]),
    ("delta is no object", [{"type": "content-delta", "delta": 7}]),
    ("no content", [message("content-delta", 0)]),
    ("content is no object", [message("content-start", 0, content=7)]),
    ("text is no text", [content("delta", 0, text=7)]),
    ("thinking is no text", [content("start", 0, type="thinking", thinking={})]),
    ("a plan that is no text", [message("tool-plan-delta", tool_plan=7)]),
    ("a call that is no object", [message("tool-call-start", 0, tool_calls="x")]),
    ("no call", [message("tool-call-delta", 0)]),
]


@pytest.mark.parametrize("wire", [pytest.param(case[1], id=case[0]) for case in VIOLATIONS])
def test_what_is_not_in_the_wire_format_is_a_violation(wire: list[Any]) -> None:
    decoder = StreamDecoder(*PARSER.stream())
    with pytest.raises(ProtocolViolation):
        decoder.feed(sse(START, *wire))


WHOLE = sse(
    START,
    content("start", 0, type="text", text=""),
    content("delta", 0, text="héllo"),
    {"type": "content-end", "index": 0},
    call("start", 0, "{}", id="c", name="t"),
    {"type": "tool-call-end", "index": 0},
    end("TOOL_CALL", usage=USAGE),
)


def test_done_alone_does_not_complete_a_stream() -> None:
    with pytest.raises(StreamInterrupted, match="message-end"):
        events(data=sse(START, content("delta", 0, text="a")) + b"data: [DONE]\n\n")


def test_nothing_comes_after_the_end() -> None:
    found = events(data=WHOLE + sse(content("delta", 0, text="more")) + b"data: {\n\n")
    assert [type(event) for event in found].count(Finished) == 1
    assert isinstance(found[-1], Finished)


def test_log_probabilities_of_a_piece_are_summed() -> None:
    entry = {"text": "Hi", "token_ids": [1, 2], "logprobs": [-0.5, -1.5]}
    response = answer(
        {**content("delta", 0, text="Hi"), "logprobs": entry},
        {**content("delta", 0, text="!"), "logprobs": {"text": "!", "logprobs": ["x"]}},
        end(),
    )
    assert response.logprobs == (TokenLogprob(token="Hi", logprob=-2.0),)
    whole = body({"message": {"content": [{"type": "text", "text": "Hi"}]}, "logprobs": [entry, 7]})
    assert whole.logprobs == response.logprobs
    assert body({"message": {"content": "Hi"}, "logprobs": [{"text": "Hi", "logprobs": [10**400]}]}).logprobs


USAGES: list[tuple[Any, Usage | None]] = [
    (USAGE, TOLD),
    ({"billed_units": {"input_tokens": 3, "output_tokens": 0}}, Usage(input_tokens=3, output_tokens=0, total_tokens=3)),
    ({"tokens": {"input_tokens": 3}}, Usage(input_tokens=3)),
    ({"tokens": {"input_tokens": 0.5, "output_tokens": -1}, "cached_tokens": True}, Usage()),
    ({"tokens": 7, "cached_tokens": 0}, Usage(cache_read_tokens=0)),
    ({}, None),
    (None, None),
    ([], None),
]


@pytest.mark.parametrize(("raw", "expected"), USAGES)
def test_usage(raw: Any, expected: Usage | None) -> None:
    assert answer(content("delta", 0, text="a"), end(usage=raw)).usage == expected


# Whole bodies


def response(data: Any, **headers: str) -> WireResponse:
    return WireResponse(
        status=200,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=data if isinstance(data, bytes) else json.dumps(data).encode(),
    )


def body(data: Any, **headers: str) -> ChatResponse:
    return PARSER.body(response(data, **headers))


def test_a_body_is_read() -> None:
    data = {
        "id": "m1",
        "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Dock Seven"}],
            "tool_plan": "I will",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "t", "arguments": ONE}}],
            "citations": [{**RAW_CITATION, "content_index": 1}, {"start": 0, "end": 1, "type": "PLAN"}],
        },
        "usage": USAGE,
    }
    found = body(data)
    assert found.parts == (
        Reasoning(text="hm", provider="cohere"),
        Text(text="Dock Seven"),
        Citation(url="https://x", title="T", cited_text="words", start=0, end=4),
        Citation(cited_text="out", start=0, end=4),
        Reasoning(text="I will", provider="cohere"),
        Citation(),
        A,
    )
    assert (found.id, found.finish_reason, found.usage, found.raw) == ("m1", "tool_calls", TOLD, data)
    plan = found.parts[4]
    assert isinstance(plan, Reasoning)
    assert plan.provider_metadata == PLAN


def test_a_notice_of_the_api_becomes_a_warning() -> None:
    found = body({"message": {"content": "Hi"}}, x_api_warning="model 'x' is deprecated")
    assert found.warnings == (
        CallWarning(kind="other", subject="model", message="model 'x' is deprecated", lossy=False),
    )


def test_an_answer_that_is_empty_is_an_answer() -> None:
    assert body({"message": {"content": []}, "finish_reason": "COMPLETE"}).parts == ()


BODIES: list[tuple[Any, type[RemoteError]]] = [
    (b"[" * 100_000, ProtocolViolation),
    ({"message": None}, ProtocolViolation),
    ({"message": {"content": [7]}}, ProtocolViolation),
    ({"message": {"content": 7}}, ProtocolViolation),
    ({"message": {"tool_plan": 7}}, ProtocolViolation),
    ({"message": {"tool_calls": [7]}}, ProtocolViolation),
    ({"message": {"tool_calls": [{}]}}, ServerError),
    ({"error": "boom"}, ServerError),
    ({"detail": "boom"}, ServerError),
    ({"message": "sorry", "id": "e"}, ServerError),
    ({"message": {"content": []}, "finish_reason": "ERROR"}, ServerError),
]


@pytest.mark.parametrize(("data", "kind"), BODIES)
def test_a_body_that_is_no_answer_is_an_error(data: Any, kind: type[RemoteError]) -> None:
    with pytest.raises(kind):
        body(data)


def test_a_long_answer_costs_a_linear_number_of_calls() -> None:
    def calls(count: int) -> int:
        data = sse(
            START,
            *[content("delta", 0, text="word ")] * count,
            *[call("start", n, "{}", name="t") for n in range(count)],
            end(),
        )
        seen = 0

        def profile(*_: object) -> None:
            nonlocal seen
            seen += 1

        sys.setprofile(profile)
        try:
            fold(events(data=data))
        finally:
            sys.setprofile(None)
        return seen

    assert calls(2000) < 2.2 * calls(1000)


def test_arguments_that_are_no_json_are_a_protocol_violation() -> None:
    with pytest.raises(ProtocolViolation, match="arguments"):
        answer(call("start", 0, {"a": float("nan")}, id="c", name="weather"), end("TOOL_CALL"))


def test_endless_tool_name_is_a_protocol_violation() -> None:
    pieces = [call("delta", 0, name="x" * 100) for _ in range(200)]
    with pytest.raises(ProtocolViolation, match="a tool name in the response is longer"):
        answer(call("start", 0, name="x"), *pieces, end("TOOL_CALL"))


def test_unknown_event_and_unknown_field_with_the_same_name_are_both_kept() -> None:
    stream = PARSER.stream()[1]
    frames: list[dict[str, Any]] = [
        {"type": "message-start", "id": "1", "billing": 3},
        {"type": "billing", "price": 4},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    ]
    response = fold([event for data in frames for event in stream.feed(SSEFrame(json.dumps(data).encode()))], "cohere")
    assert response.provider_metadata["cohere"] == {"billing": [3, {"price": 4}]}
