"""What holds for every conversation and every answer."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st
from parser_properties import WHOLE, check_body, check_cut_off, check_same, check_stream, cut, json_of
from trunkline._plugins.registry import Steps, open_steps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest
from trunkline.messages import Message, Part, Reasoning, Text, ToolCall, ToolResult
from trunkline.request import ChatRequest
from trunkline.secrets import Secret
from trunkline_mistral import MistralSettings, mistral


@cache
def steps() -> Steps:
    context = ServiceContext(name="s", provider="mistral", settings=MistralSettings(api_key=Secret("secret")))
    return open_steps(mistral, context)


# Conversations

IDS = st.sampled_from(["", "call_1", "call_2", "toolu_01A", "a1B2c3D4e", "call_" + "x" * 60])
WORDS = st.sampled_from(["", "a", "b c"])
CALLS = st.builds(lambda id_: ToolCall(id=id_, name="f"), IDS)
RESULTS = st.builds(
    lambda id_, text, bad: ToolResult(tool_call_id=id_, parts=text, is_error=bad), IDS, WORDS, st.booleans()
)
ASSISTANT: st.SearchStrategy[Part] = (
    st.builds(lambda text: Text(text=text), WORDS)
    | CALLS
    | st.builds(lambda text, name: Reasoning(text=text, provider=name), WORDS, st.sampled_from(["mistral", "openai"]))
)


def turn(role: Any, parts: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[Message]:
    return st.lists(parts, min_size=least, max_size=3).map(lambda found: Message(role=role, parts=found))


TURNS = (
    turn("user", st.builds(lambda text: Text(text=text), WORDS))
    | turn("system", st.builds(lambda text: Text(text=text), WORDS))
    | turn("assistant", ASSISTANT)
    | turn("tool", RESULTS, 1)
)


def unique_ids(message: Message) -> bool:
    ids = [call.id for call in message.tool_calls if call.id]
    return len(ids) == len(set(ids))


@given(st.lists(TURNS.filter(unique_ids), max_size=8))
def test_every_conversation_is_one_that_mistral_takes(turns: list[Message]) -> None:
    common = pytest.importorskip("mistral_common.protocol.instruct.request").ChatCompletionRequest
    validator = pytest.importorskip("mistral_common.protocol.instruct.validator")
    request = ChatRequest(messages=[Message(role="user", parts="q"), *turns], model="m")
    messages = json.loads(steps().translator.translate(request, stream=False).wire_request.body)["messages"]
    thinks = False
    for message in messages:
        for chunk in message["content"] if isinstance(message["content"], list) else ():
            if chunk["type"] == "thinking":
                thinks = True
                chunk["thinking"] = chunk["thinking"][0]["text"]
    parsed = common.model_validate({"model": "m", "messages": messages})
    for version in ("V11", "V13", "V15") if thinks else ("V5", "V11", "V13", "V15"):
        kind = getattr(validator, f"MistralRequestValidator{version}")
        kind(mode=validator.ValidationMode.serving).validate_request(parsed)
    roles = [message["role"] for message in messages]
    assert ("tool", "user") not in pairwise(roles)


# Answers

TEXT = st.text(max_size=12)
CHUNK = (
    st.builds(lambda text: {"type": "text", "text": text}, TEXT)
    | st.builds(
        lambda text, fields: {"type": "thinking", "thinking": [{"type": "text", "text": text}], **fields},
        TEXT,
        st.sampled_from([{}, {"closed": True}, {"signature": "s"}]),
    )
    | st.builds(lambda ids: {"type": "reference", "reference_ids": ids}, st.lists(st.integers(0, 3), max_size=2))
    | st.just({"type": "tool_file", "file_id": "f"})
)
USAGE = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99), "total_tokens": st.integers(0, 99)},
    optional={"prompt_tokens_details": st.fixed_dictionaries({"cached_tokens": st.integers(0, 9)})},
)


def deltas_of(draw: st.DrawFn, chunk: dict[str, Any]) -> list[Any]:
    """A chunk as the contents of some deltas; a signature comes last."""
    if chunk["type"] == "text":
        return [piece if draw(st.booleans()) else [{**chunk, "text": piece}] for piece in cut(draw, chunk["text"])]
    if chunk["type"] != "thinking":
        return [[chunk]]
    signature = {"signature": chunk["signature"]} if "signature" in chunk else {}
    plain = {key: value for key, value in chunk.items() if key != "signature"}
    texts = cut(draw, chunk["thinking"][0]["text"])
    deltas = [{**plain, "thinking": [{"type": "text", "text": piece}]} for piece in texts]
    deltas[-1].update(signature)
    return [[delta] for delta in deltas]


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A body, and the chunks of bytes of the same as a stream."""
    content: Any = draw(st.none() | TEXT | st.lists(CHUNK, max_size=5))
    message: dict[str, Any] = {"role": "assistant", "content": content}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if isinstance(content, str):
        deltas += [{"content": piece} for piece in cut(draw, content)]
    for chunk in content if isinstance(content, list) else ():
        deltas += [{"content": piece} for piece in deltas_of(draw, chunk)]
    calls = [
        {"id": f"call{position}0000", "index": position, "function": {"name": "f", "arguments": arguments}}
        for position, arguments in enumerate(draw(st.lists(st.sampled_from(["", "{}", '{"a": 1}', "no"]), max_size=3)))
    ]
    # An answer raises an error if it ends with `error`, or with `tool_calls` but without calls.
    finish = draw(st.sampled_from(["stop", "length", "model_length", "odd", *(["tool_calls"] if calls else [])]))
    if calls:
        message["tool_calls"] = calls
        deltas.append({"tool_calls": calls})
    common: dict[str, Any] = {"id": "c", "model": "m"}
    usage = draw(USAGE)
    whole = {**common, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    chunks: list[dict[str, Any]] = [
        {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({**common, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": finish}]})
    if usage is not None:
        whole["usage"] = chunks[-1]["usage"] = usage
    stream = b"".join(b"data: %s\n\n" % json.dumps(value, ensure_ascii=False).encode() for value in chunks)
    stream += b"data: [DONE]\n\n"
    return json.dumps(whole).encode(), cut(draw, stream, 6)


@given(answers())
def test_a_folded_stream_equals_the_whole_answer(answer: tuple[bytes, list[bytes]]) -> None:
    check_same(steps().parser, "mistral", *answer, WHOLE)


@given(answers())
def test_an_answer_can_be_sent_back(answer: tuple[bytes, list[bytes]]) -> None:
    response = steps().parser.body(WireResponse(status=200, body=answer[0]))
    request = ChatRequest(messages="q", model="m").with_messages(response.message)
    translation = steps().translator.translate(request, stream=False)
    assert {warning.kind for warning in translation.warnings} <= {"changed", "mended"}


@given(answers(), st.data())
def test_a_stream_cut_off_is_never_a_success(answer: tuple[bytes, list[bytes]], data: st.DataObject) -> None:
    stream = b"".join(answer[1])
    check_cut_off(steps().parser, stream[: data.draw(st.integers(0, len(stream) - len(b"[DONE]\n\n")))])


JSON = json_of(
    """
    choices index delta message content tool_calls function name arguments id type thinking text signature
    closed reference_ids image_url usage prompt_tokens object prompt_token_details finish_reason logprobs role
    messages error detail
    """,
    ["thinking", "text", "reference", "image_url", "tool_file", "error", "", "x"],
)


@given(delta=JSON, top=JSON, whole=st.booleans())
def test_no_json_makes_the_parser_raise_anything_but_our_errors(delta: Any, top: Any, whole: bool) -> None:
    fields = top if isinstance(top, dict) else {}
    for choice in ({"delta": delta}, {"message": delta}, {"delta": {"content": delta}}, delta):
        data = json.dumps({**fields, "choices": [choice, choice]}).encode()
        if whole:
            check_body(steps().parser.body, data)
        else:
            check_stream(steps().parser, "mistral", b"data: %s\n\ndata: [DONE]\n\n" % data)


@given(JSON)
def test_no_metadata_of_a_stored_answer_breaks_the_translation(metadata: Any) -> None:
    kept = {"mistral": metadata} if isinstance(metadata, dict) else {}
    parts: list[Part] = [
        Reasoning(text="x", provider="mistral", provider_metadata=kept),
        Text(text="t", provider_metadata=kept),
    ]
    request = ChatRequest(messages=[Message(role="user", parts="q"), Message(role="assistant", parts=parts)], model="m")
    try:
        steps().translator.translate(request, stream=False)
    except InvalidRequest as error:
        assert "JSON" in str(error)  # noqa: PT017  # NaN, which JSON cannot represent
