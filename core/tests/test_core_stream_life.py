"""The life of a stream: `aclose` may come in any state, from any task, and never leaves a connection open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from trunkline import (
    Call,
    CallError,
    ChatResponse,
    ChunkTimeout,
    ConnectionFailed,
    Finished,
    FinishReason,
    Observer,
    ProtocolViolation,
    ServiceClosed,
    StreamClosed,
    StreamInterrupted,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallStart,
    hookimpl,
)
from trunkline._calls.event_reader import EventReader
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]


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
            with pytest.raises(StreamClosed, match="closed before it opened"):
                await stream.__aenter__()

        async with service._state.parts.get().opening:  # as another call holds it while it opens the service
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
                with pytest.raises(StreamClosed, match="while it was being read") as caught:
                    async for event in stream:
                        if event is not None and stream.partial.text == "Hello":
                            waiting.set()
                assert caught.value.partial is not None
                assert caught.value.partial.text == "Hello"

            tasks.start_soon(read)
            await waiting.wait()
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
        with pytest.raises(StreamClosed):
            await anext(stream)


async def test_error_of_a_closed_service_says_that_the_service_was_closed(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        async with stream, anyio.create_task_group() as tasks:

            async def read() -> None:
                with pytest.raises(ServiceClosed) as caught:
                    await stream.finish()
                assert str(caught.value) == "service 'toy' was closed while a stream of it was being read"

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await service.aclose()


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


async def test_closed_stream_delivers_no_event_that_had_arrived(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        async with service.stream("hello") as stream:
            async for _ in stream:
                break
        with pytest.raises(StreamClosed):
            await stream.__anext__()


async def test_a_closed_stream_refuses_to_be_read(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        stream = service.stream("Hi")
        async with stream:
            pass
        with pytest.raises(StreamClosed, match="closed before it was read to its end") as caught:
            await anext(stream)
        assert caught.value.partial is not None


# A read that was cancelled


async def read_up_to_the_text(stream: Any) -> None:
    async for event in stream:
        if isinstance(event, TextDelta):
            return


async def with_move_on_after(stream: Any) -> None:
    with anyio.move_on_after(0.01) as scope:
        await anext(stream)
    assert scope.cancelled_caught


async def with_wait_for(stream: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.01)


async def with_timeout(stream: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(stream)


async def with_a_cancelled_task(stream: Any) -> None:
    task = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def with_a_scope_of_trio(stream: Any) -> None:
    import trio

    with trio.move_on_after(0.01) as scope:
        await anext(stream)
    assert scope.cancelled_caught


CANCEL: dict[str, Callable[[Any], Any]] = {
    "move_on_after": with_move_on_after,
    "wait_for": with_wait_for,
    "timeout": with_timeout,
    "task": with_a_cancelled_task,
    "trio": with_a_scope_of_trio,
}


@pytest.mark.parametrize("way", CANCEL)
async def test_cancelled_read_raises_on_next_read(toy: Toy, way: str, anyio_backend_name: str) -> None:
    if way != "move_on_after" and (way == "trio") != (anyio_backend_name == "trio"):
        pytest.skip("belongs to the other backend")
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        async with service.stream("Hi") as stream:
            await read_up_to_the_text(stream)
            await CANCEL[way](stream)
            errors: list[StreamInterrupted] = []
            for _ in range(3):
                with pytest.raises(StreamInterrupted, match="an earlier read of this stream was cancelled") as caught:
                    async for _ in stream:
                        pass
                errors.append(caught.value)
            with pytest.raises(CallError, match="has not finished"):
                _ = stream.response
        with pytest.raises(StreamInterrupted):  # after the block too
            await anext(stream)
        assert [error.partial and error.partial.text for error in errors] == ["Hello"] * 3
        assert len(set(map(id, errors))) == 3
        assert {error.provider for error in errors} == {"toy"}
        await server.wait_idle()


async def test_stream_whose_opening_was_cancelled_raises_when_it_is_read(toy: Toy) -> None:
    async def silent(exchange: Exchange) -> None:
        arrived.set()
        await exchange.hung_up()

    arrived = anyio.Event()
    async with serve(silent) as server, toy(server.url) as service, anyio.create_task_group() as tasks:
        stream = service.stream("Hi")
        tasks.start_soon(stream.__aenter__)
        await arrived.wait()
        tasks.cancel_scope.cancel()
    with pytest.raises(StreamInterrupted, match="opening this stream was cancelled"):
        await anext(stream)


async def test_read_in_a_cancelled_scope_loses_no_event(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service, service.stream("Hi") as stream:
        await anext(stream)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(stream)  # has arrived already, so there is no wait that could be cancelled
        assert (await stream.finish()).text == "Hello"


async def test_a_finished_stream_ends_although_a_read_was_cancelled_afterwards(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service, service.stream("Hi") as stream:
        await stream.finish()
        with anyio.CancelScope() as scope:
            scope.cancel()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert [event async for event in stream] == []


# A read that failed


async def test_reading_on_after_an_error_raises_it_again(toy: Toy) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await exchange.end()

    async with serve(cut) as server, toy(server.url) as service, service.stream("Hi") as stream:
        with pytest.raises(StreamInterrupted) as first:
            [event async for event in stream]
        with pytest.raises(StreamInterrupted) as second:
            [event async for event in stream]
    assert second.value is not first.value
    assert str(second.value) == str(first.value)
    assert second.value.partial is not None
    assert second.value.partial.text == "Hello"


async def test_reading_on_after_the_chunk_timeout_raises_it_again(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, chunk_timeout=0.05) as service:
        async with service.stream("Hi") as stream:
            for _ in range(2):
                with pytest.raises(ChunkTimeout) as caught:
                    [event async for event in stream]
                assert caught.value.partial is not None


class WrongOrder:
    """A response parser whose stream has events in an impossible order, all from one chunk."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def stream(self) -> tuple[Any, Any]:
        return JSONLinesFramer(), self

    def feed(self, frame: bytes) -> list[Any]:
        return self._events

    def finish(self) -> list[Any]:
        raise AssertionError

    body = error = feed


@pytest.mark.parametrize(
    "wrong",
    [
        [ToolCallStart(index=1, id="a", name="f"), ToolCallStart(index=1, id="b", name="g")],
        [TextDelta(index=7, text="no start")],
        [TextEnd(index=7)],
    ],
    ids=["tool call that starts twice", "delta without a start", "end without a start"],
)
async def test_events_in_an_impossible_order_are_a_protocol_violation(toy: Toy, wrong: list[Any]) -> None:
    events = [TextStart(index=0), TextDelta(index=0, text="Hello"), *wrong, Finished(reason=FinishReason.STOP)]
    diary = Diary()
    changes = {"response_parser": lambda context: WrongOrder(events)}
    async with serve(answer) as server, toy(server.url, changes, extensions=[diary]) as service:
        async with service.stream("Hi") as stream:
            for _ in range(2):
                with pytest.raises(ProtocolViolation) as caught:
                    [event async for event in stream]
                assert caught.value.partial is not None
                assert caught.value.partial.text == "Hello"
                assert caught.value.partial.finish_reason is FinishReason.ERROR
    assert diary.entries == ["failed ProtocolViolation"]


# What observers hear of a stream that is left


class Diary(Observer):
    """Records how calls end."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.partial: ChatResponse | None = None

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer:
        return self

    def finished(self, call: Call, response: object) -> None:
        self.entries.append("finished")

    def failed(self, call: Call, error: BaseException) -> None:
        self.entries.append(f"failed {type(error).__name__}")

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        self.entries.append("abandoned")
        self.partial = partial


@pytest.mark.parametrize("way", ["break", "exception", "aclose"])
async def test_observers_hear_that_a_stream_was_abandoned(toy: Toy, way: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"usage": [3, 1]}\n' + CHUNK)
        await exchange.hung_up()

    diary = Diary()
    async with serve(handler) as server, toy(server.url, extensions=[diary]) as service:
        with contextlib.suppress(ZeroDivisionError):
            async with service.stream("Hi") as stream:
                await read_up_to_the_text(stream)
                if way == "exception":
                    raise ZeroDivisionError
                if way == "aclose":
                    await stream.aclose()
    assert diary.entries == ["abandoned"]
    assert diary.partial is not None
    assert diary.partial.text == "Hello"
    assert diary.partial.usage is not None
    assert diary.partial.usage.input_tokens == 3


@pytest.mark.parametrize("where", ["in a read", "between two reads"])
async def test_observers_hear_that_a_stream_was_cancelled(toy: Toy, where: str) -> None:
    diary = Diary()
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=[diary]) as service:
        with anyio.CancelScope() as scope:
            async with service.stream("Hi") as stream:
                await read_up_to_the_text(stream)
                scope.cancel()
                await (anyio.sleep(1) if where == "between two reads" else anext(stream))
    assert diary.entries == [f"failed {anyio_cancelled()}"]


def anyio_cancelled() -> str:
    return anyio.get_cancelled_exc_class().__name__


async def test_observers_hear_that_the_service_was_closed(toy: Toy) -> None:
    diary = Diary()
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=[diary]) as service:
        async with service.stream("Hi") as stream:
            await read_up_to_the_text(stream)
            await service.aclose()
            with pytest.raises(ServiceClosed) as caught:
                await anext(stream)
    assert caught.value.partial is not None
    assert diary.entries == ["failed ServiceClosed"]


# Reading without handling events


async def test_text_gives_only_the_text(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service, service.stream("Hi") as stream:
        assert [text async for text in stream.text] == ["Hello"]
        assert stream.response.text == "Hello"


async def test_text_leaves_out_refusals_as_the_response_does(toy: Toy) -> None:
    events = [
        TextStart(index=0, refusal=True),
        TextDelta(index=0, text="No."),
        TextStart(index=1),
        TextDelta(index=1, text="Yes."),
        Finished(reason=FinishReason.STOP),
    ]
    changes = {"response_parser": lambda context: WrongOrder(events)}
    async with serve(answer) as server, toy(server.url, changes) as service, service.stream("Hi") as stream:
        assert [text async for text in stream.text] == ["Yes."]
        assert stream.response.text == "Yes."


async def test_text_leaves_out_a_refusal_whose_start_was_read_as_an_event(toy: Toy) -> None:
    events = [
        TextStart(index=0, refusal=True),
        TextDelta(index=0, text="No."),
        TextDelta(index=0, text=" Never."),
        Finished(reason=FinishReason.STOP),
    ]
    changes = {"response_parser": lambda context: WrongOrder(events)}
    async with serve(answer) as server, toy(server.url, changes) as service, service.stream("Hi") as stream:
        async for event in stream:
            if isinstance(event, TextStart):
                break
        assert [text async for text in stream.text] == []
        assert stream.response.text == ""


async def test_text_of_a_stream_that_is_cut_off_raises(toy: Toy) -> None:
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, chunk_timeout=0.05) as service:
        async with service.stream("Hi") as stream:
            texts = stream.text
            assert await anext(texts) == "Hello"
            with pytest.raises(ChunkTimeout):
                await anext(texts)


async def test_finish_returns_the_whole_response_wherever_reading_stopped(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        async with service.stream("Hi") as stream:
            await anext(stream)
            response = await stream.finish()
            assert response.text == "Hello"
            assert await stream.finish() is response
        assert await stream.finish() is response


# Closing that fails


async def test_stream_whose_closing_fails_is_closed_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = break_closing(monkeypatch)
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        stream = await service.stream("Hi").__aenter__()
        with pytest.raises(ConnectionFailed, match="closing failed"):
            await stream.aclose()
        await stream.aclose()
    assert len(closed) == 1


async def test_closing_a_service_closes_all_streams_though_closing_one_fails(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = break_closing(monkeypatch)
    async with serve(hang_after_the_first_chunk) as server, toy(server.url) as service:
        for text in ("one", "two"):
            await service.stream(text).__aenter__()
        await service.aclose()
        await server.wait_idle()
    assert len(closed) == 2


def break_closing(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Make the closing of each connection fail after it was closed. Returns the list of what was closed."""
    closed: list[object] = []
    aclose = EventReader.aclose

    async def fails(reader: EventReader, ended: BaseException | None) -> None:
        closed.append(reader)
        await aclose(reader, ended)
        raise ConnectionFailed("closing failed")

    monkeypatch.setattr(EventReader, "aclose", fails)
    return closed


async def test_second_closing_of_a_stream_that_opens_waits_for_the_first(toy: Toy) -> None:
    opening, go, order = anyio.Event(), anyio.Event(), []

    class Slow(NoAuth):
        async def acquire(self, *, refresh: bool = False) -> None:
            opening.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await go.wait()

    async with serve(answer) as server, toy(server.url, {"auth": lambda context: Slow()}) as service:
        stream = service.stream("Hi")

        async def enter() -> None:
            with pytest.raises(StreamClosed):
                await stream.__aenter__()
            order.append("entered")

        async def close() -> None:
            await stream.aclose()
            order.append("closed")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await opening.wait()
            tasks.start_soon(close)
            tasks.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            assert order == []
            go.set()
    assert sorted(order) == ["closed", "closed", "entered"]
