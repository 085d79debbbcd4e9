"""Recorded traffic of Vertex AI: Gemini and Claude, each read by its parser, and the URLs that lead there.

No recording has OpenAI's models, or the arguments of a function call in pieces.
"""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import urlsplit

from recorded_counts import assert_counts
from recordings import Exchange, recorded, report
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError, BadRequest, NotFound, TrunklineError
from trunkline.fold import fold
from trunkline.request import ChatRequest
from trunkline.response import FinishReason
from trunkline_vertex import VertexSettings, vertex
from trunkline_vertex.urls import format_of

_URL = re.compile(
    r"https://(?P<host>[^/]+)/(?P<version>v1|v1beta1)/(?:projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/)?"
    r"publishers/(?P<publisher>[^/]+)/models/(?P<model>[^/:]+):(?P<method>\w+)"
)
CUT_OFF = (FinishReason.CONTENT_FILTER, FinishReason.LENGTH)
"""The reasons for which an answer may be empty."""

ERRORS = {400: BadRequest, 401: AuthenticationError, 404: NotFound}


def exchanges() -> list[tuple[Exchange, re.Match[str]]]:
    found = [exchange for name in ("gemini", "other") for exchange in recorded(name)]
    matched = [(exchange, _URL.match(exchange.url)) for exchange in found if exchange.variant.startswith("vertex")]
    return [(exchange, match) for exchange, match in matched if match is not None]


def context_of(match: re.Match[str]) -> ServiceContext[VertexSettings]:
    model = f"publishers/{match['publisher']}/models/{match['model']}"
    settings = (
        VertexSettings(api_key="k", default_model=model)
        if match["project"] is None
        else VertexSettings(project=match["project"], location=match["location"], default_model=model)
    )
    return ServiceContext(name="recorded", provider="vertex", settings=settings)


def test_every_recorded_url_is_the_one_that_is_called() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    for exchange, match in exchanges():
        if match["method"] in ("predict", "countTokens"):
            continue
        context = context_of(match)
        stream = match["method"].startswith("stream")
        made = vertex.translator(context).translate(
            ChatRequest(messages="Hi", model=context.settings.default_model), stream=stream
        )
        theirs, ours = urlsplit(exchange.url), urlsplit(made.wire_request.url)
        # Google serves Gemini under both versions.
        path = theirs.path.replace("/v1/", "/v1beta1/", 1) if match["publisher"] == "google" else theirs.path
        counts[match["publisher"], "stream" if stream else "body"] += 1
        if (theirs.netloc, path) != (ours.netloc, ours.path):
            problems.append(f"{exchange.id}: {exchange.url} became {made.wire_request.url}")
    assert not problems, report(problems)
    assert_counts("vertex/urls", urls=counts)


def test_every_recorded_answer_and_error_is_read_in_the_format_of_its_model() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    for exchange, match in exchanges():
        if match["method"] in ("predict", "countTokens") and exchange.status == 200:
            continue
        context = context_of(match)
        parser = vertex.response_parser(context)
        name = format_of(context.settings.default_model or "")
        if exchange.status != 200:
            error = parser.error(exchange.wire_response)
            counts[name, "error"] += 1
            if type(error) is not ERRORS[exchange.status]:
                problems.append(f"{exchange.id}: {error!r}")
            continue
        try:
            if exchange.streaming:
                decoder = StreamDecoder(*parser.stream())
                response = fold([*decoder.feed(exchange.body), *decoder.finish()], "vertex")
            else:
                response = parser.body(exchange.wire_response)
        except TrunklineError as error:
            problems.append(f"{exchange.id}: {error!r}")
            continue
        counts[name, "stream" if exchange.streaming else "body"] += 1
        is_empty = not response.message.parts and response.finish_reason not in CUT_OFF
        if is_empty or response.usage is None:
            problems.append(f"{exchange.id}: {response!r}")
    assert not problems, report(problems)
    assert_counts("vertex/answers", read=counts)
