"""Limits of keys that several processes share, counted by a Redis or Valkey server.

Each decision is one script, which the server runs in one step, with its own clock. A key of the gateway has one hash in
Redis, `trunkline:limits:{key}`, which expires when nothing in it counts any more:

    requests, tokens    the sums of all buckets
    oldest, newest      the seconds of the first bucket that may exist and of the last one
    r<second>           the requests of a bucket
    t<second>           the tokens of a bucket
"""

from __future__ import annotations

import contextlib
from typing import Literal, Self

import attrs
from trunkline import Secret

from trunkline_gateway.limits import LIFETIME, Count, Grant, LimiterUnavailable, LocalLimiter, grant_or_refuse
from trunkline_gateway.redis_link import RedisLink, script_of

_MOST_TOKENS = 10**9
"""The most tokens that one request counts with: more than any call has. Lua writes large numbers, and so sums of them,
in a form that Redis does not count with.
"""

# Both scripts begin with this. A bucket of a second counts until 60 s after its end. A clock that went back a little
# stays at the newest bucket; after a larger step, nothing that was counted has a meaning.
_HEAD = f"""
local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1])
local micro = tonumber(time[2])
local state = redis.call('HMGET', key, 'requests', 'tokens', 'oldest', 'newest')
local requests = tonumber(state[1] or 0)
local tokens = tonumber(state[2] or 0)
local oldest = tonumber(state[3] or now)
local newest = tonumber(state[4] or now)
local lifetime = {LIFETIME}
if newest > now and newest - now < lifetime then
  now = newest
  micro = 0
end
if newest + lifetime <= now or newest > now then
  redis.call('DEL', key)
  requests, tokens, oldest, newest = 0, 0, now, now
end

-- The fields of the buckets from one second to another, of requests or tokens.
local function fields(kind, first, last)
  local names = {{}}
  for second = first, last do
    names[#names + 1] = kind .. second
  end
  return names
end

local function expire()
  local last = now - lifetime
  if oldest > last then
    return
  end
  for _, kind in ipairs({{'r', 't'}}) do
    local names = fields(kind, oldest, last)
    for _, value in ipairs(redis.call('HMGET', key, unpack(names))) do
      if value then
        if kind == 'r' then
          requests = requests - value
        else
          tokens = tokens - value
        end
      end
    end
    redis.call('HDEL', key, unpack(names))
  end
  oldest = last + 1
  redis.call('HSET', key, 'requests', requests, 'tokens', tokens, 'oldest', oldest)
end
"""

# A limit of -1 is none. Waits are in microseconds, since Redis cuts off the fraction of a number.
_ACQUIRE = (
    _HEAD
    + """
local weight = tonumber(ARGV[1])
local requests_limit = tonumber(ARGV[2])
local tokens_limit = tonumber(ARGV[3])
expire()

local function until_expired(second)
  return (second + lifetime - now) * 1000000 - micro
end

local function wait(kind, excess)
  if excess > 0 then
    local names = fields(kind, oldest, newest)
    for index, value in ipairs(redis.call('HMGET', key, unpack(names))) do
      excess = excess - (value or 0)
      if excess <= 0 then
        return until_expired(oldest + index - 1)
      end
    end
  end
  return lifetime * 1000000
end

local requests_wait, tokens_wait = 0, 0
if requests_limit >= 0 and requests + 1 > requests_limit then
  requests_wait = wait('r', requests + 1 - requests_limit)
end
if tokens_limit >= 0 then
  local excess = tokens + math.min(weight, tokens_limit) - tokens_limit
  if excess > 0 or tokens_limit == 0 then
    tokens_wait = wait('t', excess)
  end
end
if requests_wait == 0 and tokens_wait == 0 then
  requests = requests + 1
  tokens = tokens + weight
  newest = now
  redis.call('HINCRBY', key, 'r' .. now, 1)
  redis.call('HINCRBY', key, 't' .. now, weight)
  redis.call('HSET', key, 'requests', requests, 'tokens', tokens, 'oldest', oldest, 'newest', newest)
  redis.call('EXPIRE', key, lifetime + 1)
end
local reset = 0
if requests > 0 then
  reset = until_expired(newest)
end
return {now, requests, tokens, reset, requests_wait, tokens_wait}
"""
)

_SETTLE = (
    _HEAD
    + """
local second = tonumber(ARGV[1])
local difference = tonumber(ARGV[2])
expire()
local counted = redis.call('HGET', key, 't' .. second)
if counted then
  difference = math.max(difference, -counted)
  redis.call('HINCRBY', key, 't' .. second, difference)
  redis.call('HINCRBY', key, 'tokens', difference)
end
return 0
"""
)


_ACQUIRE_SCRIPT = script_of(_ACQUIRE)
_SETTLE_SCRIPT = script_of(_SETTLE)


@attrs.frozen(kw_only=True)
class _OpenGrant(Grant):
    """A grant that this instance has counted too, or alone, so that it can go on without the server."""

    local: Grant
    is_shared: bool


class RedisLimiter:
    """A limiter for several processes, which count in one Redis or Valkey server (6 or later).

    `url` is `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, or `unix://[:password@]/path[?db=1]`.
    Characters of a password that a URL gives a meaning are percent-encoded. `?ssl_ca_certs=` names a file of
    certificates to trust instead of the system's; `ssl_certfile` and `ssl_keyfile` are a certificate for the server.

    `failure` says what happens while the server cannot be reached. `closed`: `acquire` raises `LimiterUnavailable`.
    `open`: this process goes on counting by itself, so each instance allows as much as the limits. A call waits for the
    server for at most `timeout` seconds. The connection is opened at the first call and is reopened when it is lost.

    It runs on asyncio, in one event loop. Raises `ConfigurationError` if the URL is wrong or `coredis` is missing.
    """

    def __init__(self, url: Secret, *, failure: Literal["closed", "open"], timeout: float = 1.0) -> None:
        self._link = RedisLink(url, timeout, counts_locally=failure == "open")
        self._local = LocalLimiter() if failure == "open" else None

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def check(self) -> None:
        """See `RateLimiter.check`."""
        await self._link.check()

    async def acquire(
        self, key: str, tokens: int, *, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> Grant:
        """See `RateLimiter.acquire`. A request counts also if the caller is cancelled while it waits for the server."""
        tokens = _bounded(tokens)
        limits = (requests_per_minute, tokens_per_minute)
        if limits == (None, None):
            return Grant(key=key, tokens=tokens, second=0)
        try:
            reply = await self._link.run(
                _ACQUIRE_SCRIPT, key, tokens, *(-1 if limit is None else limit for limit in limits)
            )
        except LimiterUnavailable:
            if self._local is None:
                raise
            grant = await self._local.acquire(
                key, tokens, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
            )
            return _open_grant(grant, grant, is_shared=False)
        second, requests, used, reset, requests_wait, tokens_wait = reply
        count = Count(
            second=second,
            requests=requests,
            tokens=used,
            reset_after=reset / 1e6,
            requests_wait=requests_wait / 1e6,
            tokens_wait=tokens_wait / 1e6,
        )
        grant = grant_or_refuse(
            key, tokens, count, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute
        )
        if self._local is None:
            return grant
        # So that the count does not begin at nothing when the server is lost.
        return _open_grant(grant, self._local.record(key, tokens), is_shared=True)

    async def settle(self, grant: Grant, tokens: int) -> None:
        """See `RateLimiter.settle`. If the server cannot be reached, the tokens stay as they were counted."""
        if grant.requests_window is None and grant.tokens_window is None:
            return
        tokens = _bounded(tokens)
        is_shared = True
        if isinstance(grant, _OpenGrant) and self._local is not None:
            is_shared = grant.is_shared
            await self._local.settle(grant.local, tokens)
        if is_shared and tokens != grant.tokens:
            with contextlib.suppress(LimiterUnavailable):  # it is logged
                await self._link.run(_SETTLE_SCRIPT, grant.key, grant.second, tokens - grant.tokens)

    async def aclose(self) -> None:
        """Close the connection. Later calls raise `LimiterUnavailable`, or are counted by this process alone."""
        await self._link.aclose()


def _bounded(tokens: int) -> int:
    return min(max(tokens, 0), _MOST_TOKENS)


def _open_grant(grant: Grant, local: Grant, *, is_shared: bool) -> _OpenGrant:
    return _OpenGrant(**attrs.asdict(grant, recurse=False), local=local, is_shared=is_shared)
