"""Calls over real sockets, through the public API, on both backends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trunkline
from trunkline.errors import (
    Overloaded,
    UnsupportedOperation,
    UnsupportedRequest,
)
from trunkline.messages import Reasoning
from trunkline.testing.server import SSE, Exchange, LoopbackServer, serve

pytestmark = pytest.mark.anyio

KEY = "sk-ant-canary-5571"
BODY: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**BODY, "content": [], "stop_reason": None}},
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}

Script: TypeAlias = Callable[[Exchange], Awaitable[None]]


def event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


@asynccontextmanager
async def served(*scripts: Script, **settings: Any) -> AsyncIterator[tuple[trunkline.Service, LoopbackServer]]:
    """A service, and a server that follows one script for each request."""
    left = list(scripts)

    async def handler(exchange: Exchange) -> None:
        await left.pop(0)(exchange)

    values = {"api_key": KEY, "default_model": "claude-haiku-4-5", **settings}
    async with serve(handler) as server:
        async with trunkline.open_service("anthropic", api_url=server.url, **values) as service:
            yield service, server


def answering(data: object, status: int = 200, **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.respond(
            json.dumps(data).encode(), status=status, headers={"content-type": "application/json", **named}
        )

    return script


def streaming(*events: dict[str, Any]) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.start(headers=SSE)
        for item in events:
            await exchange.chunk(event(item))
        await exchange.end()

    return script


async def test_a_chat_and_a_stream_ask_with_the_key_and_the_version() -> None:
    async with served(answering(BODY), streaming(*EVENTS)) as (service, server):
        await service.chat("Hi")
        async with service.stream("Hi") as stream:
            async for _ in stream:
                pass
    asked, streamed = server.requests
    assert (asked.method, asked.target) == ("POST", "/v1/messages")
    assert asked.headers["x-api-key"] == KEY
    assert asked.headers["anthropic-version"] == "2026-10-21"
    assert "authorization" not in asked.headers
    assert "stream" not in json.loads(asked.body)
    assert json.loads(streamed.body)["stream"] is True


async def test_headers_of_the_settings_and_beta_features_are_sent() -> None:
    settings: dict[str, Any] = {"headers": {"anthropic-workspace-id": "w", "Authorization": "Bearer mine"}}
    request = trunkline.ChatRequest(messages="Hi", provider_options={"anthropic": {"betas": ["b"]}})
    async with served(answering(BODY), betas=["a"], **settings) as (service, server):
        await service.chat(request)
    headers = server.requests[0].headers
    assert (headers["anthropic-beta"], headers["anthropic-workspace-id"]) == ("a,b", "w")
    assert (headers["authorization"], headers.get("x-api-key")) == ("Bearer mine", None)


async def test_an_error_in_the_middle_carries_what_had_come() -> None:
    async with served(streaming(*EVENTS[:4], OVERLOADED), max_retries=0) as (service, _):
        with pytest.raises(Overloaded) as raised:
            async with service.stream("Hi") as stream:
                async for _ in stream:
                    pass
    partial = raised.value.partial
    assert partial is not None
    assert (partial.text, partial.finish_reason) == ("Hel", "error")
    assert partial.usage is not None
    assert (partial.usage.input_tokens, partial.usage.output_tokens) == (3, None)


async def test_a_conversation_goes_on_with_the_reasoning_and_the_call_as_they_came() -> None:
    content: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "", "signature": "SIGNED"},
        {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {}},
    ]
    called = {**BODY, "content": content, "stop_reason": "tool_use"}
    async with served(answering(called), answering(BODY)) as (service, server):
        request = trunkline.ChatRequest(messages="What time is it?", tools=[trunkline.Tool(name="clock")])
        response = await service.chat(request)
        assert response.finish_reason == "tool_calls"
        assert isinstance(response.parts[0], Reasoning)
        answer = trunkline.tool_result(response.tool_calls[0], "noon")
        assert (await service.chat(request.with_messages(response.message, answer))).warnings == ()
    sent = json.loads(server.requests[1].body)["messages"]
    assert sent[1:] == [
        {"role": "assistant", "content": content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"}]},
    ]


async def test_a_strict_service_refuses_what_it_would_warn_about() -> None:
    async with served(strict=True) as (service, server):
        with pytest.raises(UnsupportedRequest, match="temperature"):
            await service.chat(trunkline.ChatRequest(messages="Hi", temperature=0.5))
    assert server.requests == []


async def test_models_are_listed_and_tokens_counted() -> None:
    first = {"data": [{"id": "a", "display_name": "A"}], "has_more": True, "last_id": "a"}
    second = {"data": [{"id": "b"}], "has_more": False, "last_id": "b"}
    scripts = answering(first), answering(second), answering({"input_tokens": 14})
    async with served(*scripts) as (service, server):
        assert [model.id for model in await service.list_models()] == ["a", "b"]
        assert await service.count_tokens("Hi") == 14
        with pytest.raises(UnsupportedOperation):
            await service.embed("Hi")
    targets = [request.target for request in server.requests]
    assert targets == ["/v1/models?limit=1000", "/v1/models?limit=1000&after_id=a", "/v1/messages/count_tokens"]
