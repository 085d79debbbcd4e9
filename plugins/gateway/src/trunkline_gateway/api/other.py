"""The other endpoints: embeddings, counts of tokens, and the list of models."""

from __future__ import annotations

import attrs
from starlette.types import Scope
from trunkline import CallWarning, EmbedResponse, StreamClosed, UnsupportedOperation, until_disconnect

from trunkline_gateway.api.endpoint import Endpoint
from trunkline_gateway.api.exchange import ClientGone, Exchange
from trunkline_gateway.keys import Key
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.wires import Dialect, chat, embeddings, messages, models

_ESTIMATED = CallWarning(
    kind="emulated",
    subject="count_tokens",
    message="the provider does not count tokens, so this is an estimate",
    lossy=True,
)


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
                    raise ClientGone
            exchange.add_warnings(response.warnings, embeddings.ignored_fields(body, target))
            await exchange.send_json(embeddings.write_response(response, body, target))


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


class ModelsEndpoint(Endpoint):
    """`GET /v1/models` and `GET /v1/models/{id}`, in the form of the client that asks."""

    api = "/v1/models"
    dialect = "openai"
    write_error = staticmethod(chat.write_error)

    def dialect_of(self, scope: Scope) -> Dialect:
        """See `Endpoint.dialect_of`. Anthropic's SDKs send the version of their API."""
        return "anthropic" if any(name == b"anthropic-version" for name, _ in scope["headers"]) else "openai"

    async def answer(self, exchange: Exchange, key: Key) -> None:
        """List the models that the key may use, or describe one."""
        is_anthropic = exchange.dialect == "anthropic"
        listed = [model for model in await self.gateway.models.list() if key.may_use(*model.names)]
        wanted = exchange.path_parameter("id")
        if wanted is None:
            infos = [model.info for model in listed]
            if is_anthropic:
                page = {name: exchange.query.get(name) for name in ("limit", "after_id", "before_id")}
                await exchange.send_json(models.write_anthropic_list(infos, **page))
            else:
                await exchange.send_json(models.write_openai_list(infos))
            return
        for model in listed:
            if model.info.id == wanted:
                describe = models.write_anthropic_model if is_anthropic else models.write_openai_model
                await exchange.send_json(describe(model.info))
                return
        message = f"there is no model {wanted!r}, or the key may not use it"
        raise GatewayError(Problem(kind="not_found", status=404, message=message, code="model_not_found"))
