"""Measure a fallback: 40 calls at once to a service that answers 503, each with a second service to turn to.

Every client has its default settings, and the fallback that its documentation shows: `fallback` for Trunkline, `try`
and `except` for the openai SDK, `FallbackModel` for pydantic-ai, `Router(fallbacks=…)` for litellm. The promise is that
each of Trunkline's calls is answered. Each client runs in its own process, one after another, against the same server.

The environments of the other clients are those of `peers.py`; without `TRUNKLINE_PEERS` only Trunkline is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
from measuring import Result, command
from peers import environments, versions
from trunkline.testing import Exchange, serve

CALLERS = 40
PEERS = ("openai", "pydantic-ai", "litellm")
LIMIT = 300.0
"""After how many seconds a client is killed."""

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}
HEADERS = {"content-type": "application/json"}


@attrs.frozen
class Options:
    callers: int = CALLERS
    peers: bool = True


SIZES = {"smoke": Options(callers=5, peers=False), "ci": Options(peers=False), "full": Options()}


async def handle(exchange: Exchange) -> None:
    """Answer 503 to requests for `/down`, and others with a response."""
    if exchange.request.target.startswith("/down"):
        await exchange.respond(b'{"error":{"message":"down"}}', status=503, headers=HEADERS)
    else:
        await exchange.respond(json.dumps(ANSWER).encode(), headers=HEADERS)


async def run(pythons: dict[str, str], callers: int) -> dict[str, dict[str, Any]]:
    script = str(Path(__file__).with_name("fallback_client.py"))
    rows: dict[str, dict[str, Any]] = {}
    async with serve(handle) as server:
        for name, python in pythons.items():
            before = len(server.requests)
            asked = [python, script, name, server.url, str(callers)]
            done = await anyio.to_thread.run_sync(
                partial(subprocess.run, asked, capture_output=True, text=True, timeout=LIMIT)
            )
            line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
            if line is None:
                raise RuntimeError(f"{name} did not end well: {done.stderr[-2000:]}")
            down = sum(request.target.startswith("/down") for request in server.requests[before:])
            rows[name] = {**json.loads(line.removeprefix("RESULT ")), "requests to the first service": down}
    return rows


def measure(options: Options) -> Result:
    pythons = {"trunkline": sys.executable, **(environments(PEERS) if options.peers else {})}
    rows = anyio.run(run, pythons, options.callers)
    summary = "; ".join(
        f"{name}: {row['answered']} of {options.callers} answered, median {row['median seconds']} s"
        for name, row in rows.items()
    )
    figures = {"callers": options.callers, "clients": rows, "versions": {n: versions(p) for n, p in pythons.items()}}
    return Result(rows["trunkline"]["answered"] == options.callers, summary, figures)


if __name__ == "__main__":
    command("fallback", SIZES, measure)
