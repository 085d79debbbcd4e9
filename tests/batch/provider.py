"""A provider for measurements of batch work: a process of its own that speaks OpenAI's Chat Completions and embeddings.

    python tests/batch/provider.py [--port N] [--set NAME=VALUE ...]

It listens on 127.0.0.1, prints `ready http://127.0.0.1:PORT/v1` and serves until it is terminated. It shares no code
with Trunkline or its test kit. It answers some 20,000 requests for each second of CPU time.

A prompt names its row as `[row 17]`; without that, the whole text is the row's name. The answer repeats the name and
the CRC-32 of the text (`answer_to`), so a lost, repeated or mixed-up answer shows. An embedding is the CRC-32, too
(`vector_of`). `Settings` lists what can go wrong, and `/stats` returns what the provider has seen:

    POST /control {"outage": 30}   change settings while it runs; {"key": ...} and so on, as in `Settings`
    POST /reset                    forget all counts
    GET  /stats                    the counts of `Seen.stats` as JSON
    GET  /accepted                 only the number of accepted requests, which is fast
    GET  /repeated                 up to 1,000 rows that were accepted more than once, with how often

A request is *accepted* if the provider does the work, even if the client is gone when the answer is ready. Requests
that it fails on purpose are not accepted. So `repeated`, the accepted requests beyond the first of each row, is the
work that a client has paid for twice.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import json
import re
import struct
import sys
import time
from array import array
from collections import Counter, deque
from itertools import accumulate
from typing import Any
from zlib import crc32


@dataclasses.dataclass
class Settings:
    """What goes wrong, and how fast the answers are. Shares are of the requests, from 0 to 1; times are in seconds."""

    key: str = ""
    """If set, the only key that is accepted. Others get status 401."""
    latency: float = 0.0
    """Time until an answer."""
    slow: float = 0.0
    """Share of the requests that are answered after `slow_seconds`."""
    slow_seconds: float = 2.0
    rate_limited: float = 0.0
    """Share that is refused with status 429 and `retry_after`, which a decimal number may be."""
    retry_after: float = 1.0
    unavailable: float = 0.0
    """Share that gets status 503."""
    reset: float = 0.0
    """Share whose connection is reset instead of an answer."""
    most_faults: int = 2
    """A row's later requests succeed after this many faults (429, 503 and reset together)."""
    bad: float = 0.0
    """Share of the rows whose every request gets status 400."""
    outage: float = 0.0
    """Setting it starts an outage of so many seconds."""
    outage_after: int = 0
    """Start the outage when so many requests have been accepted, not at once."""
    outage_kind: str = "503"
    """`503`, or `reset`: no connection survives."""
    requests_per_minute: int = 0
    """A limit that the provider enforces over each `window`, with status 429 and Retry-After. 0: none."""
    tokens_per_minute: int = 0
    window: float = 60.0
    answer_words: int = 0
    """Additional words in each answer."""
    dimensions: int = 8
    """The length of an embedding."""


ROW = re.compile(r"\[row ([^\]]+)\]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\nauthorization: *bearer +(\S+)", re.IGNORECASE)
_WORDS = ("river", "stone", "maple", "cloud", "brick", "light", "ocean", "field")
_REASONS = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 429: b"Too Many Requests"}


def row_of(text: str) -> str:
    """Return the name of the row that a text belongs to."""
    found = ROW.search(text)
    return found[1] if found else text


def answer_to(text: str, words: int = 0) -> str:
    """Return the only right answer to a prompt."""
    more = "".join(f" {_WORDS[at % len(_WORDS)]}" for at in range(words))
    return f"[row {row_of(text)}] {crc32(text.encode()):08x}{more}"


def vector_of(text: str, dimensions: int = 8) -> list[float]:
    """Return the only right embedding of a text: sixteenths, which float32 holds exactly."""
    value = crc32(text.encode())
    return [(value >> 4 * (at % 8) & 15) / 16 for at in range(dimensions)]


def most_within(times: array[float], weights: array[int] | None, window: float) -> int:
    """Return the largest sum of weights (or number) of any interval of `window` seconds."""
    sums = list(accumulate(weights, initial=0)) if weights is not None else range(len(times) + 1)
    most = first = 0
    for at, when in enumerate(times):
        while times[first] <= when - window:
            first += 1
        most = max(most, sums[at + 1] - sums[first])
    return most


class Tally:
    """How often each row was accepted. Whole numbers take a byte each, so that a million rows take a megabyte."""

    def __init__(self) -> None:
        self._numbers = bytearray()
        self._names: Counter[str] = Counter()

    def add(self, row: str) -> None:
        if row.isdecimal() and len(row) < 9:
            number = int(row)
            if number >= len(self._numbers):
                self._numbers.extend(bytes(number + 4096 - len(self._numbers)))
            self._numbers[number] = min(self._numbers[number] + 1, 255)
        else:
            self._names[row] += 1

    def stats(self) -> dict[str, int]:
        counts = Counter(self._numbers)
        counts.update(self._names.values())
        del counts[0]
        return {
            "rows": counts.total(),
            "accepted": sum(times * rows for times, rows in counts.items()),
            "repeated": sum((times - 1) * rows for times, rows in counts.items()),
            "most_for_a_row": max(counts, default=0),
        }

    def repeated(self, most: int = 1000) -> dict[str, int]:
        found = {str(number): times for number, times in enumerate(self._numbers) if times > 1}
        found.update({name: times for name, times in self._names.items() if times > 1})
        return dict(sorted(found.items())[:most])


class Seen:
    """What the provider has seen since it started, or since `/reset`."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.tally = Tally()
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        """Faults of each row."""
        self.arrivals = array("d")
        """When each request for a row arrived, the refused ones included."""
        self.admitted = array("d")
        self.tokens = array("q")
        """When each accepted request arrived, and its tokens."""
        self.not_before: dict[str, float] = {}
        """When each row that got a Retry-After may be sent again."""
        self.paused_since = self.paused_until = 0.0
        self.in_flight = self.most_in_flight = self.connections = 0

    def stats(self, window: float) -> dict[str, object]:
        """Return all counts. `early`: a row was sent again before its Retry-After had passed. `in_pause`: any request
        that arrived within a Retry-After, from 0.1 s after the refusal on. `abandoned`: the client hung up before the
        answer was ready. `busiest`: the most requests or tokens of any interval of `window` seconds."""
        span = self.arrivals[-1] - self.arrivals[0] if self.arrivals else 0.0
        return {
            **self.tally.stats(),
            "requests": len(self.arrivals),
            **{name: self.counts[name] for name in ("early", "in_pause", "abandoned", "injected", "over_limit")},
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "connections": self.connections,
            "most_in_flight": self.most_in_flight,
            "seconds": round(span, 3),
            "busiest": {
                "window": window,
                "arrived": most_within(self.arrivals, None, window),
                "accepted": most_within(self.admitted, None, window),
                "tokens": most_within(self.admitted, self.tokens, window),
            },
            "cpu_seconds": round(time.process_time(), 3),
        }


class Provider:
    """The provider's state: its settings, its counts, and its limits."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.seen = Seen()
        self.connections: set[Connection] = set()
        self._window: deque[tuple[float, int]] = deque()
        self._used = 0
        self._outage_until = 0.0
        self.control({})

    def control(self, changes: dict[str, Any]) -> None:
        """Change settings. Raises TypeError for an unknown name."""
        self.settings = dataclasses.replace(self.settings, **changes)
        if self.settings.outage and not self.settings.outage_after:
            self._begin_outage()

    def _begin_outage(self) -> None:
        self._outage_until = time.monotonic() + self.settings.outage
        self.settings = dataclasses.replace(self.settings, outage=0.0, outage_after=0)
        if self.settings.outage_kind == "reset":
            # Not at once: the request that began the outage is answered first.
            asyncio.get_running_loop().call_soon(self._close_all)

    def _close_all(self) -> None:
        for connection in tuple(self.connections):
            connection.transport.close()

    def is_down(self, now: float) -> bool:
        return now < self._outage_until

    def over_limit(self, now: float, tokens: int) -> float:
        """Return the seconds until the limits allow a request, or 0 if it is admitted now."""
        settings = self.settings
        if not settings.requests_per_minute and not settings.tokens_per_minute:
            return 0.0
        while self._window and self._window[0][0] <= now - settings.window:
            self._used -= self._window.popleft()[1]
        full = settings.requests_per_minute and len(self._window) >= settings.requests_per_minute
        if full or (settings.tokens_per_minute and self._used + tokens > settings.tokens_per_minute):
            return max(self._window[0][0] + settings.window - now, 0.001) if self._window else settings.window
        self._window.append((now, tokens))
        self._used += tokens
        return 0.0

    def fault(self, row: str) -> tuple[int, float] | None:
        """Return the status and Retry-After of a fault to inject (status 0: reset the connection), or None."""
        settings, seen = self.settings, self.seen
        if settings.bad and crc32(b"bad" + row.encode()) / 2**32 < settings.bad:
            return 400, 0.0
        faults = seen.faults.get(row, 0)
        if faults < settings.most_faults:
            # Chosen by row and attempt: the same faults in each run, whatever the order of the requests.
            chance = crc32(b"%d %s" % (faults, row.encode())) / 2**32
            for share, status, wait in (
                (settings.rate_limited, 429, settings.retry_after),
                (settings.unavailable, 503, 0.0),
                (settings.reset, 0, 0.0),
            ):
                if chance < share:
                    seen.faults[row] += 1
                    return status, wait
                chance -= share
        return None

    def accept(self, now: float, tokens: int, rows: list[str]) -> None:
        """Count a request that is answered."""
        for row in rows:
            self.seen.tally.add(row)
        self.seen.admitted.append(now)
        self.seen.tokens.append(tokens)
        if self.settings.outage_after and len(self.seen.admitted) >= self.settings.outage_after:
            self._begin_outage()


class Connection(asyncio.Protocol):
    """One connection, which serves one request at a time."""

    def __init__(self, provider: Provider, loop: asyncio.AbstractEventLoop) -> None:
        self._provider = provider
        self._loop = loop
        self.transport: Any = None
        self._received = b""
        self._pending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._provider.connections.add(self)
        self._provider.seen.connections += 1
        if self._provider.is_down(time.monotonic()) and self._provider.settings.outage_kind == "reset":
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.connections.discard(self)
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
            self._provider.seen.in_flight -= 1
            self._provider.seen.counts["abandoned"] += 1

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
        path = head.split(b" ", 2)[1].decode().removeprefix("/v1")
        try:
            value = json.loads(rest[:size]) if size else {}
            if path in ("/chat/completions", "/embeddings"):
                self._work(path, value, _KEY.search(head))
            else:
                self._tell(path, value)
        except (ValueError, TypeError, LookupError) as error:
            self._refuse(400, f"not a valid request: {error!r}")

    def _tell(self, path: str, value: dict[str, Any]) -> None:
        provider = self._provider
        if path == "/stats":
            self._respond(200, provider.seen.stats(provider.settings.window))
        elif path == "/accepted":
            self._respond(200, {"accepted": len(provider.seen.admitted)})
        elif path == "/repeated":
            self._respond(200, provider.seen.tally.repeated())
        elif path == "/control":
            provider.control(value)
            self._respond(200, dataclasses.asdict(provider.settings))
        elif path == "/reset":
            connections = provider.seen.in_flight
            provider.seen = Seen()
            provider.seen.in_flight = connections
            self._respond(200, {})
        elif path == "/models":
            self._respond(200, {"object": "list", "data": [{"id": "batch", "object": "model", "created": 0}]})
        else:
            self._refuse(404, f"no such path: {path}")

    def _work(self, path: str, value: dict[str, Any], key: re.Match[bytes] | None) -> None:
        provider, settings, seen, now = self._provider, self._provider.settings, self._provider.seen, time.monotonic()
        texts = _inputs(value) if path == "/embeddings" else [_prompt(value)]
        rows = [row_of(text) for text in texts]
        row = rows[0]
        seen.arrivals.append(now)
        if seen.not_before.pop(row, 0.0) > now:
            seen.counts["early"] += 1
        if seen.paused_until > now > seen.paused_since + 0.1:
            seen.counts["in_pause"] += 1
        if settings.key and (key is None or key[1].decode() != settings.key):
            return self._refuse(401, "Incorrect API key provided.", code="invalid_api_key")
        if provider.is_down(now):
            seen.counts["injected"] += 1
            return self._refuse(503, "The server is down.") if settings.outage_kind == "503" else self.transport.abort()
        fault = provider.fault(row)
        if fault is not None:
            seen.counts["injected"] += 1
            return self._refuse(fault[0], "A fault on purpose.", fault[1], row) if fault[0] else self.transport.abort()
        body, tokens = (
            _embeddings(value, texts, settings) if path == "/embeddings" else _chat(value, texts[0], settings)
        )
        wait = provider.over_limit(now, tokens)
        if wait:
            seen.counts["over_limit"] += 1
            return self._refuse(429, "Rate limit reached.", wait, row, code="rate_limit_exceeded")
        provider.accept(now, tokens, rows)
        latency = settings.latency
        if settings.slow and crc32(b"slow" + row.encode()) / 2**32 < settings.slow:
            latency = settings.slow_seconds
        if not latency:
            seen.most_in_flight = max(seen.most_in_flight, seen.in_flight + 1)
            return self._respond(200, body)
        seen.in_flight += 1
        seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
        self._pending = self._loop.call_later(latency, self._respond_late, body)
        return None

    def _respond_late(self, body: object) -> None:
        self._pending = None
        self._provider.seen.in_flight -= 1
        self._respond(200, body)

    def _refuse(self, status: int, message: str, wait: float = 0.0, row: str = "", code: str | None = None) -> None:
        more = b""
        if wait:
            seen, now = self._provider.seen, time.monotonic()
            more = b"retry-after: %.3f\r\n" % wait
            seen.not_before[row] = now + wait - 0.002  # the header is rounded
            if now + wait > seen.paused_until:
                seen.paused_since, seen.paused_until = now, now + wait
        self._respond(status, {"error": {"message": message, "type": "error", "param": None, "code": code}}, more)

    def _respond(self, status: int, value: object, more: bytes = b"") -> None:
        self._provider.seen.statuses[status] += 1
        body = json.dumps(value, separators=(",", ":")).encode()
        reason = _REASONS.get(status, b"Error")
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"
            % (status, reason, len(body), more, body)
        )


def _prompt(value: dict[str, Any]) -> str:
    """Return the text of the last message."""
    content = value["messages"][-1]["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if "text" in part)


def _inputs(value: dict[str, Any]) -> list[str]:
    texts = value["input"] if isinstance(value["input"], list) else [value["input"]]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("input must be a text or texts")
    return texts


def _chat(value: dict[str, Any], text: str, settings: Settings) -> tuple[object, int]:
    """Return a Chat Completions response and its number of tokens. With `response_format`, the answer is an object."""
    answer = answer_to(text, settings.answer_words)
    if value.get("response_format", {"type": "text"})["type"] != "text":
        answer = json.dumps({"row": row_of(text), "check": f"{crc32(text.encode()):08x}"})
    prompt_tokens, completion_tokens = len(text) // 4 + 4, len(answer) // 4 + 1
    tokens = prompt_tokens + completion_tokens
    message = {"role": "assistant", "content": answer, "refusal": None, "annotations": []}
    response = {
        "id": f"chatcmpl-{crc32(text.encode()):08x}",
        "object": "chat.completion",
        "created": 1790000000,
        "model": value.get("model", "batch"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
    }
    return response, tokens


def _embeddings(value: dict[str, Any], texts: list[str], settings: Settings) -> tuple[object, int]:
    vectors: list[object] = [vector_of(text, value.get("dimensions", settings.dimensions)) for text in texts]
    if value.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]  # type: ignore[arg-type, misc]
    tokens = sum(len(text) // 4 + 1 for text in texts)
    response = {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)],
        "model": value.get("model", "batch"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return response, tokens


async def main(port: int, settings: Settings) -> None:
    """Serve until the process is terminated."""
    loop = asyncio.get_running_loop()
    provider = Provider(settings)
    server = await loop.create_server(lambda: Connection(provider, loop), "127.0.0.1", port, backlog=4096)
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of `Settings`")
    arguments = parser.parse_args()
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Settings)}
    given = dict(pair.split("=", 1) for pair in arguments.set)
    chosen = Settings(**{name: kinds[name](text) for name, text in given.items()})
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(arguments.port, chosen))
    else:
        uvloop.run(main(arguments.port, chosen))
    sys.exit(0)
