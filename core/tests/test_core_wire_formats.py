"""A provider with several wire formats, and how operations are performed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
from trunkline import (
    CallWarning,
    ChatRequest,
    ChatResponse,
    EmbedResponse,
    Event,
    Middleware,
    PluginError,
    ServerError,
    TextDelta,
    UnsupportedOperation,
    fallback,
    user,
)
from trunkline._calls.options import NO_OPTIONS
from trunkline._http.choice import HTTPTransports
from trunkline._plugins.hook_results import OwnedMiddleware
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import (
    Operation,
    Operations,
    Provider,
    ProviderParts,
    ServiceContext,
    Translation,
)
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.authoring.wire_formats import provider_with_formats
from trunkline.errors import TrunklineError
from trunkline.provider_service import ProviderService
from trunkline.secrets import Secret
from trunkline.testing import Exchange, serve

from .conftest import ToyParser, ToySettings, ToyStream, ToyTranslator, make_toy

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]


class LoudTranslator(ToyTranslator):
    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        translation = super().translate(request, stream=stream)
        wire_request = attrs.evolve(translation.wire_request, url=f"{self._settings.url}/loud")
        return attrs.evolve(translation, wire_request=wire_request)


class LoudStream(ToyStream):
    def feed(self, frame: bytes) -> list[Event]:
        return [
            attrs.evolve(event, text=event.text.upper()) if isinstance(event, TextDelta) else event
            for event in super().feed(frame)
        ]


class LoudParser(ToyParser):
    def stream(self) -> Any:
        return super().stream()[0], LoudStream()

    def body(self, wire_response: WireResponse) -> ChatResponse:
        response = super().body(wire_response)
        return attrs.evolve(
            response, parts=tuple(attrs.evolve(part, text=part.text.upper()) for part in response.parts)
        )  # type: ignore[union-attr]

    def error(self, wire_response: WireResponse) -> TrunklineError:
        return ServerError("LOUD", status=wire_response.status, retryable=False)


def _embed(context: ServiceContext[Any], request: Any) -> WireRequest:
    return WireRequest(url=f"{context.settings.url}/embed", body=b"[]")


def _embedded(context: ServiceContext[Any], wire_response: WireResponse) -> EmbedResponse:
    return EmbedResponse(embeddings=((2.0,),))


def two_formats() -> Provider:
    def auth(context: ServiceContext[ToySettings]) -> HeaderAuth:
        return HeaderAuth("authorization", Secret("toy-secret-key"), prefix="Bearer ")

    def load() -> dict[str, ProviderParts[ToySettings]]:
        quiet = ProviderParts[ToySettings](
            auth=auth, translator=ToyTranslator, response_parser=lambda context: ToyParser()
        )
        loud = attrs.evolve(
            quiet,
            translator=LoudTranslator,
            response_parser=lambda context: LoudParser(),
            operations=lambda context: Operations(
                embed=Operation(build=_embed, parse=_embedded, repeatable=False),
                get_response=Operation(build=_embed, parse=lambda context, wire_response: ChatResponse(parts=())),
            ),
        )
        return {"quiet": quiet, "loud": loud}

    return provider_with_formats(
        name="toy",
        settings=ToySettings,
        auth=auth,
        format_of=lambda context, model: "loud" if model.startswith("loud") else "quiet",
        load=load,
    )


async def answer(exchange: Exchange) -> None:
    if exchange.request.body == b"[]":
        await exchange.respond(b"[]")
        return
    body = loads(exchange.request.body)
    assert exchange.request.target == ("/loud" if body["model"].startswith("loud") else "/chat")
    if "wrong" in body["text"]:
        await exchange.respond(b"no", status=500)
    elif body["stream"]:
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open": true, "text": "Hello"}\n{"done": true}\n')
        await exchange.end()
    else:
        await exchange.respond(b'{"text": "Hello"}')


@asynccontextmanager
async def service_of(
    provider: Provider, http_library: str, url: str, retries: int = 0, **values: Any
) -> AsyncIterator[ProviderService]:
    made = ToySettings(url=url, http_library=http_library, max_retries=retries, **values)  # type: ignore[arg-type]
    async with ProviderService("toy", provider, made, transports=HTTPTransports(None)) as service:
        yield service


async def test_each_call_is_translated_and_parsed_in_the_format_of_its_model(http_library: str) -> None:
    async with serve(answer) as server, service_of(two_formats(), http_library, server.url) as service:
        texts: dict[tuple[str, str], str] = {}

        async def chat(model: str) -> None:
            texts[model, "chat"] = (await service.chat("hi", model=model)).text
            async with service.stream("hi", model=model) as stream:
                async for _ in stream:
                    pass
                texts[model, "stream"] = stream.response.text

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(chat, f"quiet-{number}")
                tasks.start_soon(chat, f"loud-{number}")
        assert texts == {
            (f"{name}-{number}", call): "HELLO" if name == "loud" else "Hello"
            for name in ("quiet", "loud")
            for number in range(5)
            for call in ("chat", "stream")
        }


async def test_a_format_may_be_a_whole_provider(http_library: str) -> None:
    provider = provider_with_formats(
        name="toy",
        settings=ToySettings,
        auth=make_toy().auth,
        format_of=lambda context, model: "loud" if model.startswith("loud") else "quiet",
        load=lambda: {"quiet": make_toy(), "loud": make_toy(translator=LoudTranslator)},
    )
    async with serve(answer) as server, service_of(provider, http_library, server.url) as service:
        for model in ("loud-1", "quiet-1"):
            assert (await service.chat("hi", model=model)).text == "Hello"


async def test_an_error_is_read_in_the_format_of_the_request(http_library: str) -> None:
    async with serve(answer) as server, service_of(two_formats(), http_library, server.url) as service:
        with pytest.raises(ServerError, match="LOUD"):
            await service.chat("wrong", model="loud-1")
        with pytest.raises(ServerError, match="no"):
            await service.chat("wrong", model="quiet-1")


async def test_an_operation_is_that_of_the_models_format(http_library: str) -> None:
    async with serve(answer) as server, service_of(two_formats(), http_library, server.url) as service:
        assert (await service.embed("hi", model="loud-1")).embeddings == ((2.0,),)
        with pytest.raises(UnsupportedOperation, match="service 'toy': this model of 'toy' has no embed"):
            await service.embed("hi", model="quiet-1")
        with pytest.raises(UnsupportedOperation, match="has no list_models"):
            await service.list_models()


async def test_a_middleware_may_repeat_a_call_with_a_model_of_another_format(http_library: str) -> None:
    class Both(Middleware):
        async def chat(self, call: Any, request: ChatRequest, proceed: Callable[..., Any]) -> ChatResponse:
            answers: dict[str, ChatResponse] = {}

            async def ask(model: str) -> None:
                answers[model] = await proceed(attrs.evolve(request, model=model))

            async with anyio.create_task_group() as tasks:
                for model in ("loud-1", "quiet-1", "loud-2", "quiet-2"):
                    tasks.start_soon(ask, model)
            texts = [answers[model].text for model in sorted(answers)]
            return attrs.evolve(answers["loud-1"], raw=texts)

    provider = two_formats()
    async with serve(answer) as server, service_of(provider, http_library, server.url) as service:
        part = service._part()
        pipeline = await service._open(part)
        owned = OwnedMiddleware(middleware=Both(), owner="a test")
        part.pipeline = attrs.evolve(pipeline, steps=attrs.evolve(pipeline.steps, middlewares=(owned,)))
        response = await service.chat(user("hi"), model="quiet-0")
        assert response.raw == ["HELLO", "HELLO", "Hello", "Hello"]


async def test_an_operation_of_a_format_that_must_not_be_sent_twice_is_not(http_library: str) -> None:
    async def fail(exchange: Exchange) -> None:
        sent.append(exchange.request.target)
        await exchange.respond(b"no", status=500)

    sent: list[str] = []
    async with serve(fail) as server, service_of(two_formats(), http_library, server.url, retries=2) as service:
        with pytest.raises(ServerError):
            await service.embed("hi", model="loud-1")
    assert sent == ["/embed"]


async def test_the_id_of_a_response_does_not_choose_a_format(http_library: str) -> None:
    async with serve(answer) as server, service_of(two_formats(), http_library, server.url) as service:
        with pytest.raises(UnsupportedOperation, match="has no get_response"):
            await service.get_response("loud-response")


@attrs.frozen(kw_only=True)
class WithEcho(Operations):
    echo: Any = None


@attrs.frozen(kw_only=True)
class Asked:
    model: str | None = None


@attrs.frozen(kw_only=True)
class Result:
    text: str
    provider: str | None = None
    service: str | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: object = None


def echoing() -> Provider:
    def build(context: ServiceContext[Any], value: Asked) -> Translation:
        warning = CallWarning(kind="other", subject="echo", message="is sent", lossy=False)
        wire_request = WireRequest(url=f"{context.settings.url}/echo", body=dumps(value.model))
        return Translation(wire_request=wire_request, warnings=(warning,))

    def parse(context: ServiceContext[Any], wire_response: WireResponse) -> Result:
        return Result(text=loads(wire_response.body))

    return make_toy(operations=lambda context: WithEcho(echo=Operation(build=build, parse=parse)))


async def echo(exchange: Exchange) -> None:
    await exchange.respond(dumps(f"{exchange.request.target} {loads(exchange.request.body)}"))


async def test_an_operation_gets_the_default_model_and_its_result_the_names_and_warnings(http_library: str) -> None:
    async with (
        serve(echo) as server,
        service_of(echoing(), http_library, server.url, default_model="toy-1") as service,
    ):
        result = await service._perform("echo", Asked(), Result, NO_OPTIONS)
        assert result.text == "/echo toy-1"
        assert (result.provider, result.service) == ("toy", "toy")
        assert [warning.subject for warning in result.warnings] == ["echo"]


async def test_an_operation_that_a_member_lacks_is_performed_by_the_next(http_library: str) -> None:
    async with (
        serve(echo) as server,
        service_of(make_toy(operations=lambda context: WithEcho()), http_library, server.url) as without,
        service_of(echoing(), http_library, server.url, default_model="toy-1") as capable,
    ):
        with pytest.raises(UnsupportedOperation, match="has no echo"):
            await without._perform("echo", Asked(), Result, NO_OPTIONS)
        both = fallback(without, capable)
        assert (await both._perform("echo", Asked(), Result, NO_OPTIONS)).service == "toy"


async def test_a_result_of_another_class_names_the_provider(http_library: str) -> None:
    async with (
        serve(echo) as server,
        service_of(echoing(), http_library, server.url, default_model="toy-1") as service,
    ):
        with pytest.raises(PluginError, match="echo must return a ChatResponse, not a value of type Result"):
            await service._perform("echo", Asked(), ChatResponse, NO_OPTIONS)
