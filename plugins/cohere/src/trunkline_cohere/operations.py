"""What Cohere offers besides chat: `GET /v1/models` and `POST /v2/embed`. It counts no tokens of a conversation."""

from __future__ import annotations

import binascii
import struct
from base64 import b64decode
from typing import Any
from urllib.parse import urlencode

from trunkline.authoring.json import loads
from trunkline.authoring.provider import Embed, ListModels, Operations, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import EmbedRequest
from trunkline.response import EmbedResponse, ModelInfo, Usage

from trunkline_cohere.errors import error_from_body
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.translate import encode, request_headers
from trunkline_cohere.urls import base_url
from trunkline_cohere.usage import count

PAGE_SIZE = 1000
"""The models of a page; the most that Cohere gives."""

_ENCODINGS = ("float", "base64", "int8", "uint8", "binary", "ubinary")


def build_models(context: ServiceContext[CohereSettings], cursor: str | None) -> WireRequest:
    """The request for a page of models."""
    query = {"page_size": str(PAGE_SIZE)} | ({"page_token": cursor} if cursor is not None else {})
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v1/models", urlencode(query, errors="replace"))
    return WireRequest(method="GET", url=url, headers=request_headers(context.settings))


def parse_models(
    context: ServiceContext[CohereSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """The models of a page, and the cursor of the next. Raises `ProtocolViolation` for what is none."""
    body = _body(context, wire_response)
    models = body.get("models")
    if not isinstance(models, list):
        raise _violation(context, wire_response, "the list of models has no 'models'")
    found = tuple(
        ModelInfo(id=model["name"], raw=model)
        for model in models
        if isinstance(model, dict) and isinstance(model.get("name"), str)
    )
    cursor = body.get("next_page_token")
    return found, cursor if isinstance(cursor, str) and cursor and found else None


def build_embed(context: ServiceContext[CohereSettings], request: EmbedRequest) -> Translation:
    """The request for the vectors of some texts.

    They are embedded as documents to be found; for the question that finds them set `input_type` to `search_query` in
    `provider_options`.
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
    if request.user_id is not None:
        warnings.add("unsupported", "user_id", "Cohere has no word for it; it was not sent")
    body.update(request.provider_options.get(context.provider, {}))
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/embed")
    wire_request = WireRequest(url=url, headers=request_headers(context.settings), body=encode(body))
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_embeddings(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> EmbedResponse:
    """The vectors, in the order of the texts; numbers where there are several kinds. `raw` holds them all."""
    body = _body(context, wire_response)
    found = body.get("embeddings")
    kind = "float"
    if isinstance(found, dict):
        kind = next((name for name in _ENCODINGS if found.get(name)), kind)
        found = found.get(kind)
    if not isinstance(found, list):
        raise _violation(context, wire_response, "the answer has no list of embeddings")
    try:
        embeddings = tuple(_vector(value) for value in found)
    except (ValueError, TypeError, OverflowError, struct.error, binascii.Error):
        raise _violation(context, wire_response, "an embedding is neither numbers nor base64") from None
    return EmbedResponse(embeddings=embeddings, usage=_usage(body.get("meta")), raw=body)


operations = Operations(
    list_models=ListModels(build=build_models, parse=parse_models),
    embed=Embed(build=build_embed, parse=parse_embeddings),
)
"""Listing models and embedding."""


def _vector(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        # Little-endian float32, as numpy writes it.
        data = b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise ValueError("no vector")
    return tuple(float(number) for number in value)


def _usage(meta: Any) -> Usage | None:
    if not isinstance(meta, dict):
        return None
    for key in ("tokens", "billed_units"):
        told = meta.get(key)
        if isinstance(told, dict) and (tokens := count(told.get("input_tokens"))) is not None:
            return Usage(input_tokens=tokens, total_tokens=tokens, raw=meta)
    return None


def _body(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> dict[str, Any]:
    try:
        body = loads(wire_response.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _violation(context, wire_response, "the answer is not a JSON object")
    if isinstance(body.get("message"), str):
        raise error_from_body(body, provider=context.provider, headers=wire_response.headers)
    return body


def _violation(context: ServiceContext[CohereSettings], wire_response: WireResponse, message: str) -> ProtocolViolation:
    return ProtocolViolation(
        message,
        provider=context.provider,
        status=wire_response.status,
        request_id=wire_response.headers.get("x-debug-trace-id"),
    )
