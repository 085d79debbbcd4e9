"""The extension keeps the promises of every extension."""

from __future__ import annotations

import json
from decimal import Decimal

import attrs
import pytest
from trunkline import ChatRequest, open_service
from trunkline.testing import Exchange, ExtensionTests, serve
from trunkline_prices import Charge, Prices, PricesSettings, cost


class TestPrices(ExtensionTests):
    request = ChatRequest(messages="Why is the sky blue?", max_output_tokens=100)
    refused = (ChatRequest(messages="Why is the sky blue?", max_output_tokens=1_000_000),)

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def extension(self) -> object:
        return Prices(PricesSettings(budget=1, label_budget=1, prices={"m": {"input": 1, "output": 2}}))


@attrs.define
class Place:
    city: str


@pytest.mark.anyio
async def test_the_cost_of_an_answer_in_several_attempts_is_not_that_of_the_last_one(anyio_backend: str) -> None:
    async def answer(exchange: Exchange) -> None:
        text = '{"city": 5}' if exchange.number == 1 else '{"city": "Oslo"}'
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        await exchange.respond(json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode())

    charges: list[Charge] = []
    prices = Prices(PricesSettings(prices={"m": {"input": 1, "output": 2}}), on_charge=charges.append)
    async with (
        serve(answer) as server,
        open_service("openai-compatible", api_url=server.url, default_model="m", extensions=[prices]) as service,
    ):
        retried = cost(await service.chat("Where?", answer_type=Place, answer_retries=1))
        single = cost(await service.chat("Where?", answer_type=Place))
    assert single.total == Decimal("0.0012")
    assert (retried.total, retried.at_least, retried.reason) == (None, Decimal("0.0012"), "incomplete")
    assert [charge.amount for charge in charges] == [Decimal("0.0012")] * 3
