"""Draws the trace of one agent run, as trunkline-otel records it: `python docs/trace_svg.py docs/assets/trace.svg`.

The agent is real: it runs two tools at the same time, against a server on loopback with scripted, slow answers. Its
first request is refused once, so the picture has a retry.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import anyio
import trunkline
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trunkline.testing import Exchange, serve
from trunkline_otel.telemetry import Telemetry

MODEL = "gpt-5.4-mini"
LEFT, WIDTH, ROW, TOP = 330, 560, 30, 48
COLOURS = {"invoke_agent": "#6b4fbb", "chat": "#2368b5", "execute_tool": "#2f855a"}
OTHER = "#7a7a7a"


def usage(tokens: int, output: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "completion_tokens": output, "total_tokens": tokens + output}


def whole(message: dict[str, object], reason: str, tokens: dict[str, int]) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return json.dumps({"id": "1", "model": MODEL, "choices": [choice], "usage": tokens}).encode()


def call(number: int, name: str) -> dict[str, object]:
    function = {"name": name, "arguments": '{"city": "Oslo"}'}
    return {"id": f"call-{number}", "type": "function", "function": function}


class Script:
    """Answers the requests of the agent, after a while."""

    def __init__(self) -> None:
        self._count = 0

    async def __call__(self, exchange: Exchange) -> None:
        self._count += 1
        await anyio.sleep((0.05, 0.25, 0.2)[self._count - 1])
        if self._count == 1:
            await exchange.respond(b'{"error": {"message": "busy"}}', status=503, headers={"retry-after": "0.1"})
            return
        if self._count == 2:
            calls: list[object] = [call(1, "weather"), call(2, "events")]
            tools = [{"index": number, **item} for number, item in enumerate(calls)]  # type: ignore[dict-item]
            delta: dict[str, object] = {"role": "assistant", "tool_calls": tools}
            reason, tokens = "tool_calls", usage(180, 42)
        else:
            delta = {"role": "assistant", "content": "It is 14 °C in Oslo; take the ferry, then see the opera."}
            reason, tokens = "stop", usage(260, 19)
        if not json.loads(exchange.request.body).get("stream"):
            await exchange.respond(whole(delta, reason, tokens))
            return
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        frame = {"id": "1", "model": MODEL, "choices": [choice], "usage": tokens}
        await exchange.start(headers={"content-type": "text/event-stream"})
        await exchange.chunk(b"data: " + json.dumps(frame).encode() + b"\n\ndata: [DONE]\n\n")
        await exchange.end()


async def weather(city: str) -> str:
    """Return the weather in a city."""
    await anyio.sleep(0.12)
    return f"14 °C in {city}"


async def events(city: str) -> list[str]:
    """Return the events in a city."""
    await anyio.sleep(0.2)
    return ["opera"]


async def record() -> tuple[ReadableSpan, ...]:
    """Run the agent, and return its spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracer_provider=provider)
    tracer = provider.get_tracer("application")
    async with serve(Script()) as server:
        settings: dict[str, Any] = {"api_url": server.url, "default_model": MODEL, "extensions": [telemetry]}
        async with trunkline.open_service("openai-compatible", name="main", **settings) as service:
            await service.authenticate()  # opens the service
            with tracer.start_as_current_span("POST /trips"):
                await trunkline.run_tools(service, "Plan a day in Oslo.", [weather, events], name="travel")
    return exporter.get_finished_spans()


def identity(span: ReadableSpan) -> int:
    return span.context.span_id if span.context is not None else 0


def started(span: ReadableSpan) -> int:
    return span.start_time or 0


def rows(
    spans: tuple[ReadableSpan, ...], parent: int | None = None, depth: int = 0
) -> Iterator[tuple[int, ReadableSpan]]:
    """Return the spans as a tree: each with its depth, and its children after it."""
    for span in sorted(spans, key=started):
        if (span.parent.span_id if span.parent is not None else None) == parent:
            yield depth, span
            yield from rows(spans, identity(span), depth + 1)


def note(span: ReadableSpan) -> str:
    """Return what is written beside the bar of a span."""
    attributes = span.attributes or {}
    read, written = attributes.get("gen_ai.usage.input_tokens"), attributes.get("gen_ai.usage.output_tokens")
    length = ((span.end_time or 0) - started(span)) / 1e6
    return f"{length:.0f} ms" + (f" · {read} → {written} tokens" if read is not None else "")


def draw(spans: tuple[ReadableSpan, ...]) -> str:
    """Return the picture."""
    tree = list(rows(spans))
    first, last = min(map(started, spans)), max(span.end_time or 0 for span in spans)
    height = TOP + ROW * len(tree) + 16

    def x(time: int) -> float:
        return LEFT + (time - first) / (last - first) * WIDTH

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 230} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="14">',
        "<title>The trace of one run of tools</title>",
        f'<rect width="100%" height="{height}" fill="#ffffff"/>',
    ]
    milliseconds = (last - first) / 1e6
    for tick in range(0, int(milliseconds) + 1, 200):
        at = LEFT + tick / milliseconds * WIDTH
        lines.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="30" y2="{height - 10}" stroke="#dddddd"/>')
        lines.append(f'<text x="{at:.1f}" y="22" text-anchor="middle" fill="#555555" font-size="12">{tick} ms</text>')
    for number, (depth, span) in enumerate(tree):
        top, left, right = TOP + ROW * number, x(started(span)), x(span.end_time or 0)
        colour = COLOURS.get(str((span.attributes or {}).get("gen_ai.operation.name")), OTHER)
        lines.append(f'<text x="{12 + 22 * depth}" y="{top + 15}" fill="#1a1a1a">{escape(span.name)}</text>')
        width = max(right - left, 2)
        lines.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="20" rx="3" fill="{colour}"/>')
        dots = [
            f'<circle cx="{x(event.timestamp):.1f}" cy="{top + 10}" r="5" fill="#f5a623"/>' for event in span.events
        ]
        lines.extend(dots)
        retries = ", ".join(event.name.rpartition(".")[2] for event in span.events)
        text = note(span) + (f" · {retries}" if retries else "")
        lines.append(f'<text x="{right + 8:.1f}" y="{top + 15}" fill="#444444" font-size="12">{escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(anyio.run(record)), encoding="utf-8")
