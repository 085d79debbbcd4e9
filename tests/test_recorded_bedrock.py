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
from recorded_provider import ANSWER, ERROR, RecordedTests
from recordings import Exchange
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    RemoteError,
    StreamInterrupted,
)
from trunkline.fold import decode_arguments
from trunkline.messages import Citation, Opaque, Reasoning, ToolCall
from trunkline.response import ChatResponse, FinishReason

INCOMPLETE = {
    "77297bbc192a5fa9": "its frames were rebuilt by a test that left out metadata, which ends a stream",
    "88720bea0b17fd09": "the same",
    "d401a97405754734": "the same",
}
"""Streams that are not tagged as truncated, and are to us."""

REFUSED = {"910192c248cf4e5c": "a block has a type beside its text, written by hand: botocore takes one key alone"}
"""Answers that botocore does not accept."""

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


def message_ends(body: bytes) -> list[int]:
    ends = [0]
    while ends[-1] < len(body):
        ends.append(ends[-1] + int.from_bytes(body[ends[-1] : ends[-1] + 4], "big"))
    return ends


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
        sent = reasoning.get("reasoningText", {})
        thoughts.append(sent.get("text", ""))
        signatures += [sent["signature"]] if sent.get("signature") else []
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
            sent = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {})
            sent[key] = sent.get(key, "") + value
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = decode_arguments(block["toolUse"]["input"])[0]
    return list(blocks.values()), facts


class TestBedrock(RecordedTests):
    provider = "bedrock"
    files = ("bedrock-converse", "bedrock-converse-stream")
    settings = {"aws_region": "us-east-1", "api_key": "REDACTED"}
    cuts = 1
    long_byte_by_byte = True
    finish = {
        "end_turn": FinishReason.STOP,
        "tool_use": FinishReason.TOOL_CALLS,
        "max_tokens": FinishReason.LENGTH,
        "guardrail_intervened": FinishReason.CONTENT_FILTER,
    }
    unread = frozenset(REFUSED)

    @classmethod
    def kind(cls, exchange: Exchange) -> str:
        if exchange.status != 200:
            return ERROR
        if exchange.id in INCOMPLETE:
            return "incomplete"
        return ANSWER if exchange.is_success else "another failure"

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        """Before each message, and within it."""
        for begin, end in pairwise(message_ends(exchange.body)):
            yield from (exchange.body[:at] for at in {begin, end - 1})

    def error_problems(self, exchange: Exchange, error: RemoteError) -> Iterator[str]:
        kind = next((kind for wording, kind in CLASSES if wording in error.message), None)
        if type(error) is not kind or error.retryable:
            yield f"{type(error).__name__}: {error}"
        header = exchange.headers.get("x-amzn-errortype")
        if error.code != (header.partition(":")[0] if header else None):
            yield f"code {error.code}"
        if error.request_id != exchange.headers.get("x-amzn-requestid"):
            yield f"request id {error.request_id}"

    def ours(self, exchange: Exchange) -> Found:
        return ours(self.response_of(exchange))

    def theirs(self, exchange: Exchange) -> Found:
        return theirs(exchange)

    def test_botocore_refuses_what_is_said_of_it(self) -> None:
        refused = [exchange for exchange in self.answers() if exchange.id in REFUSED]
        assert len(refused) == len(REFUSED)
        for exchange in refused:
            with pytest.raises(ResponseParserError):
                theirs(exchange)

    def test_the_streams_without_an_end_are_interrupted_with_all_that_came(self) -> None:
        incomplete = self.of_kind("incomplete", "bedrock-converse-stream")
        assert {exchange.id for exchange in incomplete} == INCOMPLETE.keys()
        for exchange in incomplete:
            with pytest.raises(StreamInterrupted, match="metadata"):
                self.response_of(exchange)
