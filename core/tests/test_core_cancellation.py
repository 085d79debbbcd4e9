"""Cancel a call at each of its checkpoints: nothing leaks, the cancellation is not swallowed, and the service works on.

A call is run step by step. At the step with a given number it is cancelled, before it waits there. So every place in
which a call can be cancelled is tried once, and always in the same order. `--exhaustive` tries each; otherwise every
third one is tried, and the first ten.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import anyio
import pytest
import trunkline
from anyio.lowlevel import checkpoint
from trunkline import Service
from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.testing import Exchange, LoopbackServer, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

Toy = Callable[..., Service]

MOST = 200
"""The number of checkpoints to try. A call has fewer, so that the last trials are not cancelled at all."""

LONG = 60


async def answer(exchange: Exchange) -> None:
    if b'"stream":true' in exchange.request.body:
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open": true, "text": "Hel"}\n')
        await checkpoint()
        await exchange.chunk(b'{"text": "lo"}\n')
        await exchange.chunk(b'{"done": true}\n')
        if b"Late" in exchange.request.body:  # the body does not end, so that leaving the block waits for its end
            await exchange.hung_up()
        else:
            await exchange.end()
    elif exchange.request.target.endswith("embed"):
        await exchange.respond(b"[[1.0]]")
    else:
        await exchange.respond(b'{"text": "Hello"}')


class Slow(HeaderAuth):
    """An `Auth` that waits where it may, and counts how often it is open."""

    def __init__(self) -> None:
        super().__init__("authorization", "toy-secret-key")
        self.open = 0

    async def __aenter__(self) -> Slow:
        await checkpoint()
        self.open += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.open -= 1
        await checkpoint()

    async def acquire(self, *, refresh: bool = False) -> None:
        await checkpoint()


@types.coroutine
def cancelled_at(
    step: int, cancel: Callable[[], object], coroutine: Coroutine[Any, Any, object]
) -> Generator[Any, Any, None]:
    """Run a coroutine, and call `cancel` just before it waits for the nth time."""
    count = 0
    resume, value = coroutine.send, None
    while True:
        try:
            waited_for = resume(value)
        except StopIteration:
            return
        count += 1
        if count == step:
            cancel()
        try:
            resume, value = coroutine.send, (yield waited_for)
        except BaseException as error:
            resume, value = coroutine.throw, error


async def run_cancelled(step: int, how: str, function: Callable[[], Coroutine[Any, Any, object]]) -> tuple[bool, bool]:
    """Cancel a function at one step. Return whether it came that far, and whether the cancellation came out of it."""
    reached = False

    def reach(cancel: Callable[[], object]) -> None:
        nonlocal reached
        reached = True
        cancel()

    async def call(cancel: Callable[[], object]) -> None:
        await cancelled_at(step, lambda: reach(cancel), function())
        await checkpoint()  # raises a cancellation that came where the function was shielded

    if how == "task":
        task: asyncio.Future[None] = asyncio.ensure_future(call(lambda: task.cancel()))
        await asyncio.wait([task])
        return reached, task.cancelled()
    with anyio.CancelScope() as scope:
        await call(scope.cancel)
    return reached, scope.cancelled_caught


async def chat(service: Service) -> None:
    assert (await service.chat("Hi")).text == "Hello"


async def stream(service: Service) -> None:
    async with service.stream("Hi") as opened:
        assert (await opened.finish()).text == "Hello"


async def late(service: Service) -> None:
    async with service.stream("Late") as opened:
        assert (await opened.finish()).text == "Hello"


async def leave(service: Service) -> None:
    async with service.stream("Hi") as opened:
        await anext(opened)


async def heartbeats(service: Service) -> None:
    async with trunkline.heartbeats(service.stream("Hi"), 0.001) as events:
        async for event in events:
            if isinstance(event, trunkline.Heartbeat):
                await checkpoint()


async def until_disconnect(service: Service) -> None:
    async def receive() -> dict[str, object]:
        await anyio.sleep_forever()
        return {}

    response = await trunkline.until_disconnect(service.chat("Hi"), receive=receive)
    assert response is not None
    assert response.text == "Hello"


async def embed(service: Service) -> None:
    await service.embed("Hi")


async def authenticate(service: Service) -> None:
    await service.authenticate()


async def close(service: Service) -> None:
    await service.aclose()


CALLS: dict[str, Callable[[Service], Coroutine[Any, Any, None]]] = {
    "chat": chat,
    "stream": stream,
    "late": late,
    "leave": leave,
    "heartbeats": heartbeats,
    "until_disconnect": until_disconnect,
    "embed": embed,
    "authenticate": authenticate,
    "close": close,
}


def steps(exhaustive: bool) -> list[int]:
    return [step for step in range(1, MOST + 1) if exhaustive or step <= 10 or step % 3 == 0]


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    """A server in its own thread, so that all tasks of the test's event loop are Trunkline's."""
    started, stop, servers = threading.Event(), threading.Event(), []

    async def run() -> None:
        async with serve(answer) as server:
            servers.append(server)
            started.set()
            await anyio.to_thread.run_sync(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    started.wait(LONG)
    yield servers[0]
    stop.set()
    thread.join()


@pytest.mark.parametrize("opened", [False, True], ids=["opening", "opened"])
@pytest.mark.parametrize("how", ["scope", "task"])
@pytest.mark.parametrize("method", CALLS)
async def test_cancelling_at_any_checkpoint_leaves_nothing_behind(
    toy: Toy,
    server: LoopbackServer,
    method: str,
    how: str,
    opened: bool,
    anyio_backend_name: str,
    request: pytest.FixtureRequest,
) -> None:
    if how == "task" and anyio_backend_name == "trio":
        pytest.skip("trio has only scopes")
    for step in steps(request.config.getoption("--exhaustive")):
        with anyio.fail_after(LONG):
            if not await try_step(toy, server, step, how, method, opened):
                return
    raise AssertionError(f"{method} waits more than {MOST} times")


async def try_step(toy: Toy, server: LoopbackServer, step: int, how: str, method: str, opened: bool) -> bool:
    """Cancel a call at one step. Return whether it came that far."""
    before = tasks()
    auth = Slow()
    service = toy(server.url, {"auth": lambda context: auth})
    if opened:
        await chat(service)
    reached, cancelled = await run_cancelled(step, how, lambda: CALLS[method](service))
    assert cancelled == reached, f"step {step} swallowed the cancellation"
    if method != "close":
        await chat(service)
        await stream(service)
        part = service._state.parts.get()
        assert not part.calls, f"step {step} left a call behind"
        assert not part.streams, f"step {step} left a stream behind"
    await service.aclose()
    assert auth.open == 0, f"step {step} left the Auth open"
    assert not service._transports._open, f"step {step} left a transport open"
    assert tasks() == before, f"step {step} left a task behind"
    # The server runs in another thread, so there is no event to wait for. `fail_after` limits the loop.
    while server.connections:  # noqa: ASYNC110
        await anyio.sleep(0.001)
    return reached


def tasks() -> set[object]:
    """Return the tasks of the running event loop. trio allows none that outlives its nursery."""
    try:
        return set(asyncio.all_tasks())
    except RuntimeError:
        return set()


class Shared(Slow):
    """An `Auth` whose calls wait for one task."""

    refresh: asyncio.Future[None] | None = None

    async def acquire(self, *, refresh: bool = False) -> None:
        self.refresh = self.refresh or asyncio.ensure_future(anyio.sleep_forever())
        await asyncio.shield(self.refresh)


@pytest.mark.parametrize("cancelled", ["refresh", "call", "scope"])
async def test_cancelled_task_of_an_auth_cancels_no_call(
    toy: Toy, server: LoopbackServer, cancelled: str, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "trio":
        pytest.skip("trio has no tasks that one can wait for")
    auth = Shared()
    service = toy(server.url, {"auth": lambda context: auth})
    scopes: list[anyio.CancelScope] = []

    async def call(method: Callable[[Service], Coroutine[Any, Any, None]]) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await method(service)

    calls = [asyncio.ensure_future(call(method)) for method in (chat, stream)]
    with anyio.fail_after(LONG):
        while auth.refresh is None:
            await checkpoint()
        await checkpoint()
        for task, scope in zip(calls, scopes, strict=True):
            if cancelled != "refresh":
                task.cancel() if cancelled == "call" else scope.cancel()
        auth.refresh.cancel()
        await asyncio.wait(calls)
    if cancelled == "refresh":
        for task in calls:
            with pytest.raises(trunkline.PluginError, match="a task that it waited for was cancelled"):
                task.result()
    elif cancelled == "call":
        assert all(task.cancelled() for task in calls)
    else:
        for task in calls:
            task.result()  # the scope has taken the cancellation
    await service.aclose()


async def test_call_that_is_cancelled_while_it_connects_raises_the_cancellation_itself(toy: Any) -> None:
    def hang(context: object) -> Any:
        return Connecting()

    class Connecting(NoAuth):
        async def acquire(self, *, refresh: bool = False) -> None:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
            raise BaseExceptionGroup("in the nursery of trio.open_tcp_stream", [BaseExceptionGroup("", [cancelled])])

    caught: list[type[BaseException]] = []
    async with toy("http://localhost", {"auth": hang}) as service:
        with anyio.move_on_after(0) as scope:
            try:
                await service.chat("hi")
            except BaseException as error:
                caught.append(type(error))
                raise
    assert scope.cancelled_caught
    assert caught == [anyio.get_cancelled_exc_class()]
