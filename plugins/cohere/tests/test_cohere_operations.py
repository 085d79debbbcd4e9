"""Listing models and embedding."""

import base64
import json
import struct
from typing import Any

import pytest
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, ServerError
from trunkline.request import EmbedRequest
from trunkline.response import Usage
from trunkline_cohere import CohereSettings, cohere
from trunkline_cohere.operations import build_embed, build_models, parse_embeddings, parse_models

Context = ServiceContext[CohereSettings]


def response(body: Any) -> WireResponse:
    return WireResponse(status=200, body=body if isinstance(body, bytes) else json.dumps(body).encode())


def test_cohere_lists_and_embeds_but_counts_no_tokens(context: Context) -> None:
    operations = cohere.operations(context)
    assert operations.list_models is not None
    assert operations.embed is not None
    assert operations.count_tokens is None


def test_models_come_in_pages(context: Context) -> None:
    first, second = build_models(context, None), build_models(context, "a/b=")
    assert (first.method, first.url) == ("GET", "https://api.cohere.com/v1/models?page_size=1000")
    assert second.url == "https://api.cohere.com/v1/models?page_size=1000&page_token=a%2Fb%3D"
    page = {"models": [{"name": "command-a", "endpoints": ["chat"]}, 7, {}], "next_page_token": "a/b="}
    models, cursor = parse_models(context, response(page))
    assert [(model.id, model.raw["endpoints"]) for model in models] == [("command-a", ["chat"])]
    assert cursor == "a/b="


@pytest.mark.parametrize(
    "page",
    [
        {"models": [{"name": "m"}]},
        {"models": [{"name": "m"}], "next_page_token": ""},
        {"models": [], "next_page_token": "x"},
    ],
)
def test_the_last_page_has_no_cursor(page: Any, context: Context) -> None:
    assert parse_models(context, response(page))[1] is None


def test_texts_are_embedded_as_documents_unless_the_options_say_otherwise(context: Context) -> None:
    translation = build_embed(context, EmbedRequest(inputs=["a", "b"], model="m", dimensions=256))
    assert translation.wire_request.url == "https://api.cohere.com/v2/embed"
    assert json.loads(translation.wire_request.body) == {
        "model": "m",
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
        "output_dimension": 256,
    }
    assert translation.warnings == ()
    options = {"cohere": {"input_type": "search_query", "truncate": "NONE"}}
    body = json.loads(build_embed(context, EmbedRequest(inputs="a", provider_options=options)).wire_request.body)
    assert (body["input_type"], body["truncate"]) == ("search_query", "NONE")


def test_a_user_id_cannot_be_sent(context: Context) -> None:
    translation = build_embed(context, EmbedRequest(inputs="a", model="m", user_id="u"))
    assert [(warning.kind, warning.subject) for warning in translation.warnings] == [("unsupported", "user_id")]


PACKED = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
META = {"billed_units": {"input_tokens": 3.0}}


@pytest.mark.parametrize(
    ("embeddings", "expected"),
    [
        ({"float": [[0.5, -1], [2, 3]]}, ((0.5, -1.0), (2.0, 3.0))),
        ({"float": [], "int8": [[1, -2]]}, ((1.0, -2.0),)),
        ({"int8": [[9]], "float": [[1.5]]}, ((1.5,),)),
        ({"base64": [PACKED]}, ((0.5, -1.0),)),
        ([[1.0]], ((1.0,),)),
    ],
)
def test_vectors_are_read_in_every_encoding(embeddings: Any, expected: Any, context: Context) -> None:
    found = parse_embeddings(context, response({"id": "i", "embeddings": embeddings, "meta": META}))
    assert found.embeddings == expected
    assert found.usage == Usage(input_tokens=3, total_tokens=3)


def test_without_counts_there_is_no_usage(context: Context) -> None:
    for meta in (None, 7, {}, {"billed_units": {}}, {"billed_units": {"input_tokens": "3"}}):
        assert parse_embeddings(context, response({"embeddings": {"float": [[1]]}, "meta": meta})).usage is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        [],
        {},
        {"embeddings": 7},
        {"embeddings": {"float": "x"}},
        {"embeddings": {"float": [["x"]]}},
        {"embeddings": {"float": [7]}},
        {"embeddings": {"base64": ["!"]}},
        {"embeddings": {"base64": ["AAA="]}},
        {"embeddings": {"float": [[10**400]]}},
        {"embeddings": {"float": [[True]]}},
    ],
)
def test_what_is_no_embedding_is_a_protocol_violation(body: Any, context: Context) -> None:
    with pytest.raises(ProtocolViolation):
        parse_embeddings(context, response(body))


@pytest.mark.parametrize("body", [b"", [], {}, {"models": {}}])
def test_what_is_no_list_of_models_is_a_protocol_violation(body: Any, context: Context) -> None:
    with pytest.raises(ProtocolViolation):
        parse_models(context, response(body))


def test_an_error_in_a_200_answer_is_raised(context: Context) -> None:
    for parse in (parse_models, parse_embeddings):
        with pytest.raises(ServerError, match="sorry"):
            parse(context, response({"message": "sorry", "id": "i"}))
