"""A service of mistral from end to end, against a loopback server, on both backends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from trunkline import ChatRequest, Service, open_service, user
from trunkline.errors import AuthenticationError, RateLimited, StreamInterrupted, UnsupportedRequest
from trunkline.events import Finished
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TOLD = {"id": "c", "model": "mistral-small-2603", "object": "chat.completion"}
CONTENT = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
    {"type": "text", "text": "hello"},
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(url: str, **fields: Any) -> Service:
    fields = {"api_key": "canary", "api_url": url, "default_model": "mistral-small-latest", **fields}
    return open_service("mistral", **fields)


def chunks() -> list[bytes]:
    deltas: list[Any] = [{"role": "assistant", "content": ""}, {"content": CONTENT[:1]}, {"content": "hel"}]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    last = {"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}
    told = [{**TOLD, "choices": [choice]} for choice in choices] + [{**TOLD, "choices": [last], "usage": USAGE}]
    return [b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in told] + [b"data: [DONE]\n\n"]


async def answer(exchange: Exchange) -> None:
    if exchange.request.target == "/v1/models":
        return await exchange.respond(b'{"object":"list","data":[{"id":"a"}]}')
    if exchange.request.target == "/v1/embeddings":
        return await exchange.respond(b'{"data":[{"index":0,"embedding":[1.0]}]}')
    if not json.loads(exchange.request.body).get("stream"):
        message = {"role": "assistant", "content": CONTENT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return await exchange.respond(json.dumps({**TOLD, "choices": [choice], "usage": USAGE}).encode())
    await exchange.start()
    for chunk in chunks():
        await exchange.chunk(chunk)
    return await exchange.end()


async def test_a_stream_folds_to_what_a_chat_gives() -> None:
    async with serve(answer) as server, opened(server.url) as service:
        response = await service.chat("hi")
        async with service.stream("hi") as stream:
            events = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    assert (response.text, response.reasoning, response.finish_reason) == ("hello", "hm", "stop")
    assert stream.response.parts == response.parts
    assert stream.response.usage == response.usage
    assert (response.provider, response.model) == ("mistral", "mistral-small-2603")
    [first, second] = server.requests
    assert first.target == second.target == "/v1/chat/completions"
    assert first.headers["authorization"] == "Bearer canary"
    assert json.loads(second.body) == {
        "model": "mistral-small-latest",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }


async def test_models_and_embeddings() -> None:
    async with serve(answer) as server, opened(server.url) as service:
        assert [model.id for model in await service.list_models()] == ["a"]
        assert (await service.embed(["x"])).embeddings == ((1.0,),)


def failing(status: int, body: bytes, times: int) -> tuple[list[int], Callable[[Exchange], Any]]:
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(status)
        if len(seen) > times:
            return await answer(exchange)
        return await exchange.respond(
            body,
            status=status,
            headers={"content-type": "application/json", "retry-after": "0", "mistral-correlation-id": "id1"},
        )

    return seen, handler


LIMITED = b'{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}'


async def test_a_rate_limit_is_waited_for() -> None:
    seen, handler = failing(429, LIMITED, 1)
    async with serve(handler) as server, opened(server.url) as service:
        assert (await service.chat("hi")).text == "hello"
    assert len(seen) == 2


async def test_errors_tell_what_happened_and_show_no_key() -> None:
    _, handler = failing(401, b'{"detail":"Invalid API Key canary"}', 9)
    async with serve(handler) as server, opened(server.url) as service:
        with pytest.raises(AuthenticationError) as caught:
            await service.chat("hi")
    assert (caught.value.request_id, caught.value.provider) == ("id1", "mistral")
    assert "canary" not in str(caught.value) + repr(caught.value)


async def test_a_rate_limit_that_stays_is_told() -> None:
    seen, handler = failing(429, LIMITED, 9)
    async with serve(handler) as server, opened(server.url, max_retries=0) as service:
        with pytest.raises(RateLimited) as caught:
            async with service.stream("hi") as stream:
                [event async for event in stream]
    assert (caught.value.code, caught.value.retry_after) == ("1300", 0)
    assert len(seen) == 1


async def test_a_stream_without_its_terminator_is_interrupted_with_what_came() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        for chunk in chunks()[:-1]:
            await exchange.chunk(chunk)
        await exchange.end()

    async with serve(handler) as server, opened(server.url) as service:
        with pytest.raises(StreamInterrupted) as caught:
            async with service.stream("hi") as stream:
                [event async for event in stream]
    assert caught.value.partial is not None
    assert caught.value.partial.text == "hello"


async def test_an_error_in_the_middle_of_a_stream_has_the_partial() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        for chunk in chunks()[:3]:
            await exchange.chunk(chunk)
        await exchange.chunk(b"data: " + LIMITED + b"\n\n")
        await exchange.end()

    async with serve(handler) as server, opened(server.url) as service:
        with pytest.raises(RateLimited) as caught:
            async with service.stream("hi") as stream:
                [event async for event in stream]
    assert caught.value.partial is not None
    assert caught.value.partial.text == "hel"


async def test_a_strict_service_refuses_what_cannot_be_said() -> None:
    async with serve(answer) as server, opened(server.url, strict=True) as service:
        with pytest.raises(UnsupportedRequest, match="top_k"):
            await service.chat(ChatRequest(messages=[user("hi")], top_k=3))
    assert server.requests == []
