"""The endpoint that counts the tokens of a request."""

from __future__ import annotations

import attrs
from trunkline import CallWarning, StreamClosed, UnsupportedOperation, until_disconnect

from trunkline_gateway.api.endpoint import Endpoint
from trunkline_gateway.api.exchange import Exchange
from trunkline_gateway.keys import Key
from trunkline_gateway.problems import GatewayError
from trunkline_gateway.wires import messages

_ESTIMATED = CallWarning(
    kind="emulated",
    subject="count_tokens",
    message="the provider does not count tokens, so this is an estimate",
    lossy=True,
)


class CountTokensEndpoint(Endpoint):
    """`POST /v1/messages/count_tokens`, as Anthropic has it. A provider that does not count gets an estimate."""

    api = "/v1/messages/count_tokens"
    dialect = "anthropic"
    write_error = staticmethod(messages.write_error)

    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Count the tokens of a request. Counting is free, so it is no call of the budget; it counts as a request."""
        body = await self.read_json(exchange)
        target = self.calls.find_target(key, body.get("model"))
        read = await exchange.in_thread_if_large(lambda: messages.read_count_request(body, target))
        request = attrs.evolve(read, model=target.model)
        call = self.calls.admit(
            key,
            target,
            request,
            api=self.api,
            request_id=exchange.request_id,
            on_grant=exchange.add_limits,
            is_free=True,
        )
        async with call:
            exchange.add_service(target.service)
            tokens: int | None = None
            async with call.use_service() as service:
                with call.running.scope:
                    try:
                        tokens = await until_disconnect(service.count_tokens(request), receive=exchange.receive)
                    except UnsupportedOperation:
                        tokens = call.input_estimate
                        exchange.add_warnings([_ESTIMATED])
            if call.running.is_cancelled:
                raise GatewayError(call.ending)
            if tokens is None:
                raise StreamClosed("the client has disconnected", service=target.service)
            await exchange.send_json(messages.write_count(tokens))
