"""Reranking by `POST /rerank`, as Jina, vLLM, llama.cpp, OpenRouter and others serve it after Cohere's model. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_object, as_string, encode_request, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_ranking
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.operations import RerankRequest, RerankResponse

from trunkline_openai.errors import response_body
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import HeadersFor, S, UrlFor, no_headers
from trunkline_openai.usage import usage_from


def rerank(url: UrlFor[S], headers: HeadersFor[S] = no_headers) -> Operation[RerankRequest, RerankResponse]:
    """Return the operation for a server."""

    def build(context: ServiceContext[S], request: RerankRequest) -> Translation:
        settings = context.settings
        body: dict[str, Any] = {
            "model": request.model,
            "query": request.query,
            "documents": list(request.documents),
        }
        if request.top_n is not None:
            body["top_n"] = request.top_n
        body = with_options(body, request.provider_options, context.provider)
        return Translation(
            wire_request=WireRequest(
                url=url(settings, "/rerank", request.model),
                headers=request_headers(settings, further=headers(settings)),
                body=encode_request(body),
            )
        )

    return Operation(build=build, parse=parse_ranking)


def parse_ranking(context: ServiceContext[Any], wire_response: WireResponse) -> RerankResponse:
    """Return the documents, the most relevant first. Voyage's list is in `data`, and all others' in `results`."""
    body = response_body(context, wire_response)
    fields = as_object(body)
    items = body if isinstance(body, list) else fields.get("results", fields.get("data"))
    return RerankResponse(
        results=decode_ranking(items, provider=context.provider),
        model=as_string(fields.get("model")),
        usage=usage_from(fields.get("usage")),
        raw=body,
    )
