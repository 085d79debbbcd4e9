"""The endpoint of embeddings."""

from __future__ import annotations

from trunkline_gateway.api.endpoint import CallEndpoint
from trunkline_gateway.api.exchange import Exchange
from trunkline_gateway.keys import Key
from trunkline_gateway.wires import embeddings


class EmbeddingsEndpoint(CallEndpoint):
    """`POST /v1/embeddings`, as OpenAI has it."""

    api = "/v1/embeddings"
    dialect = "openai"

    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Embed the inputs."""
        body, call = await self.admit(exchange, key, embeddings.read_request)
        async with call:
            exchange.add_service(call.target.service)
            async with call.use_service() as service:
                call.response = response = await self.ask(exchange, call, service.embed(call.request))
            exchange.add_warnings(response.warnings, embeddings.ignored_fields(body, call.target))
            await exchange.send_json(embeddings.write_response(response, body, call.target))
