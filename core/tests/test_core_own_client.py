"""Calls over an application's own client of httpx2 or httpx: HTTP/2 that a server breaks, and encodings."""

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
from trunkline import ConnectionFailed, StreamInterrupted, TextDelta
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
