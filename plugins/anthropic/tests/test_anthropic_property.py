"""Properties: a stream folds to the body's response at any split, and no input breaks a parser or the translator."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
from hypothesis import given
from parser_properties import (
    SAME,
    check_body,
    check_error,
    check_frames,
    check_same,
    cut,
    filled,
    json_values,
    texts,
    wild,
)
from trunkline.authoring.framing import SSEFrame
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest
from trunkline.messages import Citation, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse
from trunkline_anthropic import AnthropicSettings, anthropic
from trunkline_anthropic.parse import MessagesParser, MessagesStreamParser

CONTEXT = ServiceContext(name="test", provider="anthropic", settings=AnthropicSettings(api_key="REDACTED-KEY"))  # type: ignore[arg-type]  # converted
OPERATIONS = anthropic.operations(CONTEXT)

objects: st.SearchStrategy[Any] = st.dictionaries(texts, json_values, max_size=3)
citations: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.just("char_location"), "cited_text": texts, "document_index": st.integers(0, 3)}
)
counts = st.integers(0, 10_000)
blocks: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
    st.fixed_dictionaries({"type": st.just("text"), "text": texts, "citations": st.lists(citations, max_size=2)}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts, "signature": texts}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": filled}),
    st.fixed_dictionaries(
        {"type": st.just("tool_use"), "id": filled, "name": filled, "input": objects},
        optional={"caller": st.just({"type": "direct"})},
    ),
    st.fixed_dictionaries({"type": st.just("server_tool_use"), "id": filled, "name": filled, "input": objects}),
    st.fixed_dictionaries({"type": st.just("web_search_tool_result"), "tool_use_id": filled, "content": json_values}),
)
usages: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cache_read_input_tokens": st.none() | counts,
        "cache_creation_input_tokens": st.none() | counts,
        "output_tokens_details": st.fixed_dictionaries({"thinking_tokens": counts}),
    },
)
reasons = st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence", "refusal", "pause_turn", "new", None])


def has_content(answer: dict[str, Any]) -> bool:
    return bool(answer["content"]) or answer["stop_reason"] not in (None, "tool_use")


@st.composite
def any_answers(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": draw(st.lists(blocks, max_size=4)),
        "stop_reason": draw(reasons),
        "stop_sequence": draw(st.none() | filled),
        "usage": draw(usages),
    }


def answers() -> st.SearchStrategy[dict[str, Any]]:
    """Generate answers with content. An empty answer is an error."""
    return any_answers().filter(has_content)


def block_events(draw: st.DrawFn, index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    """The block as the events of a stream."""
    begun, deltas = dict(block), []
    if block["type"] == "text":
        begun |= {"text": ""} | ({"citations": []} if "citations" in block else {})
        deltas = [{"type": "text_delta", "text": piece} for piece in cut(draw, block["text"])]
        for citation in block.get("citations", []):
            # Citations keep their order among themselves.
            earlier = [at for at, delta in enumerate(deltas) if delta["type"] == "citations_delta"]
            at = draw(st.integers(earlier[-1] + 1 if earlier else 0, len(deltas)))
            deltas.insert(at, {"type": "citations_delta", "citation": citation})
    elif block["type"] == "thinking":
        begun |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in cut(draw, block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif "input" in block and (block["input"] or draw(st.booleans())):
        begun |= {"input": {}}
        text = json.dumps(block["input"], ensure_ascii=draw(st.booleans()))
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *cut(draw, text)]]
    place = {"index": index}
    return [
        {"type": "content_block_start", **place, "content_block": begun},
        *({"type": "content_block_delta", **place, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", **place},
    ]


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[bytes]]:
    """An answer, and the chunks of bytes of its stream."""
    answer = draw(answers())
    usage = answer["usage"]
    start = {
        **answer,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(answer["content"]):
        events += block_events(draw, index, block)
        if draw(st.booleans()):
            events.append({"type": "ping"})
    ending = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"]}
    last_usage = usage if draw(st.booleans()) else {"output_tokens": usage["output_tokens"]}
    events += [{"type": "message_delta", "delta": ending, "usage": last_usage}, {"type": "message_stop"}]
    ascii_only, newline = draw(st.booleans()), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    data = "".join(
        f"event: {event['type']}{newline}data: {json.dumps(event, ensure_ascii=ascii_only)}{newline}{newline}"
        for event in events
    ).encode()
    return answer, cut(draw, data, 6)


def body_of(answer: dict[str, Any]) -> ChatResponse:
    return MessagesParser(CONTEXT).body(WireResponse(status=200, body=json.dumps(answer).encode()))


@given(streams())
def test_a_stream_split_anywhere_folds_to_the_bodys_response(stream: tuple[dict[str, Any], list[bytes]]) -> None:
    answer, chunks = stream
    check_same(MessagesParser(CONTEXT), "anthropic", json.dumps(answer).encode(), chunks, (*SAME, "provider_metadata"))


@given(answers())
def test_a_body_loses_nothing(answer: dict[str, Any]) -> None:
    response = body_of(answer)
    content = answer["content"]
    called = [(block["id"], block["input"]) for block in content if block["type"] == "tool_use"]
    assert [(call.id, call.arguments) for call in response.tool_calls] == called
    assert response.text == "".join(block["text"] for block in content if block["type"] == "text")
    assert response.reasoning == "".join(block.get("thinking", "") for block in content)
    assert len(response.citations) == sum(len(block.get("citations", [])) for block in content)
    for citation in response.citations:
        assert citation.start is not None
        assert citation.end is not None
        assert 0 <= citation.start <= citation.end <= len(response.text)


KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "message",
    "ping",
    "error",
]
wild_blocks: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "thinking", "redacted_thinking", "tool_use", "server_tool_use"]) | wild,
        "text": texts | wild,
        "thinking": texts | wild,
        "signature": wild,
        "data": texts | wild,
        "id": filled | wild,
        "name": filled | wild,
        "input": objects | wild,
        "citations": st.lists(wild | citations, max_size=2) | wild,
        "content": wild,
    },
)
wild_deltas: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"]
        )
        | wild,
        "text": texts | wild,
        "thinking": texts | wild,
        "signature": texts | wild,
        "partial_json": texts | wild,
        "citation": citations | wild,
        "stop_reason": reasons | wild,
        "stop_sequence": wild,
    },
)
wild_usages: st.SearchStrategy[Any] = (
    usages | wild | st.fixed_dictionaries({"input_tokens": wild, "output_tokens": wild})
)
wild_messages: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "id": wild,
        "type": st.just("message") | wild,
        "model": wild,
        "content": st.lists(wild_blocks | wild, max_size=3) | wild,
        "stop_reason": reasons | wild,
        "stop_details": wild,
        "usage": wild_usages,
        "error": st.none() | wild,
        "input_tokens": wild,
        "data": wild,
    },
)
wild_events: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | wild},
    optional={
        "index": st.integers(-1, 2) | wild,
        "delta": wild_deltas | wild,
        "content_block": wild_blocks | wild,
        "message": wild_messages | wild,
        "content": st.lists(wild_blocks | wild, max_size=3) | wild,
        "stop_reason": wild,
        "usage": wild_usages,
        "error": st.fixed_dictionaries({"type": wild, "message": wild, "details": wild}) | wild,
    },
)
wild_frames = st.builds(
    lambda data, event: SSEFrame(data if isinstance(data, bytes) else json.dumps(data).encode(), event),
    wild_events | json_values | st.binary(max_size=8),
    st.sampled_from(KINDS) | st.text(max_size=4),
)


@given(st.lists(wild_frames, max_size=6))
def test_arbitrary_frames_raise_nothing_but_our_errors_and_give_events_that_fold(frames: list[SSEFrame]) -> None:
    check_frames(MessagesStreamParser("anthropic"), frames)


@given((wild_messages | json_values).map(json.dumps).map(str.encode) | st.binary(max_size=20), st.integers(200, 599))
def test_arbitrary_bodies_raise_nothing_but_our_errors(text: bytes, status: int) -> None:
    assert OPERATIONS.count_tokens is not None
    assert OPERATIONS.list_models is not None
    assert OPERATIONS.model_info is not None
    for read in (
        MessagesParser(CONTEXT).body,
        lambda wire: OPERATIONS.count_tokens.parse(CONTEXT, wire),
        lambda wire: OPERATIONS.list_models.parse(CONTEXT, wire),
        lambda wire: OPERATIONS.model_info.parse(CONTEXT, wire),
    ):
        check_body(read, text)
    check_error(MessagesParser(CONTEXT), text, status)


ids = st.sampled_from(["a", "b", "call_1", "", "x.y"])
parts: st.SearchStrategy[Any] = st.one_of(
    st.builds(Text, text=st.sampled_from(["", " ", "words", "more "])),
    st.builds(
        Reasoning, text=texts, provider=st.sampled_from([None, "anthropic", "openai"]), signature=st.none() | filled
    ),
    st.builds(
        Opaque, provider=st.sampled_from(["anthropic", "openai"]), kind=st.just("x"), data=st.just({"type": "x"})
    ),
    st.builds(Citation, title=texts),
)
calls: st.SearchStrategy[Any] = st.builds(ToolCall, id=ids, name=st.just("f"), arguments=objects)
results: st.SearchStrategy[Any] = st.builds(ToolResult, tool_call_id=ids, parts=texts, is_error=st.booleans())
messages: st.SearchStrategy[Any] = st.one_of(
    st.builds(Message, role=st.just("user"), parts=st.lists(parts | results, max_size=3)),
    st.builds(Message, role=st.just("assistant"), parts=st.lists(parts | calls, max_size=4)),
    st.builds(Message, role=st.just("tool"), parts=st.lists(results, min_size=1, max_size=3)),
    st.builds(Message, role=st.just("system"), parts=texts),
)


@given(st.lists(messages, min_size=1, max_size=7))
def test_any_conversation_keeps_the_rules_of_order(conversation: list[Message]) -> None:
    request = ChatRequest(messages=conversation, model="claude-haiku-4-5")
    try:
        translation = anthropic.translator(CONTEXT).translate(request, stream=False)
    except InvalidRequest:
        return  # there is nothing in it that could be sent
    turns = json.loads(translation.wire_request.body)["messages"]
    roles = [turn["role"] for turn in turns]
    assert roles[0] == "user"
    assert all(first != second for first, second in pairwise(roles))
    contents = [[] if isinstance(turn["content"], str) else turn["content"] for turn in turns]
    used = [block["id"] for content in contents for block in content if block["type"] == "tool_use"]
    assert len(set(used)) == len(used) == sum(len(message.tool_calls) for message in conversation)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", call_id) for call_id in used)
    for before, content in zip([[], *contents], contents, strict=False):
        called = [block["id"] for block in before if block["type"] == "tool_use"]
        answered = [block["tool_use_id"] for block in content[: len(called)] if block["type"] == "tool_result"]
        assert answered == called
        assert not any(block["type"] == "tool_result" for block in content[len(called) :])
        assert all(block["text"].strip() for block in content if block["type"] == "text")
