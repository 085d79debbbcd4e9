"""Framers: the same frames at every split, and nothing but our errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import (
    BARE,
    COMMENT,
    BodyFramer,
    JSONLinesFramer,
    SSEFrame,
    SSEFramer,
    SSEOrJSONFramer,
)
from trunkline.errors import ProtocolViolation
from trunkline.events import Event


def frames(data: bytes, *cuts: int) -> list[SSEFrame]:
    framer, found, start = SSEFramer(), [], 0
    for cut in (*sorted(cuts), len(data)):
        found += framer.feed(data[start:cut])
        start = cut
    return found + framer.finish()


CASES = [
    ("one event", b"data: a\n\n", [("a", "message")]),
    ("no space after the colon", b"data:a\n\n", [("a", "message")]),
    ("only one space is taken off", b"data:  a\n\n", [(" a", "message")]),
    ("CR line ends", b"data: a\r\rdata: b\r\r", [("a", "message"), ("b", "message")]),
    ("CRLF line ends", b"data: a\r\n\r\ndata: b\r\n\r\n", [("a", "message"), ("b", "message")]),
    ("mixed line ends", b"data: a\n\r\ndata: b\r\n\n", [("a", "message"), ("b", "message")]),
    ("several data lines", b"data: a\ndata\ndata: b\n\n", [("a\n\nb", "message")]),
    ("an event type", b"event: x\ndata: a\n\ndata: b\n\n", [("a", "x"), ("b", "message")]),
    ("a type without data is no event", b"event: x\n\ndata: b\n\n", [("b", "message")]),
    ("comments", b": ping\n\n:\ndata: a\n: more\n\n", [("a", "message")]),
    ("id and retry", b"id: 1\nretry: 3\ndata: a\n\n", [("a", "message")]),
    ("an unknown field", b"dat: x\ndatax: y\ndata: a\n\n", [("a", "message")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: a\n\n", [("a", "message")]),
    ("an empty event", b"data:\n\n", [("", "message")]),
    ("UTF-8", "data: ø€😀\n\n".encode(), [("ø€😀", "message")]),
    ("the last event without its blank line", b"data: a\n\ndata: [DONE]", [("a", "message"), ("[DONE]", "message")]),
    ("nothing", b"", []),
]


@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_events_are_the_same_at_every_split(data: bytes, expected: list[tuple[str, str]]) -> None:
    wanted = [SSEFrame(text.encode(), event) for text, event in expected]
    assert frames(data) == wanted
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert frames(data, first, second) == wanted
    assert frames(data, *range(len(data))) == wanted


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'error: {"code":400}\n\ndata: a\n\n', [SSEFrame(b'{"code":400}', "error"), SSEFrame(b"a")]),
        (b"data: a\n\nerror:b\n\n", [SSEFrame(b"a"), SSEFrame(b"b", "error")]),
        (
            b"id:1\nevent:error\n:HTTP_STATUS/429\ndata:a\n\ndata: b\n\n",
            [SSEFrame(b"a", "error", 429), SSEFrame(b"b")],
        ),
        (b":HTTP_STATUS/200\ndata:a\n\n:HTTP_STATUS/x\ndata:b\n\n", [SSEFrame(b"a", "message", 200), SSEFrame(b"b")]),
        (b":HTTP_STATUS/500\n\ndata: a\n\n", [SSEFrame(b"a")]),
    ],
)
def test_an_error_in_a_field_or_a_comment_is_part_of_the_event(data: bytes, expected: list[SSEFrame]) -> None:
    assert frames(data) == expected
    for first in range(len(data) + 1):
        assert frames(data, first) == expected


COMMENTS = [
    ("none", b"data: a\n\n", [("a", "message")]),
    ("alone", b": ping\n\n:\n\n", [("ping", COMMENT), ("", COMMENT)]),
    (
        "in an event",
        b"event: x\n:one\ndata: a\n:  two\n\ndata: b\n\n",
        [("one\n two", COMMENT), ("a", "x"), ("b", "message")],
    ),
    ("a status", b":HTTP_STATUS/429\ndata: a\n\n", [("HTTP_STATUS/429", COMMENT), ("a", "message")]),
    ("before an event without a type", b"event:\n:c\ndata: a\n\n", [("c", COMMENT), ("a", "message")]),
    ("between events", b"data: a\n\n: c\r\n\r\ndata: b\n\n", [("a", "message"), ("c", COMMENT), ("b", "message")]),
    ("without its blank line", b"data: a\n\n: c", [("a", "message"), ("c", COMMENT)]),
]


@pytest.mark.parametrize("make", [SSEFramer, SSEOrJSONFramer])
@pytest.mark.parametrize(("data", "expected"), [case[1:] for case in COMMENTS], ids=[case[0] for case in COMMENTS])
def test_comments_are_frames_for_a_framer_that_is_asked_for_them(
    make: Callable[..., SSEFramer | SSEOrJSONFramer], data: bytes, expected: list[tuple[str, str]]
) -> None:
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            framer = make(comments=True)
            found = [*framer.feed(data[:first]), *framer.feed(data[first:second]), *framer.feed(data[second:])]
            found += framer.finish()
            assert [(frame.data.decode(), frame.event) for frame in found] == expected


def test_comment_does_not_hide_that_its_event_is_too_large() -> None:
    class NoEvents:
        def feed(self, frame: SSEFrame) -> list[Event]:
            return []

        def finish(self) -> list[Event]:
            return []

    decoder = StreamDecoder(SSEFramer(comments=True), NoEvents(), frame_limit=1000)
    with pytest.raises(ProtocolViolation, match="frame_limit"):
        for _ in range(200):
            decoder.feed(b"data: 0123456789\n: c\n")


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_any_bytes_give_the_same_events_at_any_split(data: bytes, cuts: list[int]) -> None:
    assert frames(data, *(min(cut, len(data)) for cut in cuts)) == frames(data)


@given(
    st.lists(st.sampled_from([b"data: x", b"\n", b"\r", b"\r\n", b": c", b"event: e", b"\xef\xbb\xbf", b"data"])),
    st.data(),
)
def test_any_lines_give_the_same_events_at_any_split(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(whole))))
    assert frames(whole, *cuts) == frames(whole)


BARE_ERROR = b'{"error": {\n"message": "busy"}}'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (BARE_ERROR, [(BARE_ERROR, BARE)]),
        (b"data: a\n\n" + BARE_ERROR + b"\n", [(b"a", "message"), (BARE_ERROR + b"\n", BARE)]),
        (b'data: {"a":\ndata: 1}\n\n', [(b'{"a":\n1}', "message")]),
        (b"data: a\n\n{cut", [(b"a", "message"), (b"{cut", BARE)]),
    ],
)
def test_bare_json_object_between_events_is_a_frame(data: bytes, expected: list[tuple[bytes, str]]) -> None:
    for cut in range(len(data) + 1):
        framer = SSEOrJSONFramer()
        found = framer.feed(data[:cut]) + framer.feed(data[cut:]) + framer.finish()
        assert [(frame.data.strip(), frame.event) for frame in found] == [
            (text.strip(), event) for text, event in expected
        ]


def lines(data: bytes, *cuts: int) -> list[bytes]:
    framer, found, start = JSONLinesFramer(), [], 0
    for cut in (*sorted(cuts), len(data)):
        found += framer.feed(data[start:cut])
        start = cut
    return found + framer.finish()


def test_json_lines_are_the_same_at_every_split() -> None:
    data = '{"a":"ø"}\r\n\n {"b":1} \n{"c":2}'.encode()
    wanted = ['{"a":"ø"}'.encode(), b'{"b":1}', b'{"c":2}']
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            assert lines(data, first, second) == wanted


def test_a_body_is_one_frame_at_the_end() -> None:
    framer = BodyFramer()
    assert framer.feed(b"ab") + framer.feed(b"cd") + framer.finish() == [b"abcd"]
    assert BodyFramer().finish() == []


BARE_FIRST = b'data: 1\n\n{"error":\n {"message":"}"}}\ndata: 2\n\n{no json}\n{"b":1}{"c":2}\ndata: 3\n\n{"open'


def test_bare_objects_keep_their_place_at_any_split() -> None:
    expected = [
        SSEFrame(b"1"),
        SSEFrame(b'{"error":\n {"message":"}"}}', BARE),
        SSEFrame(b"2"),
        SSEFrame(b'{"b":1}', BARE),
        SSEFrame(b'{"c":2}', BARE),
        SSEFrame(b"3"),
        SSEFrame(b"{no json}", BARE),
    ]
    for size in (1, 2, 3, 7, len(BARE_FIRST)):
        framer = SSEOrJSONFramer()
        found = [frame for at in range(0, len(BARE_FIRST), size) for frame in framer.feed(BARE_FIRST[at : at + size])]
        assert [*found, *framer.finish()] == expected


ONE, TWO = b'{"a": "]},{", "b": [1, {}]}', b'{"c": 2}'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[" + ONE + b"\n,\r\n" + TWO + b"]", [ONE, TWO]),
        (b"[\n  " + ONE + b",\n  " + TWO + b"\n]\n", [ONE, TWO]),
        (b"\xef\xbb\xbf \r\n [ " + ONE + b" ," + TWO + b" ]", [ONE, TWO]),
        (b"[" + ONE + b"][" + TWO + b"]\n\n", [ONE, TWO]),
        (b"data: x\n\n[" + ONE + b"," + TWO + b"]\ndata: y\n\n", [b"x", ONE, TWO, b"y"]),
        (b"[" + ONE + b",\n{" + b"cut", [ONE, b"{cut"]),
        (b"[" + ONE + b",3]", [ONE, b"3]"]),
        (b"[DONE]\ndata: x\n\n", [b"x"]),
        (b"[ \ndata: x\n\n", [b"x"]),
        (b"[1]\n\ndata: x\n\n", [b"x"]),
        (ONE + b"\n" + TWO + b"\n", [ONE, TWO]),
        (b"  " + ONE + b"\r\n" + TWO, [ONE, TWO]),
        (ONE + TWO + b", " + ONE, [ONE, TWO, ONE]),
        (b"\n\n data: no field\n\ndata: x\n\n", [b"x"]),
    ],
)
def test_each_json_element_in_place_of_events_is_a_frame_at_any_split(data: bytes, expected: list[bytes]) -> None:
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            framer = SSEOrJSONFramer()
            found = framer.feed(data[:first]) + framer.feed(data[first:second]) + framer.feed(data[second:])
            assert [frame.data for frame in found + framer.finish()] == expected, (first, second)


def test_element_of_an_array_may_be_larger_than_a_bare_object() -> None:
    large = b'{"data": "%s"}' % (b"x" * 5 * 1024 * 1024)
    data = b"[" + large + b",{}]"
    framer = SSEOrJSONFramer()
    found = [frame.data for at in range(0, len(data), 65536) for frame in framer.feed(data[at : at + 65536])]
    assert found == [large, b"{}"]


@given(
    st.lists(
        st.sampled_from([b"data: x\r\n", b"data: y\n", b"event: e\r\n", b"\r\n", b"\n", b"\r", b"{}\r\n"]), max_size=8
    )
)
def test_reads_of_whole_lines_give_the_same_frames_as_single_bytes(pieces: list[bytes]) -> None:
    by_line, by_byte = SSEOrJSONFramer(), SSEOrJSONFramer()
    found = [frame for piece in (b"data: a\n\n", *pieces) for frame in by_line.feed(piece)]
    whole = b"data: a\n\n" + b"".join(pieces)
    expected = [frame for at in range(len(whole)) for frame in by_byte.feed(whole[at : at + 1])]
    assert found + by_line.finish() == expected + by_byte.finish()
