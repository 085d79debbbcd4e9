"""A call takes the fields of its request as keywords."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

import attrs
import pytest
from trunkline import (
    ChatParams,
    ChatRequest,
    EmbedParams,
    EmbedRequest,
    EmbedResponse,
    ImageParams,
    ImageRequest,
    ModerationParams,
    ModerationRequest,
    Observer,
    RerankParams,
    RerankRequest,
    Service,
    SpeechParams,
    SpeechRequest,
    Tool,
    TranscriptionParams,
    TranscriptionRequest,
    hookimpl,
)
from trunkline.authoring.provider import Call, Operation, Operations, Translation
from trunkline.authoring.wire import WireRequest
from trunkline.testing import Exchange, serve

weather = Tool(name="weather")
forecast = Tool(name="forecast")


def accepted_type(request: type, field: attrs.Attribute[Any]) -> object:
    """What a field accepts: what its converter takes, or its own type."""
    if field.converter is None:
        return get_type_hints(request)[field.name]
    [parameter] = inspect.signature(field.converter).parameters
    return get_type_hints(field.converter)[parameter]


@pytest.mark.parametrize(
    ("params", "request_type", "positional"),
    [
        (ChatParams, ChatRequest, ["messages"]),
        (EmbedParams, EmbedRequest, ["inputs"]),
        (RerankParams, RerankRequest, ["query", "documents"]),
        (TranscriptionParams, TranscriptionRequest, ["audio"]),
        (SpeechParams, SpeechRequest, ["text"]),
        (ImageParams, ImageRequest, ["prompt"]),
        (ModerationParams, ModerationRequest, ["inputs"]),
    ],
)
def test_keywords_are_the_fields_of_the_request(params: Any, request_type: Any, positional: list[str]) -> None:
    accepted = {field.name: accepted_type(request_type, field) for field in attrs.fields(request_type)}
    for name in positional:
        del accepted[name]
    assert get_type_hints(params) == accepted
    assert params.__total__ is False


class Sent(Observer):
    """Keeps the requests that calls start with."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def started(self, call: Call, context: Any, operation: str, request: object) -> None:
        self.requests.append(request)

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer:
        return self


def count_tokens(context: Any, request: ChatRequest) -> Translation:
    return Translation(wire_request=WireRequest(url=context.settings.url + "/count"))


OPERATIONS = Operations(
    embed=Operation(
        build=lambda context, request: Translation(wire_request=WireRequest(url=context.settings.url + "/embed")),
        parse=lambda context, response: EmbedResponse(embeddings=((1.0,),)),
    ),
    count_tokens=Operation(build=count_tokens, parse=lambda context, response: 3),
)


async def answer(exchange: Exchange) -> None:
    if b'"stream":true' in exchange.request.body:
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open":1}\n{"text":"hello"}\n{"done":true}\n')
        return await exchange.end()
    return await exchange.respond(b'{"text":"hello"}')


async def requests_of(toy: Any, call: Callable[[Service], Awaitable[object]]) -> list[Any]:
    sent = Sent()
    async with (
        serve(answer) as server,
        toy(server.url, provider={"operations": lambda context: OPERATIONS}, extensions=[sent]) as service,
    ):
        await call(service)
    return sent.requests


async def stream(service: Service, request: Any, **params: Any) -> None:
    async with service.stream(request, **params) as events:
        async for _ in events:
            pass


CHATS: dict[str, Callable[..., Awaitable[object]]] = {
    "chat": lambda service, request, **params: service.chat(request, **params),
    "stream": stream,
    "count_tokens": lambda service, request, **params: service.count_tokens(request, **params),
}


@pytest.mark.anyio
@pytest.mark.parametrize("operation", CHATS)
async def test_keywords_make_the_request(toy: Any, operation: str) -> None:
    call = CHATS[operation]
    [sent] = await requests_of(
        toy,
        lambda service: call(service, "Weather?", temperature=0, stop="END", tools=[weather], tool_choice="weather"),
    )
    assert sent == ChatRequest(
        messages="Weather?", model="toy-1", temperature=0, stop=("END",), tools=(weather,), tool_choice="weather"
    )


@pytest.mark.anyio
@pytest.mark.parametrize("operation", CHATS)
async def test_keywords_replace_fields_of_a_given_request(toy: Any, operation: str) -> None:
    request = ChatRequest(messages="Weather?", model="toy-2", tools=[weather], temperature=1.0, top_k=5)
    call = CHATS[operation]
    [sent] = await requests_of(toy, lambda service: call(service, request, temperature=0, tools=[forecast]))
    assert sent == ChatRequest(messages="Weather?", model="toy-2", tools=(forecast,), temperature=0, top_k=5)
    assert request.temperature == 1.0


@pytest.mark.anyio
async def test_keywords_of_embed(toy: Any) -> None:
    async def call(service: Service) -> None:
        await service.embed("a", dimensions=8)
        await service.embed(EmbedRequest(inputs=["a"], dimensions=4, user_id="ann"), dimensions=8, model="toy-2")

    assert await requests_of(toy, call) == [
        EmbedRequest(inputs="a", dimensions=8),
        EmbedRequest(inputs=("a",), dimensions=8, user_id="ann", model="toy-2"),
    ]


@pytest.mark.anyio
async def test_keyword_model_wins_over_default_model(toy: Any) -> None:
    [sent] = await requests_of(toy, lambda service: service.chat("hi", model="toy-9"))
    assert sent.model == "toy-9"


@pytest.mark.anyio
async def test_misspelt_keyword_is_named(toy: Any) -> None:
    async with toy("http://localhost:1") as service:
        with pytest.raises(TypeError, match="temprature"):
            await service.chat("hi", temprature=0)
        with pytest.raises(TypeError, match="temprature"):
            await service.chat(ChatRequest(messages="hi"), temprature=0)
