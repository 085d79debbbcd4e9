"""Answers of the Responses API: bodies, streams, and what servers get wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    ContentFiltered,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
    StreamInterrupted,
)
from trunkline.events import Event, Finished, ReasoningEnd, ResponseStarted, TextDelta
from trunkline.fold import fold
from trunkline.messages import Audio, Citation, Image, Opaque, Reasoning, Text, ToolCall
from trunkline.response import ChatResponse, FinishReason, TokenLogprob
from trunkline.settings import Settings
from trunkline_openai.responses_count_tokens import parse_count_tokens
from trunkline_openai.responses_parse import ResponsesParser

CONTEXT: ServiceContext[Any] = ServiceContext(name="test", provider="openai", settings=Settings())
USAGE: dict[str, Any] = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 30,
}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
}
CALL: dict[str, Any] = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Oslo"}',
    "status": "completed",
}
CUSTOM: dict[str, Any] = {
    "type": "custom_tool_call",
    "id": "ctc_1",
    "call_id": "call_2",
    "name": "run",
    "input": 'say "ø"\n',
}
REASONING: dict[str, Any] = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
    "encrypted_content": "OPAQUE",
}
SEARCH: dict[str, Any] = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "q"},
}
REFUSAL: dict[str, Any] = {
    "type": "message",
    "id": "msg_2",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "refusal", "refusal": "No."}],
}


def answer(*output: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "status": "completed", "model": "m", "output": list(output), "usage": USAGE, **fields}


def body(data: object) -> ChatResponse:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return ResponsesParser(CONTEXT).body(WireResponse(status=200, body=text))


def sse(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (str(event.get("type")).encode(), json.dumps(event).encode()) for event in events
    )


def events_of(stream: bytes) -> list[Event]:
    decoder = StreamDecoder(*ResponsesParser(CONTEXT).stream())
    return [*decoder.feed(stream), *decoder.finish()]


def streamed(*events: dict[str, Any]) -> ChatResponse:
    return fold(events_of(sse(events)), "openai")


CREATED: dict[str, Any] = {
    "type": "response.created",
    "response": {"id": "resp_1", "model": "m", "status": "in_progress"},
}


def added(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def step(kind: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": index, **fields}


def completed(*output: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": answer(*output, **fields)}


# Bodies


def test_a_body_holds_its_items_in_order() -> None:
    response = body(answer(REASONING, SEARCH, MESSAGE, CALL, CUSTOM))
    assert response.parts == (
        Reasoning(text="One.\n\nTwo.", provider="openai", encrypted="OPAQUE"),
        Opaque(provider="openai", kind="web_search_call", data=SEARCH),
        Text(text="Hello"),
        ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"}),
        ToolCall(id="call_2", name="run", arguments={"input": 'say "ø"\n'}),
    )
    assert (response.id, response.model, response.provider) == ("resp_1", "m", "openai")
    assert response.raw == answer(REASONING, SEARCH, MESSAGE, CALL, CUSTOM)


def test_what_a_replay_needs_is_in_the_metadata() -> None:
    parts = body(answer(REASONING, {**MESSAGE, "phase": "final_answer"}, {**CALL, "namespace": "n"}, CUSTOM)).parts
    kept = [part.provider_metadata["openai"] for part in parts if isinstance(part, (Reasoning, Text, ToolCall))]
    assert kept == [
        {"id": "rs_1", "summary": REASONING["summary"]},
        {"id": "msg_1", "status": "completed", "phase": "final_answer"},
        {"id": "fc_1", "status": "completed", "namespace": "n"},
        {"type": "custom", "id": "ctc_1"},
    ]


def test_usage_counts_cached_and_reasoning_tokens_in() -> None:
    usage = body(answer(MESSAGE)).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 20, 30)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (4, 1, 5)
    assert usage.raw == USAGE


def test_usage_that_was_not_told_is_not_zero() -> None:
    assert body(answer(MESSAGE, usage=None)).usage is None
    usage = body(answer(MESSAGE, usage={"input_tokens": 3, "input_tokens_details": None})).usage
    assert usage is not None
    assert (usage.output_tokens, usage.cache_read_tokens) == (None, None)


@pytest.mark.parametrize(
    ("output", "fields", "reason", "raw"),
    [
        ([MESSAGE], {}, FinishReason.STOP, "completed"),
        ([REFUSAL], {}, FinishReason.STOP, "completed"),
        ([MESSAGE, CALL], {}, FinishReason.TOOL_CALLS, "completed"),
        ([CUSTOM], {}, FinishReason.TOOL_CALLS, "completed"),
        ([SEARCH], {}, FinishReason.STOP, "completed"),
        (
            [MESSAGE],
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            FinishReason.LENGTH,
            "incomplete:max_output_tokens",
        ),
        (
            [CALL],
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            FinishReason.LENGTH,
            "incomplete:max_output_tokens",
        ),
        (
            [MESSAGE],
            {"status": "incomplete", "incomplete_details": {"reason": "max_messages"}},
            FinishReason.LENGTH,
            "incomplete:max_messages",
        ),
        (
            [MESSAGE],
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            FinishReason.CONTENT_FILTER,
            "incomplete:content_filter",
        ),
        (
            [MESSAGE],
            {"status": "incomplete", "incomplete_details": {"reason": "steered"}},
            FinishReason.OTHER,
            "incomplete:steered",
        ),
        ([MESSAGE], {"status": "incomplete", "incomplete_details": None}, FinishReason.OTHER, "incomplete"),
        ([MESSAGE, CALL], {"status": "cancelled"}, FinishReason.OTHER, "cancelled"),
        ([], {"status": "queued"}, FinishReason.PENDING, "queued"),
    ],
)
def test_a_status_becomes_a_finish_reason(
    output: list[Any], fields: dict[str, Any], reason: FinishReason, raw: str
) -> None:
    response = body(answer(*output, **fields))
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)


def test_a_refusal_is_text_that_declines() -> None:
    response = body(answer(REFUSAL))
    assert response.parts == (Text(text="No.", refusal=True),)
    assert (response.text, response.refusal) == ("", "No.")


def test_citations_follow_their_text_and_count_from_the_start_of_the_answer() -> None:
    url = {"type": "url_citation", "url": "https://host", "title": "T", "start_index": 1, "end_index": 4}
    file = {"type": "file_citation", "file_id": "file_1", "filename": "a.pdf", "index": 3}
    content = [
        {"type": "output_text", "text": "Hello", "annotations": [file]},
        {"type": "output_text", "text": "world", "annotations": [url]},
    ]
    response = body(answer({**MESSAGE, "content": content}))
    assert response.parts == (
        Text(text="Hello"),
        Citation(title="a.pdf"),
        Text(text="world"),
        Citation(url="https://host", title="T", start=6, end=9),
    )
    assert [citation.provider_metadata["openai"] for citation in response.citations] == [file, url]


def test_log_probabilities_are_read() -> None:
    logprobs = [{"token": "Hello", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -1}]}]
    content = [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": logprobs}]
    response = body(answer({**MESSAGE, "content": content}))
    assert response.logprobs == (
        TokenLogprob(token="Hello", logprob=-0.5, top=(TokenLogprob(token="Hi", logprob=-1.0),)),
    )


def test_raw_reasoning_is_text_as_a_summary_is() -> None:
    content = [{"type": "reasoning_text", "text": "hm"}]
    (part,) = body(answer({"type": "reasoning", "id": "rs_1", "summary": [], "content": content})).parts
    assert part == Reasoning(text="hm", provider="openai")
    assert isinstance(part, Reasoning)
    assert part.provider_metadata["openai"]["content"] == content


def test_a_content_part_of_an_unknown_type_is_kept_as_an_item_that_can_be_replayed() -> None:
    part: dict[str, Any] = {"type": "output_hologram", "data": "x"}
    response = body(answer({**MESSAGE, "content": [part]}))
    assert response.parts == (
        Opaque(
            provider="openai",
            kind="output_hologram",
            data={"type": "message", "role": "assistant", "content": [part]},
        ),
    )


def test_arguments_that_are_not_json_are_kept_as_they_came() -> None:
    (call,) = body(answer({**CALL, "arguments": '{"city":'})).tool_calls
    assert (call.arguments, call.invalid_arguments) == ({}, '{"city":')


def test_empty_arguments_are_an_empty_object() -> None:
    (call,) = body(answer({**CALL, "arguments": ""})).tool_calls
    assert (call.arguments, call.invalid_arguments) == ({}, None)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (answer(status="failed", error={"code": "rate_limit_exceeded", "message": "Slow down."}), RateLimited),
        (answer(status="failed", error={"code": "server_error", "message": "Oops."}), ServerError),
        (answer(status="failed", error=None), ServerError),
        ({"error": {"code": "insufficient_quota", "message": "Empty."}}, QuotaExhausted),
        (b"[" * 100_000, ProtocolViolation),
        (b"\xff", ProtocolViolation),
        ({"object": "list", "data": []}, ProtocolViolation),
        (answer({"id": "no type"}), ProtocolViolation),
        (answer(usage=None), ServerError),
        (answer(status="failed", error=None, incomplete_details={"reason": "content_filter"}), ContentFiltered),
    ],
)
def test_a_body_that_is_no_answer_raises_a_typed_error(data: object, error: type[RemoteError]) -> None:
    with pytest.raises(error) as raised:
        body(data)
    assert raised.value.provider == "openai"


def test_an_error_status_gives_the_error_it_tells_of() -> None:
    text = b'{"error":{"message":"Bad key.","type":"invalid_request_error","code":"invalid_api_key"}}'
    wire = WireResponse(status=401, headers={"x-request-id": "req_1"}, body=text)
    error = ResponsesParser(CONTEXT).error(wire)
    assert isinstance(error, AuthenticationError)
    assert (error.status, error.code, error.request_id) == (401, "invalid_api_key", "req_1")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{}", ProtocolViolation),
        (b"?", ProtocolViolation),
        (b'{"error":{"code":"server_error","message":"x"}}', ServerError),
    ],
)
def test_a_count_that_is_none_raises(text: bytes, error: type[RemoteError]) -> None:
    with pytest.raises(error):
        parse_count_tokens(CONTEXT, WireResponse(status=200, body=text))


# Streams


def test_a_stream_begins_with_the_id_and_ends_with_the_whole_response() -> None:
    events = events_of(sse([CREATED, {**CREATED, "type": "response.in_progress"}, completed(MESSAGE)]))
    assert events[0] == ResponseStarted(id="resp_1", model="m")
    assert [type(event) for event in events].count(ResponseStarted) == 1
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.raw == answer(MESSAGE)
    assert last.raw_reason == "completed"


@pytest.mark.parametrize("index", [0, None])
def test_calls_under_one_index_are_not_fused(index: int | None) -> None:
    second = {**CALL, "id": "fc_2", "call_id": "call_2", "arguments": '{"city":"Rome"}'}
    events = [CREATED]
    for call in (CALL, second):
        events += [
            added(0, {**call, "arguments": ""}),
            step("function_call_arguments.delta", 0, item_id=call["id"], delta=call["arguments"]),
            done(0, call),
        ]
    for event in events[1:]:
        event["output_index"] = index
    assert streamed(*events, completed(CALL, second)).parts == body(answer(CALL, second)).parts


def test_calls_under_one_index_without_ids_are_not_fused() -> None:
    first = {name: value for name, value in CALL.items() if name != "id"}
    second = {**first, "call_id": "call_2", "arguments": '{"city":"Rome"}'}
    events = [CREATED]
    for call in (first, second):
        events += [
            added(0, {**call, "arguments": ""}),
            step("function_call_arguments.delta", 0, delta=call["arguments"]),
            done(0, call),
        ]
    assert streamed(*events, completed(first, second)).parts == body(answer(first, second)).parts


def test_a_server_that_gives_each_event_another_id_is_understood_by_the_index() -> None:
    response = streamed(
        CREATED,
        added(0, {**MESSAGE, "id": "a", "content": []}),
        step("output_text.delta", item_id="b", content_index=0, delta="Hel"),
        step("output_text.delta", item_id="c", content_index=0, delta="lo"),
        done(0, {**MESSAGE, "id": "d"}),
        completed({**MESSAGE, "id": "e"}),
    )
    assert response.parts == (Text(text="Hello"),)


STREAMED = {
    "whole": [
        added(0, {**MESSAGE, "content": []}),
        step("content_part.added", content_index=0, item_id="msg_1", part={"type": "output_text", "text": ""}),
        step("output_text.delta", content_index=0, item_id="msg_1", delta="Hel"),
        step("output_text.delta", content_index=0, item_id="msg_1", delta="lo"),
        step("output_text.done", content_index=0, item_id="msg_1", text="Hello"),
        step("content_part.done", content_index=0, item_id="msg_1", part=MESSAGE["content"][0]),
        done(0, MESSAGE),
    ],
}
_WHOLE = STREAMED["whole"]
STREAMED |= {
    "no announcements": [_WHOLE[2], _WHOLE[3]],
    "done events only": [_WHOLE[0], _WHOLE[4], _WHOLE[6]],
    "the part's end only": [_WHOLE[5]],
    "the item's end only": [_WHOLE[6]],
    "a delta missing": [_WHOLE[0], _WHOLE[2], _WHOLE[6]],
    "no end": [_WHOLE[0], _WHOLE[2], _WHOLE[3]],
    "the terminal event only": [],
    "another content index": [{**_WHOLE[2], "content_index": 1}, {**_WHOLE[3], "content_index": 1}],
    "everything twice": [*_WHOLE[:6], _WHOLE[5], _WHOLE[6], _WHOLE[6], _WHOLE[0], _WHOLE[6]],
}


@pytest.mark.parametrize("name", STREAMED)
def test_a_text_is_told_once_whatever_the_server_leaves_out(name: str) -> None:
    response = streamed(*STREAMED[name], completed(MESSAGE))
    (part,) = response.parts
    assert part == Text(text="Hello")
    assert isinstance(part, Text)
    assert part.provider_metadata["openai"]["id"] == "msg_1"


def test_what_was_streamed_stands_where_the_terminal_event_repeats_nothing() -> None:
    response = streamed(CREATED, *STREAMED["no end"], added(1, CALL), completed())
    assert response.parts == (Text(text="Hello"), ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"}))
    assert response.finish_reason == FinishReason.TOOL_CALLS


@pytest.mark.parametrize("call", [CALL, CUSTOM])
@pytest.mark.parametrize(
    "kept",
    [
        ("added", "start", "rest", "done", "end"),
        ("added", "start", "rest"),
        ("added", "start", "end"),
        ("added", "done"),
        ("added", "end"),
        ("nameless", "start", "rest", "done", "end"),
        ("nameless", "start", "end"),
        ("start", "rest", "end"),
        ("start",),
        ("end",),
        (),
    ],
)
def test_a_call_is_told_once_whatever_the_server_leaves_out(call: dict[str, Any], kept: tuple[str, ...]) -> None:
    field, kind = ("arguments", "function_call_arguments") if call is CALL else ("input", "custom_tool_call_input")
    text = call[field]
    events = {
        "added": added(0, {**call, field: ""}),
        "nameless": added(0, {"type": call["type"], "id": call["id"]}),
        "start": step(f"{kind}.delta", item_id=call["id"], delta=text[:5]),
        "rest": step(f"{kind}.delta", item_id=call["id"], delta=text[5:]),
        "done": step(f"{kind}.done", item_id=call["id"], **{field: text}),
        "end": done(0, call),
    }
    assert streamed(*(events[name] for name in kept), completed(call)).parts == body(answer(call)).parts


def test_the_parts_of_a_summary_are_one_reasoning_whose_state_comes_with_the_items_end() -> None:
    events = events_of(
        sse(
            [
                CREATED,
                added(0, {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "CUT"}),
                step("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
                step("reasoning_summary_text.delta", summary_index=0, delta="On"),
                step("reasoning_summary_text.delta", summary_index=0, delta="e."),
                step("reasoning_summary_text.done", summary_index=0, text="One."),
                step("reasoning_summary_text.delta", summary_index=1, delta="Two."),
                done(0, REASONING),
                completed(REASONING),
            ]
        )
    )
    assert fold(events).parts == (Reasoning(text="One.\n\nTwo.", provider="openai", encrypted="OPAQUE"),)
    (end,) = [event for event in events if isinstance(event, ReasoningEnd)]
    assert end.provider_metadata["openai"]["summary"] == REASONING["summary"]


def test_summary_parts_that_all_have_one_number_are_not_told_again() -> None:
    response = streamed(
        step("reasoning_summary_text.delta", summary_index=0, delta="One."),
        step("reasoning_summary_text.delta", summary_index=0, delta="Two."),
        done(0, REASONING),
        completed(REASONING),
    )
    assert response.reasoning == "One.Two."


def test_raw_reasoning_is_streamed() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    response = streamed(
        step("reasoning_text.delta", content_index=0, item_id="rs_1", delta="h"),
        step("reasoning_text.delta", content_index=0, item_id="rs_1", delta="m"),
        done(0, item),
        completed(item),
    )
    assert response.parts == (Reasoning(text="hm", provider="openai"),)


def test_a_refusal_is_streamed() -> None:
    response = streamed(
        added(0, {**REFUSAL, "content": []}),
        step("content_part.added", content_index=0, part={"type": "refusal", "refusal": ""}),
        step("refusal.delta", content_index=0, delta="N"),
        step("refusal.delta", content_index=0, delta="o."),
        step("refusal.done", content_index=0, refusal="No."),
        done(0, REFUSAL),
        completed(REFUSAL),
    )
    assert response.parts == (Text(text="No.", refusal=True),)
    assert response.finish_reason == FinishReason.STOP


def test_citations_are_told_once_after_their_text() -> None:
    notes = [
        {"type": "url_citation", "url": f"https://host/{n}", "title": "T", "start_index": n, "end_index": n + 1}
        for n in range(3)
    ]
    message = {**MESSAGE, "content": [{"type": "output_text", "text": "Hello", "annotations": notes}]}
    response = streamed(
        step("output_text.delta", content_index=0, delta="Hello"),
        step("output_text.annotation.added", content_index=0, annotation_index=0, annotation=notes[0]),
        step("output_text.annotation.added", content_index=0, annotation_index=0, annotation=notes[1]),
        done(0, message),
        completed(message),
    )
    assert response.parts == body(answer(message)).parts


def test_log_probabilities_are_streamed_and_told_once() -> None:
    logprobs: list[dict[str, Any]] = [{"token": token, "logprob": -1.0, "top_logprobs": []} for token in ("Hel", "lo")]
    message = {**MESSAGE, "content": [{"type": "output_text", "text": "Hello", "logprobs": logprobs}]}
    events = events_of(
        sse(
            [
                step("output_text.delta", content_index=0, delta="Hel", logprobs=logprobs[:1]),
                step("output_text.delta", content_index=0, delta="lo", logprobs=[]),
                done(0, message),
                completed(message),
            ]
        )
    )
    assert fold(events).logprobs == body(answer(message)).logprobs
    assert events[2] == TextDelta(index=0, text="Hel", logprobs=(TokenLogprob(token="Hel", logprob=-1.0),))


def test_a_hosted_tools_item_comes_whole_at_its_end() -> None:
    response = streamed(
        added(0, {**SEARCH, "status": "in_progress"}),
        step("web_search_call.searching", item_id="ws_1"),
        done(0, SEARCH),
        completed(SEARCH),
    )
    assert response.parts == (Opaque(provider="openai", kind="web_search_call", data=SEARCH),)


# Items that the application answers

AWAITED: list[dict[str, Any]] = [
    {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "action": {"commands": ["ls"]}, "environment": None},
    {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "environment": {"type": "local"}},
    {"type": "apply_patch_call", "id": "ap_1", "call_id": "call_1", "operation": {"type": "delete_file", "path": "a"}},
    {"type": "computer_call", "id": "cu_1", "call_id": "call_1", "pending_safety_checks": [], "actions": []},
    {"type": "local_shell_call", "id": "ls_1", "call_id": "call_1", "action": {"type": "exec", "command": ["ls"]}},
    {"type": "mcp_approval_request", "id": "mcpr_1", "name": "f", "arguments": "{}", "server_label": "s"},
    {"type": "tool_search_call", "id": "tsc_1", "call_id": "call_1", "execution": "client", "arguments": {}},
    {"type": "hologram_call", "id": "hg_1", "call_id": "call_1"},
]
HANDLED: list[list[dict[str, Any]]] = [
    [SEARCH],
    [{"type": "code_interpreter_call", "id": "ci_1", "code": "1", "container_id": "c", "outputs": None}],
    [{"type": "mcp_call", "id": "mcp_1", "name": "f", "arguments": "{}", "server_label": "s"}],
    [{"type": "tool_search_call", "id": "tsc_1", "call_id": None, "execution": "server", "arguments": {}}],
    [{"type": "shell_call", "id": "sh_1", "call_id": "c", "environment": {"type": "container_reference"}}],
    [
        {"type": "shell_call", "id": "sh_1", "call_id": "call_1"},
        {"type": "shell_call_output", "id": "sho_1", "call_id": "call_1", "output": []},
    ],
    [AWAITED[5], {"type": "mcp_call", "id": "mcp_1", "approval_request_id": "mcpr_1"}],
]


@pytest.mark.parametrize("item", AWAITED)
def test_an_item_that_the_application_answers_is_opaque_and_finishes_with_tool_calls(item: dict[str, Any]) -> None:
    for response in (body(answer(item)), streamed(CREATED, added(0, item), done(0, item), completed(item))):
        assert response.parts == (Opaque(provider="openai", kind=item["type"], data=item),)
        assert response.finish_reason == FinishReason.TOOL_CALLS


@pytest.mark.parametrize("items", HANDLED)
def test_an_item_that_the_provider_handles_does_not_wait_for_the_application(items: list[dict[str, Any]]) -> None:
    assert body(answer(*items)).finish_reason == FinishReason.STOP
    assert streamed(CREATED, *map(done, range(9), items), completed(*items)).finish_reason == FinishReason.STOP


def test_an_item_cut_off_by_the_limit_does_not_finish_with_tool_calls() -> None:
    response = body(answer(AWAITED[0], status="incomplete", incomplete_details={"reason": "max_output_tokens"}))
    assert response.finish_reason == FinishReason.LENGTH


# Images and audio

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DRAWING: dict[str, Any] = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "output_format": "png",
    "revised_prompt": "a dot",
    "result": PIXEL,
}


def test_a_generated_image_is_an_image_with_its_item_in_the_metadata() -> None:
    for response in (
        body(answer(DRAWING)),
        streamed(
            CREATED,
            added(0, {"type": "image_generation_call", "id": "ig_1", "status": "in_progress"}),
            step("image_generation_call.partial_image", item_id="ig_1", partial_image_b64=PIXEL),
            done(0, {**DRAWING, "status": "generating"}),
            completed(DRAWING),
        ),
    ):
        (image,) = response.parts
        assert isinstance(image, Image)
        assert image.base64 == PIXEL
        assert image.media_type == "image/png"
        assert image.provider_metadata["openai"]["revised_prompt"] == "a dot"
        assert response.finish_reason == FinishReason.STOP


@pytest.mark.parametrize("fields", [{"output_format": None}, {"output_format": "hologram"}])
def test_the_format_of_an_image_is_recognised_by_its_bytes(fields: dict[str, Any]) -> None:
    (image,) = body(answer({**DRAWING, **fields})).parts
    assert isinstance(image, Image)
    assert image.media_type == "image/png"


@pytest.mark.parametrize(
    "fields",
    [
        {"result": None, "status": "failed", "error": {"code": "moderation_blocked", "message": "No."}},
        {"result": "not base64!"},
        {"result": ""},
    ],
)
def test_an_image_call_without_an_image_is_opaque(fields: dict[str, Any]) -> None:
    item = {**DRAWING, **fields}
    assert body(answer(item)).parts == (Opaque(provider="openai", kind="image_generation_call", data=item),)


def test_audio_is_read_from_the_item_or_from_the_events() -> None:
    sound = Audio(data=b"abc", transcript="Hi")
    part = {"type": "output_audio", "data": "YWJj", "transcript": "Hi"}
    pieces = [step("audio.delta", delta="YWJj"), step("audio.transcript.delta", delta="Hi")]
    assert body(answer({**MESSAGE, "content": [part]})).parts == (sound,)
    assert streamed(CREATED, *pieces, completed()).parts == (sound,)
    assert streamed(CREATED, *pieces, completed({**MESSAGE, "content": [part]})).parts == (sound,)


# Calls in unusual forms


@pytest.mark.parametrize("arguments", [None, {}, "", "{}"])
def test_a_call_with_null_or_missing_arguments_has_no_arguments(arguments: Any) -> None:
    item = {**CALL, "arguments": arguments}
    for response in (
        body(answer(item)),
        streamed(
            added(0, {**CALL, "arguments": None}),
            step("function_call_arguments.delta", item_id="fc_1", delta=arguments),
            step("function_call_arguments.done", item_id="fc_1", arguments=arguments),
            done(0, item),
            completed(item),
        ),
    ):
        (call,) = response.tool_calls
        assert (call.arguments, call.invalid_arguments) == ({}, None)


def test_arguments_that_are_an_object_are_read() -> None:
    item = {**CALL, "arguments": {"city": "Oslo"}}
    events = [added(0, {**CALL, "arguments": ""}), step("function_call_arguments.done", arguments={"city": "Oslo"})]
    assert body(answer(item)).parts == streamed(*events, completed(item)).parts == body(answer(CALL)).parts


def test_a_call_without_an_id_gets_the_same_id_in_a_stream_and_a_body() -> None:
    item = {"type": "function_call", "name": "f", "arguments": "{}"}
    (call,) = body(answer(item)).tool_calls
    assert call.id.startswith("call_")
    assert streamed(CREATED, done(0, item), completed(item)).tool_calls == (call,)


def test_a_call_without_a_name_is_kept_with_a_warning() -> None:
    nameless = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "arguments": "{}"}
    for response in (
        body(answer(MESSAGE, nameless)),
        streamed(CREATED, done(0, MESSAGE), done(1, nameless), completed(MESSAGE, nameless)),
    ):
        assert response.text == "Hello"
        assert response.parts[1] == Opaque(provider="openai", kind="function_call", data=nameless)
        assert [warning.subject for warning in response.warnings] == ["tool call"]
        assert response.finish_reason == FinishReason.STOP


# Unknown fields and events


def test_unknown_fields_are_kept_in_the_metadata_of_their_part() -> None:
    text = {"type": "output_text", "text": "Hello", "annotations": [], "safety": "low", "nothing": None}
    items = (
        {**REASONING, "format": "v1", "status": "completed"},
        {**MESSAGE, "content": [text], "channel": "final"},
        {**CALL, "async": True, "note": {}},
    )
    for response in (body(answer(*items)), streamed(CREATED, *map(done, range(3), items), completed(*items))):
        reasoning, message, call = (part.provider_metadata["openai"] for part in response.message.parts)  # type: ignore[union-attr]
        assert reasoning == {
            "id": "rs_1",
            "format": "v1",
            "status": "completed",
            "summary": REASONING["summary"],
        }
        assert message == {"id": "msg_1", "status": "completed", "channel": "final", "safety": "low"}
        assert call == {"id": "fc_1", "status": "completed", "async": True}


def test_unknown_response_fields_are_kept_unless_they_repeat_the_request() -> None:
    fields = {
        "service_tier": "default",
        "moderation": {"input": {"type": "moderation_result", "flagged": False}},
        "input_transformations": [{"type": "reasoning", "id": "rs_1", "action": "removed", "reason": "model_mismatch"}],
        "tool_usage": {"web_search": {"num_requests": 2}},
        "temperature": 1.0,
        "tools": [{"type": "web_search"}],
        "billing": None,
        "created_at": 1,
        "object": "response",
    }
    kept = {name: fields[name] for name in ("service_tier", "moderation", "input_transformations", "tool_usage")}
    assert body(answer(MESSAGE, **fields)).provider_metadata == {"openai": kept}
    assert streamed(CREATED, completed(MESSAGE, **fields)).provider_metadata == {"openai": kept}


def test_fields_that_only_the_last_event_has_are_kept() -> None:
    text = {**MESSAGE["content"][0], "safety": "low"}
    late = {**MESSAGE, "content": [text], "channel": "final"}
    response = streamed(CREATED, done(0, MESSAGE), done(1, SEARCH), completed(late, SEARCH))
    assert response.provider_metadata["openai"]["output"] == [
        {"id": "msg_1", "content": [{"safety": "low"}], "channel": "final"}
    ]
    details = {"reason": "max_output_tokens", "limit": 9}
    response = body(answer(MESSAGE, status="incomplete", incomplete_details=details))
    assert response.provider_metadata["openai"]["incomplete_details"] == details


def test_unknown_events_and_fields_of_events_are_kept() -> None:
    limits = {"type": "response.rate_limits.updated", "rate_limits": [{"name": "tokens"}], "sequence_number": 4}
    response = streamed(
        CREATED,
        limits,
        step(
            "output_text.delta", content_index=0, item_id="msg_1", delta="Hello", content_filters=[{"blocked": False}]
        ),
        step("web_search_call.searching", item_id="ws_1"),
        step("code_interpreter_call_code.delta", item_id="ci_1", delta="1"),
        limits,
        completed(MESSAGE),
    )
    assert response.provider_metadata["openai"] == {
        "response.rate_limits.updated": [{"rate_limits": [{"name": "tokens"}]}] * 2,
        "content_filters": [{"blocked": False}],
    }


# Responses in the background


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_unfinished_background_response_is_pending(status: str) -> None:
    response = body(answer(status=status, usage=None, background=True))
    assert (response.finish_reason, response.raw_finish_reason, response.id) == (FinishReason.PENDING, status, "resp_1")
    assert response.warnings == ()


def test_the_stream_of_a_background_response_is_read_to_its_end() -> None:
    queued = {**CREATED, "type": "response.queued"}
    assert streamed(CREATED, queued, completed(MESSAGE)).finish_reason == FinishReason.STOP
    cancelled = {"type": "response.cancelled", "response": answer(status="cancelled", usage=None)}
    assert streamed(CREATED, cancelled).raw_finish_reason == "cancelled"


def test_a_whole_body_instead_of_a_stream_is_read() -> None:
    assert fold(events_of(json.dumps(answer(MESSAGE)).encode()), "openai").text == "Hello"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.rate_limits.updated", "rate_limits": []},
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.output_hologram.delta", "delta": "x"},
        {"note": "no type"},
    ],
)
def test_an_unknown_event_is_passed_over(event: dict[str, Any]) -> None:
    assert streamed(event, CREATED, event, done(0, MESSAGE), event, completed(MESSAGE)).text == "Hello"


def test_the_events_name_is_its_type_where_the_data_has_none() -> None:
    stream = b'event: response.output_text.delta\ndata: {"output_index":0,"delta":"Hi"}\n\n' + sse([completed()])
    assert fold(events_of(stream)).text == "Hi"


def test_an_end_mark_of_the_other_dialect_is_tolerated() -> None:
    stream = sse([CREATED, completed(MESSAGE)])
    assert fold(events_of(b"data: [DONE]\n\n" + stream + b"data: [DONE]\n\n")).text == "Hello"


@pytest.mark.parametrize(
    ("event", "error", "retryable"),
    [
        ({"type": "error", "code": "server_error", "message": "Oops.", "param": None}, ServerError, True),
        ({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "Slow."}}, RateLimited, True),
        ({"type": "error", "error": {"type": "insufficient_quota", "message": "Empty."}}, QuotaExhausted, False),
        ({"error": {"code": "server_error", "message": "Oops."}}, ServerError, True),
        (
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "Slow."}}},
            RateLimited,
            True,
        ),
        ({"type": "response.failed", "response": {"status": "failed", "error": None}}, ServerError, True),
        (completed(status="failed", error={"code": "server_error", "message": "Oops."}), ServerError, True),
        ({"type": "response.error", "error": {"code": "server_error", "message": "Oops."}}, ServerError, True),
        ({"error_type": "rate_limit_exceeded", "message": "Slow."}, RateLimited, True),
        ({"type": "upstream_error", "code": "rate_limit_exceeded", "message": "Slow."}, RateLimited, True),
        ({"type": "response.done", "error": {"code": "rate_limit_exceeded"}}, RateLimited, True),
    ],
)
def test_an_error_in_the_stream_is_raised_as_its_type(
    event: dict[str, Any], error: type[RemoteError], retryable: bool
) -> None:
    with pytest.raises(error) as raised:
        events_of(sse([CREATED, step("output_text.delta", content_index=0, delta="Hel"), event]))
    assert raised.value.retryable is retryable
    assert raised.value.message


REASON: dict[str, Any] = {"type": "error", "code": "rate_limit_exceeded", "message": "Slow."}
NO_REASON: dict[str, Any] = {"type": "response.failed", "response": {"status": "failed", "error": None}}


@pytest.mark.parametrize(
    "events",
    [
        [NO_REASON, REASON],
        [{"type": "error", "code": None, "message": None}, {"type": "response.failed", "response": {"error": REASON}}],
    ],
)
def test_the_reason_of_a_failure_may_arrive_in_a_separate_event(events: list[dict[str, Any]]) -> None:
    with pytest.raises(RateLimited) as raised:
        events_of(sse([CREATED, *events]))
    assert "Slow." in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        b':HTTP_STATUS/429\ndata: {"code": "Throttling", "message": "Slow."}\n\n',
        b':HTTP_STATUS/429\nevent: error\ndata: {"request_id": "r"}\n\n',
        b'error: {"code": 429, "message": "Slow."}\n\n',
    ],
)
def test_an_error_in_the_framing_of_the_stream_raises_the_matching_class(text: bytes) -> None:
    with pytest.raises(RateLimited):
        events_of(sse([CREATED]) + text)


def test_an_error_event_with_text_is_an_error() -> None:
    with pytest.raises(ServerError) as raised:
        events_of(sse([CREATED]) + b"event: error\ndata: upstream broke\n\n")
    assert "upstream broke" in str(raised.value)


def test_an_unknown_event_may_contain_plain_text() -> None:
    assert fold(events_of(b"event: ping\ndata: pong\n\n" + sse([completed(MESSAGE)]))).text == "Hello"


NO_TOKENS = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize("fields", [{"output": []}, {"output": None}, {"output": [], "usage": NO_TOKENS}])
def test_an_empty_completed_response_raises_a_retryable_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="neither output nor usage") as raised:
        streamed(CREATED, completed(**{"usage": None, **fields}))
    assert raised.value.retryable


def test_the_status_next_to_an_error_is_used() -> None:
    error = {"type": "error", "status_code": 429, "error": {"type": "usage_limit_reached", "message": "Later."}}
    with pytest.raises(QuotaExhausted) as raised:
        streamed(error)
    assert raised.value.status == 429


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"type":"response.completed"}',
        b'{"type":"response.output_item.added","output_index":0}',
        b'{"type":"response.output_item.done","item":{"id":"x"}}',
        b'{"type":"response.output_text.delta","output_index":0,"delta":7}',
        b'{"type":"response.output_text.delta","delta":"no place"}',
    ],
)
def test_what_is_not_in_the_wire_format_is_a_protocol_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        events_of(b"data: " + data + b"\n\n" + sse([completed(MESSAGE)]))


def test_a_bare_error_after_the_events_is_raised_as_its_type() -> None:
    bare = b'{"error":{"code":"rate_limit_exceeded","message":"Slow."}}'
    with pytest.raises(RateLimited):
        events_of(sse([CREATED, STREAMED["whole"][2]]) + bare)


def test_an_end_mark_of_the_other_dialect_is_no_terminal_event() -> None:
    with pytest.raises(StreamInterrupted):
        events_of(sse([CREATED, *STREAMED["whole"]]) + b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("completed", {"status": "in_progress"}, FinishReason.STOP),
        ("completed", {"status": None}, FinishReason.STOP),
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, FinishReason.LENGTH),
    ],
)
def test_the_terminal_event_counts_where_the_response_does_not_tell_its_status(
    kind: str, fields: dict[str, Any], reason: FinishReason
) -> None:
    response = {name: value for name, value in answer(MESSAGE).items() if name != "status"} | fields
    assert streamed({"type": f"response.{kind}", "response": response}).finish_reason == reason


def test_unknown_event_and_unknown_field_of_one_name_are_both_kept() -> None:
    response = streamed(
        {"type": "response.created", "response": {"id": "r", "billing": "x"}},
        {"type": "billing", "price": 4},
        {"type": "response.completed", "response": {"output": [MESSAGE]}},
    )
    assert response.provider_metadata["openai"] == {"billing": ["x", {"price": 4}]}


def test_unknown_event_field_output_and_late_item_fields_are_both_kept() -> None:
    response = streamed(
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE, "output": "x"},
        {"type": "response.completed", "response": {"output": [{**MESSAGE, "late": 1}]}},
    )
    assert response.provider_metadata["openai"] == {"output": ["x", {"id": "msg_1", "late": 1}]}
