"""Count the Python instructions of the hot paths, as ratios to a hand-written loop over the same bytes in the same run.

    python tests/bench/instructions.py             print the ratios as JSON
    python tests/bench/instructions.py --record    record them for this version of Python

The test counts instructions of the interpreter, not of the processor: they are the same on every machine, need only
Python, and take seconds to count. Counts by callgrind depend on the build of Python and of the C library, so they
cannot be compared between machines. The cost of C code is not counted here; the benchmark in this folder measures it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "instructions.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FEW, MANY = 40, 140
NAMES = {"chat": "openai-compatible", "anthropic": "anthropic", "bedrock": "bedrock"}


def count(run: Callable[[], object]) -> int:
    """Return the number of instructions that `run` executes."""
    seen = 0

    def local(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if event == "opcode":
            seen += 1
        return local

    def begin(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return local

    sys.settrace(begin)
    try:
        run()
    finally:
        sys.settrace(None)
    return seen


class MemoryResponse:
    """A response in memory, whose chunks arrive without waiting."""

    status = 200

    def __init__(self, headers: dict[str, str], chunks: list[bytes]) -> None:
        self.headers = headers
        self._chunks = iter(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


class Memory:
    """A transport that answers every request with the same bytes."""

    def __init__(self, headers: dict[str, str], chunks: list[bytes]) -> None:
        self._headers, self._chunks = headers, chunks

    async def __aenter__(self) -> Memory:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @asynccontextmanager
    async def send(self, wire_request: object, timeouts: object) -> AsyncIterator[MemoryResponse]:
        yield MemoryResponse(self._headers, self._chunks)


def service(wire: str, headers: dict[str, str], chunks: list[bytes]) -> Any:
    import trunkline

    class Extension:
        @trunkline.hookimpl(tryfirst=True)
        def trunkline_transport(self, context: object) -> Memory:
            return Memory(headers, chunks)

    settings: dict[str, Any] = {"aws_region": "us-east-1"} if wire == "bedrock" else {}
    return trunkline.open_service(
        NAMES[wire],
        api_url="http://127.0.0.1:9/v1",
        api_key="REDACTED",
        default_model="m",
        extensions=[Extension()],
        **settings,
    )


async def read_all(opened: Any, texts: int) -> None:
    """Read one stream and check it."""
    import payloads
    import trunkline

    size = 0
    async with opened.stream(payloads.PROMPT) as stream:
        async for event in stream:
            if type(event) is trunkline.TextDelta:
                size += len(event.text)
    assert size == texts * payloads.SIZE


def stream_cost(wire: str, texts: int, batch: int) -> int:
    """Return the number of instructions for one stream."""
    import payloads

    events = payloads.WIRES[wire][1](texts)
    chunks = [b"".join(events[at : at + batch]) for at in range(0, len(events), batch)]
    opened = service(wire, {"content-type": payloads.WIRES[wire][2].decode()}, chunks)

    async def run() -> int:
        async with opened:
            await read_all(opened, texts)  # opens the service and does its late imports
            return count(lambda: _drive(read_all(opened, texts)))

    return asyncio.run(run())


def _drive(coroutine: Any) -> None:
    # Run the coroutine without the event loop, whose instructions must not count. It waits only for turns of the loop.
    while True:
        try:
            coroutine.send(None)
        except StopIteration:
            return


def reference_cost(wire: str, texts: int) -> int:
    """Return the number of instructions of the hand-written loop."""
    import payloads
    from clients import _raw

    async def run() -> None:
        answer = MemoryResponse({}, payloads.WIRES[wire][1](texts))
        async for _ in getattr(_raw, wire)(answer):
            pass

    return count(lambda: _drive(run()))


def call_cost() -> int:
    """Return the number of instructions for one call without streaming."""
    import payloads

    opened = service("chat", {"content-type": "application/json"}, [payloads.chat_body()])

    async def run() -> int:
        async with opened:
            await opened.chat(payloads.PROMPT)
            return count(lambda: _drive(opened.chat(payloads.PROMPT)))

    return asyncio.run(run())


def ratios() -> dict[str, float]:
    """Return the instructions of each hot path, as multiples of those of the hand-written loop for one chunk."""
    found = {}
    for wire in NAMES:
        reference = (reference_cost(wire, MANY) - reference_cost(wire, FEW)) / (MANY - FEW)
        for label, batch in (("", 1), (", 32 a read", 32)):
            ours = (stream_cost(wire, MANY, batch) - stream_cost(wire, FEW, batch)) / (MANY - FEW)
            found[f"a chunk, {wire}{label}"] = ours / reference
        found[f"a stream of {FEW} chunks, {wire}"] = stream_cost(wire, FEW, 1) / reference
        if wire == "chat":
            found["a call, chat"] = call_cost() / reference
    return {name: round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    sys.path[:0] = [str(HERE)]
    sys.modules["msgspec"] = None  # type: ignore[assignment]  # the same decoder wherever it runs
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    measured = ratios()
    print(json.dumps(measured))
    if "--record" in sys.argv:
        known = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        RECORDED.write_text(json.dumps({**known, VERSION: measured}, indent=2) + "\n")
