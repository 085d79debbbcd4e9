"""Every part of a call is within its `total_timeout`, and closing a service ends everything within a bound."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from trunkline import (
    ChatRequest,
    Image,
    Observer,
    Service,
    ServiceClosed,
    StreamClosed,
    TotalTimeout,
    UnsupportedRequest,
    assistant,
    hookimpl,
    open_services,
    user,
)
from trunkline._calls import fetch as fetching
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import Call, Operation, Operations, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.response import CallWarning
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

Toy = Callable[..., Service]

SHORT = 0.1
LONG = 30


async def answer(exchange: Exchange) -> None:
    if b'"stream":true' in exchange.request.body:
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open": true, "text": "Hello"}\n{"done": true}\n')
        await exchange.end()
    else:
        await exchange.respond(b'{"text": "Hello"}')


async def hang(exchange: Exchange) -> None:
    await exchange.hung_up()


async def stream(service: Service) -> str:
    async with service.stream("Hi") as opened:
        return (await opened.finish()).text


CALLS: dict[str, Callable[[Service], Awaitable[object]]] = {
    "chat": lambda service: service.chat("Hi"),
    "stream": stream,
    "embed": lambda service: service.embed("Hi"),
    "list_models": lambda service: service.list_models(),
    "authenticate": lambda service: service.authenticate(),
}
METHODS = pytest.mark.parametrize("method", CALLS)


class Slow(NoAuth):
    """An `Auth` that hangs where `hangs` says, until `go` is set, and counts how often it is entered and left."""

    def __init__(self, hangs: str) -> None:
        self.hangs = hangs
        self.entered = self.opened = self.left = 0
        self.go, self.waiting = anyio.Event(), anyio.Event()

    async def _pass(self, where: str) -> None:
        if where == self.hangs:
            self.waiting.set()
            await self.go.wait()

    async def __aenter__(self) -> Slow:
        self.entered += 1
        await self._pass("opening")
        self.opened += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.left += 1
        await self._pass("closing")

    async def acquire(self, *, refresh: bool = False) -> None:
        await self._pass("credentials")

    def provider(self) -> dict[str, Any]:
        return {"auth": lambda context: self}


class SlowTransport:
    """An extension with a transport that hangs while it opens."""

    @hookimpl(tryfirst=True)
    def trunkline_transport(self, context: Any) -> Any:
        return self

    async def __aenter__(self) -> None:
        await anyio.sleep_forever()

    async def __aexit__(self, *exc_info: object) -> None: ...

    def send(self, wire_request: Any, timeouts: Any) -> Any: ...


# The deadline


@METHODS
@pytest.mark.parametrize("where", ["opening", "credentials"])
async def test_opening_and_credentials_are_within_the_total_timeout(toy: Toy, method: str, where: str) -> None:
    slow = Slow(where)
    async with serve(answer) as server, toy(server.url, slow.provider(), total_timeout=SHORT) as service:
        with anyio.fail_after(LONG), pytest.raises(TotalTimeout) as caught:
            await CALLS[method](service)
        assert (caught.value.service, caught.value.provider) == ("toy", "toy")
    assert slow.left == slow.opened


async def test_opening_the_transport_is_within_the_total_timeout(toy: Toy) -> None:
    async with toy("http://127.0.0.1:9", extensions=[SlowTransport()], total_timeout=SHORT) as service:
        for method in ("chat", "stream"):
            with anyio.fail_after(LONG), pytest.raises(TotalTimeout):
                await CALLS[method](service)


async def test_a_call_that_waits_for_another_one_to_open_the_service_has_its_own_deadline(toy: Toy) -> None:
    slow = Slow("opening")
    async with serve(answer) as server, toy(server.url, slow.provider(), total_timeout=SHORT) as service:
        async with anyio.create_task_group() as tasks:

            async def late() -> None:
                with anyio.fail_after(LONG), pytest.raises(TotalTimeout):
                    await service.chat("Hi")

            for _ in range(3):
                tasks.start_soon(late)


async def test_listing_models_page_by_page_is_within_the_total_timeout(toy: Toy) -> None:
    pages = itertools.count()

    async def endless(exchange: Exchange) -> None:
        await exchange.respond(dumps({"models": [f"toy-{(page := next(pages))}"], "next": f"page-{page}"}))

    async with serve(endless) as server, toy(server.url, total_timeout=SHORT) as service:
        with anyio.fail_after(LONG), pytest.raises(TotalTimeout):
            await service.list_models()


@pytest.fixture
def any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let media be fetched from this machine."""
    fetch = fetching.fetch

    async def fetch_from_anywhere(url: str, accepted: Any = (), **options: Any) -> Any:
        return await fetch(url, accepted, **{**options, "allowed": lambda address: True})

    monkeypatch.setattr(fetching, "fetch", fetch_from_anywhere)


@pytest.mark.usefixtures("any_address")
@pytest.mark.parametrize("method", ["chat", "stream", "count_tokens"])
async def test_fetching_media_is_within_the_total_timeout(toy: Toy, method: str) -> None:
    provider = {"bytes_only_media": (Image,), "operations": lambda context: COUNTING}
    async with serve(hang) as server:
        async with toy(server.url, provider, fetch_urls=True, total_timeout=SHORT) as service:
            request = ChatRequest(messages=[user(Image(url=f"{server.url}/a.png"))])
            with anyio.fail_after(LONG), pytest.raises(TotalTimeout):
                if method == "stream":
                    async with service.stream(request):
                        pass
                else:
                    await getattr(service, method)(request)


# Counting tokens


def _count(context: ServiceContext[Any], request: ChatRequest) -> Translation:
    [image] = [part for part in request.messages[-1].parts if isinstance(part, Image)] or [None]
    warning = CallWarning(kind="left_out", subject="image", message="not counted", lossy=True)
    body = dumps({"messages": len(request.messages), "bytes": image is not None and image.data is not None})
    return Translation(
        wire_request=WireRequest(url=f"{context.settings.url}/count", body=body), warnings=(warning,) if image else ()
    )


def _counted(context: ServiceContext[Any], response: WireResponse) -> int:
    return int(loads(response.body))


COUNTING = Operations(count_tokens=Operation(build=_count, parse=_counted))


@pytest.mark.usefixtures("any_address")
async def test_counting_tokens_prepares_the_request_as_chat_does(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    bodies: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target.endswith(".png"):
            await exchange.respond(b"\x89PNG", headers={"content-type": "image/png"})
        else:
            bodies.append(loads(exchange.request.body))
            await exchange.respond(b"5")

    provider = {"bytes_only_media": (Image,), "operations": lambda context: COUNTING}
    async with serve(handler) as server:
        settings = {"fetch_urls": True, "input_token_limit": 1500}
        conversation = [user("word " * 4000), assistant("Yes."), user(Image(url=f"{server.url}/a.png"))]
        async with toy(server.url, provider, **settings) as service:
            with caplog.at_level(logging.WARNING, "trunkline"):
                assert await service.count_tokens(conversation) == 5
        assert bodies == [{"messages": 1, "bytes": True}]
        assert "input_token_limit" in caplog.text
        assert "not counted" in caplog.text
        async with toy(server.url, provider, strict=True, **settings) as service:
            with pytest.raises(UnsupportedRequest, match="input_token_limit"):
                await service.count_tokens(conversation)


# One caller opens the service for all


async def test_cancelled_call_that_opens_the_service_does_not_fail_the_others(toy: Toy) -> None:
    slow = Slow("opening")
    texts: list[str] = []
    async with serve(answer) as server, toy(server.url, slow.provider()) as service:

        async def call() -> None:
            texts.append((await service.chat("Hi")).text)

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                async with anyio.create_task_group() as first:
                    first.start_soon(call)
                    await slow.waiting.wait()
                    for _ in range(3):
                        tasks.start_soon(call)
                    await anyio.wait_all_tasks_blocked()
                    first.cancel_scope.cancel()
                slow.go.set()
    assert texts == ["Hello"] * 3
    assert (slow.entered, slow.opened, slow.left) == (2, 1, 1)


async def test_opening_that_fails_is_tried_again_by_the_next_call(toy: Toy) -> None:
    class Failing(NoAuth):
        async def __aenter__(self) -> Failing:
            await checkpoint()
            entries.append("enter")
            if len(entries) == 1:
                raise TotalTimeout("the first time")
            return self

    entries: list[str] = []
    async with serve(answer) as server, toy(server.url, {"auth": lambda context: Failing()}) as service:
        with pytest.raises(TotalTimeout, match="the first time"):
            await service.chat("Hi")
        assert (await service.chat("Hi")).text == "Hello"
        assert len(service._transports._open) == 1


# Closing


@METHODS
@pytest.mark.parametrize("where", ["opening", "credentials"])
async def test_closing_ends_a_call_that_hangs(toy: Toy, method: str, where: str) -> None:
    slow = Slow(where)
    ended: list[str] = []
    async with serve(answer) as server:
        service = toy(server.url, slow.provider())

        async def call() -> None:
            with pytest.raises(ServiceClosed):
                await CALLS[method](service)
            ended.append("call")

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await slow.waiting.wait()
                await service.aclose()
                ended.append("closed")
    assert ended == ["call", "closed"]
    assert slow.left == slow.opened
    assert not service._transports._open


class Ends(Observer):
    """Records the calls that failed."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer:
        return self

    def failed(self, call: Call, error: BaseException) -> None:
        self.errors.append(type(error).__name__)


async def test_closing_returns_after_the_calls_that_it_ends(toy: Toy) -> None:
    async def handler(exchange: Exchange) -> None:
        if len(server.requests) == 3:
            arrived.set()
        await exchange.hung_up()

    ends, order, arrived = Ends(), [], anyio.Event()
    async with serve(handler) as server:
        service = toy(server.url, extensions=[ends])

        async def call(method: str) -> None:
            with pytest.raises(ServiceClosed):
                await CALLS[method](service)
            order.append(method)

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for method in ("chat", "stream", "embed"):
                    tasks.start_soon(call, method)
                await arrived.wait()
                await service.aclose()
                order.append("closed")
                assert ends.errors == ["ServiceClosed"] * 3
            await server.wait_idle()
    assert sorted(order[:3]) == ["chat", "embed", "stream"]
    assert order[3:] == ["closed"]


async def test_closing_waits_for_a_call_that_takes_a_while_to_end(toy: Toy) -> None:
    class Lingering(NoAuth):
        async def acquire(self, *, refresh: bool = False) -> None:
            waiting.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await linger.wait()

    order, waiting, linger = [], anyio.Event(), anyio.Event()
    service = toy("http://127.0.0.1:9", {"auth": lambda context: Lingering()})

    async def call() -> None:
        with pytest.raises(ServiceClosed):
            await service.chat("Hi")
        order.append("call")

    async def close() -> None:
        await service.aclose()
        order.append("closed")

    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await waiting.wait()
            tasks.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            linger.set()
    assert order == ["call", "closed"]


async def test_second_closing_waits_for_the_first(toy: Toy) -> None:
    slow = Slow("closing")
    order: list[str] = []
    async with serve(answer) as server:
        service = toy(server.url, slow.provider())
        await service.chat("Hi")

        async def close() -> None:
            await service.aclose()
            order.append("closed")

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                await slow.waiting.wait()
                tasks.start_soon(close)
                await anyio.wait_all_tasks_blocked()
                order.append("still closing")
                slow.go.set()
        await service.aclose()
    assert order == ["still closing", "closed", "closed"]
    assert slow.left == 1


async def test_closing_has_a_bound_if_an_auth_hangs(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.provider_service.CLOSING_LIMIT", SHORT)
    slow = Slow("closing")
    async with serve(answer) as server:
        service = toy(server.url, slow.provider())
        await service.chat("Hi")
        with anyio.fail_after(LONG):
            await service.aclose()
        assert not service._transports._open


async def test_closing_has_a_bound_if_a_call_cannot_be_cancelled(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(NoAuth):
        async def acquire(self, *, refresh: bool = False) -> None:
            with anyio.CancelScope(shield=True):
                waiting.set()
                await go.wait()

    monkeypatch.setattr("trunkline.provider_service.CLOSING_LIMIT", SHORT)
    go, waiting = anyio.Event(), anyio.Event()
    async with serve(answer) as server:
        service = toy(server.url, {"auth": lambda context: Stubborn()})

        async def call() -> None:
            with pytest.raises(ServiceClosed):
                await service.chat("Hi")

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await waiting.wait()
                await service.aclose()
                go.set()


async def test_closing_a_stream_while_it_opens_ends_the_opening(toy: Toy) -> None:
    slow = Slow("opening")
    async with serve(answer) as server, toy(server.url, slow.provider()) as service:
        opening = service.stream("Hi")

        async def enter() -> None:
            with pytest.raises(StreamClosed, match="before it opened"):
                await opening.__aenter__()

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(enter)
                await slow.waiting.wait()
                await opening.aclose()


async def test_closing_several_services_closes_all_of_them() -> None:
    async with serve(answer) as server:
        table = {"provider": "openai-compatible", "api_url": server.url, "default_model": "m"}
        services = open_services({"services": {"one": table, "two": table}})
        await services.aclose()
        for service in services.values():
            with pytest.raises(ServiceClosed):
                await service.chat("Hi")


async def test_call_of_a_closed_service_opens_nothing(toy: Toy) -> None:
    service = toy("http://127.0.0.1:9")
    await service.aclose()
    with pytest.raises(ServiceClosed):
        await service.chat("Hi")
    assert not service._state.parts._entries
