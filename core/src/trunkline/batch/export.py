"""Write the responses of a journal as a table: a CSV or a Parquet file.

The journal has the responses in the order in which they came; the table has them in the order of the rows. Its columns
are `id` and `row`, those of the operation, and last the model, the tokens and the cost. The fields of an answer that is
an object become columns, too, such as `answer.label`. The whole response is left out, unless the table would have
nothing else of it: it stays in the journal.

The journal is read twice: first to find the columns, their types and the order of the rows, then to write. Memory does
not grow with the number of rows.
"""

from __future__ import annotations

import csv
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import attrs

from trunkline._json import JSONObject, JSONValue, json_text
from trunkline.batch.journal import decode
from trunkline.batch.row_ids import temporary_database
from trunkline.errors import ConfigurationError, InvalidRequest

_FIRST = ("id", "row")
_LAST = ("model", "input_tokens", "output_tokens", "cost", "response")

_PLACES = "CREATE TABLE places (row INTEGER, start INTEGER)"

_PIECE_SIZE = 1024 * 1024
"""How much of the journal is converted for a Parquet file at a time, in bytes: Python's objects take far more."""

_GROUP_SIZE = 32 * 1024 * 1024
"""How large a row group of a Parquet file becomes in memory, in bytes."""

_ColumnType: TypeAlias = Literal[
    "empty", "text", "boolean", "integer", "number", "integers", "numbers", "texts", "list"
]
"""What the values of a column are. `list` is an empty list, and `empty` a column without a value."""

_FIXED_TYPES: Mapping[str, _ColumnType] = {"cost": "number"}
"""The types of columns whose JSON has another one: `cost` is a text in a record, so that no digit is lost."""

_MIXED: Mapping[frozenset[_ColumnType], _ColumnType] = {
    frozenset({"integer", "number"}): "number",
    frozenset({"integers", "numbers"}): "numbers",
    frozenset({"list", "integers"}): "integers",
    frozenset({"list", "numbers"}): "numbers",
    frozenset({"list", "texts"}): "texts",
}
"""The type of a column that has values of two types. Any other mixture is text."""

_Columns: TypeAlias = Mapping[str, _ColumnType]


@attrs.frozen
class _Table:
    """A journal as a table: its columns, and its rows in their order."""

    columns: _Columns
    rows: Iterator[tuple[JSONObject, int]]
    """Each row, by column, and the size of its line in bytes."""


def require_library(output: str | os.PathLike[str]) -> None:
    """Raise `ConfigurationError` if the library that writes a file of this kind is not installed.

    Call it before a long run, whose last step would fail otherwise.
    """
    if Path(output).suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                f"{output}: a Parquet file needs the package pyarrow; install trunkline[parquet]"
            ) from None


def export(journal: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the records of a journal as a CSV or Parquet file, by the suffix of `output`.

    CSV is UTF-8 with a header; a list or an object is JSON in a cell, and a missing value is an empty cell. A Parquet
    file has typed columns; values of several types, and objects, become text. `embedding` has numbers of 32 bits.
    The output is replaced only once all of it is written.

    Raises `InvalidRequest` if a file cannot be read or written, or for another suffix, and `ConfigurationError` if the
    library for Parquet is not installed.
    """
    path = Path(output)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InvalidRequest(f"the output {str(path)!r} must end in {' or '.join(_WRITERS)}, which says its format")
    require_library(path)
    target_path = Path(os.path.realpath(path))  # a symbolic link stays
    partial = target_path.with_name(target_path.name + ".partial")
    try:
        with Path(journal).open("rb") as file, closing(temporary_database(_PLACES)) as order:
            columns = _scan(file, order)
            with partial.open("wb") as target:
                write(_Table(columns, _rows(file, order)), target)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(target_path)
    except OSError as error:
        raise InvalidRequest(f"the table {str(path)!r} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _scan(file: BinaryIO, order: sqlite3.Connection) -> _Columns:
    """Return the columns of a journal, and note where in the file each row is."""
    types: dict[str, _ColumnType] = {}

    def places() -> Iterator[tuple[JSONValue, int]]:
        start = 0
        for line in file:
            record = decode(line)
            if record is not None:
                for name, value in _cells(record).items():
                    known = types.get(name, "empty")
                    # The type of a fixed column, and of text, cannot change any more.
                    types[name] = known if known == "text" else _mixed(known, _FIXED_TYPES.get(name) or _type(value))
                yield record.get("row"), start
            start += len(line)

    order.executemany("INSERT INTO places VALUES (?, ?)", places())
    if types.keys() - {*_FIRST, *_LAST}:
        types.pop("response", None)
    middle = [name for name in types if name not in (*_FIRST, *_LAST)]
    return {name: types[name] for name in (*_FIRST, *middle, *_LAST) if name in types}


def _rows(file: BinaryIO, order: sqlite3.Connection) -> Iterator[tuple[JSONObject, int]]:
    for (start,) in order.execute("SELECT start FROM places ORDER BY row, start"):
        file.seek(start)
        line = file.readline()
        yield _cells(decode(line) or {}), len(line)


def _cells(record: JSONObject) -> dict[str, JSONValue]:
    """Return the values of a record by column."""
    answer = record.get("answer")
    if not isinstance(answer, dict):
        return cast("dict[str, JSONValue]", record)
    fields = {f"answer.{name}": value for name, value in answer.items()}
    return {**fields, **{name: value for name, value in record.items() if name != "answer"}}


def _type(value: JSONValue) -> _ColumnType:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "text"
    if isinstance(value, float):
        return "number"
    if isinstance(value, list):
        return _list_type(value)
    return "text"


def _list_type(items: Sequence[JSONValue]) -> _ColumnType:
    # An embedding has thousands of items, so the classes are collected without a loop.
    kinds = set(map(type, items))
    if not kinds:
        return "list"
    if kinds == {str}:
        return "texts"
    if kinds == {float}:
        return "numbers"
    if kinds <= {int, float} and all(_type(item) != "text" for item in items):
        return "integers" if kinds == {int} else "numbers"
    return "text"


def _mixed(known: _ColumnType, new: _ColumnType) -> _ColumnType:
    if known == new or new == "empty":
        return known
    if known == "empty":
        return new
    return _MIXED.get(frozenset((known, new)), "text")


def _text(value: JSONValue) -> str | None:
    """Return a value as text: JSON, unless it is a text."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no file in UTF-8 can have
        return text.encode(errors="replace").decode()
    return text


def _write_csv(table: _Table, target: BinaryIO) -> None:
    # The writer wants text; each row goes to the buffered file as bytes.
    lines = csv.writer(cast(Any, _Encoding(target)))
    lines.writerow(map(_text, table.columns))
    for row, _ in table.rows:
        lines.writerow([_text(row.get(name)) for name in table.columns])


@attrs.frozen
class _Encoding:
    """A file for text over one for bytes. Unlike `io.TextIOWrapper`, it does not close the other."""

    target: BinaryIO

    def write(self, text: str) -> None:
        self.target.write(text.encode())


def _write_parquet(table: _Table, target: BinaryIO) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {
        "empty": pyarrow.string(),
        "text": pyarrow.string(),
        "boolean": pyarrow.bool_(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "integers": pyarrow.list_(pyarrow.int64()),
        "numbers": pyarrow.list_(pyarrow.float64()),
        "texts": pyarrow.list_(pyarrow.string()),
        "list": pyarrow.list_(pyarrow.string()),
    }
    # Providers compute embeddings with at most 32 bits.
    kinds = {
        name: pyarrow.list_(pyarrow.float32()) if name == "embedding" and kind == "numbers" else types[kind]
        for name, kind in table.columns.items()
    }
    schema = pyarrow.schema([(_text(name), kind) for name, kind in kinds.items()])
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        group = []
        for piece in _pieces(table.rows):
            arrays = [
                pyarrow.array([_CONVERT[kind](row.get(name)) for row in piece], kinds[name])
                for name, kind in table.columns.items()
            ]
            group.append(pyarrow.RecordBatch.from_arrays(arrays, schema=schema))
            if sum(batch.nbytes for batch in group) >= _GROUP_SIZE:
                writer.write_table(pyarrow.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_batches(group))


def _pieces(rows: Iterator[tuple[JSONObject, int]]) -> Iterator[list[JSONObject]]:
    piece: list[JSONObject] = []
    size = 0
    for row, length in rows:
        piece.append(row)
        size += length
        if size >= _PIECE_SIZE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _same(value: JSONValue) -> JSONValue:
    return value


def _number(value: JSONValue) -> float | None:
    return None if value is None else float(cast("str | float", value))


def _texts(value: JSONValue) -> list[str | None] | None:
    return None if value is None else [_text(item) for item in cast("Sequence[JSONValue]", value)]


_CONVERT: Mapping[_ColumnType, Callable[[JSONValue], object]] = {
    "empty": _same,
    "text": _text,
    "boolean": _same,
    "integer": _same,
    "number": _number,
    "integers": _same,
    "numbers": _same,
    "texts": _texts,
    "list": _same,
}

_WRITERS: Mapping[str, Callable[[_Table, BinaryIO], None]] = {".csv": _write_csv, ".parquet": _write_parquet}
