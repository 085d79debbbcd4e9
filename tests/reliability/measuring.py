"""Shared by the measurements: sizes, output, backends, and counts of the resources that a process holds.

Each command takes `--size`: `smoke` (the smallest, for the normal tests), `ci` or `full`. It prints one line, writes
its figures as JSON to the file that `--json` names, and exits with status 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
import anyio.lowlevel
import attrs

SIZES = ("smoke", "ci", "full")
BACKENDS = ("asyncio", *(("asyncio, aiohttp",) if find_spec("aiohttp") else ()), "trio")
"""httpx2 on both event loops, and aiohttp if it is installed."""

MEBIBYTE = 1024 * 1024

http_library: ContextVar[str] = ContextVar("http_library", default="httpx2")
"""The services' setting of that name, for what `on` runs."""

Options = TypeVar("Options")
T = TypeVar("T")


class Result(NamedTuple):
    """The result of a measurement: whether the promise is kept, a summary in one line, and the figures."""

    kept: bool
    summary: str
    figures: dict[str, Any]


def command(name: str, sizes: Mapping[str, Options], measure: Callable[[Options], Result]) -> None:
    """Run a measurement as a command. It has `--provider` if its options have `providers`."""
    parser = argparse.ArgumentParser(prog=f"tests/reliability/{name}.py")
    parser.add_argument("--size", choices=SIZES, default="ci")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    if any(hasattr(options, "providers") for options in sizes.values()):
        parser.add_argument("--provider", action="append", help="measure only this provider; may be repeated")
    arguments = parser.parse_args()
    options = sizes[arguments.size]
    if vars(arguments).get("provider"):
        options = attrs.evolve(options, providers=tuple(arguments.provider))  # type: ignore[type-var]
    begun = time.monotonic()
    result = measure(options)
    facts = {
        "measurement": name,
        "size": arguments.size,
        "kept": result.kept,
        "summary": result.summary,
        "seconds": round(time.monotonic() - begun, 1),
        "python": platform.python_version(),
        "figures": result.figures,
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: {'kept' if result.kept else 'NOT KEPT'}: {result.summary} ({facts['seconds']} s)")
    sys.exit(0 if result.kept else 1)


def on(backend: str, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run an async function on one of the `BACKENDS`, or on `uvloop`."""
    loop, _, library = backend.partition(", ")
    uvloop = {"use_uvloop": True} if loop == "uvloop" else {}
    token = http_library.set(library or "httpx2")
    try:
        return anyio.run(function, *arguments, backend="asyncio" if uvloop else loop, backend_options=uvloop)
    finally:
        http_library.reset(token)


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and worst of some times."""
    ordered = sorted(seconds)
    return {
        "trials": len(ordered),
        "median_ms": round(statistics.median(ordered) * 1000, 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000, 2),
        "worst_ms": round(ordered[-1] * 1000, 2),
    }


def waited() -> float:
    """The seconds that this thread was ready to run but had to wait for the processor."""
    return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


# Resources of this process, read from /proc (Linux only)


def resident() -> int:
    """The resident memory, in bytes."""
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def sockets() -> int:
    """The sockets that are open, by their file descriptors."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except OSError:  # the descriptor of the listing itself
            continue
    return count


def tasks() -> int:
    """The tasks of the running event loop, this one included."""
    try:
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    except RuntimeError:
        return len(anyio.get_running_tasks())


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that answers no SYN: the queue of its listener is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        fillers: list[socket.socket] = []
        try:
            while True:
                filler = socket.socket()
                filler.settimeout(0.2)
                try:
                    filler.connect(("127.0.0.1", port))
                except TimeoutError:
                    filler.close()
                    break
                fillers.append(filler)
            yield port
        finally:
            for filler in fillers:
                filler.close()


class Holdings(NamedTuple):
    """Memory in bytes, sockets and tasks at one moment."""

    memory: int
    sockets: int
    tasks: int

    @classmethod
    async def now(cls) -> Holdings:
        """After a garbage collection, and some turns of the event loop to end what was about to end."""
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        gc.collect()
        return cls(resident(), sockets(), tasks())


def mebibytes(size: float) -> float:
    return round(size / MEBIBYTE, 2)
