"""Calls over an application's own client of httpx2 or httpx: HTTP/2, encodings, waits for a connection, and hooks."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import hpack
import httpx
import httpx2
import pytest
from trunkline import (
    CallError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    RemoteError,
    StreamInterrupted,
    TextDelta,
)
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2])


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(status: str) -> bytes:
    return frame(1, 4, 1, hpack.Encoder().encode([(":status", status), ("content-type", "text/plain")]))


SETTINGS = frame(4, 0, 0) + frame(4, 1, 0)
TEXT = frame(0, 0, 1, b'{"open":1,"text":"some text"}\n')
BROKEN = {
    "window of zero": frame(8, 0, 0, bytes(4)),
    "frame that is too large": frame(0, 0, 1, bytes(20_000)),
    "headers that cannot be decoded": frame(1, 4, 3, b"\xff" * 5),
    "data of an unknown stream": frame(0, 1, 7, b"x"),
}


@asynccontextmanager
async def http2_server(*pieces: bytes) -> AsyncIterator[str]:
    """Answer each connection with these bytes, the next piece when the client has sent something again."""

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            for piece in pieces:
                await stream.send(piece)
                await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(5):
                while True:
                    await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@LIBRARIES
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_broken_http2_before_the_headers_is_a_failed_connection(
    toy: Any, library: Any, broken: bytes, method: str
) -> None:
    async with http2_server(SETTINGS, broken) as url, library.AsyncClient(http1=False, http2=True) as client:
        async with toy(url, client=client, max_retries=0) as service:
            with pytest.raises(ConnectionFailed, match="not valid HTTP") as caught:
                if method == "chat":
                    await service.chat("hi")
                else:
                    await service.stream("hi").__aenter__()
    assert caught.value.retryable


@LIBRARIES
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_broken_http2_in_the_middle_of_a_stream_interrupts_it(toy: Any, library: Any, broken: bytes) -> None:
    pieces = SETTINGS, headers("200"), TEXT, broken
    async with http2_server(*pieces) as url, library.AsyncClient(http1=False, http2=True) as client:
        async with toy(url, client=client, max_retries=0) as service:
            with pytest.raises(StreamInterrupted) as caught:
                async with service.stream("hi") as stream:
                    async for event in stream:
                        if isinstance(event, TextDelta):
                            assert event.text == "some text"
    assert caught.value.partial.text == "some text"


@LIBRARIES
async def test_status_that_is_no_number_is_a_failed_connection(toy: Any, library: Any) -> None:
    pieces = SETTINGS, headers("abc")
    async with http2_server(*pieces) as url, library.AsyncClient(http1=False, http2=True) as client:
        async with toy(url, client=client, max_retries=0) as service:
            with pytest.raises(ConnectionFailed):
                await service.chat("hi")


@LIBRARIES
@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ("gzip, made-up", "gzip"),
        ("made-up", "identity"),
        ("gzip;q=0.5, deflate", "gzip;q=0.5, deflate"),
        ("identity", "identity"),
    ],
)
async def test_only_encodings_that_can_be_decompressed_are_requested(
    toy: Any, library: Any, wanted: str, sent: str
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async with serve(answer) as server, library.AsyncClient(headers={"accept-encoding": wanted}) as client:
        async with toy(server.url, client=client) as service:
            await service.chat("hi")
    assert server.requests[0].headers["accept-encoding"] == sent


# Waits for a connection, which the client does not limit

LIMITS = {"connect_timeout": 0.2, "first_chunk_timeout": 0.2, "chunk_timeout": 60, "max_retries": 0}


@LIBRARIES
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_wait_for_a_free_connection_is_limited_by_connect_timeout(toy: Any, library: Any, method: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open":1,"text":"some text"}\n')
        await exchange.hung_up()

    limits, settings = library.Limits(max_connections=1), {**LIMITS, "first_chunk_timeout": 60}
    async with serve(handler) as server, library.AsyncClient(limits=limits) as client:
        async with toy(server.url, client=client, **settings) as service, service.stream("hi"):
            with anyio.fail_after(30), pytest.raises(ConnectTimeout, match="all connections that your http_client may"):
                if method == "chat":
                    await service.chat("hi")
                else:
                    await service.stream("hi").__aenter__()


@LIBRARIES
async def test_wait_for_a_stream_of_http2_is_limited(toy: Any, library: Any) -> None:
    one_stream = frame(4, 0, 0, struct.pack(">HI", 3, 1)) + frame(4, 1, 0)
    pieces = one_stream, headers("200") + TEXT
    async with http2_server(*pieces) as url, library.AsyncClient(http1=False, http2=True) as client:
        async with toy(url, client=client, **LIMITS, total_timeout=60) as service, service.stream("hi"):
            with anyio.fail_after(30), pytest.raises(FirstChunkTimeout):
                await service.chat("hi")


# httpx leaves the generator of the request's body open; on trio, the garbage collector says so.
@pytest.mark.filterwarnings("ignore:Exception ignored.*ByteStream:pytest.PytestUnraisableExceptionWarning")
@LIBRARIES
async def test_frames_of_http2_do_not_extend_the_time_for_a_request(toy: Any, library: Any) -> None:
    async def handle(stream: anyio.abc.SocketStream) -> None:
        # The body is larger than the window, which is never opened again.
        async with stream:
            await stream.send(SETTINGS)
            for _ in range(1000):
                try:
                    await stream.send(frame(6, 0, 0, bytes(8)))  # a PING
                except anyio.BrokenResourceError:
                    return
                await anyio.sleep(0.02)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        async with library.AsyncClient(http1=False, http2=True) as client:
            async with toy(url, client=client, **LIMITS, total_timeout=60) as service:
                with anyio.fail_after(15), pytest.raises(FirstChunkTimeout):
                    await service.chat("x" * 100_000)
        tasks.cancel_scope.cancel()


# Event hooks of the application


@LIBRARIES
@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize("raised", [ValueError, KeyError, OSError, UnicodeError, "ReadTimeout", "RemoteProtocolError"])
async def test_exception_of_an_event_hook_is_an_error_of_the_call(
    toy: Any, library: Any, kind: str, raised: Any
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async def hook(message: object) -> None:
        raise (getattr(library, raised) if isinstance(raised, str) else raised)("a bug")

    async with serve(handler) as server, library.AsyncClient(event_hooks={kind: [hook]}) as client:
        async with toy(server.url, client=client, max_retries=2) as service:
            with pytest.raises(CallError, match=r"an event hook of the http_client .* failed: .*a bug") as caught:
                await service.chat("hi")
        assert len(server.requests) == (kind == "response")
    assert "in hook" in caught.value.__notes__[0]


@LIBRARIES
async def test_event_hook_that_is_not_asynchronous_is_an_error_of_the_call(toy: Any, library: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async with serve(handler) as server, library.AsyncClient(event_hooks={"response": [print]}) as client:
        async with toy(server.url, client=client, max_retries=2) as service:
            with pytest.raises(CallError, match="an event hook of the http_client"):
                await service.chat("hi")


@LIBRARIES
@pytest.mark.parametrize("reads", [True, False])
async def test_status_is_kept_if_an_event_hook_raises_for_it(toy: Any, library: Any, reads: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"error":"slow down"}', status=429, headers={"retry-after": "7"})

    async def hook(response: Any) -> None:
        if reads:
            await response.aread()
        response.raise_for_status()

    async with serve(handler) as server, library.AsyncClient(event_hooks={"response": [hook]}) as client:
        async with toy(server.url, client=client, max_retries=0) as service:
            with pytest.raises(RemoteError) as caught:
                await service.chat("hi")
    assert (caught.value.status, caught.value.retry_after) == (429, 7)
    assert ("slow down" in caught.value.message) == reads


@LIBRARIES
async def test_status_of_another_request_that_an_event_hook_sends_is_no_answer(toy: Any, library: Any) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"{}", status=401, headers={"retry-after": "9"})

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async with serve(refuse) as tokens, serve(handler) as server:

        async def hook(request: object) -> None:
            async with library.AsyncClient() as other:
                (await other.get(tokens.url)).raise_for_status()

        async with library.AsyncClient(event_hooks={"request": [hook]}) as client:
            async with toy(server.url, client=client, max_retries=2) as service:
                with pytest.raises(CallError, match=r"an event hook of the http_client .*'401"):
                    await service.chat("hi")
        assert (len(tokens.requests), len(server.requests)) == (1, 0)


@LIBRARIES
async def test_connection_that_breaks_while_an_event_hook_reads_is_tried_again(toy: Any, library: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            await exchange.hang_up()
        else:
            await exchange.respond(b'{"text":"hello"}')

    async def hook(response: Any) -> None:
        await response.aread()

    async with serve(handler) as server, library.AsyncClient(event_hooks={"response": [hook]}) as client:
        async with toy(server.url, client=client, max_retries=1) as service:
            assert (await service.chat("hi")).text == "hello"
    assert len(server.requests) == 2


@LIBRARIES
async def test_text_of_an_exception_of_an_event_hook_is_one_line(toy: Any, library: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async def hook(response: Any) -> None:
        raise ValueError("line\nERROR forged \x1b[31m line " + "x" * 100_000)

    async with serve(handler) as server, library.AsyncClient(event_hooks={"response": [hook]}) as client:
        async with toy(server.url, client=client) as service:
            with pytest.raises(CallError, match="an event hook of the http_client") as caught:
                await service.chat("hi")
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 10_000
