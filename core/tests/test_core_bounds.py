"""Limits that a server could defeat slowly, in every kind of call (fault class 78)."""

from __future__ import annotations

import socket
import struct
import threading
import traceback
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from calls import call
from trunkline._calls import model_pages
from trunkline._calls.fetch import FetchLimits, fetch_parts
from trunkline._json import dumps
from trunkline.errors import (
    ConnectionFailed,
    ConnectTimeout,
    FetchFailed,
    FirstChunkTimeout,
    ProtocolViolation,
    RemoteError,
)
from trunkline.messages import Image, user
from trunkline.request import ChatRequest
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

CALLS = 8
"""How often a race is run."""

METHODS = pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])


# Pages of models


async def test_page_that_leads_back_to_an_earlier_one_is_an_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        page = exchange.request.target.rpartition("=")[2]
        await exchange.respond(dumps({"models": [page or "1"], "next": {"1": "2", "2": "3"}.get(page, "2")}))

    async with serve(handler) as server, toy(server.url, max_retries=2) as service:
        with pytest.raises(ProtocolViolation, match="repeats a page") as caught:
            await service.list_models()
        assert len(server.requests) == 3
    assert (caught.value.service, caught.value.provider) == ("toy", "toy")


async def test_pages_without_end_are_an_error(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_pages, "MAX_PAGES", 5)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(dumps({"models": [f"m{exchange.number}"], "next": f"c{exchange.number}"}))

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation, match="more after 5 pages with 5 models"):
            await service.list_models()
        assert len(server.requests) == 5


async def test_page_without_a_new_model_is_an_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(dumps({"models": ["a", "b"], "next": f"c{exchange.number}"}))

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation, match="no model that is new"):
            await service.list_models()
        assert len(server.requests) == 2


async def test_page_without_models_is_followed(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        last = exchange.number == 4
        await exchange.respond(
            dumps({"models": ["a"] if last else [], "next": None if last else f"c{exchange.number}"})
        )

    async with serve(handler) as server, toy(server.url) as service:
        assert [model.id for model in await service.list_models()] == ["a"]


async def test_cursor_that_repeats_a_key_is_not_in_the_variables_of_an_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        key = exchange.request.headers["authorization"].removeprefix("Bearer ")
        if exchange.number > 3:
            await exchange.respond(b"no", status=400)
        else:
            await exchange.respond(dumps({"models": [f"{key}-{exchange.number}"], "next": f"{key}-{exchange.number}"}))

    async with serve(handler) as server, toy(server.url, api_key="key-0123456789-abc", max_retries=0) as service:
        with pytest.raises(RemoteError) as caught:
            await service.list_models()
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in report.stack if "trunkline" in frame.filename and "tests" not in frame.filename]
    assert frames
    assert "key-0123456789" not in repr([frame.locals for frame in frames])


async def test_number_of_models_is_limited(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_pages, "MAX_MODELS", 5)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(dumps({"models": [f"m{n}" for n in range(6)], "next": "more"}))

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation, match="more after 1 pages with 6 models"):
            await service.list_models()


# Media


def pictures(*urls: str) -> ChatRequest:
    return ChatRequest(messages=(user(*(Image(url=url) for url in urls)),))


async def picture(exchange: Exchange) -> None:
    await exchange.respond(b"GIF89a", headers={"content-type": "image/gif"})


async def test_media_of_a_request_are_limited_in_number() -> None:
    async with serve(picture) as server:
        request = pictures(*(f"{server.url}/{number}" for number in range(4)))
        with pytest.raises(FetchFailed, match="more than 3 media"):
            await fetch_parts(request, (Image,), limits=FetchLimits(count=3), allowed=lambda address: True)
        assert len(server.requests) == 3


async def test_media_of_a_request_are_limited_in_total_size() -> None:
    async with serve(picture) as server:
        request = pictures(*(f"{server.url}/{number}" for number in range(9)))
        with pytest.raises(FetchFailed, match="larger than 12 bytes together"):
            await fetch_parts(request, (Image,), limits=FetchLimits(total_size=12), allowed=lambda address: True)
        assert len(server.requests) == 3


async def test_media_with_the_same_url_are_fetched_once_and_counted_each_time() -> None:
    async with serve(picture) as server:
        request = pictures(*[f"{server.url}/same"] * 3)
        limits = FetchLimits(total_size=18)
        fetched = await fetch_parts(request, (Image,), limits=limits, allowed=lambda address: True)
        assert len(server.requests) == 1
        with pytest.raises(FetchFailed, match="together"):
            await fetch_parts(request, (Image,), limits=FetchLimits(total_size=17), allowed=lambda address: True)
    assert [part.data for part in fetched.messages[0].parts] == [b"GIF89a"] * 3


# Headers that arrive slowly


async def _headers(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\n")
    while True:
        await exchange.raw(b"x: y\r\n")
        await anyio.sleep(0.05)


async def _interim(exchange: Exchange) -> None:
    while True:
        await exchange.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await anyio.sleep(0.05)


async def _flood(exchange: Exchange) -> None:
    while True:
        await exchange.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 500)


SLOW = pytest.mark.parametrize("way", [_headers, _interim])


@SLOW
@METHODS
async def test_headers_that_drip_are_a_first_chunk_timeout(toy: Any, way: Any, method: str) -> None:
    settings = {"max_retries": 0, "first_chunk_timeout": 0.3, "connect_timeout": 30, "total_timeout": 15}
    async with serve(way) as server, toy(server.url, **settings) as service:
        with pytest.raises(FirstChunkTimeout):
            await call(service, method)


@SLOW
@pytest.mark.parametrize("library", ["httpx2", "httpx"])
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_headers_that_drip_to_the_client_of_the_application(
    toy: Any, way: Any, library: str, method: str
) -> None:
    module = httpx2 if library == "httpx2" else pytest.importorskip("httpx")
    settings = {"max_retries": 0, "first_chunk_timeout": 0.3, "total_timeout": 60}
    async with serve(way) as server, module.AsyncClient() as client:
        async with toy(server.url, client=client, **settings) as service:
            with pytest.raises(FirstChunkTimeout):
                await call(service, method)


@METHODS
async def test_size_of_interim_responses_is_limited(toy: Any, method: str) -> None:
    async with serve(_flood) as server, toy(server.url, max_retries=2, first_chunk_timeout=60) as service:
        with pytest.raises(ConnectionFailed, match="the headers of the response are too large"):
            await call(service, method)
        assert len(server.requests) == 1


async def test_many_small_interim_responses_are_ignored(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 103 X\r\n\r\n" * 500)
        await exchange.respond(b'{"text":"hello"}')

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        assert (await service.chat("hi")).text == "hello"


async def test_interim_responses_before_an_answer_are_ignored(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n")
        await exchange.raw(b"\r\n")
        await exchange.respond(b'{"text":"hello"}')

    async with serve(handler) as server, toy(server.url) as service:
        for _ in range(2):
            assert (await service.chat("hi")).text == "hello"
        assert server.accepted == 1


async def test_answer_of_a_proxy_that_drips_is_a_connect_timeout(toy: Any) -> None:
    settings = {"max_retries": 0, "connect_timeout": 0.3, "total_timeout": 60, "http_library": "httpx2"}
    async with serve(_headers) as proxy, toy("https://127.0.0.1:1", proxy=proxy.url, **settings) as service:
        with pytest.raises(ConnectTimeout):
            await service.chat("hi")


# Uploads that the server refuses before it has read them


async def refusing(status: int, *, ends: str, interim: bytes = b"") -> Any:
    """Return a listener whose connections read a little of a request, answer it, and do not read on."""
    answer = b"HTTP/1.1 %d X\r\nretry-after: 7\r\ncontent-length: 7\r\n\r\ntoo big" % status

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive(1000)
            await stream.send(interim + answer)
            if ends == "reset":
                with anyio.move_on_after(0.2):
                    await anyio.sleep_forever()
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    return listener, handle


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\nlink: </x>\n\n"])
@pytest.mark.parametrize("ends", ["open", "reset"])
@pytest.mark.parametrize("status", [413, 401, 429, 307])
async def test_early_refusal_of_an_upload_ends_the_call(toy: Any, status: int, ends: str, interim: bytes) -> None:
    listener, handle = await refusing(status, ends=ends, interim=interim)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        async with toy(url, max_retries=0, first_chunk_timeout=20) as service:
            with pytest.raises(RemoteError) as caught:
                await service.chat("x" * 20_000_000)
        tasks.cancel_scope.cancel()
    assert caught.value.status == status


@pytest.mark.parametrize("size", [200_000, 20_000_000])
async def test_early_refusal_counts_although_the_server_closes_at_once(toy: Any, size: int) -> None:
    """The server runs in a thread, so that it also closes between two steps of the client's event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_calls() -> None:
            for _ in range(CALLS):
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 X\r\ncontent-length: 7\r\n\r\ntoo big")
                connection.close()  # resets the connection, since not all was read

        server = threading.Thread(target=serve_calls, daemon=True)
        server.start()
        for _ in range(CALLS):
            # A new service: the next call could be sent on the same connection before its end has arrived.
            async with toy(f"http://127.0.0.1:{listener.getsockname()[1]}", max_retries=0) as service:
                with pytest.raises(RemoteError) as caught:
                    await service.chat("x" * size)
                assert caught.value.status == 413
        server.join()


async def test_early_success_does_not_stop_an_upload(toy: Any) -> None:
    """The server answers at once, and reads the whole request nevertheless."""
    read, ended = 0, anyio.Event()

    async def handle(stream: anyio.abc.SocketStream) -> None:
        nonlocal read
        async with stream:
            read += len(await stream.receive(1000))
            body = b'{"text":"hello"}'
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            while data := await _received(stream):
                read += len(data)
                if read > 5_000_000:
                    ended.set()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        async with toy(url, max_retries=0, http_library="httpx2") as service:
            assert (await service.chat("x" * 5_000_000)).text == "hello"
        await ended.wait()
        tasks.cancel_scope.cancel()


async def _received(stream: anyio.abc.SocketStream) -> bytes:
    try:
        return await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return b""


async def test_large_request_and_the_next_one_share_a_connection(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async with serve(handler) as server, toy(server.url) as service:
        for size in (5_000_000, 1, 5_000_000):
            assert (await service.chat("x" * size)).text == "hello"
        assert server.accepted == 1
        assert len(server.requests[0].body) > 5_000_000
