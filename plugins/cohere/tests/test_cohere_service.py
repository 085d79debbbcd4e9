"""A service against a real loopback server, on both backends."""

import json
from typing import Any

import pytest
import trunkline
from trunkline import (
    ChatRequest,
    Document,
    FinishReason,
    Tool,
    UnsupportedOperation,
    UnsupportedRequest,
    tool_result,
    user,
)
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

KEY = "cohere-canary-key"
USAGE = {"tokens": {"input_tokens": 10, "output_tokens": 2}}
ANSWER = {
    "id": "m1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    "usage": USAGE,
}
END = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}}


def frame(event: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode())


def delta(text: str) -> bytes:
    return frame({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}})


HEAD = frame({"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant"}}}) + frame(
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
)


async def answer(exchange: Exchange) -> None:
    """A whole answer, or a stream in two pieces that are cut within an event."""
    if not json.loads(exchange.request.body).get("stream"):
        return await exchange.respond(json.dumps(ANSWER).encode())
    data = HEAD + delta("hel") + delta("lo") + frame(END) + b"data: [DONE]\n\n"
    await exchange.start()
    await exchange.chunk(data[:-200])
    await exchange.chunk(data[-200:])
    return await exchange.end()


def service(url: str, **settings: Any) -> trunkline.Service:
    settings = {"default_model": "command-a-03-2025", "api_key": KEY, **settings}
    return trunkline.open_service("cohere", api_url=url, **settings)


async def test_the_answer_goes_back_with_the_tool_s_result() -> None:
    bodies: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        bodies.append(json.loads(exchange.request.body))
        call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        message = {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [call]}
        reply = {**ANSWER, "finish_reason": "TOOL_CALL", "message": message} if len(bodies) == 1 else ANSWER
        await exchange.respond(json.dumps(reply).encode())

    request = ChatRequest(messages=[user("Oslo?")], tools=[Tool(name="weather")])
    async with serve(handler) as server, service(server.url, strict=True) as opened:
        response = await opened.chat(request)
        result = tool_result(response.tool_calls[0], Document(data=b"sun", media_type="text/plain"))
        again = await opened.chat(request.with_messages(response.message, result))
    assert (response.reasoning, response.finish_reason) == ("I will look.", FinishReason.TOOL_CALLS)
    assert again.text == "hello"
    turn, result = bodies[1]["messages"][1:]
    assert (turn["tool_plan"], turn["tool_calls"][0]["id"]) == ("I will look.", "c")
    assert result["content"] == [{"type": "document", "document": {"data": {"text": "sun"}}}]


async def test_an_answer_that_fails_before_it_began_is_tried_again() -> None:
    failed = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "sorry"}}
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(1)
        if len(seen) > 1:
            return await answer(exchange)
        await exchange.start()
        await exchange.chunk(HEAD[: HEAD.index(b"\n\n") + 2] + frame(failed))
        return await exchange.end()

    async with serve(handler) as server, service(server.url, max_retries=1) as opened:
        async with opened.stream("hi") as stream:
            [event async for event in stream]
    assert stream.response.text == "hello"
    assert len(server.requests) == 2


async def test_a_strict_service_refuses_what_cannot_be_said() -> None:
    async with serve(answer) as server, service(server.url, strict=True) as opened:
        with pytest.raises(UnsupportedRequest, match="user_id"):
            await opened.chat(ChatRequest(messages="hi", user_id="u"))
    assert server.requests == []


async def test_models_and_embeddings() -> None:
    async def handler(exchange: Exchange) -> None:
        target = exchange.request.target
        if target.startswith("/v1/models"):
            second = "page_token=2" in target
            page = {"models": [{"name": "b" if second else "a"}], "next_page_token": "" if second else "2"}
            return await exchange.respond(json.dumps(page).encode())
        texts = json.loads(exchange.request.body)["texts"]
        vectors = {"float": [[float(len(text))] for text in texts]}
        return await exchange.respond(json.dumps({"embeddings": vectors}).encode())

    async with serve(handler) as server, service(server.url) as opened:
        assert [model.id for model in await opened.list_models()] == ["a", "b"]
        assert (await opened.embed(["a", "bcd"])).embeddings == ((1.0,), (3.0,))
        with pytest.raises(UnsupportedOperation):
            await opened.count_tokens("hi")
