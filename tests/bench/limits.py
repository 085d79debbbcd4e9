"""Measure `trunkline.limit` against a server that counts: `python tests/bench/limits.py`.

Callers that never pause send as much as the limit lets through, to a server in a process of its own. All intervals of
60 seconds are counted, on the clock of the client (when a request is sent) and on that of the server (when it arrives):
both processes read the system's monotonic clock. The command takes about as many minutes as `--minutes` says, and fails
if a bound of `BOUNDS` does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import anyio
import trunkline
from trunkline._calls.admission import Admission, Ticket

PERIOD = 60.0
BOUNDS = {"client": 1.0, "server": 1.01, "rate": 0.95}
"""The most requests of an interval by the limit, for both clocks, and the least rate while there is work."""


async def serve(channel: Connection, most: int, latency: float) -> None:
    """Answer chats, with a usage of up to `most` tokens of output, and send the times and tokens when asked to."""
    seen: list[tuple[float, int]] = []
    uniform = random.Random(1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                arrived = time.monotonic()
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                await asyncio.sleep(latency)
                output = uniform.randint(1, most)
                seen.append((arrived, 10 + output))
                body = json.dumps(
                    {
                        "id": "1",
                        "model": "m",
                        "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
                        "usage": {"prompt_tokens": 10, "completion_tokens": output, "total_tokens": 10 + output},
                    }
                ).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
                    + body
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    channel.send(server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, channel.recv)
    channel.send(seen)


def run_server(channel: Connection, most: int, latency: float) -> None:
    """Run the server in its process."""
    asyncio.run(serve(channel, most, latency))


class Recording(Admission):
    """An admission that keeps the times at which requests are sent."""

    def begin_anew(self) -> object:
        self.times: list[float] = []
        return super().begin_anew()

    def _sent(self, ticket: Ticket) -> None:
        super()._sent(ticket)
        if ticket._request is not None and ticket._request.sent_at is not None:
            self.times.append(ticket._request.sent_at)


def most_within(seen: Sequence[tuple[float, int]]) -> int:
    """Return the largest sum of an interval of `PERIOD` seconds."""
    ordered = sorted(seen)
    most = total = first = 0
    for when, weight in ordered:
        total += weight
        while ordered[first][0] <= when - PERIOD:
            total -= ordered[first][1]
            first += 1
        most = max(most, total)
    return most


def rate(seen: Sequence[tuple[float, int]], limit: int) -> float:
    """Return the rate as a share of the limit, from the first request to the last one that begins a new window.

    What a window allows is sent at once when it begins. So the time between two such bursts tells the rate.
    """
    ordered = sorted(seen)
    start, total, last, found = ordered[0][0], 0, ordered[0][0], 0.0
    for when, weight in ordered:
        if when > last + PERIOD / 2:
            found = total / limit * PERIOD / (when - start)
        total += weight
        last = when
    return found


async def call_for(port: int, admission: Recording, seconds: float, callers: int, output: int) -> float:
    """Let callers send as much as they can, and return how long they did."""
    service = trunkline.open_service("openai-compatible", api_url=f"http://127.0.0.1:{port}/v1", default_model="m")
    main = trunkline.LimitedService(service, "main", admission)
    started = time.monotonic()

    async def send() -> None:
        while time.monotonic() < started + seconds:
            await main.chat("How are you today?", max_output_tokens=output)

    async with main:
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for _ in range(callers):
                    tasks.start_soon(send)
    return time.monotonic() - started


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the callers and the server, and count."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    # Three halves of what is reserved on average half of the time, so that some calls use more than their estimate.
    most = options.output * 3 // 2
    process = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(theirs, most, options.latency), daemon=True
    )
    process.start()
    port = ours.recv()
    admission = Recording("main", requests=options.requests, tokens=options.tokens)
    seconds = options.minutes * PERIOD
    arguments = (port, admission, seconds, options.callers, options.output)
    took = anyio.run(call_for, *arguments, backend=options.backend)
    overshoot = admission.status().overshoot
    ours.send(None)
    seen = ours.recv()
    process.terminate()
    requests = [(when, 1) for when, _ in seen]
    client = [(when, 1) for when in admission.times]
    found: dict[str, Any] = {"backend": options.backend, "seconds": round(took), "requests": len(seen)}
    if options.requests:
        found |= {
            "limit": options.requests,
            "client": most_within(client) / options.requests,
            "server": most_within(requests) / options.requests,
            "rate": rate(client, options.requests),
        }
    if options.tokens:
        used = sum(tokens for _, tokens in seen)
        found |= {
            "tokens limit": options.tokens,
            "tokens on the server": most_within(seen) / options.tokens,
            "tokens rate": rate(seen, options.tokens),
            "overshoot": overshoot / used,
        }
    return found


def main() -> int:
    """Print what was found. Returns 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--minutes", type=float, default=2.15)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until the server answers")
    parser.add_argument("--output", type=int, default=100, help="max_output_tokens of each request")
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio"))
    options = parser.parse_args()
    if not options.requests and not options.tokens:
        options.requests = 600
    found = measure(options)
    print(json.dumps(found, indent=1))
    if "client" not in found:
        return 0
    held = (
        found["client"] <= BOUNDS["client"] and found["server"] <= BOUNDS["server"] and found["rate"] >= BOUNDS["rate"]
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
