"""Limits that a server could defeat slowly, in every kind of call (fault class 78)."""

from __future__ import annotations

import base64
from itertools import count
from typing import Any

import anyio
import httpx2
import pytest
from trunkline import service as service_module
from trunkline._calls.fetch import FetchLimits, fetch_parts
from trunkline._json import dumps
from trunkline.errors import FetchFailed, FirstChunkTimeout, ProtocolViolation, TrunklineError
from trunkline.messages import Image, user
from trunkline.request import ChatRequest
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

METHODS = pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def http_library(stack: str) -> str:
    return "httpx2" if stack == "asyncio-httpx2" else "auto"


async def call(service: Any, method: str) -> object:
    if method == "stream":
        async with service.stream("hi") as stream:
            return [event async for event in stream]
    return await getattr(service, method)(*(() if method == "list_models" else ("hi",)))


# Pages of models


async def test_page_that_leads_back_to_an_earlier_one_is_an_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        page = exchange.request.target.rpartition("=")[2]
        await exchange.respond(dumps({"models": ["a"], "next": {"1": "2", "2": "3"}.get(page, "2")}))

    async with serve(handler) as server, toy(server.url, max_retries=2) as service:
        with pytest.raises(ProtocolViolation, match="repeats a page") as caught:
            await service.list_models()
        assert len(server.requests) == 3
    assert (caught.value.service, caught.value.provider) == ("toy", "toy")


async def test_pages_without_end_are_an_error(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MAX_PAGES", 5)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(dumps({"models": ["a"], "next": f"c{exchange.number}"}))

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation, match="more after 5 pages with 5 models"):
            await service.list_models()
        assert len(server.requests) == 5


async def test_number_of_models_is_limited(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "MAX_MODELS", 5)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(dumps({"models": ["a"] * 6, "next": "more"}))

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation, match="more after 1 pages with 6 models"):
            await service.list_models()


# Media


def pictures(*urls: str) -> ChatRequest:
    return ChatRequest(messages=(user(*(Image(url=url) for url in urls)),))


async def picture(exchange: Exchange) -> None:
    await exchange.respond(b"GIF89a", headers={"content-type": "image/gif"})


async def test_media_of_a_request_are_limited_in_number() -> None:
    async with serve(picture) as server:
        request = pictures(*(f"{server.url}/{number}" for number in range(4)))
        with pytest.raises(FetchFailed, match="more than 3 media"):
            await fetch_parts(request, (Image,), limits=FetchLimits(count=3), allowed=lambda address: True)
        assert len(server.requests) == 3


async def test_media_of_a_request_are_limited_in_total_size() -> None:
    async with serve(picture) as server:
        request = pictures(*(f"{server.url}/{number}" for number in range(9)))
        with pytest.raises(FetchFailed, match="larger than 12 bytes together"):
            await fetch_parts(request, (Image,), limits=FetchLimits(total_size=12), allowed=lambda address: True)
        assert len(server.requests) == 3


async def test_media_with_the_same_url_are_fetched_once_and_counted_each_time() -> None:
    async with serve(picture) as server:
        request = pictures(*[f"{server.url}/same"] * 3)
        limits = FetchLimits(total_size=18)
        fetched = await fetch_parts(request, (Image,), limits=limits, allowed=lambda address: True)
        assert len(server.requests) == 1
        with pytest.raises(FetchFailed, match="together"):
            await fetch_parts(request, (Image,), limits=FetchLimits(total_size=17), allowed=lambda address: True)
    assert [part.data for part in fetched.messages[0].parts] == [b"GIF89a"] * 3
