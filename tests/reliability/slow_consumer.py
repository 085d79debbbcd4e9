"""Read a long stream slowly: memory stays near idle, and the server has to wait.

The consumer reads events until it is ahead of its rate, then sleeps. Memory is the growth of this process's resident
memory since just before the stream, after a short warm-up stream of the same kind. The highest value counts. It
includes the text, which a stream keeps for `partial` and `response`. The server runs in another process and reports how
many bytes it sent and how long it waited to send them. Back-pressure works if it is never far ahead of the reader.

Only Chat Completions is measured: back-pressure is below the wire format, and in formats with shorter chunks the text
would be most of the memory.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
import attrs
from load import Upstream, asking, each_backend
from loadserver import TOKEN, WRITE, flood_chunk
from measuring import BACKENDS, MEBIBYTE, Result, command, mebibytes, resident
from trunkline import TextDelta

BOUND = 20 * MEBIBYTE
LOOK = 0.25
"""Seconds between two measurements of memory and of the server."""

LEAD = 16 * MEBIBYTE
"""How far the server may be ahead of the reader, in bytes: the capacity of the kernel's buffers of both sockets."""


@attrs.frozen
class Options:
    size: int
    """Bytes of the stream."""
    rate: int
    """Bytes a second."""
    backends: tuple[str, ...] = BACKENDS


SIZES = {
    "smoke": Options(2_000_000, 4_000_000),
    "ci": Options(50_000_000, 5_000_000, ("asyncio",)),
    "full": Options(1_000_000_000, 1_000_000),
}


class Reader:
    """Reads at a given rate, and measures memory and the server now and then."""

    def __init__(self, options: Options, upstream: Upstream) -> None:
        self.options = options
        self.upstream = upstream
        self.idle = 0
        self.highest = 0
        self.lead = 0
        self.letters = 0
        self.read = 0

    def look(self) -> None:
        self.highest = max(self.highest, resident())
        self.lead = max(self.lead, self.upstream.facts()["sent"] - self.read)

    async def run(self) -> dict[str, Any]:
        options = self.options
        async with self.upstream.opened(total_timeout=None) as service:
            async with service.stream(asking(f"flood,{WRITE}")) as warm:
                async for _ in warm:
                    self.idle = 0
            self.idle = self.highest = resident()
            before = self.upstream.facts()
            self.read = before["sent"]
            begun = looked = time.monotonic()
            size = len(flood_chunk())
            start = self.read
            async with service.stream(asking(f"flood,{options.size}")) as stream:
                async for event in stream:
                    if not isinstance(event, TextDelta):
                        continue
                    self.letters += len(event.text)
                    self.read += size
                    now = time.monotonic()
                    ahead = (self.read - start) / options.rate - (now - begun)
                    if ahead > 0.02:
                        if now - looked > LOOK:
                            self.look()
                            looked = now
                        await anyio.sleep(ahead)
                self.look()
                text = stream.response.text
            right = text == TOKEN * (len(text) // len(TOKEN)) and len(text) == self.letters
            after = self.upstream.facts()
            took = time.monotonic() - begun
        growth = self.highest - self.idle
        return {
            "kept": right and growth <= BOUND and self.lead <= LEAD,
            "bytes": self.read - start,
            "seconds": round(took, 1),
            "idle memory, MiB": mebibytes(self.idle),
            "highest growth, MiB": mebibytes(growth),
            "text in that growth, MiB": mebibytes(self.letters),
            "largest lead of the server, MiB": mebibytes(self.lead),
            "time the server waited to send, seconds": round(after["waited"] - before["waited"], 1),
            "longest such wait, seconds": round(after["longest_wait"], 2),
            "text correct": right,
        }


async def one(options: Options, upstream: Upstream) -> dict[str, Any]:
    return await Reader(options, upstream).run()


def measure(options: Options) -> Result:
    figures = each_backend(one, options, options.backends, at_once=2)
    findings = "; ".join(
        f"{backend}: memory +{found['highest growth, MiB']} MiB ({found['text in that growth, MiB']} MiB is text), "
        f"the server was at most {found['largest lead of the server, MiB']} MiB ahead "
        f"and waited {found['time the server waited to send, seconds']} of {found['seconds']} s"
        for backend, found in figures.items()
    )
    summary = f"{options.size / 1e6:g} MB at {options.rate / 1e6:g} MB/s; {findings}"
    return Result(all(found["kept"] for found in figures.values()), summary, figures)


if __name__ == "__main__":
    command("slow_consumer", SIZES, measure)
