"""Nothing stays open (fault class 79): after a cancelled handshake, a cancelled closing, and while nobody calls."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from trunkline import ServiceClosed, TotalTimeout, TrunklineError
from trunkline._http import dialling, idle, pool
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

LONG = 30.0
"""A limit that ends a test which hangs, in seconds."""
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n" + b'{"text": "Hello"}'
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def http_library(stack: str) -> Any:
    return stack.partition("-")[2]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector, which would close a forgotten socket some time later."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class RawServer:
    """A server that sends each of `answers` after something has arrived, and then nothing more.

    It closes its side of the connection when `end` is set.
    """

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.end = anyio.Event()
        self.silent = anyio.Event()
        self.closed = anyio.Event()
        self.url = ""
        self.authority = ""

    async def _handle(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                for answer in self._answers:
                    await stream.receive()
                    await stream.send(answer)
                self._tasks.start_soon(self._end, stream)
                while True:
                    await stream.receive()
                    self.silent.set()
        self.closed.set()

    async def _end(self, stream: anyio.abc.SocketStream) -> None:
        await self.end.wait()
        await stream.send_eof()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RawServer]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.authority = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        self.url = f"http://{self.authority}"
        async with listener, anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(listener.serve, self._handle)
            with anyio.fail_after(LONG):
                yield self
            tasks.cancel_scope.cancel()


# The handshake

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
ROUTES = {
    "direct": ("https://HOST", None, ()),
    "through a proxy": ("https://api.invalid", "http://HOST", (CONNECTED,)),
    "with a proxy that uses TLS": ("https://api.invalid", "https://HOST", ()),
    "plain, with a proxy that uses TLS": ("http://api.invalid", "https://HOST", ()),
    "with a SOCKS proxy": ("http://api.invalid", "socks5://HOST", ()),
    "through a SOCKS proxy": (
        "https://1.2.3.4",
        "socks5://HOST",
        (b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
    ),
}


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sender", ["service", "httpx2", "httpx"])
@pytest.mark.parametrize("route", ROUTES)
async def test_call_that_is_cancelled_during_a_handshake_closes_its_connection(
    toy: Any, sender: str, route: str, http_library: str
) -> None:
    url, proxy, answers = ROUTES[route]
    if http_library == "aiohttp" and (sender != "service" or proxy is not None):
        pytest.skip("a proxy and an own client are used with httpx2")
    if "socks" in str(proxy):
        pytest.importorskip("socksio")
    async with RawServer(*answers).running() as server, contextlib.AsyncExitStack() as opened:
        url = url.replace("HOST", server.authority)
        proxy = None if proxy is None else proxy.replace("HOST", server.authority)
        client, values = None, {}
        if sender == "service":
            values = {} if proxy is None else {"proxy": proxy}
        else:
            library = pytest.importorskip(sender)
            client = await opened.enter_async_context(library.AsyncClient(proxy=proxy, trust_env=False))
        async with toy(url, max_retries=0, client=client, **values) as service:
            async with anyio.create_task_group() as calls:
                calls.start_soon(service.chat, "hi")
                await server.silent.wait()
                calls.cancel_scope.cancel()
            await server.closed.wait()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("ends", ["total_timeout", "aclose", "Task.cancel"])
async def test_call_that_ends_in_another_way_during_a_handshake_closes_its_connection(
    toy: Any, own: bool, ends: str, http_library: str, anyio_backend: str
) -> None:
    if ends == "Task.cancel" and anyio_backend == "trio":
        pytest.skip("tasks of asyncio only")
    if own and http_library == "aiohttp":
        pytest.skip("an own client is one of httpx2")
    async with RawServer().running() as server, httpx2.AsyncClient() as client:
        limits = {"total_timeout": 2.0} if ends == "total_timeout" else {}
        url = server.url.replace("http", "https")
        async with toy(url, max_retries=0, client=client if own else None, **limits) as service:
            if ends == "total_timeout":
                with pytest.raises(TotalTimeout):
                    await service.chat("hi")
            elif ends == "aclose":
                async with anyio.create_task_group() as calls:
                    calls.start_soon(_ignore, service.chat, ServiceClosed)
                    await server.silent.wait()
                    await service.aclose()
            else:
                task = asyncio.ensure_future(service.chat("hi"))
                await server.silent.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await server.closed.wait()


async def _ignore(chat: Callable[[str], Awaitable[object]], error: type[Exception]) -> None:
    with contextlib.suppress(error):
        await chat("hi")


@pytest.mark.usefixtures("no_collector")
async def test_download_that_is_cancelled_during_a_handshake_closes_its_connection() -> None:
    async def download(url: str) -> None:
        async with dialling.get(url, (), allowed=lambda address: True):
            pass

    async with RawServer().running() as server, anyio.create_task_group() as tasks:
        tasks.start_soon(download, server.url.replace("http", "https"))
        await server.silent.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await server.closed.wait()


# Idle connections


@pytest.fixture
def checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "CHECK_SECONDS", 0.01)


async def answer(exchange: Exchange) -> None:
    await exchange.respond(b'{"text": "Hello"}')


@pytest.mark.usefixtures("no_collector", "checked_often")
async def test_idle_connections_close_after_a_while_although_nobody_calls(
    toy: Any, http_library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aiohttp = pytest.importorskip("trunkline._http.aiohttp")
    for module in (pool, aiohttp):
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    async with serve(answer) as server, serve(answer) as other:
        async with toy(server.url) as service, toy(other.url) as second:
            with anyio.fail_after(LONG):
                for _ in range(2):  # the second time after all connections have closed
                    async with anyio.create_task_group() as calls:
                        for called in (service, service, second):
                            calls.start_soon(called.chat, "hi")
                    await server.wait_idle()
                    await other.wait_idle()


@pytest.mark.usefixtures("no_collector", "checked_often")
async def test_idle_connection_that_the_server_has_closed_is_closed_although_nobody_calls(toy: Any) -> None:
    async with RawServer(ANSWER).running() as server, toy(server.url) as service:
        await service.chat("hi")
        server.end.set()
        await server.closed.wait()


@pytest.mark.usefixtures("checked_often")
async def test_connection_in_use_is_not_closed_by_the_check_of_idle_ones(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
    checks = 0
    enough = anyio.Event()
    look = pool.Pool.expired

    def expired(self: pool.Pool) -> Any:
        nonlocal checks
        checks += 1
        if checks > 3:
            enough.set()
        return look(self)

    monkeypatch.setattr(pool.Pool, "expired", expired)

    async def slow(exchange: Exchange) -> None:
        if service.settings.http_library == "httpx2":
            await enough.wait()
        await answer(exchange)

    async with serve(slow) as server, toy(server.url, max_retries=0) as service:
        with anyio.fail_after(LONG):
            assert (await service.chat("hi")).text == "Hello"


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("checked_often")
async def test_check_of_idle_connections_keeps_no_dropped_service_alive(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    aiohttp = pytest.importorskip("trunkline._http.aiohttp")
    for module in (pool, aiohttp):
        monkeypatch.setattr(module, "IDLE_SECONDS", 0.5)
    async with serve(answer) as server:
        service = toy(server.url)
        await service.chat("hi")
        dropped = weakref.ref(service)
        del service
        with anyio.fail_after(LONG):
            while dropped() is not None:
                gc.collect()
                await anyio.lowlevel.checkpoint()
            await server.wait_idle()


# Closing


class CancelledFrom:
    """Await a coroutine whose task is cancelled at suspension `first` and the following ones, `times` times."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], first: int, times: int) -> None:
        self._coroutine = coroutine
        self._first = first
        self._times = times
        self.cancelled = 0

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        suspension = 0
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration:
                return
            suspension += 1
            if suspension >= self._first and self.cancelled < self._times:
                self.cancelled += 1
                task.cancel()
            error = None
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("times", [1, 2, 50])
async def test_cancelled_aclose_leaves_nothing_open(toy: Any, anyio_backend: str, times: int) -> None:
    if anyio_backend == "trio":
        pytest.skip("no cancellation of trio passes a shield")

    async def handle(exchange: Exchange) -> None:
        if b"kept" in exchange.request.body:
            await answer(exchange)
            return
        await exchange.start()
        await exchange.chunk(b'{"open": true, "text": "a"}\n')
        if len(server.requests) == 6:
            arrived.set()
        await exchange.hung_up()

    first = 1
    while True:
        arrived = anyio.Event()
        async with serve(handle) as server:
            service = toy(server.url, max_retries=0)
            await asyncio.gather(*(service.chat("kept") for _ in range(3)))
            stream = service.stream("open")
            await stream.__aenter__()
            calls = [asyncio.ensure_future(service.chat("open")) for _ in range(2)]
            await arrived.wait()
            closing = CancelledFrom(service.aclose(), first, times)

            async def close(closing: CancelledFrom = closing) -> None:
                await closing

            results = await asyncio.gather(asyncio.ensure_future(close()), *calls, return_exceptions=True)
            with anyio.fail_after(LONG):
                await service.aclose()
                await server.wait_idle()
            assert all(isinstance(result, (TrunklineError, asyncio.CancelledError)) for result in results[1:])
        if not closing.cancelled:
            return  # it was closed before
        first += 1


async def test_leaving_a_block_that_is_being_cancelled_closes_everything(toy: Any) -> None:
    async with serve(answer) as server:
        with anyio.fail_after(LONG), anyio.CancelScope() as scope:
            async with toy(server.url) as service:
                await service.chat("hi")
                scope.cancel()
        with anyio.fail_after(LONG):
            await server.wait_idle()


class OtherEvents(httpx2.AsyncBaseTransport):
    """A transport of the application that reports steps with other names."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        for event in ("event", "my.event", "a.b.c.d", "connection.connect_tcp.complete"):
            await request.extensions["trace"](event, {})
        return httpx2.Response(200, json={"text": "Hello"})


async def test_transport_of_the_application_may_report_any_step(toy: Any) -> None:
    async with httpx2.AsyncClient(transport=OtherEvents()) as client:
        async with toy("http://api.invalid", client=client) as service:
            assert (await service.chat("hi")).text == "Hello"


# HTTP/2


async def test_own_client_that_uses_http2_is_warned_of_once(
    toy: Any, http_library: str, caplog: pytest.LogCaptureFixture
) -> None:
    if http_library == "aiohttp":
        pytest.skip("an own client is one of httpx2")

    def respond(version: bytes) -> httpx2.MockTransport:
        return httpx2.MockTransport(
            lambda request: httpx2.Response(200, json={"text": "Hello"}, extensions={"http_version": version})
        )

    for version, warnings in ((b"HTTP/1.1", 0), (b"HTTP/2", 1)):
        async with httpx2.AsyncClient(transport=respond(version)) as client:
            async with toy("http://api.invalid", client=client) as service:
                await service.chat("hi")
                await service.chat("hi")
        assert caplog.text.count("uses HTTP/2") == warnings
