"""An answer is the same however it came: whole, or as a stream cut anywhere. And nothing breaks the parser."""

import json
from typing import Any

from hypothesis import given, strategies as st
from parser_properties import SAME, check_body, check_same, check_stream, cut
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.messages import Citation, Reasoning, Text, ToolCall
from trunkline.secrets import Secret
from trunkline_cohere import CohereSettings
from trunkline_cohere.parse import CohereParser

PARSER = CohereParser(ServiceContext(name="s", provider="cohere", settings=CohereSettings(api_key=Secret("k"))))
WORDS = st.text(max_size=20)
COUNTS = st.integers(0, 99) | st.integers(0, 99).map(float)
USAGE = st.none() | st.fixed_dictionaries(
    {"tokens": st.fixed_dictionaries({"input_tokens": COUNTS, "output_tokens": COUNTS})},
    optional={"cached_tokens": COUNTS, "billed_units": st.fixed_dictionaries({"input_tokens": COUNTS})},
)
SOURCE = st.builds(
    lambda kind, text: {"type": kind, "id": "i", "document" if kind == "document" else "tool_output": {"text": text}},
    st.sampled_from(["document", "tool"]),
    WORDS,
)


def event(kind: str, index: int | None, **message: Any) -> dict[str, Any]:
    return {"type": kind, **({} if index is None else {"index": index}), "delta": {"message": message}}


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A body, and the same as the events of a stream."""
    message: dict[str, Any] = {"role": "assistant"}
    wire: list[dict[str, Any]] = [{"type": "message-start", "id": "m", "delta": {"message": {"role": "assistant"}}}]
    kinds = draw(st.lists(st.sampled_from(["text", "thinking"]), max_size=3))
    for index, kind in enumerate(kinds):
        words = draw(WORDS)
        message.setdefault("content", []).append({"type": kind, kind: words})
        first, *rest = cut(draw, words)
        wire.append(event("content-start", index, content={"type": kind, kind: first}))
        wire += [event("content-delta", index, content={kind: piece}) for piece in rest]
        for _ in range(draw(st.integers(0, 2)) if kind == "text" else 0):
            raw = {
                "start": 0,
                "end": 1,
                "text": "x",
                "sources": draw(st.lists(SOURCE, max_size=2)),
                "content_index": index,
            }
            message.setdefault("citations", []).append(raw)
            wire += [event("citation-start", 0, citations=raw), {"type": "citation-end", "index": 0}]
        wire.append({"type": "content-end", "index": index})
    plan = draw(WORDS)
    if plan:
        message["tool_plan"] = plan
        wire += [event("tool-plan-delta", None, tool_plan=piece) for piece in cut(draw, plan)]
    for index in range(draw(st.integers(0, 3))):
        arguments = draw(st.sampled_from(["", "{}", '{"a": "é"}', "{"]))
        call = {"id": f"call_{index}", "type": "function", "function": {"name": "tool", "arguments": arguments}}
        message.setdefault("tool_calls", []).append(call)
        first, *rest = cut(draw, arguments)
        function = {"name": "tool", "arguments": first}
        wire.append(event("tool-call-start", index, tool_calls={**call, "function": function}))
        wire += [event("tool-call-delta", index, tool_calls={"function": {"arguments": piece}}) for piece in rest]
        wire.append({"type": "tool-call-end", "index": index})
    last = {
        "finish_reason": draw(st.sampled_from(["COMPLETE", "MAX_TOKENS", "TOOL_CALL", "ODD"])),
        "usage": draw(USAGE),
    }
    wire.append({"type": "message-end", "delta": last})
    return {"id": "m", "message": message, **last}, wire


def encoded(draw: st.DrawFn, wire: list[dict[str, Any]]) -> bytes:
    escape = draw(st.booleans())
    newline = draw(st.sampled_from([b"\n", b"\r\n"]))
    frames = []
    for item in wire:
        data = json.dumps(item, ensure_ascii=escape).encode("utf-8", "surrogatepass" if escape else "replace")
        frames.append(b"event: %s%bdata: %s%b%b" % (item["type"].encode(), newline, data, newline, newline))
    return b"".join(frames) + b"data: [DONE]\n\n"


@given(data=st.data())
def test_a_stream_folds_to_what_the_body_gives_at_any_split(data: st.DataObject) -> None:
    whole, wire = data.draw(answers())
    draw: Any = data.draw
    check_same(
        PARSER, "cohere", json.dumps(whole).encode(), cut(draw, encoded(draw, wire), 6), (*SAME, "id", "warnings")
    )


@given(answer=answers())
def test_a_body_gives_what_stands_in_it(answer: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    message = answer[0]["message"]
    body = PARSER.body(WireResponse(status=200, body=json.dumps(answer[0]).encode()))
    blocks = message.get("content", [])
    assert [part.text for part in body.parts if isinstance(part, Text)] == [b["text"] for b in blocks if "text" in b]
    thoughts = [b["thinking"] for b in blocks if "thinking" in b] + (
        [message["tool_plan"]] if "tool_plan" in message else []
    )
    assert [part.text for part in body.parts if isinstance(part, Reasoning)] == thoughts
    calls = [part for part in body.parts if isinstance(part, ToolCall)]
    assert [call.id for call in calls] == [call["id"] for call in message.get("tool_calls", [])]
    expected = sum(max(1, len(raw["sources"])) for raw in message.get("citations", []))
    assert len([part for part in body.parts if isinstance(part, Citation)]) == expected


KINDS = st.sampled_from(
    ["message-start", "content-start", "content-delta", "content-end", "tool-plan-delta", "tool-call-start",
     "tool-call-delta", "tool-call-end", "citation-start", "citation-end", "message-end", "error", "debug"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["type", "index", "id", "delta", "message", "content", "text", "thinking", "tool_plan", "tool_calls", "function",
     "name", "arguments", "citations", "sources", "document", "start", "end", "content_index", "finish_reason",
     "usage", "tokens", "input_tokens", "logprobs", "error", "error_type"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
LIKELY = st.builds(
    lambda kind, index, message, extra: {"type": kind, "index": index, "delta": {"message": message, **extra}},
    KINDS,
    JSON,
    st.dictionaries(KEYS, JSON, max_size=3),
    st.dictionaries(KEYS, JSON, max_size=3),
)


@given(frames=st.lists(LIKELY | JSON, max_size=8))
def test_any_json_in_frames_gives_events_or_our_errors(frames: list[Any]) -> None:
    check_stream(PARSER, "cohere", b"".join(b"data: %s\n\n" % json.dumps(frame).encode() for frame in frames))


@given(data=st.builds(lambda message, rest: {**rest, "message": message}, JSON, st.dictionaries(KEYS, JSON)) | JSON)
def test_any_json_as_a_body_gives_a_response_or_our_errors(data: Any) -> None:
    check_body(PARSER.body, json.dumps(data).encode())
