"""Recorded traffic of Mistral: every answer at any split, beside what Mistral's own client finds in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import httpx2
import pytest
from recordings import Exchange, cut, recorded, report
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError, BadRequest, NotFound, RemoteError, StreamInterrupted
from trunkline.events import Event
from trunkline.fold import decode_arguments, fold
from trunkline.response import ChatResponse, FinishReason

CHATS = ("/chat/completions", "/agents/completions")
"""The endpoints that answer with a chat completion. An agent's answer has the same form."""

ANSWERS = 179
STREAMS = 62
OUT_OF_SCOPE = {
    "agents": 3,
    "audio": 4,
    "batch": 2,
    "embeddings": 10,
    "files": 1,
    "fim": 2,
    "models": 1,
    "moderations": 1,
}
"""Exchanges with other endpoints, by the area of the path. Embeddings and models have tests of their own below."""

FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
}

ERRORS: Mapping[str, tuple[type[RemoteError], int, str | None]] = {
    "19b464782d52c297": (NotFound, 400, "1500"),
    "a61754aa1202c65f": (NotFound, 400, "1500"),
    "909105e10d699f38": (BadRequest, 400, "3051"),
    "f30205b759843ac7": (BadRequest, 400, "3051"),
    "d3fe600502f22c0a": (BadRequest, 400, "3210"),
    "dde48fa1be84ab0c": (AuthenticationError, 401, None),
}
"""Every recorded error: its class, status and code."""

SHORT = 4096
"""The longest stream, in bytes, that is cut at every place."""
SPLITS = 10
CUTS = 10


@cache
def steps() -> Steps:
    provider = load_provider("mistral")
    settings = provider.settings(api_key="REDACTED")  # type: ignore[call-arg]
    return open_steps(provider, ServiceContext(name="recorded", provider="mistral", settings=settings))


def path(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path


def is_chat(exchange: Exchange) -> bool:
    return exchange.method == "POST" and path(exchange).endswith(CHATS)


def answers() -> list[Exchange]:
    return [exchange for exchange in recorded("mistral") if is_chat(exchange) and exchange.is_success]


def streams() -> list[Exchange]:
    return [exchange for exchange in answers() if exchange.streaming]


def events_of(pieces: Sequence[bytes]) -> list[Event]:
    decoder = StreamDecoder(*steps().parser.stream())
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.finish()]


@cache
def response_of(exchange_id: str) -> ChatResponse:
    exchange = next(exchange for exchange in answers() if exchange.id == exchange_id)
    if exchange.streaming:
        return fold(events_of(exchange.chunks), "mistral")
    return steps().parser.body(exchange.wire_response)


def bodies(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """The JSON of a whole body, or of each chunk."""
    if not exchange.streaming:
        yield json.loads(exchange.body)
        return
    for line in exchange.body.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield json.loads(line[5:])


def told_reason(exchange: Exchange) -> FinishReason:
    """The first choice's reason. The recording's own field lists those of all choices."""
    choices = [choice for body in bodies(exchange) for choice in body["choices"] if choice["index"] == 0]
    [reason] = {choice["finish_reason"] for choice in choices if choice["finish_reason"]}
    assert reason in exchange.finish_reasons
    return FINISH[reason]


def test_every_answer_is_read_with_the_recorded_finish_reason() -> None:
    problems = [
        f"{exchange.id}: {found}, not {told_reason(exchange)}"
        for exchange in answers()
        if (found := response_of(exchange.id).finish_reason) is not told_reason(exchange)
    ]
    assert not problems, report(problems)
    assert (len(answers()), len(streams())) == (ANSWERS, STREAMS)


def test_every_exchange_is_an_answer_an_error_or_out_of_scope() -> None:
    exchanges = recorded("mistral")
    areas = Counter(path(exchange).split("/")[2] for exchange in exchanges if not is_chat(exchange))
    assert areas == OUT_OF_SCOPE
    errors = sum(is_chat(exchange) and exchange.status != 200 for exchange in exchanges)
    assert len(answers()) + errors + areas.total() == len(exchanges)


def sampled(exchange: Exchange) -> Iterator[list[bytes]]:
    """The body in two pieces, in small ones, and in single bytes where it is short."""
    body, random = exchange.body, Random(exchange.id)
    if len(body) <= SHORT:
        yield from ([body[:at], body[at:]] for at in range(1, len(body)))
        yield [body[at : at + 1] for at in range(len(body))]
    else:
        yield from ([body[:at], body[at:]] for at in random.sample(range(1, len(body)), SPLITS))
    yield list(cut(body, [random.randint(1, 60) for _ in range(len(body) // 20)]))


def test_every_stream_gives_the_same_events_at_every_split() -> None:
    problems = []
    for exchange in streams():
        expected = events_of([exchange.body])
        problems += [exchange.id for pieces in sampled(exchange) if events_of(pieces) != expected]
    assert not problems, report(problems)


def test_no_stream_that_is_cut_off_is_a_success() -> None:
    problems = []
    for exchange in streams():
        end = exchange.body.rindex(b"[DONE]") + len(b"[DONE]") - 1
        random = Random(exchange.id)
        for at in {0, end, *(random.randrange(end) for _ in range(CUTS))}:
            try:
                events_of([exchange.body[:at]])
            except StreamInterrupted:
                continue
            problems.append(f"{exchange.id} at {at}")
    assert not problems, report(problems)


def test_every_recorded_error_has_its_class() -> None:
    found = {}
    for exchange in recorded("mistral"):
        if exchange.status >= 400:
            error = cast("RemoteError", steps().parser.error(exchange.wire_response))
            assert error.message in exchange.body.decode()
            assert error.request_id == exchange.headers.get("mistral-correlation-id")
            found[exchange.id] = (type(error), error.status, error.code)
    assert found == ERRORS


# Beside Mistral's own client


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


def the_clients(exchange: Exchange) -> Found | str:
    """What the client finds, or the error that it raises."""
    package = pytest.importorskip("mistralai.client")

    def answer(_: httpx2.Request) -> httpx2.Response:
        kind = "text/event-stream" if exchange.streaming else "application/json"
        return httpx2.Response(200, headers={"content-type": kind}, content=exchange.body)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as transport:
        client = package.Mistral(api_key="REDACTED", client=transport)
        accumulator = Accumulator()
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "q"}]}
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


def test_the_official_client_accepts_every_answer_and_finds_the_same_in_it() -> None:
    problems = []
    for exchange in answers():
        theirs, mine = the_clients(exchange), ours(response_of(exchange.id))
        if mine != theirs:
            problems.append(f"{exchange.id}: {mine} here, {theirs} there")
    assert not problems, report(problems)


# The operations besides chat


def test_embeddings_and_models_are_read() -> None:
    operations = load_provider("mistral").operations_for(cast("Any", None))
    context: Any = ServiceContext(name="recorded", provider="mistral", settings=cast("Any", None))
    assert operations.embed is not None
    assert operations.list_models is not None
    counts = Counter[str]()
    for exchange in recorded("mistral"):
        if exchange.status != 200:
            continue
        if path(exchange).endswith("/embeddings"):
            told = json.loads(exchange.body)
            response = operations.embed.parse(context, exchange.wire_response)
            assert [list(vector) for vector in response.embeddings] == [item["embedding"] for item in told["data"]]
            assert response.usage is not None
            assert response.usage.input_tokens == told["usage"]["prompt_tokens"]
            counts["embeddings"] += 1
        elif path(exchange).endswith("/models"):
            models, cursor = operations.list_models.parse(context, exchange.wire_response)
            assert [model.id for model in models] == [item["id"] for item in json.loads(exchange.body)["data"]]
            assert cursor is None
            counts["models"] += 1
    assert counts == {"embeddings": 9, "models": 1}
