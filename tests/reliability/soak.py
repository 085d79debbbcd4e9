"""Send many requests and read very many chunks through one service: no growth in memory, sockets or tasks.

Memory, sockets and tasks are measured after each tenth of the load, when its calls have ended and the service is still
open. The plateau is the second measurement. Memory may end at most a twentieth above it, so a steady rise fails.
"""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import trunkline
from load import DEFAULT, Upstream, asking, each_backend
from loadserver import texts
from measuring import BACKENDS, Holdings, Result, command, mebibytes

TENTHS = 10
LANES = 16


@attrs.frozen
class Options:
    requests: int
    chunks: int
    growth: float = 0.05
    """How much memory may grow over the plateau, as a fraction of it."""
    providers: tuple[str, ...] = (DEFAULT,)


SIZES = {"smoke": Options(100, 20, growth=1), "ci": Options(600, 100), "full": Options(10_000, 100)}


async def tenth(service: trunkline.Service, options: Options) -> int:
    """Send a tenth of the requests; return the number of chunks received."""
    numbers = iter(range(options.requests // TENTHS))
    expected = texts(options.chunks, "soak")
    wanted = asking(f"whole,{options.chunks},soak,0")
    came = 0

    async def lane() -> None:
        nonlocal came
        for _ in numbers:
            async with service.stream(wanted) as stream:
                async for _ in stream:
                    pass
            if stream.response.text != "".join(expected):
                raise AssertionError("the text differs from what the server sent")
            came += options.chunks

    async with anyio.create_task_group() as group:
        for _ in range(LANES):
            group.start_soon(lane)
    return came


async def one(options: Options, upstream: Upstream) -> dict[str, Any]:
    idle = await Holdings.now()
    taken: list[Holdings] = []
    chunks = 0
    async with upstream.opened() as service:
        for _ in range(TENTHS):
            chunks += await tenth(service, options)
            taken.append(await Holdings.now())
        pooled = upstream.facts()["connections"]
    end = await Holdings.now()
    plateau, last = taken[1], taken[-1]
    growth = last.memory / plateau.memory - 1
    level = {(found.sockets, found.tasks) for found in taken[1:]}
    left = (end.sockets - idle.sockets, end.tasks - idle.tasks)
    return {
        "kept": growth <= options.growth
        and max(level)[0] <= idle.sockets + LANES
        and len({t for _, t in level}) == 1
        # Closing the service leaves nothing open.
        and left == (0, 0),
        "chunks": chunks,
        "memory after each tenth, MiB": [mebibytes(found.memory) for found in taken],
        "growth over the plateau, as a fraction": round(growth, 4),
        "sockets after each tenth": [found.sockets for found in taken],
        "tasks after each tenth": [found.tasks for found in taken],
        "pooled connections": pooled,
        "sockets and tasks left": left,
    }


def measure(options: Options) -> Result:
    figures = each_backend(one, options, BACKENDS, at_once=1, providers=options.providers)
    findings = "; ".join(
        f"{backend}: memory {found['memory after each tenth, MiB'][1]} MiB at the plateau, then "
        f"{found['growth over the plateau, as a fraction']:+.1%}, "
        f"{found['sockets and tasks left']} sockets and tasks left"
        for backend, found in figures.items()
    )
    summary = f"{options.requests} requests, {options.requests * options.chunks} chunks; {findings}"
    return Result(all(found["kept"] for found in figures.values()), summary, figures)


if __name__ == "__main__":
    command("soak", SIZES, measure)
