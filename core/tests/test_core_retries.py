"""The retry budget of a service: the policy alone, the queue before it, and a storm against a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from hypothesis import given, strategies as st
from trunkline._calls.pipeline import Pipeline
from trunkline._calls.retry import REWARD, RetryBudget
from trunkline._calls.retry_queue import RetryQueue
from trunkline.errors import ConnectionFailed, RateLimited, RemoteError, ServerError
from trunkline.service import Service
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

LINES = {"content-type": "application/x-ndjson"}
LONG = 10.0
QUICK = 0.1


def middle(low: float, high: float) -> float:
    return (low + high) / 2


# The policy


def test_a_budget_that_is_spent_allows_probes_ever_more_rarely() -> None:
    budget = RetryBudget(capacity=3, uniform=middle)
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    times = []
    for _ in range(7):
        times.append(budget.next_probe)
        assert not budget.take(budget.next_probe - 0.01)
        assert budget.take(budget.next_probe)
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5, 23.5, 31.5]


def test_a_success_lets_two_go_and_makes_the_pause_short_again() -> None:
    budget = RetryBudget(capacity=1, uniform=middle)
    assert budget.take(0.0)
    assert budget.take(10.0)
    budget = RetryBudget(capacity=2, uniform=middle)
    for now in (0.0, 0.0, 10.0, 20.0):
        assert budget.take(now)
    budget.succeeded()
    assert budget.full
    assert [budget.take(21.0) for _ in range(REWARD + 1)] == [True, True, False]
    assert budget.next_probe == 21.5


def test_unused_budget_is_full_again_after_a_while() -> None:
    budget = RetryBudget(capacity=2, longest_pause=8.0, uniform=middle)
    assert [budget.take(now) for now in (0.0, 0.0, 0.5, 1.5, 3.5)] == [True] * 5
    assert not budget.take(budget.next_probe - 0.01)
    assert [budget.take(budget.next_probe + 8.01), budget.take(100.0), budget.take(100.0)] == [True, True, False]


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from(["take", "take", "give up", "succeed"]), st.floats(0, 5)), max_size=300),
)
def test_retries_never_exceed_the_successes_and_probes(capacity: int, steps: list[tuple[str, float]]) -> None:
    budget = RetryBudget(capacity=capacity)
    now, sent, successes = 0.0, 0, 0
    for step, pause in steps:
        now += pause
        if step == "succeed":
            budget.succeeded()
            successes += 1
        elif budget.take(now):
            if step == "take":
                sent += 1
            else:
                budget.give(1)
        # The shortest pause between two probes is 0.75 × 0.5 s.
        assert sent <= capacity + REWARD * successes + now / 0.375
        # Nobody who waits is forgotten: there is a token, or a time at which there is one.
        assert budget.next_probe <= now + 10 or budget.take(now)
        sent += budget.next_probe == float("inf")


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=400))
def test_while_nothing_succeeds_thirty_seconds_see_few_retries(pauses: list[float]) -> None:
    budget = RetryBudget()
    now, taken = 0.0, 0
    for pause in pauses:
        taken += budget.take(now)
        now += pause
        if now > 30:
            break
    assert taken <= budget.capacity + 9


# The queue


async def waiting(
    tasks: anyio.abc.TaskGroup, queue: RetryQueue, names: str
) -> tuple[list[str], list[anyio.CancelScope]]:
    """Calls that wait, in this order; the names of those that may go are added to the list that is returned."""
    gone: list[str] = []
    scopes = [anyio.CancelScope() for _ in names]

    async def call(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await queue.turn()
            gone.append(name)

    for number, (name, scope) in enumerate(zip(names, scopes, strict=True)):
        tasks.start_soon(call, name, scope)
        while len(queue) <= number:
            await anyio.lowlevel.checkpoint()
    return gone, scopes


def spent(capacity: int, pause: float) -> RetryBudget:
    budget = RetryBudget(capacity=capacity, first_pause=pause, longest_pause=pause)
    while not budget.next_probe < float("inf"):
        budget.take(anyio.current_time())
    return budget


async def test_calls_are_let_go_in_the_order_in_which_they_came() -> None:
    queue = RetryQueue(spent(2, 1000))
    async with anyio.create_task_group() as tasks:
        gone, _ = await waiting(tasks, queue, "abcde")
        for expected in ("ab", "abcd", "abcde"):
            queue.succeeded()
            await anyio.wait_all_tasks_blocked()
            assert "".join(sorted(gone)) == expected  # those that go together may go in any order


async def test_cancelled_call_ends_at_once_and_blocks_no_other_call() -> None:
    queue = RetryQueue(spent(1, 1000))
    async with anyio.create_task_group() as tasks:
        gone, scopes = await waiting(tasks, queue, "abc")
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        assert len(queue) == 2
        queue.succeeded()
        scopes[1].cancel()  # it may go, and is cancelled before it does
        await anyio.wait_all_tasks_blocked()
        assert gone in (["b"], ["c"])
        assert len(queue) == (gone == ["b"])
        scopes[2].cancel()


async def test_without_a_success_waiting_calls_retry_in_order() -> None:
    queue = RetryQueue(spent(1, QUICK / 2))
    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            gone, scopes = await waiting(tasks, queue, "abc")
            scopes[0].cancel()
    assert gone == ["b", "c"]


# Through a service


async def answer(exchange: Exchange) -> None:
    if b'"stream":true' not in exchange.request.body:
        return await exchange.respond(b'{"text":"hello"}')
    await exchange.start(headers=LINES)
    await exchange.chunk(b'{"open":1,"text":"hello","done":1}\n')
    return await exchange.end()


async def call(service: Service, operation: str) -> str:
    if operation == "chat":
        return (await service.chat("hi")).text
    async with service.stream("hi") as stream:
        async for _ in stream:
            pass
        return stream.response.text


async def spend(service: Service) -> Pipeline:
    """Spend the budget of a service, for far longer than a test takes."""
    pipeline = await service._open()
    while pipeline.retries.budget.next_probe == float("inf"):
        pipeline.retries.budget.take(anyio.current_time() + 1000)
    return pipeline


@pytest.mark.parametrize("operation", ["chat", "stream"])
@pytest.mark.parametrize("names_wait", [True, False], ids=["retry-after", "silent"])
async def test_overloaded_server_gets_few_retries_and_all_calls_succeed_later(
    toy: Any, operation: str, names_wait: bool
) -> None:
    # A server that names no wait must fail for longer than the first delay of a retry, which is half a second at most.
    # One that names the wait gets retries only after the storm, so a short storm tests the same.
    calls, storm = 60, 0.3 if names_wait else 0.6
    during = 0
    ends = anyio.current_time() + storm

    async def handler(exchange: Exchange) -> None:
        nonlocal during
        left = ends - anyio.current_time()
        if left <= 0:
            return await answer(exchange)
        during += 1
        headers = {"retry-after-ms": str(1 + int(left * 1000))} if names_wait else {}
        return await exchange.respond(b"slow down", status=429, headers=headers)

    texts: list[str] = []

    async def caller() -> None:
        texts.append(await call(service, operation))

    async with serve(handler) as server, toy(server.url, total_timeout=30.0) as service:
        with anyio.fail_after(4 * LONG):
            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    tasks.start_soon(caller)
        assert texts == ["hello"] * calls
        assert during <= 1.2 * calls
        if names_wait:
            assert len(server.requests) <= 2 * calls


async def test_call_that_waits_for_the_budget_until_its_deadline_raises_the_providers_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"slow down", status=429, headers={"retry-after-ms": "0"})

    async with serve(handler) as server, toy(server.url, total_timeout=3 * QUICK, max_retries=50) as service:
        await spend(service)
        with (
            anyio.fail_after(LONG),
            pytest.raises(RateLimited, match=r"slow down; waited .* budget.*\(0.3 s\)") as caught,
        ):
            await service.chat("hi")
        assert caught.value.status == 429
        assert len(server.requests) == 1


async def test_a_call_that_is_cancelled_while_it_waits_for_the_budget_ends_at_once(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"slow down", status=429, headers={"retry-after-ms": "0"})

    async with serve(handler) as server, toy(server.url, max_retries=50) as service:
        pipeline = await spend(service)
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.chat, "hi")
                while not len(pipeline.retries):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        assert (len(server.requests), len(pipeline.retries)) == (1, 0)


async def test_the_budget_is_full_again_once_calls_succeed(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        if len(server.requests) % 3:
            await exchange.respond(b"down", status=500, headers={"retry-after-ms": "0"})
        else:
            await answer(exchange)

    async with serve(handler) as server, toy(server.url) as service:
        for _ in range(4):
            assert (await service.chat("hi")).text == "hello"
        assert (await service._open()).retries.budget.full


# Before any content


@pytest.mark.parametrize("end", ["error", "end of file"])
async def test_a_stream_that_fails_before_any_content_is_tried_again(toy: Any, end: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if len(server.requests) > 1:
            return await answer(exchange)
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"error":500}' if end == "error" else b'{"started":1}')
        return await exchange.end()

    async with serve(handler) as server, toy(server.url) as service:
        assert await call(service, "stream") == "hello"
        assert len(server.requests) == 2


async def test_a_200_whose_body_is_an_error_is_tried_again_like_its_status(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await (exchange.respond(b"busy") if len(server.requests) == 1 else answer(exchange))

    parser = toy("http://127.0.0.1")._provider.response_parser(None)

    class Parser:
        stream, error = parser.stream, parser.error

        def body(self, wire_response: Any) -> Any:
            if wire_response.body == b"busy":
                raise ServerError("busy", status=200, retry_after=0)
            return parser.body(wire_response)

    async with serve(handler) as server, toy(server.url, {"response_parser": lambda context: Parser()}) as service:
        assert await call(service, "chat") == "hello"
        assert len(server.requests) == 2


class Flaky:
    """An `Auth` that cannot reach its identity service the first `times`."""

    def __init__(self, times: int, error: Callable[[], RemoteError]) -> None:
        self.asked = 0
        self._times = times
        self._error = error

    async def __aenter__(self) -> Flaky:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def acquire(self, *, refresh: bool = False) -> str:
        self.asked += 1
        if self.asked <= self._times:
            raise self._error()
        return f"token-{refresh}"

    def sign(self, wire_request: Any, credentials: str) -> Any:
        return wire_request.with_headers({"authorization": credentials})


@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_temporary_failure_to_get_credentials_is_retried(toy: Any, operation: str) -> None:
    auth = Flaky(2, lambda: ConnectionFailed("cannot reach the identity service", retry_after=0.001))
    async with serve(answer) as server, toy(server.url, {"auth": lambda context: auth}) as service:
        assert await call(service, operation) == "hello"
        assert (auth.asked, len(server.requests)) == (3, 1)


async def test_credentials_that_are_refused_are_not_asked_for_again(toy: Any) -> None:
    auth = Flaky(1, lambda: RemoteError("no such client", status=400))
    async with serve(answer) as server, toy(server.url, {"auth": lambda context: auth}) as service:
        with pytest.raises(RemoteError, match="no such client"):
            await service.chat("hi")
        assert (auth.asked, len(server.requests)) == (1, 0)


async def test_failed_refresh_is_retried_without_sending_the_stale_credential_again(toy: Any) -> None:
    class Stale(Flaky):
        async def acquire(self, *, refresh: bool = False) -> str:
            self.asked += 1
            if refresh and self.asked == 3:
                raise self._error()
            return "stale"

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"expired", status=401)

    auth = Stale(0, lambda: ConnectionFailed("cannot reach it", retry_after=0.001))
    async with serve(handler) as server, toy(server.url, {"auth": lambda context: auth}) as service:
        with pytest.raises(RemoteError, match="expired"):
            await service.chat("hi")
        assert (auth.asked, len(server.requests)) == (5, 1)
