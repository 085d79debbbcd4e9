"""Read the rows of a JSONL, CSV or Parquet file, or of memory, one at a time."""

from __future__ import annotations

import csv
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from typing import BinaryIO, cast

import anyio

from trunkline._files import decoded
from trunkline._json import ends_too_early, loads_finite
from trunkline.batch.results import Row
from trunkline.errors import ConfigurationError, InvalidRequest

LINE_LIMIT = 64 * 1024 * 1024
"""The longest line of a JSONL or CSV file, in bytes, and the longest field of a CSV file, in characters."""

_PIECE = 64 * 1024
"""How much is read of a pipe at a time, in bytes."""

_PARQUET_ROWS = 256
"""How many rows of a Parquet file are decoded at a time. A row may hold an image."""

_PARQUET_BUFFER = 1024 * 1024
"""How much of each column of a Parquet file is read at a time, in bytes. Otherwise, a whole row group is read."""


class _Pipe:
    """A pipe, a socket or a terminal, read by lines. `has_line` says whether reading would block."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._data = bytearray()
        self._searched = 0
        self._ended = False

    def has_line(self) -> bool:
        """Whether `readline` returns at once: with a line, with a piece of a line that is too long, or at the end."""
        if self._ended or len(self._data) > LINE_LIMIT or self._data.find(b"\n", self._searched) >= 0:
            return True
        self._searched = len(self._data)
        return False

    def fill(self) -> None:
        """Read once; blocks if there is nothing to read."""
        piece = os.read(self.descriptor, _PIECE)
        self._data += piece
        self._ended = not piece

    def readline(self, limit: int) -> bytes:
        """Return the next line, or `limit` bytes of it, or nothing at the end."""
        while not self.has_line():
            self.fill()
        end = self._data.find(b"\n", self._searched) + 1 or len(self._data)
        line = bytes(self._data[: min(end, limit)])
        del self._data[: len(line)]
        self._searched = 0
        return line


def _pipe(descriptor: int) -> _Pipe | None:
    """Return the pipe of a descriptor, or `None` for one that an event loop cannot wait for, such as a file's."""
    mode = os.fstat(descriptor).st_mode
    can_wait = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
    return _Pipe(descriptor) if can_wait and sys.platform != "win32" else None


class RowSource:
    """The rows of a file or of memory, each with its number from 1. `read_rows` makes it; iterate over it once.

    Iterating reads the file, which blocks; `wait` waits for a pipe without blocking. Iterating raises `InvalidRequest`
    for a row that cannot be read; the error names the file and the line. At most one row of a JSONL or CSV file is in
    memory, and 256 of a Parquet file.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        *,
        total: int | None = None,
        position: Callable[[], float] | None = None,
        close: Callable[[], None] | None = None,
        pipe: _Pipe | None = None,
    ) -> None:
        self.total: int | None = total
        """The number of rows, or `None` if it is not known before the end."""
        self._rows = rows
        self._number = 0
        self._position = position
        self._close = close
        self._last: float | None = None
        self._pipe = pipe

    async def wait(self) -> None:
        """Wait until the next row of a pipe has come. Returns at once if the rows are not read from a pipe."""
        while self._pipe is not None and not self._pipe.has_line():
            await anyio.wait_readable(self._pipe.descriptor)
            self._pipe.fill()

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        try:
            for row in self._rows:
                self._number += 1
                yield self._number, row
            self._last = 1.0
        finally:
            self.close()

    @property
    def fraction(self) -> float | None:
        """How much has been read, from 0 to 1, or `None` if the size is not known, as for a pipe."""
        if self._last is not None:
            return self._last
        if self._position is not None:
            return self._position()
        return self._number / self.total if self.total else None

    def close(self) -> None:
        """Close the file, if it was not read to its end. Standard input stays open."""
        if self._close is not None:
            self._last = self.fraction
            self._close()
            self._position = self._close = None


def read_rows(source: str | os.PathLike[str] | Iterable[Row]) -> RowSource:
    """Open a file whose name ends in `.jsonl` (or `.ndjson`), `.csv` or `.parquet`, or take rows in memory.

    `-` is standard input, as JSONL. Text is UTF-8. The first line of a CSV file names the columns, and its values are
    strings. A Parquet file needs the extra `parquet`.

    Raises `InvalidRequest` if the file cannot be opened or is of another kind, and `ConfigurationError` if the library
    for Parquet is not installed.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _memory(source)
    if source == "-":
        return _standard_input()
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    parse = _TEXT_FORMATS.get(suffix)
    if parse is None:
        raise InvalidRequest(
            f"{path}: the name must end in .jsonl, .csv or .parquet, which tells how to read the rows; "
            "use - to read JSONL from standard input"
        )
    try:
        file = path.open("rb")
        status = os.fstat(file.fileno())
        pipe = _pipe(file.fileno())
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise _unreadable(path, error) from None
    position = partial(_fraction, file, status.st_size) if stat.S_ISREG(status.st_mode) else None
    return RowSource(parse(pipe or file, str(path)), position=position, close=file.close, pipe=pipe)


def _standard_input() -> RowSource:
    if cast("object", sys.stdin) is None:
        raise InvalidRequest("standard input is closed; give the name of a file, or rows through a pipe")
    try:
        pipe = _pipe(sys.stdin.fileno())
    except OSError:  # a program has replaced `sys.stdin` by an object without a descriptor
        pipe = None
    return RowSource(_jsonl_rows(pipe or sys.stdin.buffer, "standard input"), pipe=pipe)


def _fraction(file: BinaryIO, size: int) -> float:
    return min(file.tell() / size, 1.0) if size else 1.0


def _unreadable(path: Path, error: Exception) -> InvalidRequest:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InvalidRequest(f"{path} cannot be read: {reason}")


def _memory(rows: Iterable[Row]) -> RowSource:
    if isinstance(rows, (Mapping, bytes, bytearray)) or not isinstance(rows, Iterable):
        raise InvalidRequest(
            f"the rows must be the name of a file, or a list or another iterable of dicts, not {type(rows).__name__}"
        )
    return RowSource(_checked(rows), total=len(rows) if isinstance(rows, Sized) else None)


def _checked(rows: Iterable[object]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise InvalidRequest(f"row {number} must be a dict of columns, not {type(row).__name__}")
        if odd := next((name for name in row if not isinstance(name, str)), None):
            raise InvalidRequest(f"row {number}: the name of a column must be a string, not {type(odd).__name__}")
        yield cast("Row", row)


def _lines(file: BinaryIO | _Pipe, name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, with their numbers from 1. A file without any content is an error."""
    number = 0
    while True:
        try:
            line = file.readline(LINE_LIMIT + 1)
        except OSError as error:
            raise _unreadable(Path(name), error) from None
        if not line:
            break
        number += 1
        if len(line) > LINE_LIMIT:
            raise InvalidRequest(f"{name}, line {number}: the line is longer than {LINE_LIMIT >> 20} MB")
        try:
            # A byte-order mark can only be in the first line.
            yield number, line.decode() if number > 1 else decoded(line)
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"{name}, line {number}: byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8; "
                "save the file as UTF-8"
            ) from None
        except ValueError as error:  # UTF-16
            raise InvalidRequest(f"{name}: {error}") from None
    if not number:
        raise InvalidRequest(f"{name} is empty")


def _jsonl_rows(file: BinaryIO | _Pipe, name: str) -> Iterator[Row]:
    for number, line in _lines(file, name):
        if not line.isspace():
            yield _json_row(line, f"{name}, line {number}")


def _json_row(line: str, where: str) -> Row:
    try:
        row = loads_finite(line)
    except RecursionError:
        raise InvalidRequest(f"{where}: the JSON is nested too deeply") from None
    except ValueError as error:
        if ends_too_early(line.encode()):
            raise InvalidRequest(
                f"{where}: the line ends in the middle of a JSON value; each line must be one whole JSON object"
            ) from None
        problem = f"{error.msg}, column {error.colno}" if isinstance(error, JSONDecodeError) else str(error)
        raise InvalidRequest(f"{where}: not valid JSON: {problem}") from None
    if not isinstance(row, dict):
        kind = "an array" if isinstance(row, list) else "null" if row is None else f"a {type(row).__name__}"
        raise InvalidRequest(f"{where}: {kind}, not a JSON object; each line must be one JSON object")
    return row


def _csv_rows(file: BinaryIO | _Pipe, name: str) -> Iterator[Row]:
    # The module's limit, 131,072 characters, is less than a long document, and can only be set for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), LINE_LIMIT))
    reader = csv.reader((line for _, line in _lines(file, name)), strict=True)
    columns: list[str] = []
    while True:
        where = f"{name}, line {reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InvalidRequest(f"{where}: {_csv_problem(str(error))}") from None
        if fields is None:
            return
        if not fields:  # an empty line
            continue
        if not columns:
            columns = fields
            _check_columns(columns, where)
        elif len(fields) != len(columns):
            raise InvalidRequest(
                f"{where}: {len(fields)} fields, but the first line names {len(columns)} columns; "
                'put a field that contains a comma in quotes: "a, b"'
            )
        else:
            yield dict(zip(columns, fields, strict=True))


def _csv_problem(text: str) -> str:
    if "end of data" in text or "field limit" in text:
        return "a quoted field of this row has no closing quote, or is too long"
    if "new-line character" in text:
        return "the row contains a carriage return without a line feed; save the file with line ends of Unix or Windows"
    return f"not valid CSV: {text}; write a quote within a quoted field twice"


def _check_columns(columns: list[str], where: str) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise InvalidRequest(f"{where}: two columns are named {twice[0]!r}; each column needs a name of its own")
    if len(columns) == 1 and any(separator in columns[0] for separator in ";\t"):
        raise InvalidRequest(f"{where}: the columns must be separated by commas, not by semicolons or tabs")


_TEXT_FORMATS: Mapping[str, Callable[[BinaryIO | _Pipe, str], Iterator[Row]]] = {
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".csv": _csv_rows,
}


def _parquet(path: Path) -> RowSource:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ConfigurationError(
            f"{path}: a Parquet file needs the package pyarrow; install trunkline[parquet]"
        ) from None
    try:
        file = parquet.ParquetFile(path, buffer_size=_PARQUET_BUFFER, pre_buffer=False)
        _check_columns(file.schema_arrow.names, str(path))
    except (OSError, ArrowException) as error:
        raise _unreadable(path, error) from None

    def rows() -> Iterator[Row]:
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, use_threads=False):
                yield from batch.to_pylist()
        except (OSError, ValueError, ArithmeticError, ArrowException) as error:  # such as a date after the year 9999
            raise _unreadable(path, error) from None

    return RowSource(rows(), total=file.metadata.num_rows, close=file.close)
