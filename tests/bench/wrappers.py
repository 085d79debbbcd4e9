"""Measure what each wrapper adds to a call: as a ratio to the bare service, in one process, one after another.

    python tests/bench/wrappers.py                  the wrappers that are installed
    python tests/bench/wrappers.py --rounds 40

A round makes the calls of every wrapper, and the order rotates from round to round. The first figure is the ratio of
the lowest times, because other programs on the machine can only make a round slower. The second one is the median of
the ratios within a round. `call` is a whole response; `stream` is one of 200 texts, each in a write of its own.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import anyio  # noqa: E402
import trunkline  # noqa: E402
from payloads import MODEL, PROMPT  # noqa: E402
from trunkline import Service  # noqa: E402

TEXTS = 200
CALLS = {"call": 40, "stream": 4}
"""The calls that one time is taken of."""


class PassThrough(trunkline.Middleware):
    """A middleware that changes nothing."""

    @trunkline.hookimpl
    def trunkline_middleware(self, context: object) -> trunkline.Middleware:
        return self

    async def chat(
        self, call: trunkline.Call, request: trunkline.ChatRequest, proceed: Callable[..., object]
    ) -> trunkline.ChatResponse:
        return await proceed(request)  # type: ignore[no-any-return, misc]

    def stream(self, call: trunkline.Call, request: trunkline.ChatRequest, proceed: Callable[..., object]) -> object:  # type: ignore[override]
        return proceed(request)


class Watch(trunkline.Observer):
    """An observer that does nothing."""

    @trunkline.hookimpl
    def trunkline_observer(self, context: object) -> trunkline.Observer:
        return self


def wrappers(url: str) -> Mapping[str, Service]:
    """Return the services to compare. The first one is the bare service."""

    def bare(*extensions: object) -> Service:
        settings = {"api_url": url, "default_model": MODEL, "http_library": "httpx2"}
        return trunkline.open_service("openai-compatible", extensions=extensions, **settings)

    found: dict[str, Service] = {
        "bare": bare(),
        "with_options": bare().with_options(max_retries=1, state={"bench": 1}),
        "observer": bare(Watch()),
        "middleware": bare(PassThrough()),
        "fallback": trunkline.fallback(bare(), bare()),
    }
    if hasattr(trunkline, "limit"):
        found["limit"] = trunkline.limit(bare(), concurrency=100, requests_per_minute=10**7, tokens_per_minute=10**10)
    if hasattr(trunkline, "balance"):
        found["balance"] = trunkline.balance(bare(), bare())
    if find_spec("trunkline_logging") is not None:
        found["logging"] = bare("logging")
    if find_spec("trunkline_prices") is not None:
        found["prices"] = bare("prices")
    if find_spec("trunkline_otel") is not None:
        found["otel, no SDK"] = bare("otel")
    return found


def with_sdk(services: dict[str, Service], url: str) -> None:
    """Install OpenTelemetry's SDK, which cannot be undone, and add a service whose spans it keeps."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    settings = {"api_url": url, "default_model": MODEL, "http_library": "httpx2"}
    services["otel, SDK"] = trunkline.open_service("openai-compatible", extensions=["otel"], **settings)
    services["bare"] = services.pop("bare")


async def call(service: Service) -> None:
    await service.chat(PROMPT)


async def stream(service: Service) -> None:
    async with service.stream(PROMPT) as answer:
        async for _ in answer:
            pass


async def measure(services: Mapping[str, Service], kind: str, rounds: int) -> dict[str, list[float]]:
    run = {"call": call, "stream": stream}[kind]
    times: dict[str, list[float]] = {name: [] for name in services}
    for service in services.values():
        for _ in range(5):
            await run(service)
    names = list(services)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            started = time.perf_counter()
            for _ in range(CALLS[kind]):
                await run(services[name])
            times[name].append((time.perf_counter() - started) / CALLS[kind])
    return times


def show(kind: str, times: Mapping[str, list[float]]) -> None:
    floor = times["bare"]
    print(f"{kind}: bare {min(floor) * 1e6:,.0f} µs")
    for name, taken in times.items():
        if name != "bare":
            ratio = statistics.median(own / bare for own, bare in zip(taken, floor, strict=True))
            print(f"  {name:14} {min(taken) / min(floor):.2f} × (median {ratio:.2f} ×)")


async def main(origin: str, rounds: int) -> None:
    url = f"{origin}/n{TEXTS}/v1"
    services = dict(wrappers(url))
    for kind in CALLS:
        show(kind, await measure(services, kind, rounds))
    if "otel, no SDK" in services and find_spec("opentelemetry.sdk") is not None:
        chosen: dict[str, Service] = {"bare": services["bare"]}
        with_sdk(chosen, url)
        for kind in CALLS:
            show(kind, await measure(chosen, kind, rounds))
        services |= chosen
    for service in services.values():
        await service.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    server = subprocess.Popen([sys.executable, str(HERE / "provider.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        anyio.run(main, f"http://127.0.0.1:{server.stdout.readline().strip()}", options.rounds)
    finally:
        server.terminate()
        server.wait()
