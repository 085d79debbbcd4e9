"""Recorded traffic of Cohere's v2 API: every answer at any split, beside what Cohere's own client finds in it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import cohere
import httpx
import pytest
from recordings import Exchange, cut, recorded, report
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.json import loads
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import ContextTooLong, NotFound, RemoteError, StreamInterrupted
from trunkline.events import Event
from trunkline.fold import decode_arguments, fold
from trunkline.messages import Reasoning
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason

CHAT = "/v2/chat"
ANSWERS = 102
STREAMS = 29
CITED = 23
OUT_OF_SCOPE = {
    "/v1/chat": 47,
    "/v1/embed": 8,
    "/v1/generate": 4,
    "/v1/models/command-a-03-2025": 1,
    "/v1/rerank": 5,
    "/v1/tokenize": 1,
    "/v2/audio/transcriptions": 1,
    "/v2/embed": 6,
    "/v2/rerank": 6,
}
"""Exchanges with other endpoints; v1 streams JSON lines, which this provider does not speak."""

FINISH = {
    "COMPLETE": FinishReason.STOP,
    "STOP_SEQUENCE": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "TOOL_CALL": FinishReason.TOOL_CALLS,
    "ERROR": FinishReason.ERROR,
}

ERRORS: dict[str, tuple[type[RemoteError], int, str | None]] = {
    "013bf7e524600930": (ContextTooLong, 400, "TOO_MANY_TOKENS"),
    "2d58bbb0c65da1a7": (NotFound, 404, None),
    "21ed75815836ace7": (NotFound, 404, None),
    "f9d7de3cd10125a2": (NotFound, 404, None),
}
"""Every recorded error, those of v1 too, since their form is the same: its class, status and code."""

SHORT = 4096
"""The longest stream, in bytes, that is cut at every place."""
SPLITS = 10
CUTS = 10


@cache
def steps() -> Steps:
    provider = load_provider("cohere")
    settings = provider.settings(api_key="REDACTED")  # type: ignore[call-arg]
    return open_steps(provider, ServiceContext(name="recorded", provider="cohere", settings=settings))


def path(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path


def answers() -> list[Exchange]:
    return [exchange for exchange in recorded("cohere") if path(exchange) == CHAT and exchange.is_success]


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
        return fold(events_of(exchange.chunks), "cohere")
    return steps().parser.body(exchange.wire_response)


def test_every_answer_is_read_with_the_recorded_finish_reason() -> None:
    problems = []
    for exchange in answers():
        response, [told] = response_of(exchange.id), exchange.finish_reasons
        if (response.finish_reason, response.raw_finish_reason) != (FINISH[told], told):
            problems.append(f"{exchange.id}: {response.finish_reason}, not {told}")
    assert not problems, report(problems)
    assert (len(answers()), len(streams())) == (ANSWERS, STREAMS)


def test_every_exchange_is_an_answer_an_error_or_out_of_scope() -> None:
    exchanges = recorded("cohere")
    others = Counter(path(exchange) for exchange in exchanges if path(exchange) != CHAT)
    assert others == OUT_OF_SCOPE
    errors = sum(path(exchange) == CHAT and exchange.status != 200 for exchange in exchanges)
    assert len(answers()) + errors + others.total() == len(exchanges)


def sampled(exchange: Exchange) -> Iterator[list[bytes]]:
    """The body in two pieces, in small ones, and in single bytes."""
    body, random = exchange.body, Random(exchange.id)
    places = range(1, len(body))
    if len(body) > SHORT:
        places = random.sample(places, SPLITS)  # type: ignore[assignment]
    yield from ([body[:at], body[at:]] for at in places)
    yield [body[at : at + 1] for at in range(len(body))]
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
        end = exchange.body.rindex(b"message-end")
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
    for exchange in recorded("cohere"):
        if exchange.status >= 400:
            error = cast("RemoteError", steps().parser.error(exchange.wire_response))
            assert error.message in exchange.body.decode()
            assert error.request_id == json.loads(exchange.body)["id"]
            found[exchange.id] = (type(error), error.status, error.code)
    assert found == ERRORS


def test_every_citation_marks_its_passage_of_the_text() -> None:
    cited = 0
    for exchange in answers():
        response = response_of(exchange.id)
        cited += bool(response.citations)
        for citation in response.citations:
            raw = cast("Any", citation.provider_metadata["cohere"]["citation"])
            assert response.text[citation.start : citation.end] == raw["text"], exchange.id
            assert citation.cited_text, exchange.id
    assert cited == CITED


def test_every_answer_can_be_sent_back() -> None:
    for exchange in answers():
        response = response_of(exchange.id)
        if response.finish_reason is FinishReason.ERROR:
            continue
        request = ChatRequest(messages="hi", model="m").with_messages(response.message)
        translation = steps().translator.translate(request, stream=False)
        turn = loads(translation.wire_request.body)["messages"][1]
        plans = [part.text for part in response.parts if isinstance(part, Reasoning) and part.provider_metadata]
        assert turn.get("tool_plan") == ("".join(plans) or None), exchange.id
        assert [call["id"] for call in turn.get("tool_calls", ())] == [call.id for call in response.tool_calls]
        assert {warning.subject for warning in translation.warnings} <= {"tool call"}, exchange.id


def test_every_recorded_embedding_is_read() -> None:
    provider = load_provider("cohere")
    settings = provider.settings(api_key="REDACTED")  # type: ignore[call-arg]
    context = ServiceContext(name="recorded", provider="cohere", settings=settings)
    embed = provider.operations_for(context).embed
    assert embed is not None
    for exchange in recorded("cohere"):
        if path(exchange) == "/v2/embed":
            found = embed.parse(context, exchange.wire_response)
            assert len(found.embeddings) == len(json.loads(exchange.body)["texts"])
            assert all(found.embeddings)
            assert found.usage is not None


# Beside Cohere's own client


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


def test_every_answer_is_what_cohere_s_own_client_finds(caplog: pytest.LogCaptureFixture) -> None:
    problems = []
    with caplog.at_level(logging.WARNING):
        for exchange in answers():
            found, expected = ours(response_of(exchange.id)), theirs(exchange)
            if found != expected:
                problems.append(f"{exchange.id}: {found} is not {expected}")
    assert not problems, report(problems)
    # The client passes over events that it cannot read, and says so in the log alone.
    assert not caplog.records
