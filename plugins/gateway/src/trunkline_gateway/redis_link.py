"""A connection to a Redis or Valkey server that is kept open.

One connection serves all calls: requests are written to it at once, and answers come in order. A task keeps it open:

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
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from trunkline import ConfigurationError, Secret

from trunkline_gateway.limits import LimiterUnavailable

if TYPE_CHECKING:
    from coredis.connection import BaseConnection

_logger = logging.getLogger("trunkline_gateway")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""The seconds between two attempts to connect while the server is down."""

_PREFIX = "trunkline:limits:"

_WRITE = "return redis.call('DEL', KEYS[1])"
"""A script that fails if the others would."""

_NEVER = 100
_PARTS = 4
"""In how many parts a time limit passes. See `_time_limit`."""

_SCHEMES = ("redis", "rediss", "unix")


@attrs.frozen(kw_only=True)
class Script:
    """A script that runs in the server, which knows it by its digest."""

    source: str
    digest: str


def script_of(source: str) -> Script:
    """Return a script with its SHA-1, by which Redis names scripts; it protects nothing."""
    return Script(source=source, digest=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


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


class RedisLink:
    """A connection that is kept open, and the scripts that run over it. Raises `ConfigurationError` for a wrong URL."""

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
            raise ConfigurationError(f"the gateway's setting redis {problem}", setting="redis")
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
        """Start to connect, unless it has been started."""
        if self._task is None and not self._is_closed:
            # The first call may be part of a trace, to which this task does not belong.
            loop = asyncio.get_running_loop()
            self._scope = anyio.CancelScope()
            self._task = loop.create_task(self._keep(), name="redis limits", context=contextvars.Context())

    async def check(self) -> None:
        """Raise `LimiterUnavailable` if the server cannot be reached."""
        try:
            with _time_limit(self._timeout):
                await self._ready()
        except TimeoutError:
            raise self._unavailable() from None

    async def run(self, script: Script, key: str, *arguments: int) -> list[int]:
        """Run a script for a key. Raises `LimiterUnavailable`."""
        try:
            with _time_limit(self._timeout):
                reply = await self._run(script, f"{_PREFIX}{key}", arguments)
        except TimeoutError:
            # The server does not answer, or its answer is lost: no other call should wait for it.
            self._give_up(f"no answer within {self._timeout:g} s")
            raise self._unavailable() from None
        except self._exceptions.RedisError as error:
            if "READONLY" in str(error) or isinstance(error, self._exceptions.ReadOnlyError):
                # The server has become a replica. Its address may lead to the new primary by now.
                self._give_up(error)
            self._report_lost(error)
            raise self._unavailable() from None
        self._report_back()
        return reply if isinstance(reply, list) else []

    async def aclose(self) -> None:
        """Close the connection. Scripts that run then raise `LimiterUnavailable`."""
        self._is_closed = True
        if self._task is not None and self._scope is not None:
            # Cancelling the task itself is done once, and is lost if a time limit ends at the same moment.
            self._scope.cancel()
            await asyncio.wait([self._task])
        self._attempted.set()

    async def _run(self, script: Script, key: str, arguments: tuple[int, ...]) -> object:
        try:
            return await self._call(await self._ready(), script, key, arguments)
        except self._exceptions.BusyLoadingError:
            raise
        except self._exceptions.ConnectionError:
            # The server closed the connection, perhaps to restart. If it had counted the request already, it counts
            # twice: never too little.
            return await self._call(await self._ready(), script, key, arguments)

    async def _call(self, connection: BaseConnection, script: Script, key: str, arguments: tuple[int, ...]) -> object:
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
                # A server that is still reading its data, and a replica, accept connections, and answer this with an
                # error.
                await connection.create_request(b"EVAL", _WRITE, 1, f"{_PREFIX}-")
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

    def _give_up(self, reason: Exception | str) -> None:
        self._is_down = True
        self._attempted.set()
        if self._connection is not None:
            self._connection.invalidate(str(reason))
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
