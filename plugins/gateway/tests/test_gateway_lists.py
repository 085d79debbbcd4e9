"""Embeddings and lists of models at the gateway, as the official SDKs read them."""

from __future__ import annotations

import base64
import struct
from typing import Any

import attrs
import pytest
from anthropic.types import ModelInfo as AnthropicModel
from hypothesis import given, strategies as st
from openai.types import CreateEmbeddingResponse, Model
from trunkline import EmbedRequest, EmbedResponse, ModelInfo, Usage
from trunkline.authoring.token_estimates import estimate_input
from trunkline_gateway.problems import GatewayError
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import embeddings, models

SAME = Target(name="main/small", service="main", model="small", provider="openai", wire="openai-chat")
OTHER = Target(name="emb", service="c", model="embed", provider="cohere")


@pytest.mark.parametrize(
    ("tokens", "counts"), [([1, 2, 3], [3]), ([[1, 2], [3]], [2, 1])], ids=["one input", "two inputs"]
)
def test_tokens_go_as_they_are_to_a_provider_of_the_format(tokens: list[Any], counts: list[int]) -> None:
    request = embeddings.read_request({"model": "x", "input": tokens}, SAME)
    assert request.provider_options == {"openai": {"input": tokens}}
    assert [estimate_input(value) for value in request.inputs] == counts


def test_a_request_for_embeddings_is_read() -> None:
    body = {"model": "x", "input": ["a", "b"], "dimensions": 3, "user": "me", "encoding_format": "base64", "extra": 1}
    assert embeddings.read_request(body, OTHER) == EmbedRequest(
        inputs=["a", "b"], model="embed", dimensions=3, user_id="me"
    )
    assert embeddings.read_request(body, SAME).provider_options == {"openai": {"extra": 1}}
    assert embeddings.ignored_fields(body, OTHER) == ("extra",)
    assert embeddings.ignored_fields(body, SAME) == ()
    responses = attrs.evolve(SAME, wire="openai-responses")
    assert embeddings.read_request(body, responses).provider_options == {"openai": {"extra": 1}}
    assert embeddings.ignored_fields(body, responses) == ()
    query = embeddings.read_request({"input": "a", "input_type": "query", "dimensions": None}, OTHER)
    assert query == EmbedRequest(inputs="a", model="embed", input_type="query")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": [[1], "a"]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": [True]}, "input[0]"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "3"}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"user": 1}, "user"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"input_type": "image"}, "input_type"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as caught:
        embeddings.read_request({"model": "x", "input": "a", **fields}, OTHER)
    assert caught.value.problem.param == param
    assert caught.value.problem.status == 400


@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.just(0.5)), min_size=1))
def test_vectors_come_as_numbers_or_as_32_bit_floats_in_base64(vectors: list[tuple[float, ...]]) -> None:
    response = EmbedResponse(embeddings=tuple(vectors), usage=Usage(input_tokens=4))
    numbers = CreateEmbeddingResponse.model_validate(embeddings.write_response(response, {}, OTHER))
    assert [tuple(item.embedding) for item in numbers.data] == vectors
    assert [item.index for item in numbers.data] == list(range(len(vectors)))
    assert (numbers.model, numbers.usage.prompt_tokens, numbers.usage.total_tokens) == ("emb", 4, 4)
    encoded: Any = embeddings.write_response(response, {"encoding_format": "base64"}, OTHER)
    for item, vector in zip(encoded["data"], vectors, strict=True):
        assert struct.unpack("<2f", base64.b64decode(item["embedding"])) == vector


def test_a_number_that_32_bits_do_not_hold_is_infinite_or_written_as_it_is() -> None:
    response = EmbedResponse(embeddings=((1e300, -1e300, 1.0),))
    body: Any = embeddings.write_response(response, {"encoding_format": "base64"}, OTHER)
    assert struct.unpack("<3f", base64.b64decode(body["data"][0]["embedding"])) == (float("inf"), float("-inf"), 1.0)


OFFERED = [ModelInfo(id=f"main/m{number}", created=1_700_000_000 + number, name=f"M {number}") for number in range(5)]


def test_models_in_the_form_of_openai() -> None:
    body: Any = models.write_openai_list([*OFFERED, ModelInfo(id="alias")])
    found = [Model.model_validate(item) for item in body["data"]]
    assert [model.id for model in found] == [*(model.id for model in OFFERED), "alias"]
    assert (found[0].owned_by, found[0].created, found[-1].created) == ("main", 1_700_000_000, 0)


def test_models_in_the_form_of_anthropic_have_pages() -> None:
    whole: Any = models.write_anthropic_list(OFFERED)
    found = [AnthropicModel.model_validate(item) for item in whole["data"]]
    assert found[0].created_at.year == 2023
    assert (found[1].id, found[1].display_name, whole["has_more"]) == ("main/m1", "M 1", False)
    seen: list[str] = []
    page: Any = models.write_anthropic_list(OFFERED, limit="2")
    while True:
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        page = models.write_anthropic_list(OFFERED, limit="2", after_id=page["last_id"])
    assert seen == [model.id for model in OFFERED]
    before: Any = models.write_anthropic_list(OFFERED, limit="2", before_id="main/m3")
    assert (before["first_id"], before["last_id"], before["has_more"]) == ("main/m1", "main/m2", True)
    empty: Any = models.write_anthropic_list([])
    assert (empty["first_id"], empty["has_more"]) == (None, False)


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "²"}, {"limit": "-1"}, {"after_id": "x"}]
)
def test_a_wrong_page_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(GatewayError):
        models.write_anthropic_list(OFFERED, **query)


def test_a_time_out_of_range_is_none() -> None:
    for created in (-1, 10**18):
        assert AnthropicModel.model_validate(models.write_anthropic_model(ModelInfo(id="a", created=created)))
