"""A Chat Completions provider that fails at random, and sends bytes that nobody asked for. In its own process.

A request asks for a text by its last message, the id of the request. The answer repeats the id, so that an answer to
another request shows. `FAULTS` are what goes wrong with an answer. Behind whole answers come, sometimes, the bytes of
`UNSOLICITED`: the client must drop such a connection.

No HTTP/1.1 client can tell unsolicited bytes from an answer if they arrive after its next request was sent. So the
server sends them in three ways, of which two are certain to arrive before:

- in the same segment as the end of the answer
- in a segment right behind it. If the next request was already under way, or if the operating system stopped the
  server between the two segments, the id of that request is listed as `unsure`.
- while the connection idles, when its client lets the server send them: `GET /idle/ID` is answered as soon as they are
  sent on the connection that answered the request ID.

`GET /facts` returns the counts. Prints `ready URL`. Ends when its standard input ends.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import sys
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import attrs
from trunkline.testing import Exchange, serve
from wires import CHAT, SSE, USAGE

FAULT_RATE, UNSOLICITED_RATE, IDLE_RATE = 0.3, 0.15, 0.5
REPEATS = 5
MARK = "unsolicited"
"""In every text of an unsolicited answer, so that it shows wherever it appears."""

LONGEST_GAP = 0.0001
"""Seconds between two segments after which a client may have read the first one before the second one was sent."""

begin: Callable[[], bytes] = CHAT["begin"]
text: Callable[[str], bytes] = CHAT["text"]
end: Callable[[], bytes] = CHAT["end"]
chance = random.Random(7)
counts: Counter[str] = Counter()
unsure: list[str] = []
idle: dict[str, Exchange] = {}
"""The connections of careful clients by the id of the request that each answered last."""

unsure_connections: weakref.WeakSet[anyio.abc.SocketStream] = weakref.WeakSet()


@attrs.frozen
class Asked:
    """What a request asks for."""

    id: str
    stream: bool
    embedding: bool

    @classmethod
    def by(cls, exchange: Exchange) -> Asked:
        body = json.loads(exchange.request.body)
        if "input" in body:
            return cls(body["input"][0], stream=False, embedding=True)
        return cls(body["messages"][-1]["content"], stream=body.get("stream", False), embedding=False)


# Answers


def head(status: int, length: int, **headers: str) -> bytes:
    fields = {"content-type": "application/json", "content-length": str(length), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()


def answer(body: bytes, status: int = 200, **headers: str) -> bytes:
    return head(status, len(body), **headers) + body


def document(asked: Asked) -> bytes:
    if asked.embedding:
        vector = [float(part) for part in asked.id.split("-")[1:]]
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        return json.dumps({"object": "list", "model": "m", "data": data, "usage": USAGE}).encode()
    return completion(asked.id * REPEATS)


def completion(content: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    found = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    return json.dumps(found).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


ERROR = b'{"error":{"message":"no","type":"server_error","code":null,"param":null}}'
LAST = b"0\r\n\r\n"


def duplicate() -> bytes:
    return answer(completion(MARK))


def duplicate_stream() -> bytes:
    whole = begin() + text(MARK) + end()
    return (
        b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(whole) + LAST
    )


def request_timeout() -> bytes:
    return answer(json.dumps({"error": {"message": MARK}}).encode(), 408, connection="close")


def one_byte() -> bytes:
    return b"X"


def half_a_head() -> bytes:
    return b"HTTP/1.1 200 X\r\ncontent-le"


UNSOLICITED = (duplicate, duplicate_stream, request_timeout, one_byte, half_a_head)


def send_at_once(exchange: Exchange, data: bytes) -> None:
    """Hand bytes to the operating system in this moment. Raises `OSError` if the client has hung up."""
    os.write(descriptor(exchange), data)


def descriptor(exchange: Exchange) -> int:
    raw: socket.socket = exchange._stream.extra(anyio.abc.SocketAttribute.raw_socket)
    return raw.fileno()


def has_arrived(exchange: Exchange) -> bool:
    """Whether bytes of the client wait to be read."""
    poll = select.poll()
    poll.register(descriptor(exchange), select.POLLIN)
    return bool(poll.poll(0))


async def finish(exchange: Exchange, asked: Asked, rest: bytes, *, may_add: bool) -> None:
    """Send the end of an answer, and sometimes unsolicited bytes behind it."""
    counts["whole answers"] += 1
    if asked.id.startswith("careful"):
        idle[asked.id] = exchange
    elif may_add and chance.random() < UNSOLICITED_RATE:
        make = chance.choice(UNSOLICITED)
        if chance.random() < 0.5:
            counts[f"{make.__name__}, same segment"] += 1
            return await exchange.raw(rest + make())
        counts[f"{make.__name__}, next segment"] += 1
        extra = make()
        send_at_once(exchange, rest)
        sent = time.monotonic()
        send_at_once(exchange, extra)
        if time.monotonic() - sent > LONGEST_GAP or has_arrived(exchange):
            unsure_connections.add(exchange._stream)
        return None
    return await exchange.raw(rest)


# Faults: each takes the place of the answer, or changes it


async def reset_before(exchange: Exchange, asked: Asked) -> None:
    await exchange.reset()


async def close_before(exchange: Exchange, asked: Asked) -> None:
    exchange.keep_alive = False


async def garbage_head(exchange: Exchange, asked: Asked) -> None:
    exchange.keep_alive = False
    await exchange.raw(chance.randbytes(200))


async def refused(exchange: Exchange, asked: Asked) -> None:
    hint = {"retry_after_ms": "30"} if chance.random() < 0.5 else {}
    await exchange.raw(answer(ERROR, chance.choice((400, 429, 500, 503)), **hint))


async def refused_and_cut(exchange: Exchange, asked: Asked) -> None:
    exchange.keep_alive = False
    await exchange.raw(head(chance.choice((400, 401, 429, 503)), len(ERROR)) + ERROR[: chance.randrange(len(ERROR))])
    if chance.random() < 0.5:
        await exchange.reset()


async def refused_and_badly_compressed(exchange: Exchange, asked: Asked) -> None:
    await exchange.raw(answer(ERROR, 503, content_encoding="gzip"))


async def html(exchange: Exchange, asked: Asked) -> None:
    await exchange.raw(answer(b"<html>502 Bad gateway</html>", content_type="text/html"))


async def dripping_head(exchange: Exchange, asked: Asked) -> None:
    exchange.keep_alive = False
    await exchange.raw(b"HTTP/1.1 200 X\r\n")
    for number in range(40):
        await anyio.sleep(0.1)
        await exchange.raw(f"x-{number}: 1\r\n".encode())


async def dripping_interim(exchange: Exchange, asked: Asked) -> None:
    exchange.keep_alive = False
    for _ in range(40):
        await exchange.raw(b"HTTP/1.1 102 X\r\n\r\n")
        await anyio.sleep(0.1)


async def slow_head(exchange: Exchange, asked: Asked) -> None:
    await anyio.sleep(2.5)
    await whole(exchange, asked)


async def broken_off(exchange: Exchange, asked: Asked) -> None:
    """The answer is cut, by a close or a reset."""
    exchange.keep_alive = False
    if asked.stream:
        await started(exchange, asked, 2)
        await exchange.raw(chance.choice((b"", LAST, b'ff\r\ndata: {"id"')))
    else:
        await exchange.raw(answer(document(asked))[: -chance.randrange(1, 40)])
    if chance.random() < 0.5:
        await exchange.reset()


async def bad_json(exchange: Exchange, asked: Asked) -> None:
    if asked.stream:
        await started(exchange, asked, 2)
        await exchange.raw(chunk(b'data: {"id": \n\n') + LAST)
    else:
        await exchange.raw(answer(document(asked)[:-5]))


async def garbage_body(exchange: Exchange, asked: Asked) -> None:
    garbage = chance.randbytes(30).replace(b"\n", b"")
    if asked.stream:
        await started(exchange, asked, 2)
        await exchange.raw(chunk(b"data: " + garbage + b"\n\n") + LAST)
    else:
        await exchange.raw(answer(garbage))


async def error_event(exchange: Exchange, asked: Asked) -> None:
    if not asked.stream:
        return await whole(exchange, asked)
    await started(exchange, asked, 2)
    return await exchange.raw(chunk(b"data: " + ERROR + b"\n\n") + LAST)


async def stall(exchange: Exchange, asked: Asked) -> None:
    exchange.keep_alive = False
    if asked.stream:
        await started(exchange, asked, 2)
    await exchange.hung_up()


async def parked_after_the_end(exchange: Exchange, asked: Asked) -> None:
    if not asked.stream:
        return await whole(exchange, asked)
    await started(exchange, asked, REPEATS)
    await exchange.raw(chunk(end()))
    return await exchange.hung_up()


async def closed_after(exchange: Exchange, asked: Asked) -> None:
    await whole(exchange, asked)
    exchange.keep_alive = False


FAULTS: tuple[Callable[[Exchange, Asked], Awaitable[None]], ...] = (
    reset_before,
    close_before,
    garbage_head,
    refused,
    refused_and_cut,
    refused_and_badly_compressed,
    html,
    dripping_head,
    dripping_interim,
    slow_head,
    broken_off,
    bad_json,
    garbage_body,
    error_event,
    stall,
    parked_after_the_end,
    closed_after,
)


# Whole answers


async def started(exchange: Exchange, asked: Asked, repeats: int) -> None:
    await exchange.start(headers=SSE)
    await exchange.raw(chunk(begin()))
    for _ in range(repeats):
        await exchange.raw(chunk(text(asked.id)))
        await anyio.sleep(chance.random() * 0.01)


async def compressed(exchange: Exchange, asked: Asked) -> None:
    coder = zlib.compressobj(wbits=31)
    await exchange.start(headers={**SSE, "content-encoding": "gzip"})
    for data in (begin(), *(text(asked.id) for _ in range(REPEATS)), end()):
        await exchange.raw(chunk(coder.compress(data) + coder.flush(zlib.Z_SYNC_FLUSH)))
    await finish(exchange, asked, chunk(coder.flush()) + LAST, may_add=True)


async def whole(exchange: Exchange, asked: Asked) -> None:
    if not asked.stream:
        await finish(exchange, asked, answer(document(asked)), may_add=exchange.keep_alive)
    elif chance.random() < 0.2:
        await compressed(exchange, asked)
    else:
        await started(exchange, asked, REPEATS)
        await finish(exchange, asked, chunk(end()) + LAST, may_add=exchange.keep_alive)


# The server


async def send_while_idle(exchange: Exchange) -> None:
    """Sometimes send unsolicited bytes on an idle connection, and answer when they are sent."""
    sent = b"no"
    found = idle.pop(exchange.request.target.removeprefix("/idle/"), None)
    if found is not None and chance.random() < IDLE_RATE:
        make = chance.choice(UNSOLICITED)
        try:
            send_at_once(found, make())
            sent = b"yes"
            counts[f"{make.__name__}, while idle"] += 1
        except OSError:  # the client has closed the connection
            pass
    await exchange.raw(answer(sent))


async def handle(exchange: Exchange) -> None:
    # The requests are not kept.
    exchange._server.requests.clear()
    if exchange.request.target.startswith("/idle/"):
        return await send_while_idle(exchange)
    if exchange.request.target == "/facts":
        exchange.keep_alive = False
        facts: dict[str, Any] = {"counts": counts, "unsure": unsure, "connections": exchange._server.connections - 1}
        return await exchange.raw(answer(json.dumps(facts).encode(), connection="close"))
    asked = Asked.by(exchange)
    if exchange._stream in unsure_connections:
        unsure.append(asked.id)
        exchange.keep_alive = False
        return None
    counts["requests"] += 1
    if not asked.id.startswith("careful") and chance.random() < FAULT_RATE:
        fault = chance.choice(FAULTS)
        counts[fault.__name__] += 1
        return await fault(exchange, asked)
    await anyio.sleep(chance.random() * 0.05)
    return await whole(exchange, asked)


async def handle_or_end(exchange: Exchange) -> None:
    """A client may hang up at any time."""
    try:
        await handle(exchange)
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        exchange.keep_alive = False


async def main() -> None:
    async with serve(handle_or_end) as server:
        print("ready", server.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main)
