"""How a failed command ends: one or two lines on stderr, an exit status, and a traceback only with `--debug`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from trunkline.errors import TrunklineError

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
def reported_errors(*, debug: bool) -> Iterator[Outcome]:
    """Report whatever the block raises on stderr and set the exit status. With `debug`, print the traceback first."""
    from cyclopts import CycloptsError

    from trunkline.cli.terminal import print_note

    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()
    except KeyboardInterrupt:
        outcome.status = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone, as in `trunkline … | head`. The interpreter flushes stdout once more when it
        # exits, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        outcome.status = PIPE_CLOSED
    except SystemExit as end:
        outcome.status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except (Exception, BaseExceptionGroup) as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, CycloptsError):
            command = " ".join(("trunkline", *(error.command_chain or ())))
            print_note(f"trunkline: {error}\nSee: {command} --help")
            outcome.status = MISUSED
        elif isinstance(error, TrunklineError):
            print_note(f"trunkline: {error}")
            outcome.status = MISUSED if isinstance(error, CommandError) else FAILED
        else:
            print_note(f"trunkline: unexpected {type(error).__name__}: {error}\nUse --debug for the traceback.")
            outcome.status = FAILED
