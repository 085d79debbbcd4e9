"""The record of a row's result: one flat JSON object, which is a line of the output and a row of a table.

A record of a response has `id`, `row` (the number of the row), the columns of its operation, and `response`, which is
the whole response in the form of `trunkline.storage`, with its `type`. A record of a failure has `error` and `input`
instead; that of an `InvalidAnswer` has the response as well.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import attrs

from trunkline._json import NESTING_LIMIT, JSONObject, JSONValue, type_tag
from trunkline.batch.results import RowError, RowResponse, RowResult
from trunkline.errors import InvalidRequest
from trunkline.operations import (
    ImageResponse,
    ModerationResponse,
    RerankResponse,
    SpeechResponse,
    TranscriptionResponse,
)
from trunkline.response import ChatResponse, EmbedResponse, Usage
from trunkline.storage import from_json, to_json

_STORED: Mapping[str, type[Any]] = {
    type_tag(kind): kind
    for kind in (
        ChatResponse,
        RerankResponse,
        ModerationResponse,
        TranscriptionResponse,
        SpeechResponse,
        ImageResponse,
    )
}


_ERROR_FIELDS = tuple(field.name for field in attrs.fields(RowError))


def record_of(result: RowResult) -> dict[str, JSONValue]:
    """Return the record of a result. Raises `InvalidRequest` if the response is nested too deeply."""
    record: dict[str, JSONValue] = {"id": result.id, "row": result.number}
    if result.error is not None:
        record["error"] = cast(JSONObject, attrs.asdict(result.error))
        record["input"] = None if result.input is None else _as_json(result.input)
    elif result.answer_json is not None:
        record["answer"] = result.answer_json
    response = result.response
    if response is None:
        return record
    record |= {name: value for name, value in _columns(response).items() if value is not None}
    if result.cost is not None:
        record["cost"] = str(result.cost)  # a number of JSON would lose digits
    if not isinstance(response, EmbedResponse):
        record["response"] = {"type": _tag(response), **cast("dict[str, JSONValue]", to_json(_without_raw(response)))}
    return record


def result_of(record: JSONObject) -> RowResult:
    """Return the result in a record. `answer` is JSON, as the model wrote it.

    Raises `InvalidRequest` for an object that is no record.
    """
    row_id, number = record.get("id"), record.get("row")
    if not isinstance(row_id, str) or not isinstance(number, int):
        raise InvalidRequest("this is not a record of a row: it has no id or no number")
    error = record.get("error")
    if isinstance(error, dict):
        known: dict[str, Any] = {name: error[name] for name in _ERROR_FIELDS if name in error}
        given = cast("Mapping[str, object] | None", record.get("input"))
        return RowResult(id=row_id, number=number, response=_response(record), error=RowError(**known), input=given)
    return RowResult(
        id=row_id,
        number=number,
        response=_response(record),
        answer=record.get("answer"),
        answer_json=record.get("answer"),
        cost=_decimal(record.get("cost")),
    )


def _response(record: JSONObject) -> RowResponse | None:
    embedding = record.get("embedding")
    if isinstance(embedding, Sequence) and not isinstance(embedding, str):
        count = cast("int | None", record.get("input_tokens"))
        return EmbedResponse(
            embeddings=(tuple(cast("Sequence[float]", embedding)),),
            model=cast("str | None", record.get("model")),
            usage=None if count is None else Usage(input_tokens=count),
        )
    stored = record.get("response")
    if not isinstance(stored, dict):
        return None
    kind = _STORED.get(str(stored.get("type")))
    if kind is None:
        raise InvalidRequest(f"this is not a record of a row: its response has the unknown type {stored.get('type')!r}")
    return cast(RowResponse, from_json(kind, stored))


def _decimal(value: JSONValue) -> Decimal | None:
    try:
        return Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None


def _tag(response: RowResponse) -> str:
    return type_tag(ChatResponse) if isinstance(response, ChatResponse) else type_tag(type(response))


def _without_raw(response: RowResponse) -> RowResponse:
    # `storage` itself leaves these out of a `ChatResponse`.
    if isinstance(response, ChatResponse):
        return response
    left_out = {name: None for name in ("raw", "rate_limits") if hasattr(response, name)}
    return cast(RowResponse, attrs.evolve(cast(Any, response), **left_out))


def _columns(response: RowResponse) -> dict[str, JSONValue]:
    usage = getattr(response, "usage", None)
    tokens: dict[str, JSONValue] = (
        {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens} if isinstance(usage, Usage) else {}
    )
    return {**_OWN_COLUMNS[_tag(response)](response), "model": getattr(response, "model", None), **tokens}


def _of_chat(response: ChatResponse) -> dict[str, JSONValue]:
    return {"text": response.text, "finish_reason": str(response.finish_reason)}


def _of_embedding(response: EmbedResponse) -> dict[str, JSONValue]:
    return {"embedding": list(response.embeddings[0])}


def _of_ranking(response: RerankResponse) -> dict[str, JSONValue]:
    return {
        "indexes": [document.index for document in response.results],
        "scores": [document.score for document in response.results],
    }


def _of_moderation(response: ModerationResponse) -> dict[str, JSONValue]:
    return {"flagged": response.results[0].flagged}


def _of_transcription(response: TranscriptionResponse) -> dict[str, JSONValue]:
    return {"text": response.text}


_OWN_COLUMNS: Mapping[str, Callable[[Any], dict[str, JSONValue]]] = {
    type_tag(ChatResponse): _of_chat,
    type_tag(EmbedResponse): _of_embedding,
    type_tag(RerankResponse): _of_ranking,
    type_tag(ModerationResponse): _of_moderation,
    type_tag(TranscriptionResponse): _of_transcription,
    type_tag(SpeechResponse): lambda response: {},
    type_tag(ImageResponse): lambda response: {},
}


_LARGE = 10**4000
"""Larger numbers have more digits than Python writes or reads."""


def _as_json(value: object, depth: int = 0) -> JSONValue:
    """Return a value of a row as JSON: bytes in base64, and what JSON does not have, such as a date, as text."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if -_LARGE < value < _LARGE else hex(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (Mapping, list, tuple)) and depth >= NESTING_LIMIT:
        return "(nested too deeply)"
    if isinstance(value, Mapping):
        return {str(name): _as_json(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    try:
        return str(value)
    except Exception:  # of the application's class
        return f"(a {type(value).__name__})"
