"""The endpoint of embeddings."""

from __future__ import annotations

import attrs
from trunkline import EmbedResponse, StreamClosed, until_disconnect

from trunkline_gateway.api.endpoint import Endpoint
from trunkline_gateway.api.exchange import Exchange
from trunkline_gateway.keys import Key
from trunkline_gateway.problems import GatewayError
from trunkline_gateway.wires import chat, embeddings


class EmbeddingsEndpoint(Endpoint):
    """`POST /v1/embeddings`, as OpenAI has it."""

    api = "/v1/embeddings"
    dialect = "openai"
    write_error = staticmethod(chat.write_error)

    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Embed the inputs."""
        body = await self.read_json(exchange)
        target = self.calls.find_target(key, body.get("model"))
        read = await exchange.in_thread_if_large(lambda: embeddings.read_request(body, target))
        request = attrs.evolve(read, model=target.model)
        call = self.calls.admit(
            key, target, request, api=self.api, request_id=exchange.request_id, on_grant=exchange.add_limits
        )
        async with call:
            exchange.add_service(target.service)
            async with call.use_service() as service:
                response: EmbedResponse | None = None
                with call.running.scope:
                    call.response = response = await until_disconnect(service.embed(request), receive=exchange.receive)
                if call.running.is_cancelled:
                    raise GatewayError(call.ending)
                if response is None:
                    raise StreamClosed("the client has disconnected", service=target.service)
            exchange.add_warnings(response.warnings, embeddings.ignored_fields(body, target))
            await exchange.send_json(embeddings.write_response(response, body, target))
