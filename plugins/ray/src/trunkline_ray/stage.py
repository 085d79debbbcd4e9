"""The actor that calls the service for the rows of its blocks.

Ray calls an actor for several blocks at once, each in a thread. All of an actor's requests run in one event loop of its
own, and share one bound. They do not run in the event loop that Ray has for asynchronous classes: Ray blocks that loop
while the consumer of the results is slow, and then requests in flight would time out.

    a row ── recorded? ── yes ───────────────────────────> its columns
                └── no ── called ── written to the journal ──┘

At most `concurrency` rows are between "called" and "written", so no more are asked for again when the process dies.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from zlib import crc32

import anyio
import anyio.lowlevel
import attrs
import pyarrow as pa
import trunkline
from anyio import to_thread
from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.batch import (
    Interrupted,
    MapStopped,
    NumberedRow,
    OperationName,
    RequestFunction,
    Row,
    RowCalls,
    RowError,
    RowResult,
    record_of,
    row_requests,
)
from trunkline.batch.row_calls import row_id
from trunkline.batch.stable_text import stable_text
from trunkline.errors import InvalidRequest, TrunklineError

from trunkline_ray.columns import check_columns, with_answers
from trunkline_ray.limits import ClusterLimiter, ClusterLimits
from trunkline_ray.metrics import StageMetrics
from trunkline_ray.recorded import RecordedRows

PIECE = 512
"""How many rows are passed on to Ray at once."""


@attrs.frozen(kw_only=True)
class StageOptions:
    """What `map` was called with. Ray pickles it, so it must not contain a secret."""

    run: str
    config: str | Mapping[str, object]
    service: str
    journal: str
    operation: OperationName
    request: str | RequestFunction | None
    system: str | None
    params: Mapping[str, object]
    id_column: str
    answer_type: object
    answer_retries: int
    concurrency: int
    rows_per_request: int
    retry_failed: bool
    patience: float
    prefix: str
    limits: ClusterLimits | None = None


class Stage:
    """What an actor does. It opens the service, and reads the journals."""

    def __init__(self, options: StageOptions) -> None:
        self._options = options
        self._requests = row_requests(options.operation, options.request, system=options.system, params=options.params)
        service = open_configured(options)
        self._limiter = None if options.limits is None else ClusterLimiter(options.limits)
        self._metrics = StageMetrics(options.service, self._limiter)
        self._service = trunkline.limit(
            service, concurrency=options.concurrency, limiter=self._metrics, name=service.name
        )
        self._calls = RowCalls(
            self._service,
            self._requests,
            answer_type=options.answer_type,
            answer_retries=options.answer_retries,
            patience=options.patience,
        )
        self._recorded = RecordedRows(
            Path(options.journal), options.run, self._calls.identity, retry_failed=options.retry_failed
        )
        self._slots = anyio.Semaphore(options.concurrency, fast_acquire=True)
        self._running: dict[str, anyio.Event] = {}
        self._problem: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        # A daemon, so that the process of an actor ends when Ray wants it to.
        self._thread = threading.Thread(target=self._loop.run_forever, name="trunkline", daemon=True)
        self._thread.start()

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield a block with the columns of the answers, in pieces.

        Raises `MapStopped` if the service cannot serve, and `InvalidRequest` if the block has no ids.
        """
        pieces: SimpleQueue[pa.Table | None] = SimpleQueue()
        running = asyncio.run_coroutine_threadsafe(self._answer(table, pieces.put), self._loop)
        running.add_done_callback(lambda _: pieces.put(None))
        try:
            while (piece := pieces.get()) is not None:
                yield piece
            running.result()
        finally:
            running.cancel()

    def close(self) -> None:
        """Close the service and the journal, and end the event loop. Nothing may be running."""
        if self._limiter is not None:
            asyncio.run_coroutine_threadsafe(self._limiter.aclose(), self._loop).result()
        for ending in (self._service.aclose(), self._loop.shutdown_asyncgens(), self._loop.shutdown_default_executor()):
            asyncio.run_coroutine_threadsafe(ending, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._recorded.close()

    async def _answer(self, table: pa.Table, emit: Callable[[pa.Table], None]) -> None:
        await to_thread.run_sync(self._recorded.refresh)
        block = Block(table, self._options, emit)
        async with anyio.create_task_group() as workers:
            for _ in range(min(self._options.concurrency, table.num_rows)):
                workers.start_soon(self._work, block)
        await to_thread.run_sync(self._recorded.sync)
        if self._problem is not None:
            raise self._problem

    async def _work(self, block: Block) -> None:
        # An error ends the work of the actor, but not before what is in flight is recorded.
        try:
            while self._problem is None:
                rows = block.next_rows()
                if not rows:
                    return
                async with self._slots:
                    block.add(await self._records(rows))
        except Interrupted:
            pass
        except Exception as error:
            # The error goes to another process: its cause may be of a class that cannot be pickled.
            self._problem = self._problem or (MapStopped(str(error)) if isinstance(error, MapStopped) else error)
            self._calls.stop()

    async def _records(self, rows: Sequence[NumberedRow]) -> dict[int, JSONObject]:
        """Return the records of some rows by number. Those that are not recorded are called for, and recorded."""
        records: dict[int, JSONObject] = {}
        while left := [row for row in rows if row.number not in records]:
            calls: dict[str, NumberedRow] = {}
            other: anyio.Event | None = None
            for row in left:
                record = self._recorded_as(row)
                if record is not None:
                    records[row.number] = record
                    self._metrics.recorded()
                elif row.id in self._running:
                    other = self._running[row.id]
                else:
                    calls.setdefault(row.id, row)
            if calls:
                records |= await self._call(calls)
            elif other is not None:  # another row has the same id: a mistake, or Ray runs a block again
                await other.wait()
            else:
                await anyio.lowlevel.checkpoint()  # thousands of recorded rows may follow one another
        return records

    async def _call(self, rows: Mapping[str, NumberedRow]) -> dict[int, JSONObject]:
        ended = anyio.Event()
        self._running.update(dict.fromkeys(rows, ended))
        try:
            with self._metrics.calling(len(rows)):
                results = await self._calls.call(list(rows.values()))
            self._metrics.called(results, self._calls)
            return {row.number: self._record(row, result) for row, result in zip(rows.values(), results, strict=True)}
        finally:
            for row_id in rows:
                del self._running[row_id]
            ended.set()

    def _record(self, row: NumberedRow, result: RowResult) -> JSONObject:
        record: dict[str, JSONValue] = {**record_of(result), "request_crc32": self._fingerprint(row.row)}
        try:
            self._recorded.append(row.id, record)
        except OSError as error:
            raise MapStopped(
                f"the run has stopped: a result cannot be written to the folder {self._options.journal!r}: "
                f"{error.strerror}"
            ) from error
        return record

    def _recorded_as(self, row: NumberedRow) -> JSONObject | None:
        record = self._recorded.find(row.id)
        if record is None or record.get("request_crc32") == self._fingerprint(row.row):
            return record
        problem = InvalidRequest(
            f"the id {row.id!r} is recorded for another request; ids must be unique, and a row that has changed needs "
            "another id, or another folder for the journals"
        )
        return record_of(RowResult(id=row.id, number=row.number, error=RowError.of(problem), input=row.row))

    def _fingerprint(self, row: Row) -> str:
        """Return what tells the request of a row from that of another row with the same id."""
        try:
            request = stable_text(self._requests.request(row))
        except TrunklineError as error:
            request = str(error)
        return f"{crc32(request.encode('utf-8', 'surrogatepass')):08x}"


def open_configured(options: StageOptions) -> trunkline.Service:
    services = trunkline.open_services(options.config)
    try:
        return services[options.service]
    except KeyError as error:
        raise InvalidRequest(str(error.args[0])) from None


class Block:
    """The rows of a block, which workers take one after another, and the records of those that are done."""

    def __init__(self, table: pa.Table, options: StageOptions, emit: Callable[[pa.Table], None]) -> None:
        if options.id_column not in table.column_names:
            raise InvalidRequest(
                f"the dataset has no column {options.id_column!r} with an id for each row; pass id_column. Its columns "
                f"are {', '.join(table.column_names)}"
            )
        # Before any row is paid for.
        check_columns(table, options.operation, options.prefix, has_type=options.answer_type is not None)
        self._table = table
        self._options = options
        self._emit = emit
        self._rows = self._read()
        self._records: dict[int, JSONObject] = {}
        self._emitted = 0

    def next_rows(self) -> list[NumberedRow]:
        """Return the next rows of a request; none at the end."""
        found = (next(self._rows, None) for _ in range(self._options.rows_per_request))
        return [row for row in found if row is not None]

    def add(self, records: Mapping[int, JSONObject]) -> None:
        """Take the records of some rows, and pass on the next rows once all of them are done."""
        self._records.update(records)
        while self._emitted < self._table.num_rows:
            end = min(self._emitted + PIECE, self._table.num_rows)
            numbers = range(self._emitted + 1, end + 1)
            if any(number not in self._records for number in reversed(numbers)):
                return
            piece = self._table.slice(self._emitted, end - self._emitted)
            done = [self._records.pop(number) for number in numbers]
            self._emitted = end
            options = self._options
            has_type = options.answer_type is not None
            self._emit(with_answers(piece, done, options.operation, options.prefix, has_type=has_type))

    def _read(self) -> Iterator[NumberedRow]:
        number = 0
        for start in range(0, self._table.num_rows, PIECE):
            for row in self._table.slice(start, PIECE).to_pylist():
                number += 1
                yield NumberedRow(number=number, id=row_id(row, self._options.id_column, "a row"), row=row)
