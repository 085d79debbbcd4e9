"""What the property tests of the parsers share: strategies, and the checks that hold for every provider."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import attrs
import hypothesis.strategies as st
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import Parser, ResponseParser
from trunkline.authoring.wire import WireResponse
from trunkline.errors import RemoteError, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted
from trunkline.fold import fold
from trunkline.response import ChatResponse

texts: st.SearchStrategy[Any] = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
filled: st.SearchStrategy[Any] = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
wild: st.SearchStrategy[Any] = st.one_of(
    json_values, st.sampled_from([float("nan"), float("inf"), 10**400, "\ud800", [[]], {"": {}}])
)
"""Anything that a field may hold though it should not."""


def json_of(names: str, words: Sequence[object], max_leaves: int = 25) -> st.SearchStrategy[Any]:
    """JSON whose objects have these field names, separated by white space, and whose leaves are often these words."""
    fields = st.sampled_from(names.split())
    return st.recursive(
        st.none() | st.booleans() | st.integers(-2, 500) | st.floats() | st.sampled_from(words),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=5),
        max_leaves=max_leaves,
    )


def cut(draw: st.DrawFn, whole: Any, most: int = 3) -> list[Any]:
    """Cut a text, or bytes, at some places."""
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=most)))
    return [whole[start:end] for start, end in pairwise([0, *places, len(whole)])]


def decode(parser: ResponseParser, chunks: Iterable[bytes]) -> list[Event]:
    """The events of a stream that comes in these chunks."""
    decoder = StreamDecoder(*parser.stream())
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [*events, *decoder.finish()]


WHOLE = tuple(field.name for field in attrs.fields(ChatResponse) if field.eq)
SAME = ("parts", "tool_calls", "finish_reason", "raw_finish_reason", "usage")


def check_same(
    parser: ResponseParser, provider: str, whole: bytes, chunks: Sequence[bytes], same: Sequence[str] = SAME
) -> None:
    """Assert that a stream in these chunks has the events that it has in one piece, and folds to the whole answer.

    `same` are the fields of the response that both must have alike.
    """
    events = decode(parser, chunks)
    assert events == decode(parser, [b"".join(chunks)])
    kinds = [type(event) for event in events]
    assert (kinds[0], kinds.count(ResponseStarted)) == (ResponseStarted, 1)
    assert (kinds[-1], kinds.count(Finished)) == (Finished, 1)
    folded, response = fold(events, provider), parser.body(WireResponse(status=200, body=whole))
    assert {name: getattr(folded, name) for name in same} == {name: getattr(response, name) for name in same}
    # Metadata take no part in comparing parts.
    metadata = [[getattr(part, "provider_metadata", None) for part in one.parts] for one in (folded, response)]
    assert metadata[0] == metadata[1]


def check_cut_off(parser: ResponseParser, beginning: bytes) -> None:
    """Assert that the beginning of a stream is no success."""
    try:
        events = decode(parser, [beginning])
    except RemoteError:
        return
    raise AssertionError(f"a success: {events[-1]}")


def check_frames(parser: Parser[Any], frames: Iterable[Any]) -> None:
    """Assert that arbitrary frames raise only our errors, and give events in their order, which fold."""
    events: list[Event] = []
    try:
        for frame in frames:
            events += parser.feed(frame)
            if events and type(events[-1]) is Finished:
                break
        else:
            events += parser.finish()
    except TrunklineError:
        pass
    kinds = [type(event) for event in events]
    assert not kinds or (kinds[0], kinds.count(ResponseStarted)) == (ResponseStarted, 1)
    if Finished in kinds:
        assert kinds.index(Finished) == len(kinds) - 1
        fold(events)


def check_stream(parser: ResponseParser, provider: str, data: bytes) -> None:
    """Assert that arbitrary bytes of a stream raise only our errors, and else give a response."""
    with contextlib.suppress(RemoteError):
        fold(decode(parser, [data]), provider)


def check_body(read: Callable[[WireResponse], object], body: bytes) -> None:
    """Assert that an arbitrary body raises only our errors."""
    with contextlib.suppress(TrunklineError):
        read(WireResponse(status=200, body=body))


def check_error(parser: ResponseParser, body: bytes, status: int = 500, **headers: str) -> None:
    """Assert that an arbitrary body of an error makes an error with a message."""
    error = parser.error(WireResponse(status=status, headers=headers, body=body))
    assert isinstance(error, RemoteError)
    assert str(error)
