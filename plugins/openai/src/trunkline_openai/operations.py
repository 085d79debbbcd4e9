"""List models and embed texts: functions that build a request and parse its response. Pure.

The other operations have modules of their own.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.json import as_count, as_object, as_objects, as_string, encode_request, with_options
from trunkline.authoring.model_facts import capabilities_from
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.results import texts_of
from trunkline.authoring.urls import endpoint_url, query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import EmbedRequest
from trunkline.response import Capability, EmbedResponse, ModelInfo

from trunkline_openai.errors import response_body
from trunkline_openai.images import generate_images
from trunkline_openai.moderation import moderate
from trunkline_openai.profile import Profile
from trunkline_openai.rerank import rerank
from trunkline_openai.speech import generate_speech
from trunkline_openai.transcription import transcribe
from trunkline_openai.translate import request_headers, sent_user_id
from trunkline_openai.urls import HeadersFor, S, UrlFor, no_headers
from trunkline_openai.usage import usage_from


def chat_operations(
    profile: Profile,
    url: UrlFor[S],
    headers: HeadersFor[S] = no_headers,
    *,
    embed: bool = True,
    list_models: bool = True,
) -> Operations:
    """The operations of a compatible server: `GET /models`, `POST /embeddings`, and those that its profile names."""

    def build_models(context: ServiceContext[S], cursor: str | None) -> WireRequest:
        settings = context.settings
        address = url(settings, "/models", None)
        if cursor is not None:
            address = endpoint_url(address, "", query_string({"after": cursor}))
        return WireRequest(method="GET", url=address, headers=request_headers(settings, further=headers(settings)))

    def build_embed(context: ServiceContext[S], request: EmbedRequest) -> Translation:
        settings = context.settings
        body: dict[str, Any] = {
            "model": request.model,
            "input": texts_of(request.inputs, provider=context.provider),
            "encoding_format": "float",
        }
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        warnings = Warnings()
        warnings.unsupported(request, supported={"dimensions", "user_id"})
        user_id = sent_user_id(request.user_id, settings)
        if user_id is not None and profile.user_id_field is not None:
            # The embeddings endpoint only has the older field.
            body["user"] = user_id
        elif user_id is not None:
            warnings.add("unsupported", "user_id", "not supported by this server; ignored", lossy=True)
        body = with_options(body, request.provider_options, context.provider)
        wire_request = WireRequest(
            url=url(settings, "/embeddings", request.model),
            headers=request_headers(settings, further=headers(settings)),
            body=encode_request(body),
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())

    return Operations(
        list_models=Operation(build=build_models, parse=parse_models) if list_models else None,
        embed=Operation(build=build_embed, parse=parse_embeddings) if embed else None,
        rerank=rerank(url, headers) if "rerank" in profile.operations else None,
        transcribe=transcribe(url, headers) if "transcribe" in profile.operations else None,
        generate_speech=generate_speech(url, headers) if "generate_speech" in profile.operations else None,
        generate_images=generate_images(url, headers) if "generate_images" in profile.operations else None,
        moderate=moderate(url, headers) if "moderate" in profile.operations else None,
    )


def parse_models(context: ServiceContext[Any], wire_response: WireResponse) -> tuple[tuple[ModelInfo, ...], str | None]:
    """The models of a page, and the cursor of the next page. OpenAI has one page; compatible servers may have more."""
    body = response_body(context, wire_response)
    # Together sends the list itself.
    data = body if isinstance(body, list) else body.get("data", body.get("models"))
    if not isinstance(data, list):
        raise ProtocolViolation("the list of models has no 'data'", provider=context.provider)
    models = tuple(_model_info(model) for model in as_objects(data) if isinstance(model.get("id"), str))
    more = isinstance(body, dict) and body.get("has_more") is True and body.get("last_id")
    return models, more if isinstance(more, str) and models else None


_INPUTS: dict[str, Capability] = {"image": "vision", "audio": "audio", "file": "documents"}
_OUTPUTS: dict[str, Capability] = {"text": "chat", "embeddings": "embeddings"}
_FEATURES: dict[str, Capability] = {  # of OpenRouter and Groq
    "tools": "tools",
    "structured_outputs": "json_schema",
    "reasoning": "reasoning",
}
_CAPABILITIES: dict[str, Capability] = {  # of Mistral and Azure OpenAI
    "completion_chat": "chat",
    "chat_completion": "chat",
    "embeddings": "embeddings",
    "vision": "vision",
    "audio": "audio",
    "function_calling": "tools",
    "reasoning": "reasoning",
}


def _model_info(model: dict[str, Any]) -> ModelInfo:
    # OpenAI reports no limits. The fields are those of compatible servers.
    meta, top, architecture = (as_object(model.get(name)) for name in ("meta", "top_provider", "architecture"))
    window = as_count(
        model.get("context_window"),  # Groq
        model.get("context_length"),  # OpenRouter, Together, Fireworks
        model.get("max_context_length"),  # Mistral
        model.get("max_model_len"),  # vLLM
        meta.get("n_ctx"),  # llama.cpp
        meta.get("n_ctx_train"),  # older llama.cpp
    )
    output = as_count(top.get("max_completion_tokens"), model.get("max_completion_tokens"))  # OpenRouter, Groq
    sources = (
        (architecture.get("input_modalities"), _INPUTS),
        (architecture.get("output_modalities"), _OUTPUTS),
        (model.get("input_modalities"), _INPUTS),
        (model.get("output_modalities"), _OUTPUTS),
        (model.get("supported_parameters"), _FEATURES),
        (model.get("supported_features"), _FEATURES),
        (model.get("capabilities"), _CAPABILITIES),
    )
    return ModelInfo(
        id=model["id"],
        name=as_string(model.get("name") or model.get("display_name")),
        created=as_count(model.get("created", model.get("created_at"))),
        context_window=window or None,
        output_token_limit=output or None,
        capabilities=frozenset().union(*(capabilities_from(names, known) for names, known in sources)),
        raw=model,
    )


def parse_embeddings(context: ServiceContext[Any], wire_response: WireResponse) -> EmbedResponse:
    """The vectors, in the order of the inputs. Raises `ProtocolViolation` for anything else."""
    body = response_body(context, wire_response)
    data = body if isinstance(body, list) else body.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise ProtocolViolation("the response has no list of embeddings", provider=context.provider)
    fields = as_object(body)
    return EmbedResponse(
        embeddings=decode_vectors(
            [_vector(item) for item in data],
            provider=context.provider,
            indexes=[item.get("index") for item in data],
        ),
        model=as_string(fields.get("model")),
        usage=usage_from(fields.get("usage")),
        raw=body,
    )


def _vector(item: dict[str, Any]) -> object:
    vector = item.get("embedding")
    # llama.cpp puts a vector into a list of its own if the model has no pooling.
    return vector[0] if isinstance(vector, list) and len(vector) == 1 and isinstance(vector[0], list) else vector
