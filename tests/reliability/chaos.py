"""Make calls from many workers while the server fails at random and sends bytes that nobody asked for.

Four promises, on each backend and with the application's own client. Each answer is the one to its request. Every
exception is a `TrunklineError`, or the worker's own cancellation. Every call ends within its time limits. After the
service is closed, no socket and no task is left, and memory is level over the rounds, which run in one process.

`chaosserver.py` says what the server does. One worker in ten is careful: it has a service with one connection and no
retries, gets no faults, and lets the server send unsolicited bytes while its connection idles. Each of its calls must
succeed. The answers that no HTTP/1.1 client could tell apart are counted as `unsure`.
"""

from __future__ import annotations

import logging
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx2
import sniffio
from chaosserver import MARK, REPEATS
from load import Upstream, each_backend, server_process
from measuring import Holdings, Result, command, http_library, mebibytes, sockets, tasks
from trunkline import Service, TextDelta, TrunklineError
from wires import WIRES

BACKENDS = (
    "asyncio, httpx2",
    *(("asyncio, aiohttp",) if find_spec("aiohttp") else ()),
    *(("uvloop, httpx2",) if find_spec("uvloop") else ()),
    *(("uvloop, aiohttp",) if find_spec("uvloop") and find_spec("aiohttp") else ()),
    "trio, httpx2",
    "asyncio, own client",
)

TOTAL_TIMEOUT = 20.0
HANG = TOTAL_TIMEOUT + 10
"""Seconds after which a call counts as hung; the machine may be busy."""


@attrs.frozen
class Options:
    workers: int = 500
    seconds: float = 60.0
    rounds: int = 3
    growth: float | None = 0.05
    """How much memory may grow from the first round to the last, as a fraction of it. `None`: not measured."""
    backends: tuple[str, ...] = BACKENDS


SIZES = {
    "smoke": Options(workers=40, seconds=1.0, rounds=1, growth=None, backends=BACKENDS[:1]),
    "ci": Options(workers=100, seconds=3.0, rounds=1, growth=None),
    "full": Options(),
}


class Outcomes:
    """What happened to the calls of a round."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}
        """By the id of a request: the other answer that it got."""
        self.raw: Counter[str] = Counter()
        self.lost: dict[str, str] = {}
        """By the id of a careful call, which must succeed: its error."""
        self.longest = 0.0

    def check(self, request_id: str, found: object, expected: object) -> None:
        if found != expected:
            self.wrong[request_id] = repr(found)[:200]

    def failed(self, request_id: str, error: TrunklineError) -> None:
        """Count an error. It is wrong if an unsolicited answer caused it, or if it has text of another answer."""
        partial = getattr(error, "partial", None)
        text = partial.text if partial is not None else ""
        if MARK in f"{error} {error!r} {vars(error)}" or not (request_id * REPEATS).startswith(text):
            self.wrong[request_id] = f"{error!r} {text}"[:200]
        if request_id.startswith("careful"):
            self.lost[request_id] = repr(error)[:200]


# The calls


async def chat(service: Service, request_id: str, outcomes: Outcomes) -> None:
    outcomes.check(request_id, (await service.chat(request_id)).text, request_id * REPEATS)


async def embed(service: Service, request_id: str, outcomes: Outcomes) -> None:
    [vector] = (await service.embed([request_id])).embeddings
    outcomes.check(request_id, list(vector), [float(part) for part in request_id.split("-")[1:]])


async def read(service: Service, request_id: str, outcomes: Outcomes) -> None:
    async with service.stream(request_id) as stream:
        async for _ in stream:
            pass
    outcomes.check(request_id, stream.response.text, request_id * REPEATS)


async def leave(service: Service, request_id: str, outcomes: Outcomes) -> None:
    async with service.stream(request_id) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break
    text = stream.partial.text
    outcomes.check(request_id, text, (request_id * REPEATS)[: len(text)])


async def cancel(service: Service, request_id: str, outcomes: Outcomes) -> None:
    with anyio.move_on_after(random.random() * 0.12):
        await read(service, request_id, outcomes)


SHARED, CAREFUL = (chat, chat, read, read, leave, cancel, embed), (chat, read, embed)
"""What the two kinds of workers do; more frequent calls stand here more often."""


async def call(service: Service, request_id: str, ways: tuple[Any, ...], outcomes: Outcomes) -> None:
    """Make one call and note its outcome."""
    way = random.choice(ways)
    begun = anyio.current_time()
    try:
        await way(service, request_id, outcomes)
        outcomes.calls[way.__name__] += 1
    except TrunklineError as error:
        outcomes.calls[type(error).__name__] += 1
        outcomes.failed(request_id, error)
    except Exception as error:
        outcomes.raw[f"{way.__name__}: {type(error).__module__}.{type(error).__name__}: {error}"[:200]] += 1
    outcomes.longest = max(outcomes.longest, anyio.current_time() - begun)


# The workers


@asynccontextmanager
async def opened(url: str, **settings: object) -> AsyncIterator[Service]:
    """A service with separate connections, over the HTTP library of this backend or a client of the application."""
    limits = {"connect_timeout": 10, "total_timeout": TOTAL_TIMEOUT, **settings}
    if http_library.get() != "own client":
        async with WIRES["openai-compatible"].open(url, **limits) as service:
            yield service
        return
    async with (
        httpx2.AsyncClient(timeout=TOTAL_TIMEOUT) as client,
        WIRES["openai-compatible"].open(url, http_library="httpx2", http_client=client, **limits) as service,
    ):
        yield service


async def careful_worker(url: str, number: int, until: float, outcomes: Outcomes) -> None:
    """Make calls one after another, and let the server use the idle connection between two of them."""
    port = int(url.rpartition(":")[2])
    async with (
        opened(url, max_retries=0, first_chunk_timeout=TOTAL_TIMEOUT) as service,
        await anyio.connect_tcp("127.0.0.1", port) as control,
    ):
        calls = 0
        while anyio.current_time() < until:
            request_id = f"careful-{number}-{calls}"
            calls += 1
            await call(service, request_id, CAREFUL, outcomes)
            await control.send(f"GET /idle/{request_id} HTTP/1.1\r\nhost: server\r\n\r\n".encode())
            answer = b""
            while not answer.endswith((b"yes", b"no")):
                answer += await control.receive()


async def round_of_calls(options: Options, upstream: Upstream, name: int, outcomes: Outcomes) -> bool:
    """Let all workers make calls; whether all of them ended."""
    careful = options.workers // 10

    async def worker(number: int, until: float) -> None:
        calls = 0
        while anyio.current_time() < until:
            await call(service, f"shared-{number}-{name}{calls:07}", SHARED, outcomes)
            calls += 1

    with anyio.move_on_after(options.seconds + HANG) as limit:
        async with (
            opened(upstream.url, max_retries=2, first_chunk_timeout=2, chunk_timeout=1) as service,
            anyio.create_task_group() as group,
        ):
            await service.authenticate()  # opens the service, which imports the plugin
            until = anyio.current_time() + options.seconds
            for number in range(options.workers - careful):
                group.start_soon(worker, number, until)
            for number in range(careful):
                group.start_soon(careful_worker, upstream.url, number + name * 1_000_000, until, outcomes)
    return not limit.cancelled_caught


def note_errors_of_the_loop(outcomes: Outcomes) -> None:
    """Count what asyncio would log, such as an exception that nobody retrieved."""
    if sniffio.current_async_library() == "asyncio":
        import asyncio

        def note(loop: object, context: dict[str, Any]) -> None:
            outcomes.raw[f"event loop: {context.get('message')} {context.get('exception')!r}"[:200]] += 1

        asyncio.get_running_loop().set_exception_handler(note)


async def left_open(idle: Holdings, upstream: Upstream) -> tuple[int, int, int]:
    """The sockets, tasks and connections at the server that are still there some seconds after closing."""
    left = (0, 0, 0)
    with anyio.move_on_after(15):
        while True:
            left = (sockets() - idle.sockets, tasks() - idle.tasks, upstream.facts()["connections"])
            if left == (0, 0, 0):
                break
            await anyio.sleep(0.1)
    return left


async def one(options: Options, upstream: Upstream) -> dict[str, Any]:
    outcomes = Outcomes()
    note_errors_of_the_loop(outcomes)
    hung, memory, left = False, list[float](), list[tuple[int, int, int]]()
    for name in range(1, options.rounds + 1):
        idle = await Holdings.now()
        hung |= not await round_of_calls(options, upstream, name, outcomes)
        left.append(await left_open(idle, upstream))
        memory.append(mebibytes((await Holdings.now()).memory))
    facts = upstream.facts()
    unsure = set(facts["unsure"])
    wrong = {request_id: answer for request_id, answer in outcomes.wrong.items() if request_id not in unsure}
    growth = memory[-1] / memory[0] - 1
    faults = {name: count for name, count in facts["counts"].items() if name not in ("requests", "whole answers")}
    return {
        "kept": not (wrong or outcomes.raw or outcomes.lost or hung)
        and outcomes.longest < HANG
        and set(left) == {(0, 0, 0)}
        and (options.growth is None or growth <= options.growth),
        "calls": outcomes.calls.total() + outcomes.raw.total(),
        "requests": facts["counts"]["requests"],
        "faults": sum(count for name, count in faults.items() if "," not in name),
        "unsolicited bytes sent": sum(count for name, count in faults.items() if "," in name),
        "answers of another call": len(wrong),
        "answers that no client can tell apart": len(outcomes.wrong) - len(wrong),
        "raw exceptions": outcomes.raw.total(),
        "careful calls lost": len(outcomes.lost),
        "hung": hung,
        "longest call, seconds": round(outcomes.longest, 1),
        "left: sockets, tasks, connections at the server": left[-1],
        "memory after each round, MiB": memory,
        "growth of memory, as a fraction": round(growth, 4),
        "details": {
            "outcomes": outcomes.calls,
            "sent": faults,
            "wrong": dict(list(wrong.items())[:10]),
            "raw": outcomes.raw,
            "lost": dict(list(outcomes.lost.items())[:10]),
        },
    }


@contextmanager
def chaos_server(provider: str) -> Iterator[Upstream]:
    """Run `chaosserver.py` while the block runs."""
    with server_process(sys.executable, str(Path(__file__).with_name("chaosserver.py"))) as url:
        yield Upstream(provider, url)


def measure(options: Options) -> Result:
    logging.disable(logging.CRITICAL)
    figures = each_backend(one, options, options.backends, at_once=1, server=chaos_server)
    broken = [backend for backend, found in figures.items() if not found["kept"]]
    calls, requests, bytes_sent = (
        sum(found[name] for found in figures.values()) for name in ("calls", "requests", "unsolicited bytes sent")
    )
    facts = ("answers of another call", "raw exceptions", "careful calls lost")
    summary = f"{calls} calls, {requests} requests, {bytes_sent} of them answered with unsolicited bytes; " + ", ".join(
        f"{sum(found[name] for found in figures.values())} {name}" for name in facts
    )
    return Result(not broken, summary + (f"; broken on {'; '.join(broken)}" if broken else ""), figures)


if __name__ == "__main__":
    command("chaos", SIZES, measure)
