"""The endpoint that counts the tokens of a request."""

from __future__ import annotations

from functools import partial

from trunkline import CallWarning, UnsupportedOperation

from trunkline_gateway.api.endpoint import CallEndpoint
from trunkline_gateway.api.exchange import Exchange
from trunkline_gateway.keys import Key
from trunkline_gateway.wires import messages

_ESTIMATED = CallWarning(
    kind="emulated",
    subject="count_tokens",
    message="the provider does not count tokens, so this is an estimate",
    lossy=True,
)


class CountTokensEndpoint(CallEndpoint):
    """`POST /v1/messages/count_tokens`, as Anthropic has it. A provider that does not count gets an estimate."""

    api = "/v1/messages/count_tokens"
    dialect = "anthropic"
    is_free = True

    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Count the tokens of a request. Counting is free, so it is no call of the budget; it counts as a request."""
        read = partial(messages.read_count_request, betas=exchange.header(b"anthropic-beta"))
        body, call = await self.admit(exchange, key, read)
        warnings: list[CallWarning] = []
        async with call:
            exchange.add_service(call.target.service)
            async with call.use_service() as service:
                try:
                    tokens = await self.ask(exchange, call, service.count_tokens(call.request))
                except UnsupportedOperation:
                    tokens = call.input_estimate
                    warnings.append(_ESTIMATED)
            exchange.add_warnings(warnings, messages.ignored_fields(body, call.target))
            await exchange.send_json(messages.write_count(tokens))
