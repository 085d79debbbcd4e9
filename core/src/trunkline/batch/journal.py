"""An append-only file of JSON lines, each with a checksum.

A record is one line, written by one call of the operating system, so a process that is killed leaves whole lines, and
at most one torn line at the end. `Journal.open` mends that: it removes a torn last line, and sets aside lines in the
middle that a failing disk has damaged, in a file whose name ends in `.damaged`. Their rows count as not recorded.

    {"id":"17","row":17,"text":"Paris","crc32":"0a1b2c3d"}

The checksum is the CRC-32 of the line's bytes before `,"crc32"`.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from trunkline._json import JSONObject, JSONValue, dumps, is_json, loads
from trunkline.errors import InvalidRequest

if sys.platform != "win32":
    import fcntl

_END = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\r?\n?\Z')

DAMAGED = ".damaged"
"""The suffix of the file that damaged lines are moved to."""


def encode(record: Mapping[str, JSONValue]) -> bytes:
    """Return the line of a record, which must not be empty."""
    body = dumps(record)[:-1]
    return b'%b,"crc32":"%08x"}\n' % (body, zlib.crc32(body))


def is_whole(line: bytes) -> bool:
    """Return whether a line has the checksum of its bytes."""
    end = _END.search(line[-24:])
    return end is not None and zlib.crc32(line[: len(line) - (end.end() - end.start())]) == int(end[1], 16)


def decode(line: bytes) -> JSONObject | None:
    """Return the record of a line, or `None` for a line that is damaged."""
    if not is_whole(line):
        return None
    try:
        record = loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record.pop("crc32", None)
    return record


def read_records(path: str | os.PathLike[str]) -> Iterator[JSONObject]:
    """Yield the records of a journal, which may still be written to. Damaged lines are left out.

    Raises `InvalidRequest` if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            for line in file:
                record = decode(line)
                if record is not None:
                    yield record
    except OSError as error:
        raise InvalidRequest(f"the file {os.fspath(path)!r} cannot be read: {error.strerror}") from None


class Journal:
    """A journal that is open for appending. Only one process can have it open.

    `append` writes a record at once, so that it survives the end of the process. `sync` makes the operating system
    write it to the disk, so that it survives a loss of power.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Journal:
        """Open or create a journal, and mend it.

        Raises `InvalidRequest` if another process has it open, if it is not a journal, or if it cannot be written.
        """
        path = Path(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        while True:
            try:
                descriptor = os.open(path, flags, 0o644)
            except OSError as error:
                raise InvalidRequest(f"the file {str(path)!r} cannot be written: {error.strerror}") from None
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise InvalidRequest(f"{str(path)!r} is not an ordinary file, but a pipe or a device")
                _lock(descriptor, path)
                # Another process may have replaced the file between the two calls, and so may mending it.
                if _is_current(descriptor, path):
                    _mend(descriptor, path)
                    if _is_current(descriptor, path):
                        return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def append(self, record: Mapping[str, JSONValue]) -> None:
        """Write a record. If that fails, for example because the disk is full, raises `OSError` and writes nothing."""
        line = encode(record)
        written = 0
        try:
            while written < len(line):  # a part is written if the disk becomes full, and the next call raises the error
                written += os.write(self._descriptor, line[written:] if written else line)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._size

    def clear(self) -> None:
        """Remove all records."""
        os.ftruncate(self._descriptor, 0)
        self._size = 0

    def sync(self) -> None:
        """Wait until everything is on the disk. May be called in another thread."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Write everything to the disk, and let other processes open the journal."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _lock(descriptor: int, path: Path) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(f"another process is writing to {str(path)!r}; wait for its end, or stop it") from None
        except OSError:
            pass  # a file system without locks


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _mend(descriptor: int, path: Path) -> None:
    """Remove a torn last line, and replace a file with damaged lines by one without them."""
    whole = damaged = good = 0
    torn = b""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for line in file:
            if not line.endswith(b"\n"):
                torn = line
            elif is_whole(line):
                whole += 1
                good += len(line)
            else:
                damaged += 1
        if not whole and (damaged or (torn and not _begins_a_record(torn))):
            raise InvalidRequest(
                f"the file {str(path)!r} exists, and is not an output of an earlier run; choose another name"
            )
        if damaged:
            _replace(file, Path(os.path.realpath(path)))  # a symbolic link stays
        elif torn:
            os.ftruncate(descriptor, good)


def _begins_a_record(torn: bytes) -> bool:
    """Return whether a line without an end may be the beginning of a record. It is not if it is a whole JSON value."""
    starts = any(torn.startswith(start[: len(torn)]) for start in (b'{"id":', b'{"kind":'))
    return starts and (is_whole(torn) or not is_json(torn))


def _replace(file: BinaryIO, path: Path) -> None:
    """Replace a journal by its whole lines, once the others are on the disk in the file of damaged lines."""
    mended = path.with_name(path.name + ".mended")
    file.seek(0)
    with path.with_name(path.name + DAMAGED).open("ab") as aside, mended.open("wb") as kept:
        for line in file:
            (kept if is_whole(line) and line.endswith(b"\n") else aside).write(line)
        for output in (aside, kept):
            output.flush()
            os.fsync(output.fileno())
    mended.replace(path)


_ID = re.compile(rb'\{"id":("[^"\\]*+(?:\\.[^"\\]*+)*+")')


def read_ids(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the ids of the records of a journal, without decoding the rest. There are none if there is no such file."""
    if not Path(path).exists():
        return
    with Path(path).open("rb") as file:
        for line in file:
            found = _ID.match(line)
            if found is not None and is_whole(line):
                yield loads(found[1])
