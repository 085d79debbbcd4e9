"""The operations besides chat, of which `GET /v1/models` and `POST /v2/embed` are here.

Cohere cannot count a conversation's tokens.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.json import as_count, as_objects, as_string, encode_request, with_options
from trunkline.authoring.model_facts import capabilities_from
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.results import image_data
from trunkline.authoring.urls import endpoint_url, query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.inputs import Input, parts_of
from trunkline.messages import Image
from trunkline.request import EmbedRequest
from trunkline.response import Capability, EmbedResponse, ModelInfo

from trunkline_cohere.errors import response_body
from trunkline_cohere.rerank import RERANK
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.transcription import TRANSCRIBE
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
    body = response_body(context, wire_response)
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


_INPUT_TYPES = {None: "search_document", "document": "search_document", "query": "search_query"}


def embed_inputs(request: EmbedRequest) -> dict[str, Any]:
    """Return the fields with the inputs of a request and their type, as Cohere takes them.

    Raises `InvalidRequest` for an image that has no data.
    """
    input_type = _INPUT_TYPES[request.input_type]
    if all(isinstance(value, str) for value in request.inputs):
        return {"texts": list(request.inputs), "input_type": input_type}
    if all(isinstance(value, Image) for value in request.inputs):
        # Cohere's type of an image that is searched for, as `search_document` is of texts.
        return {
            "images": [_data_url(value) for value in request.inputs if isinstance(value, Image)],
            "input_type": input_type if request.input_type == "query" else "image",
        }
    return {"inputs": [{"content": _content(value)} for value in request.inputs], "input_type": input_type}


def _content(value: Input) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": _data_url(part)}}
        for part in parts_of(value)
    ]


def _data_url(image: Image) -> str:
    data = image_data(image, provider="Cohere")
    return f"data:{data.media_type or 'image/png'};base64,{data.base64}"


def build_embed(context: ServiceContext[CohereSettings], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts and images.

    They are embedded as documents, unless the request says that they are a query. Models before v4 embed texts, or one
    image, in a request; the others also embed texts and images together.
    """
    warnings = Warnings()
    body: dict[str, Any] = {
        "model": request.model,
        **embed_inputs(request),
        "embedding_types": ["float"],
    }
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    warnings.unsupported(request, supported={"dimensions", "input_type"})
    body = with_options(body, request.provider_options, context.provider)
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/embed")
    wire_request = WireRequest(url=url, headers=HEADERS, body=encode_request(body))
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_embeddings(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> EmbedResponse:
    """Return the vectors in the order of the inputs. If several encodings came, floats win; `raw` has all of them."""
    body = response_body(context, wire_response)
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
    rerank=RERANK,
    transcribe=TRANSCRIBE,
)
"""What Cohere offers besides chat."""
