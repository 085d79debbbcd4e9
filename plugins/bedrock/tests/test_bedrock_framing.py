"""The AWS event stream: any split, and every way to break it."""

import random
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer, ParserError
from hypothesis import given, strategies as st
from trunkline.errors import ProtocolViolation
from trunkline_bedrock.framing import BrokenFrame, EventStreamFrame, EventStreamFramer

Encode = Callable[..., bytes]


def frames_of(data: bytes, *places: int) -> list[EventStreamFrame]:
    framer = EventStreamFramer()
    edges = [0, *sorted(places), len(data)]
    found: list[EventStreamFrame] = []
    for at, end in pairwise(edges):
        found += framer.feed(data[at:end])
        if found and isinstance(found[-1], BrokenFrame):
            raise ProtocolViolation(found[-1].message)
    return [*found, *framer.finish()]


@pytest.fixture
def stream(event: Encode) -> bytes:
    return (
        event("messageStart", {"role": "assistant"})
        + event("contentBlockDelta", {"delta": {"text": "é{"}})
        + event("throttlingException", {"message": "slow"}, "exception")
        + event("InternalError", "broken", "error")
        + event("empty", b"")
    )


EXPECTED = [
    ("event", "messageStart", b'{"role": "assistant"}', ""),
    ("event", "contentBlockDelta", b'{"delta": {"text": "\\u00e9{"}}', ""),
    ("exception", "throttlingException", b'{"message": "slow"}', ""),
    ("error", "InternalError", b"", "broken"),
    ("event", "empty", b"", ""),
]


def test_every_split_gives_the_same_messages(stream: bytes) -> None:
    for place in range(len(stream) + 1):
        assert frames_of(stream, place) == EXPECTED
    assert frames_of(stream, *range(len(stream))) == EXPECTED


def test_a_stream_cut_anywhere_but_between_messages_is_a_violation(stream: bytes) -> None:
    ends = {0}
    at = 0
    while at < len(stream):
        at += struct.unpack("!I", stream[at : at + 4])[0]
        ends.add(at)
    for place in range(len(stream)):
        if place in ends:
            frames_of(stream[:place])
        else:
            with pytest.raises(ProtocolViolation):
                frames_of(stream[:place])


def prelude(total: int, headers: int) -> bytes:
    head = struct.pack("!II", total, headers)
    return head + struct.pack("!I", crc32(head))


@pytest.mark.parametrize(
    "data",
    [
        prelude(0, 0) + b"0000",
        prelude(12, 0) + b"0000",
        prelude(4, 0) + b"0000",
        prelude(16, 100) + b"\0" * 4,
        prelude(2**32 - 1, 0),
        prelude(200, 2**31) + b"x" * 200,
        b"\0" * 64,
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_lengths_that_cannot_be_are_refused_at_once(data: bytes) -> None:
    [frame] = EventStreamFramer().feed(data)
    assert isinstance(frame, BrokenFrame)


@pytest.mark.parametrize("packed", [b"\x05abcd", b"\x01a\x63", b"\x01\xff\x07\0\0", b"\x01a\0\x01a\0", b"\0"])
def test_broken_headers_are_a_violation(packed: bytes) -> None:
    head = prelude(len(packed) + 16, len(packed)) + packed
    [frame] = EventStreamFramer().feed(head + struct.pack("!I", crc32(head)))
    assert isinstance(frame, BrokenFrame)
    assert "headers" in frame.message


def test_messages_before_a_broken_one_in_the_same_read_are_returned(event: Encode) -> None:
    whole = event("contentBlockDelta", {"delta": {"text": "é{"}})
    frames = EventStreamFramer().feed(whole + whole[:-1] + b"?")
    assert [type(frame) for frame in frames] == [EventStreamFrame, BrokenFrame]
    assert "checksum" in frames[1].message


def test_headers_of_other_types_are_read() -> None:
    values = {
        "true": b"\x00",
        "false": b"\x01",
        "byte": b"\x02\x07",
        "short": b"\x03\0\x07",
        "integer": b"\x04\0\0\0\x07",
        "long": b"\x05" + bytes(8),
        "bytes": b"\x06\0\x01x",
        "time": b"\x08" + bytes(8),
        "uuid": b"\x09" + bytes(16),
        ":event-type": b"\x07\0\x01a",
    }
    packed = b"".join(bytes([len(name)]) + name.encode() + value for name, value in values.items())
    head = prelude(len(packed) + 16, len(packed)) + packed
    assert frames_of(head + struct.pack("!I", crc32(head))) == [("event", "a", b"", "")]


@pytest.mark.parametrize("data", [b'{"message": "no"}', b"  [1]", b"<html>", b"\n" * 40 + b"{}"])
def test_text_in_place_of_a_stream_waits_for_the_end_of_the_file(data: bytes) -> None:
    framer = EventStreamFramer()
    for byte in data:
        assert framer.feed(bytes([byte])) == []
    with pytest.raises(ProtocolViolation):
        framer.finish()


@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_garbage_before_text_is_a_violation_however_it_is_cut(size: int) -> None:
    data = b"\f" * 40 + b"{}"
    with pytest.raises(ProtocolViolation, match="checksum"):
        frames_of(data, *range(size, len(data), size))


def test_a_long_message_in_small_reads_comes_whole(event: Encode) -> None:
    data = event("x", b"a" * 200_000)
    framer = EventStreamFramer()
    [frame] = [found for at in range(0, len(data), 64) for found in framer.feed(data[at : at + 64])]
    assert frame.data == b"a" * 200_000


class Counted(bytes):
    """Bytes that count how many of them are copied by slicing or joining to others."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            Counted.copied += len(found)
            return Counted(found)
        return found

    def __radd__(self, other: bytes) -> bytes:
        Counted.copied += len(other) + len(self)
        return Counted(other.__add__(self))

    def __add__(self, other: bytes) -> bytes:
        Counted.copied += len(other) + len(self)
        return Counted(super().__add__(other))


@pytest.mark.parametrize("read", [1, 7, 64, 4096])
def test_bytes_are_copied_a_bounded_number_of_times_however_they_come(read: int, event: Encode) -> None:
    data = b"".join(event("x", b"a" * size) for size in (0, 3, 500, 20_000)) * 4
    framer, Counted.copied = EventStreamFramer(), 0
    reads = [Counted(data[at : at + read]) for at in range(0, len(data), read)]
    assert sum(len(framer.feed(piece)) for piece in reads) == 16
    assert Counted.copied < 4 * len(data)


HEADERS = st.dictionaries(
    st.sampled_from([":message-type", ":event-type", ":exception-type", ":error-code", ":error-message", "other", "é"]),
    st.one_of(
        st.sampled_from([b"\x00", b"\x01", b"\x02\x07", b"\x03\0\x07", b"\x04" + bytes(4), b"\x05" + bytes(8)]),
        st.sampled_from([b"\x08" + bytes(8), b"\x09" + bytes(16), b"\x0a"]),
        st.tuples(
            st.sampled_from([b"\x06", b"\x07"]),
            st.one_of(st.sampled_from([b"event", b"exception", b"error"]), st.binary()),
        ).map(lambda pair: pair[0] + struct.pack("!H", len(pair[1])) + pair[1]),
    ),
)


def by_botocore(data: bytes) -> list[EventStreamFrame] | None:
    buffer, found = EventStreamBuffer(), []
    buffer.add_data(data)
    try:
        for message in buffer:
            headers = {name: value for name, value in message.headers.items() if isinstance(value, str)}
            kind = headers.get(":message-type", "event")
            names = {"error": ":error-code", "exception": ":exception-type"}
            name = headers.get(names.get(kind, ":event-type"), "")
            text = headers.get(":error-message", "") if kind == "error" else ""
            found.append(EventStreamFrame(kind, name, message.payload, text))
    except (ParserError, ValueError, KeyError, struct.error):
        return None
    return found


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=50)), max_size=4), st.data())
def test_messages_are_those_that_botocore_reads(messages: list[tuple[dict[str, bytes], bytes]], draw: Any) -> None:
    data = b""
    for headers, payload in messages:
        packed = b"".join(bytes([len(name.encode())]) + name.encode() + value for name, value in headers.items())
        message = prelude(16 + len(packed) + len(payload), len(packed)) + packed + payload
        data += message + struct.pack("!I", crc32(message))
    places = draw.draw(st.lists(st.integers(0, len(data)), max_size=5))
    expected = by_botocore(data)
    if expected is None:
        with pytest.raises(ProtocolViolation):
            frames_of(data, *places)
    else:
        assert frames_of(data, *places) == expected


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_raise_anything_else(chunks: list[bytes]) -> None:
    framer = EventStreamFramer()
    try:
        for chunk in chunks:
            framer.feed(chunk)
        framer.finish()
    except ProtocolViolation:
        pass


def test_no_mutation_of_a_stream_raises_anything_else(stream: bytes) -> None:
    dice = random.Random(1)
    for _ in range(500):
        broken: Any = bytearray(stream)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        try:
            frames_of(bytes(broken), dice.randrange(len(broken)))
        except ProtocolViolation:
            continue
