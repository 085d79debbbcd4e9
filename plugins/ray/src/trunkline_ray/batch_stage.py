"""The actor that submits the rows of its blocks as provider batches.

The rows of a block go through `trunkline.batch.map`, with an output file of their own in the folder of journals:

    folder/batches-PART.jsonl      the answers, with PART.failed.jsonl and PART.jsonl.state.jsonl beside them

When a job runs again, Ray may divide the rows into other blocks. So the actor first reads which rows each file has, and
passes a row on to the file that has it. The batches that were submitted for the file are collected there.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import anyio
import pyarrow as pa
import trunkline
from anyio import CapacityLimiter, to_thread
from trunkline import batch
from trunkline.authoring.json import JSONObject
from trunkline.batch import MapStopped, NumberedRow, read_records
from trunkline.batch.batch_state import submitted_ids
from trunkline.batch.journal import read_ids
from trunkline.batch.row_ids import sql_text, temporary_database
from trunkline.batch.run_files import RunPaths
from trunkline.errors import InvalidRequest, TrunklineError

from trunkline_ray.stage import Block, StageOptions, open_configured

MOST_BATCHES = 16
"""How many batches run at once for the rows of one file."""


class BatchStage:
    """What an actor does. It is called for several blocks at once, each in a thread.

    Raises `InvalidRequest` if the folder of journals cannot be used.
    """

    def __init__(self, options: StageOptions) -> None:
        self._options = options
        self._folder = Path(options.journal)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(
                f"the folder of journals {str(self._folder)!r} cannot be used: {error.strerror}"
            ) from None
        self._parts = _Parts()
        earlier = sorted(path for path in self._folder.glob("batches-*.jsonl") if path.name.count(".") == 1)
        for path in earlier:
            self._parts.add(path)
        self._to_retry = set(earlier)
        self._locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self._mutex = threading.Lock()

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield a block with the columns of the answers, once all its rows have one.

        Raises `MapStopped` if the service cannot serve, and `InvalidRequest` if the block has no ids.
        """
        pieces: list[pa.Table] = []
        anyio.run(self._answer, table, pieces.append)
        yield from pieces

    async def _answer(self, table: pa.Table, emit: Callable[[pa.Table], None]) -> None:
        block = Block(table, self._options, emit)
        rows: list[NumberedRow] = []
        while more := block.next_rows():
            rows += more
        parts: defaultdict[Path, list[NumberedRow]] = defaultdict(list)
        with self._mutex:
            new = self._folder / f"batches-{uuid4().hex[:12]}.jsonl"
            for row in rows:
                parts[self._parts.find(row.id, new)].append(row)
        errors: list[TrunklineError] = []
        records: dict[int, JSONObject] = {}
        async with open_configured(self._options) as service, anyio.create_task_group() as tasks:
            for path, some in parts.items():
                tasks.start_soon(self._map, service, path, some, records, errors)
        if errors:
            raise errors[0]
        block.add(records)

    async def _map(
        self,
        service: trunkline.Service,
        path: Path,
        rows: Sequence[NumberedRow],
        records: dict[int, JSONObject],
        errors: list[TrunklineError],
    ) -> None:
        options = self._options
        lock = self._locks[path]
        # Another block may have rows in the same file, and take hours.
        await to_thread.run_sync(lock.acquire, limiter=CapacityLimiter(1))
        try:
            summary = await batch.map(
                service,
                [row.row for row in rows],
                options.request,
                path,
                system=options.system,
                params=options.params,
                id_column=options.id_column,
                answer_type=options.answer_type,
                answer_retries=options.answer_retries,
                concurrency=MOST_BATCHES,
                # The failures of this job are kept: another block may have recorded them in the same file.
                retry_failed=options.retry_failed and path in self._to_retry,
                provider_batches=True,
                patience=options.patience,
            )
            self._to_retry.discard(path)
            if summary.stopped:
                raise MapStopped("a batch was cancelled; run the job again to submit the rows without an answer")
            records |= _records(path, rows)
        except TrunklineError as error:
            # The error goes to another process: its cause may be of a class that cannot be pickled.
            errors.append(MapStopped(str(error)) if isinstance(error, MapStopped) else error)
        finally:
            lock.release()


class _Parts:
    """The file that each row belongs to, in a temporary database, so that memory does not grow with the rows."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._database = temporary_database(
            "CREATE TABLE rows (id TEXT PRIMARY KEY, part INTEGER NOT NULL) WITHOUT ROWID"
        )

    def add(self, path: Path) -> None:
        """Add the rows of a file of an earlier job."""
        paths = RunPaths.of(path)
        readers = {paths.journal: read_ids, paths.failures: read_ids, paths.state: submitted_ids}
        for file, read in readers.items():
            if file.exists():
                self._insert(read(file), path)

    def find(self, row_id: str, new: Path) -> Path:
        """Return the file that a row belongs to: `new`, if it belongs to none yet."""
        self._insert([row_id], new)
        found = self._database.execute("SELECT part FROM rows WHERE id = ?", (sql_text(row_id),)).fetchone()
        return self._paths[int(found[0])]

    def _insert(self, ids: Iterator[str] | Sequence[str], path: Path) -> None:
        if path not in self._paths[-1:]:
            self._paths.append(path)
        part = len(self._paths) - 1
        self._database.executemany(
            "INSERT OR IGNORE INTO rows VALUES (?, ?)", ((sql_text(row_id), part) for row_id in ids)
        )


def _records(path: Path, rows: Sequence[NumberedRow]) -> Mapping[int, JSONObject]:
    """Return the records of rows in a file, by number."""
    numbers = {row.id: row.number for row in rows}
    paths = RunPaths.of(path)
    records: dict[int, JSONObject] = {}
    for file in (paths.failures, paths.journal):  # a response counts more than a failure
        for record in read_records(file) if file.exists() else ():
            number = numbers.get(str(record.get("id")))
            if number is not None:
                records[number] = record
    return records
