"""Each error and each response of a service names the service. An error that the address may explain shows the URL."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
from trunkline import (
    CallError,
    ChatRequest,
    ConfigurationError,
    ConnectionFailed,
    FirstChunkTimeout,
    InvalidRequest,
    NotFound,
    Observer,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    ServiceClosed,
    StreamInterrupted,
    TotalTimeout,
    TrunklineError,
    UnexpectedRedirect,
    UnsupportedOperation,
    UnsupportedRequest,
    hookimpl,
)
from trunkline.authoring.provider import Call, Operation, Operations
from trunkline.authoring.wire import WireRequest
from trunkline.storage import from_json, to_json
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]


LINES = {"content-type": "application/x-ndjson"}
HTML = {"content-type": "text/html"}
PAGE = b"<html><head><title>Sign in</title></head></html>"


async def answer(exchange: Exchange) -> None:
    """A whole answer, to a chat, a stream or an embedding."""
    if exchange.request.target == "/embed":
        await exchange.respond(b"[[1.0]]")
    elif b'"stream":true' in exchange.request.body:
        await exchange.respond(b'{"open":1}\n{"text":"hello"}\n{"done":true}\n', headers=LINES)
    else:
        await exchange.respond(b'{"text":"hello"}')


def status(number: int, body: bytes = b"no", **headers: str) -> Callable[[Exchange], Awaitable[None]]:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(body, status=number, headers=headers)

    return handler


async def cut(exchange: Exchange) -> None:
    await exchange.respond(b'{"open":1}\n{"text":"he"}\n', headers=LINES)


async def silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def read(service: Any) -> None:
    async with service.stream("hi") as stream:
        async for _ in stream:
            pass


async def never_entered(service: Any) -> None:
    await anext(service.stream("hi"))


async def closed(service: Any) -> None:
    await service.aclose()
    await service.chat("hi")


async def closed_stream(service: Any) -> None:
    async with service.stream("hi") as stream:
        pass
    await anext(stream)


CALLS: dict[str, tuple[Any, Any, dict[str, Any], type[TrunklineError]]] = {
    "refused by the provider": (status(429), lambda service: service.chat("hi"), {}, RateLimited),
    "while streaming": (status(500), read, {}, ServerError),
    "not found": (status(404), lambda service: service.embed("hi"), {}, NotFound),
    "not found when listing": (status(404), lambda service: service.list_models(), {}, NotFound),
    "cut off": (cut, read, {}, StreamInterrupted),
    "in the middle of the stream": (
        status(200, b'{"open":1}\n{"text":"he"}\n{"error":500}\n', **LINES),
        read,
        {},
        ServerError,
    ),
    "not the API": (status(200, PAGE, **HTML), lambda service: service.chat("hi"), {}, ProtocolViolation),
    "silent": (silent, lambda service: service.chat("hi"), {"first_chunk_timeout": 0.05}, FirstChunkTimeout),
    "out of time": (silent, lambda service: service.chat("hi"), {"total_timeout": 0.05}, TotalTimeout),
    "strict": (answer, lambda service: service.chat("hi", seed=1), {"strict": True}, UnsupportedRequest),
    "no such operation": (answer, lambda service: service.count_tokens("hi"), {}, UnsupportedOperation),
    "invalid request": (answer, lambda service: service.chat([]), {}, InvalidRequest),
    "invalid field": (
        answer,
        lambda service: service.chat(ChatRequest(messages="hi"), tool_choice="required"),
        {},
        InvalidRequest,
    ),
    "invalid embedding": (answer, lambda service: service.embed([]), {}, InvalidRequest),
    "no model": (answer, lambda service: service.chat("hi"), {"default_model": None}, ConfigurationError),
    "closed": (answer, closed, {}, ServiceClosed),
    "stream closed": (answer, closed_stream, {}, CallError),
    "stream not entered": (answer, never_entered, {}, CallError),
}


async def test_value_that_a_part_refuses_is_the_provider_s_fault_in_a_response(toy: Any) -> None:
    def listed(context: Any, response: Any) -> Any:
        raise InvalidRequest("Text.text must be a string, not int")

    operations = Operations(
        list_models=Operation(build=lambda context, cursor: WireRequest(url=context.settings.url), parse=listed)
    )
    async with (
        serve(status(200, b'{"text":5}')) as server,
        toy(server.url, provider={"operations": lambda context: operations}) as service,
    ):
        for call in (service.chat("hi"), service.list_models()):
            with pytest.raises(ProtocolViolation, match=r"Text\.text must be a string, not int") as caught:
                await call
            assert caught.value.status == 200


@pytest.mark.parametrize("case", CALLS)
async def test_each_error_names_the_service(toy: Any, case: str) -> None:
    handler, call, settings, kind = CALLS[case]
    async with serve(handler) as server, toy(server.url, name="main", max_retries=0, **settings) as service:
        with pytest.raises(kind) as caught:
            await call(service)
    error = caught.value
    assert error.service == "main"
    assert str(error).count("main") == 1, str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.service, str(again), repr(again)) == (error.service, str(error), repr(error))


async def test_an_error_without_a_connection_names_the_service(toy: Any) -> None:
    async with toy("http://127.0.0.1:9", name="main", max_retries=0) as service:
        with pytest.raises(ConnectionFailed, match=r"^main \(toy\): ") as caught:
            await service.chat("hi")
    assert caught.value.service == "main"


@attrs.define
class Hears(Observer):
    """An observer that keeps the errors that it receives."""

    errors: list[TrunklineError] = attrs.field(factory=list)

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        self.errors.append(error)


async def test_an_error_of_an_auth_that_cannot_open_names_the_service(toy: Any) -> None:
    def auth(context: Any) -> Any:
        raise ConfigurationError("the vault is locked")

    async with toy("http://127.0.0.1:9", name="main", provider={"auth": auth}) as service:
        with pytest.raises(ConfigurationError, match=r"^service 'main': the vault is locked$") as caught:
            await service.chat("hi")
    assert caught.value.service == "main"


async def test_responses_name_the_service(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, name="main") as service:
        whole, embedded = await service.chat("hi"), await service.embed("hi")
        async with service.stream("hi") as stream:
            assert stream.partial.service == "main"
            async for _ in stream:
                pass
    for response in (whole, stream.response, embedded):
        assert (response.service, response.provider) == ("main", "toy")
    assert from_json(type(whole), to_json(whole)).service == "main"


async def test_a_partial_response_names_the_service(toy: Any) -> None:
    async with serve(cut) as server, toy(server.url, name="main", max_retries=0) as service:
        with pytest.raises(StreamInterrupted) as caught:
            await read(service)
    assert caught.value.partial is not None
    assert caught.value.partial.service == "main"


async def test_a_404_shows_the_url_without_its_query_and_the_model(toy: Any) -> None:
    async with serve(status(404, b"no such model")) as server:
        async with toy(f"{server.url}/v1/deployments/x?key=query-secret&path=", name="main") as service:
            with pytest.raises(NotFound) as caught:
                await service.chat("hi", model="gpt-9")
            with pytest.raises(NotFound) as listing:
                await service.list_models()
    where = f"{server.url}/v1/deployments/x"
    assert str(caught.value) == f"main (toy): no such model (POST {where}, model 'gpt-9', status 404)"
    assert (caught.value.endpoint, caught.value.model) == (f"POST {where}", "gpt-9")
    assert str(listing.value) == f"main (toy): no such model (GET {where}, status 404)"


async def test_a_secret_in_the_path_is_not_in_the_error_of_a_retry_either(toy: Any) -> None:
    heard = Hears()

    class Extension:
        @hookimpl
        def trunkline_observer(self, context: Any) -> Any:
            return heard

    async with serve(status(500)) as server:
        url = f"{server.url}/toy-secret-key"
        async with toy(url, max_retries=1, extensions=[Extension()]) as service:
            with pytest.raises(ServerError) as caught:
                await service.chat("hi")
    for error in (caught.value, *heard.errors):
        assert isinstance(error, RemoteError)
        assert error.endpoint == f"POST {server.url}/***/chat"


async def test_an_answer_that_is_not_the_api_shows_the_url(toy: Any) -> None:
    pages: tuple[tuple[Any, type[RemoteError]], ...] = (
        (status(200, PAGE, **HTML), ProtocolViolation),
        (status(502, PAGE, **HTML), ServerError),
        (status(302, location="https://login.example/?token=abc"), UnexpectedRedirect),
        (status(405, b'{"detail": "Method Not Allowed"}'), ServerError),
    )
    for handler, kind in pages:
        async with serve(handler) as server, toy(server.url, max_retries=0) as service:
            for call in (service.chat("hi"), read(service)):
                with pytest.raises(kind, match=f"POST {server.url}/chat") as caught:
                    await call
                assert "token=abc" not in str(caught.value)


async def test_an_ordinary_error_shows_no_url(toy: Any) -> None:
    async with serve(status(429, b"{}")) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(RateLimited) as caught:
            await service.chat("hi")
    assert str(caught.value) == "toy: {} (status 429)"
    assert caught.value.endpoint == f"POST {server.url}/chat"


async def test_an_observer_of_a_retry_sees_service_and_model(toy: Any) -> None:
    heard = Hears()

    class Extension:
        @hookimpl
        def trunkline_observer(self, context: Any) -> Any:
            return heard

    async with serve(status(500)) as server:
        async with toy(server.url, name="main", max_retries=1, extensions=[Extension()]) as service:
            with pytest.raises(ServerError):
                await service.chat("hi")
    [error] = heard.errors
    assert isinstance(error, RemoteError)
    assert (error.service, error.model, error.endpoint) == ("main", "toy-1", f"POST {server.url}/chat")


def test_the_repr_of_an_error_shows_status_and_code() -> None:
    error = NotFound("gone", provider="toy", status=404, code="no_model")
    assert repr(error) == "NotFound('gone', provider='toy', status=404, code='no_model')"
    assert repr(StreamInterrupted("cut")) == "StreamInterrupted('cut')"


def test_service_and_provider_are_named_once_in_an_error() -> None:
    assert str(NotFound("gone", provider="toy", service="toy")) == "toy: gone"
    assert str(NotFound("gone", provider="toy", service="main")) == "main (toy): gone"
    assert str(NotFound("gone", service="main")) == "main: gone"
    assert str(CallError("wrong", service="main")) == "service 'main': wrong"
    assert str(CallError("service 'main' is closed", service="main")) == "service 'main' is closed"


async def test_an_error_in_the_middle_of_a_stream_says_where_it_came_from(toy: Any) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open": true, "text": "Hello"}\n')
        await exchange.hang_up()

    async with serve(cut) as server, toy(server.url) as service:
        with pytest.raises(StreamInterrupted) as caught:
            await read(service)
    assert caught.value.endpoint == f"POST {server.url}/chat"
