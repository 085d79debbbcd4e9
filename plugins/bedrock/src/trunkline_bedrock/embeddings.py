"""Embeddings by InvokeModel: of Cohere's models, Amazon Titan's and Amazon Nova's, which embed images too. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.json import as_count, as_list, as_object, decode_object, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import image_data
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireResponse
from trunkline.errors import InvalidRequest, UnsupportedOperation
from trunkline.inputs import Input, parts_of
from trunkline.messages import Image
from trunkline.request import EmbedRequest
from trunkline.response import EmbedResponse, Usage

from trunkline_bedrock.invoke import image_format, known_name, model_request
from trunkline_bedrock.settings import BedrockSettings

_COHERE_TYPES = {None: "search_document", "document": "search_document", "query": "search_query"}
_NOVA_PURPOSES = {None: "GENERIC_INDEX", "document": "GENERIC_INDEX", "query": "GENERIC_RETRIEVAL"}


def build_embed(context: ServiceContext[BedrockSettings], request: EmbedRequest) -> Translation:
    """Build the InvokeModel request, in the form of the model's family.

    Raises `UnsupportedOperation` for a model of another family, and `InvalidRequest` for inputs that the model cannot
    embed: Titan and Nova embed one in a request, and some models only texts.
    """
    warnings = Warnings()
    model = request.model or ""
    name = known_name(context.settings, model)
    if name.startswith("cohere.embed"):
        warnings.unsupported(request, supported={"dimensions", "input_type"})
        body = _cohere(request, name, warnings)
    elif name.startswith("amazon.titan-embed-image"):
        warnings.unsupported(request, supported={"dimensions"})
        body = _titan_multimodal(request)
    elif name.startswith("amazon.titan-embed"):
        warnings.unsupported(request, supported={"dimensions"})
        body = _titan_text(request, name, warnings)
    elif name.startswith("amazon.nova") and "embed" in name:
        warnings.unsupported(request, supported={"dimensions", "input_type"})
        body = _nova(request)
    else:
        raise UnsupportedOperation(
            f"embeddings on Bedrock are supported for models of Cohere, Amazon Titan and Amazon Nova, not for {model!r}"
        )
    joined = ("singleEmbeddingParams", "embeddingConfig")
    body = with_options(body, request.provider_options, context.provider, joined=joined)
    wire_request = model_request(context.settings, model, "invoke", body)
    return Translation(wire_request=wire_request, warnings=warnings.all())


def _cohere(request: EmbedRequest, name: str, warnings: Warnings) -> dict[str, Any]:
    body: dict[str, Any] = {"input_type": _COHERE_TYPES[request.input_type], "embedding_types": ["float"]}
    if all(isinstance(value, str) for value in request.inputs):
        body["texts"] = list(request.inputs)
    elif all(isinstance(value, Image) for value in request.inputs):
        body["images"] = [_data_url(value) for value in request.inputs if isinstance(value, Image)]
        if request.input_type != "query":
            body["input_type"] = "image"
    else:
        body["inputs"] = [{"content": _cohere_content(value)} for value in request.inputs]
    if request.dimensions is not None and "embed-v4" in name:
        body["output_dimension"] = request.dimensions
    elif request.dimensions is not None:
        warnings.add("unsupported", "dimensions", "not supported by this model; ignored", lossy=True)
    return body


def _cohere_content(value: Input) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": _data_url(part)}}
        for part in parts_of(value)
    ]


def _data_url(image: Image) -> str:
    data = image_data(image, provider="Bedrock")
    return f"data:{data.media_type or 'image/png'};base64,{data.base64}"


def _only_input(request: EmbedRequest, family: str) -> Input:
    if len(request.inputs) > 1:
        raise InvalidRequest(f"{family} embeds one input per request: make one call for each, or use a Cohere model")
    return next(iter(request.inputs))


def _titan_text(request: EmbedRequest, name: str, warnings: Warnings) -> dict[str, Any]:
    value = _only_input(request, "Titan")
    if not isinstance(value, str):
        raise InvalidRequest("this Titan model embeds texts; amazon.titan-embed-image-v1 embeds images too")
    body: dict[str, Any] = {"inputText": value}
    # The first version, G1, refuses any other field. Source: docs.aws.amazon.com, Titan Embeddings G1 - Text.
    if request.dimensions is not None and name.startswith(("amazon.titan-embed-text-v1", "amazon.titan-embed-g1")):
        warnings.add("unsupported", "dimensions", "not supported by this model; ignored", lossy=True)
    elif request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body


def _titan_multimodal(request: EmbedRequest) -> dict[str, Any]:
    parts = parts_of(_only_input(request, "Titan"))
    texts = [part for part in parts if isinstance(part, str)]
    images = [part for part in parts if isinstance(part, Image)]
    if len(images) > 1:
        raise InvalidRequest("Titan embeds at most one image in an input")
    body: dict[str, Any] = {}
    if texts:
        body["inputText"] = "\n".join(texts)
    if images:
        body["inputImage"] = image_data(images[0], provider="Bedrock").base64
    if request.dimensions is not None:
        body["embeddingConfig"] = {"outputEmbeddingLength": request.dimensions}
    return body


def _nova(request: EmbedRequest) -> dict[str, Any]:
    value = _only_input(request, "Nova")
    params: dict[str, Any] = {"embeddingPurpose": _NOVA_PURPOSES[request.input_type]}
    if request.dimensions is not None:
        params["embeddingDimension"] = request.dimensions
    if isinstance(value, str):
        params["text"] = {"truncationMode": "NONE", "value": value}
    elif isinstance(value, Image):
        source = {"bytes": image_data(value, provider="Bedrock").base64}
        params["image"] = {"format": image_format(value), "source": source}
    else:
        raise InvalidRequest("Nova embeds a text or an image, and not several together")
    return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": params}


def parse_embed(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> EmbedResponse:
    """Return the vectors, in the order of the inputs. Raises `ProtocolViolation` if the response has none."""
    data = decode_object(wire_response.body, "the response", provider=context.provider)
    vectors = data.get("embeddings")
    if isinstance(vectors, dict):
        vectors = vectors.get("float")
    if vectors is None and "embedding" in data:
        vectors = [data["embedding"]]
    if any(isinstance(item, dict) for item in as_list(vectors)):  # Nova
        vectors = [as_object(item).get("embedding") for item in as_list(vectors)]
    embeddings = decode_vectors(vectors, provider=context.provider)
    tokens = as_count(data.get("inputTextTokenCount"))
    if tokens is None:
        header = wire_response.headers.get("x-amzn-bedrock-input-token-count", "")
        tokens = int(header) if header.isascii() and header.isdigit() and len(header) < 16 else None
    usage = Usage(input_tokens=tokens, total_tokens=tokens) if tokens is not None else None
    return EmbedResponse(embeddings=embeddings, usage=usage, raw=data)


EMBED = Operation(build=build_embed, parse=parse_embed)
"""Embedding texts and images."""
