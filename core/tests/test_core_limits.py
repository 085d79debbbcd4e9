"""The limits of what an answer may be, in size and depth, at the decoder and through a service."""

from __future__ import annotations

import json
from typing import Any

import anyio
import attrs
import pytest
from calls import call
from hypothesis import given, strategies as st
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import BodyFramer, JSONLinesFramer, SSEFramer
from trunkline.authoring.provider import Operation, Operations, Translation
from trunkline.authoring.structure import check_structure
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ProtocolViolation, ServerError, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

LINES = {"content-type": "application/x-ndjson"}


class Keeping:
    """A parser that keeps its frames."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def feed(self, frame: Any) -> list[Event]:
        self.frames.append(frame)
        return []

    def finish(self) -> list[Event]:
        raise StreamInterrupted("no end")


def deep(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("framer", "piece"),
    [(SSEFramer, b"data: 123456789"), (SSEFramer, b"data:1\n"), (JSONLinesFramer, b"123"), (BodyFramer, b"123")],
)
def test_frame_over_the_limit_is_refused_before_it_is_complete(framer: Any, piece: bytes) -> None:
    decoder = StreamDecoder(framer(), Keeping(), frame_limit=100)
    with pytest.raises(ProtocolViolation, match=r"frame_limit \(100 bytes\)"):
        for _ in range(40):
            decoder.feed(piece)


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_frame_over_the_limit_is_refused_however_it_comes(cut: int) -> None:
    data = b"1\n" * 30 + b"2" * 101 + b"\n"
    parser = Keeping()
    decoder = StreamDecoder(JSONLinesFramer(), parser, frame_limit=100)
    with pytest.raises(ProtocolViolation, match="frame_limit"):
        for at in range(0, len(data), cut):
            decoder.feed(data[at : at + cut])
    assert parser.frames == [b"1"] * 30


def test_a_last_frame_over_the_limit_is_not_an_interruption() -> None:
    decoder = StreamDecoder(JSONLinesFramer(), Keeping(), nesting_limit=3)
    decoder.feed(deep(4))
    with pytest.raises(ProtocolViolation, match=r"nesting_limit \(3\)"):
        decoder.finish()


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(1, 200))
def test_frames_within_the_limit_never_add_up_to_it(sizes: list[int], cut: int) -> None:
    data = b"".join(b"x" * (size - 1) + b"{\n" for size in sizes)
    parser = Keeping()
    decoder = StreamDecoder(JSONLinesFramer(), parser, frame_limit=101, nesting_limit=1)
    for at in range(0, len(data), cut):
        decoder.feed(data[at : at + cut])
    assert [len(frame) for frame in parser.frames] == sizes


def test_limit_of_none_allows_any_size() -> None:
    parser = Keeping()
    decoder = StreamDecoder(JSONLinesFramer(), parser, frame_limit=None, nesting_limit=None)
    decoder.feed(deep(500) + b"\n")
    assert parser.frames == [deep(500)]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.sampled_from('[]{}"\\aø')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[]{}"\\a', max_size=4), inner),
    max_leaves=20,
)


def depth_of(value: object) -> int:
    items = value if isinstance(value, list) else value.values() if isinstance(value, dict) else None
    return 0 if items is None else 1 + max(map(depth_of, items), default=0)


@given(JSON_VALUES, st.sampled_from([None, 1]))
def test_depth_of_any_json_is_measured_correctly(value: object, indent: int | None) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    depth = depth_of(value)
    check_structure(data, depth)
    if depth:
        with pytest.raises(ProtocolViolation, match="nesting_limit"):
            check_structure(data, depth - 1)


@given(st.binary() | st.lists(st.sampled_from([b'"', b"\\", b"{", b"]", b"a"])).map(b"".join))
def test_any_bytes_have_a_depth_or_are_refused(data: bytes) -> None:
    try:
        check_structure(data, 2)
    except ProtocolViolation:
        assert data.count(b"{") + data.count(b"[") > 2


MANY = {
    "objects": b"[" + b"{}," * 1_000_000 + b"0]",
    "arrays": b"[" + b"[]," * 1_000_000 + b"0]",
    "lines": b"\n".join([b"[]"] * 1_000_001),
    "brackets that open nothing": b"[" * 200 + b"]" * 2_000_000,
}


@pytest.mark.parametrize("data", MANY.values(), ids=MANY)
@pytest.mark.parametrize("limit", [128, None])
def test_json_of_too_many_objects_and_arrays_is_refused(data: bytes, limit: int | None) -> None:
    if limit is None and data.startswith(b"[["):
        pytest.skip("it has few opening brackets")
    with pytest.raises(ProtocolViolation, match="more than 1000000 objects and arrays"):
        check_structure(data, limit)
    decoder = StreamDecoder(BodyFramer(), Keeping(), nesting_limit=limit)
    decoder.feed(data)
    with pytest.raises(ProtocolViolation, match="more than 1000000 objects and arrays"):
        decoder.finish()


def test_brackets_in_strings_are_no_objects_and_arrays() -> None:
    check_structure(b'["' + b"[{" * 1_000_000 + b'"]', 128)


# Through a service


def answering(body: bytes, **headers: str) -> Any:
    async def handler(exchange: Exchange) -> None:
        streams = json.loads(exchange.request.body)["stream"]
        await exchange.respond(body, headers={**(LINES if streams else {}), **headers})

    return handler


@pytest.mark.parametrize("operation", ["chat", "stream"])
@pytest.mark.parametrize(
    ("setting", "body", "headers"),
    [
        ({"nesting_limit": 20}, b'{"text":' + deep(20) + b"}\n", {}),
        ({"header_limit": 1000}, b'{"text":"a","done":1}\n', {"x-long": "x" * 1000}),
    ],
)
async def test_an_answer_over_a_limit_names_the_setting(
    toy: Any, operation: str, setting: dict[str, int], body: bytes, headers: dict[str, str]
) -> None:
    async with serve(answering(body, **headers)) as server, toy(server.url, **setting) as service:
        with pytest.raises(ProtocolViolation, match=next(iter(setting))):
            await call(service, operation)
        assert len(server.requests) == 1


@pytest.mark.parametrize(("operation", "setting"), [("chat", "body_limit"), ("stream", "frame_limit")])
async def test_an_answer_over_a_size_limit_names_the_setting(toy: Any, operation: str, setting: str) -> None:
    body = b'{"text":"' + b"a" * 2000 + b'"}\n'
    async with serve(answering(body)) as server, toy(server.url, **{setting: 1000}) as service:
        with pytest.raises(ProtocolViolation, match=rf"{setting} \(1000 bytes\)"):
            await call(service, operation)


@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_deeply_nested_error_body_is_cut_and_keeps_the_status(toy: Any, operation: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(deep(100_000), status=500)

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(ServerError, match=r"is incomplete: .* nested deeper than nesting_limit \(128\)") as caught:
            await call(service, operation)
    assert caught.value.status == 500


async def test_without_a_nesting_limit_a_deep_error_body_is_still_our_error(toy: Any) -> None:
    nested: Any = "deep"
    for _ in range(5_000):
        nested = [nested]
    parser = toy("http://127.0.0.1")._provider.response_parser(None)

    class Parser:
        stream, body = parser.stream, parser.body

        def error(self, wire_response: Any) -> ServerError:
            return ServerError("down", body=nested)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"down", status=500)

    steps = {"response_parser": lambda context: Parser()}
    async with serve(handler) as server, toy(server.url, steps, nesting_limit=None, max_retries=0) as service:
        with pytest.raises(ServerError, match="down"):
            await service.chat("hi")


# Every limit in every kind of call


async def _too_large(exchange: Exchange) -> None:
    await exchange.respond(b'{"text":"' + b"a" * 2000 + b'"}\n')


async def _too_deep(exchange: Exchange) -> None:
    await exchange.respond(b'{"text":' + deep(20) + b"}\n")


async def _too_many(exchange: Exchange) -> None:
    await exchange.respond(b'{"text":[' + b"{}," * 1_000_000 + b"0]}\n")


async def _large_headers(exchange: Exchange) -> None:
    await exchange.respond(b"{}\n", headers={"x-long": "x" * 1000})


async def _silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def _stalled(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{")
    await exchange.hung_up()


@pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models", "count_tokens"])
@pytest.mark.parametrize(
    ("way", "setting", "value"),
    [
        (_too_large, "body_limit", 1000),
        (_too_deep, "nesting_limit", 20),
        (_too_many, "objects and arrays", None),
        (_large_headers, "header_limit", 1000),
        (_silent, "first_chunk_timeout", 0.2),
        (_stalled, "chunk_timeout", 0.2),
        (_silent, "total_timeout", 0.2),
        (_stalled, "total_timeout", 0.2),
    ],
)
async def test_every_limit_holds_in_every_kind_of_call(
    toy: Any, method: str, way: Any, setting: str, value: float | None
) -> None:
    made = toy("http://127.0.0.1")._provider.operations

    def operations(context: Any) -> Operations:
        counting = Operation(
            build=lambda context, request: Translation(
                wire_request=WireRequest(url=f"{context.settings.url}/count", body=b"{}")
            ),
            parse=lambda context, answer: json.loads(answer.body)["tokens"],
        )
        return attrs.evolve(made(context), count_tokens=counting)

    if method == "stream":
        # Half a frame does not count as the first chunk.
        setting = {"body_limit": "frame_limit", "chunk_timeout": "first_chunk_timeout"}.get(setting, setting)
    limits = {"max_retries": 0} | ({} if value is None else {setting: value})
    async with serve(way) as server, toy(server.url, {"operations": operations}, **limits) as service:
        with pytest.raises(TrunklineError, match=setting), anyio.fail_after(20):
            if method in ("chat", "stream"):
                await call(service, method)
            else:
                await getattr(service, method)(*(() if method == "list_models" else ("hi",)))
