"""What may reach a terminal, and how it looks there."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

# C0 but newline and tab, DEL, and C1, whose U+009B some terminals take for the start of an escape sequence.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

DIM = "\x1b[2m"
BOLD = "\x1b[1m"
PLAIN = "\x1b[0m"


def safe(text: str) -> str:
    """The text without control characters, which could move the cursor, retitle the window or answer for the user."""
    return _CONTROL.sub("", text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is there and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False  # closed


def styled(text: str, style: str, stream: TextIO) -> str:
    """The text in a style where the stream is a terminal that shows it (https://no-color.org is honoured)."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"{style}{text}{PLAIN}"


def print_note(text: str, *, style: str | None = None) -> None:
    """Say something beside the output: on stderr, without control characters."""
    text = safe(text)
    print(styled(text, style, sys.stderr) if style else text, file=sys.stderr, flush=True)


def lenient_output() -> None:
    """Let no character that the output's encoding lacks (or half of a surrogate pair) end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors="replace")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn and wrapped on a terminal, in aligned columns of one line each elsewhere."""
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
