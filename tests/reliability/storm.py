"""Measure what happens to many calls of one service while the provider refuses them.

Three promises. While the provider answers 429 with a truthful `Retry-After`, no call fails, and there are at most 2.2
requests per call. While it answers 503 and names no time, there are at most as many requests as calls, plus the 100
tokens of the retry budget, and each call has its error within 2 s plus the duration of its requests. An outage of one
second makes none of 40 calls fail.

Two cases in which the rule of the retry budget loses calls are measured without a promise: a `Retry-After` that is too
short, and a provider that accepts fewer calls per second than there are. Each is also measured with `trunkline.limit`,
which lets calls wait before they are sent.
"""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import attrs
from measuring import BACKENDS, Result, command, on, waited
from trunkline import Service, TrunklineError, hookimpl, limit
from trunkline.authoring.provider import ByteStream, SendOptions, Transport
from trunkline.authoring.wire import WireRequest
from trunkline.testing import Exchange, serve
from wires import WIRES, Wire

MAX_REQUESTS_PER_CALL = 2.2
RETRY_BUDGET = 100
LONGEST_WAIT = 2.0
"""The longest time until an error, in seconds, beside the time of the call's own requests."""

SHORT_RETRY_AFTER = 1
RATE, BURST = 50, 100
"""The limited provider accepts `BURST` calls at once, and then `RATE` calls a second."""

Refusal = Callable[[], Mapping[str, str] | None]
"""Returns the headers with which a request is refused now, or `None` to answer it."""


@attrs.frozen(kw_only=True)
class Options:
    providers: tuple[str, ...] = ("openai-compatible",)
    callers: int = 500
    seconds: float = 30.0
    """How long the provider answers 429."""
    short_seconds: float = 10.0
    """How long it answers 429 with a `Retry-After` that is too short."""
    backends: tuple[str, ...] = BACKENDS


SIZES = {
    "smoke": Options(callers=120, seconds=0.5, short_seconds=0.0, backends=BACKENDS[:1]),
    "ci": Options(callers=150, seconds=2.0, short_seconds=4.0),
    "full": Options(),
}


# The provider


def until(ends: float, headers: Callable[[float], Mapping[str, str]]) -> Refusal:
    """Refuse requests until the event loop's clock shows `ends`; `headers` gets the seconds that are left."""

    def refused() -> Mapping[str, str] | None:
        left = ends - anyio.current_time()
        return headers(left) if left > 0 else None

    return refused


def above_the_rate() -> Refusal:
    """Refuse the requests of a client that sends more than `RATE` a second."""
    tokens, since = float(BURST), anyio.current_time()

    def refused() -> Mapping[str, str] | None:
        nonlocal tokens, since
        now = anyio.current_time()
        tokens, since = min(BURST, tokens + (now - since) * RATE), now
        if tokens < 1:
            return {"retry-after": "1"}
        tokens -= 1
        return None

    return refused


# The callers


caller: ContextVar[int] = ContextVar("caller")


def clock() -> float:
    """The time in seconds, without the time in which this thread waited while other programs ran."""
    return anyio.current_time() - waited()


@attrs.define
class RequestTimes:
    """An extension that measures how long the requests of each caller take, in seconds."""

    seconds: Counter[int] = attrs.field(factory=Counter)  # type: ignore[type-arg]

    @hookimpl(wrapper=True)
    def trunkline_transport(self, context: object) -> Any:
        """Implements the hook."""
        transport = yield
        return TimedTransport(transport, self.seconds)


@attrs.frozen
class TimedTransport:
    transport: Transport
    seconds: Counter[int]

    async def __aenter__(self) -> None:
        await self.transport.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.transport.__aexit__(*exc_info)

    @asynccontextmanager
    async def send(self, wire_request: WireRequest, options: SendOptions) -> AsyncIterator[ByteStream]:
        """Send a request, and add its time to that of its caller."""
        begun = clock()
        try:
            async with self.transport.send(wire_request, options) as byte_stream:
                yield byte_stream
        finally:
            self.seconds[caller.get()] += clock() - begun  # type: ignore[assignment]


def unlimited(service: Service) -> Service:
    return service


def ten_at_a_time(service: Service) -> Service:
    return limit(service, concurrency=10)


async def measured(
    wire: Wire,
    status: int,
    make_refusal: Callable[[], Refusal],
    callers: int,
    wrap: Callable[[Service], Service] = unlimited,
) -> dict[str, Any]:
    """Make many calls at once, and return what happened to them. Times are in seconds."""
    refused = make_refusal()
    requests, times, errors, waits = 0, list[float](), list[float](), list[float]()
    messages, request_times = Counter[str](), RequestTimes()
    begun = 0.0

    async def handle(exchange: Exchange) -> None:
        nonlocal requests
        requests += 1
        headers = refused()
        if headers is None:
            await exchange.start(headers=wire.headers)
            await exchange.chunk(b"".join(wire.stream(["hi"])))
            return await exchange.end()
        body = b'{"error":{"message":"not now"}}'
        return await exchange.respond(body, status=status, headers={"content-type": "application/json", **headers})

    async def call(number: int) -> None:
        caller.set(number)
        started, by_clock = anyio.current_time(), clock()
        try:
            async with limited.stream("hi") as stream:
                async for _ in stream:
                    pass
            times.append(anyio.current_time() - begun)
        except TrunklineError as error:
            errors.append(anyio.current_time() - started)
            waits.append(clock() - by_clock - request_times.seconds[number])
            messages[str(error)] += 1

    async with serve(handle) as server, wire.open(server.url, extensions=[request_times]) as service:
        await service.authenticate()  # opens the service, which imports the plugin
        begun, refused, limited = anyio.current_time(), make_refusal(), wrap(service)
        async with anyio.create_task_group() as tasks:
            for number in range(callers):
                tasks.start_soon(call, number)
    return {
        "calls": callers,
        "succeeded": len(times),
        "requests": requests,
        "requests per call": round(requests / callers, 2),
        "last success": round(max(times), 1) if times else None,
        "median error": round(statistics.median(errors), 1) if errors else None,
        "last error": round(max(errors), 1) if errors else None,
        "longest wait before an error": round(max(waits), 2) if waits else None,
        "errors": dict(messages.most_common(2)),
    }


# The cases


def truthful(left: float) -> Mapping[str, str]:
    return {"retry-after-ms": f"{left * 1000 + 1:.0f}"}


def too_short(left: float) -> Mapping[str, str]:
    return {"retry-after": str(SHORT_RETRY_AFTER)}


def nothing(left: float) -> Mapping[str, str]:
    return {}


def refusing(seconds: float, headers: Callable[[float], Mapping[str, str]]) -> Callable[[], Refusal]:
    """Refuse requests for some seconds, which begin with the calls."""
    return lambda: until(anyio.current_time() + seconds, headers)


Case = tuple[str, Callable[[Wire], Awaitable[dict[str, Any]]], Callable[[dict[str, Any]], bool]]


def cases(options: Options) -> list[Case]:
    """Each case: its name, how it is measured, and whether the promise was kept."""
    callers, seconds, short = options.callers, options.seconds, options.short_seconds
    found: list[Case] = [
        (
            f"429 for {seconds:g} s, truthful Retry-After",
            lambda wire: measured(wire, 429, refusing(seconds, truthful), callers),
            lambda found: found["succeeded"] == callers and found["requests"] <= MAX_REQUESTS_PER_CALL * callers,
        ),
        (
            "503 without end",
            lambda wire: measured(wire, 503, refusing(1e9, nothing), callers),
            lambda found: (
                found["requests"] <= callers + RETRY_BUDGET + found["succeeded"]
                and found["longest wait before an error"] <= LONGEST_WAIT
            ),
        ),
        (
            "503 for 1 s",
            lambda wire: measured(wire, 503, refusing(1, nothing), 40),
            lambda found: found["succeeded"] == found["calls"],
        ),
    ]
    if not short:
        return found
    return [
        *found,
        (
            f"429 for {short:g} s, Retry-After of {SHORT_RETRY_AFTER} s",
            lambda wire: measured(wire, 429, refusing(short, too_short), callers),
            lambda found: True,
        ),
        (
            f"429 for {short:g} s, Retry-After of {SHORT_RETRY_AFTER} s, limit(concurrency=10)",
            lambda wire: measured(wire, 429, refusing(short, too_short), callers, ten_at_a_time),
            lambda found: True,
        ),
        (
            f"429 above {RATE} calls a second",
            lambda wire: measured(wire, 429, above_the_rate, callers),
            lambda found: True,
        ),
        (
            f"429 above {RATE} calls a second, limit(concurrency=10)",
            lambda wire: measured(wire, 429, above_the_rate, callers, ten_at_a_time),
            lambda found: True,
        ),
    ]


def measure(options: Options) -> Result:
    figures: dict[str, Any] = {}
    broken = []
    for provider in options.providers:
        wire = WIRES[provider]
        for backend in options.backends:
            rows = figures.setdefault(provider, {}).setdefault(backend, {})
            for name, run, kept in cases(options):
                rows[name] = on(backend, run, wire)
                if not kept(rows[name]):
                    broken.append(f"{provider} on {backend}: {name}: {rows[name]}")
    first = next(iter(next(iter(figures.values())).values()))
    summary = "; ".join(
        f"{name}: {row['succeeded']} of {row['calls']} calls, {row['requests']} requests" for name, row in first.items()
    )
    return Result(not broken, "; ".join(broken) or summary, figures)


if __name__ == "__main__":
    logging.getLogger("trunkline").setLevel(logging.ERROR)  # not a warning for each wait
    command("storm", SIZES, measure)
