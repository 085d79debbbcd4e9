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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO, cast

from trunkline.cli.hidden import without_hidden

_CONTROL = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"
"""C0 except newline and tab, DEL, and C1: some terminals treat U+009B as the start of an escape sequence."""

_DIRECTION = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
"""What changes the order of the text around it (Unicode, UAX #9). Letters of Arabic and Hebrew need none of these."""

_INVISIBLE = (
    "\\xad\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u2028\\u2029\\u2060-\\u2065\\u206a-\\u206f\\u3164\\ufeff\\uffa0"
    "\\ufff0-\\ufffb"
    "\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e00ff\\U000e01f0-\\U000e0fff"
)
"""Characters without width, in which text could be hidden.

ZWNJ, ZWJ (U+200C and U+200D) and the variation selectors are not here: Persian, Hindi and emoji are written with them.
"""

_FLAG = "|".join(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
"""The flags of England, Scotland and Wales, the only emoji with tag characters (Unicode, UTS #51)."""

_JOINER = "\\u200c\\u200d"
_SELECTOR = "\\u034f\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\\U000e0100-\\U000e01ef"
"""Variation selectors, and the grapheme joiner. A letter has at most one; text could be hidden in a row of them.

A joiner may follow a selector, as in the emoji of a burning heart. Neither follows a joiner.
"""

_UNSAFE = re.compile(
    f"({_FLAG})|\\r(?=\\n)|[{_CONTROL}{_DIRECTION}{_INVISIBLE}\\ud800-\\udfff]"
    f"|(?<=[{_SELECTOR}{_JOINER}])[{_SELECTOR}]|(?<=[{_JOINER}])[{_JOINER}]"
)
_UNFINISHED = re.compile("(?:\r|[\ud800-\udbff]|\U0001f3f4[\U000e0061-\U000e007a]{0,5})\\Z")
"""The end of a piece of text whose meaning depends on the next piece."""

_LAST_IGNORABLE = re.compile(f"[{_SELECTOR}{_JOINER}]\\Z")
"""The end of a piece of text that decides whether the start of the next piece is escaped."""

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_COLOURS = re.compile("(\x1b\\[[0-9;:]*m)")

DIM = "\x1b[2m"
PLAIN = "\x1b[0m"


def _escaped(found: re.Match[str]) -> str:
    if found[1]:
        return found[1]
    if found[0] == "\r" and found.string[found.end() : found.end() + 1] == "\n":
        return ""  # a line break of Windows
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joined(found: re.Match[str]) -> str:
    return found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def visible(text: str) -> str:
    """Return text in which everything that controls a terminal or is invisible is escaped, as in `\\x1b` or `\\u202e`.

    Newlines and tabs remain. So does all ordinary text, such as Arabic, Hebrew, Hindi and emoji.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, _PAIR.sub(_joined, text))


def one_line(text: str) -> str:
    """Return `visible` text in which line breaks and tabs are escaped too: a name cannot pretend to be another line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


class TextPieces:
    """Joins text that arrives in pieces, such as the answer of a model, and makes it `visible` for a terminal."""

    def __init__(self, *, escaped: bool) -> None:
        self._escaped = escaped
        self._kept = ""
        self._last = ""

    def feed(self, text: str) -> str:
        """Return what can be written of the text so far. The rest is half a character or a part of a flag."""
        text = _PAIR.sub(_joined, self._kept + text)
        unfinished = _UNFINISHED.search(text)
        self._kept = unfinished[0] if unfinished else ""
        return self._visible(text.removesuffix(self._kept))

    def finish(self) -> str:
        """Return the rest."""
        rest, self._kept = self._kept, ""
        return self._visible(rest)

    def _visible(self, text: str) -> str:
        if not (text and self._escaped):
            return text
        # The first character of a text is never escaped for what precedes it, so the prefix keeps its length.
        shown = visible(self._last + text)[len(self._last) :]
        last = _LAST_IGNORABLE.search(text)
        self._last = last[0] if last else ""
        return shown


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
    inner.write(f"{style}{text}{PLAIN}" if style and text and _has_styles(stream) else text)
    inner.flush()


def print_note(text: str, *, style: str | None = None) -> None:
    """Print a line to stderr in a visible form. stdout is for the command's result."""
    write(text, sys.stderr, style=style)
    write("\n", sys.stderr)


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
