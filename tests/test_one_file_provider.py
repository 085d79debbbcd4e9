"""The smallest provider with a wire format of its own passes the kit, on the wire of `trunkline new-plugin`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from one_file_provider import bolt
from trunkline.cli.new_plugin import plugin_files
from trunkline.testing import Exchange, ProviderTests, canary, serve

ROOT = Path(__file__).parents[1]

_samples: dict[str, Any] = {}
exec(plugin_files("bolt", "wire")["tests/test_bolt.py"], _samples)


class TestOneFileProvider(ProviderTests):
    provider = bolt
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = _samples["WIRE"]
    skips = {
        "test_provider_options_are_passed_on": "cut to the scope that is compared",
        "test_details_are_sent_once": "cut to the scope that is compared",
        "test_requests_are_as_the_api_documents_them": "sends fewer fields than the scaffold, whose sample this is",
    }


@pytest.mark.anyio
async def test_file_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.request.headers["authorization"] == "Bearer a-key"
        await exchange.respond(b'{"text": "Because.", "reason": "stop"}')

    monkeypatch.setenv("BOLT_API_KEY", "a-key")
    async with serve(handler) as server:
        monkeypatch.setenv("TRUNKLINE_BOLT_API_URL", server.url)
        done = await anyio.run_process([sys.executable, str(ROOT / "docs/examples/one_file_provider.py")])
    assert done.stdout.decode().strip() == "Because."


def test_the_comparison_page_has_the_current_line_counts(tmp_path: Path) -> None:
    variant = tmp_path / "variant.py"
    variant.write_text(plugin_files("acme", "chat")["src/trunkline_acme/__init__.py"], encoding="utf-8")
    one_file = "docs/examples/one_file_provider.py"
    command = [sys.executable, "docs/count_lines.py", one_file, str(variant)]
    counted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    for name, (lines, without) in zip(
        ("a new wire format, in one file", "a variant of Chat Completions"),
        re.findall(r"(\d+) lines, +(\d+) without", counted),
        strict=True,
    ):
        assert f"| {name} | {lines} | {without} |" in page
