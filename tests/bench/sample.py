"""Take one sample, that is one measure of one client, in this fresh process. Prints a JSON object.

    python sample.py CLIENT MEASURE ORIGIN '{"texts": 5000}'

Times are CPU times of this process, user and system, in microseconds. Repeated work is measured in equal batches, and
the result is their lower quartile, because other programs on the machine can only make a batch slower.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path[:0] = [str(Path(__file__).parent)]


def cpu() -> float:
    """Return the CPU time used so far, in microseconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


def memory(key: str) -> float:
    """Return `VmRSS`, or `VmHWM`, which is its peak, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return float(line.split()[1])
    return float("nan")


def lower_quartile(marks: list[float], per: int) -> float:
    """Return the CPU time of one repetition, from the CPU times at the bounds of batches of `per` repetitions."""
    import statistics  # not on the cold path of any client

    costs = [(after - before) / per for before, after in pairwise(marks)]
    return statistics.quantiles(costs, n=4)[0] if len(costs) > 1 else costs[0]


async def connected(client: ModuleType, origin: str, path: str) -> Any:
    """Return the client's state for a provider that responds as `path` says."""
    state = client.connect(f"{origin}/{path}")
    return await state if hasattr(state, "__await__") else state


async def read(client: ModuleType, state: Any, texts: int) -> float:
    """Read one stream and check it. Return the wall time of its first text."""
    import payloads

    first = 0.0
    size = tokens = 0
    async for piece in client.stream(state):
        if type(piece) is not str:
            tokens = piece
            continue
        if not size:
            first = time.perf_counter()
        size += len(piece)
    if size != texts * payloads.SIZE or tokens != texts:
        raise ValueError(f"{size} characters and {tokens} tokens, and {texts} texts were sent")
    return first


async def cold(client: ModuleType, origin: str) -> dict[str, float]:
    """Everything that a process does until its first response."""
    state = await connected(client, origin, "n1")
    await client.call(state)
    return {"cpu": time.process_time() * 1e6, "peak_kib": memory("VmHWM"), "modules": float(len(sys.modules))}


async def call(client: ModuleType, origin: str, calls: int = 1500, batch: int = 50) -> dict[str, float]:
    """One call without streaming, on a warm connection."""
    import payloads

    state = await connected(client, origin, "n1")
    for _ in range(batch):
        if await client.call(state) != (payloads.ANSWER, payloads.ANSWER_TOKENS):
            raise ValueError("another answer was sent")
    marks = [cpu()]
    for number in range(1, calls + 1):
        await client.call(state)
        if number % batch == 0:
            marks.append(cpu())
    return {"cpu": lower_quartile(marks, batch), "cpu_mean": (marks[-1] - marks[0]) / calls}


async def first(client: ModuleType, origin: str, streams: int = 300, batch: int = 15) -> dict[str, float]:
    """A stream of two texts: the wall time until the first, and the CPU time of the stream."""
    import statistics

    state = await connected(client, origin, "n2")
    for _ in range(batch):
        await read(client, state, 2)
    marks, walls = [cpu()], []
    for number in range(1, streams + 1):
        started = time.perf_counter()
        walls.append((await read(client, state, 2) - started) * 1e6)
        if number % batch == 0:
            marks.append(cpu())
    quarter = statistics.quantiles(walls, n=4)[0]
    return {"cpu": lower_quartile(marks, batch), "wall": quarter, "wall_median": statistics.median(walls)}


async def chunk(
    client: ModuleType, origin: str, how: str = "", texts: int = 3000, streams: int = 7
) -> dict[str, float]:
    """One chunk of a long stream: the time of the stream divided by the number of its chunks."""
    import statistics

    warm = await connected(client, origin, "n200")
    for _ in range(3):
        await read(client, warm, 200)
    state = await connected(client, origin, f"n{texts}{how}")
    costs = []
    for _ in range(streams):
        before = cpu()
        await read(client, state, texts)
        costs.append((cpu() - before) / texts)
    return {"cpu": statistics.quantiles(costs, n=4)[0], "cpu_median": statistics.median(costs)}


async def own(client: ModuleType, origin: str, texts: int = 3000, streams: int = 15) -> dict[str, float]:
    """The cost of a chunk without the transport: its bytes are in memory, with one chunk in each read."""
    import statistics

    import instructions
    import payloads
    from clients import _raw

    name, wire = client.__name__.rpartition(".")[2].split("_")[:2]
    _, events_of, content_type = payloads.WIRES[wire]
    events = events_of(texts)

    async def by_hand() -> None:
        async for _ in getattr(_raw, wire)(instructions.MemoryResponse({}, events)):
            pass

    costs = []
    async with instructions.service(wire, {"content-type": content_type.decode()}, events) as opened:
        for _ in range(streams):
            before = cpu()
            await (by_hand() if name == "httpx2" else instructions.read_all(opened, texts))
            costs.append((cpu() - before) / texts)
    return {"cpu": statistics.quantiles(costs, n=4)[0], "cpu_median": statistics.median(costs)}


async def together(client: ModuleType, origin: str, streams: int = 200, texts: int = 200) -> dict[str, Any]:
    """Many concurrent streams, on a client that has made one request before."""
    state = await connected(client, origin, f"n{texts}")
    await read(client, state, texts)
    gc.collect()
    failures: Counter[str] = Counter()
    firsts: list[float] = []

    async def one() -> None:
        try:
            firsts.append(await read(client, state, texts) - started)
        except Exception as error:
            failures[type(error).__name__] += 1

    before, started = cpu(), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(streams)))
    wall, spent = time.perf_counter() - started, cpu() - before
    return {
        "cpu": spent / streams / texts,
        "wall": wall * 1e6,
        "peak_kib": memory("VmHWM"),
        "failed": float(sum(failures.values())),
        "failures": dict(failures),
        "last_first": max(firsts, default=0.0) * 1e6,
    }


async def idle(client: ModuleType, origin: str, low: int = 50, high: int = 450) -> dict[str, float]:
    """The memory of an open stream that waits for its next chunk."""
    state = await connected(client, origin, "n1h1")
    tasks: list[asyncio.Task[None]] = []
    arrived = 0
    came = asyncio.Event()

    async def one() -> None:
        nonlocal arrived
        waiting = True  # some clients give the tokens as they come, others at the end, which is held back
        async for _ in client.stream(state):
            arrived += waiting
            waiting = False
            came.set()

    async def hold(count: int) -> float:
        while len(tasks) < count:
            tasks.append(asyncio.create_task(one()))
            while arrived < len(tasks):
                came.clear()
                await asyncio.wait_for(came.wait(), 30)
        gc.collect()
        return memory("VmRSS")

    below, above = await hold(low), await hold(high)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"kib": (above - below) / (high - low)}


MEASURES = {measure.__name__: measure for measure in (cold, call, first, chunk, own, together, idle)}


def main(name: str, measure: str, origin: str, arguments: str = "{}") -> None:
    client = importlib.import_module(f"clients.{name}")
    run: Any = MEASURES[measure]
    print(json.dumps(asyncio.run(run(client, origin, **json.loads(arguments)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # some clients leave threads that make the exit slow
