"""Recorded traffic of Bedrock's Converse and ConverseStream, beside what botocore finds in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import attrs
import botocore.session
import pytest
from botocore.eventstream import EventStream
from botocore.parsers import ResponseParserError, create_parser
from recordings import Exchange, cut, recorded, report
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    RemoteError,
    StreamInterrupted,
)
from trunkline.events import Event
from trunkline.fold import decode_arguments, fold
from trunkline.messages import Citation, Opaque, Reasoning, ToolCall
from trunkline.response import ChatResponse, FinishReason

FILES = ("bedrock-converse", "bedrock-converse-stream")
FINISH = {
    "end_turn": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
}

INCOMPLETE = {
    "77297bbc192a5fa9": "its frames were rebuilt by a test that left out metadata, which ends a stream",
    "88720bea0b17fd09": "the same",
    "d401a97405754734": "the same",
}
"""Streams that are not tagged as truncated, and are to us."""

REFUSED = {"910192c248cf4e5c": "a block has a type beside its text, written by hand: botocore takes one key alone"}
"""Answers that botocore does not accept."""

NUMBERS = {"bedrock-converse": (233, 232), "bedrock-converse-stream": (65, 65)}
"""How many answers we read, and in how many of them botocore finds the same."""

SHORT = 2500
"""The longest stream, in bytes, that is cut at every place."""
SPLITS = 12


@cache
def steps() -> Steps:
    provider = load_provider("bedrock")
    settings = provider.settings(aws_region="us-east-1", api_key="REDACTED")  # type: ignore[call-arg]
    return open_steps(provider, ServiceContext(name="recorded", provider="bedrock", settings=settings))


def answers(file: str) -> list[Exchange]:
    return [exchange for exchange in recorded(file) if exchange.is_success and exchange.id not in INCOMPLETE]


def errors() -> list[Exchange]:
    return [exchange for file in FILES for exchange in recorded(file) if exchange.status != 200]


def streams() -> list[Exchange]:
    return [exchange for file in FILES for exchange in answers(file) if exchange.streaming]


def events_of(pieces: list[bytes]) -> list[Event]:
    decoder = StreamDecoder(*steps().parser.stream())
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.finish()]


def response_of(exchange: Exchange) -> ChatResponse:
    if exchange.streaming:
        return fold(events_of(exchange.chunks), "bedrock")
    return steps().parser.body(exchange.wire_response)


@pytest.mark.parametrize("file", FILES)
def test_every_answer_is_read_with_the_recorded_finish_reason(file: str) -> None:
    problems = []
    for exchange in answers(file):
        response = response_of(exchange)
        [told] = exchange.finish_reasons
        if (response.finish_reason, response.raw_finish_reason) != (FINISH[told], told):
            problems.append(f"{exchange.id}: {response.finish_reason}, not {told}")
    assert not problems, report(problems)
    assert len(answers(file)) == NUMBERS[file][0]


def sampled(exchange: Exchange) -> Iterator[list[bytes]]:
    """The body in two pieces, in small ones, and in single bytes."""
    body, random = exchange.body, Random(exchange.id)
    places = range(1, len(body)) if len(body) <= SHORT else random.sample(range(1, len(body)), SPLITS)
    yield from ([body[:at], body[at:]] for at in places)
    yield [body[at : at + 1] for at in range(len(body))]
    yield list(cut(body, [random.randint(1, 60) for _ in range(len(body) // 20)]))


def test_every_stream_gives_the_same_events_at_every_split() -> None:
    problems = []
    for exchange in streams():
        expected = events_of([exchange.body])
        problems += [exchange.id for pieces in sampled(exchange) if events_of(pieces) != expected]
    assert not problems, report(problems)


def message_ends(body: bytes) -> list[int]:
    ends = [0]
    while ends[-1] < len(body):
        ends.append(ends[-1] + int.from_bytes(body[ends[-1] : ends[-1] + 4], "big"))
    return ends


def test_no_stream_that_is_cut_off_is_a_success() -> None:
    for exchange in streams():
        ends = message_ends(exchange.body)
        for begin, end in pairwise(ends):
            for at in {begin, end - 1}:
                with pytest.raises(StreamInterrupted):
                    events_of([exchange.body[:at]])


# botocore


@attrs.frozen(kw_only=True)
class Found:
    """What there is in an answer."""

    text: str
    reasoning: str
    signatures: tuple[str, ...]
    redacted: tuple[str, ...]
    calls: tuple[tuple[str, str, str], ...]
    citations: int
    finish: str | None
    usage: tuple[int | None, ...]


def ours(response: ChatResponse) -> Found:
    thoughts = [part for part in response.parts if isinstance(part, Reasoning)]
    calls: list[tuple[str, str, str]] = []
    for part in response.parts:
        if isinstance(part, ToolCall):
            calls.append((part.id, part.name, json.dumps(part.arguments, sort_keys=True)))
        elif isinstance(part, Opaque) and "toolUse" in part.data:
            call: Any = part.data["toolUse"]
            calls.append((call["toolUseId"], call["name"], json.dumps(call["input"], sort_keys=True)))
    usage = response.usage
    return Found(
        text=response.text,
        reasoning=response.reasoning,
        signatures=tuple(part.signature for part in thoughts if part.signature),
        redacted=tuple(part.encrypted for part in thoughts if part.encrypted),
        calls=tuple(calls),
        citations=sum(isinstance(part, Citation) for part in response.parts),
        finish=response.raw_finish_reason,
        usage=(usage.input_tokens, usage.output_tokens, usage.total_tokens) if usage else (),
    )


@cache
def service() -> Any:
    return botocore.session.Session().get_service_model("bedrock-runtime")


def theirs(exchange: Exchange) -> Found:
    blocks, facts = _stream(exchange) if exchange.streaming else _body(exchange)
    texts, thoughts, signatures, redacted, calls, citations = [], [], [], [], [], 0
    for block in blocks:
        if "text" in block:
            texts.append(block["text"])
        if "citationsContent" in block:
            cited = block["citationsContent"]
            texts += [item["text"] for item in cited.get("content", ())]
            citations += len(cited.get("citations", ()))
        if "toolUse" in block:
            call = block["toolUse"]
            calls.append((call["toolUseId"], call["name"], json.dumps(call["input"], sort_keys=True)))
        reasoning = block.get("reasoningContent", {})
        told = reasoning.get("reasoningText", {})
        thoughts.append(told.get("text", ""))
        signatures += [told["signature"]] if told.get("signature") else []
        redacted += [base64.b64encode(reasoning["redactedContent"]).decode()] if "redactedContent" in reasoning else []
    usage = facts.get("usage") or {}
    cached = usage.get("cacheReadInputTokens", 0) + usage.get("cacheWriteInputTokens", 0)
    return Found(
        text="".join(texts),
        reasoning="".join(thoughts),
        signatures=tuple(signatures),
        redacted=tuple(redacted),
        calls=tuple(calls),
        citations=citations,
        finish=facts.get("stopReason"),
        usage=(usage["inputTokens"] + cached, usage["outputTokens"], usage["totalTokens"]) if usage else (),
    )


def _body(exchange: Exchange) -> tuple[list[Any], dict[str, Any]]:
    answer = {"status_code": 200, "headers": exchange.headers, "body": exchange.body}
    parsed = create_parser("rest-json").parse(answer, service().operation_model("Converse").output_shape)
    return parsed["output"]["message"]["content"], parsed


class Raw:
    """What botocore reads a stream from."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def stream(self) -> Iterator[bytes]:
        return iter(self._chunks)


def _stream(exchange: Exchange) -> tuple[list[Any], dict[str, Any]]:
    shape = service().operation_model("ConverseStream").output_shape.members["stream"]
    parser = create_parser("rest-json")._event_stream_parser
    blocks: dict[int, dict[str, Any]] = {}
    facts: dict[str, Any] = {}
    for event in EventStream(Raw(exchange.chunks), shape, parser, "ConverseStream"):
        [(name, data)] = event.items()
        if name in ("messageStop", "metadata"):
            facts.update(data)
        if "contentBlockIndex" not in data:
            continue
        block = blocks.setdefault(data["contentBlockIndex"], {})
        if "toolUse" in data.get("start", {}):
            block["toolUse"] = {**data["start"]["toolUse"], "input": ""}
        delta = data.get("delta", {})
        if "text" in delta:
            block["text"] = block.get("text", "") + delta["text"]
        if "toolUse" in delta:
            block["toolUse"]["input"] += delta["toolUse"]["input"]
        if "citation" in delta:
            block.setdefault("citationsContent", {}).setdefault("citations", []).append(delta["citation"])
        for key, value in delta.get("reasoningContent", {}).items():
            if key == "redactedContent":
                block["reasoningContent"] = {"redactedContent": value}
                continue
            told = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {})
            told[key] = told.get(key, "") + value
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = decode_arguments(block["toolUse"]["input"])[0]
    return list(blocks.values()), facts


@pytest.mark.parametrize("file", FILES)
def test_botocore_finds_the_same(file: str) -> None:
    problems, agreed = [], 0
    for exchange in answers(file):
        if exchange.id in REFUSED:
            with pytest.raises(ResponseParserError):
                theirs(exchange)
            continue
        mine, other = attrs.asdict(ours(response_of(exchange))), attrs.asdict(theirs(exchange))
        told = {name: (mine[name], other[name]) for name in mine if mine[name] != other[name]}
        agreed += not told
        if told:
            problems.append(f"{exchange.id}: {str(told)[:300]}")
    assert not problems, report(problems)
    assert agreed == NUMBERS[file][1]


def test_the_streams_without_an_end_are_interrupted_with_all_that_came() -> None:
    for exchange in recorded("bedrock-converse-stream"):
        if exchange.id in INCOMPLETE:
            with pytest.raises(StreamInterrupted, match="metadata"):
                response_of(exchange)


# Errors

ON_DEMAND = "with on-demand throughput"
CLASSES: tuple[tuple[str, type[RemoteError]], ...] = (
    (ON_DEMAND, BadRequest),
    ("model identifier is invalid", NotFound),
    ("security token included in the request is", AuthenticationError),
    ("Signature expired", AuthenticationError),
    ("Input Tokens Exceeded", ContextTooLong),
    ("This model doesn't support", BadRequest),
    ("The model returned the following errors: m", BadRequest),
    ("extraneous key", BadRequest),
)
ERRORS = 48


def test_every_error_has_its_class() -> None:
    problems = []
    for exchange in errors():
        error = steps().parser.error(exchange.wire_response)
        assert isinstance(error, RemoteError)
        kind = next((kind for wording, kind in CLASSES if wording in error.message), None)
        if type(error) is not kind or error.status != exchange.status or error.retryable:
            problems.append(f"{exchange.id}: {type(error).__name__}: {error}")
        header = exchange.headers.get("x-amzn-errortype")
        if error.code != (header.partition(":")[0] if header else None):
            problems.append(f"{exchange.id}: code {error.code}")
        if error.request_id != exchange.headers.get("x-amzn-requestid"):
            problems.append(f"{exchange.id}: request id {error.request_id}")
    assert not problems, report(problems)
    assert len(errors()) == ERRORS
