"""Listing models and counting tokens: pure pairs of functions that build a request and parse its response."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import as_count, as_object, as_objects, as_string, decode_object, encode_request
from trunkline.authoring.model_facts import capabilities_from
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.urls import path_segment, query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest
from trunkline.response import Capability, ModelInfo
from trunkline.settings import Settings

from trunkline_anthropic.batches import batch_operations
from trunkline_anthropic.endpoint import EndpointFor, MessagesEndpoint, S
from trunkline_anthropic.errors import error_from_body
from trunkline_anthropic.translate import messages_body

PAGE = 1000
"""How many models a page has: the maximum that the API allows."""

# The fields that the endpoint accepts, from the anthropic SDK 2.14, types/beta/message_count_tokens_params.py.
_COUNTED = (
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "speed",
    # These fields need a beta:
    "billing_policy",
    "compaction",
    "context_management",
    "mcp_servers",
    # These fields are headers of Anthropic's own API. Source: the anthropic SDK 2.14, lib/bedrock and lib/vertex.
    "anthropic_version",
    "anthropic_beta",
)


def messages_operations(context: ServiceContext[S], endpoint: EndpointFor[S]) -> Operations:
    """Return what a place that serves the Messages API offers besides chat. It has no embeddings.

    `context` decides which operations there are. A request is built for the service that sends it.
    """

    def models(context: ServiceContext[S], cursor: str | None) -> WireRequest:
        return build_models(endpoint(context.settings), cursor)

    def model_info(context: ServiceContext[S], model: str) -> WireRequest:
        return build_model_info(endpoint(context.settings), model)

    def count_tokens(context: ServiceContext[S], request: ChatRequest) -> Translation:
        return build_count_tokens(endpoint(context.settings), context.provider, request)

    place = endpoint(context.settings)
    return Operations(
        list_models=Operation(build=models, parse=parse_models) if place.has_models else None,
        count_tokens=Operation(build=count_tokens, parse=parse_count_tokens) if place.counts_tokens else None,
        model_info=Operation(build=model_info, parse=parse_model_info) if place.has_models else None,
        batches=batch_operations(endpoint) if place.has_batches else None,
    )


def build_models(endpoint: MessagesEndpoint, cursor: str | None) -> WireRequest:
    """Build the request for a page of models. `cursor` is the id of the last model on the page before."""
    query = query_string({"limit": str(PAGE)} | ({"after_id": cursor} if cursor is not None else {}))
    return WireRequest(
        method="GET", url=endpoint.address("/v1/models", query=query), headers=endpoint.request_headers()
    )


def parse_models(
    context: ServiceContext[Settings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """Return the models of a page and the cursor of the next page. Raises `ProtocolViolation` if it is no page."""
    body = _body(context, wire_response)
    data = body.get("data")
    if not isinstance(data, list):
        raise ProtocolViolation("the list of models has no 'data'", provider=context.provider)
    models = tuple(_model_info(model) for model in as_objects(data) if isinstance(model.get("id"), str))
    last = as_string(body.get("last_id"))
    return models, last if body.get("has_more") is True and models else None


def build_model_info(endpoint: MessagesEndpoint, model: str) -> WireRequest:
    """Build the request for one model. Unlike the list, the API knows aliases here, such as `claude-sonnet-4-5`."""
    url = endpoint.address(f"/v1/models/{path_segment(model)}")
    return WireRequest(method="GET", url=url, headers=endpoint.request_headers())


def parse_model_info(context: ServiceContext[Settings], wire_response: WireResponse) -> ModelInfo:
    """Return what the API reports about a model. Raises `ProtocolViolation` if it is no model."""
    model = _body(context, wire_response)
    if not isinstance(model.get("id"), str):
        raise ProtocolViolation("the model has no 'id'", provider=context.provider)
    return _model_info(model)


# From the anthropic SDK 2.14, types/model_capabilities.py.
_CAPABILITIES: dict[str, Capability] = {
    "image_input": "vision",
    "pdf_input": "documents",
    "structured_outputs": "json_schema",
    "thinking": "reasoning",
}


def _model_info(model: dict[str, Any]) -> ModelInfo:
    capabilities = as_object(model.get("capabilities"))
    return ModelInfo(
        id=model["id"],
        name=as_string(model.get("display_name")),
        created=_created(model),
        context_window=as_count(model.get("max_input_tokens")) or None,
        output_token_limit=as_count(model.get("max_tokens")) or None,
        capabilities=capabilities_from(
            {name: as_object(capability).get("supported") for name, capability in capabilities.items()}, _CAPABILITIES
        ),
        raw=model,
    )


def build_count_tokens(endpoint: MessagesEndpoint, provider: str, request: ChatRequest) -> Translation:
    """Build the request that counts the tokens of `request`. Its warnings are those that affect the count."""
    warnings, model = Warnings(), request.model or ""
    body, betas = messages_body(request, provider, endpoint, warnings)
    counted = {name: body[name] for name in _COUNTED if name in body}
    return Translation(
        wire_request=WireRequest(
            url=endpoint.address("/v1/messages/count_tokens", model=model),
            headers=endpoint.request_headers(model=model, betas=betas),
            body=encode_request(counted),
        ),
        warnings=tuple(warning for warning in warnings.all() if warning.kind != "unsupported"),
    )


def parse_count_tokens(context: ServiceContext[Settings], wire_response: WireResponse) -> int:
    """Return the number of tokens. Raises `ProtocolViolation` if the body has none."""
    tokens = as_count(_body(context, wire_response).get("input_tokens"))
    if tokens is None:
        raise ProtocolViolation("the count of tokens has no input_tokens", provider=context.provider)
    return tokens


def _body(context: ServiceContext[Settings], wire_response: WireResponse) -> dict[str, Any]:
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    if body.get("error"):
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    return body


def _created(model: dict[str, Any]) -> int | None:
    text = as_string(model.get("created_at"))
    if text is None:
        # Servers that imitate the API may list models in OpenAI's form.
        return as_count(model.get("created"))
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
