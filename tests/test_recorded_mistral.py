"""Recorded traffic of Mistral: every answer at any split, beside what Mistral's own client finds in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import httpx2
import pytest
from recorded_counts import assert_counts
from recorded_provider import ANSWER, ERROR, RecordedTests
from recordings import Exchange, recorded
from trunkline._plugins.registry import load_provider
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError, BadRequest, NotFound, RemoteError
from trunkline.fold import decode_arguments
from trunkline.response import ChatResponse, FinishReason

CHATS = ("/chat/completions", "/agents/completions")
"""The endpoints that answer with a chat completion. An agent's answer has the same form."""


def path(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path


def bodies(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """The JSON of a whole body, or of each chunk."""
    if not exchange.streaming:
        yield json.loads(exchange.body)
        return
    for line in exchange.body.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield json.loads(line[5:])


# Mistral's own client


@attrs.frozen(kw_only=True)
class Found:
    """What there is in an answer. Usage is input, output, total and cached tokens."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, str, str], ...]
    finish: str | None
    usage: tuple[int | None, ...]


def ours(response: ChatResponse) -> Found:
    usage = response.usage
    assert usage is not None
    return Found(
        text=response.text,
        reasoning=response.reasoning,
        calls=tuple(_call(call.id, call.name, call.arguments_json) for call in response.tool_calls),
        finish=response.raw_finish_reason,
        usage=(usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cache_read_tokens),
    )


def _call(call_id: str, name: str, text: str) -> tuple[str, str, str]:
    arguments, invalid = decode_arguments(text)
    return call_id, name, invalid if invalid is not None else json.dumps(arguments, sort_keys=True)


class Accumulator:
    """The first choice, put together from what the client gives."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[list[str]] = []
        self.finish: str | None = None
        self.usage: Any = None

    def add(self, chunk: Any) -> None:
        self.usage = getattr(chunk, "usage", None) or self.usage
        for choice in chunk.choices:
            if choice.index == 0:
                self.finish = choice.finish_reason or self.finish
                self._message(getattr(choice, "delta", None) or choice.message)

    def _message(self, message: Any) -> None:
        content = message.content or ""
        for item in [content] if isinstance(content, str) else content:
            if isinstance(item, str):
                self.text += item
            elif item.type == "thinking":
                self.reasoning += "".join(piece.text for piece in item.thinking)
            else:
                self.text += item.text
        for call in message.tool_calls or ():
            name, arguments = call.function.name, call.function.arguments
            arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
            if name:
                self.calls.append([call.id, name, arguments])
            else:
                self.calls[-1][2] += arguments

    def found(self) -> Found:
        usage = self.usage
        details = getattr(usage, "prompt_tokens_details", None) or {}
        cached = details.get("cached_tokens", getattr(usage, "num_cached_tokens", None))
        return Found(
            text=self.text,
            reasoning=self.reasoning,
            calls=tuple(_call(*call) for call in self.calls),
            finish=self.finish,
            usage=(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, cached),
        )


@cache
def _client() -> Any:
    """Mistral's client, whose requests each say in their model which exchange answers them."""
    package = pytest.importorskip("mistralai.client")
    exchanges = {exchange.id: exchange for exchange in recorded("mistral")}

    def answer(request: httpx2.Request) -> httpx2.Response:
        exchange = exchanges[json.loads(request.content)["model"]]
        kind = "text/event-stream" if exchange.streaming else "application/json"
        return httpx2.Response(200, headers={"content-type": kind}, content=exchange.body)

    return package.Mistral(api_key="REDACTED", client=httpx2.Client(transport=httpx2.MockTransport(answer)))


def the_clients(exchange: Exchange) -> Found | str:
    """What the client finds, or the error that it raises."""
    client = _client()
    accumulator = Accumulator()
    asked: dict[str, Any] = {"model": exchange.id, "messages": [{"role": "user", "content": "q"}]}
    try:
        if exchange.streaming:
            with client.chat.stream(**asked) as events:
                for event in events:
                    accumulator.add(event.data)
        else:
            accumulator.add(client.chat.complete(**asked))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return accumulator.found()


class TestMistral(RecordedTests):
    provider = "mistral"
    files = ("mistral",)
    settings = {"api_key": "REDACTED"}
    finish = {
        "stop": FinishReason.STOP,
        "length": FinishReason.LENGTH,
        "tool_calls": FinishReason.TOOL_CALLS,
    }
    errors_by_id = {
        "19b464782d52c297": (NotFound, 400, "1500"),
        "a61754aa1202c65f": (NotFound, 400, "1500"),
        "909105e10d699f38": (BadRequest, 400, "3051"),
        "f30205b759843ac7": (BadRequest, 400, "3051"),
        "d3fe600502f22c0a": (BadRequest, 400, "3210"),
        "dde48fa1be84ab0c": (AuthenticationError, 401, None),
    }

    @classmethod
    def kind(cls, exchange: Exchange) -> str:
        """Other endpoints go by the area of their path."""
        if exchange.status >= 400:
            return ERROR
        is_chat = exchange.method == "POST" and path(exchange).endswith(CHATS)
        return ANSWER if is_chat and exchange.is_success else path(exchange).split("/")[2]

    def reason(self, exchange: Exchange, response: ChatResponse) -> tuple[FinishReason, str]:
        """The first choice's reason. The recording's own field lists those of all choices."""
        choices = [choice for body in bodies(exchange) for choice in body["choices"] if choice["index"] == 0]
        [word] = {choice["finish_reason"] for choice in choices if choice["finish_reason"]}
        assert word in exchange.finish_reasons
        return self.finish[word], word

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        end = exchange.body.rindex(b"[DONE]") + len(b"[DONE]") - 1
        yield from (exchange.body[:at] for at in (0, end, *(random.randrange(end) for _ in range(self.cuts))))

    def error_problems(self, exchange: Exchange, error: RemoteError) -> Iterator[str]:
        if error.message not in exchange.body.decode():
            yield f"the message is {error.message!r}"
        if error.request_id != exchange.headers.get("mistral-correlation-id"):
            yield f"the request id is {error.request_id!r}"

    def ours(self, exchange: Exchange) -> Found:
        return ours(self.response_of(exchange))

    def theirs(self, exchange: Exchange) -> Found | str:
        return the_clients(exchange)


def test_embeddings_and_models_are_read() -> None:
    operations = load_provider("mistral").operations(cast("Any", None))
    context: Any = ServiceContext(name="recorded", provider="mistral", settings=cast("Any", None))
    assert operations.embed is not None
    assert operations.list_models is not None
    counts = Counter[str]()
    for exchange in recorded("mistral"):
        if exchange.status != 200:
            continue
        if path(exchange).endswith("/embeddings"):
            sent = json.loads(exchange.body)
            response = operations.embed.parse(context, exchange.wire_response)
            assert [list(vector) for vector in response.embeddings] == [item["embedding"] for item in sent["data"]]
            assert response.usage is not None
            assert response.usage.input_tokens == sent["usage"]["prompt_tokens"]
            counts["embeddings"] += 1
        elif path(exchange).endswith("/models"):
            models, cursor = operations.list_models.parse(context, exchange.wire_response)
            assert [model.id for model in models] == [item["id"] for item in json.loads(exchange.body)["data"]]
            assert [model.context_window for model in models] == [
                item["max_context_length"] for item in json.loads(exchange.body)["data"]
            ]
            assert cursor is None
            counts["models"] += 1
    assert_counts("mistral/mistral", operations=counts)
