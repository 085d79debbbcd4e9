"""What is recorded at the wire comes back as it was, without credentials, and only for the same request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trunkline import ConnectionFailed, RateLimited, ServiceContext, StreamInterrupted
from trunkline._plugins.registry import open_steps
from trunkline.testing import Exchange, RecordingMismatch, record, replay, serve
from trunkline.testing.recordings import RecordedExchange

pytestmark = pytest.mark.anyio

LINES = {"content-type": "application/x-ndjson", "x-request-id": "r-1", "set-cookie": "session=s3cr3t-cookie"}
STREAM = (b'{"open":1}\n{"text":"h\xc3', b'\xa9"}\n', b'{"text":"llo"}\n{"done":true}\n')
KEY = "toy-secret-key"


async def answer(exchange: Exchange) -> None:
    if b'"stream":true' not in exchange.request.body:
        return await exchange.respond(b'{"text":"hello, toy-secret-key"}')
    await exchange.start(headers=LINES)
    for chunk in STREAM:
        await exchange.chunk(chunk)
    return await exchange.end()


async def read(service: Any, request: Any = "hi") -> Any:
    async with service.stream(request) as stream:
        events = [event async for event in stream]
    return events, stream.response


def content(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "tape.json"


async def test_recording_is_replayed_without_a_network(toy: Any, path: Path) -> None:
    async with serve(answer) as server:
        with record(path):
            async with toy(server.url) as service:
                events, response = await read(service)
                whole = await service.chat("hi")
        url = server.url
    with replay(path):
        async with toy(url) as service:
            assert [type(event) for event in (await read(service))[0]] == [type(event) for event in events]
            again = await service.chat("hi")
        async with toy(url) as service:
            with pytest.raises(RecordingMismatch, match="all of its exchanges have been used"):
                await service.chat("hi")
    assert response.text == "héllo"
    assert again.text == whole.text.replace(KEY, "***")


async def test_file_is_readable_and_contains_no_credentials(toy: Any, path: Path) -> None:
    async with serve(answer) as server:
        with record(path):
            async with toy(server.url, headers={"x-gate-token": "gate-token-value"}) as service:
                await read(service)
                await service.chat("hi")
    text = content(path)
    assert not [secret for secret in (KEY, "gate-token-value", "s3cr3t-cookie") if secret in text]
    streamed, whole = json.loads(text)["exchanges"]
    assert streamed["request"]["body"]["json"]["text"] == ["hi"]
    assert streamed["request"]["headers"]["authorization"] == "REDACTED"
    assert streamed["response"]["headers"]["x-request-id"] == "r-1"
    assert b"".join(RecordedExchange.load(streamed).chunks) == b"".join(STREAM)
    assert whole["chunks"] == ['{"text":"hello, ***"}']
    assert whole["ended"] == "complete"


async def test_a_secret_across_two_chunks_is_found(toy: Any, path: Path) -> None:
    async def split(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"toy-se')
        await exchange.chunk(b'cret-key"}\n{"done":true}\n')
        await exchange.end()

    async with serve(split) as server:
        with record(path):
            async with toy(server.url) as service:
                await read(service)
        url = server.url
    assert KEY not in content(path)
    with replay(path):
        async with toy(url) as service:
            assert (await read(service))[1].text == "***"


async def test_another_request_is_refused_with_the_difference(toy: Any, path: Path) -> None:
    async with serve(answer) as server:
        with record(path):
            async with toy(server.url) as service:
                await service.chat("Weather in Oslo?")
                await service.chat("What is a fjord?")
        url = server.url
    tape = replay(path)
    async with toy(url, extensions=[tape]) as service:
        with pytest.raises(RecordingMismatch) as caught:
            await service.chat("Weather in Rome?")
    message = str(caught.value)
    assert '-        "Weather in Oslo?"' in message
    assert '+        "Weather in Rome?"' in message
    assert "fjord" not in message
    with pytest.raises(RecordingMismatch, match="2 of the 2 exchanges"):
        tape.check()


async def test_leaving_with_exchanges_unused_is_refused_unless_the_block_failed(path: Path, toy: Any) -> None:
    async with serve(answer) as server:
        with record(path):
            async with toy(server.url) as service:
                await service.chat("hi")
    with pytest.raises(RecordingMismatch, match=r"1 of the 1 exchanges of tape\.json were not used: POST http"):
        with replay(path):
            pass
    with pytest.raises(KeyError):
        with replay(path):
            raise KeyError


async def test_equal_requests_are_answered_in_their_order_retries_included(toy: Any, path: Path) -> None:
    seen = 0

    async def at_first_busy(exchange: Exchange) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            return await exchange.respond(b"busy", status=429, headers={"retry-after": "0"})
        return await exchange.respond(b'{"text":"%d"}' % seen)

    async with serve(at_first_busy) as server:
        with record(path):
            async with toy(server.url) as service:
                assert (await service.chat("hi")).text == "2"
                assert (await service.chat("hi")).text == "3"
        url = server.url
    with replay(path):
        async with toy(url) as service:
            assert (await service.chat("hi")).text == "2"
            assert (await service.chat("hi")).text == "3"
    with replay(path):
        async with toy(url, max_retries=0) as service:
            with pytest.raises(RateLimited):
                await service.chat("hi")
            await service.chat("hi")
            await service.chat("hi")


async def test_failures_are_replayed_as_the_errors_that_they_were(toy: Any, path: Path) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(STREAM[0] + STREAM[1])
        await exchange.reset()

    async with serve(cut) as server:
        with record(path):
            async with toy(server.url, max_retries=0) as service:
                with pytest.raises(StreamInterrupted):
                    await read(service)
        url = server.url
    with replay(path):
        async with toy(url) as service:
            with pytest.raises(StreamInterrupted) as caught:
                await read(service)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "hé"
    with record(path):
        async with toy(url, max_retries=0) as service:
            with pytest.raises(ConnectionFailed):
                await service.chat("hi")
    with replay(path):
        async with toy(url, max_retries=0) as service:
            with pytest.raises(ConnectionFailed, match="cannot reach"):
                await service.chat("hi")


async def test_reading_on_where_the_recording_was_left_is_refused(toy: Any, path: Path) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(STREAM[0] + STREAM[1])
        await exchange.hung_up()

    async with serve(endless) as server:
        with record(path):
            async with toy(server.url) as service, service.stream("hi") as stream:
                await anext(stream)
        url = server.url
    with replay(path):
        async with toy(url) as service:
            with pytest.raises(RecordingMismatch, match="its reader stopped"):
                await read(service)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no recording"),
        ("no JSON", "is not a recording"),
        ("[]", "is not a recording in the format"),
        ('{"format": "trunkline-recording/1", "exchanges": [{}]}', "is damaged"),
        ('{"format": "trunkline-recording/1", "exchanges": 3}', "is damaged"),
    ],
)
def test_invalid_recording_raises(path: Path, text: str | None, message: str) -> None:
    if text is not None:
        path.parent.mkdir()
        path.write_text(text)
    with pytest.raises(RecordingMismatch, match=message):
        replay(path)


def test_a_tape_leaves_the_pure_steps_alone(tmp_path: Path, toy: Any) -> None:
    service = toy("http://127.0.0.1:9")
    context = ServiceContext(name="s", provider="toy", settings=service.settings)
    steps = open_steps(service._provider, context, [record(tmp_path / "t.json")])
    assert steps.transport is None
