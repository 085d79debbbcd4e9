"""Output to a terminal: control characters, styles, tables, and notes on stderr."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

# C0 except newline and tab, DEL, and C1: some terminals treat U+009B as the start of an escape sequence.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

DIM = "\x1b[2m"
PLAIN = "\x1b[0m"


def safe(text: str) -> str:
    """Remove control characters from text of a model or a server.

    On a terminal they could move the cursor, change the window's title, or make the terminal send input of their own.
    """
    return _CONTROL.sub("", text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is open and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False  # closed


def styled(text: str, style: str, stream: TextIO) -> str:
    """Return the text with a style, if the stream is a terminal that supports it and NO_COLOR is not set.

    NO_COLOR is described at https://no-color.org.
    """
    if not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"{style}{text}{PLAIN}"


def print_note(text: str, *, style: str | None = None) -> None:
    """Print a line to stderr, without control characters. stdout is for the command's result."""
    text = safe(text)
    print(styled(text, style, sys.stderr) if style else text, file=sys.stderr, flush=True)


class _LogNotes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_note(record.getMessage(), style=DIM)


@contextlib.contextmanager
def log_on_stderr() -> Iterator[None]:
    """Show the warnings of Trunkline's logger on stderr during the block, such as a long wait before a retry."""
    logger, handler = logging.getLogger("trunkline"), _LogNotes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def lenient_output() -> None:
    """Replace characters that the encoding of stdout or stderr lacks, instead of raising an error.

    Models may also send half of a surrogate pair, which no encoding has.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors="replace")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: wrapped to the width of a terminal, or as one line for each row if stdout is not a terminal."""
    clean = [[safe(cell) for cell in row] for row in rows]
    if is_terminal(sys.stdout):
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in clean:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    lines = [list(columns), *([cell.replace("\n", " ") for cell in row] for row in clean)]
    widths = [max(len(line[position]) for line in lines) for position in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
