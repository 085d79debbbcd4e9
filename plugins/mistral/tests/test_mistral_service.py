"""A service of mistral from end to end, against a loopback server, on both backends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trunkline import ChatRequest, Service, open_service, user
from trunkline.errors import UnsupportedRequest
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
COMMON = {"id": "c", "model": "mistral-small-2603", "object": "chat.completion"}
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
    chunks = [{**COMMON, "choices": [choice]} for choice in choices] + [{**COMMON, "choices": [last], "usage": USAGE}]
    return [b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


async def answer(exchange: Exchange) -> None:
    if exchange.request.target == "/v1/models":
        return await exchange.respond(b'{"object":"list","data":[{"id":"a"}]}')
    if exchange.request.target == "/v1/embeddings":
        return await exchange.respond(b'{"data":[{"index":0,"embedding":[1.0]}]}')
    if not json.loads(exchange.request.body).get("stream"):
        message = {"role": "assistant", "content": CONTENT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return await exchange.respond(json.dumps({**COMMON, "choices": [choice], "usage": USAGE}).encode())
    await exchange.start()
    for chunk in chunks():
        await exchange.chunk(chunk)
    return await exchange.end()


async def test_a_chat_and_a_stream_ask_with_the_key_and_nothing_extra() -> None:
    async with serve(answer) as server, opened(server.url) as service:
        response = await service.chat("hi")
        async with service.stream("hi") as stream:
            [event async for event in stream]
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


async def test_a_strict_service_refuses_what_cannot_be_said() -> None:
    async with serve(answer) as server, opened(server.url, strict=True) as service:
        with pytest.raises(UnsupportedRequest, match="user_id"):
            await service.chat(ChatRequest(messages=[user("hi")], user_id="u"))
    assert server.requests == []
