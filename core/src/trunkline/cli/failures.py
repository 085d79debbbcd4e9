"""How a command ends when it fails: a line or two on stderr, an exit status, and no traceback unless asked for."""

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
"""As a shell reports a process that SIGINT ended: 128 and the signal's number."""
PIPE_CLOSED = 141
"""The same for SIGPIPE."""


class CommandError(TrunklineError):
    """The command line asks for what cannot be done. The exit status is 2."""


@attrs.define
class Outcome:
    """How a command ended."""

    status: int = 0


@contextmanager
def told(*, debug: bool) -> Iterator[Outcome]:
    """Turn whatever the block raises into words on stderr and a status. With `debug` the traceback comes first."""
    from cyclopts import CycloptsError

    from trunkline.cli.terminal import print_note

    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()
    except KeyboardInterrupt:
        outcome.status = INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end, and would complain again.
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
            print_note(f"trunkline: unexpected {type(error).__name__}: {error}\nWith --debug it shows where.")
            outcome.status = FAILED
