"""The extension keeps the promises of every extension."""

from __future__ import annotations

import pytest
from trunkline import ChatRequest
from trunkline.testing import ExtensionTests
from trunkline_prices import Prices, PricesSettings


class TestPrices(ExtensionTests):
    request = ChatRequest(messages="Why is the sky blue?", max_output_tokens=100)
    refused = (ChatRequest(messages="Why is the sky blue?", max_output_tokens=1_000_000),)

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def extension(self) -> object:
        return Prices(PricesSettings(budget=1, label_budget=1, prices={"m": {"input": 1, "output": 2}}))
