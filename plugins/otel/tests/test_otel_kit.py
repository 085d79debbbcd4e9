"""The rules that all extensions follow, and how services get the extension."""

from __future__ import annotations

from pathlib import Path

import pytest
import trunkline
from trunkline.testing import ExtensionTests, serve
from trunkline_otel import OtelSettings

from .conftest import Recorder, answer


class TestOtel(ExtensionTests):
    """Without an SDK."""

    def extension(self) -> object:
        return OtelSettings()


class TestOtelWithEverything(ExtensionTests):
    """With an SDK and all settings."""

    def extension(self) -> object:
        return Recorder().telemetry(content=True, propagate=True)


@pytest.mark.anyio
async def test_configuration_file_names_the_extension_for_all_services(tmp_path: Path) -> None:
    async with serve(answer) as server:
        path = tmp_path / "trunkline.toml"
        path.write_text(
            f"""
            [defaults]
            extensions = ["otel"]

            [services.main]
            provider = "openai-compatible"
            api_url = "{server.url}"
            default_model = "m"
            """,
            encoding="utf-8",
        )
        async with trunkline.open_services(path) as services:
            assert (await services["main"].chat("Hi")).text == "Rayleigh scattering."
            assert services["main"].settings.extensions == (OtelSettings(),)
