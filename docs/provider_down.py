"""Measure what a service with the default settings does when its provider is down.

`docs/generate.py` writes a table of `howto/errors.md` from this module. Every row is a real call over real sockets on
127.0.0.1. Only the clock is not real: whenever nothing happens, trio's `MockClock` jumps to the next deadline, so a
wait of minutes takes no time. The random part of the waits is set to its lowest and then to its highest value.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from unittest.mock import patch

import anyio
import anyio.abc
import attrs
import trio
import trio.testing
import trunkline
from trunkline._calls.retry import RetryPolicy
from trunkline._http import idle
from trunkline.testing import Exchange, serve
from trunkline.testing.server import JSON, black_hole, closed_port

IDLE = 0.02
"""The clock jumps when nothing has happened for so many real seconds. Loopback sockets need far less to react."""

Handler = Callable[[Exchange], Awaitable[None]]


# What the provider does


def refuses(status: int, **headers: str) -> Handler:
    """Answer each request with an error."""

    async def handler(exchange: Exchange) -> None:
        body = b'{"error":{"message":"no","type":"x","code":null}}'
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await exchange.respond(body, status=status, headers={**JSON, **named})

    return handler


async def stalls_in_a_refusal(exchange: Exchange) -> None:
    await exchange.start(status=429, headers=JSON)
    await exchange.chunk(b'{"error":{')
    await exchange.hung_up()


async def never_answers(exchange: Exchange) -> None:
    await exchange.hung_up()


async def sends_no_content(exchange: Exchange) -> None:
    await exchange.start()
    while True:
        await exchange.chunk(b": still working\n\n")
        await anyio.sleep(60)


async def stalls(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.chunk(_text("Because"))
    await exchange.hung_up()


async def cuts(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.chunk(_text("Because"))
    await exchange.hang_up()


async def stalls_in_a_body(exchange: Exchange) -> None:
    await exchange.start(headers=JSON)
    await exchange.chunk(b'{"choices":[')
    await exchange.hung_up()


async def cuts_a_body(exchange: Exchange) -> None:
    await exchange.start(headers=JSON)
    await exchange.chunk(b'{"choices":[')
    await exchange.hang_up()


async def without_tls(stream: anyio.abc.SocketStream) -> None:
    """Answer the start of a TLS connection as an HTTP server does."""
    async with stream:
        await stream.receive()
        await stream.send(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")


def _text(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


CASES: dict[str, Handler | str] = {
    "refuses the connection": "refused",
    "has a host name that cannot be resolved": "unknown",
    "does not answer the connection attempt": "black hole",
    "does not use TLS, but the URL begins with `https`": "no TLS",
    "accepts the connection, but sends no headers": never_answers,
    "sends only keep-alive comments in a stream": sends_no_content,
    "answers 500": refuses(500),
    "answers 503": refuses(503),
    "answers 429 without `Retry-After`": refuses(429),
    "answers 429, `Retry-After: 20`": refuses(429, retry_after="20"),
    "answers 429, `Retry-After: 120`, more than `retry_after_limit`": refuses(429, retry_after="120"),
    "answers 429, and the body stalls": stalls_in_a_refusal,
    "answers 400": refuses(400),
    "answers 401": refuses(401),
    "answers 404": refuses(404),
    "stops sending in the middle of a stream": stalls,
    "closes the connection in the middle of a stream": cuts,
    "stops sending in the middle of the body of `chat`": stalls_in_a_body,
    "closes the connection in the middle of the body of `chat`": cuts_a_body,
}


# One call


@attrs.frozen
class Outcome:
    """What a caller saw: times are in seconds."""

    attempts: int
    waits: tuple[float, ...]
    error: str
    partial: bool
    """Whether the error has the part of the answer that arrived."""
    seconds: float


class Waits(trunkline.Observer):
    """Keeps the waits before retries."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @trunkline.hookimpl
    def trunkline_observer(self, context: object) -> trunkline.Observer:
        """Implements the hook."""
        return self

    def retried(self, call: trunkline.Call, error: trunkline.TrunklineError, delay: float) -> None:
        """Keep the wait."""
        self.seconds.append(delay)


class UnknownHost(trio.abc.HostnameResolver):
    """Answers as a name server that does not know the host."""

    async def getaddrinfo(self, *arguments: object, **options: object) -> list[object]:  # type: ignore[override]
        """Fail."""
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *arguments: object) -> tuple[str, str]:
        """Fail."""
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@asynccontextmanager
async def provider(case: Handler | str, attempts: list[object]) -> AsyncIterator[str]:
    """Run the provider that a case describes; gives its URL. `attempts` gets the requests that it receives."""
    if case == "refused":
        yield f"http://127.0.0.1:{closed_port()}"
    elif case == "unknown":
        trio.socket.set_custom_hostname_resolver(UnknownHost())
        yield "http://api.example.com"
    elif case == "black hole":
        with black_hole() as url:
            yield url
    elif case == "no TLS":
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, without_tls)
            yield f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
            tasks.cancel_scope.cancel()
    else:
        handler = case
        assert callable(handler)

        async def handle(exchange: Exchange) -> None:
            attempts.append(exchange.request)
            await handler(exchange)

        async with serve(handle) as server:
            yield server.url


async def call(case: Handler | str) -> Outcome:
    """Make one call of a service with the default settings."""
    waits, requests = Waits(), list[object]()
    async with provider(case, requests) as url:
        service = trunkline.open_service(
            "openai-compatible", api_url=url, api_key="k", default_model="m", extensions=[waits]
        )
        async with service:
            await service.authenticate()
            begun = anyio.current_time()
            try:
                if case in (stalls_in_a_body, cuts_a_body):
                    await service.chat("Why is the sky blue?")
                async with service.stream("Why is the sky blue?") as stream:
                    async for _ in stream:
                        pass
            except trunkline.RemoteError as error:
                seconds = anyio.current_time() - begun
                partial = error.partial is not None and bool(error.partial.text)
                attempts = 1 + len(waits.seconds)
                assert not callable(case) or len(requests) == attempts
                return Outcome(attempts, tuple(waits.seconds), type(error).__name__, partial, seconds)
    raise AssertionError("the call did not fail")


@contextmanager
def jitter(pick: Callable[[float, float], float]) -> Iterator[None]:
    """Choose the random part of the waits."""
    delay = RetryPolicy.delay
    with patch.object(RetryPolicy, "delay", lambda *arguments: delay(*arguments, uniform=pick)):
        yield


def measure(case: Handler | str) -> tuple[Outcome, Outcome]:
    """Return the outcome with the shortest waits and with the longest."""
    outcomes = []
    # No connection is idle here, and the clock would stop at each second to look.
    without_looks = patch.object(idle, "CHECK_SECONDS", 3600.0)
    logger = logging.getLogger("trunkline")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the waits are in the table
    try:
        for pick in (min, max):
            clock = trio.testing.MockClock(autojump_threshold=IDLE)
            with jitter(pick), without_looks:
                outcomes.append(anyio.run(call, case, backend="trio", backend_options={"clock": clock}))
    finally:
        logger.setLevel(level)
    return outcomes[0], outcomes[1]


# The table


def table() -> str:
    """Return the table in Markdown."""
    lines = [
        "",
        "| the provider … | attempts | waits between them | the caller gets | after |",
        "|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        low, high = measure(case)
        assert (low.attempts, low.error) == (high.attempts, high.error)
        waits = [spread(*pair) for pair in zip(low.waits, high.waits, strict=True)]
        error = f"`{low.error}`" + (" with `partial`" if low.partial else "")
        after = spread(low.seconds, high.seconds)
        lines.append(f"| {name} | {low.attempts} | {', then '.join(waits) or '–'} | {error} | {after} |")
    return "\n".join(lines) + "\n\n"


def spread(low: float, high: float) -> str:
    """Return a range of seconds in words."""
    shown = sorted({f"{round(seconds, 1 if seconds > 1 else 2):g}" for seconds in (low, high)}, key=float)
    return "at once" if shown == ["0"] else f"{' to '.join(shown)} s"
