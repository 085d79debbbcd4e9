"""Read small files, and pipes, that a configuration names: never without end, and never for ever."""

from __future__ import annotations

import codecs
import os
import select
import stat
import time

WRITER_LIMIT = 2.0
"""How long to wait for a program that opens a named pipe to write to it, in seconds."""

SILENCE_LIMIT = 60.0
"""How long to wait for the next bytes of a pipe, in seconds."""

_PIECE = 64 * 1024


class UnreadableFile(Exception):
    """A file cannot be read. The text continues the sentence "the file …"."""


def open_file(path: str | os.PathLike[str]) -> int:
    """Open a file for `read_descriptor`, without waiting for the writer of a named pipe. Raises `OSError`."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags)


def read_file(path: str | os.PathLike[str], limit: int, *, pipes: bool = True) -> bytes:
    """Read a regular file, or a pipe unless `pipes` is false, of at most `limit` bytes. Raises `UnreadableFile`."""
    try:
        descriptor = open_file(path)
    except (OSError, ValueError) as error:  # a NUL in the name is a ValueError
        raise _unreadable(error) from None
    try:
        return read_descriptor(descriptor, limit, pipes=pipes)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int, limit: int, *, pipes: bool = True) -> bytes:
    """Read an open regular file, or a pipe unless `pipes` is false, to its end. Raises `UnreadableFile`."""
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise UnreadableFile("is a folder")
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise UnreadableFile("is a device or a socket, not a file")
        if stat.S_ISFIFO(kind) and not pipes:
            raise UnreadableFile("is a pipe; use a regular file")
        return _read(descriptor, limit)
    except OSError as error:
        raise _unreadable(error) from None


def _read(descriptor: int, limit: int) -> bytes:
    content = bytearray()
    is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    opened = time.monotonic()
    while True:
        try:
            piece = os.read(descriptor, _PIECE)
        except BlockingIOError:  # somebody may still write to the pipe
            waiting = select.poll()
            waiting.register(descriptor, select.POLLIN)
            if not waiting.poll(SILENCE_LIMIT * 1000):
                raise UnreadableFile(f"is a pipe into which nothing was written for {SILENCE_LIMIT:g} s") from None
            continue
        content += piece
        if len(content) > limit:
            raise UnreadableFile(f"has more than {limit} bytes")
        if piece:
            continue
        # Nobody writes to a pipe before its writer has opened it, which looks like the end.
        if content or not is_pipe:
            return bytes(content)
        if time.monotonic() > opened + WRITER_LIMIT:
            raise UnreadableFile("is a pipe into which nobody writes")
        time.sleep(0.01)


def _unreadable(error: OSError | ValueError) -> UnreadableFile:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "its name is not valid"
    return UnreadableFile(f"cannot be read: {reason}")


def decoded(content: bytes) -> str:
    """Return the text of a file in UTF-8, without a byte-order mark. Raises `ValueError`."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it is UTF-16, as older versions of PowerShell write it; save it as UTF-8")
    return content.decode("utf-8-sig")
