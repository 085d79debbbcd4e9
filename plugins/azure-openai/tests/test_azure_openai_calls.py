"""Whole calls against a loopback server, on both backends; and Azure by way of `openai-compatible`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trunkline import open_service
from trunkline.errors import ConfigurationError, ContentFiltered
from trunkline.events import Finished, ResumePoint
from trunkline.response import FinishReason
from trunkline.service import Service
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

CHAT = "/openai/deployments/d/chat/completions?api-version=2024-10-21"
SAFE = {"hate": {"filtered": False, "severity": "safe"}}
KEY = "key-REDACTED"


def piece(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c1", "model": "gpt-4.1", **fields}).encode() + b"\n\n"


async def answer(exchange: Exchange) -> None:
    """`hello`, whole or as a stream that begins with what the filter found in the prompt."""
    request = json.loads(exchange.request.body or b"{}")
    if exchange.request.method == "GET":
        return await exchange.respond(b'{"data":[{"id":"gpt-4.1"}]}')
    if "embeddings" in exchange.request.target:
        return await exchange.respond(b'{"data":[{"index":0,"embedding":[0.5]}],"model":"ada"}')
    if not request.get("stream"):
        choice = {"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}
        return await exchange.respond(json.dumps({"id": "c1", "model": "gpt-4.1", "choices": [choice]}).encode())
    await exchange.start()
    await exchange.chunk(piece(id="", model="", choices=[], prompt_filter_results=[{"content_filter_results": SAFE}]))
    for text in ("he", "llo"):
        await exchange.chunk(piece(choices=[{"index": 0, "delta": {"content": text}, "content_filter_results": SAFE}]))
    await exchange.chunk(piece(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    await exchange.chunk(piece(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}))
    await exchange.chunk(b"data: [DONE]\n\n")
    return await exchange.end()


async def streamed(service: Service) -> str:
    async with service.stream("hi") as stream:
        events = [event async for event in stream]
    assert type(events[-1]) is Finished
    return stream.response.text


@pytest.mark.parametrize(
    ("path", "settings", "target"),
    [
        ("", {"default_model": "d"}, "/openai/v1/chat/completions"),
        ("", {"default_model": "d", "api_version": "2024-10-21"}, CHAT),
        ("/openai/deployments/d", {}, CHAT),
        ("/openai/deployments/e/chat/completions?api-version=2025-01-01-preview", {"default_model": "d"}, "/openai/deployments/d/chat/completions?api-version=2025-01-01-preview"),  # noqa: E501
        ("/models", {"default_model": "d"}, "/models/chat/completions?api-version=2024-05-01-preview"),
    ],
)  # fmt: skip
async def test_a_call_and_a_stream_on_each_surface(path: str, settings: dict[str, Any], target: str) -> None:
    async with serve(answer) as server:
        async with open_service("azure-openai", api_url=server.url + path, api_key=KEY, **settings) as service:
            assert (await service.chat("hi")).text == "hello"
            assert await streamed(service) == "hello"
        for request in server.requests:
            assert request.target == target
            assert request.headers["api-key"] == KEY
            assert "authorization" not in request.headers
            assert json.loads(request.body)["model"] == "d"


async def test_the_request_s_model_goes_before_every_other() -> None:
    url = "/openai/deployments/e?api-version=2025-01-01-preview"
    async with serve(answer) as server:
        async with open_service("azure-openai", api_url=server.url + url, api_key=KEY, default_model="d") as service:
            await service.embed(trunkline_embed("f/g"))
        assert server.requests[0].target == "/openai/deployments/f%2Fg/embeddings?api-version=2025-01-01-preview"


def trunkline_embed(model: str) -> Any:
    from trunkline import EmbedRequest

    return EmbedRequest(inputs=["a"], model=model)


async def test_models_are_listed() -> None:
    async with serve(answer) as server:
        async with open_service("azure-openai", api_url=server.url, api_key=KEY) as service:
            assert [model.id for model in await service.list_models()] == ["gpt-4.1"]
        assert server.requests[0].target == "/openai/v1/models"


async def test_a_root_without_a_deployment_wants_a_model() -> None:
    async with open_service("azure-openai", api_url="https://r.openai.azure.com", api_key=KEY) as service:
        with pytest.raises(ConfigurationError, match="default_model"):
            await service.chat("hi")


@pytest.mark.parametrize("spelling", ["innererror", "inner_error"])
async def test_a_blocked_prompt_is_told_once_though_a_stream_was_asked_for(spelling: str) -> None:
    async def handler(exchange: Exchange) -> None:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
        error = {"message": f"blocked, {KEY}", "param": "prompt", "code": "content_filter", spelling: inner}
        await exchange.respond(
            json.dumps({"error": error}).encode(),
            status=400,
            headers={"content-type": "application/json", "apim-request-id": "r"},
        )

    async with serve(handler) as server:
        async with open_service("azure-openai", api_url=server.url, api_key=KEY, default_model="d") as service:
            with pytest.raises(ContentFiltered, match="blocked") as caught:
                await streamed(service)
        assert len(server.requests) == 1
    assert caught.value.request_id == "r"
    assert KEY not in str(caught.value)


# The other road: `openai-compatible`


@pytest.mark.parametrize(
    ("path", "settings", "target", "header"),
    [
        ("/openai/v1", {"api_key": KEY}, "/openai/v1/chat/completions", ("authorization", f"Bearer {KEY}")),
        ("/openai/v1/", {"headers": {"api-key": KEY}}, "/openai/v1/chat/completions", ("api-key", KEY)),
        (CHAT, {"headers": {"api-key": KEY}}, CHAT, ("api-key", KEY)),
        ("/openai/deployments/d?api-version=2024-10-21", {"headers": {"api-key": KEY}}, CHAT, ("api-key", KEY)),
    ],
)  # fmt: skip
async def test_azure_is_reached_through_openai_compatible_too(
    path: str, settings: dict[str, Any], target: str, header: tuple[str, str]
) -> None:
    async with serve(answer) as server:
        async with open_service(
            "openai-compatible", api_url=server.url + path, default_model="d", **settings
        ) as service:
            assert (await service.chat("hi")).text == "hello"
            assert await streamed(service) == "hello"
        for request in server.requests:
            assert request.target == target
            assert request.headers[header[0]] == header[1]
            assert ("authorization" in request.headers) is (header[0] == "authorization")


async def test_a_resource_s_root_through_openai_compatible_is_the_v1_surface() -> None:
    from trunkline_openai.urls import base_url

    assert base_url("https://RES.openai.azure.com")[0] == "https://RES.openai.azure.com/openai/v1"


@pytest.mark.parametrize(
    ("version", "path", "query"),
    [
        (None, "/openai/v1/responses", []),
        ("2025-04-01-preview", "/openai/responses", ["api-version=2025-04-01-preview"]),
    ],
)
async def test_responses_in_the_background_have_their_own_urls_on_each_surface(
    version: str | None, path: str, query: list[str]
) -> None:
    body = {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5",
        "background": True,
        "output": [],
        "status": "queued",
    }
    done = {"type": "response.cancelled", "sequence_number": 8, "response": {**body, "status": "cancelled"}}

    async def respond(exchange: Exchange) -> None:
        if "stream=true" not in exchange.request.target:
            return await exchange.respond(json.dumps(body).encode())
        await exchange.start()
        await exchange.chunk(b"data: " + json.dumps(done).encode() + b"\n\n")
        return await exchange.end()

    settings = {"api": "responses", "default_model": "d", "api_key": KEY, "api_version": version}
    async with serve(respond) as server, open_service("azure-openai", api_url=server.url, **settings) as service:
        submitted = await service.chat("hi", background=True)
        assert submitted.finish_reason is FinishReason.PENDING
        assert (await service.get_response("resp_1")).raw_finish_reason == "queued"
        await service.cancel_response("resp_1")
        async with service.resume_stream(ResumePoint(response_id="resp_1", after=7)) as stream:
            assert (await stream.finish()).raw_finish_reason == "cancelled"
    targets = [(request.method, *request.target.partition("?")[::2]) for request in server.requests]
    assert [(method, target) for method, target, _ in targets] == [
        ("POST", path),
        ("GET", f"{path}/resp_1"),
        ("POST", f"{path}/resp_1/cancel"),
        ("GET", f"{path}/resp_1"),
    ]
    assert [sorted(text.split("&")) if text else [] for *_, text in targets] == [
        *[query] * 3,
        sorted([*query, "stream=true", "starting_after=7"]),
    ]
    assert {request.headers["api-key"] for request in server.requests} == {KEY}
