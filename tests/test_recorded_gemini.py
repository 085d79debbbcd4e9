"""Recorded traffic of Gemini: every answer at any split, beside what Google's own types find in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

from google.genai import types
from recordings import Exchange, cut, recorded, report
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.json import loads
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import RemoteError, StreamInterrupted
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason
from trunkline_gemini.parse import REASONS

METHODS = ("generateContent", "streamGenerateContent")
ANSWERS = 446
STREAMS = 221
ERRORS = 38
ARRAYS = 23
SIGNED = 152
CLASSES = {
    "400 AuthenticationError": 7,
    "400 BadRequest": 9,
    "403 PermissionDenied": 1,
    "404 NotFound": 19,
    "429 RateLimited": 2,
}
SHORT = 4096
"""The longest stream, in bytes, that is cut at every place."""
SPLITS = 10
CUTS = 10


@cache
def steps() -> Steps:
    provider = load_provider("gemini")
    settings = provider.settings(api_key="REDACTED")  # type: ignore[call-arg]
    return open_steps(provider, ServiceContext(name="recorded", provider="gemini", settings=settings))


def method(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path.rpartition(":")[2]


def chats() -> list[Exchange]:
    return [exchange for exchange in recorded("gemini") if method(exchange) in METHODS]


def is_array(exchange: Exchange) -> bool:
    """Without `alt=sse` a stream is a JSON array, which this provider never asks for."""
    return method(exchange) == "streamGenerateContent" and exchange.body.lstrip().startswith(b"[")


def answers() -> list[Exchange]:
    return [exchange for exchange in chats() if exchange.is_success and not is_array(exchange)]


def streams() -> list[Exchange]:
    return [exchange for exchange in answers() if exchange.body.startswith(b"data:")]


def events_of(pieces: Sequence[bytes]) -> list[Event]:
    decoder = StreamDecoder(*steps().parser.stream())
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.finish()]


@cache
def response_of(exchange_id: str) -> ChatResponse:
    exchange = next(exchange for exchange in answers() if exchange.id == exchange_id)
    if exchange.body.startswith(b"data:"):
        return fold(events_of(exchange.chunks), "gemini")
    return steps().parser.body(exchange.wire_response)


def test_every_exchange_is_an_answer_an_error_or_out_of_scope() -> None:
    counts = Counter(
        method(exchange) if method(exchange) not in METHODS
        else "array" if is_array(exchange)
        else "answer" if exchange.is_success
        else "error"
        for exchange in recorded("gemini")
    )  # fmt: skip
    assert (counts["answer"], counts["error"], counts["array"]) == (ANSWERS, ERRORS, ARRAYS)
    assert len(streams()) == STREAMS


def test_every_answer_is_read_with_the_recorded_finish_reason() -> None:
    problems = []
    for exchange in answers():
        response = response_of(exchange.id)
        expected = REASONS.get(response.raw_finish_reason or "", FinishReason.OTHER)
        if response.tool_calls and expected is FinishReason.STOP:
            expected = FinishReason.TOOL_CALLS
        told = exchange.finish_reasons or (response.raw_finish_reason,)
        if (response.finish_reason, response.raw_finish_reason) != (expected, told[0]):
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
        end = exchange.body.rindex(b'"finishReason"')
        random = Random(exchange.id)
        for at in {end, *(random.randrange(end) for _ in range(CUTS))}:
            try:
                events_of([exchange.body[:at]])
            except StreamInterrupted:
                continue
            problems.append(f"{exchange.id} at {at}")
    assert not problems, report(problems)


def test_every_recorded_error_has_its_class() -> None:
    found = Counter()
    for exchange in chats():
        if exchange.status >= 400:
            error = cast("RemoteError", steps().parser.error(exchange.wire_response))
            assert error.message
            assert error.status == exchange.status
            found[f"{error.status} {type(error).__name__}"] += 1
    assert found == CLASSES


def test_every_answer_can_be_sent_back_with_its_signatures() -> None:
    signed = 0
    for exchange in answers():
        response = response_of(exchange.id)
        request = ChatRequest(messages="hi", model="gemini-2.5-pro").with_messages(response.message)
        translation = steps().translator.translate(request, stream=False)
        assert not translation.warnings, exchange.id
        contents = loads(translation.wire_request.body)["contents"]
        told = sorted(signature for _, _, signature in parts_of(exchange) if signature)
        back = sorted(
            part["thoughtSignature"] for turn in contents for part in turn["parts"] if "thoughtSignature" in part
        )
        assert back == told, exchange.id
        signed += bool(told)
    assert signed == SIGNED


# Beside Google's own types


def chunks_of(exchange: Exchange) -> list[dict[str, Any]]:
    if not exchange.body.startswith(b"data:"):
        return [json.loads(exchange.body)]
    lines = exchange.body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


def parts_of(exchange: Exchange) -> list[tuple[str, str, str | None]]:
    """What Google's types find: each part's kind, its text, and its signature."""
    found = []
    for chunk in chunks_of(exchange):
        # Its numbers for enumerations are a proxy's.
        for candidate in chunk.get("candidates", ())[:1]:
            wire = (candidate.get("content") or {}).get("parts") or []
            # Some recordings have signatures that were replaced by a text that is not base64.
            plain = [{key: value for key, value in part.items() if key != "thoughtSignature"} for part in wire]
            for part, signature in zip(
                types.Content.model_validate({"parts": plain}).parts or (),
                (part.get("thoughtSignature") for part in wire),
                strict=True,
            ):
                if part.function_call is not None:
                    told = json.dumps([part.function_call.name, part.function_call.args or {}], sort_keys=True)
                    found.append(("call", told, signature))
                elif part.text is not None:
                    found.append(("thought" if part.thought else "text", part.text, signature))
                else:
                    found.append(("other", "", signature))
    return found


def usage_of(exchange: Exchange) -> tuple[int | None, ...]:
    told = [chunk["usageMetadata"] for chunk in chunks_of(exchange) if chunk.get("usageMetadata")]
    if not told:
        return (None,) * 4
    usage = types.GenerateContentResponseUsageMetadata.model_validate(
        {key: value for key, value in told[-1].items() if isinstance(value, int) and key != "trafficType"}
    )
    return (
        usage.prompt_token_count,
        usage.thoughts_token_count,
        usage.cached_content_token_count,
        usage.total_token_count,
    )


def test_every_answer_is_what_google_s_own_types_find() -> None:
    problems = []
    for exchange in answers():
        response, parts = response_of(exchange.id), parts_of(exchange)

        def joined(kind: str, parts: list[tuple[str, str, str | None]] = parts) -> str:
            return "".join(text for found, text, _ in parts if found == kind)

        calls = [json.dumps([call.name, call.arguments], sort_keys=True) for call in response.tool_calls]
        usage = response.usage
        ours = (response.text, response.reasoning, calls)
        theirs = (joined("text"), joined("thought"), [text for kind, text, _ in parts if kind == "call"])
        if ours != theirs:
            problems.append(f"{exchange.id}: {ours} is not {theirs}")
        raw = usage.raw if usage is not None else {}
        hosted = cast("int", raw.get("toolUsePromptTokenCount", 0))
        counted = (
            (
                usage.input_tokens and usage.input_tokens - hosted,
                usage.reasoning_tokens,
                usage.cache_read_tokens,
                usage.total_tokens,
            )
            if usage is not None
            else (None,) * 4
        )
        if counted != usage_of(exchange):
            problems.append(f"{exchange.id}: {counted} is not {usage_of(exchange)}")
    assert not problems, report(problems)
