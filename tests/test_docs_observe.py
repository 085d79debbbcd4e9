"""The program of the observability guide sends spans, metrics and log lines, and needs few lines for that."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trunkline
from doc_examples import examples
from model_server import model
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trunkline.testing import Exchange, serve
from trunkline_otel.telemetry import Telemetry

ROOT = Path(__file__).parents[1]
PROGRAM = next(
    example for example in examples(ROOT / "docs" / "howto" / "observe.md", ROOT) if example.language == "python"
).code
APPLICATION = """
import asyncio
import trunkline

async def main() -> None:
    async with trunkline.open_service("openai", default_model="gpt-5.4-mini") as service:
        async with service.stream("Why is the sky blue?") as stream:
            async for text in stream.text:
                print(text, end="", flush=True)

asyncio.run(main())
"""
"""The program without telemetry."""


def lines(code: str) -> int:
    return len([line for line in code.splitlines() if line.strip()])


def test_telemetry_takes_at_most_15_lines() -> None:
    assert lines(PROGRAM) - lines(APPLICATION) <= 15


def test_program_sends_spans_and_metrics_and_writes_log_lines(tmp_path: Path) -> None:
    exported: dict[str, bytes] = {}

    async def answer(exchange: Exchange) -> None:
        body = exchange.request.body
        if exchange.request.target.startswith("/v1/") and b"gen_ai" in (
            body := gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        ):
            exported[exchange.request.target] = body
            await exchange.respond(b"", headers={"content-type": "application/x-protobuf"})
        else:
            await model(exchange)

    def run(url: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "app.py").write_text(PROGRAM, encoding="utf-8")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRUNKLINE_"))}
        environ |= {
            "OPENAI_API_KEY": "a-key-for-tests",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "TRUNKLINE_OPENAI_API_URL": url,
        }
        return subprocess.run(
            [sys.executable, "app.py"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

    async def main() -> subprocess.CompletedProcess[str]:
        async with serve(answer) as server:
            return await anyio.to_thread.run_sync(run, server.url)

    done = anyio.run(main)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert re.search(r"INFO:trunkline\.calls:call=1 service=openai .* outcome=finished duration=", done.stderr)
    assert b"chat gpt-5.4-mini" in exported["/v1/traces"]
    assert b"gen_ai.client.operation.duration" in exported["/v1/metrics"]
    assert b"a-key-for-tests" not in b"".join(exported.values())


@pytest.mark.parametrize("method", ["chat", "stream"])
def test_spans_and_log_lines_have_the_cost_of_the_extension_prices(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    caplog.set_level("INFO", "trunkline.calls")

    async def main() -> None:
        extensions = [Telemetry(tracer_provider=provider), "logging", "prices"]
        async with serve(model) as server:
            async with trunkline.open_service(
                "openai", api_url=server.url, api_key="k", default_model="gpt-4o", extensions=extensions
            ) as service:
                if method == "chat":
                    await service.chat("Why is the sky blue?")
                else:
                    async with service.stream("Why is the sky blue?") as stream:
                        await stream.finish()

    anyio.run(main)
    [span] = exporter.get_finished_spans()
    [record] = [record for record in caplog.records if record.name == "trunkline.calls"]
    assert (span.attributes or {})["trunkline.cost.usd"] == record.__dict__["cost_usd"] > 0
