"""Limits of keys that several processes share, counted by a Redis or Valkey server.

Each decision is one script, which the server runs in one step, with its own clock. A key of the gateway has one hash in
Redis, `trunkline:limits:{key}`, which expires when nothing in it counts any more:

    requests, tokens    the sums of all buckets
    oldest, newest      the seconds of the first bucket that may exist and of the last one
    r<second>           the requests of a bucket
    t<second>           the tokens of a bucket

One connection serves all calls: requests are written to it at once, and answers come in order. A task of the limiter
keeps it open:

    connecting ── ready ── lost ── connecting, at once
        └── down ── connecting, after a pause that grows to 1 s

Calls wait for the first attempt, for `timeout` at most. While the server is down they do not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import logging
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from trunkline import ConfigurationError, Secret

from trunkline_gateway.limits import LIFETIME, Count, Grant, LimiterUnavailable, LocalLimiter, grant_or_refuse

if TYPE_CHECKING:
    from coredis.connection import BaseConnection

_logger = logging.getLogger("trunkline_gateway")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""The seconds between two attempts to connect while the server is down."""

_NEVER = 100
_PARTS = 4
"""In how many parts a time limit passes. See `_time_limit`."""

_SCHEMES = ("redis", "rediss", "unix")

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


@attrs.frozen(kw_only=True)
class _Script:
    source: str
    digest: str


def _script(source: str) -> _Script:
    # Redis names scripts by their SHA-1; it protects nothing.
    return _Script(source=source, digest=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_ACQUIRE_SCRIPT = _script(_ACQUIRE)
_SETTLE_SCRIPT = _script(_SETTLE)


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
        self._link = _Link(url, timeout, counts_locally=failure == "open")
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


def _open_grant(grant: Grant, local: Grant, *, is_shared: bool) -> _OpenGrant:
    return _OpenGrant(**attrs.asdict(grant, recurse=False), local=local, is_shared=is_shared)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` if the block takes longer, not counting a time in which the event loop could not run.

    When the loop is blocked for a second, answers wait to be read, and the server is not to blame. So the limit passes
    in parts, each of which begins when the loop has run again since the end of the last one.
    """
    loop = asyncio.get_running_loop()
    left = _PARTS
    timer: asyncio.TimerHandle

    def pass_by() -> None:
        nonlocal left, timer
        left -= 1
        if left:
            timer = loop.call_later(seconds / _PARTS, pass_by)
        else:
            scope.cancel()

    timer = loop.call_later(seconds / _PARTS, pass_by)
    with anyio.CancelScope() as scope:
        try:
            yield
        finally:
            timer.cancel()
    if scope.cancelled_caught:
        raise TimeoutError


class _Link:
    """A connection that is kept open, and the scripts that run over it."""

    def __init__(self, url: Secret, timeout: float, *, counts_locally: bool) -> None:
        try:
            import coredis.connection
            import coredis.exceptions
            import coredis.pool
        except ImportError as error:
            raise ConfigurationError(
                'limits that instances share need a package: pip install "trunkline-gateway[redis]"', setting="redis"
            ) from error
        self._exceptions = coredis.exceptions
        self._timeout = timeout
        self._counts_locally = counts_locally
        self._task: asyncio.Task[None] | None = None
        self._scope: anyio.CancelScope | None = None
        self._connection: BaseConnection | None = None
        self._attempted = anyio.Event()
        """Set when the present attempt to connect has ended, or when the server is down."""
        self._is_down = False
        self._is_closed = False
        self._is_reported = False
        """Whether the log says that the server is lost."""

        # No local variable holds the URL, since error trackers show those of a traceback.
        problem = _problem_of(url.reveal())
        if problem is not None:
            raise ConfigurationError(problem, setting="redis")
        self._passwords = _passwords_of(url.reveal())
        # A pool is what reads a URL in coredis. It is not opened: it loses a place whenever a caller is cancelled
        # while a connection is made, and its connections belong to the task that entered it.
        self._pool = coredis.pool.ConnectionPool.from_url(
            url.reveal(),
            decode_components=True,
            client_name="trunkline-gateway",
            # Limits that are never reached: `_time_limit` comes first.
            connect_timeout=_NEVER * timeout,
            stream_timeout=_NEVER * timeout,
            ssl_context=_tls(parse_qs(urlsplit(url.reveal()).query)) if url.reveal().startswith("rediss:") else None,
        )

    def start(self) -> None:
        if self._task is None and not self._is_closed:
            # The first call may be part of a trace, to which this task does not belong.
            loop = asyncio.get_running_loop()
            self._scope = anyio.CancelScope()
            self._task = loop.create_task(self._keep(), name="redis limits", context=contextvars.Context())

    async def check(self) -> None:
        try:
            with _time_limit(self._timeout):
                await self._ready()
        except TimeoutError:
            raise self._unavailable() from None

    async def run(self, script: _Script, key: str, *arguments: int) -> list[int]:
        """Run a script for a key. Raises `LimiterUnavailable`."""
        try:
            with _time_limit(self._timeout):
                reply = await self._run(script, f"trunkline:limits:{key}", arguments)
        except TimeoutError:
            # The server does not answer, or its answer is lost: no other call should wait for it.
            self._give_up(f"no answer within {self._timeout:g} s")
            raise self._unavailable() from None
        except self._exceptions.RedisError as error:
            self._report_lost(error)
            raise self._unavailable() from None
        self._report_back()
        return reply if isinstance(reply, list) else []

    async def aclose(self) -> None:
        self._is_closed = True
        if self._task is not None and self._scope is not None:
            # Cancelling the task itself is done once, and is lost if a time limit ends at the same moment.
            self._scope.cancel()
            await asyncio.wait([self._task])
        self._attempted.set()

    async def _run(self, script: _Script, key: str, arguments: tuple[int, ...]) -> object:
        try:
            return await self._call(await self._ready(), script, key, arguments)
        except self._exceptions.BusyLoadingError:
            raise
        except self._exceptions.ConnectionError:
            # The server closed the connection, perhaps to restart. If it had counted the request already, it counts
            # twice: never too little.
            return await self._call(await self._ready(), script, key, arguments)

    async def _call(self, connection: BaseConnection, script: _Script, key: str, arguments: tuple[int, ...]) -> object:
        # The connection is shared, so a caller that is cancelled leaves it open; the answer is dropped when it comes.
        try:
            return await connection.create_request(b"EVALSHA", script.digest, 1, key, *arguments)
        except self._exceptions.NoScriptError:
            return await connection.create_request(b"EVAL", script.source, 1, key, *arguments)

    async def _ready(self) -> BaseConnection:
        """Return the connection. Waits for an attempt to connect that is under way."""
        self.start()
        while not self._is_closed:
            connection = self._connection
            if connection is not None:
                if connection.usable:
                    return connection
                self._lose(connection)
            if self._is_down:
                break
            await self._attempted.wait()
        raise self._unavailable()

    async def _keep(self) -> None:
        """Keep a connection open until the scope is cancelled."""
        pause = _FIRST_PAUSE
        assert self._scope is not None
        with self._scope:
            while True:
                try:
                    await self._connect()
                    pause = _FIRST_PAUSE
                except Exception as error:  # also errors of the system and groups of errors: it is tried again
                    self._is_down = True
                    self._attempted.set()
                    self._report_lost(error)
                    await anyio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    async def _connect(self) -> None:
        """Open a connection, and return when it is lost. Raises if it cannot be opened."""
        connection = self._new_connection()
        try:
            await self._hold(connection)
        finally:
            self._lose(connection)
            # coredis closes these only if the server accepted the connection.
            for value in vars(connection).values():
                if isinstance(value, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    value.close()

    def _new_connection(self) -> BaseConnection:
        from coredis.connection import TCPConnection, TCPLocation, UnixDomainSocketConnection, UnixDomainSocketLocation

        location, options = self._pool.location, self._pool.connection_kwargs
        if isinstance(location, UnixDomainSocketLocation):
            return UnixDomainSocketConnection(location, **options)
        assert isinstance(location, TCPLocation)
        return TCPConnection(location, **options)

    async def _hold(self, connection: BaseConnection) -> None:
        async with anyio.create_task_group() as tasks:
            with _time_limit(2 * self._timeout):
                await tasks.start(connection.run)
                # A server that is still reading its data accepts connections, and answers this with an error. A user
                # who may only run scripts gets an error too, which does not matter.
                with contextlib.suppress(self._exceptions.AuthorizationError):
                    await connection.create_request(b"PING")
            self._connection = connection
            self._is_down = False
            self._attempted.set()
            self._report_back()

    def _lose(self, connection: BaseConnection) -> None:
        """Forget a connection. Calls wait for the next attempt, unless it is known that the server is down."""
        if self._connection is connection:
            self._connection = None
            if not self._is_down:
                self._attempted = anyio.Event()

    def _give_up(self, reason: str) -> None:
        self._is_down = True
        self._attempted.set()
        if self._connection is not None:
            self._connection.invalidate(reason)
        self._report_lost(reason)

    def _unavailable(self) -> LimiterUnavailable:
        return LimiterUnavailable("the limits of the key cannot be checked now: Redis cannot be reached")

    def _report_lost(self, reason: Exception | str) -> None:
        if self._is_reported or self._is_closed:
            return
        self._is_reported = True
        effect = "each instance counts by itself" if self._counts_locally else "calls with limits are refused"
        _logger.error("Redis at %s is lost, so %s: %s", self._pool.location, effect, self._described(reason))

    def _report_back(self) -> None:
        if self._is_reported:
            self._is_reported = False
            _logger.warning("Redis at %s is back", self._pool.location)

    def _described(self, reason: Exception | str) -> str:
        """Return a reason in one line. A server that is too old for a command answers with all its arguments."""
        cause: BaseException | None = reason if isinstance(reason, Exception) else None
        text = str(reason)
        while cause is not None:
            if isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
                continue
            text = str(cause) or type(cause).__name__
            cause = cause.__cause__
        text = " ".join(text.split())
        for password in self._passwords:
            text = text.replace(password, "***")
        return text[:300]


def _problem_of(url: str) -> str | None:
    """Return what is wrong with the URL of a server, without the URL."""
    wrong = "is not the URL of a Redis server: use redis://host:port/db, rediss://… or unix:///path"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return wrong
    if port == 0 or parts.scheme not in _SCHEMES:
        return wrong
    is_socket = parts.scheme == "unix"
    if is_socket and (parts.hostname or not parts.path):
        return "has no path of a socket: use unix:///path"
    if not is_socket and not parts.hostname:
        return "has no host: use redis://host:port/db"
    database = parse_qs(parts.query).get("db", ["" if is_socket else parts.path.strip("/")])[0]
    if database and not database.isdecimal():
        return "has a database that is not a number"
    return None


def _passwords_of(url: str) -> list[str]:
    """Return the forms of a URL's password that may be in a message."""
    password = urlsplit(url).password or ""
    return [form for form in {password, unquote(password)} if form]


def _tls(query: dict[str, list[str]]) -> ssl.SSLContext:
    """Return the context of TLS that a URL asks for. Unlike the one of coredis, it checks the certificate's name."""
    unknown = {name for name in query if name.startswith("ssl_")} - {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
    if unknown:
        raise ConfigurationError(
            f"has parameters that are not supported: {', '.join(sorted(unknown))}", setting="redis"
        )
    ca_file, certificate, key = (query.get(name, [None])[0] for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"has a file for TLS that cannot be read: {error}", setting="redis") from None
    return context
