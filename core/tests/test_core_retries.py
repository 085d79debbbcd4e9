"""Retries: the budget that all calls of a service share, alone and against a real server."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given, strategies as st
from trunkline import hookimpl
from trunkline._calls.retry import RetryBudget, RetryPolicy
from trunkline.authoring.provider import Call, Observer
from trunkline.errors import ConnectionFailed, RateLimited, RemoteError, ServerError, TrunklineError
from trunkline.service import Service
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

LINES = {"content-type": "application/x-ndjson"}
LONG = 10.0


# The budget


def test_budget_allows_as_many_retries_as_it_has_tokens() -> None:
    budget = RetryBudget(3)
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]


def test_success_returns_one_token_up_to_the_capacity() -> None:
    budget = RetryBudget(2)
    budget.give()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.give()
    assert [budget.take() for _ in range(2)] == [True, False]


@given(st.integers(0, 8), st.lists(st.sampled_from(["retry", "retry", "success"]), max_size=300))
def test_retries_never_exceed_the_capacity_and_the_successes(capacity: int, steps: list[str]) -> None:
    budget = RetryBudget(capacity)
    sent = sum(budget.take() for step in steps if step == "retry" or budget.give())
    assert sent <= capacity + steps.count("success")
    assert 0 <= budget.tokens <= capacity


def test_threads_that_share_a_budget_take_each_token_once() -> None:
    budget = RetryBudget(10_000)
    start = threading.Barrier(4)

    def take_all(_: int) -> int:
        start.wait()
        taken = 0
        while budget.take():
            taken += 1
        return taken

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(take_all, range(4))) == 10_000


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


def spend(service: Service) -> None:
    """Take all tokens of a service's retry budget."""
    while service._state.retry_budget.take():
        pass


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all waits a tenth as long that the provider does not ask for."""
    short = partial(RetryPolicy, first_delay=0.05, longest_delay=0.8)
    monkeypatch.setattr("trunkline.provider_service.RetryPolicy", short)


class Watch(Observer):
    """Counts retries, and sets `retrying` at the first."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.retrying = anyio.Event()

    @hookimpl
    def trunkline_observer(self, context: object) -> Observer:
        return self

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        self.delays.append(delay)
        self.retrying.set()


def refuse(status: int, **headers: str) -> Callable[[Exchange], Awaitable[None]]:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"go away", status=status, headers={n.replace("_", "-"): v for n, v in headers.items()})

    return handler


async def gather(calls: int, call: Callable[[], Awaitable[object]]) -> list[RemoteError]:
    """Make calls at the same time, and return the errors of those that fail."""
    errors: list[RemoteError] = []

    async def caller() -> None:
        try:
            await call()
        except RemoteError as error:
            errors.append(error)

    with anyio.fail_after(4 * LONG):
        async with anyio.create_task_group() as tasks:
            for _ in range(calls):
                tasks.start_soon(caller)
    return errors


@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_calls_that_are_refused_with_a_retry_after_all_succeed_at_their_second_attempt(
    toy: Any, operation: str
) -> None:
    calls = 20
    all_sent = anyio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.number > calls:
            return await answer(exchange)
        if exchange.number == calls:
            all_sent.set()
        await all_sent.wait()  # so that no retry is among the requests that are refused
        return await refuse(429, retry_after_ms="1")(exchange)

    async with serve(handler) as server, toy(server.url, total_timeout=30.0) as service:
        spend(service)
        assert await gather(calls, lambda: call(service, operation)) == []
        assert len(server.requests) == 2 * calls


@pytest.mark.usefixtures("short_delays")
@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_callers_of_a_service_that_is_down_send_a_hundred_retries_and_have_their_errors(
    toy: Any, operation: str
) -> None:
    calls = 150
    async with serve(refuse(503)) as server, toy(server.url) as service:
        errors = await gather(calls, lambda: call(service, operation))
        assert len(errors) == calls
        assert len(server.requests) == calls + 100
        budget = [error for error in errors if "retry budget" in str(error)]
        # 100 tokens are at most two retries of 50 calls each; the other calls could not pay for one.
        assert len(budget) >= 50
        assert {error.status for error in errors} == {503}


@pytest.mark.usefixtures("short_delays")
async def test_forty_callers_survive_an_outage_that_is_shorter_than_two_waits(toy: Any) -> None:
    # Two waits are at least 0.75 × (0.05 + 0.1) s.
    ends = anyio.current_time() + 0.1

    async def handler(exchange: Exchange) -> None:
        await (refuse(503) if anyio.current_time() < ends else answer)(exchange)

    async with serve(handler) as server, toy(server.url) as service:
        assert await gather(40, lambda: service.chat("hi")) == []


@pytest.mark.usefixtures("short_delays")
async def test_fallback_to_another_service_answers_all_callers(toy: Any) -> None:
    texts: list[str] = []

    async def ask() -> None:
        try:
            texts.append(await call(down, "chat"))
        except ServerError:
            texts.append(await call(spare, "chat"))

    async with serve(refuse(503)) as one, serve(answer) as other, toy(one.url) as down, toy(other.url) as spare:
        assert await gather(60, ask) == []
        assert len(one.requests) == 60 + 100
    assert texts == ["hello"] * 60


class Down:
    """A transport that fails at once, in any event loop, and counts the attempts."""

    def __init__(self) -> None:
        self.attempts: list[object] = []

    @hookimpl(tryfirst=True)
    def trunkline_transport(self, context: object) -> Down:
        return self

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    @asynccontextmanager
    async def send(self, wire_request: object, timeouts: object) -> AsyncIterator[Any]:
        self.attempts.append(wire_request)
        raise ServerError("down", status=503)
        yield


@pytest.mark.usefixtures("short_delays")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_event_loops_and_threads_of_a_service_share_its_budget(toy: Any, backend: str) -> None:
    down = Down()
    service = toy("http://127.0.0.1", extensions=[down])

    async def fail() -> None:
        assert len(await gather(20, lambda: service.chat("hi"))) == 20

    def in_another_loop(_: int) -> None:
        anyio.run(fail, backend=backend)

    in_another_loop(0)
    assert len(down.attempts) == 3 * 20
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(in_another_loop, range(4)))
    assert len(down.attempts) == 5 * 20 + 100
    in_another_loop(0)
    assert len(down.attempts) == 6 * 20 + 100


async def test_call_without_a_token_raises_its_error_at_once_and_says_why(toy: Any) -> None:
    watch = Watch()
    async with serve(refuse(503)) as server, toy(server.url, extensions=[watch]) as service:
        spend(service)
        with pytest.raises(
            ServerError, match="go away; not retried, because too many calls of service 'toy'"
        ) as caught:
            await service.chat("hi")
        assert caught.value.status == 503
        assert len(server.requests) == 1
        assert not watch.delays


async def test_only_the_first_retry_after_a_retry_after_needs_no_token(toy: Any) -> None:
    async with serve(refuse(429, retry_after_ms="1")) as server, toy(server.url, max_retries=5) as service:
        spend(service)
        with anyio.fail_after(LONG), pytest.raises(RateLimited, match="retry budget"):
            await service.chat("hi")
        assert len(server.requests) == 2


async def test_token_is_taken_before_the_wait_and_returned_if_the_wait_is_cancelled(toy: Any) -> None:
    watch = Watch()
    async with serve(refuse(503)) as server, toy(server.url, extensions=[watch]) as service:
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.chat, "hi")
                await watch.retrying.wait()
                assert service._state.retry_budget.tokens == 99
                tasks.cancel_scope.cancel()
        assert len(server.requests) == 1
        assert service._state.retry_budget.tokens == 100


async def test_second_attempt_after_a_401_needs_no_token(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await (refuse(401) if len(server.requests) == 1 else answer)(exchange)

    auth = Flaky(0, lambda: ConnectionFailed("never"))
    async with serve(handler) as server, toy(server.url, {"auth": lambda context: auth}) as service:
        spend(service)
        assert await call(service, "chat") == "hello"
        assert len(server.requests) == 2


async def test_wait_that_would_exceed_the_deadline_is_not_begun(toy: Any) -> None:
    watch = Watch()
    async with serve(refuse(429, retry_after="30")) as server:
        async with toy(server.url, extensions=[watch], total_timeout=20.0) as service:
            with anyio.fail_after(LONG), pytest.raises(RateLimited, match="go away") as caught:
                await service.chat("hi")
            assert service._state.retry_budget.tokens == 100
        assert len(server.requests) == 1
    assert caught.value.retry_after == 30
    assert not watch.delays


@pytest.mark.parametrize(
    ("retry_after", "settings", "reason"),
    [
        ("90", {}, "the provider asks for a wait of 90 s, more than retry_after_limit (60 s)"),
        ("4.5", {"retry_after_limit": 4}, "the provider asks for a wait of 5 s, more than retry_after_limit (4 s)"),
        ("30", {"total_timeout": 20.0}, "s would exceed total_timeout (20 s)"),
        ("90", {"max_retries": 0}, None),
        ("90", {"max_retries": 0, "retry_after_limit": 4, "total_timeout": 20.0}, None),
    ],
)
async def test_error_of_a_retry_that_is_not_sent_says_which_setting_prevents_it(
    toy: Any, retry_after: str, settings: dict[str, Any], reason: str | None
) -> None:
    async with serve(refuse(429, retry_after=retry_after)) as server, toy(server.url, **settings) as service:
        with anyio.fail_after(LONG), pytest.raises(RateLimited) as caught:
            await service.chat("hi")
        assert len(server.requests) == 1
    said = caught.value.message.partition("; not retried, because ")[2]
    assert said.endswith(reason) if reason else not said


@pytest.mark.usefixtures("short_delays")
async def test_budget_is_full_again_after_as_many_successes_as_retries(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await (refuse(500) if len(server.requests) < 3 else answer)(exchange)

    async with serve(handler) as server, toy(server.url) as service:
        for tokens in (99, 100, 100):
            assert await call(service, "stream") == "hello"
            assert service._state.retry_budget.tokens == tokens


# Waits


@pytest.mark.parametrize(
    ("status", "reason"), [pytest.param(429, "rate limited", id="429"), pytest.param(503, "server error", id="503")]
)
@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_wait_of_more_than_a_second_is_logged_and_observed_before_it(
    toy: Any, operation: str, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch()
    async with serve(refuse(status, retry_after="30")) as server, toy(server.url, extensions=[watch]) as service:
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, service, operation)
                await watch.retrying.wait()
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        assert len(server.requests) == 1
    assert 30 <= watch.delays[0] <= 31
    logged = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert ("trunkline", "WARNING", f"service 'toy': {reason}; trying again in 30 s") in logged


async def test_short_wait_is_logged_with_a_decimal(
    toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, failures, error: 1.84)
    async with serve(refuse(500)) as server, toy(server.url, extensions=[watch := Watch()]) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, service, "chat")
            await watch.retrying.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert "service 'toy': server error; trying again in 1.8 s" in caplog.messages


async def test_wait_of_less_than_a_second_is_observed_but_not_logged(
    toy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch()

    async def handler(exchange: Exchange) -> None:
        await (refuse(429, retry_after_ms="1") if len(server.requests) == 1 else answer)(exchange)

    async with serve(handler) as server, toy(server.url, extensions=[watch]) as service:
        assert await call(service, "chat") == "hello"
    assert len(watch.delays) == 1
    assert not [record for record in caplog.records if record.name == "trunkline"]


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

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()

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


@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_credentials_are_acquired_for_each_attempt(toy: Any, operation: str) -> None:
    """A token may expire, and a time that is signed may pass, while a retry waits."""

    class Numbered(Flaky):
        async def acquire(self, *, refresh: bool = False) -> str:
            self.asked += 1
            return f"token-{self.asked}"

    async def handler(exchange: Exchange) -> None:
        if exchange.number < 3:
            await exchange.respond(b"", status=503, headers={"retry-after-ms": "1"})
        else:
            await answer(exchange)

    auth = Numbered(0, lambda: ConnectionFailed("never"))
    async with serve(handler) as server, toy(server.url, {"auth": lambda context: auth}) as service:
        assert await call(service, operation) == "hello"
        sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["token-1", "token-2", "token-3"]
