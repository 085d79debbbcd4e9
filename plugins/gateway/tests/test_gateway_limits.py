"""Requests and tokens a minute: the same behaviour of both limiters, compared with a list of all that was granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import attrs
import pytest
from gateway_servers import RedisServer, redis_server
from trunkline import Secret
from trunkline_gateway.limits import LIFETIME, Grant, LimitExceeded, LocalLimiter, RateLimiter
from trunkline_gateway.redis_limits import RedisLimiter

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(params=["local", "redis"])
async def limiter(request: pytest.FixtureRequest) -> AsyncIterator[RateLimiter]:
    if request.param == "local":
        yield LocalLimiter()
        return
    server: RedisServer = request.getfixturevalue("redis")
    server.send("FLUSHALL")
    async with RedisLimiter(Secret(server.url), failure="closed") as limiter:
        yield limiter


async def granted(
    limiter: RateLimiter, tokens: int = 1, *, requests: int | None = None, limit: int | None = None
) -> Grant:
    return await limiter.acquire("key", tokens, requests_per_minute=requests, tokens_per_minute=limit)


async def test_requests_are_granted_up_to_the_limit(limiter: RateLimiter) -> None:
    for left in (2, 1, 0):
        grant = await granted(limiter, requests=3)
        assert grant.requests_window is not None
        assert (grant.requests_window.limit, grant.requests_window.remaining) == (3, left)
        assert 59 <= grant.requests_window.reset_after <= LIFETIME
        assert grant.tokens_window is None
    with pytest.raises(LimitExceeded) as refused:
        await granted(limiter, requests=3)
    assert refused.value.limit == "requests_per_minute"
    assert 59 <= refused.value.retry_after <= LIFETIME
    assert refused.value.requests_window is not None
    assert refused.value.requests_window.remaining == 0


async def test_both_limits_are_decided_together(limiter: RateLimiter) -> None:
    await granted(limiter, 90, requests=2, limit=100)
    with pytest.raises(LimitExceeded) as refused:
        await granted(limiter, 11, requests=2, limit=100)
    assert refused.value.limit == "tokens_per_minute"
    # The refused request counts in neither window.
    grant = await granted(limiter, 10, requests=2, limit=100)
    assert grant.requests_window is not None
    assert grant.tokens_window is not None
    assert (grant.requests_window.remaining, grant.tokens_window.remaining) == (0, 0)


async def test_each_key_has_its_own_limit(limiter: RateLimiter) -> None:
    for key in ("one", "two", "with space and ünicode \N{SNOWMAN}", "{braces}"):
        await limiter.acquire(key, 1, requests_per_minute=1, tokens_per_minute=None)
        with pytest.raises(LimitExceeded):
            await limiter.acquire(key, 1, requests_per_minute=1, tokens_per_minute=None)


async def test_a_request_larger_than_the_limit_is_granted_alone(limiter: RateLimiter) -> None:
    grant = await granted(limiter, 1000, limit=100)
    assert grant.tokens_window is not None
    assert grant.tokens_window.remaining == 0
    with pytest.raises(LimitExceeded):
        await granted(limiter, 1, limit=100)
    await limiter.settle(grant, 1)
    with pytest.raises(LimitExceeded):
        await granted(limiter, 1000, limit=100)
    await granted(limiter, 99, limit=100)


@pytest.mark.parametrize("tokens", [10**10, 2**63 - 1, 10**400], ids=["large", "64 bits", "larger"])
async def test_a_request_of_any_number_of_tokens_counts_once(limiter: RateLimiter, tokens: int) -> None:
    grant = await granted(limiter, tokens, requests=2, limit=100)
    with pytest.raises(LimitExceeded):
        await granted(limiter, 1, requests=2, limit=100)
    await limiter.settle(grant, 40)
    second = await granted(limiter, 60, requests=2, limit=100)
    assert second.requests_window is not None
    assert second.requests_window.remaining == 0
    await limiter.settle(second, tokens)
    with pytest.raises(LimitExceeded):
        await granted(limiter, 1, limit=100)


async def test_settling_frees_what_was_not_used(limiter: RateLimiter) -> None:
    grant = await granted(limiter, 100, limit=100)
    await limiter.settle(grant, 40)
    assert (await granted(limiter, 60, limit=100)).tokens == 60


async def test_settling_counts_what_was_used_beyond_the_estimate(limiter: RateLimiter) -> None:
    grant = await granted(limiter, 10, limit=100)
    await limiter.settle(grant, 101)
    with pytest.raises(LimitExceeded):
        await granted(limiter, 0, limit=100)


async def test_settling_an_old_grant_changes_nothing(limiter: RateLimiter) -> None:
    grant = await granted(limiter, 50, limit=100)
    await limiter.settle(attrs.evolve(grant, second=grant.second - LIFETIME), 0)
    with pytest.raises(LimitExceeded):
        await granted(limiter, 51, limit=100)


async def test_without_limits_nothing_is_counted(limiter: RateLimiter) -> None:
    grant = await granted(limiter, 10)
    assert (grant.requests_window, grant.tokens_window) == (None, None)
    await limiter.settle(grant, 20)
    assert (await granted(limiter, requests=1)).requests_window is not None


@pytest.mark.parametrize("name", ["requests", "limit"])
async def test_a_limit_of_zero_allows_no_request(limiter: RateLimiter, name: str) -> None:
    with pytest.raises(LimitExceeded) as refused:
        await granted(limiter, 0, **{name: 0})
    assert refused.value.retry_after > 0


async def test_a_limit_that_is_lowered_holds_at_once(limiter: RateLimiter) -> None:
    for _ in range(5):
        await granted(limiter, requests=10)
    with pytest.raises(LimitExceeded):
        await granted(limiter, requests=3)
    await granted(limiter, requests=6)


async def test_concurrent_requests_get_exactly_the_limit(limiter: RateLimiter) -> None:
    async def attempt() -> bool:
        try:
            await granted(limiter, 3, requests=200, limit=300)
        except LimitExceeded:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt() for _ in range(500)))) == 100
