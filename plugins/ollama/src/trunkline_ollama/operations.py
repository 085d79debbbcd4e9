"""The operations besides chat: `GET /api/tags`, `POST /api/show` and `POST /api/embed`.

Ollama cannot count a conversation's tokens.
"""

from __future__ import annotations

import re
from typing import Any

from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.http_errors import error_from_json
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
from trunkline.authoring.results import texts_of
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import EmbedRequest
from trunkline.response import Capability, EmbedResponse, ModelInfo, Usage

from trunkline_ollama.errors import error_from_body
from trunkline_ollama.settings import OllamaSettings
from trunkline_ollama.translate import HEADERS, JOINED, add_settings
from trunkline_ollama.urls import base_url


def build_models(context: ServiceContext[OllamaSettings], cursor: str | None) -> WireRequest:
    """Build the request for the models that the server has."""
    return WireRequest(method="GET", url=endpoint_url(base_url(context.settings.api_url)[0], "/api/tags"))


def parse_models(
    context: ServiceContext[OllamaSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """Return the models; there is only one page. Raises `ProtocolViolation` if there is no list."""
    models = _body(context, wire_response).get("models")
    if not isinstance(models, list):
        raise ProtocolViolation("the list of models has no field 'models'", provider=context.provider)
    found = [(_id(model), model) for model in as_objects(models)]
    return tuple(
        ModelInfo(id=name, capabilities=capabilities_from(model.get("capabilities"), _CAPABILITIES), raw=model)
        for name, model in found
        if name
    ), None


_CAPABILITIES: dict[str, Capability] = {
    "completion": "chat",
    "embedding": "embeddings",
    "vision": "vision",
    "audio": "audio",
    "tools": "tools",
    "thinking": "reasoning",
}
# "num_ctx 8192" in the parameters that the Modelfile sets
_NUM_CTX = re.compile(r"^\s*num_ctx\s+(\d{1,9})\s*$", re.MULTILINE)


def build_model_info(context: ServiceContext[OllamaSettings], model: str) -> WireRequest:
    """Build the request for one model. The list of models has no context window, so this asks `/api/show`."""
    url = endpoint_url(base_url(context.settings.api_url)[0], "/api/show")
    return WireRequest(url=url, headers=HEADERS, body=encode_request({"model": model}))


def parse_model_info(context: ServiceContext[OllamaSettings], wire_response: WireResponse) -> ModelInfo:
    """Return what the server reports about a model. The response does not repeat its name, so `id` is empty.

    The context window is the setting `context_length` or the model file's `num_ctx`, but not more than the model has.
    If neither is set, the server may give the model less, depending on its memory, and does not report how much.
    """
    body = _body(context, wire_response)
    sizes = [as_count(size) for name, size in as_object(body.get("model_info")).items() if _is_length(name)]
    in_file = _NUM_CTX.search(as_string(body.get("parameters")) or "")
    chosen = context.settings.context_length or (int(in_file[1]) if in_file else None)
    return ModelInfo(
        id="",
        context_window=min((size for size in (*sizes, chosen) if size), default=None),
        capabilities=capabilities_from(body.get("capabilities"), _CAPABILITIES),
        raw=body,
    )


def _is_length(name: str) -> bool:
    # `llama.context_length`; a vision encoder may have one too, with a longer name.
    return name.endswith(".context_length") and name.count(".") == 1


def build_embed(context: ServiceContext[OllamaSettings], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts. A text that is too long is an error unless `truncate` is set."""
    warnings = Warnings()
    warnings.unsupported(request, supported={"dimensions"})
    settings = context.settings
    body: dict[str, Any] = {
        "model": request.model,
        "input": texts_of(request.inputs, provider=context.provider),
        "truncate": settings.truncate,
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    add_settings(body, settings, {})
    body = with_options(body, request.provider_options, context.provider, joined=JOINED)
    url = endpoint_url(base_url(settings.api_url)[0], "/api/embed")
    return Translation(
        wire_request=WireRequest(url=url, headers=HEADERS, body=encode_request(body)), warnings=warnings.all()
    )


def parse_embeddings(context: ServiceContext[OllamaSettings], wire_response: WireResponse) -> EmbedResponse:
    """Return the vectors in the order of the texts. Raises `ProtocolViolation` if there are none."""
    body = _body(context, wire_response)
    vectors = decode_vectors(body.get("embeddings"), provider=context.provider)
    tokens = as_count(body.get("prompt_eval_count"))
    usage = Usage(input_tokens=tokens, total_tokens=tokens) if tokens else None
    return EmbedResponse(embeddings=vectors, model=as_string(body.get("model")), usage=usage, raw=body)


OPERATIONS = Operations(
    list_models=Operation(build=build_models, parse=parse_models),
    embed=Operation(build=build_embed, parse=parse_embeddings),
    model_info=Operation(build=build_model_info, parse=parse_model_info),
)
"""Listing models and embedding."""


def _id(model: dict[str, Any]) -> str | None:
    return as_string(model.get("model") or model.get("name"))


def _body(context: ServiceContext[OllamaSettings], wire_response: WireResponse) -> dict[str, Any]:
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    if "error" in body:
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    return body
