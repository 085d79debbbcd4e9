"""Listing models and counting tokens: pure build-and-parse pairs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

from trunkline.authoring.json import loads
from trunkline.authoring.provider import CountTokens, ListModels, Operations, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest
from trunkline.response import ModelInfo

from trunkline_anthropic.errors import error_from_body, request_id
from trunkline_anthropic.settings import AnthropicSettings
from trunkline_anthropic.translate import encode, messages_body, request_headers
from trunkline_anthropic.urls import base_url

PAGE = 1000
"""How many models are asked for at once: the most that the API gives."""

# What the endpoint takes, as in the typed schema of the anthropic SDK 2.12.
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
)


def _url(context: ServiceContext[AnthropicSettings], path: str, query: str = "") -> str:
    return endpoint_url(base_url(context.settings.api_url)[0], path, query)


def build_models(context: ServiceContext[AnthropicSettings], cursor: str | None) -> WireRequest:
    """The request for a page of models; `cursor` is the id of the last model of the page before."""
    query = f"limit={PAGE}" + (f"&after_id={quote(cursor, safe='', errors='replace')}" if cursor is not None else "")
    return WireRequest(method="GET", url=_url(context, "/v1/models", query), headers=request_headers(context.settings))


def parse_models(
    context: ServiceContext[AnthropicSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """The models of a page, and the cursor of the next. Raises `ProtocolViolation` for what is no page."""
    body = _body(context, wire_response)
    data = body.get("data")
    if not isinstance(data, list):
        raise _violation(context, wire_response, "the list of models has no 'data'")
    models = tuple(
        ModelInfo(id=model["id"], name=_string(model.get("display_name")), created=_created(model), raw=model)
        for model in data
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    )
    last = _string(body.get("last_id"))
    return models, last if body.get("has_more") is True and models else None


def build_count_tokens(context: ServiceContext[AnthropicSettings], request: ChatRequest) -> Translation:
    """The request for the number of tokens that `request` comes to. Warns only of what would change the number."""
    warnings = Warnings()
    body, betas = messages_body(request, context, warnings)
    counted = {name: body[name] for name in _COUNTED if name in body}
    return Translation(
        wire_request=WireRequest(
            url=_url(context, "/v1/messages/count_tokens"),
            headers=request_headers(context.settings, betas=betas),
            body=encode(counted),
        ),
        warnings=tuple(warning for warning in warnings.all() if warning.kind != "unsupported"),
    )


def parse_count_tokens(context: ServiceContext[AnthropicSettings], wire_response: WireResponse) -> int:
    """The number of tokens. Raises `ProtocolViolation` for a body without one."""
    tokens = _body(context, wire_response).get("input_tokens")
    if type(tokens) is int:
        return tokens
    raise _violation(context, wire_response, "the body has no input_tokens")


def _body(context: ServiceContext[AnthropicSettings], wire_response: WireResponse) -> dict[str, Any]:
    try:
        body = loads(wire_response.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _violation(context, wire_response, "the answer is no JSON object")
    if body.get("error"):
        raise error_from_body(body, provider=context.provider, headers=wire_response.headers)
    return body


def _violation(
    context: ServiceContext[AnthropicSettings], wire_response: WireResponse, message: str
) -> ProtocolViolation:
    return ProtocolViolation(
        message, provider=context.provider, status=wire_response.status, request_id=request_id(wire_response.headers)
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _created(model: dict[str, Any]) -> int | None:
    text, told = _string(model.get("created_at")), model.get("created")
    if text is None:
        # Servers that imitate the API may have OpenAI's form of the list.
        return told if type(told) is int else None
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


OPERATIONS = Operations(
    list_models=ListModels(build=build_models, parse=parse_models),
    count_tokens=CountTokens(build=build_count_tokens, parse=parse_count_tokens),
)
"""What the API offers besides chat. It has no embeddings."""
