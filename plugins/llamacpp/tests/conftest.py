"""A model for the tests: the one in an installed package."""

import os
from pathlib import Path

import pytest
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def model_file() -> Path:
    path = packaged_model()
    if path is not None:
        return path
    reason = f"needs a model: {INSTALL_MODEL}"
    if os.environ.get("TRUNKLINE_REQUIRE_MODEL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
