"""The helpers for web servers: heartbeats between the events of a stream, and calls that end with their client."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
import trunkline
from trunkline import (
    Call,
    CallError,
    ChatResponse,
    ConnectionFailed,
    Finished,
    Heartbeat,
    Observer,
    ServerError,
    ServiceClosed,
    ServiceContext,
    Stream,
    StreamClosed,
    StreamInterrupted,
    TextDelta,
    hookimpl,
)
from trunkline.stream import PipelineStream
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

LINES = {"content-type": "application/x-ndjson"}
CHUNK = b'{"open": true, "text": "Hello"}\n'
END = b'{"done": true}\n'
SOON = 0.005
"""An interval, in seconds, that is short enough for tests. No test asserts how long anything takes."""

Toy = Callable[..., Any]


def living_tasks(backend: str) -> list[str]:
    """The tasks that read for `heartbeats`."""
    if backend == "trio":
        root = trio.lowlevel.current_root_task()
        assert root is not None
        names = [task.name for nursery in root.child_nurseries for task in nursery.child_tasks]
    else:
        names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name == "trunkline.heartbeats"]


@asynccontextmanager
async def no_task_left(backend: str) -> AsyncIterator[None]:
    """Check that the block leaves no task behind, and that asyncio reports nothing."""
    reported: list[dict[str, Any]] = []
    if backend == "asyncio":
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    yield
    gc.collect()
    assert living_tasks(backend) == []
    assert reported == []


async def hang_after_the_first_chunk(exchange: Exchange) -> None:
    await exchange.start(headers=LINES)
    await exchange.chunk(CHUNK)
    await exchange.hung_up()


async def hang_at_once(exchange: Exchange) -> None:
    await exchange.hung_up()


async def texts(service: Any) -> AsyncIterator[str]:
    """What the handler of a web server yields to its client."""
    async with trunkline.heartbeats(service.stream("Hi"), SOON) as events:
        async for event in events:
            match event:
                case Heartbeat():
                    yield ""
                case TextDelta(text=text):
                    yield text


# Heartbeats


async def test_heartbeats_come_before_the_first_event_and_between_events(toy: Toy) -> None:
    waited = [anyio.Event(), anyio.Event()]

    async def slow(exchange: Exchange) -> None:
        await waited[0].wait()
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await waited[1].wait()
        await exchange.chunk(END)
        await exchange.end()

    async with serve(slow) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        got: list[object] = []
        async with trunkline.heartbeats(stream, SOON) as events:
            async for event in events:
                got.append(event)
                if isinstance(event, Heartbeat):
                    waited[stream.partial.text == "Hello"].set()
        assert stream.response.text == "Hello"
        kinds = [type(event).__name__ for event in got]
        assert kinds[0] == "Heartbeat"
        assert "Heartbeat" in kinds[kinds.index("TextDelta") :]
        assert isinstance(got[-1], Finished)
        assert [event for event in got if isinstance(event, TextDelta)] == [TextDelta(index=0, text="Hello")]


async def test_a_stream_that_was_entered_is_read_on_and_closed(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        async with service.stream("Hi") as stream:
            first = await anext(stream)
            got: list[object] = []
            async with trunkline.heartbeats(stream, SOON) as events:
                async for event in events:
                    if isinstance(event, Heartbeat):
                        break
                    got.append(event)
            await server.wait_idle()
            assert first not in got
            assert TextDelta(index=0, text="Hello") in got
            assert stream.partial.text == "Hello"


async def test_wait_that_the_application_gives_up_cancels_no_read(toy: Toy) -> None:
    released = anyio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await released.wait()
        await exchange.chunk(END)
        await exchange.end()

    async with serve(slow) as server, toy(server.url) as service:
        got: list[object] = []
        gave_up = 0
        async with trunkline.heartbeats(service.stream("Hi"), 60) as events:
            while not got or not isinstance(got[-1], Finished):
                with anyio.move_on_after(SOON) as scope:
                    got.append(await anext(events))
                gave_up += scope.cancelled_caught
                if gave_up > 2:
                    released.set()
            with pytest.raises(StopAsyncIteration):
                await anext(events)
        async with service.stream("Hi") as stream:
            assert got == [event async for event in stream]


@pytest.mark.parametrize("leave", ["break", "exception", "cancelled"])
@pytest.mark.parametrize("handler", [hang_at_once, hang_after_the_first_chunk])
async def test_leaving_the_block_ends_the_read_and_closes_the_connection(
    handler: Any, leave: str, toy: Toy, anyio_backend: str
) -> None:
    async with serve(handler) as server, toy(server.url) as service, no_task_left(anyio_backend):

        async def read() -> None:
            async with trunkline.heartbeats(service.stream("Hi"), SOON) as events:
                async for event in events:
                    if not isinstance(event, Heartbeat) or not server.requests:
                        continue
                    if leave == "break":
                        break
                    if leave == "exception":
                        raise KeyError("of the application")
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            if leave == "exception":
                with pytest.raises(KeyError, match="of the application"):
                    await read()
            else:
                tasks.start_soon(read)
        with anyio.fail_after(5):
            await server.wait_idle()


async def test_leaving_the_block_at_any_moment_leaves_nothing_behind(toy: Toy, anyio_backend: str) -> None:
    async def whole(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await exchange.chunk(END)
        await exchange.end()

    async with serve(whole) as server, no_task_left(anyio_backend):
        for moment in range(60):
            async with toy(server.url) as service:
                async with trunkline.heartbeats(service.stream("Hi"), 60):
                    for _ in range(moment):
                        await anyio.lowlevel.checkpoint()
                assert living_tasks(anyio_backend) == []
                async with service.stream("Hi") as stream:
                    assert (await stream.finish()).text == "Hello"
            with anyio.fail_after(5):
                await server.wait_idle()


async def test_closing_the_service_interrupts_the_reader(toy: Toy, anyio_backend: str) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service, no_task_left(anyio_backend):
        async with trunkline.heartbeats(service.stream("Hi"), SOON) as events:
            with pytest.raises(ServiceClosed):
                async for event in events:
                    if isinstance(event, TextDelta):
                        await service.aclose()


class Diary(Observer):
    """What an observer hears of the end of calls."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Any]) -> Observer:
        return self

    def failed(self, call: Call, error: BaseException) -> None:
        self.entries.append(type(error).__name__)

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        self.entries.append(f"abandoned after {partial.text!r}")


async def test_observers_hear_that_a_stream_was_cancelled(toy: Toy) -> None:
    diary = Diary()
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=(diary,)) as service:
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                async for text in texts(service):
                    if text:
                        tasks.cancel_scope.cancel()

            tasks.start_soon(read)
    assert diary.entries in (["CancelledError"], ["Cancelled"])


@pytest.mark.parametrize("way", ["heartbeats", "aclose"])
async def test_observers_hear_that_a_stream_was_abandoned_during_a_read(way: str, toy: Toy) -> None:
    diary = Diary()
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=(diary,)) as service:
        stream = service.stream("Hi")
        if way == "heartbeats":
            async with trunkline.heartbeats(stream, SOON) as events:
                async for event in events:
                    if isinstance(event, Heartbeat) and stream.partial.text:
                        break
        else:
            async with stream, anyio.create_task_group() as tasks:

                async def read() -> None:
                    with pytest.raises(StreamClosed):
                        await stream.finish()

                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                while not stream.partial.text:
                    await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
                await stream.aclose()
    assert diary.entries == ["abandoned after 'Hello'"]


@pytest.mark.parametrize("handler", [hang_at_once, hang_after_the_first_chunk])
async def test_a_stream_whose_closing_fails_leaves_no_task_behind(
    handler: Any, toy: Toy, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Stream) -> None:
        raise ConnectionFailed("closing failed")

    async with serve(handler) as server, toy(server.url) as service, no_task_left(anyio_backend):
        with monkeypatch.context() as patch, pytest.raises(ConnectionFailed, match="closing failed"):
            async with trunkline.heartbeats(service.stream("Hi"), 60):
                patch.setattr(PipelineStream, "aclose", broken)
        with anyio.fail_after(5):
            await server.wait_idle()


@pytest.mark.parametrize("handler", [hang_at_once, hang_after_the_first_chunk])
async def test_a_generator_that_is_dropped_closes_the_connection(handler: Any, toy: Toy, anyio_backend: str) -> None:
    async with serve(handler) as server, toy(server.url) as service, no_task_left(anyio_backend):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # trio warns of each generator that is dropped
            async for _ in texts(service):
                if server.requests:
                    break
            gc.collect()
            with anyio.fail_after(5):
                await server.wait_idle()


@pytest.mark.parametrize("handler", [hang_at_once, hang_after_the_first_chunk])
async def test_a_generator_that_another_task_closes_closes_the_connection(
    handler: Any, toy: Toy, anyio_backend: str
) -> None:
    async with serve(handler) as server, toy(server.url) as service, no_task_left(anyio_backend):
        generator: Any = texts(service)

        async def step() -> None:
            await anext(generator)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(step)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(generator.aclose)
        with anyio.fail_after(5):
            await server.wait_idle()


async def test_a_generator_can_be_cancelled_in_the_task_group_of_a_web_framework(toy: Toy, anyio_backend: str) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service, no_task_left(anyio_backend):
        async with aclosing(texts(service)) as generator:  # type: ignore[type-var]
            async with anyio.create_task_group() as outer:

                async def respond() -> None:
                    async for text in generator:
                        async with anyio.create_task_group() as inner:
                            inner.start_soon(anyio.lowlevel.checkpoint)
                        if text:
                            outer.cancel_scope.cancel()

                outer.start_soon(respond)
            with anyio.fail_after(5):
                await server.wait_idle()


async def test_the_error_of_a_stream_follows_its_events_and_has_the_partial_answer(
    toy: Toy, anyio_backend: str
) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await exchange.hang_up()

    async with serve(cut) as server, toy(server.url) as service, no_task_left(anyio_backend):
        got: list[object] = []
        async with trunkline.heartbeats(service.stream("Hi"), 60) as events:
            with pytest.raises(StreamInterrupted) as caught:
                while True:
                    got.append(await anext(events))
            assert caught.value.partial is not None
            assert caught.value.partial.text == "Hello"
            assert TextDelta(index=0, text="Hello") in got
            for _ in range(2):
                with pytest.raises(StreamInterrupted) as again:
                    await anext(events)
                assert again.value is not caught.value
                assert (str(again.value), again.value.partial) == (str(caught.value), caught.value.partial)


async def test_an_error_of_another_iterator_is_raised_by_every_read_after_its_events() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "first"
        raise KeyError("of the application")

    async with trunkline.heartbeats(failing(), 60) as events:
        assert await anext(events) == "first"
        for _ in range(2):
            with pytest.raises(KeyError, match="of the application"):
                await anext(events)


async def test_an_error_from_opening_the_stream_is_raised_by_the_first_read(toy: Toy, anyio_backend: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"busy", status=500)

    async with serve(refuse) as server, toy(server.url, max_retries=0) as service, no_task_left(anyio_backend):
        async with trunkline.heartbeats(service.stream("Hi"), 60) as events:
            with pytest.raises(ServerError, match="busy"):
                await anext(events)


async def test_an_error_that_nobody_reads_is_not_reported(toy: Toy, anyio_backend: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"busy", status=500)

    async with serve(refuse) as server, toy(server.url, max_retries=0) as service, no_task_left(anyio_backend):
        async with trunkline.heartbeats(service.stream("Hi"), 60):
            while not server.requests:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()


async def test_leaving_the_block_in_another_task_ends_a_read_that_waits(toy: Toy, anyio_backend: str) -> None:
    async with serve(hang_at_once) as server, toy(server.url) as service, no_task_left(anyio_backend):
        beats = trunkline.heartbeats(service.stream("Hi"), 60)
        events = await beats.__aenter__()

        async def read() -> None:
            with pytest.raises(CallError, match="the stream is closed"):
                await anext(events)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await beats.__aexit__(None, None, None)
        with pytest.raises(CallError, match="the stream is closed"):
            await anext(events)


async def numbers(count: int, given: list[int] | None = None) -> AsyncIterator[int]:
    for number in range(count):
        if given is not None:
            given.append(number)
        yield number


async def test_any_iterator_of_events_can_have_heartbeats() -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[int]]:
        async with anyio.create_task_group():  # the block is entered and left by the same task
            yield numbers(3)

    class Plain:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return 2 - self.left

    async with trunkline.heartbeats(numbers(3), 60) as events:
        assert [event async for event in events] == [0, 1, 2]
    async with trunkline.heartbeats(opened(), 60) as events:
        assert [event async for event in events] == [0, 1, 2]
    async with trunkline.heartbeats(Plain(), 60) as events:
        assert [event async for event in events] == [0, 1, 2]


async def test_a_reader_that_is_slow_holds_the_stream_up() -> None:
    given: list[int] = []
    async with trunkline.heartbeats(numbers(10_000, given), 60) as events:
        for expected in range(300):
            assert await anext(events) == expected
            await anyio.wait_all_tasks_blocked()
            assert len(given) <= expected + 66
    assert len(given) < 400


async def test_a_stream_is_read_in_the_context_of_the_task_that_entered_the_block() -> None:
    caller = contextvars.ContextVar("caller", default="nobody")

    async def named() -> AsyncIterator[str]:
        yield caller.get()

    caller.set("this test")
    async with trunkline.heartbeats(named(), 60) as events:
        assert [event async for event in events] == ["this test"]


async def test_misuse_of_heartbeats_raises_at_once() -> None:
    for seconds in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="seconds must be positive"):
            trunkline.heartbeats(numbers(1), seconds)
    beats: Any = trunkline.heartbeats(numbers(1), 60)
    with pytest.raises(CallError, match="enter the heartbeats"):
        await anext(beats)
    async with beats:
        with pytest.raises(CallError, match="only once"):
            await beats.__aenter__()

    async def silent() -> AsyncIterator[int]:
        await anyio.sleep_forever()
        yield 0

    async with trunkline.heartbeats(silent(), 60) as events, anyio.create_task_group() as tasks:

        async def read() -> None:
            await anext(events)

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(CallError, match="another task is reading"):
            await anext(events)
        tasks.cancel_scope.cancel()


# On trio, with a clock that jumps to the next deadline whenever all tasks wait.


def on_jumping_clock(test: Callable[[], Any]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_heartbeats_come_at_the_interval_since_the_last_event_or_heartbeat() -> None:
    async def run() -> None:
        async def slow() -> AsyncIterator[str]:
            for pause in (40, 10, 31):
                await anyio.sleep(pause)
                yield f"after {pause}"

        start = trio.current_time()
        async with trunkline.heartbeats(slow(), 15) as events:
            got = [
                (trio.current_time() - start, "beat" if isinstance(event, Heartbeat) else event)
                async for event in events
            ]
        assert got == [
            (15, "beat"),
            (30, "beat"),
            (40, "after 40"),
            (50, "after 10"),
            (65, "beat"),
            (80, "beat"),
            (81, "after 31"),
        ]

    on_jumping_clock(run)


def test_a_wait_that_is_given_up_does_not_postpone_the_heartbeat() -> None:
    async def run() -> None:
        async def silent() -> AsyncIterator[str]:
            await anyio.sleep_forever()
            yield ""

        async with trunkline.heartbeats(silent(), 15) as events:
            for _ in range(2):
                with trio.move_on_after(6) as scope:
                    await anext(events)
                assert scope.cancelled_caught
            with trio.fail_after(4):
                assert isinstance(await anext(events), Heartbeat)

    on_jumping_clock(run)


def test_a_background_task_that_asyncio_cancels_interrupts_the_stream() -> None:
    async def run() -> None:
        async def silent() -> AsyncIterator[str]:
            await anyio.sleep_forever()
            yield ""

        async with trunkline.heartbeats(silent(), 60) as events:
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            with pytest.raises(StreamInterrupted, match="cancelled"):
                await anext(events)

    asyncio.run(run())


def test_asyncio_can_end_while_a_block_is_open() -> None:
    kept: list[Any] = []
    closed: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            await anyio.sleep_forever()
        finally:
            closed.append("source")

    async def generator() -> AsyncIterator[object]:
        async with trunkline.heartbeats(source(), 60) as events:
            async for event in events:
                yield event

    async def run() -> None:
        kept.append(generator())
        assert await anext(kept[0]) == "first"

    asyncio.run(run())
    assert closed == ["source"]


# A call that ends with its client


class Client:
    """The ASGI `receive` of a request, as a server makes it. `leave` hangs up."""

    def __init__(self, *messages: dict[str, object]) -> None:
        self._messages: Iterator[dict[str, object]] = iter(messages)
        self._left = anyio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, object]:
        for message in self._messages:
            return message
        await self._left.wait()
        return {"type": "http.disconnect"}


EMPTY: dict[str, object] = {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("messages", [(), (EMPTY,), ({"type": "http.request"},)])
async def test_call_whose_client_stays_returns_its_result(messages: Any, toy: Toy, anyio_backend: str) -> None:
    async def whole(exchange: Exchange) -> None:
        await exchange.respond(b'{"text": "Hello"}')

    async with serve(whole) as server, toy(server.url) as service, no_task_left(anyio_backend):
        client = Client(*messages)
        response = await trunkline.until_disconnect(service.chat("Hi"), receive=client.receive)
        assert response is not None
        assert response.text == "Hello"


async def test_call_whose_client_disconnects_is_cancelled(toy: Toy, anyio_backend: str) -> None:
    client = Client(EMPTY)

    async def silent(exchange: Exchange) -> None:
        client.leave()
        await exchange.hung_up()

    async with serve(silent) as server, toy(server.url) as service, no_task_left(anyio_backend):
        with anyio.fail_after(5):
            assert await trunkline.until_disconnect(service.chat("Hi"), receive=client.receive) is None
            await server.wait_idle()
        assert len(server.requests) == 1


async def test_opening_a_stream_whose_client_disconnects_is_cancelled(toy: Toy, anyio_backend: str) -> None:
    client = Client()

    async def silent(exchange: Exchange) -> None:
        client.leave()
        await exchange.hung_up()

    async with serve(silent) as server, toy(server.url) as service, no_task_left(anyio_backend):
        stream = service.stream("Hi")
        with anyio.fail_after(5):
            assert await trunkline.until_disconnect(stream.__aenter__(), receive=client.receive) is None
            await server.wait_idle()


@pytest.mark.parametrize("handler", [hang_at_once, hang_after_the_first_chunk])
async def test_client_that_disconnects_ends_a_stream_with_heartbeats(
    handler: Any, toy: Toy, anyio_backend: str
) -> None:
    async with serve(handler) as server, toy(server.url) as service, no_task_left(anyio_backend):
        client, stream = Client(EMPTY), service.stream("Hi")
        async with trunkline.heartbeats(stream, SOON, receive=client.receive) as events:
            with pytest.raises(StreamClosed, match="the client has disconnected") as caught:
                async for event in events:
                    if isinstance(event, Heartbeat) and server.requests:
                        client.leave()
            assert (caught.value.partial, caught.value.service) == (stream.partial, "toy")
            with anyio.fail_after(5):
                await server.wait_idle()


@pytest.mark.parametrize("way", ["heartbeats", "until_disconnect"])
@pytest.mark.parametrize("begins", [True, False], ids=["after-the-first-chunk", "before"])
async def test_observers_hear_that_a_stream_was_abandoned_when_the_client_disconnects(
    way: str, begins: bool, toy: Toy
) -> None:
    diary, client = Diary(), Client(EMPTY)

    async def handler(exchange: Exchange) -> None:
        if begins:
            await hang_after_the_first_chunk(exchange)
        else:
            client.leave()
            await exchange.hung_up()

    async with serve(handler) as server, toy(server.url, extensions=(diary,)) as service:
        with anyio.fail_after(10):
            if way == "heartbeats":
                async with trunkline.heartbeats(service.stream("Hi"), 60, receive=client.receive) as events:
                    with pytest.raises(StreamClosed):
                        async for event in events:
                            if isinstance(event, TextDelta):
                                client.leave()
            else:

                async def read() -> str:
                    async with service.stream("Hi") as stream:
                        async for event in stream:
                            if isinstance(event, TextDelta):
                                client.leave()
                    return "whole"

                assert await trunkline.until_disconnect(read(), receive=client.receive) is None
    assert diary.entries == ["abandoned after 'Hello'" if begins else "abandoned after ''"]


async def test_observers_hear_that_a_call_failed_when_the_application_cancels_it(toy: Toy) -> None:
    diary, client = Diary(), Client(EMPTY)

    async def read(service: Any) -> None:
        async with service.stream("Hi") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    tasks.cancel_scope.cancel()

    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=(diary,)) as service:
        async with anyio.create_task_group() as tasks:
            await trunkline.until_disconnect(read(service), receive=client.receive)
    assert diary.entries in (["CancelledError"], ["Cancelled"])


async def test_client_that_disconnects_ends_a_stream_that_nobody_reads_on(toy: Toy, anyio_backend: str) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service, no_task_left(anyio_backend):
        client = Client()

        async def handler() -> AsyncIterator[object]:
            async with trunkline.heartbeats(service.stream("Hi"), 60, receive=client.receive) as events:
                async for event in events:
                    yield event

        async with aclosing(handler()) as generator:  # type: ignore[type-var]
            await anext(generator)
            client.leave()  # the web framework has dropped the generator, but the garbage collector has not found it
            with anyio.fail_after(5):
                await server.wait_idle()


async def test_client_that_stays_gets_the_whole_stream_with_heartbeats(toy: Toy, anyio_backend: str) -> None:
    async def whole(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK + END)
        await exchange.end()

    async with serve(whole) as server, toy(server.url) as service, no_task_left(anyio_backend):
        async with trunkline.heartbeats(service.stream("Hi"), 60, receive=Client().receive) as events:
            got = [event async for event in events]
        assert isinstance(got[-1], Finished)


async def test_the_error_of_a_call_is_raised_as_it_is(toy: Toy, anyio_backend: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"busy", status=500)

    async with serve(refuse) as server, toy(server.url, max_retries=0) as service, no_task_left(anyio_backend):
        with pytest.raises(ServerError, match="busy"):
            await trunkline.until_disconnect(service.chat("Hi"), receive=Client().receive)


async def test_an_error_of_receive_ends_the_call(anyio_backend: str) -> None:
    async def broken() -> dict[str, object]:
        raise RuntimeError("of the server")

    async with no_task_left(anyio_backend):
        with pytest.raises(RuntimeError, match="of the server"):
            await trunkline.until_disconnect(anyio.sleep_forever(), receive=broken)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.request", "body": b"{}", "more_body": False},
        {"type": "http.request", "body": b"", "more_body": True},
    ],
)
async def test_a_part_of_the_body_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(CallError, match="read the body before the call"):
        await trunkline.until_disconnect(anyio.sleep_forever(), receive=Client(message).receive)


async def test_the_receive_of_a_websocket_is_refused() -> None:
    websocket = Client({"type": "websocket.receive", "text": "Hi"})
    with pytest.raises(CallError, match=r"'websocket\.receive'; pass the receive of an HTTP request"):
        await trunkline.until_disconnect(anyio.sleep_forever(), receive=websocket.receive)


async def test_cancelling_the_handler_cancels_the_call(toy: Toy, anyio_backend: str) -> None:
    async with serve(hang_at_once) as server, toy(server.url) as service, no_task_left(anyio_backend):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(trunkline.until_disconnect, service.chat("Hi"), receive=Client().receive))
            while not server.requests:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(5):
            await server.wait_idle()


async def test_what_was_read_ahead_is_dropped_when_the_client_disconnects(toy: Toy, anyio_backend: str) -> None:
    async def many(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK + b'{"text": "more"}\n' * 20)
        await exchange.hung_up()

    left = anyio.Event()

    async def receive() -> dict[str, object]:
        await left.wait()
        return {"type": "http.disconnect"}

    async with serve(many) as server, toy(server.url) as service:
        async with trunkline.heartbeats(service.stream("Hi"), 60, receive=receive) as events:
            await anext(events)
            left.set()
            with anyio.fail_after(5):
                while living_tasks(anyio_backend):
                    await anyio.lowlevel.checkpoint()
            with pytest.raises(StreamClosed) as caught:
                await anext(events)
    assert caught.value.partial is not None
    assert caught.value.partial.text.startswith("Hello")
