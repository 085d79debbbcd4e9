"""The life of a stream: `aclose` may come in any state, from any task, and never leaves a connection open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trunkline import CallError, Finished, ServiceClosed
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def http_library(stack: str) -> str:
    return "httpx2" if stack == "asyncio-httpx2" else "auto"


LINES = {"content-type": "application/x-ndjson"}
CHUNK = b'{"open": true, "text": "Hello"}\n'
END = b'{"done": true}\n'

Toy = Callable[..., Any]


async def answer(exchange: Exchange) -> None:
    await exchange.start(headers=LINES)
    await exchange.chunk(CHUNK + END)
    await exchange.end()


async def hang_after_the_first_chunk(exchange: Exchange) -> None:
    await exchange.start(headers=LINES)
    await exchange.chunk(CHUNK)
    await exchange.hung_up()


async def test_a_new_stream_that_is_closed_cannot_be_entered(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        await stream.aclose()
        with pytest.raises(CallError, match="only once"):
            await stream.__aenter__()
        assert not server.requests


async def test_closing_a_stream_while_the_service_still_opens_sends_nothing(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service, anyio.create_task_group() as tasks:
        stream = service.stream("Hi")

        async def enter() -> None:
            with pytest.raises(CallError, match="closed before it opened"):
                await stream.__aenter__()

        async with service._opening:  # as another call holds it while it opens the service
            tasks.start_soon(enter)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
    assert not server.requests


async def test_closing_from_another_task_ends_the_read_that_waits(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        async with stream, anyio.create_task_group() as tasks:
            waiting = anyio.Event()

            async def read() -> None:
                with pytest.raises(ServiceClosed) as caught:
                    async for event in stream:
                        if event is not None and stream.partial.text == "Hello":
                            waiting.set()
                assert caught.value.partial is not None
                assert caught.value.partial.text == "Hello"

            tasks.start_soon(read)
            await waiting.wait()
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_stream_that_was_read_to_its_end_stays_finished_when_it_is_closed(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        async with stream:
            events = [event async for event in stream]
        assert isinstance(events[-1], Finished)
        await stream.aclose()
        assert stream.response.text == "Hello"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_closed_stream_refuses_to_be_read(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        async with stream:
            pass
        with pytest.raises(CallError, match="the stream is closed"):
            await anext(stream)
