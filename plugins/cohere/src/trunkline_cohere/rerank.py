"""Reranking by `POST /v2/rerank`. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_object, encode_request, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_ranking
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.operations import RerankRequest, RerankResponse
from trunkline.response import Usage

from trunkline_cohere.errors import response_body
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.translate import HEADERS
from trunkline_cohere.urls import base_url


def build_rerank(context: ServiceContext[CohereSettings], request: RerankRequest) -> Translation:
    """Build the request that sorts documents by their relevance to a query."""
    body: dict[str, Any] = {"model": request.model, "query": request.query, "documents": list(request.documents)}
    if request.top_n is not None:
        body["top_n"] = request.top_n
    body = with_options(body, request.provider_options, context.provider)
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/rerank")
    return Translation(wire_request=WireRequest(url=url, headers=HEADERS, body=encode_request(body)))


def parse_ranking(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> RerankResponse:
    """Return the ranking. Cohere counts searches and no tokens: `usage.raw` has the number of `search_units`."""
    body = response_body(context, wire_response)
    meta = as_object(body.get("meta"))
    return RerankResponse(
        results=decode_ranking(body.get("results"), provider=context.provider),
        usage=Usage(raw=meta) if meta.get("billed_units") else None,
        raw=body,
    )


RERANK = Operation(build=build_rerank, parse=parse_ranking)
"""Sorting documents."""
