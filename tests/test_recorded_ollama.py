"""Recorded traffic of Ollama's own API: every answer at any split, beside what Ollama's own types find in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from urllib.parse import urlsplit

import ollama
from recordings import Exchange, cut, recorded, report
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import NotFound, StreamInterrupted
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason
from trunkline_ollama.operations import parse_embeddings
from trunkline_ollama.parse import REASONS

CHAT = "/api/chat"
CHATS = 36
STREAMS = 17
BODIES = 18
THINKING = 10
CALLS = 18
WITHOUT_USAGE = 1
NOT_OLLAMA = "cabaf73915d73f7c"
"""An answer in the Chat Completions dialect; the URL is a guess."""
SHORT = 4096
"""The longest stream, in bytes, that is cut at every place."""
SPLITS = 10
CUTS = 10


@cache
def steps() -> Steps:
    provider = load_provider("ollama")
    return open_steps(provider, ServiceContext(name="recorded", provider="ollama", settings=provider.settings()))


def chats() -> list[Exchange]:
    found = [exchange for exchange in recorded("ollama") if urlsplit(exchange.url).path == CHAT]
    return [exchange for exchange in found if exchange.id != NOT_OLLAMA]


def answers() -> list[Exchange]:
    return [exchange for exchange in chats() if exchange.is_success]


def streams() -> list[Exchange]:
    return [exchange for exchange in answers() if exchange.streaming]


def events_of(pieces: Sequence[bytes]) -> list[Event]:
    decoder = StreamDecoder(*steps().parser.stream())
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.finish()]


def response_of(exchange: Exchange) -> ChatResponse:
    if exchange.streaming:
        return fold(events_of(exchange.chunks), "ollama")
    return steps().parser.body(exchange.wire_response)


def test_every_chat_is_read() -> None:
    assert len(chats()) == CHATS
    assert (len(streams()), len(answers()) - len(streams())) == (STREAMS, BODIES)
    responses = [response_of(exchange) for exchange in answers()]
    assert sum(bool(response.reasoning) for response in responses) == THINKING
    assert sum(len(response.tool_calls) for response in responses) == CALLS
    assert sum(response.usage is None for response in responses) == WITHOUT_USAGE
    assert Counter(response.finish_reason for response in responses) == {
        FinishReason.STOP: 20,
        FinishReason.TOOL_CALLS: 11,
        FinishReason.LENGTH: 3,
        FinishReason.OTHER: 1,
    }


def test_every_answer_has_the_recorded_finish_reason() -> None:
    problems = []
    for exchange in answers():
        response = response_of(exchange)
        [told] = exchange.finish_reasons
        expected = REASONS.get(told, FinishReason.OTHER)
        if response.tool_calls and expected is FinishReason.STOP:
            expected = FinishReason.TOOL_CALLS
        if (response.finish_reason, response.raw_finish_reason) != (expected, told):
            problems.append(f"{exchange.id}: {response.finish_reason}, not {told}")
    assert not problems, report(problems)


def sampled(exchange: Exchange) -> Iterator[list[bytes]]:
    """The body in two pieces, in small ones, and in single bytes."""
    body, random = exchange.body, Random(exchange.id)
    short = len(body) <= SHORT
    places = range(1, len(body)) if short else random.sample(range(1, len(body)), SPLITS)
    yield from ([body[:at], body[at:]] for at in places)
    if short:
        yield [body[at : at + 1] for at in range(len(body))]
    yield list(cut(body, [random.randint(1, 600) for _ in range(len(body) // 200)]))


def test_every_stream_gives_the_same_events_at_every_split() -> None:
    problems = []
    for exchange in streams():
        expected = events_of([exchange.body])
        problems += [exchange.id for pieces in sampled(exchange) if events_of(pieces) != expected]
    assert not problems, report(problems)


def test_no_stream_that_is_cut_off_is_a_success() -> None:
    problems = []
    for exchange in streams():
        body = exchange.body.rstrip()
        first, last = body[: body.index(b"\n") + 1], body[body.rindex(b"\n") + 1 :]
        random = Random(exchange.id)
        cuts = [body[: random.randrange(len(body) - len(last))] for _ in range(CUTS)]
        # In the last line `"done":true` may stand already.
        cuts += [first + last[:at] for at in range(len(last))]
        for piece in cuts:
            try:
                events_of([piece])
            except StreamInterrupted:
                continue
            problems.append(f"{exchange.id} at {len(piece)}")
    assert not problems, report(problems)


def test_the_recorded_error_is_a_model_that_is_not_there() -> None:
    [exchange] = [exchange for exchange in chats() if exchange.status >= 400]
    error = steps().parser.error(exchange.wire_response)
    assert type(error) is NotFound
    assert (error.status, error.message) == (404, "model 'nonexistent-model:latest' not found")


def test_no_two_answers_share_the_ids_of_their_calls() -> None:
    made = [call.id for exchange in answers() for call in response_of(exchange).tool_calls]
    # The recordings' own ids were taken out and numbered anew in each.
    ours = [call_id for call_id in made if "REDACTED" not in call_id]
    assert len(set(ours)) == len(ours)


def test_every_answer_can_be_sent_back() -> None:
    for exchange in answers():
        response = response_of(exchange)
        request = ChatRequest(messages="hi", model="m").with_messages(response.message)
        translation = steps().translator.translate(request, stream=False)
        assert not translation.warnings, exchange.id
        told = json.loads(translation.wire_request.body)["messages"][-1]
        assert told["content"] == response.text
        assert told.get("thinking", "") == response.reasoning
        assert len(told.get("tool_calls", ())) == len(response.tool_calls)


def test_the_recorded_embedding_is_read() -> None:
    [exchange] = [exchange for exchange in recorded("ollama") if urlsplit(exchange.url).path == "/api/embed"]
    provider = load_provider("ollama")
    context = ServiceContext(name="recorded", provider="ollama", settings=provider.settings())
    response = parse_embeddings(context, exchange.wire_response)  # type: ignore[arg-type]
    [vector] = response.embeddings
    assert (len(vector), response.model) == (768, "nomic-embed-text")
    assert response.usage is not None
    assert response.usage.input_tokens == 9


# Beside Ollama's own types


def test_every_answer_is_what_ollama_s_own_types_find() -> None:
    problems = []
    for exchange in answers():
        chunks = [ollama.ChatResponse.model_validate_json(line) for line in exchange.body.splitlines() if line.strip()]
        messages, last = [chunk.message for chunk in chunks], chunks[-1]
        response, usage = response_of(exchange), response_of(exchange).usage
        calls = [call.function for message in messages for call in message.tool_calls or ()]
        theirs = (
            "".join(message.content or "" for message in messages),
            "".join(message.thinking or "" for message in messages),
            [(call.name, dict(call.arguments)) for call in calls],
            (last.model, last.prompt_eval_count, last.eval_count),
        )
        ours = (
            response.text,
            response.reasoning,
            [(call.name, call.arguments) for call in response.tool_calls],
            (response.model, usage and usage.input_tokens, usage and usage.output_tokens),
        )
        if ours != theirs:
            problems.append(f"{exchange.id}: {ours} is not {theirs}")
    assert not problems, report(problems)
