"""Reranking by InvokeModel, of Cohere's and Amazon's rerank models. Pure.

Bedrock also has an operation Rerank, of another service (`bedrock-agent-runtime`), which needs the ARN of the model.
InvokeModel takes the id, and has the same hosts, credentials and limits as chat.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import decode_object, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_ranking
from trunkline.authoring.wire import WireResponse
from trunkline.errors import UnsupportedOperation
from trunkline.operations import RerankRequest, RerankResponse

from trunkline_bedrock.invoke import known_name, model_request
from trunkline_bedrock.settings import BedrockSettings


def build_rerank(context: ServiceContext[BedrockSettings], request: RerankRequest) -> Translation:
    """Build the InvokeModel request. Raises `UnsupportedOperation` for a model that does not rerank."""
    model = request.model or ""
    name = known_name(context.settings, model)
    if "rerank" not in name:
        raise UnsupportedOperation(f"reranking on Bedrock needs a rerank model of Cohere or Amazon, not {model!r}")
    body: dict[str, Any] = {"query": request.query, "documents": list(request.documents)}
    if request.top_n is not None:
        body["top_n"] = request.top_n
    if name.startswith("cohere."):
        body["api_version"] = 2
    body = with_options(body, request.provider_options, context.provider)
    return Translation(wire_request=model_request(context.settings, model, "invoke", body))


def parse_ranking(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> RerankResponse:
    """Return the ranking. Raises `ProtocolViolation` if the response has none."""
    data = decode_object(wire_response.body, "the response", provider=context.provider)
    return RerankResponse(results=decode_ranking(data.get("results"), provider=context.provider), raw=data)


RERANK = Operation(build=build_rerank, parse=parse_ranking)
"""Sorting documents."""
