"""What the state file records of provider batches, and the rows that belong to them: see `provider_batches`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from trunkline.batch.journal import read_records
from trunkline.batch.results import Row
from trunkline.batch.row_calls import NumberedRow
from trunkline.batch.row_ids import sql_text, temporary_database
from trunkline.batches import Batch, BatchedRequest
from trunkline.storage import from_json

MOST_ROWS = 50_000
"""The most rows that are read for one batch. A provider's own limits may be lower."""

MOST_BYTES = 64 * 1024 * 1024
"""About how much of the input is read for one batch, in bytes. The rows of one batch are in memory together."""


def is_full(count: int, size: int) -> bool:
    """Return whether rows suffice for one batch."""
    return count >= MOST_ROWS or size >= MOST_BYTES


@attrs.define(eq=False)
class OpenBatch:
    """A batch that is not collected. `batch` is `None` while it is unknown whether the provider has accepted it.

    `service` is the name of the service that it was sent with. `adopted` says that it was found in the provider's list
    without its token, so that it may be of another program; `others` are the ids of batches that are known to be.
    """

    token: str
    time: float
    size: int
    service: str | None
    batch: Batch | None = None
    adopted: bool = False
    others: set[str] = attrs.field(factory=set)

    @property
    def prefix(self) -> str:
        return f"{self.token.replace('-', '')[:16]}-"


@attrs.frozen
class HeldRow:
    """A row that is not recorded yet. `tries` is how often it was submitted."""

    id: str
    number: int
    tries: int
    row: Row | None

    @property
    def input(self) -> Row:
        return {} if self.row is None else self.row


class HeldRows:
    """The rows that wait for a batch or for its results, on disk, so that memory does not grow with their number.

    A row has the token and the position of its batch, or none if it waits to be submitted. Rows that only the state
    file knows are without their content until the input is read.
    """

    def __init__(self) -> None:
        self._database = temporary_database(
            "CREATE TABLE rows (place INTEGER PRIMARY KEY, id TEXT UNIQUE, number INTEGER, tries INTEGER, token TEXT, "
            "position INTEGER, content BLOB)",
            "CREATE INDEX of_batch ON rows (token, position)",
        )

    @property
    def lacks_content(self) -> bool:
        """Whether there is a row whose content was not read yet."""
        return self._database.execute("SELECT 1 FROM rows WHERE content IS NULL LIMIT 1").fetchone() is not None

    def add(
        self, row_id: str, number: int, tries: int, *, token: str | None = None, position: int | None = None
    ) -> None:
        """Add a row without its content, or change where it is."""
        self._database.execute(
            "INSERT INTO rows (id, number, tries, token, position) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
            "SET tries = excluded.tries, token = excluded.token, position = excluded.position",
            (sql_text(row_id), number, tries, token, position),
        )

    def read(self, row: NumberedRow) -> int:
        """Add a row of the input, or the content of a row that is there. Returns its size in bytes."""
        content = pickle.dumps(dict(row.row))  # not each mapping can be pickled
        self._database.execute(
            "INSERT INTO rows (id, number, tries, content) VALUES (?, ?, 0, ?) "
            "ON CONFLICT (id) DO UPDATE SET content = excluded.content, number = excluded.number",
            (sql_text(row.id), row.number, content),
        )
        return len(content)

    def waiting_size(self) -> tuple[int, int]:
        """Return how many rows wait to be submitted, and how many bytes they have."""
        count, size = self._database.execute(
            "SELECT count(*), coalesce(sum(length(content)), 0) FROM rows WHERE token IS NULL AND content IS NOT NULL"
        ).fetchone()
        return count, size

    def waiting(self) -> list[HeldRow]:
        """Return rows that wait to be submitted, in the order of the input: at most as many as belong in one batch."""
        rows: list[HeldRow] = []
        size = 0
        for values in self._database.execute(
            "SELECT id, number, tries, content FROM rows WHERE token IS NULL AND content IS NOT NULL "
            "ORDER BY number LIMIT ?",
            (MOST_ROWS,),
        ):
            rows.append(_held(values))
            size += len(values[3])
            if is_full(len(rows), size):
                break
        return rows

    def at(self, token: str, position: int) -> HeldRow | None:
        """Return a row of a batch that is not recorded yet."""
        found = self._database.execute(
            "SELECT id, number, tries, content FROM rows WHERE token = ? AND position = ?", (token, position)
        ).fetchone()
        return None if found is None else _held(found)

    def positions(self, token: str) -> list[int]:
        """Return the positions of the rows of a batch that are not recorded yet."""
        found = self._database.execute("SELECT position FROM rows WHERE token = ? ORDER BY position", (token,))
        return [position for (position,) in found]

    def return_batch(self, token: str, *, untried: bool = False) -> None:
        """Let the rows of a batch wait to be submitted again. `untried` says that the batch does not count as a try."""
        self._database.execute(
            "UPDATE rows SET token = NULL, position = NULL, tries = tries - ? WHERE token = ?", (int(untried), token)
        )

    def remove_batch(self, token: str) -> None:
        """Forget the rows of a batch."""
        self._database.execute("DELETE FROM rows WHERE token = ?", (token,))

    def remove(self, row_id: str) -> None:
        """Forget a row, which is recorded."""
        self._database.execute("DELETE FROM rows WHERE id = ?", (sql_text(row_id),))

    def close(self) -> None:
        """Delete the rows."""
        self._database.close()


def _held(values: Sequence[Any]) -> HeldRow:
    row_id, number, tries, content = values
    # The process itself has pickled it.
    row = None if content is None else cast(Row, pickle.loads(content))  # noqa: S301
    return HeldRow(row_id if isinstance(row_id, str) else row_id.decode("utf-8", "surrogatepass"), number, tries, row)


def has_open_batches(state: Path) -> bool:
    """Return whether the state file has batches that are not collected."""
    tokens: set[str] = set()
    for record in read_records(state):
        kind, token = record.get("kind"), str(record.get("token"))
        if kind in ("batch_intent", "batch_submitted"):
            tokens.add(token)
        elif kind in ("batch_collected", "batch_dropped"):
            tokens.discard(token)
    return bool(tokens)


def submitted_ids(state: Path) -> Iterator[str]:
    """Yield the ids of the rows that were submitted, or were about to be."""
    for record in read_records(state):
        if record.get("kind") == "batch_intent":
            for _, _, row_id, _ in cast("Sequence[tuple[int, int, str, int]]", record["rows"]):
                yield row_id


def restore(path: Path, rows: HeldRows, is_recorded: Callable[[str], bool]) -> dict[str, OpenBatch]:
    """Return the batches that are not collected, and add the rows in the state file that are not recorded."""
    batches: dict[str, OpenBatch] = {}
    for record in read_records(path):
        token = str(record.get("token"))
        open_ = batches.get(token)
        match record.get("kind"):
            case "batch_intent":
                intended = cast("Sequence[tuple[int, int, str, int]]", record["rows"])
                service = cast("str | None", record.get("service"))
                batches[token] = OpenBatch(token, cast(float, record["time"]), len(intended), service)
                for position, number, row_id, tries in intended:
                    if not is_recorded(row_id):
                        rows.add(row_id, number, tries, token=token, position=position)
            case "batch_submitted" if open_ is not None:
                batch = from_json(Batch, record["batch"])
                open_.batch, open_.adopted = attrs.evolve(batch, requests=()), bool(record.get("adopted"))
            case "batch_of_others" if open_ is not None:
                open_.others.add(str(record.get("id")))
                open_.batch, open_.adopted = None, False
            case "batch_dropped" if open_ is not None:
                rows.return_batch(token, untried=True)
                del batches[token]
            case "batch_collected" if open_ is not None:
                rows.remove_batch(token)
                for number, row_id, tries in cast("Sequence[tuple[int, str, int]]", record["again"]):
                    if not is_recorded(row_id):
                        rows.add(row_id, number, tries)
                del batches[token]
            case _:
                pass
    return batches


def stored_batch(path: Path, open_: OpenBatch) -> Batch | None:
    """Return a batch as it was submitted, with what is known of its requests: for one that was found, their ids."""
    found = None
    ids: list[str] = []
    for record in read_records(path):
        if record.get("token") != open_.token:
            continue
        if record.get("kind") == "batch_intent":
            rows = cast("Sequence[tuple[int, int, str, int]]", record["rows"])
            ids = [f"{open_.prefix}{position}" for position, _, _, _ in rows]
        elif record.get("kind") == "batch_submitted":
            found = record
    if found is None:
        return None
    batch = from_json(Batch, found["batch"])
    return batch if batch.requests else attrs.evolve(batch, requests=tuple(BatchedRequest(id=one) for one in ids))
