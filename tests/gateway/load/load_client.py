"""The load client: a process that makes requests over raw sockets, and checks every answer.

It reads jobs, one JSON object a line, on standard input, and writes a JSON object with what it found for each. While a
job runs it only notes times and keeps bytes; the answers are parsed and checked afterwards. So it takes a small part of
one core, which the gateway under test does not get.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "bench")]

from payloads import ANSWER, PROMPT, WORDS  # noqa: E402

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
FIRST = WORDS[0].strip().encode()
"""The first text of a stream has this word, in whatever form a gateway writes it."""
LAST_CHUNK = b"\r\n0\r\n\r\n"
TIMEOUT = 60.0
"""The seconds in which an answer has to arrive, unless a job says otherwise."""

Found = dict[str, Any]


def expected(texts: int) -> str:
    """Return the text of a stream of so many texts."""
    return "".join(WORDS[number % len(WORDS)] for number in range(texts))


def request(job: Found) -> bytes:
    """Return the bytes of a request."""
    body: Found = {"model": job["model"], "messages": [{"role": "user", "content": PROMPT}]}
    stream = job.get("texts") is not None
    if job["wire"] == "messages":
        body["max_tokens"] = 4096
    elif stream:
        body["stream_options"] = {"include_usage": True}
    if stream:
        body["stream"] = True
    data = json.dumps(body).encode()
    head = (
        f"POST {job.get('prefix', '')}{PATHS[job['wire']]} HTTP/1.1\r\nhost: {job['host']}:{job['port']}\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(data)}\r\n"
        f"authorization: Bearer {job['key']}\r\nanthropic-version: 2023-06-01\r\n\r\n"
    )
    return head.encode() + data


class Connection(asyncio.Protocol):
    """One connection, with one request at a time. The times are those of `time.perf_counter`."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost = False
        self.complete = False
        """Whether the answer has ended, as its head says it would."""
        self.received: list[bytes] = []
        self.began = self.first = self.ended = 0.0
        self._tail = b""
        self._left = -1
        self._until: bytes | None = None
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._end()

    def send(self, data: bytes, until: bytes | None = None) -> asyncio.Future[None]:
        """Send a request. The future is done when the answer has ended, or when it has the text `until`."""
        self.received = []
        self.complete = False
        self.first = self.ended = 0.0
        self._tail = b""
        self._left = -1
        self._until = until
        self._waiter = asyncio.get_running_loop().create_future()
        self.began = time.perf_counter()
        if self.lost:
            self._end()
        else:
            self.transport.write(data)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.received.append(data)
        recent = self._tail + data
        self._tail = recent[-64:]
        if not self.first and FIRST in recent:
            self.first = now
        if self._left < 0:
            head, separator, body = b"".join(self.received).partition(b"\r\n\r\n")
            if not separator:
                return
            length = length_of(head)
            self._left = sys.maxsize if length is None else length - len(body)
        elif self._left != sys.maxsize:
            self._left -= len(data)
        self.complete = self._left <= 0 or recent.endswith(LAST_CHUNK)
        if self.complete or (self._until is not None and self._until in recent):
            self._end()

    def _end(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self.ended = time.perf_counter()
            self._waiter.set_result(None)


def length_of(head: bytes) -> int | None:
    """Return the Content-Length of a response, or None if it has none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None


def unchunked(body: bytes) -> tuple[bytes, bool]:
    """Return the content of a chunked body, and whether it is complete."""
    parts = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        if end < 0:
            return b"".join(parts), False
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts), True
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
        if at > len(body):
            return b"".join(parts), False


def fault_of(received: bytes, wire: str, texts: int | None, is_open: bool = False) -> str | None:
    """Return what is wrong with an answer, in a word or two, or None. An answer that `is_open` has no end yet."""
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        return "no answer"
    status = head.split(b" ", 2)[1].decode()
    if status != "200":
        return f"status {status}"
    complete = True
    if b"transfer-encoding: chunked" in head.lower():
        body, complete = unchunked(body)
    elif (length := length_of(head)) is not None:
        complete = len(body) == length
    if is_open:
        complete = True
    if not complete:
        return "truncated"
    if texts is None:
        return _whole_fault(json.loads(body), wire)
    return _stream_fault(body, wire, texts, is_open)


def _whole_fault(answer: Found, wire: str) -> str | None:
    if wire == "chat":
        text = answer["choices"][0]["message"]["content"]
    else:
        text = "".join(block["text"] for block in answer["content"])
    return None if text == ANSWER else "wrong text"


def _stream_fault(body: bytes, wire: str, texts: int, is_open: bool) -> str | None:
    pieces: list[str] = []
    ends = 0
    has_finished = is_open
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            ends += 1
            continue
        event = json.loads(data)
        if "error" in event:
            return "error in the stream"
        if wire == "messages":
            kind = event["type"]
            if kind == "content_block_delta":
                pieces.append(event["delta"].get("text", ""))
            elif kind == "message_delta":
                has_finished = True
            elif kind == "message_stop":
                ends += 1
        elif choices := event.get("choices"):
            pieces.append(choices[0].get("delta", {}).get("content") or "")
            has_finished = has_finished or choices[0].get("finish_reason") is not None
    text, right = "".join(pieces), expected(texts)
    if text != right:
        return "lost text" if len(text) < len(right) else "doubled text" if len(text) > len(right) else "wrong text"
    return None if is_open or (ends == 1 and has_finished) else "no end"


class Faults:
    """Counts what is wrong with answers."""

    def __init__(self, wire: str, texts: int | None, is_open: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._arguments = (wire, texts, is_open)
        self._known: dict[bytes, str | None] = {}

    def check(self, received: bytes) -> bool:
        """Count an answer. Returns whether it is right."""
        try:
            fault = fault_of(received, *self._arguments)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            fault = f"not readable: {type(error).__name__}"
        if fault is not None:
            self.counts[fault] += 1
        return fault is None


async def connections(job: Found, number: int) -> list[Connection]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    for at in range(0, number, 100):
        making = [
            loop.create_connection(Connection, job["host"], job["port"]) for _ in range(at, min(at + 100, number))
        ]
        opened += [protocol for _, protocol in await asyncio.gather(*making)]
    return opened


async def answered(connection: Connection, data: bytes, timeout: float) -> bytes:
    """Send a request, and return the bytes of its answer, which may be cut short."""
    waiter = connection.send(data)
    try:
        await asyncio.wait_for(waiter, timeout)
    except TimeoutError:
        connection.transport.abort()
    return b"".join(connection.received)


async def reconnected(job: Found, connection: Connection) -> Connection:
    """Return the connection, or another one if it is closed."""
    return (await connections(job, 1))[0] if connection.lost or connection.transport.is_closing() else connection


async def run(job: Found) -> Found:
    """Make `requests` requests, `concurrency` at a time: each connection sends its next one after an answer."""
    data, opened = request(job), await connections(job, job["concurrency"])
    left, timeout = job["requests"], job.get("timeout", TIMEOUT)
    answers: list[bytes] = []
    times: list[tuple[float, float]] = []

    async def work(connection: Connection) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            connection = await reconnected(job, connection)
            answers.append(await answered(connection, data, timeout))
            times.append((connection.first - connection.began, connection.ended - connection.began))
        connection.transport.close()

    began = time.perf_counter()
    await asyncio.gather(*map(work, opened))
    seconds = time.perf_counter() - began
    faults = Faults(job["wire"], job.get("texts"))
    right = [faults.check(answer) for answer in answers]
    good = [pair for pair, is_right in zip(times, right, strict=True) if is_right]
    return {
        "seconds": seconds,
        "requests": len(answers),
        "failed": dict(faults.counts),
        "first": [first for first, _ in good],
        "whole": [whole for _, whole in good],
    }


async def waves(job: Found) -> Found:
    """Start `concurrency` streams at once, wait for all of them, and do it again, `waves` times."""
    data, opened = request(job), await connections(job, job["concurrency"])
    faults = Faults(job["wire"], job["texts"])
    found: Found = {"requests": 0, "first": [], "whole": []}
    for _ in range(job["waves"]):
        opened = [await reconnected(job, connection) for connection in opened]
        for connection, answer in zip(
            opened, await asyncio.gather(*(answered(connection, data, TIMEOUT) for connection in opened)), strict=True
        ):
            found["requests"] += 1
            if faults.check(answer):
                found["first"].append(connection.first - connection.began)
                found["whole"].append(connection.ended - connection.began)
    for connection in opened:
        connection.transport.close()
    return {**found, "failed": dict(faults.counts)}


_held: list[Connection] = []


async def hold(job: Found) -> Found:
    """Open streams that never end, and keep them. Counts those that have sent all that the provider sends."""
    data = request(job)
    try:
        _held.extend(await connections(job, job["concurrency"]))
    except OSError as error:
        return {"open": 0, "failed": {type(error).__name__: job["concurrency"]}}
    until = expected(job["texts"]).split()[-1].encode()
    began = time.perf_counter()
    waiters = [connection.send(data, until) for connection in _held]
    _, pending = await asyncio.wait(waiters, timeout=job["timeout"])
    faults = Faults(job["wire"], job["texts"], is_open=True)
    right = [faults.check(b"".join(connection.received)) and not connection.lost for connection in _held]
    return {
        "open": sum(right),
        "waiting": len(pending),
        "failed": dict(faults.counts),
        "seconds": max((c.ended - began for c, is_right in zip(_held, right, strict=True) if is_right), default=0.0),
    }


async def release(job: Found) -> Found:
    """Close the streams of `hold`. Counts those that had begun and not ended."""
    still = sum(bool(c.received) and not c.lost and not c.complete for c in _held)
    for connection in _held:
        if connection.transport is not None:
            connection.transport.abort()
    _held.clear()
    await asyncio.sleep(0)
    return {"open": still}


JOBS = {"run": run, "waves": waves, "hold": hold, "release": release}


async def main() -> None:
    """Do jobs until standard input ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        gc.collect()
        gc.disable()
        before = time.process_time()
        found = await JOBS[job["job"]](job)
        found["client_cpu"] = time.process_time() - before
        gc.enable()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
