"""Errors after the headers of a response say what its headers said (fault class 77)."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from compressors import brotli, zstd
from trunkline._calls import response_reader
from trunkline.errors import ProtocolViolation, RateLimited, RemoteError, StreamInterrupted
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

HEAD = {"x-request-id": "id-1", "content-type": "application/x-ndjson"}
TEXT = b'{"open":1,"text":"a"}\n'
CONTENT = pytest.mark.parametrize("content", [b"", TEXT], ids=["before content", "after content"])


async def _cut(exchange: Exchange, content: bytes) -> None:
    await exchange.raw(exchange._head(200, {**HEAD, "content-length": "1000"}) + content)
    await exchange.hang_up()


async def _reset(exchange: Exchange, content: bytes) -> None:
    await exchange.start(headers=HEAD)
    await exchange.chunk(content or b"\n")
    await exchange.reset()


async def _silent(exchange: Exchange, content: bytes) -> None:
    await exchange.start(headers=HEAD)
    await exchange.chunk(content or b"\n")
    await exchange.hung_up()


async def _bad_chunk(exchange: Exchange, content: bytes) -> None:
    await exchange.start(headers=HEAD)
    await exchange.chunk(content or b"\n")
    await exchange.raw(b"zz\r\n")
    await exchange.hung_up()


async def _no_json(exchange: Exchange, content: bytes) -> None:
    await exchange.respond(content + b'{"err\n', headers=HEAD)


async def _too_deep(exchange: Exchange, content: bytes) -> None:
    await exchange.respond(content + b"[" * 300 + b"\n", headers=HEAD)


async def _unknown_encoding(exchange: Exchange, content: bytes) -> None:
    await exchange.respond(content, headers={**HEAD, "content-encoding": "zzz"})


async def _large_headers(exchange: Exchange, content: bytes) -> None:
    await exchange.respond(content, headers={**HEAD, "x-large": "a" * 5000})


WAYS = (_cut, _reset, _silent, _bad_chunk, _no_json, _too_deep, _unknown_encoding, _large_headers)


async def failure(toy: Any, handler: Any, method: str, **settings: Any) -> RemoteError:
    settings = {"max_retries": 0, "chunk_timeout": 0.2, "first_chunk_timeout": 0.5, "connect_timeout": 5, **settings}
    async with serve(handler) as server, toy(server.url, header_limit=4000, **settings) as service:
        with pytest.raises(RemoteError) as caught:
            if method == "stream":
                async with service.stream("hi") as stream:
                    await stream.finish()
            else:
                await getattr(service, method)(*(() if method == "list_models" else ("hi",)))
    return caught.value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("method", "content"), [("chat", TEXT), ("stream", b""), ("stream", TEXT), ("embed", TEXT), ("list_models", TEXT)]
)
async def test_error_of_an_unreadable_answer_has_status_request_id_and_endpoint(
    toy: Any, way: Any, method: str, content: bytes
) -> None:
    if way is _no_json and method in ("embed", "list_models"):
        pytest.skip("the toy raises exceptions of its JSON library")

    async def handler(exchange: Exchange) -> None:
        await way(exchange, content)

    error = await failure(toy, handler, method)
    assert (error.status, error.request_id) == (200, "id-1"), repr(error)
    assert error.endpoint is not None
    assert error.endpoint.startswith(("GET http", "POST http"))


@pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])
async def test_error_status_with_large_headers_keeps_its_class(toy: Any, method: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"busy", status=429, headers={**HEAD, "retry-after": "7", "x-large": "a" * 5000})

    error = await failure(toy, handler, method)
    assert error.status == 429
    assert error.request_id == "id-1"
    if method in ("chat", "stream"):
        assert (type(error), error.retry_after, error.retryable) == (RateLimited, 7, True)


async def test_secret_in_the_request_id_is_removed(toy: Any) -> None:
    async def echoing(exchange: Exchange) -> None:
        await exchange.raw(exchange._head(200, {"x-request-id": "key-1234567890abc", "content-length": "9"}) + TEXT[:3])
        await exchange.hang_up()

    for method in ("chat", "stream"):
        error = await failure(toy, echoing, method, api_key="key-1234567890abc")
        assert error.request_id is not None
        assert "1234567890" not in f"{error.request_id}{error}"


@pytest.mark.parametrize("content", [b"", TEXT], ids=["before content", "after content"])
async def test_error_event_has_the_wait_of_the_header(toy: Any, content: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(content + b'{"error":503}\n', headers={**HEAD, "retry-after": "7"})

    error = await failure(toy, handler, "stream")
    assert (error.retry_after, error.request_id) == (7, "id-1")


async def test_events_in_an_impossible_order_are_an_error_with_the_request_id(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"a"}\n', headers=HEAD)

    error = await failure(toy, handler, "stream")
    assert (error.status, error.request_id) == (200, "id-1")


async def test_error_event_before_content_is_not_retried_if_the_wait_is_too_long(toy: Any) -> None:
    sent = []

    async def handler(exchange: Exchange) -> None:
        sent.append(exchange)
        await exchange.respond(b'{"error":503}\n', headers={**HEAD, "retry-after": "90"})

    error = await failure(toy, handler, "stream", max_retries=2)
    assert (len(sent), error.retry_after) == (1, 90)
    assert "retry_after_limit" in error.message


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_status_that_has_arrived_wins_over_total_timeout(
    toy: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_reader, "ERROR_BODY_SECONDS", 60.0)

    async def handler(exchange: Exchange) -> None:
        await exchange.start(status=429, headers={**HEAD, "retry-after": "7"})
        while True:
            await exchange.chunk(b"x")

    error = await failure(toy, handler, method, total_timeout=2, chunk_timeout=60, max_retries=2, body_limit=None)
    assert (type(error), error.retry_after, error.request_id) == (RateLimited, 7, "id-1")


async def _silent_429(exchange: Exchange) -> None:
    await exchange.start(status=429, headers={**HEAD, "retry-after": "7"})
    await exchange.hung_up()


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_status_wins_over_total_timeout_if_its_body_never_comes(toy: Any, method: str) -> None:
    error = await failure(toy, _silent_429, method, total_timeout=2, chunk_timeout=60, max_retries=2)
    assert type(error) is RateLimited
    assert "total_timeout" in error.message


# Bodies without a length, which end where the connection ends

WHOLE = {
    "chat": b'{"text":"a {[ b"}',
    "stream": b'{"text":"a {[ b"}',
    "embed": b"[[1,2,3,4,5]]",
    "list_models": b'{"models":["m"],"next":null}',
}


def _until_closed(content: bytes, *, is_old: bool = False) -> Any:
    start = b"HTTP/1.0 200 X" if is_old else b"HTTP/1.1 200 X\r\nconnection: close"

    async def handler(exchange: Exchange) -> None:
        head = start + b"\r\nx-request-id: id-1\r\ncontent-type: application/json\r\n\r\n"
        await exchange.raw(head + content)
        await exchange.hang_up()

    return handler


@pytest.mark.parametrize("method", list(WHOLE))
@pytest.mark.parametrize(("size", "is_old"), [(0, False), (1, True), (9, False), (-1, True)])
async def test_body_without_a_length_that_breaks_off_is_interrupted(
    toy: Any, method: str, size: int, is_old: bool
) -> None:
    error = await failure(toy, _until_closed(WHOLE[method][:size], is_old=is_old), method)
    assert type(error) is StreamInterrupted, repr(error)
    assert (error.status, error.request_id, error.retryable) == (200, "id-1", True)
    assert error.endpoint is not None


@pytest.mark.parametrize("content", [b"<html>{", b'{"x":1}', b'{"x":1]}', b'{"x":"{["}', b"no JSON"])
async def test_complete_body_without_a_length_that_has_no_answer_is_not_interrupted(toy: Any, content: bytes) -> None:
    error = await failure(toy, _until_closed(content), "chat")
    assert type(error) is ProtocolViolation, repr(error)


async def test_cut_json_of_the_stated_length_is_not_interrupted(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(WHOLE["chat"][:-1])

    assert type(await failure(toy, handler, "chat")) is ProtocolViolation


async def test_call_whose_body_without_a_length_breaks_off_is_retried(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        content = WHOLE["chat"][: 5 if exchange.number == 1 else None]
        await _until_closed(content)(exchange)

    async with serve(handler) as server, toy(server.url, max_retries=1) as service:
        assert (await service.chat("hi")).text == "a {[ b"
        assert len(server.requests) == 2


# Compressed answers whose encoding is broken behind the end of the answer

ANSWERS = {
    "chat": WHOLE["chat"],
    "stream": TEXT + b'{"done":true}\n',
    "embed": WHOLE["embed"],
    "list_models": WHOLE["list_models"],
}
GARBAGE = b"\xff\xfe garbage" * 3


def _compressed(encoding: str, content: bytes) -> tuple[bytes, bytes]:
    """Return compressed content, which can be decompressed without what follows, and the end of its encoding."""
    if encoding in ("gzip", "deflate", "raw deflate"):
        packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding])
        return packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH), packer.flush()
    if encoding == "br":
        br = brotli.Compressor()
        return br.process(content) + br.flush(), br.finish()
    compressor = zstd.ZstdCompressor()
    return compressor.compress(content, compressor.FLUSH_BLOCK), compressor.flush(compressor.FLUSH_FRAME)


@pytest.mark.parametrize("method", list(ANSWERS))
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "br", "zstd"])
@pytest.mark.parametrize("pieces", [1, 2], ids=["in one read", "in two reads"])
async def test_broken_end_of_an_encoding_does_not_lose_a_complete_answer(
    toy: Any, method: str, encoding: str, pieces: int
) -> None:
    async def handler(exchange: Exchange) -> None:
        body, end = _compressed(encoding, ANSWERS[method])
        wrong_checksum = end[:-8] + bytes(byte ^ 0xFF for byte in end[-8:])
        broken = (GARBAGE, wrong_checksum, b"")[exchange.number % 3]
        headers = {**HEAD, "content-encoding": encoding.removeprefix("raw ")}
        if pieces == 1:
            await exchange.respond(body + broken, headers=headers)
            return
        await exchange.start(headers=headers)
        await exchange.chunk(body[:5])
        await exchange.chunk(body[5:] + broken)
        await exchange.end()

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        for _ in range(6):
            if method == "stream":
                async with service.stream("hi") as stream:
                    assert (await stream.finish()).text == "a"
            elif method == "chat":
                assert (await service.chat("hi")).text == "a {[ b"
            elif method == "embed":
                assert (await service.embed("hi")).embeddings == ((1, 2, 3, 4, 5),)
            else:
                assert len(await service.list_models()) == 1


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_broken_encoding_in_the_middle_of_an_answer_is_an_error(toy: Any, method: str) -> None:
    async def handler(exchange: Exchange) -> None:
        body, _ = _compressed("gzip", ANSWERS[method][:-3])
        await exchange.respond(body + GARBAGE, headers={**HEAD, "content-encoding": "gzip"})

    assert type(await failure(toy, handler, method)) is ProtocolViolation


async def test_what_precedes_a_broken_encoding_is_in_the_partial_response(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        body, _ = _compressed("gzip", TEXT)
        await exchange.respond(body + GARBAGE, headers={**HEAD, "content-encoding": "gzip"})

    error = await failure(toy, handler, "stream")
    assert error.partial is not None
    assert error.partial.text == "a"
