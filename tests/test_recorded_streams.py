"""Recorded streams, cut into pieces anywhere, and cut off before their end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from recorded_counts import assert_counts
from recordings import (
    CHAT,
    PROVIDERS,
    Exchange,
    chats,
    cut,
    events_of,
    profile_name,
    report,
    successful_streams,
)
from splits import SHORT, cut_at_every_place, sampled_places
from trunkline.errors import StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline_openai.profile import PROFILES

EVERY_SPLIT = 4
"""How many short streams of each provider are cut at every place."""

SPLITS = 6
CUTS = 8

_LINE = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)
_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_TERMINALS = ("response.completed", "response.incomplete", "response.failed")


def short_and_long(provider: str) -> tuple[list[Exchange], list[Exchange]]:
    streams = successful_streams(provider)
    return (
        [exchange for exchange in streams if len(exchange.body) <= SHORT],
        [exchange for exchange in streams if len(exchange.body) > SHORT],
    )


def random_for(exchange: Exchange) -> Random:
    return Random(exchange.id)


def halves(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((body[:at], body[at:]) for at in range(1, len(body)))


def bytes_of(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def sampled_pieces(exchange: Exchange) -> Iterator[list[bytes]]:
    """The body as it was read, in halves at some places, in small pieces, and in pieces of a network's size."""
    body, random = exchange.body, random_for(exchange)
    yield exchange.chunks
    for at in sampled_places(body, random, SPLITS):
        yield [body[:at], body[at:]]
    yield list(cut(body, [random.randint(1, 40) for _ in range(len(body) // 20)]))
    yield list(cut(body, [random.randint(1, 1500) for _ in range(len(body) // 700)]))


def outcome(exchange: Exchange, pieces: Sequence[bytes]) -> list[Event] | str:
    """The events, or the error."""
    try:
        return events_of(exchange, pieces)
    except TrunklineError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.timeout(900)  # with --exhaustive, it takes minutes
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_short_stream_gives_the_same_events_however_it_is_split(provider: str, exhaustive: bool) -> None:
    short, _ = short_and_long(provider)
    every_split = cut_at_every_place(short, None if exhaustive else EVERY_SPLIT)
    problems = []
    for exchange in short:
        events = events_of(exchange, [exchange.body])
        problems += [
            f"{exchange.id}: in {len(pieces)} pieces, the first of {len(pieces[0])} bytes"
            for pieces in (bytes_of(exchange.body), *sampled_pieces(exchange))
            if outcome(exchange, pieces) != events
        ]
        if exchange.id in every_split:
            differ = [len(pair[0]) for pair in halves(exchange.body) if outcome(exchange, pair) != events]
            if differ:
                problems.append(f"{exchange.id}: split at {differ[:5]}")
    assert not problems, report(problems)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_long_stream_gives_the_same_events_as_it_was_read_and_at_sampled_splits(provider: str) -> None:
    short, long = short_and_long(provider)
    problems = []
    for exchange in long:
        events = events_of(exchange, [exchange.body])
        problems += [
            f"{exchange.id}: in {len(pieces)} pieces, the first of {len(pieces[0])} bytes"
            for pieces in sampled_pieces(exchange)
            if outcome(exchange, pieces) != events
        ]
    assert not problems, report(problems)
    assert_counts(f"streams/{provider}", short=len(short), long=len(long))


@pytest.mark.parametrize("provider", ["groq", "openrouter", "openai-responses"])
def test_a_stream_that_tells_of_an_error_gives_the_same_error_however_it_is_split(provider: str) -> None:
    streams = [exchange for exchange in chats(provider) if "mid-stream-error" in exchange.tags]
    assert streams
    for exchange in streams:
        error = outcome(exchange, [exchange.body])
        assert isinstance(error, str)
        assert {str(outcome(exchange, pieces)) for pieces in sampled_pieces(exchange)} == {error}
        assert outcome(exchange, bytes_of(exchange.body)) == error


def complete_at(exchange: Exchange) -> int:
    """The least number of bytes that make the stream complete: the end of its terminator, without a line ending."""
    suffices = exchange.scope == CHAT and PROFILES[profile_name(exchange)].finish_reason_suffices
    for line in _LINE.finditer(exchange.body):
        data = line[1]
        if exchange.scope != CHAT:
            ends = data.startswith(b"{") and json.loads(data).get("type") in _TERMINALS
        else:
            ends = data.strip() == b"[DONE]" or (suffices and _REASON.search(data))
        if ends:
            return line.end(1) if exchange.scope != CHAT or suffices else line.start(1) + len(b"[DONE]")
    raise AssertionError(f"{exchange.id} has no terminator")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_cut_off_before_its_terminator_is_never_a_success(provider: str) -> None:
    problems = []
    for exchange in successful_streams(provider):
        end = complete_at(exchange)
        for at in {0, end - 1, end - 2, *random_for(exchange).sample(range(end), CUTS)}:
            try:
                events_of(exchange, [exchange.body[:at]])
            except StreamInterrupted:
                continue
            except TrunklineError as error:
                problems.append(f"{exchange.id}: {type(error).__name__} after {at} of {end} bytes: {error}")
            else:
                problems.append(f"{exchange.id}: a success after {at} of {end} bytes")
        # Where a finish reason suffices, usage may follow it.
        enough, everything = fold(events_of(exchange, [exchange.body[:end]])), fold(events_of(exchange))
        if (enough.parts, enough.finish_reason) != (everything.parts, everything.finish_reason):
            problems.append(f"{exchange.id}: not complete after its terminator, {end} bytes")
    assert not problems, report(problems)
