"""From a cancel to the closed connection: on both backends, for every provider, in every state of a call.

Trials run one after another. Client and server share one event loop and one clock; the time runs from just before the
cancel (or the `break`, or the `raise`) until the server has seen the end of the connection, so both sides' work is in
it. Two states have no connection that a server could see: while it connects (to a listener whose queue is full, so
that nothing answers) the time runs until the kernel has no such socket any more, and in backoff until the call has
ended; no request may follow.

A machine that runs other programs keeps a trial waiting for its turn. The kernel tells for how long, and each time is
told with that wait and without it. The bound is held against the worst of all trials in the full size, without the
wait, and against the medians in the next; the smallest shows only that each trial ends.

The model inside the process has no socket either: its time runs until its thread has stopped computing.
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
from trunkline import Observer, Service, TextDelta, hookimpl
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
    """Trials of the model inside the process, which is measured where all wires are."""
    held: str = "worst_without_wait_ms"
    """What the bound is held against."""


SIZES = {
    "smoke": Options(2, ("openai", "bedrock"), held="trials"),
    "ci": Options(10, embedded_trials=2, held="median_ms"),
    "full": Options(1000, embedded_trials=100),
}


class Leave(Exception):
    """What a consumer raises."""


class Trial:
    """One trial: when the server was ready to see a cancel, when it came, when the connection was gone."""

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
        """Seconds, and seconds without those in which other programs ran."""
        return self.seconds, max(self.seconds - self.waited, 0)


Times = list[tuple[float, float]]


def told(times: Times) -> dict[str, float]:
    """The figures of some trials."""
    alone = milliseconds([without for _, without in times])
    return {**milliseconds([seconds for seconds, _ in times]), "worst_without_wait_ms": alone["worst_ms"]}


class Bench:
    """A server that does what a state needs, and the trial that runs."""

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
            def retried(self, call: int, error: Exception, delay: float) -> None:
                bench.trial.ready.set()

        return Watch()


async def cancelled(service: Service, trial: Trial) -> None:
    """Cancel the scope of a task that streams, once it stands where the state wants it."""
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
        # The reader goes on to wait for what comes next.
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
    """The states in which there is a server to ask."""
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
    """Cancel a model that computes; a call of it ends when its thread has."""
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
    """A service whose streams are of one request."""

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
                times = told(on(backend, http, name, state, options.trials))
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
                backend: told(on(backend, embedded, state, options.embedded_trials)) for backend in ("asyncio", "trio")
            }
            for state in ("early break", "exception in the consumer")
        }
        figures["llamacpp"] = model
        worst = max(times["worst_ms"] for state in model.values() for times in state.values())
        summary += f"; the embedded model stops within {worst} ms"
    return Result(kept, summary, figures)


if __name__ == "__main__":
    command("cancellation", SIZES, measure)
