"""How a failed command ends: one or two lines on stderr, an exit status, and a traceback only with `--debug`."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs

from trunkline._exception_text import exception_text
from trunkline.errors import TrunklineError
from trunkline.secrets import scrub

if TYPE_CHECKING:
    from cyclopts import CycloptsError

FAILED = 1
MISUSED = 2
INTERRUPTED = 130
"""What a shell reports for a process that SIGINT ended: 128 plus the number of the signal."""
PIPE_CLOSED = 141
"""What a shell reports for a process that SIGPIPE ended."""


class CommandError(TrunklineError):
    """The command line is wrong. The exit status is 2."""


@attrs.define
class Outcome:
    """How a command ended: its exit status."""

    status: int = 0


@contextmanager
def reported_errors(arguments: Sequence[str], *, debug: bool) -> Iterator[Outcome]:
    """Report whatever the block raises on stderr and set the exit status. With `debug`, print the traceback first.

    `arguments` are those of the command. What is not repeated of them is described at `_without_keys`.
    """
    from cyclopts import CycloptsError

    outcome = Outcome()
    try:
        yield outcome
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        outcome.status = INTERRUPTED
    except BrokenPipeError:
        outcome.status = PIPE_CLOSED
        _discard_output()
    except SystemExit as end:
        outcome.status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except (Exception, BaseExceptionGroup) as error:
        if isinstance(error, BaseExceptionGroup) and error.split(BrokenPipeError)[1] is None:
            outcome.status = PIPE_CLOSED
            _discard_output()
            return
        if isinstance(error, CycloptsError):
            command = " ".join(("trunkline", *(error.command_chain or ())))
            text = f"trunkline: {_misuse(error)}\nSee: {command} --help"
            outcome.status = MISUSED
        elif isinstance(error, TrunklineError):
            text = f"trunkline: {error}"
            outcome.status = MISUSED if isinstance(error, CommandError) else FAILED
        elif isinstance(error, OSError) and error.strerror:
            text = f"trunkline: {': '.join(str(part) for part in (error.filename, error.strerror) if part)}"
            outcome.status = FAILED
        else:
            text = f"trunkline: unexpected {exception_text(error)}\nUse --debug for the traceback."
            outcome.status = FAILED
        try:
            _report(error, text, arguments, debug=debug)
        except BrokenPipeError:
            _discard_output()


def _misuse(error: CycloptsError) -> str:
    """Return what is wrong with the command line, without the words of Python."""
    from cyclopts import CoercionError, UnusedCliTokensError

    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        some = "argument" if len(error.unused_tokens) == 1 else "arguments"
        return f"Unexpected {some}: {', '.join(error.unused_tokens)}."
    if isinstance(error, CoercionError) and error.token is not None and error.target_type in (int, float):
        return f"{error.token.keyword} takes a number, not {error.token.value!r}."
    return str(error)


def _report(error: BaseException, text: str, arguments: Sequence[str], *, debug: bool) -> None:
    from trunkline.cli.terminal import print_note

    if debug:
        trace = "".join(traceback.format_exception(error)).rstrip("\n")
        print_note(_without_keys(trace, arguments, error))
    print_note(_without_keys(text, arguments, error))


def _discard_output() -> None:
    """Send the rest of the output nowhere, because its reader is gone, as in `trunkline … | head`.

    The interpreter flushes stdout and stderr once more when it exits, and would print an error.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        with suppress(OSError, ValueError):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_WORD = re.compile(r"-{0,2}[a-z]{1,20}(?:[-_][a-z]{1,20}){0,3}")
"""A command or an option, or a mistyped one."""


def _without_keys(text: str, arguments: Sequence[str], error: BaseException) -> str:
    """Return the text of a mistake on the command line, which repeats commands and options that are words, no values.

    In the text of another error, only what looks like a key is hidden: see `trunkline.cli.hidden`.
    """
    from cyclopts import CycloptsError

    if not isinstance(error, CycloptsError):
        return text
    return scrub(text, [value for value in _typed_values(arguments) if not _WORD.fullmatch(value)])


def _typed_values(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals:
            yield value
        if not _WORD.fullmatch(option):
            yield from (argument, option, option.replace("-", "_"), option.lstrip("-"))
            if option.startswith("-"):
                yield option[2:]  # `-sVALUE` is `-s VALUE`
