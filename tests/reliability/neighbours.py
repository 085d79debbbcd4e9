"""Cancel streams while others run: the others complete correctly, and every resource is released.

Many calls run at once over one service. Streams are cancelled in turn by a cancel scope in mid-stream, by one before
the headers, by a timeout of the application, by a `break` and by an exception. The server paces the streams that are
not cancelled so that they last as long as the whole load. Their text is compared with the text that the server wrote.

Memory is the resident memory of this process after a garbage collection; the server is another process. The plateau is
the memory after a quarter of the same load has run as a warm-up. Memory is then measured after each quarter, and the
last one counts. (The smallest size is too short to measure memory.) Sockets are this process's file descriptors.
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
    """How much memory may grow over the plateau, as a fraction of it."""
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
            raise AssertionError("the server sent headers, but it must not")


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
    """One load on a service, and its failures."""

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
                # Spread these streams over the whole load.
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
            self.wrong.append(f"{seed}: the text differs")
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
    # The server sees a closed connection a moment later.
    with anyio.move_on_after(5):
        while upstream.facts()["connections"]:  # noqa: ASYNC110  # the state is in another process
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
        "completed streams with the right text": load.right,
        "cancelled streams": load.cancelled,
        "wrong": load.wrong[:20],
        "idle memory, MiB": mebibytes(idle.memory),
        "memory at the plateau, MiB": mebibytes(plateau.memory),
        "memory after each quarter, MiB": memory,
        "growth over the plateau, as a fraction": round(growth, 4),
        "pooled connections before closing": pooled,
        "sockets left open": open_sockets,
        "tasks still running": left_tasks,
        "connections still open at the server": still_open,
    }


def measure(options: Options) -> Result:
    figures = each_backend(one, options, BACKENDS, at_once=1, providers=options.providers)
    findings = "; ".join(
        f"{backend}: {found['completed streams with the right text']} of {options.whole} others complete and correct, "
        f"{found['sockets left open']} sockets and {found['tasks still running']} tasks left, "
        f"memory {found['growth over the plateau, as a fraction']:+.1%}"
        for backend, found in figures.items()
    )
    kept = all(found["kept"] for found in figures.values())
    return Result(kept, f"{options.cancelled} streams cancelled; {findings}", figures)


if __name__ == "__main__":
    command("neighbours", SIZES, measure)
