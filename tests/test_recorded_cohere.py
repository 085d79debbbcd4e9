"""Recorded traffic of Cohere's v2 API: every answer at any split, beside what Cohere's own client finds in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import cohere
import httpx
import pytest
from recorded_counts import assert_counts
from recorded_provider import ANSWER, ERROR, RecordedTests
from recordings import Exchange, recorded
from trunkline._plugins.registry import load_provider
from trunkline.authoring.json import loads
from trunkline.errors import ContextTooLong, NotFound, RemoteError
from trunkline.fold import decode_arguments
from trunkline.messages import Reasoning
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason

CHAT = "/v2/chat"


def path(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path


# Cohere's own client


@attrs.frozen(kw_only=True)
class Found:
    """What there is in an answer. Usage is input, output and cached tokens."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str, str], ...]
    finish: str | None
    usage: tuple[float | None, ...]


def ours(response: ChatResponse) -> Found:
    usage = response.usage
    return Found(
        text=response.text,
        reasoning=response.reasoning,
        calls=tuple(_call(call.id, call.name, call.arguments_json) for call in response.tool_calls),
        finish=response.raw_finish_reason,
        usage=(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) if usage else (None, None, None),
    )


def _call(call_id: str, name: str, text: str) -> tuple[str, str, str]:
    arguments, invalid = decode_arguments(text)
    return call_id, name, invalid if invalid is not None else json.dumps(arguments, sort_keys=True)


def _usage(usage: Any) -> tuple[float | None, ...]:
    tokens = usage.tokens if usage is not None else None
    if tokens is None:
        return None, None, None
    return tokens.input_tokens, tokens.output_tokens, usage.cached_tokens


def _client(exchange: Exchange) -> cohere.ClientV2:
    headers = {"content-type": exchange.headers["content-type"]}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=exchange.body, headers=headers)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    return cohere.ClientV2(api_key="REDACTED", base_url="http://recorded", httpx_client=client)


MESSAGES: list[Any] = [{"role": "user", "content": "x"}]


def theirs(exchange: Exchange) -> Found:
    client = _client(exchange)
    if exchange.streaming:
        return _streamed(client.chat_stream(model="m", messages=MESSAGES))
    answer = client.chat(model="m", messages=MESSAGES)
    blocks = answer.message.content or []
    calls = tuple(
        _call(call.id, call.function.name or "", call.function.arguments or "")
        for call in answer.message.tool_calls or []
        if call.function is not None
    )
    return Found(
        text="".join(block.text for block in blocks if block.type == "text"),
        reasoning="".join(block.thinking for block in blocks if block.type == "thinking")
        + (answer.message.tool_plan or ""),
        calls=calls,
        finish=answer.finish_reason,
        usage=_usage(answer.usage),
    )


def _streamed(events: Iterator[Any]) -> Found:
    text, reasoning, finish = "", "", None
    calls: list[list[str]] = []
    usage: tuple[float | None, ...] = (None, None, None)
    for event in events:
        if event.type in ("content-start", "content-delta"):
            block = event.delta.message.content
            text += block.text or ""
            reasoning += block.thinking or ""
        elif event.type == "tool-plan-delta":
            reasoning += event.delta.message.tool_plan
        elif event.type == "tool-call-start":
            call = event.delta.message.tool_calls
            calls.append([call.id, call.function.name, call.function.arguments or ""])
        elif event.type == "tool-call-delta":
            calls[-1][2] += event.delta.message.tool_calls.function.arguments
        elif event.type == "message-end":
            finish, usage = event.delta.finish_reason, _usage(event.delta.usage)
    return Found(
        text=text,
        reasoning=reasoning,
        calls=tuple(_call(call_id, name, arguments) for call_id, name, arguments in calls),
        finish=finish,
        usage=usage,
    )


class TestCohere(RecordedTests):
    provider = "cohere"
    files = ("cohere",)
    settings = {"api_key": "REDACTED"}
    long_byte_by_byte = True
    finish = {
        "COMPLETE": FinishReason.STOP,
        "STOP_SEQUENCE": FinishReason.STOP,
        "MAX_TOKENS": FinishReason.LENGTH,
        "TOOL_CALL": FinishReason.TOOL_CALLS,
        "ERROR": FinishReason.ERROR,
    }
    errors_by_id = {
        "013bf7e524600930": (ContextTooLong, 400, "TOO_MANY_TOKENS"),
        "2d58bbb0c65da1a7": (NotFound, 404, None),
        "21ed75815836ace7": (NotFound, 404, None),
        "f9d7de3cd10125a2": (NotFound, 404, None),
    }

    @classmethod
    def kind(cls, exchange: Exchange) -> str:
        """Errors of v1 have the same form. v1 streams JSON lines, which this provider does not speak."""
        if exchange.status >= 400:
            return ERROR
        return ANSWER if path(exchange) == CHAT and exchange.is_success else path(exchange)

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        end = exchange.body.rindex(b"message-end")
        yield from (exchange.body[:at] for at in (0, end, *(random.randrange(end) for _ in range(self.cuts))))

    def error_problems(self, exchange: Exchange, error: RemoteError) -> Iterator[str]:
        if error.message not in exchange.body.decode():
            yield f"the message is {error.message!r}"
        if error.request_id != json.loads(exchange.body)["id"]:
            yield f"the request id is {error.request_id!r}"

    def ours(self, exchange: Exchange) -> Found:
        return ours(self.response_of(exchange))

    def theirs(self, exchange: Exchange) -> Found:
        return theirs(exchange)

    @pytest.fixture(autouse=True)
    def _client_reads_all(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """The client skips events that it cannot read, and says so only in the log."""
        with caplog.at_level(logging.WARNING):
            yield
        assert not caplog.records

    def test_every_citation_marks_its_passage_of_the_text(self) -> None:
        cited = 0
        for exchange in self.answers():
            response = self.response_of(exchange)
            cited += bool(response.citations)
            for citation in response.citations:
                raw = cast("Any", citation.provider_metadata["cohere"]["citation"])
                assert response.text[citation.start : citation.end] == raw["text"], exchange.id
                assert citation.cited_text, exchange.id
        assert_counts("cohere/cohere", cited=cited)

    def test_every_answer_can_be_sent_back(self) -> None:
        for exchange in self.answers():
            response = self.response_of(exchange)
            if response.finish_reason is FinishReason.ERROR:
                continue
            request = ChatRequest(messages="hi", model="m").with_messages(response.message)
            translation = self.steps().translator.translate(request, stream=False)
            turn = loads(translation.wire_request.body)["messages"][1]
            plans = [part.text for part in response.parts if isinstance(part, Reasoning) and part.provider_metadata]
            assert turn.get("tool_plan") == ("".join(plans) or None), exchange.id
            assert [call["id"] for call in turn.get("tool_calls", ())] == [call.id for call in response.tool_calls]
            assert {warning.subject for warning in translation.warnings} <= {"tool call", "tool result"}, exchange.id

    def test_every_recorded_embedding_is_read(self) -> None:
        context = self.context()
        embed = load_provider("cohere").operations(context).embed
        assert embed is not None
        for exchange in recorded("cohere"):
            if path(exchange) == "/v2/embed":
                found = embed.parse(context, exchange.wire_response)
                assert len(found.embeddings) == len(json.loads(exchange.body)["texts"])
                assert all(found.embeddings)
                assert found.usage is not None
