"""A Chat Completions provider that fails in every way, in its own process.

The first segment of the path names the fault (a function below). `GET /_facts/FAULT` returns the number of its requests
and open connections, the bytes sent, and the requests that arrived at the target of the redirect. `/_reset/FAULT`
clears them. Prints `ready URL`. Ends when its standard input ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
from trunkline.testing import Exchange, serve
from wires import CHAT, SSE, USAGE

TEXTS = ("Grüße ", "aus ", "dem ", "Fjörd.")
ANSWER = "".join(TEXTS)
FLOOD = 64 * 1024 * 1024

BEGIN, TEXT, END = CHAT["begin"], CHAT["text"], CHAT["end"]
WHOLE = BEGIN() + b"".join(map(TEXT, TEXTS)) + END()
HALF = BEGIN() + TEXT(TEXTS[0]) + TEXT(TEXTS[1])
UNAVAILABLE = b'{"error":{"message":"try later","type":"server_error","code":null,"param":null}}'
ERROR = b'{"error":{"message":"the model broke","type":"server_error","code":"500","param":null}}'

Handler = Callable[[Exchange, "Facts"], Awaitable[None]]


class Facts:
    """What happened to one fault since it was last reset."""

    def __init__(self) -> None:
        self.requests = 0
        self.open = 0
        self.sent = 0
        self.elsewhere: list[dict[str, bool]] = []
        self.connections: set[int] = set()

    def as_json(self) -> dict[str, Any]:
        return {"requests": self.requests, "open": self.open, "sent": self.sent, "elsewhere": self.elsewhere}


async def begun(exchange: Exchange, data: bytes) -> None:
    await exchange.start(headers=SSE)
    await exchange.chunk(data)


async def streamed(exchange: Exchange, data: bytes, headers: dict[str, str] = SSE) -> None:
    await exchange.start(headers=headers)
    await exchange.chunk(data)
    await exchange.end()


async def healthy(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, WHOLE)


async def no_headers(exchange: Exchange, facts: Facts) -> None:
    await exchange.hung_up()


async def no_first_chunk(exchange: Exchange, facts: Facts) -> None:
    await exchange.start(headers=SSE)
    await exchange.hung_up()


async def stall(exchange: Exchange, facts: Facts) -> None:
    await begun(exchange, HALF)
    await exchange.hung_up()


async def heartbeats(exchange: Exchange, facts: Facts) -> None:
    await exchange.start(headers=SSE)
    while True:
        await exchange.chunk(b": ping\n\n")
        await anyio.sleep(0.05)


async def reset(exchange: Exchange, facts: Facts) -> None:
    await begun(exchange, HALF)
    await anyio.sleep(0.05)
    await exchange.reset()


async def end_of_file(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, HALF)


async def end_in_an_event(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, HALF + TEXT(TEXTS[2])[:-20])


async def closed_without_length(exchange: Exchange, facts: Facts) -> None:
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + HALF)
    await exchange.hang_up()


async def parked_after_the_end(exchange: Exchange, facts: Facts) -> None:
    await begun(exchange, WHOLE)
    await exchange.hung_up()


async def stale(exchange: Exchange, facts: Facts) -> None:
    # A second request on the same connection is never answered.
    port = exchange._stream.extra(anyio.abc.SocketAttribute.remote_port)
    if port in facts.connections:
        await exchange.reset()
        return
    facts.connections.add(port)
    await streamed(exchange, WHOLE)


async def broken_encoding(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, WHOLE, {**SSE, "content-encoding": "gzip"})


async def byte_by_byte(exchange: Exchange, facts: Facts) -> None:
    await exchange.start(headers=SSE)
    for at in range(len(WHOLE)):
        await exchange.chunk(WHOLE[at : at + 1])
    await exchange.end()


async def other_line_ends(exchange: Exchange, facts: Facts) -> None:
    data = b"\xef\xbb\xbf: a comment\n\n" + WHOLE
    await streamed(exchange, data.replace(b"\n", b"\r\n"))


async def broken_json(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, HALF + b'data: {"choices": [{"delta": {"content": "dem \n\n' + TEXT(TEXTS[3]) + END())


async def html(exchange: Exchange, facts: Facts) -> None:
    await exchange.respond(b"<html><body>Please log in</body></html>", headers={"content-type": "text/html"})


async def whole_body(exchange: Exchange, facts: Facts) -> None:
    message = {"role": "assistant", "content": ANSWER}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    await exchange.respond(json.dumps(body).encode())


async def error_event(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, HALF + b"data: " + ERROR + b"\n\ndata: [DONE]\n\n")


async def bare_error(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, HALF + ERROR)


async def odd_usage(exchange: Exchange, facts: Facts) -> None:
    empty = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":null}\n\n'
    await streamed(exchange, empty + WHOLE.replace(b'"usage":null', b'"usage":' + json.dumps(USAGE).encode()))


async def unknown(exchange: Exchange, facts: Facts) -> None:
    event = b'event: something.new\ndata: {"object":"new.thing","choices":[]}\n\n'
    await streamed(exchange, event + WHOLE.replace(b'"logprobs":null', b'"logprobs":null,"novelty":{"a":[1]}'))


async def unavailable_twice(exchange: Exchange, facts: Facts) -> None:
    if facts.requests <= 2:
        await exchange.respond(UNAVAILABLE, status=503)
    else:
        await streamed(exchange, WHOLE)


async def error_first(exchange: Exchange, facts: Facts) -> None:
    await streamed(exchange, b"data: " + ERROR + b"\n\n" if facts.requests == 1 else WHOLE)


async def redirect(exchange: Exchange, facts: Facts) -> None:
    await exchange.respond(status=307, headers={"location": f"{elsewhere_url}/redirect/v1/chat/completions"})


async def echoed_key(exchange: Exchange, facts: Facts) -> None:
    key = exchange.request.headers.get("authorization", "")
    message = f"Incorrect API key provided: {key.removeprefix('Bearer ')}"
    body = {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key", "param": None}}
    await exchange.respond(json.dumps(body).encode(), status=401)


async def later(exchange: Exchange, facts: Facts) -> None:
    await exchange.respond(UNAVAILABLE, status=503, headers={"retry-after": "3", "content-type": "application/json"})


async def flood(exchange: Exchange, facts: Facts) -> None:
    await exchange.start(headers=SSE)
    burst = TEXT("word ") * 100
    while facts.sent < FLOOD:
        await exchange.chunk(burst)
        facts.sent += len(burst)
    await exchange.hung_up()


FAULTS: dict[str, Handler] = {
    function.__name__: function
    for function in (
        healthy,
        no_headers,
        no_first_chunk,
        stall,
        heartbeats,
        reset,
        end_of_file,
        end_in_an_event,
        closed_without_length,
        parked_after_the_end,
        stale,
        broken_encoding,
        byte_by_byte,
        other_line_ends,
        broken_json,
        html,
        whole_body,
        error_event,
        bare_error,
        odd_usage,
        unknown,
        unavailable_twice,
        error_first,
        redirect,
        echoed_key,
        later,
        flood,
    )
}

elsewhere_url = ""
all_facts: dict[str, Facts] = {}


async def handle(exchange: Exchange) -> None:
    first, _, rest = exchange.request.target.removeprefix("/").partition("/")
    if first in ("_facts", "_reset"):
        exchange.keep_alive = False
        if first == "_reset":
            all_facts[rest] = Facts()
        body = json.dumps(all_facts.setdefault(rest, Facts()).as_json()).encode()
        await exchange.respond(body, headers={"connection": "close"})
        return
    facts = all_facts.setdefault(first, Facts())
    facts.requests += 1
    facts.open += 1
    try:
        await FAULTS[first](exchange, facts)
    finally:
        facts.open -= 1


async def handle_elsewhere(exchange: Exchange) -> None:
    fault = exchange.request.target.removeprefix("/").partition("/")[0]
    request = exchange.request
    facts = all_facts.setdefault(fault, Facts())
    facts.elsewhere.append({"key": "authorization" in request.headers, "prompt": b"messages" in request.body})
    await streamed(exchange, WHOLE)


async def main() -> None:
    global elsewhere_url
    async with serve(handle) as server, serve(handle_elsewhere) as elsewhere:
        elsewhere_url = elsewhere.url
        print("ready", server.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main)
