"""Both limiters beside a model that keeps every request and adds them up anew for each decision."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import floor

import attrs
import pytest
from gateway_servers import RedisServer, redis_server
from hypothesis import HealthCheck, example, given, settings, strategies as st
from trunkline import Secret
from trunkline_gateway import redis_limits
from trunkline_gateway.limits import Grant, LimitExceeded, LocalLimiter, RateLimiter
from trunkline_gateway.redis_limits import RedisLimiter
from trunkline_gateway.redis_link import script_of

MICRO = 1_000_000


@attrs.define
class Event:
    """A request that was granted, at a time in microseconds."""

    time: int
    tokens: int


class Model:
    """What may be granted: a request counts until 60 s after the end of the second in which it was granted."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def wait(self, now: int, tokens: int, requests_limit: int | None, tokens_limit: int | None) -> int | None:
        """The microseconds until a request is granted if no other one is; `None` if it never is."""
        times = sorted({now, *(self.end(event) for event in self.events if self.end(event) > now)})
        return next((time - now for time in times if self.fits(time, tokens, requests_limit, tokens_limit)), None)

    def fits(self, now: int, tokens: int, requests_limit: int | None, tokens_limit: int | None) -> bool:
        counted = [event for event in self.events if self.end(event) > now]
        used = sum(event.tokens for event in counted)
        return (requests_limit is None or len(counted) < requests_limit) and (
            tokens_limit is None or (tokens_limit > 0 and used + min(tokens, tokens_limit) <= tokens_limit)
        )

    def last_minute(self, now: int) -> list[Event]:
        return [event for event in self.events if event.time > now - 60 * MICRO]

    def end(self, event: Event) -> int:
        return (event.time // MICRO + 61) * MICRO


@attrs.frozen
class Advance:
    micro: int


@attrs.frozen
class Acquire:
    tokens: int


@attrs.frozen
class Settle:
    which: int
    tokens: int


@attrs.frozen
class Limits:
    requests: int | None
    tokens: int | None


Step = Advance | Acquire | Settle | Limits

few = st.none() | st.integers(0, 12)
acquires = st.builds(Acquire, st.integers(0, 60))
steps = st.lists(
    st.one_of(
        acquires,
        acquires,
        acquires,
        st.builds(Settle, st.integers(0, 3), st.integers(0, 150)),
        st.builds(Advance, st.integers(0, 20 * MICRO) | st.sampled_from([MICRO, 60 * MICRO, 61 * MICRO, 130 * MICRO])),
        st.builds(Limits, few, st.none() | st.integers(0, 120)).filter(lambda limits: limits != Limits(None, None)),
    ),
    min_size=3,
    max_size=60,
)


IDLE = [Acquire(1), Advance(61 * MICRO), Acquire(1), Advance(60 * MICRO), Acquire(1)]
SETTLED = [
    Acquire(60),
    Settle(0, 10),
    Acquire(60),
    Advance(MICRO),
    Settle(1, 70),
    Acquire(30),
    Settle(0, 0),
    Acquire(0),
]


class Clock:
    """A clock that both the test and the server's scripts read."""

    def __init__(self, server: RedisServer | None) -> None:
        self.server = server
        self.micro = 1_000 * MICRO

    def advance(self, micro: int) -> None:
        self.micro += micro
        if self.server is not None:
            self.server.send("SET", "clock", f"{self.micro}")

    def __call__(self) -> float:
        return self.micro / MICRO


async def attempt(limiter: RateLimiter, tokens: int, limits: Limits) -> Grant | LimitExceeded:
    try:
        return await limiter.acquire(
            "key", tokens, requests_per_minute=limits.requests, tokens_per_minute=limits.tokens
        )
    except LimitExceeded as refused:
        return refused


async def play(limiter: RateLimiter, clock: Clock, played: list[Step]) -> None:
    model = Model()
    grants: list[tuple[Grant, Event]] = []
    limits = Limits(5, 100)
    clock.advance(0)
    for step in played:
        match step:
            case Advance(micro):
                clock.advance(micro)
            case Limits():
                limits = step
            case Settle(which, tokens):
                if not grants:
                    continue
                grant, event = grants[-1 - which % len(grants)]
                await limiter.settle(grant, tokens)
                grants[-1 - which % len(grants)] = attrs.evolve(grant, tokens=tokens), event
                if model.end(event) > clock.micro:
                    event.tokens = tokens
            case Acquire(tokens):
                wait = model.wait(clock.micro, tokens, limits.requests, limits.tokens)
                grant = await attempt(limiter, tokens, limits)
                if isinstance(grant, LimitExceeded):
                    assert wait != 0
                    assert grant.retry_after == pytest.approx(61 if wait is None else wait / MICRO)
                    continue
                assert wait == 0
                assert grant.second == clock.micro // MICRO
                before = model.last_minute(clock.micro)
                if limits.requests is not None:
                    assert len(before) + 1 <= limits.requests
                if limits.tokens is not None:
                    assert sum(event.tokens for event in before) + min(tokens, limits.tokens) <= limits.tokens
                event = Event(clock.micro, tokens)
                model.events.append(event)
                grants.append((grant, event))
                check_windows(grant, model, clock, limits)


def check_windows(grant: Grant, model: Model, clock: Clock, limits: Limits) -> None:
    counted = [event for event in model.events if model.end(event) > clock.micro]
    reset = floor(clock()) + 61 - clock()
    for window, limit, used in (
        (grant.requests_window, limits.requests, len(counted)),
        (grant.tokens_window, limits.tokens, sum(event.tokens for event in counted)),
    ):
        assert (window is None) == (limit is None)
        if window is not None and limit is not None:
            assert (window.limit, window.remaining) == (limit, max(0, limit - used))
            assert window.reset_after == pytest.approx(reset if used else 0)


@given(steps)
@example(IDLE)
@example(SETTLED)
@settings(deadline=None)
def test_the_limiter_of_one_process_decides_as_the_model(played: list[Step]) -> None:
    clock = Clock(None)
    asyncio.run(play(LocalLimiter(clock), clock, played))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def clock(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the scripts read the test's clock. The server's own cannot be set."""
    mine = "{math.floor(redis.call('GET', 'clock') / 1000000), redis.call('GET', 'clock') % 1000000}"
    for name in ("_ACQUIRE_SCRIPT", "_SETTLE_SCRIPT"):
        source: str = getattr(redis_limits, name).source
        assert source.count("redis.call('TIME')") == 1
        monkeypatch.setattr(redis_limits, name, script_of(source.replace("redis.call('TIME')", mine)))
    return Clock(redis)


@given(steps)
@example(IDLE)
@example(SETTLED)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_limiter_of_several_processes_decides_as_the_model(
    redis: RedisServer, clock: Clock, played: list[Step]
) -> None:
    async def run() -> None:
        redis.send("FLUSHALL")
        clock.micro = 1_000 * MICRO
        async with RedisLimiter(Secret(redis.url), failure="closed") as limiter:
            await play(limiter, clock, played)

    asyncio.run(run())


@pytest.mark.parametrize("back", [1, 30, 60, 100, 100_000])
@pytest.mark.parametrize("forward", [0, 60])
def test_a_server_clock_that_is_set_back_never_blocks_a_key(
    redis: RedisServer, clock: Clock, back: int, forward: int
) -> None:
    async def run() -> None:
        redis.send("FLUSHALL")
        clock.micro = 1_000_000 * MICRO
        async with RedisLimiter(Secret(redis.url), failure="closed") as limiter:
            clock.advance(0)
            assert isinstance(await attempt(limiter, 5, Limits(2, 10)), Grant)
            clock.advance(forward * MICRO)
            last = await attempt(limiter, 5, Limits(2, 10))
            assert isinstance(last, Grant)
            clock.advance(-back * MICRO)
            await limiter.settle(last, 5)
            granted = 0
            for _ in range(200):
                clock.advance(MICRO)
                answer = await attempt(limiter, 5, Limits(2, 10))
                if isinstance(answer, Grant):
                    granted += 1
                else:
                    assert 0 < answer.retry_after <= 61
            assert granted >= 2

    asyncio.run(run())


def test_idle_keys_need_no_memory() -> None:
    async def run() -> None:
        clock = Clock(None)
        limiter = LocalLimiter(clock)
        for number in range(1000):
            await limiter.acquire(f"key {number}", 1, requests_per_minute=10, tokens_per_minute=10)
            clock.advance(MICRO)
        assert len(limiter) <= 61
        for _ in range(1000):
            clock.advance(MICRO // 10)
            await limiter.acquire("one", 1, requests_per_minute=10_000, tokens_per_minute=None)
        assert len(limiter) == 1
        assert len(limiter._usages["one"].buckets) <= 61

    asyncio.run(run())
