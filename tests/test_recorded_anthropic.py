"""Recorded traffic of the Messages API, Anthropic's own and that of clouds and gateways.

Answers are held against the recorded finish reasons and against what Anthropic's own client finds in the same bytes;
streams are cut anywhere and cut off; errors are held against a table of the test's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from random import Random
from typing import Any
from urllib.parse import urlsplit

import anthropic as sdk
import attrs
import httpx2
import pytest
from recorded_counts import assert_counts
from recorded_provider import ANSWER, ERROR, RecordedTests
from recordings import Exchange, recorded
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    QuotaExhausted,
    RemoteError,
)
from trunkline.messages import Opaque, Reasoning
from trunkline.response import ChatResponse, FinishReason
from trunkline_anthropic import anthropic

CHAT = "chat"

WHOLE_IN_A_STREAM = frozenset({"4b1a9778f868514d", "c4fee588a770a9dd"})
"""Answers of Vertex whose recorder put the whole message into one event; the client waits for `message_start`."""

DONE_OF_ANOTHER_DIALECT = "e576d381f9918ff6"
"""A stream of OpenRouter that ends with `[DONE]` after `message_stop`; the client takes that for broken JSON."""

ERRORS: Mapping[int, type[RemoteError]] = {400: BadRequest, 401: AuthenticationError, 404: NotFound}
ERRORS_BY_WORDING: Mapping[str, type[RemoteError]] = {
    "Your credit balance is too low": QuotaExhausted,
    "prompt is too long": ContextTooLong,
}


def scope(exchange: Exchange) -> str | None:
    """`chat`, why it is none, or `None` for an exchange with another provider's API."""
    path = urlsplit(exchange.url).path
    if exchange.method == "POST" and path.endswith("/messages"):
        return CHAT
    if "/publishers/anthropic/" in path and path.endswith(("rawPredict", "RawPredict")):
        return CHAT
    if "anthropic.com" not in exchange.url:
        return None
    for step, reason in (
        ("/messages/count_tokens", "token counting"),
        ("/messages/batches", "batches"),
        ("/files", "files"),
        ("/complete", "legacy completions"),
        ("/models", "models"),
        ("/chat/completions", "another dialect"),
    ):
        if step in path and not (step == "/complete" and "/chat/" in path):
            return reason
    return "unknown"


# The provider's own client


@attrs.frozen(kw_only=True)
class Found:
    """What there is in an answer, in its words. Usage is input, output, cache read, cache write and thinking."""

    text: str
    calls: tuple[tuple[str, str, str], ...]
    thinking: tuple[tuple[str, str], ...]
    others: tuple[str, ...]
    citations: tuple[str, ...]
    finish: str | None
    usage: tuple[int | None, ...]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def ours(response: ChatResponse) -> Found:
    usage = response.usage
    assert usage is not None
    fresh = usage.input_tokens
    if fresh is not None:
        fresh -= (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    reasoning = [part for part in response.parts if isinstance(part, Reasoning)]
    return Found(
        text=response.text,
        calls=tuple((call.id, call.name, _json(call.arguments)) for call in response.tool_calls),
        thinking=tuple((part.text, part.signature or part.encrypted or "") for part in reasoning),
        others=tuple(
            f"{part.kind} {_json(part.data.get('input'))}" for part in response.parts if isinstance(part, Opaque)
        ),
        citations=tuple(citation.cited_text or "" for citation in response.citations),
        finish=response.raw_finish_reason,
        usage=(fresh, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens),
    )


def _block(block: Any, name: str) -> Any:
    return getattr(block, name, None)


def theirs(exchange: Exchange) -> Found:
    message: Any = _read(exchange)
    usage = message.usage
    details = usage.output_tokens_details
    sent = ("text", "tool_use", "thinking", "redacted_thinking")
    return Found(
        text="".join(block.text for block in message.content if block.type == "text"),
        calls=tuple(
            (block.id, block.name, _json(block.input)) for block in message.content if block.type == "tool_use"
        ),
        thinking=tuple(
            (_block(block, "thinking") or "", _block(block, "signature") or _block(block, "data") or "")
            for block in message.content
            if block.type in ("thinking", "redacted_thinking")
        ),
        others=tuple(
            f"{block.type} {_json(_block(block, 'input'))}" for block in message.content if block.type not in sent
        ),
        citations=tuple(
            citation.cited_text for block in message.content for citation in _block(block, "citations") or ()
        ),
        finish=message.stop_reason,
        usage=(
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
            details.thinking_tokens if details is not None else None,
        ),
    )


def _read(exchange: Exchange) -> object:
    kind = "text/event-stream" if exchange.streaming else "application/json"

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": kind}, content=exchange.body)

    client = _client(httpx2.Client(transport=httpx2.MockTransport(answer)))
    asked: Any = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "?"}]}
    if not exchange.streaming:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


def _client(http_client: httpx2.Client) -> sdk.Anthropic:
    return _root().with_options(http_client=http_client)


@cache
def _root() -> sdk.Anthropic:
    return sdk.Anthropic(api_key="REDACTED", base_url="http://localhost", max_retries=0)


class TestAnthropic(RecordedTests):
    provider = "anthropic"
    files = ("anthropic", "other")
    settings = {"api_key": "REDACTED"}
    cuts = 6
    finish = {
        "end_turn": FinishReason.STOP,
        "stop_sequence": FinishReason.STOP,
        "max_tokens": FinishReason.LENGTH,
        "tool_use": FinishReason.TOOL_CALLS,
    }
    unread = WHOLE_IN_A_STREAM | {DONE_OF_ANOTHER_DIALECT}

    # The client warns of old models.
    pytestmark = pytest.mark.filterwarnings("ignore:.*end-of-life:DeprecationWarning")

    @classmethod
    def kind(cls, exchange: Exchange) -> str | None:
        if scope(exchange) != CHAT:
            return scope(exchange)
        return ANSWER if exchange.is_success else ERROR

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        # A whole message in one event is complete without `message_stop`: cut within that event.
        end = exchange.body.rindex(b"}" if exchange.id in WHOLE_IN_A_STREAM else b'"message_stop"')
        yield from (exchange.body[:at] for at in (end, *random.sample(range(1, end), self.cuts)))

    def error_problems(self, exchange: Exchange, error: RemoteError) -> Iterator[str]:
        body = json.loads(exchange.body)
        message = body["error"]["message"]
        by_wording = (kind for words, kind in ERRORS_BY_WORDING.items() if words in message)
        expected_id = exchange.headers.get("request-id") or body.get("request_id")
        expected = next(by_wording, ERRORS[exchange.status]), message, body["error"]["type"], expected_id
        found = type(error), error.message, error.code, error.request_id
        if found != expected:
            yield f"{found}, not {expected}"

    def ours(self, exchange: Exchange) -> Found:
        return ours(self.response_of(exchange))

    def theirs(self, exchange: Exchange) -> Found:
        return theirs(exchange)

    def test_each_answer_tells_its_usage_and_few_are_empty(self, file: str) -> None:
        """An answer is empty if the model ended its turn, or met a stop sequence, at once."""
        empty = 0
        for exchange in self.answers(file):
            response = self.response_of(exchange)
            assert response.usage is not None, exchange.id
            assert response.usage.output_tokens is not None, exchange.id
            empty += not response.parts
        assert_counts(self.subject(file), empty=empty)

    def test_the_client_does_not_read_what_is_said_of_it(self) -> None:
        found = [exchange for exchange in self.answers() if exchange.id in self.unread]
        assert len(found) == len(self.unread)
        for exchange in found:
            with pytest.raises((AssertionError, RuntimeError, ValueError)):
                theirs(exchange)
            assert self.response_of(exchange).text

    def test_counts_and_lists_are_read(self) -> None:
        operations = anthropic.operations(self.context())
        assert operations.count_tokens is not None
        assert operations.list_models is not None
        for exchange in recorded("anthropic"):
            if scope(exchange) == "token counting":
                tokens = json.loads(exchange.body)["input_tokens"]
                assert operations.count_tokens.parse(self.context(), exchange.wire_response) == tokens
            elif scope(exchange) == "models":
                models, cursor = operations.list_models.parse(self.context(), exchange.wire_response)
                assert (len(models), cursor) == (10, None)
                assert all(model.name and model.created for model in models)
