"""The endpoint of the list of models."""

from __future__ import annotations

from starlette.types import Scope
from trunkline import ModelInfo

from trunkline_gateway.api.endpoint import Endpoint
from trunkline_gateway.api.exchange import Exchange
from trunkline_gateway.keys import Key
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.wires import Dialect, models


class ModelsEndpoint(Endpoint):
    """`GET /v1/models` and `GET /v1/models/{id}`, in the form of the client that asks."""

    api = "/v1/models"
    dialect = "openai"

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
        describe = models.write_anthropic_model if is_anthropic else models.write_openai_model
        for model in listed:
            if model.info.id == wanted:
                await exchange.send_json(describe(model.info))
                return
        if self._is_service(key, wanted):
            await exchange.send_json(describe(ModelInfo(id=wanted)))
            return
        message = f"there is no model {wanted!r}, or the key may not use it"
        raise GatewayError(Problem(kind="not_found", status=404, message=message, code="model_not_found"))

    def _is_service(self, key: Key, name: str) -> bool:
        """Whether the key may call a service by its name alone. The list does not repeat these names."""
        try:
            return self.calls.find_target(key, name).service == name
        except GatewayError:
            return False
