"""The columns that the answers add to a dataset.

Each operation has the same columns in every block, whether its rows have succeeded or failed, so that the blocks of a
dataset fit together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.batch import OperationName
from trunkline.errors import InvalidRequest

_TEXT = {"response_text": ("text", pa.string())}

_OWN: Mapping[OperationName, Mapping[str, tuple[str, pa.DataType]]] = {
    "chat": {
        **_TEXT,
        "response_finish_reason": ("finish_reason", pa.string()),
    },
    "embed": {"response_embedding": ("embedding", pa.list_(pa.float64()))},
    "rerank": {
        "response_indexes": ("indexes", pa.list_(pa.int64())),
        "response_scores": ("scores", pa.list_(pa.float64())),
    },
    "moderate": {"response_flagged": ("flagged", pa.bool_())},
    "transcribe": _TEXT,
    "generate_speech": {},
    "generate_images": {},
}
"""The columns of each operation, with the name of the value in a record, and its type."""

_ANSWER = {"response_answer": ("answer", pa.string())}

_COMMON: Mapping[str, tuple[str, pa.DataType]] = {
    "response_model": ("model", pa.string()),
    "response_input_tokens": ("input_tokens", pa.int64()),
    "response_output_tokens": ("output_tokens", pa.int64()),
    "response_json": ("response", pa.string()),
}

_ERROR: Mapping[str, tuple[str, pa.DataType]] = {
    "error_type": ("type", pa.string()),
    "error_message": ("message", pa.string()),
    "error_status": ("status", pa.int64()),
    "error_retryable": ("retryable", pa.bool_()),
}


def _answer_columns(operation: OperationName, has_type: bool) -> dict[str, tuple[str, pa.DataType]]:
    return {**_OWN[operation], **(_ANSWER if has_type else {}), **_COMMON}


def check_columns(table: pa.Table, operation: OperationName, prefix: str, *, has_type: bool) -> None:
    """Raise `InvalidRequest` if a table already has a column that `with_answers` adds."""
    names = [prefix + name for name in (*_answer_columns(operation, has_type), *_ERROR)]
    taken = [name for name in names if name in table.column_names]
    if taken:
        raise InvalidRequest(
            f"the dataset already has the columns {', '.join(taken)}; pass a prefix for the new ones, such as "
            f"prefix='second_', or drop those columns"
        )


def with_answers(
    table: pa.Table, records: Sequence[JSONObject], operation: OperationName, prefix: str, *, has_type: bool
) -> pa.Table:
    """Return a table with the columns of the answers, given the record of each row.

    `has_type` says whether the answers have a type, and so a column.
    """
    errors = [record["error"] if isinstance(record.get("error"), dict) else {} for record in records]
    columns: dict[str, tuple[Sequence[object], str, pa.DataType]] = {
        **{name: (records, key, kind) for name, (key, kind) in _answer_columns(operation, has_type).items()},
        **{name: (errors, key, kind) for name, (key, kind) in _ERROR.items()},
    }
    for name, (sources, key, kind) in columns.items():
        values = [_value(source.get(key), kind) if isinstance(source, dict) else None for source in sources]
        table = table.append_column(pa.field(prefix + name, kind), pa.array(values, kind))
    return table


def _value(value: JSONValue, kind: pa.DataType) -> object:
    if value is None or kind != pa.string():
        return value
    if not isinstance(value, str):
        return json.dumps(value)
    # Arrow stores UTF-8, which has no lone surrogates.
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value
