"""Output of the commands. Text that could control a terminal, or hide something on it, is shown in a visible form.

Everything that a command shows may contain text of a model, a server, a file or an argument. The commands print only
with the functions of this module, which escape it. `safe_output` also puts a `SafeStream` around stderr, and around
stdout if that is a terminal, for what others print: plugins' commands, cyclopts, log handlers, and Python's warnings.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO, cast

from trunkline._visible_text import visible
from trunkline.cli.hidden import without_hidden

_COLOURS = re.compile("(\x1b\\[[0-9;:]*m)")

BOLD = "\x1b[1m"
DIM = "\x1b[2m"
PLAIN = "\x1b[0m"


class SafeStream:
    """A text stream that makes `visible` what is written to it, and with `hides_keys` hides the keys that users wrote.

    With `colours`, the sequences that set colours and styles pass: rich prints the help and its tables with them. They
    cannot move the cursor, and send nothing.
    """

    def __init__(self, stream: TextIO, *, colours: bool, hides_keys: bool = False) -> None:
        self.inner = stream
        self._colours = colours
        self._hides_keys = hides_keys

    def write(self, text: str) -> int:
        """Write the text in a visible form."""
        if self._hides_keys:
            text = without_hidden(text)
        if self._colours and "\x1b" in text:
            pieces = _COLOURS.split(text)  # every second piece is a sequence
            shown = "".join(piece if index % 2 else visible(piece) for index, piece in enumerate(pieces))
        else:
            shown = visible(text)
        self.inner.write(shown)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _inner(stream: TextIO) -> TextIO:
    return stream.inner if isinstance(stream, SafeStream) else stream


@contextlib.contextmanager
def safe_output(*, colours: bool) -> Iterator[None]:
    """Make visible what is written to stderr during the block, and to stdout if it is a terminal.

    A file or a pipe gets from stdout what was written: the answer may be data for another program. `colours` says
    whether colours pass on stderr too, for the command of a plugin. A character that the encoding of a stream lacks is
    escaped.
    """
    saved = sys.stdout, sys.stderr
    for stream in saved:
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors="backslashreplace")
    if is_terminal(sys.stdout):
        sys.stdout = cast(TextIO, SafeStream(saved[0], colours=True))
    if saved[1] is not None:
        sys.stderr = cast(TextIO, SafeStream(saved[1], colours=colours, hides_keys=True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = saved


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is open and a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False  # closed


def _has_styles(stream: TextIO) -> bool:
    # NO_COLOR is described at https://no-color.org.
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write(text: str, stream: TextIO | None, *, style: str | None = None) -> None:
    """Write text to a stream in a visible form, without the keys that the user wrote, at once.

    `style` applies if the stream is a terminal that supports it and NO_COLOR is not set.
    """
    write_visible(visible(without_hidden(text)), stream, style=style)


def write_visible(text: str, stream: TextIO | None, *, style: str | None = None) -> None:
    """Write text that is already visible, or that goes to another program as it is."""
    if stream is None:  # the shell closed it: `trunkline … 2>&-`
        return
    inner = _inner(stream)
    line = text.removesuffix("\n")
    inner.write(f"{style}{line}{PLAIN}{text[len(line) :]}" if style and line and _has_styles(stream) else text)
    inner.flush()


def print_note(text: str, *, style: str | None = None) -> None:
    """Print a line to stderr in a visible form. stdout is for the command's result."""
    write(f"{text}\n", sys.stderr, style=style)


def print_result(text: str) -> None:
    """Print a line to stdout in a visible form."""
    write(f"{text}\n", stdout())


def print_json(value: object, *, indent: int | None = None, whole: bool = False) -> None:
    """Print a value to stdout as JSON in printable ASCII. `whole` is for what a model wrote: no key is hidden in it."""
    # `json` does not escape DEL.
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:  # a provider sent `NaN` or `Infinity`, which JSON does not have
        finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
        text = json.dumps(finite, indent=indent)
    text = text.replace("\x7f", "\\u007f") + "\n"
    write_visible(text if whole else without_hidden(text), stdout())


def stdout() -> TextIO:
    """Return the stream for the command's result. Raises `OSError` if there is none."""
    if sys.stdout is None:  # the shell closed it: `trunkline … >&-`
        raise OSError(errno.EBADF, "stdout is closed")
    return sys.stdout


class _LogNotes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nobody reads it; the program goes on, as with the handlers of `logging`
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


@contextlib.contextmanager
def live_lines(stream: TextIO | None) -> Iterator[Callable[[str], None] | None]:
    """Show lines that change in place during the block, and that are gone after it, on stdout or stderr.

    What is written to stderr meanwhile stands above them if that is a terminal too.

    The block gets a function that shows other lines instead, or `None` if the stream is not a terminal that can do it.
    A line that is longer than the terminal is cut.
    """
    if stream is None or not is_terminal(stream) or os.environ.get("TERM") in ("dumb", "unknown"):
        yield None
        return
    from rich.console import Console
    from rich.file_proxy import FileProxy
    from rich.live import Live
    from rich.text import Text

    # The lines are escaped here, since a `SafeStream` would escape the sequences that move the cursor.
    console = Console(file=_inner(stream))
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:

        def draw(lines: str) -> None:
            live.update(Text(visible(without_hidden(lines)), no_wrap=True, overflow="ellipsis"), refresh=True)

        saved = sys.stderr
        if is_terminal(saved):
            # Rich's own redirection would show what is not escaped.
            proxy = cast(TextIO, FileProxy(console, _inner(saved)))
            sys.stderr = cast(TextIO, SafeStream(proxy, colours=False, hides_keys=True))
        try:
            yield draw
        finally:
            sys.stderr = saved


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: wrapped to the width of a terminal, or as one line for each row if stdout is not a terminal."""
    if is_terminal(sys.stdout):
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(visible(without_hidden(cell))) for cell in row))
        Console().print(table)  # writes to sys.stdout, which is a SafeStream
        return
    lines = [list(columns), *([visible(without_hidden(cell)).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(line[position]) for line in lines) for position in range(len(columns))]
    for line in lines:
        print_result("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
