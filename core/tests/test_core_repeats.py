"""Frames that repeat the one before: what is read at a glance is what decoding would have given, or it is decoded."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline import _json
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import SSEFrame, SSEFramer
from trunkline.authoring.json import loads
from trunkline.authoring.repeats import Repeats
from trunkline.errors import ProtocolViolation
from trunkline.events import Event, Finished, TextDelta, TextStart
from trunkline.response import FinishReason

TEXTS = st.text() | st.sampled_from(['"', "\\", 'x"},"p":"', "\n\n", "data: ", "\ufeff", "\x00", "text", "a"])


def text_of(value: Any) -> object:
    return value["delta"]["text"]


def frame(text: str, /, **others: object) -> bytes:
    return json.dumps({"n": 1, "delta": {"text": text}, "of": "a", **others}, ensure_ascii=False).encode()


def learned(data: bytes, **options: Any) -> Repeats:
    repeats = Repeats("text", text_of, **options)
    for _ in range(4):
        repeats.learn(data, loads(data))
    return repeats


def glance(repeats: Repeats, data: bytes) -> str | None:
    texts = repeats.frame_template.texts(data) if repeats.frame_template is not None else None
    return texts[0] if texts is not None and len(texts) == 1 else None


@pytest.fixture(params=["the fastest decoder", "the standard library's"])
def string(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], str]:
    decode: Callable[[bytes], str] = _json.decode_string
    if request.param != "the fastest decoder":
        decode = _json._decode_string_slowly
        monkeypatch.setattr("trunkline.authoring.repeats.decode_string", decode)
    return decode


@given(TEXTS, TEXTS)
def test_a_frame_that_repeats_another_gives_its_own_text(before: str, text: str) -> None:
    assert glance(learned(frame(before)), frame(text)) == (text or None)


@given(TEXTS, st.binary() | TEXTS.map(str.encode))
def test_fast_path_gives_the_same_events_as_decoding(before: str, inside: bytes) -> None:
    head, _, tail = frame("#").partition(b'"#"')
    data = head + inside + tail
    found = glance(learned(frame(before)), data)
    if found is not None:
        assert loads(data) == {**loads(frame("")), "delta": {"text": found}}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(frame("a", n=2), id="another number before"),
        pytest.param(frame("a", of="b"), id="another text behind"),
        pytest.param(frame("a", more=None), id="one member more"),
        pytest.param(frame("a")[:-1], id="cut"),
        pytest.param(frame("a").replace(b'"a"', b"null", 1), id="no text"),
        pytest.param(frame("a").replace(b'"a"', b'["a"]', 1), id="a list"),
        pytest.param(frame("a").replace(b'"a"', b'"a","text":"b"', 1), id="the member twice"),
        pytest.param(frame("a").replace(b'"a"', b'"\xff"', 1), id="no UTF-8"),
        pytest.param(frame("a").replace(b'"a"', b'"\n"', 1), id="a line ending in a string"),
        pytest.param(frame("a").replace(b'"a"', b'"\\x"', 1), id="an escape that there is not"),
        pytest.param(frame("a").replace(b'"a"', b'"\x00a\x00"\x00', 1), id="what could be UTF-16"),
    ],
)
def test_any_other_frame_is_left_to_be_decoded(other: bytes, string: object) -> None:
    assert glance(learned(frame("b")), other) is None


def test_the_text_may_stand_elsewhere_as_well() -> None:
    repeats = learned(frame("a", text="a", twin={"text": "a"}))
    assert glance(repeats, frame("b", text="a", twin={"text": "a"})) == "b"
    assert glance(repeats, frame("a", text="b", twin={"text": "a"})) is None


def test_of_a_member_that_is_there_twice_the_last_counts() -> None:
    twice = b'{"delta":{"text":"a","text":"a"}}'
    assert glance(learned(twice), b'{"delta":{"text":"b","text":"a"}}') is None
    assert glance(learned(twice), b'{"delta":{"text":"a","text":"b"}}') == "b"


@given(TEXTS, st.text("abcXYZ019"), st.text("abcXYZ019"))
def test_padding_is_ignored(text: str, before: str, after: str) -> None:
    repeats = learned(frame("a", p=before), padding=("obfuscation", "p"))
    assert glance(repeats, frame(text, p=after)) == (text or None)


@pytest.mark.parametrize("padding", [b'"', b'a"', b"a\\", b"a b", b"\xc3\xa4", b'","x":"y'])
def test_padding_of_anything_but_letters_and_digits_is_decoded(padding: bytes) -> None:
    repeats = learned(frame("a", p="abc"), padding=("p",))
    assert glance(repeats, frame("b", p="###").replace(b"###", padding)) is None


def test_frames_that_never_repeat_are_left_alone_after_a_while() -> None:
    repeats = Repeats("text", text_of)
    for number in range(100):
        repeats.forget()
        repeats.learn(frame("a", n=number), loads(frame("a", n=number)))
    assert repeats.frame_template is None


def test_frames_that_repeat_in_between_are_learned_for_ever() -> None:
    repeats = Repeats("text", text_of)
    for number in range(100):
        repeats.forget()
        repeats.learn(frame("a", n=number), loads(frame("a", n=number)))
        assert number < 3 or glance(repeats, frame("b", n=number)) == "b"


# Whole reads


class Parser:
    """Text, and `{"end": true}`. It counts the frames that it was given."""

    def __init__(self) -> None:
        self.repeats = Repeats("text", text_of)
        self.frames = 0
        self.index = 0

    def feed(self, frame: SSEFrame) -> list[Event]:
        self.frames += 1
        known = self.repeats.frame_template
        if known is not None and frame.event == "message" and (texts := known.texts(frame.data)):
            return self.text_events(texts)
        self.repeats.forget()
        try:
            value = loads(frame.data)
        except ValueError as error:
            raise ProtocolViolation("no JSON") from error
        if value.get("end"):
            return [Finished(reason=FinishReason.STOP)]
        if frame.event == "message":
            self.repeats.learn(frame.data, value)
        self.index = value["n"]
        return self.text_events([value["delta"]["text"]])

    def text_events(self, texts: list[str]) -> list[Event]:
        return [TextDelta(index=self.index, text=text) for text in texts]

    def finish(self) -> list[Event]:
        return []


def event(text: str, name: bytes = b"", **others: object) -> bytes:
    return name + b"data: " + frame(text, **others) + b"\n\n"


@pytest.mark.parametrize("together", [1, 2, 5])
def test_reads_of_frames_that_repeat_are_not_even_framed(together: int) -> None:
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), parser := Parser())
    texts = [f"{number // 3} " for number in range(100)]
    reads = [b"".join(map(event, texts[at : at + together])) for at in range(0, 100, together)]
    events = [found for read in reads for found in decoder.feed(read)]
    assert events == [TextDelta(index=1, text=text) for text in texts]
    assert parser.frames < 10 + 2 * together


PIECES = st.lists(
    st.tuples(TEXTS.filter(bool), st.sampled_from([b"", b"", b"", b": c\n", b"event: x\n", b"id: 1\n"]), st.just({}))
    | st.tuples(st.just("a"), st.just(b""), st.sampled_from([{"n": 2}, {"of": "b"}])),
    min_size=1,
    max_size=30,
)


@given(PIECES, st.data())
def test_the_events_are_the_same_however_the_bytes_come(pieces: list[tuple[str, bytes, Any]], data: Any) -> None:
    stream = b"".join(event(text, name, **others) for text, name, others in pieces) + b'data: {"end": true}\n\n'
    reads = [event(text, name, **others) for text, name, others in pieces] + [b'data: {"end": true}\n\n']
    if data.draw(st.booleans(), label="together"):
        size = data.draw(st.integers(2, 6))
        reads = [b"".join(reads[at : at + size]) for at in range(0, len(reads), size)]
    elif data.draw(st.booleans(), label="cut otherwise"):
        places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
        reads = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), Parser())
    events = [found for read in reads for found in decoder.feed(read)]
    assert events == [
        *(TextDelta(index=others.get("n", 1), text=text) for text, _, others in pieces),
        Finished(reason=FinishReason.STOP),
    ]
    assert decoder.feed(event("late")) == []


@pytest.mark.parametrize("cut", range(1, 50, 7))
def test_events_before_an_error_in_a_long_read_are_delivered(cut: int) -> None:
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), Parser())
    for _ in range(10):
        decoder.feed(event("a"))
    texts = [f"{number}" for number in range(20)]
    stream = b"".join(map(event, texts)) + b"data: {broken\n\n"
    assert decoder.feed(stream[:cut]) == []
    with pytest.raises(ProtocolViolation):
        decoder.feed(stream[cut:])
    assert decoder.late == [TextDelta(index=1, text=text) for text in texts]


def test_a_read_that_repeats_must_be_within_the_limit() -> None:
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), Parser(), frame_limit=200)
    for _ in range(10):
        decoder.feed(event("a"))
    with pytest.raises(ProtocolViolation, match="frame_limit"):
        decoder.feed(event("a" * 300))


@pytest.mark.parametrize("form", [b"data: %b\nid: %b\n\n", b"id: %b\ndata: %b\n\n", b"data: %b\n\n: %b\n"])
def test_the_frame_s_bytes_elsewhere_in_a_read_are_no_frame(form: bytes) -> None:
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), Parser())
    place = form.index(b"data: ") > 0
    for text in "aaaaaaaaaabc":
        twin, shown = frame("a"), frame(text)
        events = decoder.feed(form % ((twin, shown) if place else (shown, twin)))
        assert events == [TextDelta(index=1, text=text)]


def test_a_frame_of_several_lines_is_framed() -> None:
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), Parser())
    for text in "abcdefghijkl":
        lines = event(text).replace(b', "of"', b',\ndata: "of"')
        assert decoder.feed(lines) == [TextDelta(index=1, text=text)]


def test_the_state_of_the_framer_counts() -> None:
    decoder: StreamDecoder[SSEFrame] = StreamDecoder(SSEFramer(), Parser())
    for _ in range(10):
        decoder.feed(event("a"))
    assert decoder.feed(b"event: x\n") == []
    late = decoder.feed(event("b"))
    assert late == [TextDelta(index=1, text="b")]
    assert not any(type(found) is TextStart for found in late)
