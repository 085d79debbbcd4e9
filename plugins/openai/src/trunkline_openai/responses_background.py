"""Responses that are stored or run in the background: get one, cancel one, read the stream of one on. Pure.

`GET {base}/responses/{id}`, for a stream with `?stream=true&starting_after=N`, and `POST {base}/responses/{id}/cancel`.
Source: the openai SDK 3.57, `resources/responses/responses.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from trunkline.authoring.provider import Framer, Operation, Parser, ServiceContext, StreamOperation
from trunkline.authoring.urls import endpoint_url, path_segment, query_string
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.events import ResumePoint
from trunkline.fold import with_family
from trunkline.response import ChatResponse

from trunkline_openai.responses_parse import ResponsesParser
from trunkline_openai.responses_translate import ResponsesTranslator

TranslatorFor = Callable[[ServiceContext[Any]], ResponsesTranslator]
ParserFor = Callable[[ServiceContext[Any]], ResponsesParser]


def get_response(translator: TranslatorFor, parser: ParserFor) -> Operation[str, ChatResponse]:
    """The operation that returns a response by its id."""

    def build(context: ServiceContext[Any], response_id: str) -> WireRequest:
        return translator(context).wire_request(_path(response_id), None, None)

    return Operation(build=build, parse=_reader(translator, parser), name="get_response")


def cancel_response(translator: TranslatorFor, parser: ParserFor) -> Operation[str, ChatResponse]:
    """The operation that cancels a response by its id."""

    def build(context: ServiceContext[Any], response_id: str) -> WireRequest:
        request = translator(context).wire_request(f"{_path(response_id)}/cancel", None, {})
        # The endpoint has no body.
        return attrs.evolve(request, body=b"")

    return Operation(build=build, parse=_reader(translator, parser), name="cancel_response")


def resume_stream(translator: TranslatorFor, parser: ParserFor) -> StreamOperation[ResumePoint]:
    """The operation that reads the stream of a response on from a point."""

    def build(context: ServiceContext[Any], point: ResumePoint) -> WireRequest:
        request = translator(context).wire_request(_path(point.response_id), None, None, stream=True)
        after = {} if point.after is None else {"starting_after": str(point.after)}
        query = query_string({"stream": "true", **after})
        return attrs.evolve(request, url=endpoint_url(request.url, "", query))

    def stream(context: ServiceContext[Any], point: ResumePoint) -> tuple[Framer[Any], Parser[Any]]:
        return parser(context).resumed(point)

    return StreamOperation(build=build, stream=stream)


def _path(response_id: str) -> str:
    return f"/responses/{path_segment(response_id, 'the id of the response')}"


def _reader(
    translator: TranslatorFor, parser: ParserFor
) -> Callable[[ServiceContext[Any], WireResponse], ChatResponse]:
    def read(context: ServiceContext[Any], wire_response: WireResponse) -> ChatResponse:
        response = parser(context).body(wire_response)
        model = response.model or ""
        made_by = translator(context).for_model(model)
        return attrs.evolve(response, parts=with_family(response.parts, made_by.family(model, made_by.facts)))

    return read
