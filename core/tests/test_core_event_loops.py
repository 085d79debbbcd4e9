"""A service belongs to no event loop: it works in several of them, one after another or at once, and after a fork."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import httpx2
import pytest
import trio
import trunkline
from anyio.lowlevel import checkpoint
from trunkline import CallError, Observer, ProviderService, Service, ServiceClosed, TextDelta, hookimpl
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Call, ServiceContext
from trunkline.settings import Settings
from trunkline.testing import Exchange, serve

Toy = Callable[..., ProviderService]

LONG = 30
LINES = {"content-type": "application/x-ndjson"}


async def answer(exchange: Exchange) -> None:
    if b'"stall"' in exchange.request.body:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open": true, "text": "Hello"}\n')
        await exchange.hung_up()
    elif b'"stream":true' in exchange.request.body:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open": true, "text": "Hello"}\n{"done": true}\n')
        await exchange.end()
    else:
        await exchange.respond(b'{"text": "Hello"}')


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a server in its own thread, so that tests may use several event loops."""
    started, stop, urls = threading.Event(), threading.Event(), []

    async def run() -> None:
        async with serve(answer) as server:
            urls.append(server.url)
            started.set()
            await anyio.to_thread.run_sync(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait(LONG)
    yield urls[0]
    stop.set()
    thread.join()


@pytest.fixture(params=["httpx2", "aiohttp"])
def http_library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def chat(service: Service) -> str:
    return (await service.chat("Hi")).text


async def stream(service: Service) -> str:
    async with service.stream("Hi") as opened:
        return (await opened.finish()).text


async def leave_open(service: Service) -> str:
    """Leave a generator suspended inside a stream, as a web handler that is dropped does."""

    async def texts() -> Any:
        async with service.stream("stall") as opened:
            async for event in opened:
                if isinstance(event, TextDelta):
                    yield event.text

    _left.append(texts())
    return str(await anext(_left[-1]))


_left: list[Any] = []


def run_closed_without_shutdown(function: Callable[..., Any], service: Service) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(function(service))
    finally:
        loop.close()


USES = pytest.mark.parametrize("use", [chat, stream, leave_open])


async def with_heartbeats(service: Service) -> str:
    async with trunkline.heartbeats(service.stream("Hi"), LONG) as events:
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])


@pytest.mark.parametrize("use", [chat, stream, with_heartbeats])
def test_tasks_of_trio_and_of_asyncio_use_one_service_in_guest_mode(
    toy: Toy, url: str, use: Any, http_library: str
) -> None:
    service = toy(url, http_library="httpx2" if http_library == "httpx2" else "auto")  # trio has no aiohttp

    async def use_and_close(trio_may_end: trio.Event, trio_is_running: asyncio.Event) -> str:
        trio_is_running.set()
        got = await use(service)
        await trio_may_end.wait()
        await service.aclose()
        return str(got)

    async def host() -> tuple[str, str]:
        loop, ended, running, may_end = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), trio.Event()
        outcomes: list[Any] = []
        trio.lowlevel.start_guest_run(
            use_and_close,
            may_end,
            running,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: (outcomes.append(outcome), ended.set()),
        )
        await running.wait()
        try:
            got = str(await use(service))
        finally:
            may_end.set()
            await ended.wait()
        return got, outcomes[0].unwrap()

    assert asyncio.run(host()) == ("Hello", "Hello")


@USES
def test_service_works_in_one_event_loop_after_another(toy: Toy, url: str, use: Any) -> None:
    service = toy(url)
    for _ in range(3):
        assert asyncio.run(use(service)) == "Hello"
        gc.collect()  # an unclosed session or socket would warn, and a warning fails the test
    asyncio.run(service.aclose())
    with pytest.raises(ServiceClosed):
        asyncio.run(use(service))


@USES
def test_service_works_on_asyncio_then_on_trio_and_back(url: str, use: Any, toy: Toy) -> None:
    service = toy(url, http_library="auto")
    for backend in ("asyncio", "trio", "asyncio", "trio"):
        assert anyio.run(use, service, backend=backend) == "Hello"
        gc.collect()
    anyio.run(service.aclose, backend="trio")


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not run on Windows")
@USES
def test_service_works_on_uvloop(toy: Toy, url: str, use: Any) -> None:
    uvloop = pytest.importorskip("uvloop")
    service = toy(url)
    for _ in range(2):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(use(service)) == "Hello"
        gc.collect()


def test_service_works_in_several_threads_at_once(toy: Toy, url: str) -> None:
    service, together = toy(url, total_timeout=LONG), threading.Barrier(4)

    def work(number: int) -> str:
        async def calls() -> str:
            texts = [await chat(service), await stream(service)]
            return "".join(texts)

        together.wait(LONG)
        return asyncio.run(calls()) if number % 2 else anyio.run(calls, backend="asyncio")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(12))) == ["HelloHello"] * 12
    gc.collect()
    assert not service._state.parts._entries


def test_a_thread_with_a_loop_of_its_own_does_not_disturb_a_running_stream(toy: Toy, url: str) -> None:
    service = toy(url)

    async def main() -> None:
        async with service.stream("stall") as opened:
            assert isinstance(await anext(opened), object)
            assert await anyio.to_thread.run_sync(lambda: asyncio.run(chat(service))) == "Hello"
            events = [await anext(opened), await anext(opened)]
            assert isinstance(events[-1], TextDelta)

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("when", ["between two loops", "inside a loop"])
def test_service_works_in_the_child_of_a_fork(toy: Toy, url: str, when: str) -> None:
    service = toy(url, total_timeout=LONG)

    def fork() -> int:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            gc.collect()
            texts = [asyncio.run(chat(service)), asyncio.run(stream(service))]
            os._exit(0 if texts == ["Hello", "Hello"] else 1)
        except BaseException:
            os._exit(2)

    async def inside() -> int:
        await chat(service)
        async with service.stream("stall") as opened:
            await anext(opened)
            status = fork()
            assert await chat(service) == "Hello"  # the parent's connections still work
            assert isinstance([await anext(opened), await anext(opened)][-1], TextDelta)
        return status

    if when == "inside a loop":
        assert asyncio.run(inside()) == 0
    else:
        asyncio.run(chat(service))
        assert fork() == 0
    assert asyncio.run(chat(service)) == "Hello"


def test_loop_that_ended_is_not_kept_alive(toy: Toy, url: str) -> None:
    service, loops = toy(url), []

    async def use() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await chat(service)

    for _ in range(3):
        asyncio.run(use())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3
    assert not service._state.parts._entries
    assert not service._transports._open


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_loop_that_was_closed_without_closing_generators_is_dropped_with_the_next_one(toy: Toy, url: str) -> None:
    service = toy(url)
    for _ in range(3):
        assert run_closed_without_shutdown(chat, service) == "Hello"
    assert len(service._state.parts._entries) == 1
    assert len(service._transports._open) == 1
    asyncio.run(chat(service))
    assert not service._state.parts._entries
    gc.collect()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_authentication_and_transports_are_closed_when_their_loop_ends(toy: Toy, url: str, backend: str) -> None:
    entries: list[str] = []

    class Recorded(NoAuth):
        async def __aenter__(self) -> Recorded:
            entries.append("enter")
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            await checkpoint()  # may wait, also at the end of the loop
            entries.append("exit")

    service = toy(url, {"auth": lambda context: Recorded()}, http_library="auto")
    for _ in range(2):
        anyio.run(chat, service, backend=backend)
    assert entries == ["enter", "exit"] * 2


def test_services_that_share_a_transport_close_it_with_the_last_one(toy: Toy, url: str) -> None:
    one = toy(url)
    two = ProviderService("two", one._provider, one.settings, transports=one._transports)

    async def use() -> None:
        await chat(one)
        await chat(two)
        assert len(one._transports._open) == 1
        await one.aclose()
        assert await chat(two) == "Hello"
        await two.aclose()
        assert not one._transports._open

    asyncio.run(use())


def test_own_http_client_stays_in_its_event_loop(toy: Toy, url: str) -> None:
    async def use() -> None:
        assert await chat(service) == "Hello"
        await client.aclose()

    client = httpx2.AsyncClient()
    service = toy(url, client=client)
    asyncio.run(use())
    for call in (chat, stream):
        with pytest.raises(
            CallError, match="http_client belongs to the event loop in which it was first used"
        ) as caught:
            asyncio.run(call(service))
        assert caught.value.service == "toy"


def test_stream_that_is_read_in_another_event_loop_raises_a_call_error(toy: Toy, url: str) -> None:
    service = toy(url)

    async def main() -> None:
        async with service.stream("stall") as opened:
            for _ in range(3):
                await anext(opened)
            for use in (opened.__anext__, opened.aclose):

                async def elsewhere(use: Any = use) -> None:
                    with pytest.raises(CallError, match="only in the event loop that opened it"):
                        await use()

                await anyio.to_thread.run_sync(asyncio.run, elsewhere())

    asyncio.run(main())


def test_call_without_an_event_loop_raises_a_call_error(toy: Toy, url: str) -> None:
    with pytest.raises(CallError, match="no event loop"):
        toy(url).chat("Hi").send(None)


def test_closing_in_one_loop_lets_the_calls_of_another_end_and_refuses_new_ones(toy: Toy, url: str) -> None:
    service, opened, closed = toy(url), threading.Event(), threading.Event()

    async def elsewhere() -> str:
        async with service.stream("Hi") as stream:
            opened.set()
            await anyio.to_thread.run_sync(closed.wait)
            text = (await stream.finish()).text
        with pytest.raises(ServiceClosed):
            await chat(service)
        return text

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: asyncio.run(elsewhere()))
        opened.wait(LONG)
        asyncio.run(service.aclose())
        closed.set()
        assert other.result(LONG) == "Hello"


def test_service_that_is_dropped_closes_its_connections(toy: Toy, url: str) -> None:
    async def main() -> None:
        service = toy(url)
        await chat(service)
        transports = service._transports
        del service
        gc.collect()
        with anyio.fail_after(LONG):
            while transports._open:  # nothing tells when the collector's task has ended
                await checkpoint()

    asyncio.run(main())


def test_hooks_share_what_they_keep_and_it_goes_with_the_service(toy: Toy, url: str) -> None:
    class Expensive: ...

    made: list[weakref.ref[Expensive]] = []

    def auth(context: Any) -> NoAuth:
        def make() -> Expensive:
            expensive = Expensive()
            made.append(weakref.ref(expensive))
            return expensive

        assert context.keep(Expensive, make) is context.keep(Expensive, make)
        return NoAuth()

    service = toy(url, {"auth": auth})
    for _ in range(2):
        asyncio.run(chat(service))
    assert len(made) == 1
    assert made[0]() is not None
    asyncio.run(service.aclose())
    gc.collect()
    assert made[0]() is None


def test_threads_that_need_the_same_kept_object_make_it_once() -> None:
    class Expensive: ...

    context = ServiceContext(name="toy", provider="toy", settings=Settings())
    both, made = threading.Barrier(2), []

    def make() -> Expensive:
        made.append(1)
        with suppress(threading.BrokenBarrierError):  # a second thread does not come in
            both.wait(0.2)
        return Expensive()

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: context.keep(Expensive, make), range(2)))
    assert found[0] is found[1]
    assert len(made) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_fork_makes_its_own_kept_objects_and_does_not_free_those_of_its_parent() -> None:
    class Expensive: ...

    class Slow: ...

    def make() -> Slow:
        making.set()
        forked.wait(LONG)
        return Slow()

    context = ServiceContext(name="toy", provider="toy", settings=Settings())
    parents = weakref.ref(context.keep(Expensive, Expensive))
    making, forked = threading.Event(), threading.Event()
    thread = threading.Thread(target=context.keep, args=(Slow, make))
    thread.start()
    making.wait(LONG)
    child = os.fork()  # while another thread holds the lock
    if not child:
        made = context.keep(Expensive, Expensive)
        gc.collect()
        os._exit(0 if parents() not in (None, made) else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    forked.set()
    thread.join()
    assert status == 0
    assert context.keep(Expensive, Expensive) is parents()


class Counted(Observer):
    """Counts the calls of all event loops."""

    def __init__(self) -> None:
        self.finishes = 0

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer:
        return self

    def finished(self, call: Call, response: object) -> None:
        self.finishes += 1


def test_extension_observes_the_calls_of_every_event_loop(toy: Toy, url: str) -> None:
    counted = Counted()
    service = toy(url, extensions=[counted])
    for _ in range(3):
        asyncio.run(chat(service))
    assert counted.finishes == 3


def test_a_stream_may_be_made_where_no_event_loop_runs(toy: Toy, url: str) -> None:
    service = toy(url)
    stream = service.stream("hi")

    async def read() -> str:
        async with service, stream:
            return "".join([event.text async for event in stream if isinstance(event, TextDelta)])

    assert asyncio.run(read()) == "Hello"
