"""The operations besides chat: listing Google's models, embedding, and counting a request's tokens.

Source of the requests and of the answers: google-genai 3.6.1 (`models.py`, the functions whose names end with
`to_vertex` and `from_vertex`).
"""

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
from trunkline.authoring.provider import ModelPage, Operation, Operations, ServiceContext, Translation
from trunkline.authoring.results import texts_of
from trunkline.authoring.urls import endpoint_url, query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation, UnsupportedRequest
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import EmbedResponse, ModelInfo, Usage
from trunkline_gemini.generated_media import generate_images, generate_speech
from trunkline_gemini.inputs import MULTIMODAL, NO_TASKS, TASKS, content_parts
from trunkline_gemini.operations import parse_count
from trunkline_gemini.translate import HEADERS, chat_body

from trunkline_vertex.gemini import VERSION, gemini_facts, gemini_url
from trunkline_vertex.settings import VertexSettings
from trunkline_vertex.urls import resource_url

PAGE_SIZE = 100
"""Models per page."""

_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")
"""The fields of a chat request that `countTokens` accepts (google-genai 3.6.1, `CountTokensConfig`)."""


def build_models(context: ServiceContext[VertexSettings], cursor: str | None) -> WireRequest:
    """Build the request for one page of Google's models. The list is the same for all projects."""
    query = query_string({"pageSize": str(PAGE_SIZE)} | ({"pageToken": cursor} if cursor is not None else {}))
    url = resource_url(context.settings.root, VERSION, "", "publishers/google/models")
    return WireRequest(method="GET", url=endpoint_url(url, "", query))


def parse_models(context: ServiceContext[VertexSettings], wire_response: WireResponse) -> ModelPage:
    """Return the models of a page, without `publishers/google/models/`, and the cursor of the next page."""
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    models = body.get("publisherModels")
    if not isinstance(models, list):
        raise ProtocolViolation("the list of models has no field 'publisherModels'", provider=context.provider)
    found = tuple(
        ModelInfo(id=model["name"].removeprefix("publishers/google/models/"), raw=model)
        for model in as_objects(models)
        if isinstance(model.get("name"), str)
    )
    cursor = as_string(body.get("nextPageToken")) or None
    return found, cursor if found else None


def build_embed(context: ServiceContext[VertexSettings], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts and images. Options are other tasks, `title`, `autoTruncate`.

    Gemini's models for embeddings have methods of their own; all others have `predict`. Raises `UnsupportedRequest` for
    several texts for a model that accepts one (those whose names contain `maas`).
    """
    warnings = Warnings()
    warnings.unsupported(request, supported={"dimensions", "input_type"})
    model = str(request.model)
    config: dict[str, Any] = {} if request.dimensions is None else {"outputDimensionality": request.dimensions}
    if request.input_type is not None and MULTIMODAL not in model:
        config["taskType"] = TASKS[request.input_type]
    elif request.input_type is not None:
        warnings.add("unsupported", "input_type", NO_TASKS, lossy=False)
    config = with_options(config, request.provider_options, context.provider)
    name = model.rpartition("/")[2]
    if "gemini" not in name and "maas" not in name:
        method, body = "predict", _predict(request, config)
    else:
        each = [{"content": {"role": "user", "parts": content_parts(value)}} for value in request.inputs]
        options = {"embedContentConfig": config} if config else {}
        if len(each) == 1:
            method, body = "embedContent", {**each[0], **options}
        elif "maas" in name:
            raise UnsupportedRequest(f"the model {name!r} embeds one text in a request; send several requests")
        else:
            method, body = "batchEmbedContents", {"requests": [{**one, **options} for one in each]}
    wire_request = WireRequest(
        url=gemini_url(context.settings, model, method), headers=HEADERS, body=encode_request(body)
    )
    return Translation(wire_request=wire_request, warnings=warnings.all())


def _predict(request: EmbedRequest, config: dict[str, Any]) -> dict[str, Any]:
    own = {field: config.pop(name) for name, field in (("taskType", "task_type"), ("title", "title")) if name in config}
    texts = texts_of(request.inputs, provider="this model")
    body: dict[str, Any] = {"instances": [{"content": text, **own} for text in texts]}
    return {**body, "parameters": config} if config else body


def parse_embeddings(context: ServiceContext[VertexSettings], wire_response: WireResponse) -> EmbedResponse:
    """Return the vectors in the order of the inputs, whichever method sent them."""
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    found: object = body.get("embeddings")
    if "predictions" in body:
        found = [as_object(item).get("embeddings") for item in as_objects(body["predictions"])]
    elif "embedding" in body:
        found = [body["embedding"]]
    items = [as_object(item) for item in found] if isinstance(found, list) else []
    values: object = [item.get("values") for item in items] if isinstance(found, list) else found
    return EmbedResponse(
        embeddings=decode_vectors(values, provider=context.provider), usage=_embed_usage(body, items), raw=body
    )


def _embed_usage(body: dict[str, Any], items: list[dict[str, Any]]) -> Usage | None:
    reported = as_object(body.get("usageMetadata"))
    total = as_count(reported.get("promptTokenCount"))
    if total is None:
        statistics = [as_object(item.get("statistics")) for item in items]
        counts = [_whole(one.get("token_count", one.get("tokenCount"))) for one in statistics]
        known = [count for count in counts if count is not None]
        total = sum(known) if known else None
    return None if total is None else Usage(input_tokens=total, total_tokens=total, raw=reported)


def _whole(value: object) -> int | None:
    return as_count(int(value) if isinstance(value, float) and value.is_integer() else value)


def build_count(context: ServiceContext[VertexSettings], request: ChatRequest) -> Translation:
    """Build the request that counts a request's tokens, including its tools and system instruction."""
    warnings = Warnings()
    model = str(request.model)
    facts = gemini_facts(context.settings, model)
    body = chat_body(request, context.provider, facts, warnings, labels=True)
    wire_request = WireRequest(
        url=gemini_url(context.settings, model, "countTokens"),
        headers=HEADERS,
        body=encode_request({name: value for name, value in body.items() if name in _COUNTED}),
    )
    return Translation(wire_request=wire_request, warnings=warnings.all())


SHARED = Operations(list_models=Operation(build=build_models, parse=parse_models))
"""Listing models, which depends on no model."""

GEMINI = Operations(
    embed=Operation(build=build_embed, parse=parse_embeddings),
    count_tokens=Operation(build=build_count, parse=parse_count),
    generate_speech=generate_speech(gemini_url),
    generate_images=generate_images(gemini_url),
)
"""What Google's models offer besides chat."""
