"""The spans of the gateway's requests."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trunkline_gateway.tracing import make_trace

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_continues_the_trace_of_its_client_and_is_the_parent_of_what_runs_in_it() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span_of = make_trace(provider)
    headers = {b"traceparent": f"00-{TRACE}-b7ad6b7169203331-01".encode(), b"authorization": b"Bearer tlk_secret"}
    with span_of("POST", "/v1/responses", headers, "req_1"):
        inside = trace.get_current_span().get_span_context()
    provider.shutdown()
    [span] = exporter.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.context.span_id == inside.span_id
    assert span.name == "POST /v1/responses"
    assert "tlk_secret" not in span.to_json()
