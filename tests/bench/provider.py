"""The benchmark's provider: a separate process that serves on the loopback address and prints its port.

The first segment of a path says how to send a stream, as letters with numbers: `n` is the number of texts, `b` the
number of events in each write (and HTTP chunk), `g` the milliseconds between writes; `h1` never sends the end.
`GET /count` returns and resets the numbers of connections and requests.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from typing import Any

from payloads import WIRES

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEADERS = b"date: Sat, 01 Nov 2025 10:00:00 GMT\r\nx-request-id: req_bench0001\r\nserver: bench\r\n"
_ROUTES = (
    (b"/chat/completions", "chat"),
    (b"/messages", "anthropic"),
    (b"/converse", "bedrock"),
    (b"/converse-stream", "bedrock"),
)
_count = {"connections": 0, "requests": 0}


def _response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + _HEADERS + b"\r\n" + body


@functools.cache
def _whole(wire: str) -> bytes:
    return _response(WIRES[wire][0]())


@functools.cache
def _writes(wire: str, texts: int, batch: int) -> list[bytes]:
    """Yield the writes of a streamed response."""
    _, events_of, content_type = WIRES[wire]
    events = events_of(texts)
    chunks = [b"".join(events[at : at + batch]) for at in range(0, len(events), batch)]
    writes = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n" % content_type
    writes[0] = head + _HEADERS + b"\r\n" + writes[0]
    writes[-1] += b"0\r\n\r\n"
    return writes


class Connection(asyncio.Protocol):
    """One connection, which serves one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: Any = None
        self._received = b""
        self._writes: list[bytes] = []
        self._at = 0
        self._gap = 0.0
        self._paused = self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        _count["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writes:
            self._loop.call_soon(self._write)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        self._received = rest[size:]
        _count["requests"] += 1
        self._answer(head.split(b" ", 2)[1], rest[:size])

    def _answer(self, path: bytes, body: bytes) -> None:
        if path == b"/count":
            self.transport.write(_response(json.dumps(_count).encode()))
            _count.update(connections=0, requests=0)
            return
        wire = next((wire for suffix, wire in _ROUTES if path.endswith(suffix)), None)
        if wire is None:
            self.transport.write(_response(b'{"error":{"message":"no such route"}}', b"404 Not Found"))
            return
        if not path.endswith(b"/converse-stream") and b'"stream":true' not in body.replace(b" ", b""):
            self.transport.write(_whole(wire))
            return
        how = {letter: int(number) for letter, number in re.findall(r"([nbgh])(\d+)", path.decode().split("/")[1])}
        writes = _writes(wire, how.get("n", 8), how.get("b", 1))
        if how.get("h"):
            self.transport.write(b"".join(writes[:-1]))
            return
        self._writes, self._at, self._gap = writes, 0, how.get("g", 0) / 1000
        self._write()

    def _write(self) -> None:
        # One write in each turn of the event loop, so that each is a separate packet and streams take turns.
        if self._paused or self._lost or not self._writes:
            return
        self.transport.write(self._writes[self._at])
        self._at += 1
        if self._at == len(self._writes):
            self._writes = []
        elif self._gap:
            self._loop.call_later(self._gap, self._write)
        else:
            self._loop.call_soon(self._write)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(loop), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
