"""`limit` and `balance`: which calls wait, in which order, and what they give back, on both backends."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import anyio
import attrs
import pytest
import trunkline
from trunkline import (
    ConfigurationError,
    LimitedService,
    LimitTimeout,
    RateLimited,
    ServerError,
    ServiceClosed,
    StreamInterrupted,
    TotalTimeout,
    balance,
    fallback,
    hookimpl,
    limit,
)
from trunkline._calls.admission import Admission, Ticket
from trunkline._calls.circuit_breaker import CircuitBreaker
from trunkline._calls.options import TimeLimit
from trunkline._calls.retry import RetryPolicy
from trunkline._calls.turns import Turns
from trunkline._config.compositions import Composition, Compositions, Limits
from trunkline.authoring.limits import LONGEST_PAUSE
from trunkline.authoring.rate_limits import LimitHeaders, RateLimitHeaders
from trunkline.opening import compose
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

LINES = {"content-type": "application/x-ndjson"}
PERIOD = 0.4
"""The window of the limits in these tests, in seconds."""
LONG = 20.0

NAMES = RateLimitHeaders(requests=(LimitHeaders(limit="r-limit", remaining="r-limit-left", reset="r-limit-reset"),))

Toy = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.provider_service.RetryPolicy", partial(RetryPolicy, first_delay=0.01))


@attrs.define
class Counting:
    """A server that counts: when each request came, and how many were answered at the same time."""

    statuses: list[int] = attrs.field(factory=list)
    headers: dict[str, str] = attrs.field(factory=dict)
    times: list[float] = attrs.field(factory=list)
    texts: list[str] = attrs.field(factory=list)
    running: int = 0
    most_running: int = 0
    held: anyio.Event | None = None
    usage: tuple[int, int] | None = None
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    async def __call__(self, exchange: Exchange) -> None:
        with self.lock:
            self.times.append(time.monotonic())
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            await self._answer(exchange)
        finally:
            with self.lock:
                self.running -= 1

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.request.target.endswith("/embed"):
            return await exchange.respond(b"[[1.0]]")
        body = json.loads(exchange.request.body)
        self.texts.append(body["text"][0])
        await anyio.lowlevel.checkpoint()
        if self.held is not None:
            await self.held.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return await exchange.respond(b"no", status=status, headers=self.headers)
        if not body["stream"]:
            return await exchange.respond(
                json.dumps({"text": "hello", "usage": self.usage}).encode(), headers=self.headers
            )
        await exchange.start(headers={**LINES, **self.headers})
        await exchange.chunk(b'{"open": true, "text": "hel"}\n')
        if self.usage is not None:
            await exchange.chunk(b'{"usage": [%d, %d]}\n' % self.usage)
        await exchange.chunk(b'{"text": "lo"}\n')
        if "broken" not in body["text"][0]:
            await exchange.chunk(b'{"done": true}\n')
        return await exchange.end()


PROVIDER = {"rate_limits": lambda context: NAMES}


class Recording(Admission):
    """An admission that keeps the times at which requests are sent."""

    def begin_anew(self) -> object:
        self.sent: list[float] = []
        return super().begin_anew()

    def _sent(self, ticket: Ticket) -> None:
        super()._sent(ticket)
        self.sent += [reservation.sent_at or 0.0 for _, reservation in self._reservations(ticket)][:1]


def limited(service: Any, **limits: Any) -> LimitedService:
    """The service with limits whose window is `PERIOD`."""
    whole = {"period": PERIOD, **limits}
    return LimitedService(service, "main", Recording("main", **whole))


def most_within_a_period(service: LimitedService) -> int:
    """The most requests that were sent in an interval of `PERIOD`."""
    assert isinstance(service._admission, Recording)
    sent = service._admission.sent
    return max(sum(start <= other < start + PERIOD for other in sent) for start in sent)


@asynccontextmanager
async def counted(toy: Toy, server: Counting, *, settings: Any = None, **limits: Any) -> AsyncIterator[LimitedService]:
    async with serve(server) as opened, toy(opened.url, provider=PROVIDER, **(settings or {})) as service:
        async with limited(service, **limits) as main:
            yield main


async def all_at_once(*calls: Callable[[], Any]) -> None:
    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call)


def nothing_runs(service: LimitedService) -> bool:
    status = service.status
    return (status.running, status.waiting) == (0, 0)


# Concurrency


async def test_no_more_calls_run_at_once_than_the_limit_says(toy: Toy) -> None:
    server = Counting()
    async with counted(toy, server, concurrency=3) as main:

        async def stream() -> None:
            async with main.stream("hi") as opened:
                await opened.finish()

        await all_at_once(*[partial(main.chat, "hi")] * 10, *[stream] * 10, *[partial(main.embed, "hi")] * 5)
        assert nothing_runs(main)
    assert len(server.times) == 25
    assert server.most_running <= 3


async def test_as_many_calls_run_at_once_as_the_limit_allows(toy: Toy) -> None:
    server = Counting(held=anyio.Event())
    assert server.held is not None
    async with counted(toy, server, concurrency=3) as main:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(main.chat, "hi")
            with anyio.fail_after(LONG):
                while len(server.times) < 3:
                    await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            assert (len(server.times), main.status.running, main.status.waiting) == (3, 3, 2)
            server.held.set()


async def test_calls_are_sent_in_the_order_in_which_they_came(toy: Toy) -> None:
    server = Counting()
    async with counted(toy, server, concurrency=1) as main:
        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(main.chat, str(number))
                await anyio.wait_all_tasks_blocked()
    assert server.texts == [str(number) for number in range(12)]


@pytest.mark.parametrize("end", ["finish", "leave", "close", "break off", "cancel", "drop"])
async def test_stream_gives_its_place_back_however_it_ends(toy: Toy, end: str) -> None:
    async with counted(toy, Counting(), concurrency=1) as main:
        stream = main.stream("broken" if end == "break off" else "hi")
        await stream.__aenter__()
        assert main.status.running == 1
        if end == "finish":
            await stream.finish()
        elif end == "leave":
            await stream.__aexit__(None, None, None)
        elif end == "close":
            await stream.aclose()
        elif end == "break off":
            with pytest.raises(StreamInterrupted):
                await stream.finish()
        elif end == "cancel":
            with anyio.CancelScope() as scope:
                scope.cancel()
                await stream.finish()
        if end == "drop":
            del stream
            gc.collect()
        else:
            assert main.status.running == 0
            await stream.aclose()
        with anyio.fail_after(LONG):
            assert (await main.chat("hi")).text == "hello"
        assert nothing_runs(main)


async def test_failed_call_gives_its_place_back(toy: Toy) -> None:
    async with counted(toy, Counting(statuses=[500, 500]), settings={"max_retries": 0}, concurrency=1) as main:
        with pytest.raises(ServerError):
            await main.chat("hi")
        with pytest.raises(ServerError):
            await main.stream("hi").__aenter__()
        assert nothing_runs(main)


async def test_call_whose_usage_cannot_be_counted_gives_its_place_back(toy: Toy) -> None:
    class Wrong(trunkline.Middleware):
        async def chat(self, call: Any, request: Any, proceed: Any) -> Any:
            return attrs.evolve(await proceed(request), usage=Usage(output_tokens=cast(Any, "many")))

        @hookimpl
        def trunkline_middleware(self, context: Any) -> Any:
            return self

    async with counted(toy, Counting(), settings={"extensions": [Wrong()]}, concurrency=1) as main:
        with pytest.raises(TypeError):
            await main.chat("hi")
        assert nothing_runs(main)


async def test_cancelled_waiter_leaves_the_queue_and_the_next_one_is_sent(toy: Toy) -> None:
    server = Counting(held=anyio.Event())
    assert server.held is not None
    async with counted(toy, server, concurrency=1) as main:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(main.chat, "first")
            await anyio.wait_all_tasks_blocked()
            scope = anyio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    await main.chat("cancelled")

            tasks.start_soon(cancelled)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(main.chat, "last")
            await anyio.wait_all_tasks_blocked()
            assert main.status.waiting == 2
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert main.status.waiting == 1
            server.held.set()
        assert nothing_runs(main)
    assert server.texts == ["first", "last"]


async def test_place_that_was_granted_to_a_cancelled_call_is_not_lost(toy: Toy) -> None:
    async with counted(toy, Counting(), concurrency=1) as main:
        for _ in range(20):
            ticket = await main._admission.admit(0, None)
            scopes = [anyio.CancelScope() for _ in range(3)]

            async def wait(scope: anyio.CancelScope) -> None:
                with scope:
                    (await main._admission.admit(0, None)).end()

            async with anyio.create_task_group() as tasks:
                for scope in scopes:
                    tasks.start_soon(wait, scope)
                await anyio.wait_all_tasks_blocked()
                ticket.end()  # grants the first one, in the same moment in which it is cancelled
                scopes[0].cancel()
            assert nothing_runs(main)


# Requests


async def test_no_interval_has_more_requests_than_the_limit(toy: Toy) -> None:
    server = Counting()
    async with counted(toy, server, requests=8) as main:
        await all_at_once(*[partial(main.chat, "hi")] * 30)
    assert len(server.times) == 30
    assert most_within_a_period(main) <= 8


async def test_retries_count_as_requests_and_go_before_calls_that_wait(toy: Toy) -> None:
    server = Counting(statuses=[503, 503])
    async with counted(toy, server, requests=2, concurrency=1) as main:
        async with anyio.create_task_group() as tasks:
            for text in ("first", "second"):
                tasks.start_soon(main.chat, text)
                await anyio.wait_all_tasks_blocked()
        assert nothing_runs(main)
    assert server.texts == ["first", "first", "first", "second"]
    assert most_within_a_period(main) <= 2


async def test_request_counts_as_sent_when_all_limits_around_the_service_allow_it(toy: Toy) -> None:
    async with serve(Counting(statuses=[503])) as server, toy(server.url) as service:
        inner = limited(service, requests=1)
        outer = LimitedService(inner, "outer", Recording("outer", requests=100))
        await outer.chat("hi")  # the retry waits for the inner limit
        for main in (inner, outer):
            assert isinstance(main._admission, Recording)
            first, second = main._admission.sent
            assert second - first >= PERIOD
        assert nothing_runs(outer)
        assert outer.status.requests == 2


async def test_request_that_one_of_several_limits_refuses_is_not_counted_by_the_others(toy: Toy) -> None:
    down, spare = Counting(statuses=[503]), Counting()
    async with serve(down) as one, serve(spare) as two:
        first = limit(toy(one.url, name="a", max_retries=1), requests_per_minute=1)
        main = limit(fallback(first, toy(two.url, name="b")), requests_per_minute=100, tokens_per_minute=10**6)
        assert (await main.with_options(total_timeout=LONG).chat("hi")).service == "b"
        assert main.status.requests == 2  # that of each service
        await main.aclose()


async def test_call_that_a_middleware_answers_takes_nothing_from_the_limit(toy: Toy) -> None:
    class Cache(trunkline.Middleware):
        async def chat(self, call: Any, request: Any, proceed: Any) -> Any:
            return ChatResponse(parts=(), finish_reason=FinishReason.STOP)

    class Extension:
        @hookimpl
        def trunkline_middleware(self, context: Any) -> Any:
            return Cache()

    async with counted(toy, Counting(), settings={"extensions": [Extension()]}, requests=1, tokens=100) as main:
        for _ in range(5):
            await main.chat("hi")
        assert (main.status.requests, main.status.tokens) == (0, 0)


async def test_call_is_refused_at_once_if_the_limit_certainly_comes_too_late(toy: Toy) -> None:
    async with counted(toy, Counting(), requests=2, period=600.0) as main:
        for _ in range(2):
            await main.chat("hi")
        with pytest.raises(LimitTimeout) as caught:
            await main.with_options(total_timeout=5).chat("hi")
        assert nothing_runs(main)
    error = caught.value
    assert (error.limit, error.service) == ("requests_per_minute", "main")
    assert error.retry_after is not None
    assert 590 < error.retry_after <= 600
    assert "requests_per_minute (2) of service 'main'" in str(error)
    assert "total_timeout (5 s)" in str(error)


async def test_call_that_has_waited_for_its_total_timeout_names_the_limit(toy: Toy) -> None:
    server = Counting(held=anyio.Event())
    assert server.held is not None
    async with counted(toy, server, concurrency=1) as main:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(main.chat, "first")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(LimitTimeout) as caught:
                await main.with_options(total_timeout=0.05).chat("hi")
            with pytest.raises(LimitTimeout):
                await main.with_options(total_timeout=0.05).stream("hi").__aenter__()
            server.held.set()
        assert nothing_runs(main)
    assert caught.value.limit == "concurrency"
    assert "concurrency (1) of service 'main'" in str(caught.value)


async def test_wait_counts_in_the_total_timeout_of_the_service(toy: Toy) -> None:
    server = Counting(held=anyio.Event())
    assert server.held is not None
    async with counted(toy, server, settings={"total_timeout": 0.2}, concurrency=1) as main:
        async with anyio.create_task_group() as tasks:

            async def first() -> None:
                with pytest.raises(TotalTimeout):
                    await main.chat("first")

            tasks.start_soon(first)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(TotalTimeout):
                await main.chat("second")
            server.held.set()


async def test_limit_that_is_reached_leads_to_the_next_service_of_a_fallback(toy: Toy) -> None:
    one, two = Counting(), Counting()
    async with serve(one) as first, serve(two) as second:
        full = limited(toy(first.url, name="a", total_timeout=5), requests=1, period=600.0)
        async with fallback(full, toy(second.url, name="b")) as main:
            answered = [(await main.chat("hi")).service for _ in range(8)]
    assert answered == ["a"] + ["b"] * 7
    breaker = CircuitBreaker(failures=1)
    attempt = breaker.attempt()
    assert attempt is not None
    attempt.failed(LimitTimeout("full", retry_after=100))
    assert breaker.attempt() is not None


# Tokens


async def test_tokens_are_reserved_by_estimate_and_settled_by_usage(toy: Toy) -> None:
    server = Counting(usage=(7, 13))
    async with counted(toy, server, tokens=1000, period=600.0) as main:
        await main.chat("hi", max_output_tokens=500)
        assert (main.status.tokens, main.status.overshoot) == (20, 0)
        await main.chat("hi", max_output_tokens=5)
        assert main.status.tokens == 40
        assert main.status.overshoot == 20 - 5 - 6  # the estimate of "hi" is 6
        async with main.stream("hi", max_output_tokens=500) as stream:
            reserved = main.status.tokens - 40
            await stream.finish()
        assert reserved == 506


async def test_unknown_usage_keeps_the_estimate(toy: Toy) -> None:
    async with counted(toy, Counting(), tokens=1000, period=600.0) as main:
        await main.chat("hi", max_output_tokens=500)
        assert main.status.tokens == 506


async def test_request_that_the_provider_refused_uses_no_tokens(toy: Toy) -> None:
    settings = {"max_retries": 0}
    async with counted(toy, Counting(statuses=[500]), settings=settings, tokens=1000, period=600.0) as main:
        with pytest.raises(ServerError):
            await main.chat("hi", max_output_tokens=500)
        assert (main.status.tokens, main.status.running) == (0, 0)


@pytest.mark.parametrize("end", ["broken", "left"])
async def test_stream_that_does_not_end_is_settled_by_the_usage_that_arrived(toy: Toy, end: str) -> None:
    async with counted(toy, Counting(usage=(7, 40)), tokens=1000, period=600.0) as main:
        if end == "broken":
            with pytest.raises(StreamInterrupted):
                async with main.stream("broken", max_output_tokens=500) as stream:
                    await stream.finish()
        else:
            async with main.stream("hi", max_output_tokens=500) as stream:
                async for event in stream:
                    if isinstance(event, trunkline.UsageReported):
                        break
        assert main.status.tokens == 47


async def test_call_with_more_tokens_than_the_limit_is_sent_alone(toy: Toy) -> None:
    server = Counting()
    async with counted(toy, server, tokens=100) as main:
        await all_at_once(*[partial(main.chat, "hi", max_output_tokens=200)] * 3)
    assert most_within_a_period(main) == 1


async def test_calls_that_settle_low_let_others_through_in_the_same_minute(toy: Toy) -> None:
    server = Counting(usage=(1, 1))
    async with counted(toy, server, tokens=100, period=600.0) as main:
        await all_at_once(*[partial(main.chat, "hi", max_output_tokens=80)] * 7)
        assert main.status.tokens == 14


def test_estimate_of_output_follows_the_responses() -> None:
    from trunkline._calls.call_tokens import TokenEstimate

    estimate, request = TokenEstimate(), ChatRequest(messages="hi")
    first = estimate.of_chat(request, 100_000)
    response = ChatResponse(parts=(), finish_reason=FinishReason.STOP, usage=Usage(input_tokens=1, output_tokens=1000))
    assert estimate.used(response) == 1001
    assert estimate.of_chat(request, 100_000) == first - 256 + 1000
    assert estimate.of_chat(request, None) == 0
    absurd = Usage(input_tokens=1, output_tokens=10**400, total_tokens=10**400 + 1)
    assert estimate.used(attrs.evolve(response, usage=absurd)) is None
    assert estimate.of_chat(request, 100_000) == first - 256 + 1000


# What the provider says


async def test_no_call_is_sent_until_the_providers_own_limit_has_reset(toy: Toy) -> None:
    headers = {"r-limit-left": "0", "r-limit-reset": "60s"}
    async with counted(toy, Counting(headers=headers), requests=1000) as main:
        await main.chat("hi")
        assert 50 < main.status.paused_for <= 60
        with pytest.raises(LimitTimeout) as caught:
            await main.with_options(total_timeout=5).chat("hi")
    assert caught.value.limit == "rate_limits"
    assert "the provider's own limit" in str(caught.value)


async def test_retry_after_of_one_call_holds_up_the_others(toy: Toy) -> None:
    server = Counting(statuses=[429], headers={"retry-after": "100000"})
    async with counted(toy, server, settings={"max_retries": 0}, concurrency=5) as main:
        with pytest.raises(RateLimited):
            await main.stream("hi").__aenter__()
        assert LONGEST_PAUSE - 10 < main.status.paused_for <= LONGEST_PAUSE


async def test_error_of_a_new_call_counts_all_calls_that_wait_before_it(toy: Toy) -> None:
    admission = Admission("main", tokens=100, requests=1000)
    (await admission.admit(90, None)).sent()
    scopes: list[anyio.CancelScope] = []

    async def wait(tokens: int) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await admission.admit(tokens, None)

    async def asked_to_wait() -> float:
        now = anyio.current_time()
        with pytest.raises(LimitTimeout) as raised:
            await admission.admit(60, TimeLimit(end=now + 1, total=1, service="main"))
        return raised.value.retry_after or 0.0

    admission._running = 0  # so that the times are certain
    async with anyio.create_task_group() as tasks:
        for tokens in (60, 500, 80):
            tasks.start_soon(wait, tokens)
            await anyio.wait_all_tasks_blocked()
        assert 100 < await asked_to_wait() <= 122  # 60 + 100 + 80 + 60 tokens fill three minutes
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert 55 < await asked_to_wait() <= 62.1
        tasks.cancel_scope.cancel()
    assert admission._queued_tokens == 0


async def test_retry_that_a_limit_holds_up_for_too_long_does_not_hold_up_other_calls(toy: Toy) -> None:
    server = Counting(statuses=[503])
    async with counted(toy, server, requests=1, period=60) as main:
        with pytest.raises(LimitTimeout, match="requests_per_minute"):
            await main.with_options(total_timeout=5).chat("hi")
        assert main.status.paused_for == 0


async def test_wait_that_one_member_of_a_fallback_asks_for_does_not_hold_up_the_other(toy: Toy) -> None:
    one, two = Counting(statuses=[429], headers={"retry-after": "60"}), Counting()
    async with serve(one) as first, serve(two) as second:
        both = fallback(toy(first.url, name="a"), toy(second.url, name="b"))
        async with limit(both, requests_per_minute=100) as main:
            with anyio.fail_after(LONG):
                assert (await main.chat("hi")).service == "b"
            assert main.status.requests == 2


# Limits that processes share


@attrs.define
class Lent:
    """A lease that keeps what was done with it."""

    steps: list[str]

    def sent(self) -> None:
        self.steps.append("sent")

    def arrived(self) -> None:
        self.steps.append("arrived")

    def end(self, tokens: int | None) -> None:
        self.steps.append(f"end {tokens}")


@attrs.define
class Lender:
    """A shared limiter that keeps what it was asked for, and grants it unless it is `held`."""

    tokens_per_minute: int | None = 1000
    steps: list[str] = attrs.field(factory=list)
    pauses: list[float] = attrs.field(factory=list)
    held: anyio.Event | None = None
    refusal: LimitTimeout | None = None

    async def acquire(self, tokens: int, timeout: float | None) -> Lent:
        self.steps.append(f"acquire {tokens}")
        if self.refusal is not None:
            raise self.refusal
        if self.held is not None:
            await self.held.wait()
        return Lent(self.steps)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


@asynccontextmanager
async def shared(toy: Toy, server: Counting, lender: Lender, **settings: Any) -> AsyncIterator[LimitedService]:
    async with serve(server) as opened, toy(opened.url, provider=PROVIDER, **settings) as service:
        async with limit(service, limiter=lender, name="main") as main:
            yield main


async def test_shared_limiter_is_asked_before_each_attempt_and_told_what_it_used(toy: Toy) -> None:
    lender = Lender()
    async with shared(toy, Counting(statuses=[503], usage=(7, 13)), lender) as main:
        await main.chat("hi", max_output_tokens=5)
    first = ["acquire 11", "sent", "arrived", "end 0"]
    assert lender.steps == [*first, "acquire 11", "sent", "arrived", "end 20"]


async def test_shared_lease_of_a_stream_ends_with_the_stream(toy: Toy) -> None:
    lender = Lender()
    async with shared(toy, Counting(usage=(7, 13)), lender) as main:
        async with main.stream("hi", max_output_tokens=5) as stream:
            assert lender.steps == ["acquire 11", "sent", "arrived"]
            async for event in stream:
                if isinstance(event, trunkline.UsageReported):
                    break
        assert lender.steps == ["acquire 11", "sent", "arrived", "end 20"]
        lender.steps.clear()
        dropped = main.stream("hi", max_output_tokens=5)
        await dropped.__aenter__()
        del dropped
        gc.collect()
        with anyio.fail_after(LONG):
            while "end" not in lender.steps[-1]:
                await anyio.lowlevel.checkpoint()


async def test_shared_limiter_is_not_asked_for_a_call_that_a_middleware_answers(toy: Toy) -> None:
    class Cache(trunkline.Middleware):
        async def chat(self, call: Any, request: Any, proceed: Any) -> Any:
            return ChatResponse(parts=(), finish_reason=FinishReason.STOP)

        @hookimpl
        def trunkline_middleware(self, context: Any) -> Any:
            return self

    lender = Lender()
    async with shared(toy, Counting(), lender, extensions=[Cache()]) as main:
        await main.chat("hi")
    assert lender.steps == []


async def test_tokens_are_not_estimated_for_a_shared_limiter_without_a_limit_of_tokens(toy: Toy) -> None:
    lender = Lender(tokens_per_minute=None)
    async with shared(toy, Counting(), lender) as main:
        await main.chat("hi", max_output_tokens=5)
    assert lender.steps == ["acquire 0", "sent", "arrived", "end None"]


async def test_wait_that_the_provider_asks_for_pauses_the_shared_limiter(toy: Toy) -> None:
    lender = Lender()
    async with shared(toy, Counting(statuses=[429], headers={"retry-after": "100000"}), lender, max_retries=0) as main:
        with pytest.raises(RateLimited):
            await main.chat("hi")
    assert lender.pauses == [LONGEST_PAUSE]
    exhausted = {"r-limit": "5", "r-limit-left": "0", "r-limit-reset": "30"}
    async with shared(toy, Counting(headers=exhausted), lender) as main:
        await main.chat("hi")
    assert lender.pauses == [LONGEST_PAUSE, 30]


async def test_call_that_the_shared_limiter_holds_up_for_too_long_is_not_sent(toy: Toy) -> None:
    server, lender = Counting(), Lender(held=anyio.Event())
    async with shared(toy, server, lender) as main:
        with pytest.raises(LimitTimeout, match="shares with other processes") as caught:
            await main.with_options(total_timeout=0.05).chat("hi")
        assert caught.value.service == "main"
        lender.refusal = LimitTimeout("the tenant has used up its requests", retry_after=30)
        with pytest.raises(LimitTimeout, match="tenant") as caught:
            await main.with_options(total_timeout=10).chat("hi")
        assert (caught.value.service, caught.value.retry_after) == ("main", 30)
        assert nothing_runs(main)
    assert server.times == []


async def test_lease_of_a_request_that_another_limit_refuses_is_given_back_unsent(toy: Toy) -> None:
    lender = Lender()
    async with serve(Counting()) as server, toy(server.url) as service:
        inner = limit(service, limiter=Lender(refusal=LimitTimeout("full")))
        outer = limit(inner, limiter=lender)
        with pytest.raises(LimitTimeout):
            await outer.chat("hi", max_output_tokens=5)
    assert lender.steps == ["acquire 11", "end None"]


# Event loops and threads


async def test_limit_holds_in_all_threads_together(toy: Toy, anyio_backend: str) -> None:
    server = Counting()
    async with serve(server) as opened:
        main = limited(toy(opened.url), requests=10, concurrency=4)

        async def several() -> None:
            await all_at_once(*[partial(main.chat, "hi")] * 8)

        def run() -> None:
            anyio.run(several, backend=anyio_backend)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        await several()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
        assert nothing_runs(main)
        await main.aclose()
    assert len(server.times) == 32
    assert server.most_running <= 4
    assert most_within_a_period(main) <= 10


async def test_event_loop_that_ends_while_calls_wait_holds_nobody_up(toy: Toy, anyio_backend: str) -> None:
    admission = Admission("main", concurrency=1)
    ticket = await admission.admit(0, None)

    async def leave() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(admission.admit, 0, None)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    await anyio.to_thread.run_sync(partial(anyio.run, leave, backend=anyio_backend))
    assert admission.status().waiting == 0
    ticket.end()
    with anyio.fail_after(LONG):
        (await admission.admit(0, None)).end()


async def test_closing_ends_the_service_inside(toy: Toy) -> None:
    async with counted(toy, Counting(), concurrency=1) as main:
        await main.aclose()
        with pytest.raises(ServiceClosed):
            await main.chat("hi")
        assert nothing_runs(main)


async def test_closing_ends_the_calls_that_wait(toy: Toy) -> None:
    server = Counting(held=anyio.Event())
    assert server.held is not None
    async with counted(toy, server, concurrency=1) as main:
        ended: list[BaseException] = []

        async def call() -> None:
            try:
                await main.chat("hi")
            except ServiceClosed as error:
                ended.append(error)

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
                await main.aclose()
        server.held.set()
        assert len(ended) == 3
        assert nothing_runs(main)


async def test_process_that_was_forked_does_not_wait_for_the_calls_of_its_parent(toy: Toy) -> None:
    admission = Admission("main", concurrency=1, requests=1, tokens=10)
    ticket = await admission.admit(5, None)
    ticket.sent()
    admission.begin_anew()  # as in the child of a fork
    ticket.end(20)
    assert (admission.status().running, admission.status().requests, admission.status().tokens) == (0, 0, 0)
    with anyio.fail_after(LONG):
        (await admission.admit(5, None)).end()


async def test_lock_that_a_thread_held_during_a_fork_is_free_in_the_child(toy: Toy) -> None:
    breaker, turns = CircuitBreaker(), Turns([1, 1])
    assert breaker._lock.acquire(blocking=False)
    assert turns._lock.acquire(blocking=False)
    breaker.begin_anew()  # as in the child of a fork
    turns.begin_anew()
    assert breaker.attempt() is not None
    assert turns.next() == [0, 1]


@pytest.mark.parametrize("kind", ["fallback", "balance"])
async def test_configuration_file_composes_and_limits_services(toy: Toy, kind: Any) -> None:
    one, two = Counting(), Counting()
    compositions = Compositions(
        services={"main": Composition(kind=kind, members={"a": 3, "b": 1})},
        limits={"a": Limits(requests_per_minute=100), "main": Limits(concurrency=2, tokens_per_minute=1000)},
    )
    async with serve(one) as first, serve(two) as second:
        made = compose(compositions, {"a": toy(first.url, name="a"), "b": toy(second.url, name="b")})
        async with made["main"] as main:
            answered = Counter([(await main.chat("hi", max_output_tokens=1)).service for _ in range(8)])
    assert answered == ({"a": 8} if kind == "fallback" else {"a": 6, "b": 2})
    limited_a, limited_main = made["a"], made["main"]
    assert isinstance(limited_a, LimitedService)
    assert isinstance(limited_main, LimitedService)
    assert limited_a.status.requests == answered["a"]
    assert limited_main.status.tokens == 8 * 7
    assert not isinstance(made["b"], LimitedService)


async def test_view_shares_the_limits(toy: Toy) -> None:
    async with counted(toy, Counting(), requests=5) as main:
        await main.with_options(max_retries=0).chat("hi")
        assert main.status.requests == 1


@pytest.mark.parametrize(
    "limits", [{}, {"concurrency": 0}, {"requests_per_minute": 1.5}, {"tokens_per_minute": -1}, {"concurrency": True}]
)
async def test_wrong_limit_is_refused(toy: Toy, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        limit(toy("http://127.0.0.1:9"), **limits)


# Balance


@asynccontextmanager
async def balanced(toy: Toy, *members: Counting, **options: Any) -> AsyncIterator[Any]:
    async with anyio.create_task_group():
        async with serve(members[0]) as one, serve(members[1]) as two:
            services = [toy(server.url, name=name) for name, server in zip("ab", (one, two), strict=True)]
            async with balance(*services, name="main", **options) as main:
                yield main


async def test_services_share_the_calls_by_weight(toy: Toy) -> None:
    async with balanced(toy, Counting(), Counting(), weights=[3, 1]) as main:
        answered = Counter([(await main.chat("hi")).service for _ in range(12)])
        async with main.stream("hi") as stream:
            assert (await stream.finish()).service == "a"
    assert answered == {"a": 9, "b": 3}


async def test_call_goes_to_another_service_if_one_cannot_serve_it(toy: Toy) -> None:
    down, healthy = Counting(statuses=[503] * 100), Counting()
    async with balanced(toy, down, healthy) as main:
        for _ in range(20):
            assert (await main.chat("hi")).service == "b"
    assert len(down.times) == 5, "it must rest after five failures in a row"


async def test_service_that_has_rested_is_probed_by_one_call_and_serves_again(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("trunkline.compose.CircuitBreaker", partial(CircuitBreaker, clock=lambda: now[0]))
    recovering, healthy = Counting(statuses=[503] * 6), Counting()
    async with balanced(toy, recovering, healthy) as main:
        for _ in range(12):
            await main.chat("hi")
        assert len(recovering.times) == 5
        for rest, tried in ((30, 6), (59, 6), (1, 7)):
            now[0] += rest
            for _ in range(4):
                await main.chat("hi")
            if tried == 6:
                assert len(recovering.times) == 6
        assert (await main.chat("hi")).service != (await main.chat("hi")).service


@pytest.mark.parametrize(
    "weights", [[1], [1, 0], [1, -1], [1, "2"], [1, True], [1, float("inf")], 2, [1e308, 1e308], [1, 10**400]]
)
async def test_wrong_weights_are_refused(toy: Toy, weights: Any) -> None:
    with pytest.raises(ConfigurationError):
        balance(toy("http://127.0.0.1:9"), toy("http://127.0.0.1:10"), weights=weights)
