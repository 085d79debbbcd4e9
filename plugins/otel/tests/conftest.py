"""What the tests of trunkline-otel share: a scripted server, a service with telemetry, and what it recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import pytest
import trunkline
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind
from trunkline.testing import Exchange, LoopbackServer, serve
from trunkline_otel.telemetry import Telemetry

KEY = "sk-canary/Ab+9=Zz0-key"
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def body(text: str = "Rayleigh scattering.") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "chat-1", "model": "m-0603", "choices": [choice], "usage": USAGE}).encode()


def frame(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return b"data: " + json.dumps({"id": "chat-1", "model": "m-0603", "choices": choices, **more}).encode() + b"\n\n"


async def start_stream(exchange: Exchange) -> None:
    await exchange.start(headers={"content-type": "text/event-stream"})
    await exchange.chunk(frame({"role": "assistant", "content": "Ray"}))


async def answer(exchange: Exchange) -> None:
    """Answer a chat, a stream, an embedding, a ranking or a list of models."""
    if exchange.request.target.endswith("/models"):
        await exchange.respond(b'{"data": [{"id": "m"}]}')
        return
    if exchange.request.target.endswith("/embeddings"):
        data = [{"index": 0, "embedding": [0.5, 0.25]}]
        reply = {"model": "m-0603", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
        await exchange.respond(json.dumps(reply).encode())
        return
    if exchange.request.target.endswith("/rerank"):
        ranking = [{"index": 0, "relevance_score": 0.5}]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        await exchange.respond(json.dumps({"model": "m-0603", "results": ranking, "usage": usage}).encode())
        return
    if not json.loads(exchange.request.body).get("stream"):
        await exchange.respond(body())
        return
    await start_stream(exchange)
    for text in ("leigh ", "scattering."):
        await exchange.chunk(frame({"content": text}))
    await exchange.chunk(frame({}, "stop") + frame(usage=USAGE) + b"data: [DONE]\n\n")
    await exchange.end()


Answer = Callable[[Exchange], Awaitable[None]]


@attrs.define
class Recorder:
    """Telemetry that keeps what it records in memory."""

    sampler: Sampler | None = None
    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracer_provider: TracerProvider = attrs.field(init=False)
    meter_provider: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracer_provider = TracerProvider(sampler=self.sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader])

    def telemetry(self, **settings: bool) -> Telemetry:
        return Telemetry(
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
            **settings,
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in the order of their ends."""
        return self.exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        """The only span."""
        [span] = self.spans
        return span

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics that have points, by name."""
        data = self.reader.get_metrics_data()
        found = data.resource_metrics if data is not None else []
        return {
            metric.name: metric for resource in found for scope in resource.scope_metrics for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        metrics = self.metrics
        return list(metrics[name].data.data_points) if name in metrics else []

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


Open = Callable[..., AbstractAsyncContextManager[tuple[trunkline.Service, LoopbackServer]]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    # Each operation has ended once: as many were measured as there are spans.
    calls = [span for span in recorder.spans if span.instrumentation_scope.name == "trunkline-otel"]
    calls = [span for span in calls if span.kind is SpanKind.CLIENT]
    measured = sum(point.count for point in recorder.points("gen_ai.client.operation.duration"))
    assert measured == len(calls) or not recorder.spans
    recorder.close()


@pytest.fixture
def opened(recorder: Recorder) -> Open:
    """Opens a service with telemetry, and its server."""

    @asynccontextmanager
    async def open_it(
        answer: Answer = answer,
        *,
        outside: Sequence[object] = (),
        inside: Sequence[object] = (),
        content: bool = False,
        propagate: bool = False,
        chunk_times: bool = True,
        metric_label: bool = False,
        **settings: Any,
    ) -> AsyncIterator[tuple[trunkline.Service, LoopbackServer]]:
        telemetry = recorder.telemetry(
            content=content, propagate=propagate, chunk_times=chunk_times, metric_label=metric_label
        )
        values = {"default_model": "m", "api_key": KEY, "max_retries": 0, **settings}
        async with serve(answer) as server:
            extensions = [*outside, telemetry, *inside]
            async with trunkline.open_service(
                "openai-compatible", api_url=server.url, extensions=extensions, **values
            ) as service:
                yield service, server

    return open_it
