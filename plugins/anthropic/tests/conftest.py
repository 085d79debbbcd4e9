"""Both backends, and the provider's own types, made strict, as oracles of what is sent."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ORACLES = Path(os.environ.get("TRUNKLINE_ORACLES") or ROOT.parent / "shared" / "oracles")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def missing(what: str) -> None:
    if os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS") == "1":
        pytest.fail(what)
    pytest.skip(what)


def strict_adapter(module: str, params: str) -> Any:
    path = ORACLES / "strict_td.py"
    if not path.is_file():
        missing(f"no strict_td.py in {ORACLES}; set TRUNKLINE_ORACLES")
    if importlib.util.find_spec("anthropic") is None or importlib.util.find_spec("pydantic") is None:
        missing("the anthropic SDK is not installed")
    twins = sys.modules.get("trunkline_anthropic_strict_td")
    if twins is None:
        spec = importlib.util.spec_from_file_location("trunkline_anthropic_strict_td", path)
        assert spec is not None
        assert spec.loader is not None
        twins = importlib.util.module_from_spec(spec)
        sys.modules["trunkline_anthropic_strict_td"] = twins
        spec.loader.exec_module(twins)
    return twins.strict_adapter(getattr(importlib.import_module(module), params))


@pytest.fixture(scope="session")
def accepted() -> Callable[[bytes], dict[str, Any]]:
    """Decodes a request's body, once the provider's own types, made strict, have taken it.

    They are those of the newer version; what the older one takes besides is taken out first.
    """
    adapter = strict_adapter("anthropic.types.message_create_params", "MessageCreateParams")

    def check(body: bytes) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(body)
        sampling = ("temperature", "top_p", "top_k")
        adapter.validate_python({name: value for name, value in data.items() if name not in sampling})
        return data

    return check


@pytest.fixture(scope="session")
def countable() -> Callable[[bytes], dict[str, Any]]:
    """The same for a request to count tokens."""
    adapter = strict_adapter("anthropic.types.message_count_tokens_params", "MessageCountTokensParams")

    def check(body: bytes) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(body)
        adapter.validate_python(data)
        return data

    return check
