"""The operations besides chat: listing models and embedding texts."""

from __future__ import annotations

from typing import Any

import attrs
from trunkline.authoring.json import encode_request, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.request import EmbedRequest
from trunkline_openai.operations import chat_operations, parse_embeddings
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import default_url

from trunkline_mistral.batches import BATCHES
from trunkline_mistral.settings import PROFILE


def build_embed(context: ServiceContext[Any], request: EmbedRequest) -> Translation:
    """Build the request for the vectors of some texts."""
    warnings = Warnings()
    body: dict[str, Any] = {"model": request.model, "input": list(request.texts), "encoding_format": "float"}
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


OPERATIONS = attrs.evolve(
    chat_operations(PROFILE, default_url),
    embed=Operation(build=build_embed, parse=parse_embeddings),
    batches=BATCHES,
)
"""`GET /v1/models`, which returns a single page, `POST /v1/embeddings`, and batches."""
