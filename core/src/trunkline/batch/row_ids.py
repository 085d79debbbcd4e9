"""The ids of rows: which of them are recorded, and which were read from the input.

They are kept in a temporary SQLite database, which uses the disk once it has outgrown its cache, so that memory does
not grow with the number of rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from enum import IntEnum

from trunkline.errors import InvalidRequest

_CACHE_KIB = 16 * 1024


class Recorded(IntEnum):
    """What earlier runs have recorded of a row."""

    NOTHING = 0
    RESPONSE = 1
    FAILURE = 2


def temporary_database(*statements: str) -> sqlite3.Connection:
    """Return an empty database that is deleted when it is closed. The statements create its tables."""
    # An empty name makes a temporary database. Nothing is ever committed.
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    pragmas = ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}")
    for statement in (*(f"PRAGMA {pragma}" for pragma in pragmas), *statements, "BEGIN"):
        database.execute(statement)
    return database


class RowIds:
    """The ids of the rows of a run, and what is recorded of them."""

    def __init__(self) -> None:
        self._database = temporary_database(
            "CREATE TABLE ids (id TEXT PRIMARY KEY, recorded INTEGER NOT NULL, number INTEGER) WITHOUT ROWID"
        )

    def add(self, ids: Iterable[str], recorded: Recorded) -> int:
        """Add ids of recorded rows, and return how many are new. An id that is there already stays as it is."""
        before = self._database.total_changes
        self._database.executemany(
            "INSERT OR IGNORE INTO ids VALUES (?, ?, NULL)", ((sql_text(row_id), int(recorded)) for row_id in ids)
        )
        return self._database.total_changes - before

    def read(self, row_id: str, number: int) -> Recorded:
        """Return what is recorded of a row of the input. Raises `InvalidRequest` if an earlier row has the same id."""
        text = sql_text(row_id)
        found = self._database.execute("SELECT recorded, number FROM ids WHERE id = ?", (text,)).fetchone()
        if found is None:
            self._database.execute("INSERT INTO ids VALUES (?, 0, ?)", (text, number))
            return Recorded.NOTHING
        recorded, before = found
        if before is not None:
            raise InvalidRequest(f"the rows {before} and {number} have the same id, {row_id!r}; ids must be unique")
        self._database.execute("UPDATE ids SET number = ? WHERE id = ?", (number, text))
        return Recorded(recorded)

    def is_recorded(self, row_id: str) -> bool:
        """Return whether a row is recorded."""
        found = self._database.execute("SELECT recorded FROM ids WHERE id = ?", (sql_text(row_id),)).fetchone()
        return found is not None and found[0] != Recorded.NOTHING

    def close(self) -> None:
        """Delete the database."""
        self._database.close()


def sql_text(row_id: str) -> str | bytes:
    """Return what SQLite stores. It stores text as UTF-8, which has no lone surrogates."""
    try:
        row_id.encode()
    except UnicodeEncodeError:
        return row_id.encode("utf-8", "surrogatepass")
    return row_id
