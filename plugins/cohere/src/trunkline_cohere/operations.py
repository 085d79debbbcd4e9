"""The operations besides chat: `GET /v1/models` and `POST /v2/embed`. Cohere cannot count a conversation's tokens."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import as_count, as_objects, as_string, decode_object, encode_request, with_options
from trunkline.authoring.model_facts import capabilities_from
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url, query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import EmbedRequest
from trunkline.response import Capability, EmbedResponse, ModelInfo

from trunkline_cohere.errors import error_from_body
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.translate import HEADERS
from trunkline_cohere.urls import base_url
from trunkline_cohere.usage import embedding_usage

PAGE_SIZE = 1000
"""Models per page: the most that Cohere allows."""

_ENCODINGS = ("float", "base64", "int8", "uint8", "binary", "ubinary")


def build_models(context: ServiceContext[CohereSettings], cursor: str | None) -> WireRequest:
    """Build the request for one page of models."""
    query = {"page_size": str(PAGE_SIZE)} | ({"page_token": cursor} if cursor is not None else {})
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v1/models", query_string(query))
    return WireRequest(method="GET", url=url, headers=HEADERS)


def parse_models(
    context: ServiceContext[CohereSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """Return the models of a page and the cursor of the next. Raises `ProtocolViolation` if there is no list."""
    body = _body(context, wire_response)
    models = body.get("models")
    if not isinstance(models, list):
        raise ProtocolViolation("the list of models has no field 'models'", provider=context.provider)
    found = tuple(_model_info(model) for model in as_objects(models) if isinstance(model.get("name"), str))
    cursor = as_string(body.get("next_page_token")) or None
    return found, cursor if found else None


_ENDPOINTS: dict[str, Capability] = {"chat": "chat", "embed": "embeddings"}
_FEATURES: dict[str, Capability] = {
    "tools": "tools",
    "json_schema": "json_schema",
    "vision": "vision",
    "reasoning": "reasoning",
}


def _model_info(model: dict[str, Any]) -> ModelInfo:
    return ModelInfo(
        id=model["name"],
        context_window=as_count(model.get("context_length")) or None,
        capabilities=capabilities_from(model.get("endpoints"), _ENDPOINTS)
        | capabilities_from(model.get("features"), _FEATURES),
        raw=model,
    )


def build_embed(context: ServiceContext[CohereSettings], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts.

    The texts are embedded as documents to be searched. To embed the query that searches them, set `input_type` to
    `search_query` in `provider_options`.
    """
    warnings = Warnings()
    body: dict[str, Any] = {
        "model": request.model,
        "texts": list(request.texts),
        "input_type": "search_document",
        "embedding_types": ["float"],
    }
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    warnings.unsupported(request, supported={"dimensions"})
    body = with_options(body, request.provider_options, context.provider)
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/embed")
    wire_request = WireRequest(url=url, headers=HEADERS, body=encode_request(body))
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_embeddings(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> EmbedResponse:
    """Return the vectors in the order of the texts. If several encodings came, floats win; `raw` has all of them."""
    body = _body(context, wire_response)
    found = body.get("embeddings")
    kind = "float"
    if isinstance(found, dict):
        kind = next((name for name in _ENCODINGS if found.get(name)), kind)
        found = found.get(kind)
    vectors = decode_vectors(found, provider=context.provider)
    return EmbedResponse(embeddings=vectors, usage=embedding_usage(body.get("meta")), raw=body)


OPERATIONS = Operations(
    list_models=Operation(build=build_models, parse=parse_models),
    embed=Operation(build=build_embed, parse=parse_embeddings),
)
"""Listing models and embedding."""


def _body(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> dict[str, Any]:
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    if isinstance(body.get("message"), str):
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    return body
