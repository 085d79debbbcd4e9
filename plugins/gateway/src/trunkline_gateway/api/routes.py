"""The routes of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route

from trunkline_gateway.api.count_tokens import CountTokensEndpoint
from trunkline_gateway.api.embeddings import EmbeddingsEndpoint
from trunkline_gateway.api.generation import CHAT, MESSAGES, RESPONSES, GenerationEndpoint
from trunkline_gateway.api.models import ModelsEndpoint
from trunkline_gateway.api.openapi import openapi

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState


def api_routes(gateway: GatewayState) -> list[BaseRoute]:
    """Return the routes below `/v1`, and the document that describes them."""
    models = ModelsEndpoint(gateway)
    return [
        *(Route(wire.api, GenerationEndpoint(gateway, wire), methods=["POST"]) for wire in (CHAT, RESPONSES, MESSAGES)),
        Route(CountTokensEndpoint.api, CountTokensEndpoint(gateway), methods=["POST"]),
        Route(EmbeddingsEndpoint.api, EmbeddingsEndpoint(gateway), methods=["POST"]),
        Route("/openapi.json", openapi),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{id:path}", models, methods=["GET"]),
    ]
