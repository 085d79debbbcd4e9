"""Services made of services: what `fallback` does when members fail, and what a member sees of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import pytest
from trunkline import (
    BadRequest,
    Call,
    CallError,
    ConfigurationError,
    ConnectionFailed,
    Observer,
    ServerError,
    Service,
    ServiceClosed,
    Stream,
    StreamClosed,
    StreamInterrupted,
    TextDelta,
    TotalTimeout,
    UnsupportedOperation,
    UnsupportedRequest,
    balance,
    fallback,
    hookimpl,
    limit,
)
from trunkline._calls.circuit_breaker import Attempt, CircuitBreaker
from trunkline._calls.retry import RetryPolicy
from trunkline.authoring.provider import Operations
from trunkline.errors import NotFound, RateLimited, TrunklineError
from trunkline.settings import replaced
from trunkline.testing import Exchange, LoopbackServer, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

LINES = {"content-type": "application/x-ndjson"}
LONG = 10.0

Toy = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.provider_service.RetryPolicy", partial(RetryPolicy, first_delay=0.01))


@attrs.define
class Member:
    """A server that answers as `status` says, and counts its requests."""

    status: int = 200
    text: str = "Hello"
    headers: dict[str, str] = attrs.field(factory=dict)
    ends: bool = True
    requests: int = 0
    url: str = ""
    seen: list[dict[str, str]] = attrs.field(factory=list)

    async def __call__(self, exchange: Exchange) -> None:
        self.requests += 1
        self.seen.append(dict(exchange.request.headers))
        if self.status != 200:
            await exchange.respond(b"no", status=self.status, headers=self.headers)
        elif b'"stream":true' not in exchange.request.body:
            await exchange.respond(b'{"text": "%s"}' % self.text.encode())
        else:
            await exchange.start(headers=LINES)
            await exchange.chunk(b'{"open": true, "text": "%s"}\n' % self.text.encode())
            if self.ends:
                await exchange.chunk(b'{"done": true}\n')
            await exchange.end()


@asynccontextmanager
async def servers(*members: Any) -> AsyncIterator[list[LoopbackServer]]:
    async with serve(members[0]) as first:
        if len(members) == 1:
            yield [first]
        else:
            async with servers(*members[1:]) as others:
                yield [first, *others]


@asynccontextmanager
async def composed(toy: Toy, *members: Any, **settings: Any) -> AsyncIterator[Service]:
    """A fallback of the services `a`, `b`, … that the members serve."""
    async with servers(*members) as opened:
        services = [toy(server.url, name=name, **settings) for name, server in zip("abcd", opened, strict=False)]
        async with fallback(*services, name="main") as main:
            yield main


async def read(service: Service) -> str:
    async with service.stream("Hi") as stream:
        return (await stream.finish()).text


async def test_next_service_answers_at_once_when_the_first_is_down(toy: Toy) -> None:
    down, healthy = Member(status=503), Member(text="from b")
    async with composed(toy, down, healthy) as main:
        response = await main.chat("Hi")
        assert (response.text, response.service, response.provider) == ("from b", "b", "toy")
        assert await read(main) == "from b"
    assert (down.requests, healthy.requests) == (2, 2)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_goes_on_when_a_member_cannot_serve(toy: Toy, status: int) -> None:
    async with composed(toy, Member(status=status), Member(text="from b")) as main:
        assert (await main.chat("Hi")).text == "from b"
        assert await read(main) == "from b"


async def test_bad_request_is_raised_without_trying_another_service(toy: Toy) -> None:
    def refuse(context: Any) -> Any:
        class Refusing:
            def translate(self, request: object, *, stream: bool) -> Any:
                raise BadRequest("no such temperature", status=400)

        return Refusing()

    spare = Member()
    async with servers(Member(), spare) as (one, two):
        services = (toy(one.url, provider={"translator": refuse}, name="a"), toy(two.url, name="b"))
        async with fallback(*services) as main:
            with pytest.raises(BadRequest):
                await main.chat("Hi")
            with pytest.raises(BadRequest):
                await read(main)
    assert spare.requests == 0


async def test_connection_that_cannot_be_made_leads_to_the_next_service(toy: Toy) -> None:
    async with serve(Member(text="from b")) as server:
        async with fallback(toy("http://127.0.0.1:9", name="a"), toy(server.url, name="b")) as main:
            assert (await main.chat("Hi")).service == "b"
            assert await read(main) == "from b"


async def test_only_the_last_service_retries_unless_told(toy: Toy) -> None:
    first, last = Member(status=503), Member(status=503)
    async with composed(toy, first, last) as main:
        with pytest.raises(ServerError) as caught:
            await main.with_options(total_timeout=LONG).chat("Hi")
    assert caught.value.service == "b"
    assert (first.requests, last.requests) == (1, 3)
    assert any("before that" in note and "a (toy)" in note for note in caught.value.__notes__)


async def test_service_with_its_own_number_of_retries_keeps_it(toy: Toy) -> None:
    first, option, last = Member(status=503), Member(status=503), Member()
    async with servers(first, option, last) as (one, two, three):
        told = toy(one.url, name="a", max_retries=1)
        view = toy(two.url, name="b").with_options(max_retries=1)
        async with fallback(told, view, toy(three.url, name="c")) as main:
            assert (await main.chat("Hi")).service == "c"
            assert (first.requests, option.requests) == (2, 2)
            await main.with_options(max_retries=0).chat("Hi")
    assert (first.requests, option.requests) == (3, 3)


async def test_stream_that_breaks_off_after_its_first_event_is_not_tried_elsewhere(toy: Toy) -> None:
    cut, spare = Member(ends=False), Member()
    async with composed(toy, cut, spare) as main:
        with pytest.raises(StreamInterrupted) as caught:
            await read(main)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"
    assert spare.requests == 0


async def test_every_operation_goes_to_the_next_service(toy: Toy) -> None:
    async def answer(exchange: Exchange) -> None:
        path = exchange.request.target
        body = b'{"models": ["m"], "next": null}' if path.startswith("/models") else b"[[1.0]]"
        await exchange.respond(body)

    async with servers(Member(status=503), answer) as (one, two):
        without = {"operations": lambda context: Operations()}
        services = (toy(one.url, name="a"), toy(one.url, name="b", provider=without), toy(two.url, name="c"))
        async with fallback(*services) as main:
            assert [model.id for model in await main.list_models()] == ["m"]
            assert (await main.embed("x")).service == "c"
            with pytest.raises(UnsupportedOperation):
                await main.count_tokens("Hi")
            await main.authenticate()


async def test_strict_service_that_cannot_express_the_request_leaves_it_to_the_next(toy: Toy) -> None:
    spare = Member(text="from b")
    async with servers(Member(), spare) as (one, two):
        async with fallback(toy(one.url, name="a", strict=True), toy(two.url, name="b")) as main:
            assert (await main.chat("Hi", seed=1)).text == "from b"
            with pytest.raises(UnsupportedRequest):
                await main.with_options(strict=True).chat("Hi", seed=1)


class Noting(Observer):
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.ends: list[str] = []

    def abandoned(self, call: Call, partial: object) -> None:
        self.ends.append("abandoned")

    def failed(self, call: Call, error: BaseException) -> None:
        self.ends.append(f"failed: {type(error).__name__}")

    @hookimpl
    def trunkline_observer(self, context: object) -> Observer:
        return self

    def started(self, call: Call, context: object, operation: str, request: object) -> None:
        self.calls.append(call)


async def test_observers_see_each_hop_with_the_error_of_the_one_before(toy: Toy) -> None:
    noting = Noting()
    async with servers(Member(status=503), Member(status=503), Member()) as urls:
        services = [toy(server.url, name=name, extensions=[noting]) for name, server in zip("abc", urls, strict=True)]
        async with fallback(fallback(*services[:2], name="inner"), services[2], name="main") as main:
            await main.with_options(state={"app-user": 7}).chat("Hi")
    assert [call.context.name for call in noting.calls] == ["a", "b", "c"]
    hops = [[(hop.service, hop.number, type(hop.error).__name__) for hop in call.hops] for call in noting.calls]
    assert hops == [
        [("main", 1, "NoneType"), ("inner", 1, "NoneType")],
        [("main", 1, "NoneType"), ("inner", 2, "ServerError")],
        [("main", 2, "ServerError")],
    ]
    assert {call.hops[0].kind for call in noting.calls} == {"fallback"}
    assert all(call.state == {"app-user": 7} for call in noting.calls)
    assert len({id(call.state) for call in noting.calls}) == 3


async def test_total_timeout_spans_all_services(toy: Toy) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.hung_up()

    async with servers(hang, Member()) as (one, two):
        async with fallback(toy(one.url, name="a"), toy(two.url, name="b"), name="main", total_timeout=0.2) as main:
            with pytest.raises(TotalTimeout, match=r"total_timeout \(0\.2 s\) of service 'main'"):
                await main.chat("Hi")
            with pytest.raises(TotalTimeout, match="of service 'main'"):
                await read(main)
            with pytest.raises(TotalTimeout, match=r"0\.1 s"):
                await main.with_options(total_timeout=0.1).chat("Hi")


async def test_member_that_uses_up_its_own_total_timeout_leaves_the_call_to_the_next(toy: Toy) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.hung_up()

    async with servers(hang, Member()) as (one, two):
        slow = toy(one.url, name="a", total_timeout=0.1)
        async with fallback(slow, toy(two.url, name="b"), total_timeout=LONG) as main:
            assert (await main.chat("Hi")).service == "b"


async def test_service_that_keeps_failing_rests_and_is_not_called(toy: Toy) -> None:
    down = Member(status=503)
    async with composed(toy, down, Member()) as main:
        for _ in range(9):
            await main.chat("Hi")
    assert down.requests == 5


async def test_service_that_asks_for_a_wait_rests_at_once(toy: Toy) -> None:
    busy = Member(status=429, headers={"retry-after": "20"})
    async with composed(toy, busy, Member()) as main:
        for _ in range(3):
            await main.chat("Hi")
            await read(main)
    assert busy.requests == 1


async def test_resting_services_are_called_if_no_other_can_serve(toy: Toy) -> None:
    first, second = Member(status=503), Member(status=503)
    async with composed(toy, first, second, max_retries=0) as main:
        for _ in range(7):
            with pytest.raises(ServerError):
                await main.chat("Hi")
        second.status = 200
        assert (await main.chat("Hi")).service == "b"


async def test_forty_callers_are_all_answered_while_the_first_service_is_down(toy: Toy) -> None:
    texts: list[str] = []
    async with composed(toy, Member(status=503), Member(text="from b")) as main:

        async def call() -> None:
            texts.append((await main.chat("Hi")).text)

        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for _ in range(40):
                    tasks.start_soon(call)
    assert texts == ["from b"] * 40


async def test_closing_closes_the_members_and_interrupts_streams(toy: Toy) -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open": true, "text": "Hello"}\n')
        await exchange.hung_up()

    async with servers(hang) as (one,):
        main = fallback(toy(one.url, name="a"))
        async with main.stream("Hi") as stream:
            assert isinstance(await anext(stream), object)
            await main.aclose()
            with pytest.raises(ServiceClosed):
                await stream.finish()
        with pytest.raises(ServiceClosed):
            await main.chat("Hi")


async def test_stream_that_another_task_closes_while_it_opens_raises_stream_closed(toy: Toy) -> None:
    asked = anyio.Event()

    async def hang(exchange: Exchange) -> None:
        asked.set()
        await exchange.hung_up()

    noting = Noting()
    async with servers(hang, Member()) as (one, two):
        async with fallback(toy(one.url, name="a", extensions=[noting]), toy(two.url, name="b")) as main:
            stream = main.stream("Hi")

            async def close() -> None:
                await asked.wait()
                await stream.aclose()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                with pytest.raises(StreamClosed):
                    async with stream:
                        raise AssertionError("entered")
    assert noting.ends == ["abandoned"]


async def test_stream_of_a_fallback_behaves_as_any_other(toy: Toy) -> None:
    async with composed(toy, Member(status=503), Member(text="from b")) as main:
        stream: Stream = main.stream("Hi")
        assert stream.partial.text == ""
        with pytest.raises(CallError):
            await anext(stream)
        with pytest.raises(CallError):
            _ = stream.response
        async with stream:
            assert [text async for text in stream.text] == ["from b"]
            assert stream.response.text == "from b"
            assert stream.response.service == "b"
        async with main.stream("Hi") as stream:
            assert [event async for event in stream if isinstance(event, TextDelta)] != []
        with pytest.raises(CallError, match="only once"):
            await stream.__aenter__()


async def test_stream_that_did_not_open_says_why_when_it_is_read_on(toy: Toy) -> None:
    async with composed(toy, Member(status=503), Member(status=503)) as main:
        stream = main.with_options(max_retries=0).stream("Hi")
        with pytest.raises(ServerError, match=r"^b"):
            await stream.__aenter__()
        with pytest.raises(ServerError, match=r"^b"):
            await anext(stream)
        stream = main.stream("Hi")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.__aenter__()
        with pytest.raises(StreamInterrupted, match="cancelled"):
            await anext(stream)
        stream = main.stream("Hi")
        await stream.aclose()
        with pytest.raises(StreamClosed):
            await anext(stream)


@pytest.mark.parametrize("waits", [False, True])
async def test_stream_that_opens_cannot_be_closed_in_another_event_loop(
    toy: Toy, anyio_backend: str, waits: bool
) -> None:
    asked = anyio.Event()
    ended: list[BaseException] = []

    async def hang(exchange: Exchange) -> None:
        asked.set()
        await anyio.sleep_forever()

    async def enter(stream: Stream) -> None:
        try:
            await stream.__aenter__()
        except StreamClosed as error:
            ended.append(error)

    async with serve(hang) as server, limit(fallback(toy(server.url)), concurrency=1) as main:
        async with anyio.create_task_group() as tasks:
            if waits:
                await main._admission.admit(0, None)
            stream = main.stream("Hi")
            tasks.start_soon(enter, stream)
            if not waits:
                await asked.wait()
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(CallError, match="only in the event loop that opened it"):
                await anyio.to_thread.run_sync(partial(anyio.run, stream.aclose, backend=anyio_backend))
            assert not ended
            await stream.aclose()
        assert ended


@pytest.mark.parametrize("make", [fallback, balance])
@pytest.mark.parametrize("seconds", [0, -1, math.nan, True, [1], "soon"])
def test_wrong_total_timeout_of_a_composed_service_is_refused(toy: Toy, make: Any, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="service 'main': setting 'total_timeout' must be"):
        make(toy("http://127.0.0.1:9"), name="main", total_timeout=seconds)


def test_composing_nothing_or_the_same_service_twice_is_refused(toy: Toy) -> None:
    one = toy("http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="at least one"):
        fallback()
    with pytest.raises(ConfigurationError, match="twice"):
        fallback(one, one)
    with pytest.raises(ConfigurationError, match="not a value of type str"):
        fallback("a")  # type: ignore[arg-type]


# Options of one call


async def test_options_apply_to_the_view_alone(toy: Toy) -> None:
    member = Member(status=503)
    async with serve(member) as server, toy(server.url, headers={"x-app": "1", "x-kept": "2"}) as service:
        view = service.with_options(max_retries=0, headers={"X-App": "3"}, total_timeout=None)
        with pytest.raises(ServerError):
            await view.chat("Hi")
        assert member.requests == 1
        member.status = 200
        await view.with_options(headers={"x-more": "4"}).chat("Hi")
        await service.chat("Hi")
    sent = [{name: seen[name] for name in ("x-app", "x-kept", "x-more") if name in seen} for seen in member.seen]
    assert sent == [
        {"x-app": "3", "x-kept": "2"},
        {"x-app": "3", "x-kept": "2", "x-more": "4"},
        {"x-app": "1", "x-kept": "2"},
    ]


async def test_wrong_option_names_the_setting_and_what_is_accepted(toy: Toy) -> None:
    service = toy("http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="'max_retries' must be a number of at least 0"):
        service.with_options(max_retries=-1)
    with pytest.raises(TypeError, match="did you mean 'total_timeout'"):
        service.with_options(total_timout=3)
    with pytest.raises(ConfigurationError, match="state must be a mapping"):
        service.with_options(state=3)


async def test_secret_in_the_headers_of_a_call_is_in_no_error(toy: Toy) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.respond(dict(exchange.request.headers)["x-key"].encode(), status=500)

    async with serve(echo) as server, toy(server.url) as service:
        with pytest.raises(ServerError) as caught:
            await service.with_options(headers={"x-key": "very-secret-value"}, max_retries=0).chat("Hi")
    assert "very-secret-value" not in str(caught.value)


async def test_view_is_closed_with_its_service(toy: Toy) -> None:
    async with serve(Member()) as server:
        service = toy(server.url)
        view = service.with_options(strict=True)
        await view.chat("Hi")
        await service.aclose()
        with pytest.raises(ServiceClosed):
            await view.chat("Hi")


# The circuit breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def begin(breaker: CircuitBreaker) -> Attempt:
    """Begin a call of a member that does not rest."""
    attempt = breaker.attempt()
    assert attempt is not None
    return attempt


def probe_after_rest(breaker: CircuitBreaker, clock: Clock) -> tuple[float, Attempt]:
    """Return the seconds until the breaker allows a call, and that call."""
    start = clock.now
    while (attempt := breaker.attempt()) is None:
        clock.now += 1
    return clock.now - start, attempt


def test_rest_doubles_each_time_a_probe_fails() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=2, rest=30, longest_rest=100, clock=clock)
    failure = ServerError("down")
    begin(breaker).failed(failure)
    begin(breaker).failed(failure)
    rests = []
    for _ in range(4):
        rest, probe = probe_after_rest(breaker, clock)
        rests.append(rest)
        probe.failed(failure)
    assert rests == [30, 60, 100, 100]


def test_one_call_probes_a_service_after_its_rest() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, rest=30, clock=clock)
    begin(breaker).failed(ServerError("down"))
    clock.now += 30
    probe = begin(breaker)
    assert [breaker.attempt() for _ in range(2)] == [None, None]
    probe.succeeded()
    assert None not in [breaker.attempt() for _ in range(3)]


def test_probe_that_was_cancelled_lets_another_call_probe() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, rest=30, clock=clock)
    begin(breaker).failed(ServerError("down"))
    clock.now += 30
    begin(breaker).failed(KeyboardInterrupt())
    assert breaker.attempt() is not None


@pytest.mark.parametrize("error", [ServerError("down"), KeyboardInterrupt(), BadRequest("no")])
def test_call_from_before_a_rest_that_fails_does_not_end_the_probe(error: BaseException) -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, rest=30, clock=clock)
    old, failing = begin(breaker), begin(breaker)
    failing.failed(ServerError("down"))
    clock.now += 30
    probe = begin(breaker)
    old.failed(error)
    assert breaker.attempt() is None, "one probe at a time"
    probe.failed(ServerError("down"))
    assert probe_after_rest(breaker, clock)[0] == 60


@pytest.mark.parametrize("kind", ["chat", "stream"])
def test_call_from_before_a_rest_that_succeeds_does_not_end_the_rest(kind: str) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    old, refused = begin(breaker), begin(breaker)
    refused.failed(RateLimited("wait", retry_after=20))
    if kind == "stream":
        old.answered()
    old.succeeded()
    assert breaker.attempt() is None
    breaker.last_resort().succeeded()
    assert breaker.attempt() is not None, "it has answered a call that began after the failure"


def test_timeouts_of_calls_from_before_a_rest_start_no_other_rest_after_it() -> None:
    clock = Clock()
    breaker = CircuitBreaker(rest=30, clock=clock)
    early = begin(breaker)
    clock.now += 59
    late = [begin(breaker) for _ in range(5)]
    clock.now += 1
    early.failed(TotalTimeout("late"))
    clock.now += 30
    begin(breaker).succeeded()
    clock.now += 29
    for attempt in late:
        attempt.failed(TotalTimeout("late"))
    assert breaker.attempt() is not None, "the probe has shown that it works again"


def test_wait_that_is_asked_for_during_a_probe_outlives_the_probe() -> None:
    clock = Clock()
    breaker = CircuitBreaker(failures=1, rest=30, clock=clock)
    begin(breaker).failed(ServerError("down"))
    clock.now += 30
    probe = begin(breaker)
    breaker.last_resort().failed(RateLimited("wait", retry_after=20))
    probe.succeeded()
    assert probe_after_rest(breaker, clock)[0] == 20


@pytest.mark.parametrize(("seconds", "calls"), [(100.0, 1), (30.0, 1), (20.0, 2), (1.0, 5)])
def test_service_that_hangs_rests_when_its_timeouts_have_taken_as_long_as_a_rest(seconds: float, calls: int) -> None:
    clock = Clock()
    breaker = CircuitBreaker(rest=30, clock=clock)
    for _ in range(calls):
        attempt = begin(breaker)
        clock.now += seconds
        attempt.failed(TotalTimeout("late"))
    assert probe_after_rest(breaker, clock)[0] == 30


def test_time_of_a_stream_that_had_begun_is_no_time_of_a_timeout() -> None:
    clock = Clock()
    breaker = CircuitBreaker(rest=30, clock=clock)
    for _ in range(4):
        attempt = begin(breaker)
        attempt.answered()
        clock.now += 1000
        attempt.failed(TotalTimeout("late"))
    slow = begin(breaker)
    clock.now += 20
    slow.failed(ConnectionFailed("slow"))
    assert probe_after_rest(breaker, clock)[0] == 30, "five failures"
    breaker = CircuitBreaker(rest=30, clock=clock)
    for _ in range(10):
        attempt = begin(breaker)
        clock.now += 20
        attempt.failed(TotalTimeout("late"))
        begin(breaker).succeeded()
    assert breaker.attempt() is not None, "it answers between the timeouts"


@pytest.mark.parametrize("error", [BadRequest("no"), NotFound("no"), CallError("no"), TrunklineError("no")])
def test_fault_of_the_request_is_no_failure_of_the_service(error: BaseException) -> None:
    breaker = CircuitBreaker(failures=1)
    begin(breaker).failed(error)
    assert breaker.attempt() is not None


def test_endless_retry_after_rests_no_longer_than_the_longest_rest() -> None:
    clock = Clock()
    breaker = CircuitBreaker(longest_rest=100, clock=clock)
    begin(breaker).failed(RateLimited("wait", retry_after=math.inf))
    assert probe_after_rest(breaker, clock)[0] == 100


def test_calls_that_fail_together_are_one_reason_to_rest() -> None:
    clock = Clock()
    breaker = CircuitBreaker(rest=30, clock=clock)
    for attempt in [begin(breaker) for _ in range(100)]:
        attempt.failed(ServerError("down"))
    assert probe_after_rest(breaker, clock)[0] == 30


def test_service_that_is_down_for_weeks_is_still_probed() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock)
    for _ in range(2000):
        (breaker.attempt() or breaker.last_resort()).failed(ServerError("down"))
        clock.now += 300
    assert probe_after_rest(breaker, clock)[0] <= 300


# Services that are reached on many paths, and errors of nested services


@attrs.define
class Diamond:
    """Composed services of two toys, each of which is a member of two others, and what their members were asked."""

    top: Service
    closed: list[str]
    authenticated: list[str]


def diamond(toy: Toy, monkeypatch: pytest.MonkeyPatch, levels: int = 10) -> Diamond:
    closed: list[str] = []
    authenticated: list[str] = []
    left, right = (toy("http://127.0.0.1:9", name=name) for name in "ab")
    kind = type(left)
    close, authenticate = kind.aclose, kind._authenticate

    async def counted_close(self: Any) -> None:
        closed.append(self.name)
        await close(self)

    async def counted_authenticate(self: Any, outer: Any) -> None:
        authenticated.append(self.name)
        await authenticate(self, outer)

    monkeypatch.setattr(kind, "aclose", counted_close)
    monkeypatch.setattr(kind, "_authenticate", counted_authenticate)
    for _ in range(levels):
        left, right = fallback(left, right), limit(balance(left, right), concurrency=5)
    return Diamond(fallback(left, right, name="main"), closed, authenticated)


async def test_member_that_is_reached_on_many_paths_is_closed_and_authenticated_once(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = diamond(toy, monkeypatch)
    await made.top.authenticate()
    assert sorted(made.authenticated) == ["a", "b"]
    await made.top.aclose()
    assert sorted(made.closed) == ["a", "b"]
    with pytest.raises(ServiceClosed):
        await made.top.chat("Hi")


async def test_error_of_nested_services_has_the_errors_of_all_members(toy: Toy) -> None:
    members = [Member(status=status) for status in (500, 502, 503)]
    async with servers(*members) as opened:
        a, b, c = (toy(server.url, name=name, max_retries=0) for name, server in zip("abc", opened, strict=True))
        async with fallback(fallback(a, b, name="inner"), c, name="main") as main:
            with pytest.raises(ServerError) as caught:
                await main.chat("Hi")
    assert caught.value.service == "c"
    first, second = caught.value.__notes__
    assert first.startswith("before that, in 'inner': ")
    assert second.startswith("before that, in 'main': ")


def test_name_of_a_composed_service_is_a_string(toy: Toy) -> None:
    service = toy("http://127.0.0.1:9")
    for compose in (fallback, balance, partial(limit, concurrency=1)):
        with pytest.raises(ConfigurationError, match="must be a string, not int"):
            compose(service, name=5)


def test_services_cannot_be_nested_deeper_than_calls_can_be(toy: Toy) -> None:
    service = toy("http://127.0.0.1:9")
    for _ in range(50):
        service = fallback(service, name="main")
    for compose in (fallback, balance, partial(limit, concurrency=1)):
        with pytest.raises(ConfigurationError, match="cannot be nested more than 50 deep"):
            compose(service)


def test_wait_before_any_retry_is_finite() -> None:
    policy = RetryPolicy(max_retries=10**6)
    assert policy.delay(5000, ServerError("down")) is not None


async def test_copy_of_settings_with_other_values_has_all_the_others(toy: Toy) -> None:
    settings = toy("http://127.0.0.1:9", strict=True).settings
    copied = replaced(settings, {"max_retries": 7})
    assert copied == attrs.evolve(settings, max_retries=7)
    assert settings.max_retries != 7
