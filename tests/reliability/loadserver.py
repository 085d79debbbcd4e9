"""A provider for measurements of load, in its own process, so that only the client's memory is measured.

`loadserver.py PROVIDER` responds in that provider's wire format. The message of the request selects the response:
`answer: ` followed by `whole,CHUNKS,SEED,PAUSE` for a complete stream, `parked` for a stream that stops after its
beginning, `silent` for no response, or `flood,BYTES` for a Chat Completions stream of that size. `GET /facts` returns
the number of open connections, the bytes of floods sent, and the time spent waiting to send them.

Prints `ready URL`. Ends when its standard input ends.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from typing import Any

import anyio
from trunkline.testing import Exchange, LoopbackServer, serve
from wires import WIRES, Wire

_ASKED = re.compile(rb'answer: ([^"]*)')

TOKEN = "word"
WRITE = 32 * 1024
"""How many bytes of a flood are written at once."""


def texts(chunks: int, seed: str) -> list[str]:
    """What a whole stream says."""
    source = random.Random(seed)
    return ["".join(source.choices("abcdefgh ijkl mnöpq€", k=source.randint(1, 12))) for _ in range(chunks)]


def flood_chunk() -> bytes:
    """A chunk as OpenAI writes them, with all its fields; each carries four letters of text."""
    choice = {"index": 0, "delta": {"content": TOKEN}, "logprobs": None, "finish_reason": None}
    chunk = {
        "id": "chatcmpl-" + "0" * 29,
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": "a-model-of-2026-11-01",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": [choice],
        "usage": None,
        "obfuscation": "0123456789abcd",
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


class Provider:
    """Answers, and counts what it sends of floods."""

    server: LoopbackServer

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sent = 0
        self.waited = 0.0
        self.longest_wait = 0.0

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        self.server.requests.clear()
        if request.target == "/facts":
            exchange.keep_alive = False
            return await exchange.respond(json.dumps(self.facts()).encode(), headers={"connection": "close"})
        asked = _ASKED.search(request.body)
        assert asked is not None
        kind, *arguments = asked[1].decode().split(",")
        await getattr(self, kind)(exchange, *arguments)
        return None

    def facts(self) -> dict[str, Any]:
        return {
            "connections": self.server.connections - 1,
            "accepted": self.server.accepted,
            "sent": self.sent,
            "waited": self.waited,
            "longest_wait": self.longest_wait,
        }

    async def whole(self, exchange: Exchange, chunks: str, seed: str, pause: str) -> None:
        await exchange.start(headers=self.wire.headers)
        await exchange.chunk(self.wire.begin())
        for text in texts(int(chunks), seed):
            await exchange.chunk(self.wire.text(text))
            if float(pause):
                await anyio.sleep(float(pause))
        await exchange.chunk(self.wire.end())
        await exchange.end()

    async def parked(self, exchange: Exchange) -> None:
        await exchange.start(headers=self.wire.headers)
        await exchange.chunk(self.wire.begin() + self.wire.text("a") * 3)
        await exchange.hung_up()

    async def silent(self, exchange: Exchange) -> None:
        await exchange.hung_up()

    async def flood(self, exchange: Exchange, size: str) -> None:
        chunk = flood_chunk()
        burst = chunk * (WRITE // len(chunk))
        await exchange.start(headers=self.wire.headers)
        await exchange.chunk(self.wire.begin())
        sent = 0
        while sent < int(size):
            begun = time.monotonic()
            await exchange.chunk(burst)
            waited = time.monotonic() - begun
            sent += len(burst)
            self.sent += len(burst)
            self.waited += waited
            self.longest_wait = max(self.longest_wait, waited)
        await exchange.chunk(self.wire.end())
        await exchange.end()


async def main() -> None:
    provider = Provider(WIRES[sys.argv[1]])
    async with serve(provider.handle) as server:
        provider.server = server
        print("ready", server.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main)
