"""The operations besides chat: listing models, embedding, and counting a request's tokens."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.json import (
    as_count,
    as_object,
    as_objects,
    as_string,
    decode_object,
    encode_request,
    with_options,
)
from trunkline.authoring.model_facts import capabilities_from
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url, path_segments, query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import Capability, EmbedResponse, ModelInfo
from trunkline.settings import Settings

from trunkline_gemini.batches import BATCHES
from trunkline_gemini.generated_media import generate_images, generate_speech
from trunkline_gemini.inputs import MULTIMODAL, NO_TASKS, TASKS, content_parts
from trunkline_gemini.model_facts import facts_of
from trunkline_gemini.settings import GeminiSettings
from trunkline_gemini.translate import HEADERS, chat_body
from trunkline_gemini.urls import base_url, default_url, model_path
from trunkline_gemini.usage import usage_from

PAGE_SIZE = 1000
"""Models per page: the most that Gemini allows."""


def build_models(context: ServiceContext[GeminiSettings], cursor: str | None) -> WireRequest:
    """Build the request for one page of models."""
    query = {"pageSize": str(PAGE_SIZE)} | ({"pageToken": cursor} if cursor is not None else {})
    return WireRequest(method="GET", url=endpoint_url(_base(context), "/models", query_string(query)))


def parse_models(
    context: ServiceContext[GeminiSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """Return the models of a page, without the prefix `models/`, and the cursor of the next page."""
    body = _body(context, wire_response)
    models = body.get("models")
    if not isinstance(models, list):
        raise ProtocolViolation("the list of models has no field 'models'", provider=context.provider)
    found = tuple(_model_info(model) for model in as_objects(models) if isinstance(model.get("name"), str))
    cursor = as_string(body.get("nextPageToken")) or None
    return found, cursor if found else None


def build_model_info(context: ServiceContext[GeminiSettings], model: str) -> WireRequest:
    """Build the request for one model."""
    url = endpoint_url(_base(context), f"/{path_segments(model_path(model))}")
    return WireRequest(method="GET", url=url, headers=HEADERS)


def parse_model_info(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> ModelInfo:
    """Return what Gemini reports about a model. Raises `ProtocolViolation` if it is no model."""
    model = _body(context, wire_response)
    if not isinstance(model.get("name"), str):
        raise ProtocolViolation("the model has no field 'name'", provider=context.provider)
    return _model_info(model)


_METHODS: dict[str, Capability] = {"generateContent": "chat", "embedContent": "embeddings"}


def _model_info(model: dict[str, Any]) -> ModelInfo:
    return ModelInfo(
        id=model["name"].removeprefix("models/"),
        name=as_string(model.get("displayName")) or None,
        context_window=as_count(model.get("inputTokenLimit")) or None,
        output_token_limit=as_count(model.get("outputTokenLimit")) or None,
        capabilities=capabilities_from(model.get("supportedGenerationMethods"), _METHODS)
        | capabilities_from(model, {"thinking": "reasoning"}),
        raw=model,
    )


def build_embed(context: ServiceContext[GeminiSettings], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts and images. Set other fields, such as `title`, in the options."""
    warnings = Warnings()
    warnings.unsupported(request, supported={"dimensions", "input_type"})
    name = str(request.model)
    each: dict[str, Any] = {"model": model_path(name)}
    if request.input_type is not None and MULTIMODAL not in name:
        each["taskType"] = TASKS[request.input_type]
    elif request.input_type is not None:
        warnings.add("unsupported", "input_type", NO_TASKS, lossy=False)
    if request.dimensions is not None:
        each["outputDimensionality"] = request.dimensions
    each = with_options(each, request.provider_options, context.provider)
    body = {"requests": [{**each, "content": {"parts": content_parts(value)}} for value in request.inputs]}
    url = default_url(context.settings, name, "batchEmbedContents")
    return _translation(url, body, warnings)


def parse_embeddings(context: ServiceContext[Settings], wire_response: WireResponse) -> EmbedResponse:
    """Return the vectors in the order of the inputs, and the usage, which only newer models report."""
    body = _body(context, wire_response)
    found = body.get("embeddings")
    values = [as_object(item).get("values") for item in found] if isinstance(found, list) else found
    usage = usage_from(body.get("usageMetadata"), is_final=True)
    return EmbedResponse(embeddings=decode_vectors(values, provider=context.provider), usage=usage, raw=body)


def build_count(context: ServiceContext[GeminiSettings], request: ChatRequest) -> Translation:
    """Build the request that counts a request's tokens, including its tools and system instruction."""
    warnings = Warnings()
    name = str(request.model)
    facts = facts_of(name, context.settings.model_facts)
    inner = {"model": model_path(name), **chat_body(request, context.provider, facts, warnings)}
    url = default_url(context.settings, name, "countTokens")
    return _translation(url, {"generateContentRequest": inner}, warnings)


def parse_count(context: ServiceContext[Settings], wire_response: WireResponse) -> int:
    """Return the count. Raises `ProtocolViolation` if there is none."""
    total = as_count(_body(context, wire_response).get("totalTokens"))
    if total is None:
        raise ProtocolViolation("the response has no field 'totalTokens'", provider=context.provider)
    return total


OPERATIONS = Operations(
    list_models=Operation(build=build_models, parse=parse_models),
    embed=Operation(build=build_embed, parse=parse_embeddings),
    count_tokens=Operation(build=build_count, parse=parse_count),
    model_info=Operation(build=build_model_info, parse=parse_model_info),
    batches=BATCHES,
    generate_speech=generate_speech(),
    generate_images=generate_images(),
)
"""What Gemini offers besides chat."""


def _base(context: ServiceContext[GeminiSettings]) -> str:
    return base_url(context.settings.api_url)[0]


def _translation(url: str, body: dict[str, Any], warnings: Warnings) -> Translation:
    wire_request = WireRequest(url=url, headers=HEADERS, body=encode_request(body))
    return Translation(wire_request=wire_request, warnings=warnings.all())


def _body(context: ServiceContext[Settings], wire_response: WireResponse) -> dict[str, Any]:
    return decode_object(wire_response.body, "the response", provider=context.provider)
