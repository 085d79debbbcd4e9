"""Moderation by `POST /moderations`. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_object, as_string, encode_request, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_moderation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.inputs import Input, parts_of
from trunkline.messages import Image
from trunkline.operations import ModerationRequest, ModerationResponse

from trunkline_openai.errors import response_body
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import HeadersFor, S, UrlFor, no_headers
from trunkline_openai.usage import usage_from


def moderate(url: UrlFor[S], headers: HeadersFor[S] = no_headers) -> Operation[ModerationRequest, ModerationResponse]:
    """Return the operation for a server."""

    def build(context: ServiceContext[S], request: ModerationRequest) -> Translation:
        settings = context.settings
        body: dict[str, Any] = {"model": request.model, "input": _input(request)}
        body = with_options(body, request.provider_options, context.provider)
        wire_request = WireRequest(
            url=url(settings, "/moderations", request.model),
            headers=request_headers(settings, further=headers(settings)),
            body=encode_request(body),
        )
        return Translation(wire_request=wire_request)

    return Operation(build=build, parse=parse_moderation)


def _input(request: ModerationRequest) -> list[Any]:
    # A list of texts gets a result for each. A list with an image gets one result for all of it.
    texts = [item for item in request.inputs if isinstance(item, str)]
    if len(texts) == len(request.inputs):
        return texts
    if len(request.inputs) > 1:
        raise InvalidRequest(
            "this API judges an image, or a list, in a request of its own: make one call for each of the inputs, or "
            "put what belongs together into one list"
        )
    return _parts(next(iter(request.inputs)))


def _parts(value: Input) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": _source(part)}
        for part in parts_of(value)
    ]


def _source(image: Image) -> dict[str, str]:
    if image.url is not None:
        return {"url": image.url}
    if image.data is None:
        raise InvalidRequest("this API judges an image with data or a URL, not one with a file id")
    return {"url": f"data:{image.media_type or 'image/png'};base64,{image.base64}"}


def parse_moderation(context: ServiceContext[Any], wire_response: WireResponse) -> ModerationResponse:
    """Return the results in the order of the inputs. Raises `ProtocolViolation` if the response has none."""
    body = as_object(response_body(context, wire_response))
    results = body.get("results")
    if not isinstance(results, list):
        raise ProtocolViolation("the response has no list of results", provider=context.provider)
    return ModerationResponse(
        results=tuple(decode_moderation(item, provider=context.provider) for item in results),
        model=as_string(body.get("model")),
        usage=usage_from(body.get("usage")),
        raw=body,
    )
