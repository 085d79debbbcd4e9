"""Recorded traffic of the Messages API, Anthropic's own and that of clouds and gateways.

Answers are held against the recorded finish reasons and against what Anthropic's own client finds in the same bytes;
streams are cut anywhere and cut off; errors are held against a table of the test's own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any
from urllib.parse import urlsplit

import anthropic as sdk
import attrs
import httpx2
import pytest
from recordings import Exchange, cut, recorded, report
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    QuotaExhausted,
    RemoteError,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.messages import Opaque, Reasoning
from trunkline.response import ChatResponse, FinishReason
from trunkline_anthropic import AnthropicSettings
from trunkline_anthropic.operations import OPERATIONS
from trunkline_anthropic.parse import MessagesParser

CHAT = "chat"
FILES = ("anthropic", "other")
CONTEXT = ServiceContext(
    name="recorded",
    provider="anthropic",
    settings=AnthropicSettings(api_key="REDACTED"),  # type: ignore[arg-type]  # converted
)
PARSER = MessagesParser(CONTEXT)

FINISH: Mapping[str, FinishReason] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
}

ACCEPTED = {"anthropic": 599, "other": 26}
"""Answers with the status 200; there are no exceptions."""

AGREED = {"anthropic": 598, "other": 24}
"""Those in which the client finds the same: all that it reads."""

EMPTY = 8
"""Answers that hold nothing: the model ended its turn, or met a stop sequence, at once."""

SHORT_STREAMS = {"anthropic": 172, "other": 6}
STREAMS = {"anthropic": 277, "other": 19}

OUT_OF_SCOPE = {
    "anthropic": {
        "batches": 5,
        "files": 4,
        "legacy completions": 5,
        "models": 1,
        "another dialect": 3,
        "token counting": 7,
    },
    "other": {},
}

WHOLE_IN_A_STREAM = frozenset({"4b1a9778f868514d", "c4fee588a770a9dd"})
"""Answers of Vertex whose recorder put the whole message into one event; the client waits for `message_start`."""

DONE_OF_ANOTHER_DIALECT = "e576d381f9918ff6"
"""A stream of OpenRouter that ends with `[DONE]` after `message_stop`; the client takes that for broken JSON."""

NOT_READ = WHOLE_IN_A_STREAM | {DONE_OF_ANOTHER_DIALECT}
"""What the client does not read."""

ERRORS: Mapping[int, type[RemoteError]] = {400: BadRequest, 401: AuthenticationError, 404: NotFound}
ERRORS_BY_WORDING: Mapping[str, type[RemoteError]] = {
    "Your credit balance is too low": QuotaExhausted,
    "prompt is too long": ContextTooLong,
}
ERROR_COUNTS = {AuthenticationError: 13, ContextTooLong: 1, BadRequest: 13, NotFound: 14, QuotaExhausted: 2}

SPLITS = 6
CUTS = 6
SHORT = 2400
"""The longest stream, in bytes, that is cut at every place and fed byte by byte."""

WHOLE_PATH = 4
"""How many short streams go through framer and parser at every place; the others' frames are looked at, which are all
that the parser sees of a stream."""


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


def chats(name: str) -> list[Exchange]:
    return [exchange for exchange in recorded(name) if scope(exchange) == CHAT]


def successes(name: str) -> list[Exchange]:
    return [exchange for exchange in chats(name) if exchange.is_success]


def events_of(exchange: Exchange, pieces: Sequence[bytes]) -> list[Event]:
    decoder = StreamDecoder(*PARSER.stream())
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    return events + decoder.finish()


def response_of(exchange: Exchange) -> ChatResponse:
    if exchange.streaming:
        return fold(events_of(exchange, exchange.chunks), "anthropic")
    return PARSER.body(exchange.wire_response)


@pytest.mark.parametrize("name", FILES)
def test_every_exchange_is_accounted_for(name: str) -> None:
    found = Counter(where for exchange in recorded(name) if (where := scope(exchange)) is not None)
    errors = sum(exchange.status != 200 for exchange in chats(name))
    assert found.pop(CHAT) == ACCEPTED[name] + errors
    assert dict(found) == OUT_OF_SCOPE[name]
    assert len(successes(name)) == ACCEPTED[name]


@pytest.mark.parametrize("name", FILES)
def test_every_answer_is_accepted_with_the_recorded_finish_reason(name: str) -> None:
    problems, empty = [], 0
    for exchange in successes(name):
        try:
            response = response_of(exchange)
        except TrunklineError as error:
            problems.append(f"{exchange.id}: {error}")
            continue
        (raw,) = exchange.finish_reasons
        if (response.raw_finish_reason, response.finish_reason) != (raw, FINISH[raw]):
            problems.append(f"{exchange.id}: {response.finish_reason} ({response.raw_finish_reason}), recorded {raw}")
        if response.usage is None or response.usage.output_tokens is None:
            problems.append(f"{exchange.id}: {response.usage}")
        empty += not response.parts
    assert not problems, report(problems)
    assert empty == (EMPTY if name == "anthropic" else 0)


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


def ours(exchange: Exchange) -> Found:
    response = response_of(exchange)
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
    told = ("text", "tool_use", "thinking", "redacted_thinking")
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
            f"{block.type} {_json(_block(block, 'input'))}" for block in message.content if block.type not in told
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


@pytest.mark.filterwarnings("ignore:.*end-of-life:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_the_providers_own_client_finds_the_same(name: str) -> None:
    agreed, problems = 0, []
    for exchange in successes(name):
        if exchange.id in NOT_READ:
            continue
        found, expected = ours(exchange), theirs(exchange)
        agreed += found == expected
        problems += [
            f"{exchange.id}: {field}: {mine!r:.200}, and the client {other!r:.200}"
            for field in attrs.fields_dict(Found)
            if (mine := getattr(found, field)) != (other := getattr(expected, field))
        ]
    assert not problems, report(problems)
    assert agreed == AGREED[name]


def test_the_client_does_not_read_what_is_said_of_it() -> None:
    found = [exchange for name in FILES for exchange in successes(name) if exchange.id in NOT_READ]
    assert len(found) == len(NOT_READ)
    for exchange in found:
        with pytest.raises((AssertionError, RuntimeError, ValueError)):
            theirs(exchange)
        assert response_of(exchange).text


# Streams


def streams(name: str) -> list[Exchange]:
    return [exchange for exchange in successes(name) if exchange.streaming]


def sampled_pieces(exchange: Exchange) -> Iterator[list[bytes]]:
    """As it was read, in halves at some places, in small pieces, and byte by byte where it is short."""
    body, random = exchange.body, Random(exchange.id)
    yield exchange.chunks
    for at in random.sample(range(1, len(body)), SPLITS):
        yield [body[:at], body[at:]]
    yield list(cut(body, [random.randint(1, 60) for _ in range(len(body) // 30)]))
    if len(body) <= SHORT:
        yield [body[at : at + 1] for at in range(len(body))]


def frames_of(pieces: Sequence[bytes]) -> list[object]:
    framer, _ = PARSER.stream()
    return [*(frame for piece in pieces for frame in framer.feed(piece)), *framer.finish()]


@pytest.mark.parametrize("name", FILES)
def test_a_short_stream_gives_the_same_events_at_every_split(name: str) -> None:
    short = [exchange for exchange in streams(name) if len(exchange.body) <= SHORT]
    problems = []
    for number, exchange in enumerate(short):
        body = exchange.body
        whole = frames_of([body])
        halves = [(body[:at], body[at:]) for at in range(1, len(body))]
        wrong = [len(first) for first, second in halves if frames_of((first, second)) != whole]
        if number < WHOLE_PATH:
            expected = events_of(exchange, [body])
            wrong += [len(first) for first, second in halves if events_of(exchange, (first, second)) != expected]
        problems += [f"{exchange.id}: split at {wrong[:5]}"] if wrong else []
    assert not problems, report(problems)
    assert len(short) == SHORT_STREAMS[name]


@pytest.mark.parametrize("name", FILES)
def test_a_stream_gives_the_same_events_however_it_is_cut(name: str) -> None:
    problems = []
    found = streams(name)
    for exchange in found:
        expected = events_of(exchange, [exchange.body])
        problems += [
            f"{exchange.id}: in {len(pieces)} pieces"
            for pieces in sampled_pieces(exchange)
            if events_of(exchange, pieces) != expected
        ]
    assert not problems, report(problems)
    assert len(found) == STREAMS[name]


@pytest.mark.parametrize("name", FILES)
def test_a_stream_that_is_cut_off_is_interrupted(name: str) -> None:
    problems = []
    for exchange in streams(name):
        if exchange.id in WHOLE_IN_A_STREAM:
            continue
        end = exchange.body.rindex(b'"message_stop"')
        for at in (end, *Random(exchange.id).sample(range(1, end), CUTS)):
            try:
                events_of(exchange, [exchange.body[:at]])
            except StreamInterrupted:
                continue
            problems.append(f"{exchange.id}: cut off at {at}")
    assert not problems, report(problems)


# Errors, and the other operations


def test_every_error_has_its_class_and_the_providers_message() -> None:
    found: Counter[type[TrunklineError]] = Counter()
    problems = []
    for exchange in chats("anthropic"):
        if exchange.status == 200:
            continue
        error = PARSER.error(exchange.wire_response)
        assert isinstance(error, RemoteError)
        told = json.loads(exchange.body)
        wording = (kind for words, kind in ERRORS_BY_WORDING.items() if words in told["error"]["message"])
        kind = next(wording, ERRORS[exchange.status])
        expected_id = exchange.headers.get("request-id") or told.get("request_id")
        facts = type(error), error.message, error.code, error.status, error.request_id
        if facts != (kind, told["error"]["message"], told["error"]["type"], exchange.status, expected_id):
            problems.append(f"{exchange.id}: {facts}")
        found[type(error)] += 1
    assert not problems, report(problems)
    assert found == ERROR_COUNTS


def test_counts_and_lists_are_read() -> None:
    assert OPERATIONS.count_tokens is not None
    assert OPERATIONS.list_models is not None
    for exchange in recorded("anthropic"):
        if scope(exchange) == "token counting":
            told = json.loads(exchange.body)["input_tokens"]
            assert OPERATIONS.count_tokens.parse(CONTEXT, exchange.wire_response) == told
        elif scope(exchange) == "models":
            models, cursor = OPERATIONS.list_models.parse(CONTEXT, exchange.wire_response)
            assert (len(models), cursor) == (10, None)
            assert all(model.name and model.created for model in models)
