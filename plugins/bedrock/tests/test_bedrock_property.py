"""An answer is the same however it came, and no input makes the parser raise anything but our errors."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, strategies as st
from parser_properties import check_body, check_cut_off, check_error, check_same, check_stream, cut, json_of
from trunkline.authoring.provider import ServiceContext
from trunkline.settings import Settings
from trunkline_bedrock.parse import ConverseParser

Encode = Callable[..., bytes]
PARSER = ConverseParser(ServiceContext(name="s", provider="bedrock", settings=Settings()))
TEXT = st.text(max_size=20)
ARGUMENTS = st.dictionaries(TEXT, st.integers() | TEXT | st.none(), max_size=3)
COUNTS = st.integers(0, 99)
USAGE = st.fixed_dictionaries(
    {"inputTokens": COUNTS, "outputTokens": st.integers(1, 99), "totalTokens": COUNTS},
    optional={"cacheReadInputTokens": COUNTS, "cacheWriteInputTokens": COUNTS},
)
CITATION = st.builds(lambda title, text: {"title": title, "sourceContent": [{"text": text}]}, TEXT, TEXT)
BASE64 = st.sampled_from(["cmVk", "YQ==", "YWI="])
BLOCK = st.one_of(
    st.builds(lambda text: {"text": text}, TEXT),
    st.builds(
        lambda name, arguments: {"toolUse": {"name": name, "input": arguments}}, st.text("abc_", min_size=1), ARGUMENTS
    ),
    st.builds(
        lambda text, sign: {"reasoningContent": {"reasoningText": {"text": text, "signature": sign}}}, TEXT, TEXT
    ),
    st.builds(lambda data: {"reasoningContent": {"redactedContent": data}}, BASE64),
    st.builds(
        lambda text, cited: {"citationsContent": {"content": [{"text": text}], "citations": cited}},
        TEXT,
        st.lists(CITATION, max_size=2),
    ),
    st.builds(
        lambda text: {"toolResult": {"toolUseId": "s", "content": [{"text": text}], "status": "success"}},
        st.text(min_size=1, max_size=9),
    ),
)


def events_of(draw: st.DrawFn, index: int, block: dict[str, Any]) -> list[tuple[str, Any]]:
    def delta(**inner: Any) -> tuple[str, Any]:
        return "contentBlockDelta", {"contentBlockIndex": index, "delta": inner}

    def start(**inner: Any) -> tuple[str, Any]:
        return "contentBlockStart", {"contentBlockIndex": index, "start": inner}

    [(kind, inner)] = block.items()
    events: list[tuple[str, Any]] = []
    if kind == "text":
        events += [delta(text=piece) for piece in cut(draw, inner)]
    elif kind == "citationsContent":
        events += [delta(text=piece) for piece in cut(draw, inner["content"][0]["text"])]
        events += [delta(citation=citation) for citation in inner["citations"]]
    elif kind == "toolUse":
        events.append(start(toolUse={"toolUseId": inner["toolUseId"], "name": inner["name"]}))
        text = json.dumps(inner["input"]) if inner["input"] else draw(st.sampled_from(["", "{}"]))
        events += [delta(toolUse={"input": piece}) for piece in cut(draw, text)]
    elif kind == "toolResult":
        events.append(start(toolResult={"toolUseId": inner["toolUseId"], "status": inner["status"]}))
        events += [delta(toolResult=[{"text": piece}]) for piece in cut(draw, inner["content"][0]["text"])]
    elif "redactedContent" in inner:
        events.append(delta(reasoningContent=inner))
    else:
        reasoning = inner["reasoningText"]
        events += [delta(reasoningContent={"text": piece}) for piece in cut(draw, reasoning["text"])]
        events += [delta(reasoningContent={"signature": piece}) for piece in cut(draw, reasoning["signature"])]
    return [*events, ("contentBlockStop", {"contentBlockIndex": index})]


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """A body, and the events of the same answer."""
    content = draw(st.lists(BLOCK, max_size=5))
    for position, block in enumerate(content):
        if "toolUse" in block:
            block["toolUse"]["toolUseId"] = f"call_{position}"
    usage = draw(USAGE)
    called = any("toolUse" in block for block in content)  # without a call, an empty answer of `tool_use` is an error
    reasons = ["end_turn", "max_tokens", "guardrail_intervened", "odd", *(["tool_use"] if called else [])]
    reason = draw(st.sampled_from(reasons))
    whole = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason, "usage": usage}
    events = [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(content):
        events += events_of(draw, index, block)
    events += [("messageStop", {"stopReason": reason}), ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})]
    return whole, events


Answer = tuple[dict[str, Any], list[tuple[str, Any]]]


@given(answers(), st.data())
def test_a_folded_stream_equals_the_whole_answer(event: Encode, answer: Answer, draws: st.DataObject) -> None:
    whole, named = answer
    data = b"".join(event(name, payload) for name, payload in named)
    chunks = cut(draws.draw, data, 6)  # type: ignore[arg-type]
    check_same(PARSER, "bedrock", json.dumps(whole).encode(), chunks)


@given(answers(), st.floats(0, 1))
def test_a_stream_cut_off_is_never_a_success(event: Encode, answer: Answer, share: float) -> None:
    data = b"".join(event(name, payload) for name, payload in answer[1])
    check_cut_off(PARSER, data[: int(share * (len(data) - 1))])


FIELDS = """
    text toolUse toolUseId name input type reasoningContent reasoningText signature redactedContent citation
    citationsContent citations content image source bytes format delta start contentBlockIndex usage
    inputTokens stopReason output message trace toolResult location web sourceContent audio s3Location uri
    promptRouter p
"""
KEYS = st.sampled_from(FIELDS.split())
VALUE = json_of(FIELDS, ["", "a", "YQ==", "server_tool_use"], max_leaves=12)
NAMES = st.sampled_from(
    [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "new",
        "newException",
    ]
)


@given(st.lists(st.tuples(NAMES, st.dictionaries(KEYS, VALUE, max_size=4), st.sampled_from(["event", "exception"]))))
def test_no_json_in_events_raises_anything_else(event: Encode, named: list[tuple[str, Any, str]]) -> None:
    data = b"".join(event(name, payload, kind) for name, payload, kind in named)
    check_stream(PARSER, "bedrock", data)


@given(st.lists(st.dictionaries(KEYS, VALUE, max_size=3), max_size=3), VALUE)
def test_no_json_in_a_body_raises_anything_else(content: list[Any], other: Any) -> None:
    data = json.dumps(
        {"output": {"message": {"content": content}}, "stopReason": other, "usage": other, "trace": other}
    )
    for text in (data, json.dumps(other)):
        check_body(PARSER.body, text.encode())


@given(
    st.binary(max_size=200),
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["x-amzn-errortype", "retry-after"]), TEXT),
)
def test_no_error_body_raises_at_all(data: bytes, status: int, headers: dict[str, str]) -> None:
    check_error(PARSER, data, status, **headers)
