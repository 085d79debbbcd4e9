"""Both backends, and the provider's own types, made strict, as oracles of what is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from strict_types import strict_adapter


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def accepted() -> Callable[[bytes], dict[str, Any]]:
    """Decodes a request's body, once the provider's own types, made strict, have taken it.

    They are those of the newer version; what the older one takes besides is taken out first.
    """
    from anthropic.types.message_create_params import MessageCreateParams

    adapter = strict_adapter(MessageCreateParams)

    def check(body: bytes) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(body)
        sampling = ("temperature", "top_p", "top_k")
        adapter.validate_python({name: value for name, value in data.items() if name not in sampling})
        return data

    return check


@pytest.fixture(scope="session")
def countable() -> Callable[[bytes], dict[str, Any]]:
    """The same for a request to count tokens."""
    from anthropic.types.message_count_tokens_params import MessageCountTokensParams

    adapter = strict_adapter(MessageCountTokensParams)

    def check(body: bytes) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(body)
        adapter.validate_python(data)
        return data

    return check
