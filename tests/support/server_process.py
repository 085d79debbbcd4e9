"""A server in a process of its own: started, waited for until it tells its URL, and ended by its process id."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

START_LIMIT = 90.0
"""Seconds that a server may take until it listens."""

STOP_LIMIT = 10.0
"""Seconds that a server may take to end when it is asked to."""


@contextmanager
def server_process(*command: str, ready: str = r"^ready (\S+)") -> Iterator[str]:
    """Run a server for as long as the block runs; gives its URL.

    `ready` is found in the line of the server's standard output that tells the URL, as its first group. Raises
    `RuntimeError` with the end of what the server logged where that line does not come.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        # Ending the process ends its output, and with it the wait for a line.
        watch = threading.Timer(START_LIMIT, process.kill)
        watch.start()
        try:
            found = next((match for line in process.stdout if (match := re.search(ready, line))), None)
            watch.cancel()
            if found is None:
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not start: {log.read()[-2000:].decode(errors='replace')}")
            # What it goes on to print is read, so that a full pipe never stops it.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield found.group(1)
        finally:
            watch.cancel()
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
