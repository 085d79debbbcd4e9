"""Measure the time from a cancel to the closed connection: every provider, every state of a call, every backend.

Trials run one after another. Client and server share one event loop and one clock. The time runs from just before the
cancel (or the `break`, or the `raise`) until the server sees the end of the connection, so it includes the work of both
sides. In two states the server cannot see a connection. While connecting (to a listener with a full queue, which never
answers), the time runs until the kernel has closed the socket. In backoff it runs until the call has ended, and no
request may follow.

On a busy machine a trial waits for the processor. The kernel reports this wait, and each time is reported with and
without it. The size `full` compares the worst trial without the wait with the bound, and `ci` compares the medians.
`smoke` only checks that each trial ends.

A model inside the process has no socket. Its time runs until its thread has stopped computing.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import attrs
import trunkline
from measuring import BACKENDS, Result, black_hole, command, milliseconds, on, sockets, waited
from trunkline import Call, Observer, Service, TextDelta, hookimpl
from trunkline.testing import Exchange, LoopbackServer, serve
from wires import WIRES, Wire

BOUND = 0.1
"""The promise, in seconds."""

LONG = 10.0
"""Ends a trial that hangs, in seconds."""


@attrs.frozen
class Options:
    trials: int
    providers: tuple[str, ...] = tuple(WIRES)
    embedded_trials: int = 0
    """Trials of the model inside the process. It is measured only together with all wire formats."""
    held: str = "worst_without_wait_ms"
    """The figure that must stay within the bound."""


SIZES = {
    "smoke": Options(2, ("openai", "bedrock"), held="trials"),
    "ci": Options(10, embedded_trials=2, held="median_ms"),
    "full": Options(1000, embedded_trials=100),
}


class Leave(Exception):
    """Raised by the consumer of a stream."""


class Trial:
    """One trial: when the server is ready for the cancel, when the cancel comes, when the connection is gone."""

    def __init__(self) -> None:
        self.ready = anyio.Event()
        self.gone = anyio.Event()
        self.begun = 0.0
        self.seconds = 0.0
        self.waited = 0.0

    def begin(self) -> None:
        self.waited = waited()
        self.begun = time.perf_counter()

    def end(self) -> None:
        self.seconds = time.perf_counter() - self.begun
        self.waited = waited() - self.waited
        self.gone.set()

    @property
    def times(self) -> tuple[float, float]:
        """Seconds, with and without the wait for other programs."""
        return self.seconds, max(self.seconds - self.waited, 0)


Times = list[tuple[float, float]]


def figures_of(times: Times) -> dict[str, float]:
    """The figures of some trials."""
    alone = milliseconds([without for _, without in times])
    return {**milliseconds([seconds for seconds, _ in times]), "worst_without_wait_ms": alone["worst_ms"]}


class Bench:
    """A server that brings a call into a state, and the current trial."""

    def __init__(self, wire: Wire, state: str) -> None:
        self.wire = wire
        self.state = state
        self.trial = Trial()

    async def handle(self, exchange: Exchange) -> None:
        trial, wire = self.trial, self.wire
        if self.state == "backoff":
            return await exchange.respond(b"{}", status=503, headers={"retry-after": "30"})
        if self.state == "before headers":
            trial.ready.set()
        else:
            await exchange.start(headers=wire.headers)
            await exchange.chunk(wire.begin() + wire.text("a") + wire.text("b"))
        await exchange.hung_up()
        trial.end()
        return None

    @hookimpl
    def trunkline_observer(self, context: object) -> Observer:
        bench = self

        class Watch(Observer):
            def retried(self, call: Call, error: Exception, delay: float) -> None:
                bench.trial.ready.set()

        return Watch()


async def cancelled(service: Service, trial: Trial) -> None:
    """Cancel the scope of a streaming task as soon as it is in the state."""
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def read() -> None:
            with scope:
                async with service.stream("hi") as stream:
                    async for event in stream:
                        if isinstance(event, TextDelta) and event.text == "b":
                            trial.ready.set()

        group.start_soon(read)
        await trial.ready.wait()
        # Let the reader reach its wait for the next event.
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        trial.begin()
        scope.cancel()


async def left(service: Service, trial: Trial) -> None:
    """Leave the loop and the block early."""
    async with service.stream("hi") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                trial.begin()
                break


async def failed(service: Service, trial: Trial) -> None:
    """Raise in the consumer."""
    try:
        async with service.stream("hi") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    trial.begin()
                    raise Leave
    except Leave:
        pass


STATES: dict[str, Callable[[Service, Trial], Awaitable[None]]] = {
    "connecting": cancelled,
    "before headers": cancelled,
    "mid-stream": cancelled,
    "in backoff": cancelled,
    "early break": left,
    "exception in the consumer": failed,
}


async def with_server(wire: Wire, state: str, trials: int) -> Times:
    """Run the states in which the server takes part."""
    bench = Bench(wire, "backoff" if state == "in backoff" else state)
    seconds = []
    async with serve(bench.handle) as server, wire.open(server.url, extensions=(bench,)) as service:
        for _ in range(trials):
            trial = bench.trial = Trial()
            with anyio.fail_after(LONG):
                await STATES[state](service, trial)
                if state == "in backoff":
                    trial.end()
                await trial.gone.wait()
            seconds.append(trial.times)
            await idle(server, state)
            server.requests.clear() if state != "in backoff" else None
        if state == "in backoff" and len(server.requests) != trials:
            raise AssertionError(f"{len(server.requests)} requests in {trials} calls that were cancelled in backoff")
    return seconds


async def idle(server: LoopbackServer, state: str) -> None:
    # In backoff the connection of the answer is kept for the next try, as it should be.
    if state != "in backoff":
        with anyio.fail_after(LONG):
            await server.wait_idle()


async def while_connecting(wire: Wire, trials: int) -> Times:
    seconds = []
    with black_hole() as port:
        async with wire.open(f"http://127.0.0.1:{port}") as service:
            before = sockets()
            for _ in range(trials):
                trial = Trial()

                async def watch(trial: Trial = trial) -> None:
                    while sockets() == before:
                        await anyio.lowlevel.checkpoint()
                    trial.ready.set()

                with anyio.fail_after(LONG):
                    async with anyio.create_task_group() as group:
                        group.start_soon(watch)
                        await cancelled(service, trial)
                    while sockets() > before:
                        await anyio.lowlevel.checkpoint()
                    trial.end()
                seconds.append(trial.times)
    return seconds


async def http(name: str, state: str, trials: int) -> Times:
    wire = WIRES[name]
    return await (while_connecting(wire, trials) if state == "connecting" else with_server(wire, state, trials))


# The model inside the process


async def embedded(state: str, trials: int) -> Times:
    """Cancel a model while it computes. Its call ends when its thread has ended."""
    seconds = []
    request = trunkline.ChatRequest(messages="Count from one to a thousand. " * 20, temperature=0)
    async with trunkline.open_service("llamacpp", context_length=1024, output_token_limit=500) as service:
        await service.chat(trunkline.ChatRequest(messages="hi", max_output_tokens=1))
        for _ in range(trials):
            trial = Trial()
            with anyio.fail_after(LONG * 6):
                await STATES[state](_Asking(service, request), trial)  # type: ignore[arg-type]
            trial.end()
            seconds.append(trial.times)
    return seconds


@attrs.frozen
class _Asking:
    """A service that streams the same request each time."""

    service: Service
    request: trunkline.ChatRequest

    def stream(self, _: str) -> Any:
        return self.service.stream(self.request)


def measure(options: Options) -> Result:
    figures: dict[str, Any] = {}
    slowest, stalled, where, medians, kept = 0.0, 0.0, "", [], True
    for backend in BACKENDS:
        for name in options.providers:
            for state in STATES:
                times = figures_of(on(backend, http, name, state, options.trials))
                figures.setdefault(name, {}).setdefault(state, {})[backend] = times
                medians.append(times["median_ms"])
                kept = kept and times[options.held] <= BOUND * 1000
                stalled = max(stalled, times["worst_ms"])
                if times["worst_without_wait_ms"] > slowest:
                    slowest, where = times["worst_without_wait_ms"], f"{name}, {state}, {backend}"
    summary = (
        f"{options.trials} trials for each of {len(options.providers)} wire formats, {len(STATES)} states and "
        f"{len(BACKENDS)} backends; medians {min(medians)} to {max(medians)} ms; worst {slowest} ms ({where}), "
        f"{stalled} ms with the wait for other programs"
    )
    if options.embedded_trials and options.providers == tuple(WIRES):
        model = {
            state: {
                backend: figures_of(on(backend, embedded, state, options.embedded_trials))
                for backend in ("asyncio", "trio")
            }
            for state in ("early break", "exception in the consumer")
        }
        figures["llamacpp"] = model
        worst = max(times["worst_ms"] for state in model.values() for times in state.values())
        summary += f"; the embedded model stops within {worst} ms"
    return Result(kept, summary, figures)


if __name__ == "__main__":
    command("cancellation", SIZES, measure)
