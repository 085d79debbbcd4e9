"""The rows that are recorded in a folder of journals.

Each actor writes a journal of its own, so no two processes ever write to one file, and reads those of all others. An
actor that Ray starts again, and the actors of a job that runs again, find in them what was answered before.

    folder/RUN-PROCESS.jsonl      RUN is the call of `map`, PROCESS the process of an actor

While a process lives, it holds a lock on its journal (`Journal`). Ray gives the rows of an actor to another process
only when the actor has died. So a journal is read when its process has ended, and once at the start.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from uuid import uuid4

import attrs
from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.batch import Journal
from trunkline.batch.journal import decode
from trunkline.batch.row_ids import sql_text, temporary_database
from trunkline.errors import InvalidRequest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONGEST_WAIT = 60.0
"""How long the processes of an earlier run may take to end, in seconds. Ray ends them when their driver has died."""

_PIECE = 1000
"""How many lines of a journal are read at once."""


@attrs.define
class _File:
    """What was read of a journal. `is_complete` says that its process had ended before the last reading."""

    number: int
    path: Path
    offset: int = 0
    is_complete: bool = False


class RecordedRows:
    """The rows recorded in a folder, and the journal of this process.

    `run` is the id of the run. `identity` says what the requests are: a folder with answers to others is refused.
    `retry_failed` ignores the failures of earlier runs.

    Raises `InvalidRequest` for a folder that cannot be used, or that another run is using.
    """

    def __init__(self, folder: Path, run: str, identity: Mapping[str, str], *, retry_failed: bool) -> None:
        self._folder = folder
        self._run = run
        self._identity = identity
        self._retry_failed = retry_failed
        self._files: dict[str, _File] = {}
        self._mutex = threading.Lock()
        self._database = temporary_database(
            "CREATE TABLE rows (id TEXT PRIMARY KEY, file INTEGER, offset INTEGER, size INTEGER) WITHOUT ROWID"
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"the folder of journals {str(folder)!r} cannot be used: {error.strerror}") from None
        self._wait_for_earlier_runs()
        self._journal = self._own_journal()
        self._own = self._file(self._journal.path)
        for path in self._others():
            self._read(self._file(path))

    def refresh(self) -> None:
        """Read what processes that have ended since have recorded. May be called in another thread."""
        for path in self._others():
            file = self._file(path)
            if not file.is_complete and not _is_locked(path):
                self._read(file)
                file.is_complete = True

    def find(self, row_id: str) -> JSONObject | None:
        """Return the record of a row, or `None`."""
        found = self._place(row_id)
        if found is not None and found[1] is None:
            self._read(self._own)
            found = self._place(row_id)
        if found is None:
            return None
        path, offset, size = found
        with path.open("rb") as file:
            file.seek(offset or 0)
            return decode(file.read(size or 0))

    def append(self, row_id: str, record: Mapping[str, JSONValue]) -> None:
        """Record a row. Raises `OSError` if that fails."""
        self._journal.append(record)
        with self._mutex:
            # Where the record is in the file is found out if the row is asked for again, which is rare.
            self._database.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, NULL, NULL)", (sql_text(row_id), self._own.number)
            )

    def sync(self) -> None:
        """Wait until what this process has recorded is on the disk. May be called in another thread."""
        self._journal.sync()

    def close(self) -> None:
        """Close the journal and the database."""
        self._journal.close()
        self._database.close()

    def _others(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*.jsonl") if path != self._journal.path)

    def _file(self, path: Path) -> _File:
        return self._files.setdefault(path.name, _File(len(self._files), path))

    def _place(self, row_id: str) -> tuple[Path, int | None, int | None] | None:
        with self._mutex:
            found = self._database.execute(
                "SELECT file, offset, size FROM rows WHERE id = ?", (sql_text(row_id),)
            ).fetchone()
        if found is None:
            return None
        number, offset, size = found
        return next(file.path for file in self._files.values() if file.number == number), offset, size

    def _own_journal(self) -> Journal:
        # Other processes must not try the lock before this one holds it, so the file gets its name afterwards.
        path = self._folder / f"{self._run}-{uuid4().hex[:12]}.jsonl"
        journal = Journal.open(path.with_suffix(".new"))
        journal.path.rename(path)
        journal.path = path
        journal.append({"kind": "requests", **self._identity, "host": socket.gethostname(), "pid": os.getpid()})
        return journal

    def _wait_for_earlier_runs(self) -> None:
        """Wait until the processes of earlier runs have ended: what they still record must not be asked for again."""
        deadline = time.monotonic() + LONGEST_WAIT
        for path in sorted(self._folder.glob("*.jsonl")):
            while not path.name.startswith(self._run) and _is_locked(path):
                if time.monotonic() > deadline:
                    raise InvalidRequest(
                        f"another run is writing to {str(path)!r}; stop it, or choose another folder for the journals"
                    )
                time.sleep(0.1)

    def _read(self, file: _File) -> None:
        """Add the rows that a journal has more than at the last reading."""
        with file.path.open("rb") as lines:
            lines.seek(file.offset)
            while piece := list(islice(lines, _PIECE)):
                for line in piece:
                    if not line.endswith(b"\n"):
                        return  # torn, or not yet written to its end
                    self._add(file, file.offset, line)
                    file.offset += len(line)

    def _add(self, file: _File, offset: int, line: bytes) -> None:
        record = decode(line)
        if record is None:
            return
        if record.get("kind") == "requests":
            self._check(file, record)
            return
        row_id = record.get("id")
        if not isinstance(row_id, str):
            return
        has_failed = "error" in record
        if has_failed and self._retry_failed and not file.path.name.startswith(self._run):
            return
        # A response counts more than a failure, whichever is read first.
        conflict = "IGNORE" if has_failed and file is not self._own else "REPLACE"
        with self._mutex:
            self._database.execute(
                f"INSERT OR {conflict} INTO rows VALUES (?, ?, ?, ?)",  # noqa: S608  # one of two constants
                (sql_text(row_id), file.number, offset, len(line)),
            )

    def _check(self, file: _File, record: JSONObject) -> None:
        changed = [name for name, text in self._identity.items() if record.get(name) != text]
        if changed:
            raise InvalidRequest(
                f"the folder {str(self._folder)!r} has the answers to other requests ({', '.join(changed)} changed, "
                f"see {file.path.name!r}); choose another folder for the journals"
            )


def _is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock of a journal. Where there are no locks, none does."""
    if fcntl is not None:
        with path.open("rb") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                return isinstance(error, BlockingIOError)
    return False
