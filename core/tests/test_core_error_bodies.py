"""Errors whose body is cut off, stalls or cannot be read keep their status and their headers (fault class 77)."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import httpx2
import pytest
from calls import call
from trunkline._calls import response_reader
from trunkline._calls.response_reader import ERROR_BODY_LIMIT
from trunkline.errors import AuthenticationError, RateLimited, RemoteError, StreamInterrupted, UnexpectedRedirect
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

METHODS = pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])
TEXT = b"what arrived of the body"
HEADERS = {"retry-after": "7", "x-request-id": "id-1"}


async def _cut(exchange: Exchange, status: int) -> None:
    head = exchange._head(status, {**HEADERS, "content-length": "1000"})
    await exchange.raw(head + TEXT)
    await exchange.hang_up()


async def _reset(exchange: Exchange, status: int) -> None:
    await exchange.start(status=status, headers=HEADERS)
    await exchange.chunk(TEXT)
    await exchange.reset()


async def _parked(exchange: Exchange, status: int) -> None:
    await exchange.start(status=status, headers=HEADERS)
    await exchange.chunk(TEXT)
    await exchange.hung_up()


async def _bad_chunk(exchange: Exchange, status: int) -> None:
    head = exchange._head(status, {**HEADERS, "transfer-encoding": "chunked"})
    await exchange.raw(head + b"%x\r\n%s\r\nzz\r\n" % (len(TEXT), TEXT))
    await exchange.hung_up()


async def _bad_first_chunk(exchange: Exchange, status: int) -> None:
    head = exchange._head(status, {**HEADERS, "transfer-encoding": "chunked"})
    await exchange.raw(head + b"zz\r\n" + TEXT)
    await exchange.hung_up()


async def _bad_gzip(exchange: Exchange, status: int) -> None:
    packer = zlib.compressobj(wbits=31)
    await exchange.start(status=status, headers={**HEADERS, "content-encoding": "gzip"})
    await exchange.chunk(packer.compress(TEXT) + packer.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 64)
    await exchange.end()


async def _cut_gzip(exchange: Exchange, status: int) -> None:
    body = gzip.compress(TEXT)[:-6]
    await exchange.raw(exchange._head(status, {**HEADERS, "content-encoding": "gzip", "content-length": "1000"}) + body)
    await exchange.hang_up()


async def _unknown_encoding(exchange: Exchange, status: int) -> None:
    await exchange.respond(TEXT, status=status, headers={**HEADERS, "content-encoding": "zzz"})


async def _too_large(exchange: Exchange, status: int) -> None:
    await exchange.respond(TEXT + b"x" * (2 * ERROR_BODY_LIMIT), status=status, headers=HEADERS)


WAYS = (_cut, _reset, _parked, _bad_chunk, _bad_first_chunk, _bad_gzip, _cut_gzip, _unknown_encoding, _too_large)
UNREADABLE = (_bad_first_chunk, _bad_gzip, _unknown_encoding)
"""The ways in which none of the body may be readable."""


async def failure(toy: Any, way: Any, status: int, method: str, **settings: Any) -> tuple[RemoteError, int]:
    """Return the error of a call to a server that answers each request in this way, and the number of requests."""

    async def handler(exchange: Exchange) -> None:
        await way(exchange, status)

    settings = {"max_retries": 0, "chunk_timeout": 0.1, **settings}
    async with serve(handler) as server, toy(server.url, **settings) as service:
        with pytest.raises(RemoteError) as caught:
            await call(service, method)
        return caught.value, len(server.requests)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_error_keeps_its_status_and_what_arrived_of_its_body(toy: Any, way: Any, method: str) -> None:
    error, _ = await failure(toy, way, 429, method)
    assert type(error) is RateLimited
    assert (error.status, error.retry_after, error.request_id) == (429, 7, "id-1")
    assert error.retryable
    assert "the body of this response is incomplete" in error.message
    if way not in UNREADABLE:
        assert TEXT.decode() in error.message


@METHODS
@pytest.mark.parametrize("way", [_cut, _bad_first_chunk])
async def test_every_method_keeps_the_status(toy: Any, way: Any, method: str) -> None:
    error, _ = await failure(toy, way, 404, method)
    assert error.status == 404
    assert not error.retryable


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_redirect_with_a_broken_body_is_a_redirect(toy: Any, way: Any, method: str) -> None:
    error, sent = await failure(toy, way, 307, method, max_retries=2)
    assert type(error) is UnexpectedRedirect
    assert (error.status, error.request_id, sent) == (307, "id-1", 1)


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
@pytest.mark.parametrize("way", WAYS)
async def test_error_keeps_its_status_with_the_client_of_the_application(toy: Any, way: Any, library: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await way(exchange, 429)

    module = httpx2 if library == "httpx2" else pytest.importorskip("httpx")
    async with serve(handler) as server, module.AsyncClient() as client:
        async with toy(server.url, client=client, max_retries=0, chunk_timeout=0.1) as service:
            with pytest.raises(RateLimited, match="incomplete") as caught:
                await service.chat("hi")
    assert (caught.value.status, caught.value.retry_after) == (429, 7)


async def test_body_that_drips_is_given_up_although_each_read_is_in_time(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_reader, "ERROR_BODY_SECONDS", 0.2)

    async def dripping(exchange: Exchange, status: int) -> None:
        await exchange.start(status=status, headers=HEADERS)
        while True:
            await exchange.chunk(b"x")

    error, _ = await failure(toy, dripping, 429, "chat", chunk_timeout=60)
    assert type(error) is RateLimited
    assert "incomplete" in error.message


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_stalled_error_body_is_not_a_first_chunk_timeout(toy: Any, method: str) -> None:
    error, _ = await failure(toy, _parked, 429, method, first_chunk_timeout=0.3, connect_timeout=0.1, chunk_timeout=1)
    assert type(error) is RateLimited


async def test_refused_credentials_are_not_retried_though_the_body_is_cut(toy: Any) -> None:
    error, sent = await failure(toy, _cut, 401, "chat", max_retries=2)
    assert type(error) is AuthenticationError
    assert sent == 1  # the toy has no other credentials


@pytest.mark.parametrize("way", [_cut, _reset, _parked, _bad_chunk])
async def test_cut_answer_with_status_200_is_no_success(toy: Any, way: Any) -> None:
    error, _ = await failure(toy, way, 200, "chat")
    assert error.retryable
    assert not isinstance(error, RateLimited)
    if way in (_cut, _reset):
        assert isinstance(error, StreamInterrupted)


@pytest.mark.parametrize("way", [_parked, _too_large, _bad_chunk])
async def test_connection_is_dropped_with_the_rest_of_the_body(toy: Any, way: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await way(exchange, 429)

    async with serve(handler) as server, toy(server.url, max_retries=0, chunk_timeout=0.1) as service:
        for number in (1, 2):
            with pytest.raises(RateLimited):
                await service.chat("hi")
            assert server.accepted == number
