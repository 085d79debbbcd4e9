"""OpenTelemetry spans of the gateway's requests, if `opentelemetry-api` is installed.

A request's span has the client's span as its parent, and the extension `otel` of a service makes its spans below it.
The OpenTelemetry SDK is set up outside: `opentelemetry-instrument trunkline serve`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

Trace = Callable[[str, str, Mapping[bytes, bytes], str], AbstractContextManager[None]]
"""Makes the span of a request, from its method, path, headers and id."""


def make_trace(provider: TracerProvider | None = None) -> Trace:
    """Return the function that makes spans, or one that does nothing if OpenTelemetry is not installed."""
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        return lambda method, path, headers, request_id: nullcontext()

    tracer = trace.get_tracer("trunkline_gateway", tracer_provider=provider)

    @contextmanager
    def span(method: str, path: str, headers: Mapping[bytes, bytes], request_id: str) -> Iterator[None]:
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        attributes = {"http.request.method": method, "http.route": path, "trunkline.request_id": request_id}
        with tracer.start_as_current_span(
            f"{method} {path}", context=propagate.extract(carrier), kind=trace.SpanKind.SERVER, attributes=attributes
        ):
            yield

    return span
