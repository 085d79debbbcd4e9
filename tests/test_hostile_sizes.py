"""Time and memory stay in proportion to what comes. Steps and bytes are counted, and nothing is timed.

For each parser of the installed providers, each event of our own streams is repeated, with its numbers, its names or
its fields different each time; twice as many events may cost twice as many steps, and no more.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fuzz_mutation import Raw, read_messages, read_sse, write_messages, write_sse, written
from fuzz_targets import Target, decoded, parsers, targets
from trunkline import ChatRequest, assistant, open_service, user
from trunkline._calls.token_limits import Conversation
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import BodyFramer, JSONLinesFramer, SSEFramer, SSEOrJSONFramer
from trunkline.authoring.http_errors import retry_after
from trunkline.authoring.provider import Framer, ResponseParser
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError
from trunkline.events import UsageReported
from trunkline.fold import Fold
from trunkline.testing import Exchange, serve

SEEDS = Path(__file__).parent / "fuzz" / "seeds"
PARSERS = {name: parser for name, _, _, parser in parsers()}
BY_TYPE = {type(parser.stream()[1]): name for name, parser in PARSERS.items()}
"""One parser of each type, by name: variants share their code."""
FRAMERS: tuple[Callable[[], Framer[Any]], ...] = (SSEFramer, SSEOrJSONFramer, JSONLinesFramer, BodyFramer)
MANY = 100
"""How often an event is repeated, and then twice as often: enough for a square to stand out."""


def of_each_type(cases: Mapping[str, Any], name: Callable[[str], str] = str) -> list[Any]:
    """The cases as parameters, by the `name` of their parser. By default one parser of each type runs."""
    types = {(type(parser), type(parser.stream()[1])): key for key, parser in PARSERS.items()}
    repeated = PARSERS.keys() - set(types.values())
    marks = {key: (pytest.mark.exhaustive,) if name(key) in repeated else () for key in cases}
    return [pytest.param(case, id=key, marks=marks[key]) for key, case in cases.items()]


def steps(work: Callable[[], object]) -> int:
    """The lines of Python that some work runs, in all packages."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


# Variations of an event: what a server could repeat without end


def _same(tree: Any, number: int) -> Any:
    return tree


def _numbered(tree: Any, number: int) -> Any:
    if isinstance(tree, dict):
        return {key: _numbered(value, number) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_numbered(item, number) for item in tree]
    return number if type(tree) is int else tree


def _named(tree: Any, number: int) -> Any:
    if isinstance(tree, dict):
        return {
            key: f"{value}{number}" if isinstance(value, str) and key.lower().endswith("id") else _named(value, number)
            for key, value in tree.items()
        }
    return [_named(item, number) for item in tree] if isinstance(tree, list) else tree


def _widened(tree: Any, number: int) -> Any:
    if isinstance(tree, dict):
        return {**{key: _widened(value, number) for key, value in tree.items()}, f"new{number}": number}
    return [_widened(item, number) for item in tree] if isinstance(tree, list) else tree


def _both(tree: Any, number: int) -> Any:
    return _named(_numbered(tree, number), number)


VARIATIONS = (_same, _widened, _both)


def shape(tree: Any) -> object:
    """The fields of an event, with its type but without its other values."""
    if isinstance(tree, dict):
        return frozenset((key, value if key == "type" else shape(value)) for key, value in tree.items())
    return tuple(map(shape, tree)) if isinstance(tree, list) else type(tree)


def read_lines(data: bytes) -> list[tuple[bytes, Any]]:
    """The events of a stream of JSON lines; they have no names."""
    return [(b"", json.loads(line)) for line in data.splitlines()]


def write_lines(events: list[tuple[bytes, Any]]) -> bytes:
    """The events as bytes."""
    return b"".join(written(tree) + b"\n" for _, tree in events)


def grown(data: bytes, times: int, seen: set[object] | None) -> Iterator[bytes]:
    """The stream with each of its events repeated that many times, once for each variation.

    With `seen`, an event with the same fields as one before, in this stream or in those seen, is not repeated.
    """
    events: list[tuple[Any, Any]]
    write: Callable[[list[Any]], bytes]
    if messages := read_messages(data):
        events, write = messages, write_messages
    elif sent := read_sse(data):
        events, write = sent, write_sse
    else:
        events, write = read_lines(data), write_lines
    for at, (name, tree) in enumerate(events):
        if isinstance(tree, Raw):
            continue
        if seen is not None:
            kind = repr(name), shape(tree)
            if kind in seen:
                continue
            seen.add(kind)
        for variation in VARIATIONS:
            repeated = [(name, variation(tree, number)) for number in range(times)]
            yield write([*events[: at + 1], *repeated, *events[at + 1 :]])


@cache
def spoken(name: str) -> tuple[bytes, ...]:
    """The seeds in the wire format of a parser."""
    streams = [path.read_bytes() for path in sorted((SEEDS / "streams").iterdir())]
    return tuple(data for data in streams if len(decoded(PARSERS[name], iter([data])).events) > 3)


@pytest.mark.parametrize("name", BY_TYPE.values())
def test_twice_as_many_events_cost_twice_the_steps(name: str, exhaustive: bool) -> None:
    parser = PARSERS[name]

    def read(data: bytes) -> None:
        folded = Fold()
        for event in decoded(parser, iter([data])).events:
            folded.add(event)
        folded.response()

    tried = 0
    seen: tuple[set[object] | None, set[object] | None] = (None, None) if exhaustive else (set(), set())
    for data in spoken(name):
        for small, large in zip(grown(data, MANY, seen[0]), grown(data, 2 * MANY, seen[1]), strict=True):
            fewer = steps(lambda small=small: read(small))  # type: ignore[misc]
            more = steps(lambda large=large: read(large))  # type: ignore[misc]
            assert more < 2.3 * fewer, (fewer, more, small[:2000])
            tried += 1
    assert tried


# Framers


def framed(framer: Framer[Any], data: bytes, size: int) -> int:
    """How many frames come of data in reads of this size."""
    found = sum(len(list(framer.feed(data[at : at + size]))) for at in range(0, len(data), size))
    return found + len(list(framer.finish()))


@pytest.mark.parametrize("make", FRAMERS)
@pytest.mark.parametrize("start", [b"data: ", b"{", b"\n{", b": ", b""])
def test_a_line_in_small_reads_takes_little_memory_beyond_its_size(
    make: Callable[[], Framer[Any]], start: bytes
) -> None:
    data = start + b"ab" * 10_000
    tracemalloc.start()
    try:
        framed(make(), data, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(data)


@pytest.mark.parametrize("make", FRAMERS)
@pytest.mark.parametrize(
    "unit", [b"data:x\n", b"data\n", b"{}\n", b'{"a":"\\""}\r', b"x\n", b"data: x\n\n", b"\r", b"event:x\n"]
)
def test_many_lines_in_reads_that_end_within_them_cost_linear_steps(
    make: Callable[[], Framer[Any]], unit: bytes
) -> None:
    fewer = steps(lambda: framed(make(), unit * 500, 1))
    more = steps(lambda: framed(make(), unit * 1000, 1))
    assert more < 2.3 * fewer
    at_once = steps(lambda: framed(make(), unit * 1000, 1_000_000))
    assert at_once <= more


def test_an_event_of_many_lines_costs_linear_time() -> None:
    """Some ten minutes where each read looks at all lines so far: the test's own timeout would end it."""
    framer = SSEFramer()
    for _ in range(200_000):
        assert not framer.feed(b"x\ndata:")
    [frame] = [*framer.feed(b"\n\n"), *framer.finish()]
    assert len(frame.data) == 199_999 * 2


def test_empty_lines_of_data_reach_the_limit_of_an_event() -> None:
    decoder = StreamDecoder(*PARSERS["openai"].stream(), frame_limit=10_000)
    with pytest.raises(ProtocolViolation, match="10000 bytes"):
        for _ in range(10_000):
            decoder.feed(b"data:\n")


def test_a_brace_that_is_never_closed_keeps_no_more_than_four_mebibytes() -> None:
    framer = SSEOrJSONFramer()
    for _ in range(100):
        framer.feed(b"{" + b"a" * 100_000 + b"\n")
    [frame] = framer.finish()
    assert (frame.event, len(frame.data)) == ("bare", 4 * 1024 * 1024)


def test_many_turns_over_the_input_limit_cost_linear_steps() -> None:
    def cost(turns: int) -> int:
        request = ChatRequest(messages=[message for _ in range(turns) for message in (user("a"), assistant("b"))])
        return steps(lambda: Conversation(request).fit(100))

    assert cost(2000) < 2.3 * cost(1000)


# Texts of a size at which a square would end with the test's timeout


def test_too_long_retry_after_value_is_ignored() -> None:
    for text in ("1" * 200_000, "1m" * 100_000, " " * 200_000, "Wed, " * 50_000):
        assert retry_after({"retry-after": text}) is None


@pytest.mark.parametrize("parser", of_each_type(PARSERS))
@pytest.mark.parametrize(
    "unit", ["<title", "<title ", " ", "\\n", "maximum context ", "1", ".", "The Canonical ", "[", "/"]
)
def test_long_error_message_is_shortened(parser: ResponseParser, unit: str) -> None:
    text = unit * (200_000 // len(unit))
    bodies = (
        f"<html>{text}",
        text,
        json.dumps({"message": text}),
        json.dumps({"error": {"message": text, "type": text}}),
    )
    for body in bodies:
        error = parser.error(WireResponse(status=500, body=body.encode()))
        assert isinstance(error, RemoteError)
        assert 0 < len(error.message) < 2_000


HUGE = {
    "digits": b"9" * 300_000,
    "fraction": b"0." + b"3" * 300_000,
    "exponent": b"1e999999999",
    "lists": b"[" * 30_000 + b"]" * 30_000,
    "objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "deep": b"[" * 900 + b"]" * 900,
    "surrogate": b'"\\ud800"',
    "bytes of a surrogate": b'"\xed\xa0\x80"',
    "null": b'"\\u0000"',
    "doubled key": b'{"a":1,"a":' + b"9" * 4_000 + b"}",
    "not a number": b"NaN",
    "utf-16": '{"a":1}'.encode("utf-16"),
}
"""JSON texts that Python reads in its own way, or not at all."""
READERS = {name: target for name, target in targets().items() if target.kind in ("answers", "streams", "stored")}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
@pytest.mark.parametrize("target", of_each_type(READERS, lambda name: name.partition("-")[2]))
def test_json_that_python_cannot_read_raises_our_errors_alone(target: Target, value: bytes) -> None:
    target.run(value)
    for name in ("choices", "usage", "error", "message"):
        body = b'{"%s":%s}' % (name.encode(), value)
        target.run(body)
        if len(body) < 10_000:
            target.run(b"data: " + body + b"\n\n")


# Whole calls


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.anyio
async def test_an_error_that_is_nested_too_deeply_to_be_shown_is_ours() -> None:
    async def handler(exchange: Exchange) -> None:
        depth = 900
        await exchange.respond(b'{"error":{"message":"m","x":' + b"[" * depth + b"]" * depth + b"}}", status=400)

    async with serve(handler) as server:
        async with open_service("openai-compatible", api_url=server.url, default_model="m") as service:
            with pytest.raises(RemoteError):
                await service.chat("hi")


@pytest.mark.anyio
async def test_last_of_many_usage_reports_wins() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers={"content-type": "text/event-stream"})
        reports = [b'data: {"choices":[],"usage":{"prompt_tokens":%d}}\n\n' % number for number in range(1, 3001)]
        for at in range(0, len(reports), 100):
            await exchange.chunk(b"".join(reports[at : at + 100]))
        await exchange.chunk(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n')
        await exchange.end()

    async with serve(handler) as server:
        async with open_service("openai-compatible", api_url=server.url, default_model="m") as service:
            async with service.stream("hi") as stream:
                events = [event async for event in stream]
    reported = [event.usage.input_tokens for event in events if isinstance(event, UsageReported)]
    assert reported == [3000]
