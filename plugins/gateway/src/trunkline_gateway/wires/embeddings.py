"""OpenAI's embeddings: requests and responses."""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Iterator
from typing import Literal, TypeAlias

from trunkline import EmbedRequest, EmbedResponse
from trunkline.authoring.json import JSONObject, JSONValue

from trunkline_gateway.problems import invalid
from trunkline_gateway.targets import Target
from trunkline_gateway.wires.chat_reader import WIRE as CHAT
from trunkline_gateway.wires.fields import MOST_IGNORED, without
from trunkline_gateway.wires.openai_fields import READER, missing, wrong_type
from trunkline_gateway.wires.responses_reader import WIRE as RESPONSES

Encoding: TypeAlias = Literal["float", "base64"]

_PLACEHOLDER = "wxyz"
"""A text that is estimated as one token."""

_KNOWN = frozenset({"dimensions", "encoding_format", "input", "input_type", "model", "user"})


def read_request(body: JSONObject, target: Target) -> EmbedRequest:
    """Read a request. Raises `GatewayError` (`problems.invalid`) that names the field, or a core `InvalidRequest`.

    The field `input_type` (`document` or `query`) is read too. OpenAI does not have it, but the models of other
    providers embed the two differently. Unknown fields go to a provider that speaks this format, and so do arrays of
    tokens, which only it can read.
    """
    encoding_format(body)
    dimensions, kind = body.get("dimensions"), body.get("input_type")
    if dimensions is not None and (type(dimensions) is not int or not 1 <= dimensions < 2**31):
        raise invalid("'dimensions' must be an integer of at least 1.", param="dimensions", code="invalid_type")
    if kind not in (None, "document", "query"):
        raise invalid("'input_type' must be 'document' or 'query'.", param="input_type", code="invalid_value")
    own = _own(target)
    more = without(body, _KNOWN)
    value = body.get("input")
    counts = _token_counts(value)
    if counts is None:
        inputs = _texts(value)
    elif own is None:
        message = "Arrays of tokens go only to a provider of OpenAI's format. Send 'input' as text."
        raise invalid(message, param="input", code="unsupported_value")
    else:
        # The option replaces the texts, whose only use is that the request has as many inputs and tokens.
        more["input"] = value
        inputs = tuple(_PLACEHOLDER * count for count in counts)
    return EmbedRequest(
        inputs=inputs,
        model=target.model,
        input_type=kind,
        dimensions=dimensions,
        user_id=READER.text(body, "user"),
        provider_options={own: more} if more and own is not None else {},
    )


def ignored_fields(body: JSONObject, target: Target) -> tuple[str, ...]:
    """Return the fields of a request that do not reach the provider: those that only its own format has."""
    return () if _own(target) is not None else tuple(without(body, _KNOWN))[:MOST_IGNORED]


def _own(target: Target) -> str | None:
    """Return the provider if it speaks this format: whoever speaks one of OpenAI's formats for answers does."""
    return target.provider_speaking(CHAT) or target.provider_speaking(RESPONSES)


def encoding_format(body: JSONObject) -> Encoding:
    """Return how the client wants the vectors. Raises `GatewayError` for anything but `float` and `base64`."""
    value = body.get("encoding_format")
    if value is None or value == "float":
        return "float"
    if value == "base64":
        return "base64"
    raise invalid("'encoding_format' must be 'float' or 'base64'.", param="encoding_format", code="invalid_value")


def _token_counts(value: JSONValue) -> list[int] | None:
    """Return the number of tokens of each input, if the inputs are arrays of tokens."""
    if not isinstance(value, list) or not value:
        return None
    if set(map(type, value)) == {int}:
        return [len(value)]
    counts = [len(item) for item in value if isinstance(item, list) and item and set(map(type, item)) == {int}]
    return counts if len(counts) == len(value) else None


def _texts(value: JSONValue) -> tuple[str, ...]:
    if value is None:
        raise missing("input")
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise wrong_type("input", "a string or an array of strings", value)
    if not value:
        raise invalid("'input' must have at least one text.", param="input", code="empty_array")
    if set(map(type, value)) != {str}:
        position = next(position for position, text in enumerate(value) if not isinstance(text, str))
        raise wrong_type(f"input[{position}]", "a string", value[position])
    return tuple(text for text in value if isinstance(text, str))


def write_response(response: EmbedResponse, body: JSONObject, target: Target) -> JSONObject:
    """Write the response to the request `body`, with the vectors as the request asks for them."""
    encoding = encoding_format(body)
    tokens = (response.usage.input_tokens if response.usage is not None else None) or 0
    total = (response.usage.total_tokens if response.usage is not None else None) or tokens
    return {
        "object": "list",
        "data": list(_entries(response, encoding)),
        "model": target.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": total},
    }


def _entries(response: EmbedResponse, encoding: Encoding) -> Iterator[JSONObject]:
    for index, vector in enumerate(response.embeddings):
        yield {
            "object": "embedding",
            "index": index,
            "embedding": _float32(vector) if encoding == "base64" else list(vector),
        }


def _float32(vector: tuple[float, ...]) -> str:
    """The numbers as 32-bit floats, the lowest byte first, in base64."""
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers).decode()
