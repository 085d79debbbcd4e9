"""`map`: call a service for each row of a file, and record the results so that a run that ends early can go on.

Each of `concurrency` workers takes a row, calls the service, and records the result before it takes the next row. So
when the process is killed, at most `concurrency` requests were sent whose results are not recorded; the next run sends
these again. Memory does not grow with the number of rows: rows are read when a worker needs them, results are written
when they arrive, and the ids are on disk.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio import to_thread

from trunkline.batch.export import export, require_library
from trunkline.batch.provider_batches import ProviderBatches
from trunkline.batch.results import MapStopped, OperationName, Progress, Row, RowError, RowResponse, RowResult, Summary
from trunkline.batch.row_calls import (
    MOST_FIRST_FAILURES,
    Interrupted,
    NumberedRow,
    RowCalls,
    check_options,
    row_id,
)
from trunkline.batch.row_ids import Recorded, RowIds
from trunkline.batch.rows import RowSource, read_rows
from trunkline.batch.run_files import TABLES, RunFiles, RunPaths
from trunkline.batch.templates import RequestFunction, row_requests
from trunkline.compose import limit
from trunkline.errors import InvalidRequest
from trunkline.service import Service

PROGRESS_INTERVAL = 0.5
"""How often the progress is reported, in seconds. Every other time, the results are written to the disk."""

_RATE_PERIOD = 60.0

_ROWS_A_TURN = 16
"""After so many rows, other tasks get a turn, even if the calls of a service never wait, as those from a cache."""


async def map(  # noqa: A001  # named as the command
    service: Service,
    rows: str | os.PathLike[str] | Iterable[Row],
    request: str | RequestFunction | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    system: str | None = None,
    operation: OperationName = "chat",
    params: Mapping[str, object] | None = None,
    id_column: str | None = None,
    answer_type: object = None,
    answer_retries: int = 0,
    concurrency: int = 16,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    rows_per_request: int = 1,
    limit_rows: int | None = None,
    retry_failed: bool = False,
    provider_batches: bool = False,
    patience: float = 900.0,
    on_result: Callable[[RowResult], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: anyio.Event | None = None,
    cost: Callable[[RowResponse], Decimal | None] | None = None,
) -> Summary:
    """Call a service for each row, and record the results in `output` as they come.

    The same call again goes on where the last one ended, even if the process was killed: recorded rows are skipped.

    - `rows` is a file (`.jsonl`, `.csv` or `.parquet`), or an iterable of mappings from columns to values.
    - `request` makes the request of a row: a template such as `"Translate: {text}"`, in which names of columns stand in
      braces, or a function that takes the row and returns what the method of the service takes. Without it, the row
      contains the request: `messages` or `prompt` for a chat; see `row_requests`. `system` is a template for the
      instructions.
    - `output` is a `.jsonl`, `.csv` or `.parquet` file. Failures are written to a file beside it, whose name ends in
      `.failed.jsonl`. Without it, the results are only passed to `on_result`.
    - `operation` is the method of the service that is called, such as `embed`. `params` are the fields of every
      request, such as `model` and `temperature`.
    - `id_column` is the column with the ids of the rows, which must be unique. By default it is `id`, if the first row
      has such a column, else the ids are the numbers of the rows.
    - `answer_type` and `answer_retries` are those of `Service.chat`.
    - `concurrency` is the number of requests in flight. `requests_per_minute` and `tokens_per_minute` are as for
      `limit`. `rows_per_request` is how many rows of `embed` or `moderate` are sent in one request.
    - `limit_rows` is how many rows of the input are used, as a test. By default, it is all of them.
    - `retry_failed` tries the rows again that an earlier run recorded as failed.
    - `provider_batches` submits the rows of a chat in batches of the provider, for half the price and answered within a
      day or so; see `Service.submit_batch`. `concurrency` is then the number of batches that run at once. A run that
      ends before them leaves them running, and the same call collects them.
    - `patience` is how long the run waits, in seconds, for a service that is down.
    - `on_result` is called for each result, after it is recorded, and `on_progress` about twice a second.
    - `stop` is an event that ends the run: requests in flight finish, and no others are sent.
    - `cost` calculates what a response costs, such as `lambda response: trunkline_prices.cost(response).total`.

    A row fails, without stopping the run, if its request is refused, or if it keeps failing while others do not.

    Raises `MapStopped` if the service cannot serve, for example because the key is wrong, if it is down for longer than
    `patience`, or if the first 20 rows all fail; and `InvalidRequest` if the input, the output or an argument is wrong.
    """
    requests = row_requests(operation, request, system=system, params=params)
    check_options(
        operation, concurrency=concurrency, rows_per_request=rows_per_request, provider_batches=provider_batches
    )
    if limit_rows is not None and (type(limit_rows) is not int or limit_rows < 1):
        raise InvalidRequest(f"limit_rows must be a whole number of at least 1, not {limit_rows!r}")
    if provider_batches and output is None:
        raise InvalidRequest("provider_batches needs an output: the batches are recorded beside it")
    paths = None if output is None else RunPaths.of(output)
    if paths is not None:
        require_library(paths.output)
    if paths is not None and isinstance(rows, (str, os.PathLike)):
        _check_different(Path(rows), paths)
    limited = limit(
        service,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        name=service.name,
    )
    calls = RowCalls(
        limited, requests, answer_type=answer_type, answer_retries=answer_retries, patience=patience, cost=cost
    )
    source = read_rows(rows)
    ids = RowIds()
    files: RunFiles | None = None
    try:
        if paths is not None:
            files = RunFiles(paths, ids)
            # The ids of the rows belong to the requests: with those of another column, other rows would be skipped.
            identity = {**calls.identity, "id_column": "" if id_column is None or id_column == "id" else id_column}
            await to_thread.run_sync(partial(files.load, identity, retry_failed=retry_failed))
        # Batches that run are looked after with this service, even if the run stops.
        refuse = None if provider_batches else limited._refuse_calls
        run = _Run(source, files, ids, calls, id_column, rows_per_request, limit_rows, on_result, refuse)
        if files is not None and provider_batches:
            batches = ProviderBatches(
                limited,
                requests,
                calls,
                state=files.state,
                next_row=run.next_row,
                is_recorded=ids.is_recorded,
                record=run.record,
                sync=files.sync,
                most_batches=concurrency,
                patience=patience,
            )
            await run.run(1, on_progress, stop, batches)
        elif files is not None and files.has_batches:
            raise InvalidRequest(
                f"batches of an earlier run are not collected: pass provider_batches, or delete "
                f"{str(files.paths.state)!r} to send their rows again"
            )
        else:
            await run.run(concurrency, on_progress, stop)
        if paths is not None and paths.output.suffix.lower() in TABLES:
            await to_thread.run_sync(export, paths.journal, paths.output)
    finally:
        source.close()
        ids.close()
        if files is not None:
            files.close()
    return run.finish(paths)


def _check_different(source: Path, paths: RunPaths) -> None:
    for path in (paths.output, paths.journal, paths.failures, paths.state):
        if source.resolve() == path.resolve():
            raise InvalidRequest(f"the run would write to its own input, {str(source)!r}; choose another output")


class _Run:
    """One run: the rows that are left, and what has become of those that were called."""

    def __init__(
        self,
        source: RowSource,
        files: RunFiles | None,
        ids: RowIds,
        calls: RowCalls,
        id_column: str | None,
        rows_per_request: int,
        limit_rows: int | None,
        on_result: Callable[[RowResult], None] | None,
        refuse: Callable[[], None] | None,
    ) -> None:
        self._source = source
        self._rows = iter(source)
        self._files = files
        self._ids = ids
        self._calls = calls
        self._id_column = id_column
        self._id_is_known = id_column is not None
        self._rows_per_request = rows_per_request
        self._limit_rows = limit_rows
        self._on_result = on_result
        self._refuse = refuse
        self._reading = anyio.Lock(fast_acquire=True)
        self._waiting = anyio.CancelScope()
        self._ended = False
        self._stopped = False
        self._batches: ProviderBatches | None = None
        self._problem: MapStopped | None = None
        self._crash: Exception | None = None
        self._done = 0
        self._failed = 0
        self._skipped = 0
        self._rows_read = 0
        self._started = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque()

    async def run(
        self,
        concurrency: int,
        on_progress: Callable[[Progress], None] | None,
        stop: anyio.Event | None,
        batches: ProviderBatches | None = None,
    ) -> None:
        """Call the service for all rows, or submit them in batches. Raises the application's own exceptions."""
        self._batches = batches
        if stop is not None and stop.is_set():
            self._stop()
        async with anyio.create_task_group() as helpers:
            if stop is not None:
                helpers.start_soon(self._watch, stop)
            helpers.start_soon(self._report, on_progress)
            async with anyio.create_task_group() as workers:
                for _ in range(concurrency):
                    workers.start_soon(self._work)
            helpers.cancel_scope.cancel()
        if self._crash is not None:
            raise self._crash
        if on_progress is not None:
            on_progress(self.progress())

    def finish(self, paths: RunPaths | None) -> Summary:
        """Return the summary, or raise `MapStopped` with it."""
        failures = None
        if paths is not None and paths.failures.exists():
            failures = paths.failures
        summary = Summary(
            done=self._done,
            failed=self._failed,
            skipped=self._skipped,
            failed_before=0 if self._files is None else self._files.failed_before,
            elapsed=time.monotonic() - self._started,
            input_tokens=self._calls.input_tokens,
            output_tokens=self._calls.output_tokens,
            cost=self._calls.cost,
            output=None if paths is None else paths.output,
            failures=failures,
            stopped=self._stopped,
        )
        if self._problem is not None:
            self._problem.summary = summary
            raise self._problem
        return summary

    def progress(self) -> Progress:
        """Return the progress."""
        now = time.monotonic()
        ended = self._done + self._failed
        self._samples.append((now, ended))
        while len(self._samples) > 1 and self._samples[0][0] < now - _RATE_PERIOD:
            self._samples.popleft()
        since, before = self._samples[0]
        rate = (ended - before) / (now - since) if now > since else 0.0
        seen = ended + self._skipped
        fraction = self._source.fraction
        total = self._source.total
        if total is None and fraction and self._rows_read:
            total = max(seen, round(self._rows_read / fraction))
        if total is not None and self._limit_rows is not None:
            total = min(total, self._limit_rows)
        waiting_for = (self._calls if self._batches is None else self._batches).waiting_for
        return Progress(
            done=self._done,
            failed=self._failed,
            skipped=self._skipped,
            total=total,
            elapsed=now - self._started,
            rate=rate,
            input_tokens=self._calls.input_tokens,
            output_tokens=self._calls.output_tokens,
            cost=self._calls.cost,
            seconds_left=(total - seen) / rate if total is not None and rate else None,
            waiting_for=None if waiting_for is None else str(waiting_for),
        )

    async def _watch(self, stop: anyio.Event) -> None:
        await stop.wait()
        self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._end()

    async def _report(self, on_progress: Callable[[Progress], None] | None) -> None:
        try:
            while True:
                for _ in range(2):
                    await anyio.sleep(PROGRESS_INTERVAL)
                    if on_progress is not None:
                        on_progress(self.progress())
                if self._files is not None:
                    await to_thread.run_sync(self._files.sync)
        except Exception as error:
            self._crash = self._crash or error
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._waiting.cancel()
        self._calls.stop()
        if self._refuse is not None:
            self._refuse()  # the calls that wait for a limit, which may take minutes
        if self._batches is not None:
            self._batches.stop()

    async def _work(self) -> None:
        # An error ends the run, but not before the other workers have recorded what is in flight.
        try:
            if self._batches is not None:
                self._stopped = not await self._batches.run()
                return
            while rows := await self._next_rows():
                for result in await self._calls.call(rows):
                    self.record(result)
                if self._calls.cost_error is not None:
                    raise self._calls.cost_error
                if self._done % _ROWS_A_TURN == 0:
                    await anyio.lowlevel.checkpoint()
        except Interrupted:
            pass
        except MapStopped as error:
            self._problem = self._problem or error
            self._end()
        except Exception as error:
            self._crash = self._crash or error
            self._end()

    async def next_row(self) -> NumberedRow | None:
        """Return the next row that is not recorded, or `None` at the end."""
        return next(iter(await self._next_rows()), None)

    async def _next_rows(self) -> list[NumberedRow]:
        """Return the next rows that are not recorded; none at the end."""
        async with self._reading:
            found: list[NumberedRow] = []
            while not self._ended and len(found) < self._rows_per_request:
                if self._rows_read == self._limit_rows:
                    self._ended = True
                    break
                with anyio.CancelScope() as self._waiting:
                    await self._source.wait()
                if self._waiting.cancel_called:
                    break
                item = next(self._rows, None)
                if item is None:
                    self._ended = True
                    break
                number, row = item
                self._rows_read = number
                numbered = NumberedRow(number=number, id=self._row_id(number, row), row=row)
                if self._ids.read(numbered.id, number) is Recorded.NOTHING:
                    found.append(numbered)
                else:
                    self._skipped += 1
                    if self._skipped % 1000 == 0:
                        await anyio.lowlevel.checkpoint()
            return found

    def _row_id(self, number: int, row: Row) -> str:
        if not self._id_is_known:
            self._id_column = "id" if "id" in row else None
            self._id_is_known = True
        if self._id_column is None:
            return str(number)
        return row_id(row, self._id_column, f"row {number}")

    def record(self, result: RowResult) -> None:
        """Record a result. Raises `MapStopped` if that fails, or if the first rows all failed."""
        if self._files is not None:
            try:
                self._files.record(result)
            except OSError as error:
                raise MapStopped(
                    f"the run has stopped: a result cannot be written to {str(self._files.paths.journal)!r}: "
                    f"{error.strerror}"
                ) from error
            except (InvalidRequest, ValueError, RecursionError) as error:  # JSON has no NaN, for example
                if result.error is not None:
                    raise
                problem = RowError(type="ProtocolViolation", message=f"the response cannot be recorded: {error}")
                result = RowResult(id=result.id, number=result.number, error=problem)
                self._files.record(result)
        if result.error is None:
            self._done += 1
        else:
            self._failed += 1
        if self._on_result is not None:
            self._on_result(result)
        is_first = not self._done and (self._files is None or not self._files.recorded_before)
        useless = self._failed == MOST_FIRST_FAILURES and is_first and self._batches is None
        if useless and result.error is not None:
            if self._files is not None:
                self._files.mark_useless()
            raise MapStopped(
                f"the run has stopped, since the first {self._failed} rows all failed; the last error is: "
                f"{result.error.message}"
            )
