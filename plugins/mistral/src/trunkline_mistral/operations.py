"""The operations besides chat."""

from __future__ import annotations

from typing import Any

import attrs
from trunkline.authoring.json import encode_request, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import texts_of
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.operations import ModerationRequest
from trunkline.request import EmbedRequest
from trunkline_openai.moderation import parse_moderation
from trunkline_openai.operations import chat_operations, parse_embeddings
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import default_url

from trunkline_mistral.audio import GENERATE_SPEECH, TRANSCRIBE
from trunkline_mistral.batches import BATCHES
from trunkline_mistral.settings import PROFILE


def build_embed(context: ServiceContext[Any], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts."""
    warnings = Warnings()
    body: dict[str, Any] = {
        "model": request.model,
        "input": texts_of(request.inputs, provider=context.provider),
        "encoding_format": "float",
    }
    if request.dimensions is not None:
        body["output_dimension"] = request.dimensions
    warnings.unsupported(request, supported={"dimensions"})
    body = with_options(body, request.provider_options, context.provider)
    wire_request = WireRequest(
        url=default_url(context.settings, "/embeddings", request.model),
        headers=request_headers(context.settings),
        body=encode_request(body),
    )
    return Translation(wire_request=wire_request, warnings=warnings.all())


def build_moderation(context: ServiceContext[Any], request: ModerationRequest) -> Translation:
    """Build the request that judges some texts. Raises `InvalidRequest` for images."""
    body: dict[str, Any] = {"model": request.model, "input": texts_of(request.inputs, provider=context.provider)}
    body = with_options(body, request.provider_options, context.provider)
    wire_request = WireRequest(
        url=default_url(context.settings, "/moderations", request.model),
        headers=request_headers(context.settings),
        body=encode_request(body),
    )
    return Translation(wire_request=wire_request)


OPERATIONS = attrs.evolve(
    chat_operations(PROFILE, default_url),
    embed=Operation(build=build_embed, parse=parse_embeddings),
    transcribe=TRANSCRIBE,
    generate_speech=GENERATE_SPEECH,
    moderate=Operation(build=build_moderation, parse=parse_moderation),
    batches=BATCHES,
)
"""`GET /v1/models`, which returns a single page, and the endpoints for embeddings, audio, moderation and batches."""
