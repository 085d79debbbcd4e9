"""Cancelled streams among whole ones: the whole ones are right, and all that was held is let go.

Lanes of calls run at once over one service. The calls to be cancelled are ended in turn by a cancel scope in
mid-stream, by one before the headers, by a timeout of the application's, by a `break`, and by an exception. The whole
ones are paced by the server so that they last as long as the others, and are compared with what the server wrote.

Memory is the process's resident memory after a garbage collection; the server is another process. The plateau is
taken when a quarter more of the same mix has run and ended before; then memory is looked at after each quarter, and
the last counts. (The smallest load is no measure of memory.) Sockets are this process's file descriptors.
"""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import trunkline
from load import DEFAULT, Upstream, asking, each_backend
from loadserver import texts
from measuring import BACKENDS, Holdings, Result, command, mebibytes
from trunkline import TextDelta


@attrs.frozen
class Options:
    cancelled: int
    whole: int
    growth: float = 0.05
    """How far memory may end over the plateau, as a part of it."""
    lanes: int = 40
    whole_lanes: int = 32
    chunks: int = 60
    pause: float = 0.01
    """Seconds between two chunks of a whole stream."""
    providers: tuple[str, ...] = (DEFAULT,)


SIZES = {
    "smoke": Options(cancelled=200, whole=32, growth=1, pause=0.002),
    "ci": Options(cancelled=1000, whole=64, pause=0.02),
    "full": Options(cancelled=20_000, whole=640, pause=0.05),
}


QUARTERS = 4


class Leave(Exception):
    """What a consumer raises."""


async def in_mid_stream(service: trunkline.Service) -> None:
    with anyio.CancelScope() as scope:
        async with service.stream(asking("parked")) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    scope.cancel()


async def before_headers(service: trunkline.Service) -> None:
    async with anyio.create_task_group() as group:

        async def cancel() -> None:
            await anyio.sleep(0.005)
            group.cancel_scope.cancel()

        group.start_soon(cancel)
        async with service.stream(asking("silent")):
            raise AssertionError("the server was to say nothing")


async def by_timeout(service: trunkline.Service) -> None:
    with anyio.move_on_after(0.01):
        async with service.stream(asking("parked")) as stream:
            async for _ in stream:
                pass


async def by_break(service: trunkline.Service) -> None:
    async with service.stream(asking("parked")) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break


async def by_exception(service: trunkline.Service) -> None:
    try:
        async with service.stream(asking("parked")) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    raise Leave
    except Leave:
        pass


WAYS = (in_mid_stream, before_headers, by_timeout, by_break, by_exception)


class Load:
    """One load on a service, and what went wrong in it."""

    def __init__(self, options: Options, service: trunkline.Service) -> None:
        self.options = options
        self.service = service
        self.wrong: list[str] = []
        self.right = 0
        self.cancelled = 0

    async def run(self, cancelled: int, whole: int, name: str) -> None:
        before = self.cancelled
        cancelling = iter(range(cancelled))
        reading = iter(range(whole))

        async def cancel_lane() -> None:
            for number in cancelling:
                try:
                    await WAYS[number % len(WAYS)](self.service)
                    self.cancelled += 1
                except trunkline.TrunklineError as error:
                    self.wrong.append(f"{WAYS[number % len(WAYS)].__name__}: {error}")

        async def whole_lane() -> None:
            for number in reading:
                # They are spread over the whole of the load.
                while self.cancelled - before < (number - self.options.whole_lanes) * cancelled // whole:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                await self._read(f"{name}-{number}")

        async with anyio.create_task_group() as group:
            for _ in range(self.options.whole_lanes):
                group.start_soon(whole_lane)
            for _ in range(self.options.lanes):
                group.start_soon(cancel_lane)

    async def _read(self, seed: str) -> None:
        options = self.options
        wanted = asking(f"whole,{options.chunks},{seed},{options.pause}")
        expected = texts(options.chunks, seed)
        try:
            async with self.service.stream(wanted) as stream:
                got = [event.text async for event in stream if isinstance(event, TextDelta) and event.text]
        except trunkline.TrunklineError as error:
            self.wrong.append(f"{seed}: {error}")
            return
        if got != expected or stream.response.text != "".join(expected):
            self.wrong.append(f"{seed}: another text")
        else:
            self.right += 1


async def one(options: Options, upstream: Upstream) -> dict[str, Any]:
    idle = await Holdings.now()
    async with upstream.opened() as service:
        warm = Load(options, service)
        await warm.run(options.cancelled // QUARTERS, options.whole // QUARTERS, "warm")
        plateau = await Holdings.now()
        load = Load(options, service)
        memory = []
        for quarter in range(1, QUARTERS + 1):
            await load.run(options.cancelled // QUARTERS, options.whole // QUARTERS, f"quarter-{quarter}")
            after = await Holdings.now()
            memory.append(mebibytes(after.memory))
        pooled = upstream.facts()["connections"]
    end = await Holdings.now()
    # What is closed here is closed there a moment later.
    with anyio.move_on_after(5):
        while upstream.facts()["connections"]:  # noqa: ASYNC110  # another process tells
            await anyio.sleep(0.01)
    growth = after.memory / plateau.memory - 1
    open_sockets, left_tasks = end.sockets - idle.sockets, end.tasks - idle.tasks
    still_open = upstream.facts()["connections"]
    kept = (
        (load.right, load.cancelled) == (options.whole, options.cancelled)
        and not load.wrong
        and (open_sockets, left_tasks, still_open) == (0, 0, 0)
        and growth <= options.growth
    )
    return {
        "kept": kept,
        "whole and right": load.right,
        "cancelled": load.cancelled,
        "wrong": load.wrong[:20],
        "memory idle, MiB": mebibytes(idle.memory),
        "memory plateau, MiB": mebibytes(plateau.memory),
        "memory after each quarter, MiB": memory,
        "growth over the plateau": round(growth, 4),
        "connections kept in the pool while open": pooled,
        "sockets left": open_sockets,
        "tasks left": left_tasks,
        "connections left at the server": still_open,
    }


def measure(options: Options) -> Result:
    figures = each_backend(one, options, BACKENDS, at_once=1, providers=options.providers)
    told = "; ".join(
        f"{backend}: {found['whole and right']} of {options.whole} whole ones right, "
        f"{found['sockets left']} sockets and {found['tasks left']} tasks left, "
        f"memory {found['growth over the plateau']:+.1%}"
        for backend, found in figures.items()
    )
    kept = all(found["kept"] for found in figures.values())
    return Result(kept, f"{options.cancelled} cancelled among {options.whole} whole ones; {told}", figures)


if __name__ == "__main__":
    command("neighbours", SIZES, measure)
