"""The service of the embedded model: added at the first start, and whether it has a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from trunkline_gateway import Gateway, GatewaySettings
from trunkline_gateway.embedded_model import PROVIDER, missing_model
from trunkline_llamacpp import model_file

pytestmark = pytest.mark.anyio


async def test_the_service_of_the_first_start_says_how_to_install_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "MODEL_PACKAGES", ())
    async with Gateway(GatewaySettings(data_dir=tmp_path)) as gateway:
        [state] = gateway.services.states()
        assert (state.name, state.provider, state.error) == (PROVIDER, PROVIDER, None)
        found = await missing_model(gateway.services)
    assert found is not None
    assert model_file.INSTALL_MODEL in found


async def test_a_model_that_is_there_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(model_file, "packaged_model", lambda: path)
    async with Gateway(GatewaySettings(data_dir=tmp_path)) as gateway:
        assert await missing_model(gateway.services) is None


async def test_a_service_that_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    async with Gateway(GatewaySettings(data_dir=tmp_path)) as gateway:
        await gateway.services.delete(PROVIDER)
    async with Gateway(GatewaySettings(data_dir=tmp_path)) as gateway:
        assert gateway.services.states() == []
        assert await missing_model(gateway.services) is None
