"""The extension `otel`: OpenTelemetry spans and metrics of a service's calls, after the GenAI semantic conventions."""

from __future__ import annotations

from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.settings import setting, settings

__version__ = "0.1.0"

__all__ = ["OtelSettings", "__version__", "otel"]


@settings
class OtelSettings(ExtensionSettings):
    """Settings of the extension `otel`."""

    extension = "otel"

    content: bool = setting(
        "Content",
        "Record the messages, instructions, tool definitions, arguments and results, and the text of errors, which may "
        "quote them. The bytes of media are never recorded.",
        default=False,
    )
    propagate: bool = setting(
        "Propagate the trace",
        "Send the trace's headers, such as `traceparent`, to the provider. Baggage is never sent.",
        default=False,
    )
    chunk_times: bool = setting(
        "Chunk times",
        "Record the metric `gen_ai.client.operation.time_per_output_chunk`. With OpenTelemetry's SDK, that takes about "
        "10 µs for each chunk of a stream.",
        default=True,
        advanced=True,
    )
    metric_label: bool = setting(
        "Label in metrics",
        "Add the label of each call, such as a customer, to its metrics. Each label creates new time series, so "
        "use it only if there are few labels.",
        default=False,
        advanced=True,
    )


def _make(settings: OtelSettings) -> object:
    from trunkline_otel.telemetry import Telemetry

    return Telemetry(
        content=settings.content,
        propagate=settings.propagate,
        chunk_times=settings.chunk_times,
        metric_label=settings.metric_label,
    )


otel = Extension(name="otel", settings=OtelSettings, make=_make)
"""The object of the entry point `otel`."""
