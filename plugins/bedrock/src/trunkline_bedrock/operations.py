"""Listing models, counting tokens and embedding texts: pure build-and-parse pairs."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from trunkline.authoring.provider import CountTokens, Embed, ListModels, Operations, ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import InvalidRequest, ProtocolViolation, UnsupportedOperation
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import EmbedResponse, ModelInfo, Usage

from trunkline_bedrock.families import family_of
from trunkline_bedrock.parse import decode
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.translate import Body, converse_body, encode, request_headers
from trunkline_bedrock.urls import control_base, model_url, runtime_base

_PROFILES = "profiles"
"""The cursor of the first page of inference profiles, which follow the foundation models."""

_COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")


def build_models(context: ServiceContext[BedrockSettings], cursor: str | None) -> WireRequest:
    """Ask for the foundation models, which come as one page, and then for the inference profiles.

    Raises `UnsupportedOperation` where the endpoint of a VPC serves the runtime alone.
    """
    settings = context.settings
    base = control_base(settings.aws_region, settings.api_url)
    path = "/foundation-models"
    if cursor is not None:
        query = {"maxResults": "1000"}
        if cursor.partition(":")[2]:
            query["nextToken"] = cursor.partition(":")[2]
        path = f"/inference-profiles?{urlencode(query, errors='replace', quote_via=quote)}"
    return WireRequest(method="GET", url=base + path, headers=request_headers(settings, body=False))


def parse_models(
    context: ServiceContext[BedrockSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """The models of a page, and the cursor of the next."""
    data = decode(wire_response.body, "the list of models", context.provider)
    if isinstance(data.get("modelSummaries"), list):
        return _infos(data["modelSummaries"], "modelId", "modelName"), _PROFILES
    profiles = data.get("inferenceProfileSummaries")
    if not isinstance(profiles, list):
        raise ProtocolViolation("the answer is no list of models", provider=context.provider)
    token = data.get("nextToken")
    cursor = f"{_PROFILES}:{token}" if isinstance(token, str) and token and profiles else None
    return _infos(profiles, "inferenceProfileId", "inferenceProfileName"), cursor


def _infos(items: list[Any], key: str, name: str) -> tuple[ModelInfo, ...]:
    return tuple(
        ModelInfo(id=item[key], name=item[name] if isinstance(item.get(name), str) else None, raw=item)
        for item in items
        if isinstance(item, dict) and isinstance(item.get(key), str)
    )


def build_count(context: ServiceContext[BedrockSettings], request: ChatRequest) -> Translation:
    """Ask for the number of a request's tokens."""
    settings, warnings = context.settings, Warnings()
    body = converse_body(request, warnings, provider=context.provider)
    counted = {"input": {"converse": {key: body[key] for key in _COUNTED if key in body}}}
    url = model_url(runtime_base(settings.aws_region, settings.api_url), request.model or "", "count-tokens")
    wire_request = WireRequest(url=url, headers=request_headers(settings), body=encode(counted))
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_count(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> int:
    """The number of tokens."""
    count = decode(wire_response.body, "the count of tokens", context.provider).get("inputTokens")
    if type(count) is not int:
        raise ProtocolViolation("the count of tokens has no inputTokens", provider=context.provider)
    return count


def build_embed(context: ServiceContext[BedrockSettings], request: EmbedRequest) -> Translation:
    """Ask for embeddings by InvokeModel, in the form of Cohere's or Titan's models.

    Titan embeds one text a request. Raises `InvalidRequest` for more, and `UnsupportedOperation` for a model of
    another family.
    """
    settings, warnings = context.settings, Warnings()
    model = request.model or ""
    family = family_of(model)
    if family.name == "cohere":
        body: Body = {"texts": list(request.texts), "input_type": "search_document", "embedding_types": ["float"]}
        if request.dimensions is not None and "embed-v4" in model:
            body["output_dimension"] = request.dimensions
        elif request.dimensions is not None:
            warnings.add("unsupported", "dimensions", "this model's vectors cannot be shortened; it was not sent")
    elif family.name == "amazon-titan" and "embed" in model:
        if len(request.texts) > 1:
            raise InvalidRequest("Titan embeds one text a request: make one call for each, or take a Cohere model")
        body = {"inputText": next(iter(request.texts))}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
    else:
        raise UnsupportedOperation(
            f"embeddings on Bedrock are supported for the models of Cohere and Amazon Titan, not for {model!r}"
        )
    if request.user_id is not None:
        warnings.add("unsupported", "user_id", "InvokeModel has no word for it; it was not sent")
    body.update(request.provider_options.get(context.provider, {}))
    url = model_url(runtime_base(settings.aws_region, settings.api_url), model, "invoke")
    wire_request = WireRequest(url=url, headers=request_headers(settings), body=encode(body))
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_embed(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> EmbedResponse:
    """The vectors, in the order of the texts. Raises `ProtocolViolation` for what are none."""
    data = decode(wire_response.body, "the answer", context.provider)
    vectors = data.get("embeddings")
    if isinstance(vectors, dict):
        vectors = vectors.get("float")
    if vectors is None and "embedding" in data:
        vectors = [data["embedding"]]
    if not isinstance(vectors, list) or not all(_is_vector(vector) for vector in vectors):
        raise ProtocolViolation("the answer holds no embeddings", provider=context.provider)
    tokens = data.get("inputTextTokenCount")
    if type(tokens) is not int:
        told = wire_response.headers.get("x-amzn-bedrock-input-token-count", "")
        tokens = int(told) if told.isascii() and told.isdigit() and len(told) < 16 else None
    try:
        embeddings = tuple(tuple(float(number) for number in vector) for vector in vectors)
    except OverflowError:
        raise ProtocolViolation("an embedding holds a number beyond any float", provider=context.provider) from None
    usage = Usage(input_tokens=tokens, total_tokens=tokens) if tokens is not None else None
    return EmbedResponse(embeddings=embeddings, usage=usage, raw=data)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(number, (int, float)) and type(number) is not bool for number in value
    )


OPERATIONS = Operations(
    list_models=ListModels(build=build_models, parse=parse_models),
    embed=Embed(build=build_embed, parse=parse_embed),
    count_tokens=CountTokens(build=build_count, parse=parse_count),
)
