"""What Gemini offers besides chat: the list of models, embeddings, and the count of a request's tokens."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from trunkline.authoring.json import decode_object
from trunkline.authoring.provider import CountTokens, Embed, ListModels, Operations, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import EmbedResponse, ModelInfo

from trunkline_gemini.settings import GeminiSettings
from trunkline_gemini.translate import chat_body, encode
from trunkline_gemini.urls import base_url, method_url

PAGE_SIZE = 1000
"""The models of a page; the most that Gemini gives."""

_HEADERS = {"content-type": "application/json"}


def build_models(context: ServiceContext[GeminiSettings], cursor: str | None) -> WireRequest:
    """The request for a page of models."""
    query = {"pageSize": str(PAGE_SIZE)} | ({"pageToken": cursor} if cursor is not None else {})
    return WireRequest(method="GET", url=endpoint_url(_base(context), "/models", urlencode(query)))


def parse_models(
    context: ServiceContext[GeminiSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """The models of a page, without the `models/` before their names, and the cursor of the next."""
    body = _body(context, wire_response)
    models = body.get("models")
    if not isinstance(models, list):
        raise ProtocolViolation("the list of models has no 'models'", provider=context.provider)
    found = tuple(
        ModelInfo(id=model["name"].removeprefix("models/"), name=_text(model.get("displayName")), raw=model)
        for model in models
        if isinstance(model, dict) and isinstance(model.get("name"), str)
    )
    cursor = _text(body.get("nextPageToken"))
    return found, cursor if found else None


def build_embed(context: ServiceContext[GeminiSettings], request: EmbedRequest) -> Translation:
    """The request for the vectors of some texts; `taskType` and `title` go into `provider_options`."""
    warnings = Warnings()
    if request.user_id is not None:
        warnings.add("unsupported", "user_id", "Gemini has no word for it; it was not sent")
    name = str(request.model)
    each: dict[str, Any] = {"model": name if "/" in name else f"models/{name}"}
    if request.dimensions is not None:
        each["outputDimensionality"] = request.dimensions
    each |= request.provider_options.get(context.provider, {})
    body = {"requests": [{**each, "content": {"parts": [{"text": text}]}} for text in request.texts]}
    url = method_url(_base(context), name, "batchEmbedContents")
    return Translation(wire_request=WireRequest(url=url, headers=_HEADERS, body=encode(body)), warnings=warnings.all())


def parse_embeddings(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> EmbedResponse:
    """The vectors, in the order of the texts. Gemini tells no usage."""
    body = _body(context, wire_response)
    found = body.get("embeddings")
    if not isinstance(found, list):
        raise ProtocolViolation("the answer has no list of embeddings", provider=context.provider)
    try:
        embeddings = tuple(_vector(item) for item in found)
    except (ValueError, OverflowError):
        raise ProtocolViolation("an embedding is not a list of numbers", provider=context.provider) from None
    return EmbedResponse(embeddings=embeddings, raw=body)


def build_count(context: ServiceContext[GeminiSettings], request: ChatRequest) -> Translation:
    """The request for the count of a request's tokens, its tools and system instruction included."""
    warnings = Warnings()
    name = str(request.model)
    inner = {"model": name if "/" in name else f"models/{name}", **chat_body(request, context.provider, warnings)}
    url = method_url(_base(context), name, "countTokens")
    body = encode({"generateContentRequest": inner})
    return Translation(wire_request=WireRequest(url=url, headers=_HEADERS, body=body), warnings=warnings.all())


def parse_count(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> int:
    """The count."""
    total = _body(context, wire_response).get("totalTokens")
    if not isinstance(total, int) or isinstance(total, bool):
        raise ProtocolViolation("the count has no 'totalTokens'", provider=context.provider)
    return total


operations = Operations(
    list_models=ListModels(build=build_models, parse=parse_models),
    embed=Embed(build=build_embed, parse=parse_embeddings),
    count_tokens=CountTokens(build=build_count, parse=parse_count),
)
"""Listing models, embedding and counting tokens."""


def _base(context: ServiceContext[GeminiSettings]) -> str:
    return base_url(context.settings.api_url)[0]


def _body(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> dict[str, Any]:
    return decode_object(wire_response.body, "the answer", provider=context.provider)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _vector(item: object) -> tuple[float, ...]:
    values = item.get("values") if isinstance(item, dict) else None
    if not isinstance(values, list) or not all(type(number) in (int, float) for number in values):
        raise ValueError("no vector")
    return tuple(float(number) for number in values)
