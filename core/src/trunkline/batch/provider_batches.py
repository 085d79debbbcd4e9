"""Provider batches as a mode of `map`: the rows are submitted in batches, for half the price, and answered hours later.

The state file records what happens to each batch, in this order:

1. `batch_intent`, before anything is sent: the rows of the batch, and a random token. The ids of the requests begin
   with the token, and providers that store a name or metadata of a batch store the token there.
2. `batch_submitted`: the batch, as the provider accepted it. If the request did not reach the provider, `batch_dropped`
   is recorded instead.
3. `batch_collected`, after all its results are recorded: the rows that are tried again.

A process that is killed between 1 and 2 does not know whether the provider has accepted the batch. The next run looks
for it in the provider's list. A listed batch with the token is the one. Not all providers store the token; then a
batch of about that time with as many requests is waited for, and the ids of its results say whether it is the one.
"""

from __future__ import annotations

import math
import os
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import anyio.lowlevel
import attrs

from trunkline._calls.options import NO_OPTIONS
from trunkline._json import JSONObject, JSONValue, dumps
from trunkline.authoring.batches import BatchFilling, BatchRequests
from trunkline.batch.batch_state import HeldRow, HeldRows, OpenBatch, is_full, restore, stored_batch
from trunkline.batch.journal import Journal, read_records
from trunkline.batch.results import MapStopped, Row, RowError, RowResult
from trunkline.batch.row_calls import MOST_FIRST_FAILURES, NumberedRow, RowCalls, may_pass
from trunkline.batch.run_files import RunPaths
from trunkline.batch.templates import RowRequests
from trunkline.batches import Batch
from trunkline.errors import (
    CallError,
    ConfigurationError,
    InvalidAnswer,
    InvalidRequest,
    NotFound,
    ProtocolViolation,
    QuotaExhausted,
    RemoteError,
    TrunklineError,
    UnsupportedOperation,
    UnsupportedRequest,
)
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse
from trunkline.service import Service
from trunkline.storage import to_json

T = TypeVar("T")

MAX_TRIES = 3
"""How many times a row is submitted, if its request expires or fails with a temporary error."""

FIRST_POLL = 5.0
LONGEST_POLL = 60.0
"""How long the run waits before it asks for the state of the batches again, in seconds. The time grows by half."""

LONGEST_HOLD = 3600.0
"""The longest time without a further submission after the provider has refused one while batches run, in seconds."""

CLOCK_DIFFERENCE = 86_400
"""How much the provider's clock may differ, in seconds. A batch of another program is told apart by its results."""

_MARK = re.compile(rb"trunkline-[0-9a-f]{8}-[0-9a-f-]{27}")
_TIMED_OUT = 408
_AT_ONCE = 200
"""How many rows are handled before other tasks get a turn."""


class ProviderBatches:
    """Submits rows in batches, waits for the batches, and records their results.

    - `state` is the journal of the batches. `sync` writes the recorded results to the disk.
    - `next_row` returns the next row of the input that is not recorded, or `None` at its end; `is_recorded` says
      whether the row with an id is recorded; `record` records a result.
    - `most_batches` is how many batches run at once.
    - `patience` is how long the run waits, in seconds, for a service that is down.
    """

    def __init__(
        self,
        service: Service,
        requests: RowRequests,
        calls: RowCalls,
        *,
        state: Journal,
        next_row: Callable[[], Awaitable[NumberedRow | None]],
        is_recorded: Callable[[str], bool],
        record: Callable[[RowResult], None],
        sync: Callable[[], None],
        most_batches: int,
        patience: float,
    ) -> None:
        self._service = service
        self._requests = requests
        self._calls = calls
        self._state = state
        self._next_row = next_row
        self._is_recorded = is_recorded
        self._record = record
        self._sync = sync
        self._most_batches = most_batches
        self._patience = patience
        self._stop = anyio.Event()
        self._open: dict[str, OpenBatch] = {}
        self._rows = HeldRows()
        self._input_ended = False
        self._cancelled = False
        self._failed_alone = 0
        self._unsendable = 0
        self._has_submitted = False
        self._down_since: float | None = None
        self._refused_since: float | None = None
        self._hold = 0.0
        self._hold_until = 0.0
        self._error: TrunklineError | None = None

    @property
    def waiting_for(self) -> str | None:
        """What the run waits for: an error of the service, or the batches."""
        if self._error is not None:
            return str(self._error)
        if not self._open:
            return None
        counts = [open_.batch.counts for open_ in self._open.values() if open_.batch is not None]
        ended = sum((count.succeeded or 0) + (count.failed or 0) for count in counts)
        size = sum(open_.size for open_ in self._open.values())
        batches = "1 batch" if len(self._open) == 1 else f"{len(self._open)} batches"
        return f"{batches} of the provider ({ended} of {size} requests have ended)"

    def stop(self) -> None:
        """End the run soon. The batches go on at the provider."""
        self._stop.set()

    async def run(self) -> bool:
        """Work until all rows are recorded, or until the run is stopped: then batches go on at the provider.

        Returns whether all rows are recorded. Raises `MapStopped` if the service cannot serve.
        """
        try:
            return await self._run()
        finally:
            self._rows.close()

    async def _run(self) -> bool:
        self._open = dict(restore(self._state.path, self._rows, self._is_recorded))
        while self._rows.lacks_content and await self._read_row():
            pass
        pause = FIRST_POLL
        while True:
            while self._may_submit() and await self._submit():
                pass
            if not self._open:
                # What is left after the end of the input was cancelled, or its content is no longer in the input.
                return self._input_ended and not self._stop.is_set() and not self._cancelled
            if await self._collect_ended():
                pause = FIRST_POLL
                continue
            if self._stop.is_set():
                return False
            await self._sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL)

    async def _sleep(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stop.wait()

    # Submit

    def _may_submit(self) -> bool:
        if self._cancelled or self._stop.is_set() or len(self._open) >= self._most_batches:
            return False
        if self._open and anyio.current_time() < self._hold_until:
            return False
        return all(open_.batch is not None for open_ in self._open.values())

    async def _read_row(self) -> int:
        """Read a row of the input. Returns its size in bytes, or 0 at the end of the input."""
        row = None if self._input_ended else await self._next_row()
        if row is None:
            self._input_ended = True
            return 0
        return self._rows.read(row)

    async def _submit(self) -> bool:
        """Submit the next batch. Returns whether there was a row that could be submitted."""
        open_ = OpenBatch(str(uuid.uuid4()), time.time(), 0, self._service.name)
        chunk: dict[str, HeldRow] = {}
        requests: dict[str, ChatRequest] = {}
        rows = await self._next_rows()
        for held in rows:
            try:
                request = self._request(held.input)
            except ConfigurationError as error:
                raise self._stopped(str(error), error) from error
            except TrunklineError as error:
                self._fail(held, error)
                self._check_use(chunk, error)
                continue
            request_id = f"{open_.prefix}{len(chunk)}"
            chunk[request_id] = held
            requests[request_id] = request
        if not chunk:
            return bool(rows)
        intended = False

        def accept(ids: Collection[str], refused: Mapping[str, TrunklineError]) -> None:
            nonlocal intended
            for request_id, error in refused.items():
                self._fail(chunk[request_id], error)
                self._check_use(ids, error)
            if not ids:
                return
            places = [(_position(request_id), chunk[request_id]) for request_id in ids]
            intents: list[JSONValue] = [[position, held.number, held.id, held.tries + 1] for position, held in places]
            open_.time = round(time.time())
            self._write(
                {
                    "kind": "batch_intent",
                    "token": open_.token,
                    "service": open_.service,
                    "time": open_.time,
                    "rows": intents,
                }
            )
            intended = True
            for position, held in places:
                self._rows.add(held.id, held.number, held.tries + 1, token=open_.token, position=position)
            open_.size = len(places)
            self._open[open_.token] = open_

        value = BatchRequests(requests=requests, filling=BatchFilling(token=open_.token, accept=accept))
        try:
            batch = await self._service._call_batches("submit_batch", value, Batch, NO_OPTIONS)
        except TrunklineError as error:
            if isinstance(error, MapStopped):
                raise
            if intended and _is_refused(error):
                self._drop(open_)  # otherwise it is looked for in the provider's list
            running = any(one.batch is not None for one in self._open.values())
            if not may_pass(error) and not (running and isinstance(error, QuotaExhausted)):
                way_out = "; run without provider_batches" if isinstance(error, UnsupportedOperation) else ""
                raise self._stopped(f"the batch cannot be submitted: {error}{way_out}", error) from error
            if running:
                # The provider may limit what runs at once, so the batches that run are waited for.
                self._hold = min(max(self._hold * 2, LONGEST_POLL), LONGEST_HOLD)
                self._hold_until = anyio.current_time() + self._hold
                return False
            if self._refused_since is None:
                self._refused_since = anyio.current_time()
            await self._wait_or_give_up(error, self._refused_since)
            return True
        self._works()
        if intended:
            self._submitted(open_, batch)
        return True

    def _check_use(self, sendable: Collection[str], error: TrunklineError) -> None:
        """Raise `MapStopped` if the first rows all fail before they are sent: the mistake is in the requests."""
        self._unsendable += 1
        if self._unsendable >= MOST_FIRST_FAILURES and not sendable and not self._has_submitted:
            message = f"none of the first {self._unsendable} rows can be sent; the last error is: {error}"
            raise self._stopped(message, error)

    async def _next_rows(self) -> list[HeldRow]:
        """Return the rows for the next batch: those that wait, then others of the input."""
        count, size = self._rows.waiting_size()
        while not is_full(count, size):
            read = await self._read_row()
            if not read:
                break
            count += 1
            size += read
            if count % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        return self._rows.waiting()

    def _request(self, row: Row) -> ChatRequest:
        value = cast(Any, self._requests.request(row))
        request = self._service._request(value, cast(Any, dict(self._requests.params)), "submit_batch")
        return request if self._calls.answer is None else self._calls.answer.request(request)

    def _drop(self, open_: OpenBatch) -> None:
        """Note that a batch was not submitted."""
        self._write({"kind": "batch_dropped", "token": open_.token})
        self._rows.return_batch(open_.token, untried=True)
        del self._open[open_.token]

    def _submitted(self, open_: OpenBatch, batch: Batch) -> None:
        stored = cast(JSONObject, to_json(batch))
        self._write({"kind": "batch_submitted", "token": open_.token, "adopted": open_.adopted, "batch": stored})
        self._has_submitted = True
        self._refused_since = None
        self._release()
        # The requests are read from the file again when the batch is collected.
        open_.batch = attrs.evolve(batch, requests=())

    def _release(self) -> None:
        """Submit further batches at once."""
        self._hold = self._hold_until = 0.0

    def _write(self, record: Mapping[str, JSONValue]) -> None:
        try:
            self._state.append(record)
            self._state.sync()
        except OSError as error:
            raise MapStopped(
                f"the run has stopped: {str(self._state.path)!r} cannot be written: {error.strerror}"
            ) from error

    # Wait

    async def _collect_ended(self) -> bool:
        """Ask for the state of each batch, and collect those that have ended. Returns whether there was one."""
        collected = False
        for open_ in list(self._open.values()):
            if self._stop.is_set():
                break
            if open_.batch is None:
                await self._find(open_)
            if open_.batch is None:
                collected = True
                continue
            batch = await self._patiently(partial(self._service.get_batch, open_.batch), open_)
            if batch is None:
                return False
            open_.batch = batch
            if batch.ended:
                collected = await self._collect(open_, batch) or collected
        return collected

    async def _find(self, open_: OpenBatch) -> None:
        """Find out whether the provider has accepted a batch: either it is found, or its rows are submitted again."""
        if open_.service is not None and open_.service != self._service.name:
            message = (
                f"a batch of {open_.size} rows was sent at {_clock(open_.time)} by the service {open_.service!r}, and "
                f"it is unknown whether the provider has accepted it. Run again with that service. To submit its rows "
                f"with the service {self._service.name!r}, delete the line with {open_.token} from "
                f"{str(self._state.path)!r}"
            )
            raise self._stopped(message, CallError(message))
        # The request may still be under way, and the list may be behind. How long ago it was sent is unknown: uploads
        # take long, and the clock may have been set.
        await self._sleep(LONGEST_POLL)
        if self._stop.is_set():
            return
        try:
            found = await self._patiently(lambda: self._listed(open_), open_)
        except UnsupportedOperation as error:
            raise self._stopped(
                f"a batch of {open_.size} rows was sent at {_clock(open_.time)}. It is unknown whether the provider "
                "has accepted it, and the provider has no list of batches; look for it at the provider, and cancel it. "
                f"To submit its rows again, delete the line with {open_.token} from {str(self._state.path)!r}",
                error,
            ) from error
        if found is None:
            return
        batches = [batch for batch in found if batch.id not in open_.others | self._known_ids()]
        marked = next((batch for batch in batches if open_.token.encode() in dumps(batch.raw)), None)
        stores_marks = any(_MARK.search(dumps(batch.raw)) for batch in found)
        similar = [] if stores_marks else [batch for batch in batches if _may_be(batch, open_)]
        nearest = min(similar, key=lambda batch: abs((batch.created or 0) - open_.time), default=None)
        batch = marked or nearest
        if batch is None:
            self._drop(open_)
            return
        open_.adopted = marked is None
        self._submitted(open_, batch)

    async def _listed(self, open_: OpenBatch) -> tuple[Batch, ...]:
        """Return the provider's batches, at least those since a batch was sent."""
        most = 200
        while True:
            found = await self._service.list_batches(limit=most)
            oldest = min((batch.created for batch in found if batch.created is not None), default=math.inf)
            if len(found) < most or oldest < open_.time - CLOCK_DIFFERENCE:
                return found
            most *= 4

    def _known_ids(self) -> set[str]:
        running = {open_.batch.id for open_ in self._open.values() if open_.batch is not None}
        return running | {
            str(cast(JSONObject, record["batch"]).get("id"))
            for record in read_records(self._state.path)
            if record.get("kind") == "batch_submitted"
        }

    async def _patiently(self, call: Callable[[], Awaitable[T]], open_: OpenBatch) -> T | None:
        """Make a call, and repeat it while the service is down. Returns `None` if the run is stopped meanwhile."""
        while True:
            try:
                result = await call()
            except NotFound as error:
                raise self._stopped(
                    f"the provider does not know the batch {open_.batch.id if open_.batch else ''!r} of {open_.size} "
                    f"rows, submitted at {_clock(open_.time)}, or no longer has its results. Check that the service "
                    f"uses the same account. To submit the rows again, delete the lines with {open_.token} from "
                    f"{str(self._state.path)!r}",
                    error,
                ) from error
            except RemoteError as error:
                if not may_pass(error):
                    raise self._stopped(str(error), error) from error
                if self._down_since is None:
                    self._down_since = anyio.current_time()
                if not await self._wait_or_give_up(error, self._down_since):
                    return None
            else:
                self._works()
                return result

    async def _wait_or_give_up(self, error: TrunklineError, since: float) -> bool:
        """Wait before the next try of a call that fails since a time. Returns whether to try again."""
        if anyio.current_time() - since >= self._patience:
            raise self._stopped(f"the service was down for {self._patience:.0f} s; the last error is: {error}", error)
        self._error = error
        pause = max(getattr(error, "retry_after", None) or 0.0, FIRST_POLL)
        await self._sleep(min(pause, LONGEST_POLL, self._patience))
        return not self._stop.is_set()

    def _works(self) -> None:
        self._down_since = self._error = None

    def _stopped(self, message: str, cause: TrunklineError) -> MapStopped:
        return MapStopped(f"the run has stopped: {message}", cause=cause, service=self._service.name)

    # Collect

    async def _collect(self, open_: OpenBatch, batch: Batch) -> bool:
        """Record the results of a batch that has ended. Returns whether there is something to submit, or one less."""
        if batch.status == "failed":
            # It has no results that say whose it is.
            return self._is_of_others(open_, batch) if open_.adopted else await self._failed(open_, batch)
        submitted = None if open_.adopted else stored_batch(self._state.path, open_)
        with_requests = batch if submitted is None else attrs.evolve(batch, requests=submitted.requests)
        results = await self._patiently(lambda: self._service.batch_results(with_requests), open_)
        if results is None:
            return False
        self._failed_alone = 0
        again: dict[str, HeldRow] = {}
        unreadable: TrunklineError | None = None
        is_ours = not open_.adopted
        pairs = iter(results)
        count = 0
        while True:
            try:
                request_id, result = next(pairs)
            except StopIteration:
                break
            except ProtocolViolation as error:  # of lines that cannot be read; the others were read before
                unreadable = error
                break
            count += 1
            if count % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
            if not request_id.startswith(open_.prefix):
                continue
            is_ours = True
            position = _position(request_id)
            held = None if position is None else self._rows.at(open_.token, position)
            if held is None:
                continue  # a run that was killed has recorded it
            if self._result(held, result, is_cancelled=batch.status == "cancelled"):
                self._rows.remove(held.id)
            else:
                again[held.id] = held
        if not is_ours:
            return self._is_of_others(open_, batch)
        missing = unreadable or ProtocolViolation("the batch has ended without a result for this request")
        for position in self._rows.positions(open_.token):
            held = self._rows.at(open_.token, position)
            if held is None or held.id in again:
                continue
            if batch.status != "cancelled" and held.tries >= MAX_TRIES:
                self._fail(held, missing)
            else:
                again[held.id] = held
        self._cancelled = self._cancelled or (batch.status == "cancelled" and bool(again))
        self._end(open_, list(again.values()), untried=batch.status == "cancelled")
        return True

    def _is_of_others(self, open_: OpenBatch, batch: Batch) -> bool:
        """Note that the batch is of another program, so that the own one is looked for again."""
        self._write({"kind": "batch_of_others", "token": open_.token, "id": batch.id})
        open_.others.add(batch.id)
        open_.batch, open_.adopted = None, False
        return True

    def _result(self, held: HeldRow, result: ChatResponse | TrunklineError, *, is_cancelled: bool) -> bool:
        """Record a result, unless the row is tried again."""
        if isinstance(result, ChatResponse):
            try:
                done = self._calls.read(_numbered(held), result)
            except InvalidAnswer as error:
                if held.tries <= self._calls.answer_retries:
                    return False
                self._fail(held, error)
                return True
            self._record(done)
            return True
        if may_pass(result) and (is_cancelled or held.tries < MAX_TRIES):
            return False
        self._fail(held, result)
        return True

    def _fail(self, held: HeldRow, error: TrunklineError) -> None:
        self._record(RowResult(id=held.id, number=held.number, error=RowError.of(error), input=held.row))
        self._rows.remove(held.id)

    def _end(self, open_: OpenBatch, again: Sequence[HeldRow], *, untried: bool) -> None:
        """Note that a batch is collected; `again` are the rows that are to be submitted again."""
        try:
            self._sync()
        except OSError as error:
            raise MapStopped(f"the run has stopped: the results cannot be written: {error.strerror}") from error
        rows: list[JSONValue] = [[held.number, held.id, held.tries - untried] for held in again]
        self._write({"kind": "batch_collected", "token": open_.token, "again": rows})
        self._rows.return_batch(open_.token, untried=untried)
        del self._open[open_.token]
        self._release()

    async def _failed(self, open_: OpenBatch, batch: Batch) -> bool:
        """Submit the rows of a batch again that the provider refused as a whole.

        The provider may limit what runs at once. So fewer batches run at once from now on; if this was the only one,
        the run ends after some tries.
        """
        running = len(self._open) - 1
        why = batch.message or "the provider does not say why"
        self._failed_alone = 0 if running else self._failed_alone + 1
        self._most_batches = max(1, running)
        rows = [self._rows.at(open_.token, position) for position in self._rows.positions(open_.token)]
        self._end(open_, [held for held in rows if held is not None], untried=True)
        if self._failed_alone >= MAX_TRIES:
            message = f"the provider refused the batch {batch.id!r}: {why}"
            raise self._stopped(message, CallError(message))
        await self._sleep(FIRST_POLL)
        return True


async def cancel_batches(service: Service, output: str | os.PathLike[str]) -> tuple[Batch, ...]:
    """Cancel the batches of a run of `map` with `provider_batches` that has ended before them.

    `output` is that of the run. Requests that were answered before are charged; the next run of `map` collects them,
    and the one after it submits the others again. Returns the batches that were cancelled. Batches that have ended are
    left as they are, and so are those of which it is unknown whether they are of the run.

    Raises `InvalidRequest` if the run is still going on. If batches cannot be cancelled, the error of the first one is
    raised after the others were cancelled.
    """
    path = RunPaths.of(output).state
    if not path.exists():
        return ()
    with Journal.open(path):
        rows = HeldRows()
        try:
            batches = restore(path, rows, lambda row_id: False)
        finally:
            rows.close()
        cancelled: list[Batch] = []
        errors: list[TrunklineError] = []
        for open_ in batches.values():
            if open_.batch is None or open_.adopted:
                continue
            try:
                if not (await service.get_batch(open_.batch)).ended:
                    cancelled.append(await service.cancel_batch(open_.batch))
            except TrunklineError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return tuple(cancelled)


def _may_be(batch: Batch, open_: OpenBatch) -> bool:
    """Return whether a listed batch, which has no token, may be the one that was sent."""
    # The count may be 0 until the provider has read the requests.
    if batch.counts.total not in (None, 0, open_.size):
        return False
    return batch.created is None or abs(batch.created - open_.time) <= CLOCK_DIFFERENCE


def _is_refused(error: TrunklineError) -> bool:
    """Return whether the error of a submission shows that the provider has not accepted it."""
    if isinstance(error, RemoteError):
        status = error.status or 0
        return 400 <= status < 500 and status != _TIMED_OUT
    return isinstance(error, (InvalidRequest, UnsupportedOperation, UnsupportedRequest))


def _position(request_id: str) -> int | None:
    digits = request_id.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _numbered(held: HeldRow) -> NumberedRow:
    return NumberedRow(number=held.number, id=held.id, row=held.input)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
