"""Spans and metrics reach a collector: an HTTP server that decodes OTLP."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import pytest
import trunkline
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from trunkline.testing import Exchange, LoopbackServer, serve
from trunkline_otel.telemetry import Telemetry

from .conftest import KEY, answer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def collector() -> AsyncIterator[LoopbackServer]:
    async def accept(exchange: Exchange) -> None:
        await exchange.respond(b"", headers={"content-type": "application/x-protobuf"})

    async with serve(accept) as server:
        yield server


def decoded(server: LoopbackServer, path: str, message: Any) -> Any:
    for request in server.requests:
        if request.target == path:
            body = request.body
            message.MergeFromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    return message


def values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


async def test_collector_gets_spans_and_metrics(collector: LoopbackServer) -> None:
    resource = Resource.create({"service.name": "test"})
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector.url}/v1/metrics"), 3_600_000)
    meter_provider = MeterProvider([reader], resource)
    telemetry = Telemetry(tracer_provider=tracer_provider, meter_provider=meter_provider)
    async with serve(answer) as server:
        async with trunkline.open_service(
            "openai-compatible", api_url=server.url, default_model="m", api_key=KEY, extensions=[telemetry]
        ) as service:
            await service.chat("Hi")
            async with service.stream("Hi") as stream:
                await stream.finish()
    # The exporters block, while the collector runs in this event loop.
    await anyio.to_thread.run_sync(tracer_provider.shutdown)
    await anyio.to_thread.run_sync(meter_provider.shutdown)

    traces = decoded(collector, "/v1/traces", ExportTraceServiceRequest())
    spans = [span for part in traces.resource_spans for scope in part.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == ["chat m", "chat m"]
    assert [values(span.attributes)["gen_ai.usage.input_tokens"] for span in spans] == [12, 12]
    metrics = decoded(collector, "/v1/metrics", ExportMetricsServiceRequest())
    scopes = [scope for part in metrics.resource_metrics for scope in part.scope_metrics]
    assert {scope.scope.name for scope in scopes} == {"trunkline-otel"}
    found = {metric.name: metric for scope in scopes for metric in scope.metrics}
    [point] = found["gen_ai.client.operation.duration"].histogram.data_points
    assert point.count == 2
    assert list(point.explicit_bounds)[:2] == [0.01, 0.02]
    assert not any(KEY.encode() in request.body for request in collector.requests)
