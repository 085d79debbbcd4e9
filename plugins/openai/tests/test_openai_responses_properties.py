"""Properties of the Responses parser: a stream folds to the body's response at any split, and no input breaks it."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given
from parser_properties import check_body, check_error, check_frames, check_same, cut, filled, json_values, texts, wild
from trunkline.authoring.framing import SSEFrame
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.fold import decode_arguments
from trunkline.messages import ToolCall
from trunkline.response import ChatResponse
from trunkline.settings import Settings
from trunkline_openai.responses_count_tokens import parse_count_tokens
from trunkline_openai.responses_parse import ResponsesParser, ResponsesStreamParser

CONTEXT: ServiceContext[Any] = ServiceContext(name="test", provider="openai", settings=Settings())

url_citations: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.just("url_citation"), "url": filled, "title": texts, "start_index": st.integers(0, 5)}
)
contents: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("output_text"), "text": texts, "annotations": st.lists(url_citations, max_size=2)}
    ),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": filled}),
)
items: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("reasoning"),
            "summary": st.lists(st.fixed_dictionaries({"type": st.just("summary_text"), "text": texts}), max_size=2),
            "encrypted_content": st.none() | filled,
        }
    ),
    st.fixed_dictionaries({"type": st.just("message"), "content": st.lists(contents, max_size=3)}),
    st.fixed_dictionaries(
        {
            "type": st.just("function_call"),
            "name": filled,
            "arguments": st.dictionaries(texts, json_values, max_size=2).map(json.dumps) | texts,
        }
    ),
    st.fixed_dictionaries({"type": st.just("custom_tool_call"), "name": filled, "input": texts}),
    st.fixed_dictionaries({"type": st.just("web_search_call"), "action": json_values}),
)
counts = st.none() | st.integers(0, 10_000)
usages: st.SearchStrategy[Any] = st.none() | st.fixed_dictionaries(
    {
        "input_tokens": counts,
        "input_tokens_details": st.none() | st.fixed_dictionaries({"cached_tokens": counts}),
        "output_tokens": counts,
    }
)
endings: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"status": "completed"},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
    ]
)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    output = draw(st.lists(items, max_size=4))
    for number, item in enumerate(output):
        item["id"] = f"item_{number}"
        if item["type"].endswith("tool_call") or item["type"] == "function_call":
            item["call_id"] = f"call_{number}"
    # A response with neither output nor usage is an error.
    usage = draw(usages) if output else {"input_tokens": 1, "output_tokens": 0}
    return {"id": "resp_1", "model": "m", "output": output, "usage": usage, **draw(endings)}


def item_events(draw: st.DrawFn, index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    """The item as a stream tells it; any of the repetitions may be missing, as servers leave them out."""
    place = {"output_index": index, "item_id": item["id"]}

    def repeated(event: dict[str, Any]) -> list[dict[str, Any]]:
        return [event] if draw(st.booleans()) else []

    def pieces_and_whole(kind: str, text: str, field: str, **where: Any) -> list[dict[str, Any]]:
        deltas = [{"type": f"response.{kind}.delta", **place, **where, "delta": piece} for piece in cut(draw, text)]
        return [*deltas, *repeated({"type": f"response.{kind}.done", **place, **where, field: text})]

    empty = {"summary": [], "content": [], "arguments": "", "input": ""}
    announced = {name: empty.get(name, value) for name, value in item.items()}
    events = [{"type": "response.output_item.added", "output_index": index, "item": announced}]
    for number, part in enumerate(item.get("summary", [])):
        events += pieces_and_whole("reasoning_summary_text", part["text"], "text", summary_index=number)
    for number, part in enumerate(item.get("content", [])):
        where = {"content_index": number}
        begun = {**part, "annotations": []} | {name: "" for name in ("text", "refusal") if name in part}
        events.append({"type": "response.content_part.added", **place, **where, "part": begun})
        if part["type"] == "refusal":
            events += pieces_and_whole("refusal", part["refusal"], "refusal", **where)
            continue
        events += pieces_and_whole("output_text", part["text"], "text", **where)
        kind = "response.output_text.annotation.added"
        events += [{"type": kind, **place, **where, "annotation": note} for note in part["annotations"]]
        events += repeated({"type": "response.content_part.done", **place, **where, "part": part})
    if "arguments" in item:
        events += pieces_and_whole("function_call_arguments", item["arguments"], "arguments")
    if "input" in item:
        events += pieces_and_whole("custom_tool_call_input", item["input"], "input")
    if item["type"] == "web_search_call":
        return [*events, {"type": "response.output_item.done", "output_index": index, "item": item}]
    return events + repeated({"type": "response.output_item.done", "output_index": index, "item": item})


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[bytes]]:
    """An answer, and the chunks of bytes of its stream."""
    answer = draw(answers())
    events = [{"type": "response.created", "response": {"id": "resp_1", "model": "m", "output": []}}]
    for index, item in enumerate(answer["output"]):
        events += item_events(draw, index, item)
    events.append({"type": f"response.{answer['status']}", "response": answer})
    ascii_only = draw(st.booleans())
    data = "".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=ascii_only)}\n\n" for event in events
    ).encode()
    return answer, cut(draw, data, 6)


def body_of(answer: dict[str, Any]) -> ChatResponse:
    return ResponsesParser(CONTEXT).body(WireResponse(status=200, body=json.dumps(answer).encode()))


@given(streams())
def test_a_stream_split_anywhere_folds_to_the_bodys_response(stream: tuple[dict[str, Any], list[bytes]]) -> None:
    answer, chunks = stream
    check_same(ResponsesParser(CONTEXT), "openai", json.dumps(answer).encode(), chunks)


@given(answers())
def test_a_body_loses_no_call_and_no_text(answer: dict[str, Any]) -> None:
    response = body_of(answer)
    calls = [item for item in answer["output"] if "call_id" in item]
    expected = [
        decode_arguments(item["arguments"])[0] if "arguments" in item else {"input": item["input"]} for item in calls
    ]
    assert [call.id for call in response.tool_calls] == [item["call_id"] for item in calls]
    assert [call.arguments for call in response.tool_calls] == expected
    parts = [part for item in answer["output"] for part in item.get("content", [])]
    assert response.text == "".join(part.get("text", "") for part in parts)
    assert (response.refusal or "") == "".join(part.get("refusal", "") for part in parts)
    assert not any(isinstance(part, ToolCall) and part.provider_metadata == {} for part in response.parts)


KINDS = [
    "response.created",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.output_text.annotation.added",
    "response.refusal.delta",
    "response.refusal.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "error",
]
ITEM_TYPES = ["message", "function_call", "custom_tool_call", "reasoning", "web_search_call"]
wild_lists: st.SearchStrategy[Any] = st.lists(
    st.one_of(
        wild,
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["output_text", "refusal", "x"]) | wild,
                "text": texts | wild,
                "refusal": wild,
                "annotations": st.lists(wild | url_citations, max_size=2) | wild,
                "logprobs": st.lists(st.fixed_dictionaries({"token": texts, "logprob": wild}), max_size=2) | wild,
            },
        ),
    ),
    max_size=2,
)
wild_items: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(ITEM_TYPES) | wild,
        "id": st.sampled_from(["a", "b"]) | wild,
        "call_id": texts | wild,
        "name": texts | wild,
        "arguments": texts | wild,
        "input": texts | wild,
        "content": wild_lists | wild,
        "summary": wild_lists | wild,
        "encrypted_content": wild,
    },
)
wild_responses: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "id": wild,
        "model": wild,
        "status": st.sampled_from(["completed", "incomplete", "failed", "cancelled"]) | wild,
        "incomplete_details": st.fixed_dictionaries({"reason": wild}) | wild,
        "error": wild,
        "output": st.lists(wild_items | wild, max_size=3) | wild,
        "usage": st.fixed_dictionaries({"input_tokens": wild, "input_tokens_details": wild}) | wild,
        "service_tier": wild,
    },
)
wild_events: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | wild},
    optional={
        "output_index": st.integers(0, 2) | wild,
        "item_id": st.sampled_from(["a", "b"]) | wild,
        "content_index": st.integers(0, 1) | wild,
        "summary_index": wild,
        "delta": texts | wild,
        "text": texts | wild,
        "refusal": wild,
        "arguments": wild,
        "input": wild,
        "logprobs": wild_lists,
        "annotation": url_citations | wild,
        "part": wild_lists.map(lambda parts: parts[0] if parts else None),
        "item": wild_items | wild,
        "response": wild_responses | wild,
        "error": wild,
        "message": wild,
    },
)
wild_frames = st.builds(
    lambda data, event: SSEFrame(data if isinstance(data, bytes) else json.dumps(data).encode(), event),
    wild_events | json_values | st.binary(max_size=8),
    st.sampled_from(KINDS) | st.text(max_size=4),
)


@given(st.lists(wild_frames, max_size=5))
def test_arbitrary_frames_raise_nothing_but_our_errors_and_give_events_that_fold(frames: list[SSEFrame]) -> None:
    check_frames(ResponsesStreamParser("openai"), frames)


@given(wild_responses.map(json.dumps).map(str.encode) | st.binary(max_size=20))
def test_arbitrary_bodies_raise_nothing_but_our_errors(text: bytes) -> None:
    for read in (ResponsesParser(CONTEXT).body, lambda wire: parse_count_tokens(CONTEXT, wire)):
        check_body(read, text)
    check_error(ResponsesParser(CONTEXT), text)
